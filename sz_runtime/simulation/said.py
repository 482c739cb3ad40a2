"""Messages of the handler link as facts: what checkers and readers need of each."""

from collections.abc import Iterable
from typing import Any

from sz_protocol.messages import (
    TAGS,
    Accept,
    Beat,
    Dispatch,
    Echo,
    Hello,
    Progress,
    Refuse,
    Reject,
    ResultAck,
    Results,
    Stop,
    Welcome,
)
from sz_runtime.simulation.worker_facts import Refs, Said


def said(at_us: int, sender: str, to: str, number: int, message: Any) -> Said:
    """What was put on its way as datagram `number`."""
    beat, granted, runs, words = _content(message)
    session = getattr(message, "session", 0)
    return Said(at_us, sender, to, number, TAGS[type(message)], session, beat, granted, runs, words)


def _content(message: Any) -> tuple[int, int, Refs, tuple[str, ...]]:
    match message:
        case Beat(number=number, granted=granted):  # These two first: nearly all messages are.
            return number, granted, (), ()
        case Echo(number=number):
            return number, -1, (), ()
        case Hello(nonce=nonce, executing=executing, unacked=unacked):
            held = ("executing",) * len(executing) + ("unacked",) * len(unacked)
            return nonce, -1, _refs((*executing, *unacked)), held
        case Welcome(nonce=nonce):
            return nonce, -1, (), ()
        case Reject(nonce=nonce, code=code):
            return nonce, -1, (), (code.value,)
        case Dispatch(beat=beat, runs=runs):
            return beat, -1, _refs(runs), tuple(run.method for run in runs)
        case Accept(runs=runs):
            return 0, -1, tuple((run.row, run.attempt, run.delivery, 0) for run in runs), ()
        case Refuse(run=run, code=code):
            return 0, -1, ((run.row, run.attempt, run.delivery, 0),), (code.value,)
        case Progress(run=run):
            return 0, -1, ((run.row, run.attempt, run.delivery, 0),), ()
        case Results(granted=granted, results=results):
            return 0, granted, _refs(results), tuple(result.outcome.value for result in results)
        case ResultAck(acks=acks):
            return 0, -1, tuple((ack.row, ack.attempt, 0, 0) for ack in acks), tuple(ack.code.value for ack in acks)
        case Stop(row=row, attempt=attempt, reason=reason):
            return 0, -1, ((row, attempt, 0, 0),), (reason.value,)
    return 0, -1, (), ()


def _refs(runs: Iterable[Any]) -> Refs:
    return tuple((run.row, run.attempt, run.delivery, run.fence) for run in runs)
