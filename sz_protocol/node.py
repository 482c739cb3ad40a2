"""A node: which machines it has, and the routes between them. Composes and routes, decides nothing.

Machines never call a sibling: what one tells another leaves in its outbox and arrives as an event, through a worklist
of bounded length (NODE-1). After Stop nothing more is ordered (NODE-2).
"""

from collections import deque
from random import Random
from typing import Any, Final, Protocol

from attrs import Factory, define, field

from sz_protocol.commands import Cancel, HandlersListed, ListHandlers
from sz_protocol.kernel.effects import CancelRun, Effect, Publish, Reply, StartRuns, Stop
from sz_protocol.kernel.events import (
    Commanded,
    Event,
    FiringsDecided,
    FiringsSettled,
    FiringsUndone,
    Garbled,
    HandlersChanged,
    KeysChanged,
    LinkChanged,
    ParkWanted,
    ReadDone,
    ReadFailed,
    Received,
    RemoteHandlersChanged,
    ResultsSettled,
    RunsAssigned,
    RunsFinished,
    RunsFound,
    RunsLeftBehind,
    RunsProgressed,
    RunsRecovered,
    RunsReturned,
    RunsVanished,
    RunWanted,
    SchedulesStored,
    SettleWanted,
    Started,
    StopAssigned,
    StopRequested,
    Woke,
    WriteDone,
    WriteFailed,
)
from sz_protocol.kernel.machine import Machine, earliest
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.machines.catalog import Catalog
from sz_protocol.machines.execution import Execution
from sz_protocol.machines.monotonic import Monotonic
from sz_protocol.machines.recovery import Recovery
from sz_protocol.machines.retention import Retention
from sz_protocol.machines.run_writer import RunWriter
from sz_protocol.machines.scheduling import Scheduling
from sz_protocol.machines.timekeeping import Timekeeping
from sz_protocol.notices import Ignored
from sz_protocol.ops import Ops
from sz_protocol.settings import Settings

_BACKLOG: Final = WakeReason.BACKLOG  # bound once, as in records.py


class Telling(Machine, Protocol):
    """A machine that tells others something."""

    outbox: list[Any]


MAX_ROUTED = 10_000
"""More notices than this from one event would be a loop between machines."""

_FIRING = ("scheduling", "monotonic")
_HANDLING = ("execution", "catalog", "scheduling", "monotonic")
_READING = ("recovery", "catalog", "scheduling", "monotonic", "execution")
_LIVING = ("execution", "catalog", "scheduling", "monotonic", "retention")

ROUTES: dict[type[Any], tuple[str, ...]] = {
    # Execution first: it takes the term that every later write carries.
    Started: ("execution", "scheduling", "monotonic", "recovery", "membership"),
    Woke: ("scheduling", "monotonic", "execution", "catalog", "recovery", "retention", "membership"),
    # Answers of the store go to whoever owns the operation. Catalog first: execution ends a drain once the edits
    # under way are answered.
    WriteDone: ("catalog", "execution"),
    WriteFailed: ("catalog", "execution"),
    ReadDone: _READING,
    ReadFailed: _READING,
    HandlersChanged: (*_HANDLING, "membership"),
    RemoteHandlersChanged: _HANDLING,
    StopRequested: _LIVING,  # membership has heard of it before all others
    RunsRecovered: (*_LIVING, "membership"),
    Commanded: ("catalog",),
    Cancel: ("execution",),
    ListHandlers: ("membership",),
    FiringsDecided: ("execution",),
    FiringsSettled: _FIRING,
    FiringsUndone: _FIRING,
    SchedulesStored: _FIRING,
    ParkWanted: ("catalog",),
    SettleWanted: ("catalog",),
    RunWanted: ("execution",),
    RunsFound: ("execution",),
    RunsFinished: ("execution",),
    RunsProgressed: ("execution",),
    RunsVanished: ("execution",),
    RunsReturned: ("execution",),
    RunsAssigned: ("membership",),
    StopAssigned: ("membership",),
    RunsLeftBehind: ("membership",),
    ResultsSettled: ("membership",),
    Received: ("membership",),
    Garbled: ("membership",),
    KeysChanged: ("membership",),
    LinkChanged: (),
}
"""Whom each event (and each command that is not for the catalog) concerns, in the order in which they hear of it
(NODE-2). A machine that this node does not have hears nothing."""


def _default_rng() -> Random:
    # A fixed seed: the core has no randomness of its own. Whoever wants jitter that differs between nodes injects it.
    return Random(0)


def _membership(settings: Settings, ops: Ops, rng: Random) -> Telling:
    # Imported by those who have it: half a megabyte less on a device that has local handlers only.
    from sz_protocol.machines.membership import Membership

    # A stream of its own: what handlers do must not shift the jitter of retries.
    return Membership(settings, ops, Random(rng.getrandbits(64)))


@define
class Node:
    """One node. `handle` and `next_wakeup` are those of a Machine. Without `membership` it has local handlers only."""

    settings: Settings = Factory(Settings)
    rng: Random = Factory(_default_rng)
    ops: Ops = Factory(Ops)
    time: Timekeeping = Factory(lambda self: Timekeeping(self.settings), takes_self=True)
    recovery: Recovery = Factory(lambda self: Recovery(self.settings, self.ops), takes_self=True)
    catalog: Catalog = Factory(lambda self: Catalog(self.settings, self.ops), takes_self=True)
    scheduling: Scheduling = Factory(lambda self: Scheduling(self.settings, self.ops), takes_self=True)
    monotonic: Monotonic = Factory(lambda self: Monotonic(self.settings, self.ops), takes_self=True)
    execution: Execution = Factory(
        lambda self: Execution(self.settings, self.rng, RunWriter(self.settings, self.ops)), takes_self=True
    )
    retention: Retention = Factory(
        lambda self: Retention(self.settings, self.ops, Random(self.rng.getrandbits(64))), takes_self=True
    )
    membership: Telling | None = Factory(
        lambda self: _membership(self.settings, self.ops, self.rng) if self.settings.remote else None, takes_self=True
    )
    local: HandlersChanged | None = None
    remote: RemoteHandlersChanged | None = None
    stopped: bool = False
    machines: tuple[Machine, ...] = field(init=False, repr=False, eq=False)
    """All that this node has: those that hear of time."""
    _routes: dict[type[Any], tuple[tuple[Machine, ...], tuple[Telling, ...]]] = field(init=False, repr=False, eq=False)
    """Who hears of an event, and those of them that may have something to tell because of it."""

    def __attrs_post_init__(self) -> None:
        told = (self.recovery, self.catalog, self.scheduling, self.monotonic, self.execution)
        telling = told if self.membership is None else (*told, self.membership)
        self._routes = {}
        for kind, names in ROUTES.items():
            present = tuple(machine for name in names if (machine := getattr(self, name)) is not None)
            self._routes[kind] = present, tuple(m for m in telling if any(m is one for one in present))
        self.machines, _ = self._routes[Woke]

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Route one fact, and whatever the machines tell each other because of it."""
        if self.stopped:
            return []
        if isinstance(event, Started):
            self.time.start(now, event.high_water_us)
        now = self.time.read(now)
        effects: list[Effect] = []
        work: deque[Event] = deque()
        if isinstance(event, StopRequested) and self.membership is not None:
            # Before execution looks whether anything is left to wait for: what was not sent yet comes back now.
            effects += self.membership.handle(event, now)
            work.extend(self.membership.outbox)
            work.append(event)
            self.membership.outbox.clear()
        else:
            self._route(event, now, effects, work)
        routed = 0
        while work:
            routed += 1
            assert routed <= MAX_ROUTED, "NODE-1: machines keep answering each other"
            self._route(work.popleft(), now, effects, work)
        if self.time.notices:
            effects += [Publish(notice) for notice in self.time.notices]
            self.time.notices.clear()
        for stop in effects:
            if type(stop) is Stop:
                self.stopped = True
                effects.remove(stop)
                effects.append(stop)
                break
        return effects

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The earliest of all machines'."""
        if self.stopped:
            return None
        now = self.time.read(now)
        first = earliest(self.machines, now)
        check_us = self.time.next_check_us()
        if check_us is not None and (first is None or (first.reason is not _BACKLOG and check_us < first.at_us)):
            return Wakeup(max(check_us, now.mono_us + 1), WakeReason.CLOCK)
        return first

    def _route(self, event: Event, now: Now, effects: list[Effect], work: deque[Event]) -> None:
        """Hand an event to those whom it concerns, and take from them what others are to hear."""
        ordered = len(effects)
        kind: type[Any] = type(event)
        if isinstance(event, Commanded):
            kind = type(event.command) if type(event.command) in ROUTES else kind
        elif isinstance(event, HandlersChanged | RemoteHandlersChanged):
            whole = self._all_handlers(event)
            if whole is None:
                return
            event = whole
        machines, tellers = self._routes[kind]
        for machine in machines:
            effects += machine.handle(event, now)
        if not machines:
            effects += _unheard(event)
        if self.membership is not None and len(effects) > ordered:
            self._divert(effects, ordered, work)
        for teller in tellers:
            if teller.outbox:
                work.extend(teller.outbox)
                teller.outbox.clear()

    def _all_handlers(self, event: HandlersChanged | RemoteHandlersChanged) -> HandlersChanged | None:
        """What can be executed is what this process has, and what remote handlers have registered; None until the
        first is known."""
        if isinstance(event, HandlersChanged):
            self.local = event
        else:
            self.remote = event
        local, remote = self.local, self.remote
        if local is None or remote is None:
            return local
        return HandlersChanged(local.methods + remote.methods, local.pools + remote.pools, remote.expecting)

    def _divert(self, effects: list[Effect], start: int, work: deque[Event]) -> None:
        """Orders about runs of remote handlers do not leave the node: membership carries them out."""
        kept: list[Effect] = []
        for effect in effects[start:]:
            match effect:
                case StartRuns(runs=runs, worker=worker) if worker:
                    work.append(RunsAssigned(worker, runs))
                case CancelRun(row=row, attempt=attempt, reason=reason, worker=worker) if worker:
                    work.append(StopAssigned(worker, row, attempt, reason))
                case _:
                    kept.append(effect)
        effects[start:] = kept


def _unheard(event: Event) -> list[Effect]:
    """What becomes of events that none of this node's machines hears."""
    match event:
        case Commanded(request_id=request_id, command=ListHandlers()):
            return [Reply(request_id, HandlersListed(()))]
        case Received(message=message):
            return [Publish(Ignored(type(message).__name__, "no remote handlers register here"))]
        case LinkChanged():
            return [Publish(Ignored("LinkChanged", "a server waits for connections, it makes none"))]
        case _:
            return []
