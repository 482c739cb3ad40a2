"""Notices that a process publishes, as facts of the trace."""

from typing import Any

from sz_protocol.notices import (
    HandlerDraining,
    HandlerHeard,
    HandlerLeft,
    HandlerLost,
    HandlerRegistered,
    HandlerRejected,
    HandlerSuspect,
    RunUnresponsive,
)
from sz_runtime.simulation.facts import Noted, Told
from sz_runtime.simulation.worker_facts import HandlerSeen

_SEEN: dict[type[Any], str] = {
    HandlerRegistered: "registered",
    HandlerRejected: "rejected",
    HandlerSuspect: "suspect",
    HandlerHeard: "heard",
    HandlerLost: "lost",
    HandlerDraining: "draining",
    HandlerLeft: "left",
}
_SAYS = ("attempt", "outcome", "reason", "step_us", "held", "detail", "term", "code", "kept", "lost")


def told(at_us: int, name: str, notice: Any) -> Noted:
    """What a notice says, and whom it concerns."""
    kind = type(notice)
    what = _SEEN.get(kind)
    if what is not None:
        session, code = getattr(notice, "session", 0), getattr(notice, "code", "")
        return HandlerSeen(at_us, name, notice.handler_id, what, session, str(code))
    about = getattr(notice, "schedule_id", getattr(notice, "what", ""))
    says = ("row", *_SAYS) if kind is RunUnresponsive else _SAYS
    parts = [f"{said}={getattr(notice, said)}" for said in says if getattr(notice, said, None) not in (None, "")]
    return Told(at_us, name, kind.__name__, str(about), " ".join(parts))
