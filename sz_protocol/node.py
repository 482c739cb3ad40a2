"""A node: which machines it has, and the routes between them. Composes and routes, decides nothing.

Machines never call a sibling: what one tells another leaves in its outbox and arrives as an event, through a worklist
of bounded length (NODE-1). After Stop nothing more is ordered (NODE-2).
"""

from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Any, Protocol

from attrs import Factory, define

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
from sz_protocol.kernel.machine import Machine
from sz_protocol.kernel.now import Now, WakeReason, Wakeup, earliest
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


class Telling(Machine, Protocol):
    """A machine that tells others something."""

    outbox: list[Any]


MAX_ROUTED = 10_000
"""More notices than this from one event would be a loop between machines."""


def _default_rng() -> Random:
    # A fixed seed: the core has no randomness of its own. Whoever wants jitter that differs between nodes injects it.
    return Random(0)


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
    retention: Retention = Factory(lambda self: Retention(self.settings, self.ops), takes_self=True)
    membership: Telling | None = None
    local: HandlersChanged | None = None
    remote: RemoteHandlersChanged | None = None
    stopped: bool = False

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Route one fact, and whatever the machines tell each other because of it."""
        if self.stopped:
            return []
        if isinstance(event, Started):
            self.time.start(now, event.high_water_us)
        now = self.time.read(now)
        effects: list[Effect] = []
        work: deque[Event] = deque((event,))
        routed = 0
        while work:
            routed += 1
            assert routed <= MAX_ROUTED, "NODE-1: machines keep answering each other"
            self._route(work.popleft(), now, effects, work)
        if self.time.notices:
            effects += [Publish(notice) for notice in self.time.notices]
            self.time.notices.clear()
        if Stop() in effects:
            self.stopped = True
            effects.remove(Stop())
            effects.append(Stop())
        return effects

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The earliest of all machines'."""
        if self.stopped:
            return None
        now = self.time.read(now)
        check_us = self.time.next_check_us()
        return earliest(
            [
                self.scheduling.next_wakeup(now),
                self.monotonic.next_wakeup(now),
                self.execution.next_wakeup(now),
                self.catalog.next_wakeup(now),
                self.recovery.next_wakeup(now),
                self.retention.next_wakeup(now),
                None if self.membership is None else self.membership.next_wakeup(now),
                None if check_us is None else Wakeup(max(check_us, now.mono_us + 1), WakeReason.CLOCK),
            ]
        )

    def _tell(self, machines: Iterable[Machine], event: Event, now: Now, effects: list[Effect]) -> None:
        for machine in machines:
            effects += machine.handle(event, now)

    def _route(self, event: Event, now: Now, effects: list[Effect], work: deque[Event]) -> None:
        """Hand an event to those whom it concerns. Answers of the store go to whoever owns the operation."""
        ordered = len(effects)
        match event:
            case RunsVanished() | RunsReturned() | RunsFinished() | FiringsDecided() | RunWanted() | RunsFound():
                effects += self.execution.handle(event, now)
            case FiringsSettled() | FiringsUndone() | SchedulesStored():
                self._tell((self.scheduling, self.monotonic), event, now, effects)
            case ParkWanted() | SettleWanted():
                effects += self.catalog.handle(event, now)
            case Commanded(command=Cancel()):
                effects += self.execution.handle(event, now)
            case Commanded(command=ListHandlers()) if self.membership is not None:
                effects += self.membership.handle(event, now)
            case Commanded(request_id=request_id, command=ListHandlers()):
                effects.append(Reply(request_id, HandlersListed(())))
            case Commanded():
                effects += self.catalog.handle(event, now)
            case (
                Received()
                | Garbled()
                | KeysChanged()
                | RunsAssigned()
                | StopAssigned()
                | RunsLeftBehind()
                | ResultsSettled()
            ):
                if self.membership is not None:
                    effects += self.membership.handle(event, now)
                elif isinstance(event, Received):
                    effects.append(Publish(Ignored(type(event.message).__name__, "no remote handlers register here")))
            case WriteDone() | WriteFailed():
                # Catalog first: execution ends a drain once the edits under way are answered.
                self._tell((self.catalog, self.execution), event, now, effects)
            case ReadDone() | ReadFailed():
                self._tell(
                    (self.recovery, self.catalog, self.scheduling, self.monotonic, self.execution), event, now, effects
                )
            case Started():
                # Execution first: it takes the term that every later write carries.
                told: tuple[Machine, ...] = (self.execution, self.scheduling, self.monotonic, self.recovery)
                self._tell((*told, *self._members()), event, now, effects)
            case Woke():
                deciding = (self.scheduling, self.monotonic, self.execution)
                told = (*deciding, self.catalog, self.recovery, self.retention)
                self._tell((*told, *self._members()), event, now, effects)
            case HandlersChanged() | RemoteHandlersChanged():
                self._on_handlers(event, now, effects)
            case StopRequested() | RunsRecovered():
                told = (self.execution, self.catalog, self.scheduling, self.monotonic, self.retention)
                self._tell((*told, *self._members()), event, now, effects)
            case LinkChanged():
                effects.append(Publish(Ignored("LinkChanged", "a server waits for connections, it makes none")))
        if self.membership is not None:
            self._divert(effects, ordered, work)
        self._collect(work)

    def _members(self) -> tuple[Machine, ...]:
        return () if self.membership is None else (self.membership,)

    def _on_handlers(self, event: HandlersChanged | RemoteHandlersChanged, now: Now, effects: list[Effect]) -> None:
        """What can be executed is what this process has, and what remote handlers have registered."""
        if isinstance(event, HandlersChanged):
            self.local = event
        else:
            self.remote = event
        if self.local is None:
            return
        change, remote = self.local, self.remote
        if remote is not None:
            change = HandlersChanged(change.methods + remote.methods, change.pools + remote.pools, remote.expecting)
        self._tell((self.execution, self.catalog, self.scheduling, self.monotonic), change, now, effects)

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

    def _collect(self, work: deque[Event]) -> None:
        told = (self.recovery, self.catalog, self.scheduling, self.monotonic, self.execution)
        for machine in told if self.membership is None else (*told, self.membership):
            if machine.outbox:
                work.extend(machine.outbox)
                machine.outbox.clear()
