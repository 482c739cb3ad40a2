"""A whole node on a bench, without a runtime: a model store that a test answers for, an executor that it steps by
hand, and a time that it moves. Every order is checked against the rules as it comes.
"""

from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from attrs import Factory, define, evolve

from sz_protocol.changes import Change, DropRuns, InsertAttempts, InsertRuns, MoveCursors, PutSchedules, UpdateRuns
from sz_protocol.commands import Command
from sz_protocol.definition import Definition
from sz_protocol.kernel.effects import CancelRun, Effect, Publish, Read, Reply, Send, StartRun, StartRuns, Stop, Write
from sz_protocol.kernel.events import (
    Commanded,
    Event,
    FailReason,
    HandlersChanged,
    MethodInfo,
    ReadDone,
    ReadFailed,
    RunResult,
    RunsFinished,
    Started,
    StopRequested,
    Woke,
    WriteDone,
    WriteFailed,
)
from sz_protocol.kernel.now import SECOND_US, Now, WakeReason
from sz_protocol.node import Node
from sz_protocol.notices import Notice
from sz_protocol.queries import (
    DueSchedules,
    Query,
    RunsByRow,
    ScheduleIds,
    SchedulesById,
    SchedulesPage,
    UnfinishedRuns,
)
from sz_protocol.records import Attempt, Outcome, Run, RunState, Schedule, ScheduleState
from sz_protocol.settings import Settings
from sz_protocol.triggers import Interval

T0_US = 1_700_000_000 * SECOND_US
"""The wall time at which benches begin: 2023-11-14T22:13:20Z, a whole number of ten-second steps."""

HANDLERS = HandlersChanged((MethodInfo("h", "m", "pool"),), (("pool", 10),))


def at(seconds: float, boot_s: float = 1000.0) -> Now:
    """The clocks `seconds` after the beginning of the bench, on a machine that had been up for `boot_s`."""
    past_us = round(seconds * SECOND_US)
    return Now(mono_us=round(boot_s * SECOND_US) + past_us, utc_us=T0_US + past_us)


def every(seconds: float, id: str = "s", **more: Any) -> Definition:
    """A schedule that fires on whole multiples of `seconds` since T0."""
    return Definition(id, "h", "m", Interval(round(seconds * SECOND_US), anchor_us=T0_US), **more)


class Refused(Exception):
    """Names what a compare-and-set or a unique key refused."""

    def __init__(self, *names: str | int) -> None:
        super().__init__(names)
        self.names = names


@define
class ModelStore:
    """What a store promises, in its simplest form: whole copies of small dicts. Survives the nodes that use it."""

    schedules: dict[str, Schedule] = Factory(dict)
    runs: dict[int, Run] = Factory(dict)
    attempts: dict[tuple[int, int], Attempt] = Factory(dict)
    term: int = 0
    high_water_us: int = 0
    broken_stream: int = 0

    def open(self) -> Started:
        """Begin a life."""
        self.term += 1
        self.broken_stream = 0
        return Started(self.term, self.high_water_us)

    def write(self, write: Write) -> WriteDone | WriteFailed:
        """Apply all of it, or nothing."""
        if write.fence != self.term:
            return self.fail(write, FailReason.FENCED)
        if 0 < write.stream <= self.broken_stream:
            return self.fail(write, FailReason.PREVIOUS)
        before = dict(self.schedules), dict(self.runs), dict(self.attempts)
        refused: dict[str | int, None] = {}
        for change in write.changes:
            refused.update(dict.fromkeys(self._apply(change)))
        if refused:
            self.schedules, self.runs, self.attempts = before
            return self.fail(write, FailReason.REFUSED, tuple(refused))
        return WriteDone(write.op)

    def fail(self, write: Write, reason: FailReason, refused: tuple[str | int, ...] = ()) -> WriteFailed:
        """Refuse it, and what was decided on top of it."""
        self.broken_stream = max(self.broken_stream, write.stream)
        return WriteFailed(write.op, reason, refused)

    def _apply(self, change: Change) -> Iterable[str | int]:
        match change:
            case PutSchedules(schedules=schedules, expected_cursors_us=cursors):
                for schedule, cursor_us in zip(schedules, cursors, strict=True):
                    old = self.schedules.get(schedule.id)
                    found = (0, None) if old is None else (old.rev, old.cursor_us)
                    if found != (schedule.rev - 1, cursor_us):
                        yield schedule.id
                    else:
                        self.schedules[schedule.id] = schedule
                        self.high_water_us = max(self.high_water_us, schedule.since_us)
            case MoveCursors(moves=moves):
                for move in moves:
                    old = self.schedules.get(move.schedule_id)
                    wanted = (move.rev, move.expected_us, ScheduleState.ACTIVE)
                    if old is None or (old.rev, old.cursor_us, old.state) != wanted:
                        yield move.schedule_id
                    else:
                        state = ScheduleState.FINISHED if move.next_due_us is None else ScheduleState.ACTIVE
                        moved = evolve(old, cursor_us=move.cursor_us, next_due_us=move.next_due_us, state=state)
                        self.schedules[move.schedule_id] = moved
                        self.high_water_us = max(self.high_water_us, move.cursor_us)
            case InsertRuns(runs=runs):
                keys = {run.run_key: None for run in self.runs.values()}
                for run in runs:
                    if run.row in self.runs or run.run_key in keys:
                        yield run.row
                    else:
                        self.runs[run.row] = run
                        keys[run.run_key] = None
                        self.high_water_us = max(self.high_water_us, run.decided_us)
            case UpdateRuns(runs=runs, expected_attempts=expected):
                for run, attempt in zip(runs, expected, strict=True):
                    stored = self.runs.get(run.row)
                    if stored is None or stored.state is RunState.DONE or stored.attempt != attempt:
                        yield run.row
                    else:
                        self.runs[run.row] = run
            case InsertAttempts(attempts=attempts):
                for attempt_ in attempts:
                    self.attempts.setdefault((attempt_.row, attempt_.attempt), attempt_)
            case DropRuns(before_us=before_us, limit=limit):
                done = [run for run in self.runs.values() if run.state is RunState.DONE]
                old_runs = sorted(
                    (run for run in done if (run.finished_us or 0) < before_us), key=lambda r: r.finished_us or 0
                )
                for run in old_runs[:limit]:
                    del self.runs[run.row]

    def read(self, query: Query) -> tuple[Any, ...]:
        """The rows that a query names."""
        schedules = sorted(self.schedules.values(), key=lambda schedule: schedule.id)
        match query:
            case DueSchedules(before_us=before_us, after=after, limit=limit):
                due = [
                    (s.next_due_us, s.id)
                    for s in schedules
                    if s.state is ScheduleState.ACTIVE and s.next_due_us is not None and s.next_due_us <= before_us
                ]
                places = sorted(place for place in due if after is None or place > after)
                return tuple(self.schedules[place[1]] for place in places[:limit])
            case SchedulesById(ids=ids):
                return tuple(self.schedules[id_] for id_ in ids if id_ in self.schedules)
            case SchedulesPage(after_id=after_id, limit=limit, states=states, source=source):
                return tuple(
                    s
                    for s in schedules
                    if s.id > after_id and (states is None or s.state in states) and source in (None, s.source)
                )[:limit]
            case ScheduleIds(source=source, after_id=after_id, limit=limit):
                return tuple(
                    s.id
                    for s in schedules
                    if s.source == source and s.id > after_id and s.state is not ScheduleState.RETIRED
                )[:limit]
            case UnfinishedRuns(after_row=after_row, limit=limit):
                rows = sorted(r for r, run in self.runs.items() if run.state is not RunState.DONE and r > after_row)
                return tuple(self.runs[row] for row in rows[:limit])
            case RunsByRow(rows=rows):
                return tuple(self.runs[row] for row in rows if row in self.runs)
            case _:
                raise AssertionError(f"no machine asks {query}")

    # --- what tests look at -----------------------------------------------------------------------------------

    def ledger(self, schedule_id: str = "s") -> list[Run]:
        """The rows of one schedule, by fire time."""
        rows = [run for run in self.runs.values() if run.schedule_id == schedule_id]
        return sorted(rows, key=lambda run: (run.fire_us, run.row))

    def outcomes(self, schedule_id: str = "s") -> list[tuple[float, str, str]]:
        """(seconds since T0, outcome or state, reason) of each row of one schedule."""
        return [
            ((run.fire_us - T0_US) / SECOND_US, run.outcome or run.state, run.reason)
            for run in self.ledger(schedule_id)
        ]


Fate = Callable[[Write | Read], Event]
"""How the store answers one operation; the test may use `bench.store` in it."""


class Bench:
    """A node, its store and its executor. The test says when the store answers and how runs end.

    `settle` lets the store answer everything that is under way, and the node work off its backlog; `advance` moves
    time, stopping wherever the node asked to be woken.
    """

    def __init__(
        self,
        store: ModelStore | None = None,
        settings: Settings | None = None,
        handlers: HandlersChanged = HANDLERS,
        now: Now | None = None,
        seed: int = 0,
    ) -> None:
        self.store = store if store is not None else ModelStore()
        self.node = Node(settings if settings is not None else Settings(), Random(seed))
        self.handlers = handlers
        self.now = now if now is not None else at(0)
        self.waiting: deque[Write | Read] = deque()
        self.running: dict[tuple[int, int], StartRun] = {}
        self.started: list[StartRun] = []
        self.cancels: list[CancelRun] = []
        self.sent: list[Send] = []
        self.notices: list[Notice] = []
        self.replies: dict[int, Any] = {}
        self.ended: list[tuple[int, int, Outcome]] = []
        """(row, attempt, outcome) of every execution that ended in this life."""
        self.stopped = False
        self.requests = 0
        self.on_start: Callable[[StartRun], None] = lambda start: None

    # --- driving ----------------------------------------------------------------------------------------------

    def start(self) -> "Bench":
        """Begin the life as the driver does, and let it recover."""
        self.give(self.store.open())
        self.give(self.handlers)
        self.settle()
        return self

    def give(self, event: Event) -> list[Effect]:
        """Hand over one fact; check and file the orders."""
        effects = self.node.handle(event, self.now)
        assert not (self.stopped and effects), f"NODE-2: orders after Stop: {effects}"
        for effect in effects:
            self._file(effect)
        wakeup = self.node.next_wakeup(self.now)
        if wakeup is not None and wakeup.reason is not WakeReason.BACKLOG:
            assert wakeup.at_us > self.now.mono_us, f"KERNEL-2: {wakeup} is not in the future"
        return effects

    def _file(self, effect: Effect) -> None:
        assert not self.stopped, f"NODE-2: {effect} after Stop"
        match effect:
            case Write() | Read():
                self.waiting.append(effect)
            case StartRuns(runs=runs):
                for run in runs:
                    self._start(run)
            case Send():
                self.sent.append(effect)
            case CancelRun():
                self.cancels.append(effect)
            case Reply(request_id=request_id, answer=answer):
                assert request_id not in self.replies, "a command is answered once"
                self.replies[request_id] = answer
            case Publish(notice=notice):
                self.notices.append(notice)
            case Stop():
                self.stopped = True

    def _start(self, run: StartRun) -> None:
        stored = self.store.runs.get(run.row)
        assert stored is not None, f"RUN-4: row {run.row} was started and is not in the store"
        truth = (stored.state, stored.attempt, stored.fence)
        assert truth == (RunState.LEASED, run.attempt, run.fence), f"RUN-4: {run} was started on {truth}"
        assert all(run.fence > other.fence for other in self.started if other.row == run.row), "the fence grows"
        assert (run.row, run.attempt) not in self.running, "one execution per attempt"
        self.running[run.row, run.attempt] = run
        self.started.append(run)
        self.on_start(run)

    def answer(self, fate: Fate | None = None) -> list[Effect]:
        """Answer the oldest operation under way: truthfully, or as `fate` says."""
        operation = self.waiting.popleft()
        return self.give(self.truth(operation) if fate is None else fate(operation))

    def truth(self, operation: Write | Read) -> Event:
        """What a healthy store answers."""
        if isinstance(operation, Write):
            return self.store.write(operation)
        return ReadDone(operation.op, self.store.read(operation.query))

    def settle(self, limit: int = 10_000) -> None:
        """Until nothing is under way and no backlog is left."""
        for _ in range(limit):
            if self.waiting:
                self.answer()
            elif not self._backlog():
                return
            else:
                self.give(Woke())
        raise AssertionError("KERNEL-3: the backlog does not shrink")

    def _backlog(self) -> bool:
        wakeup = self.node.next_wakeup(self.now)
        return wakeup is not None and wakeup.reason is WakeReason.BACKLOG

    def advance(self, seconds: float, auto: Outcome | None = None) -> None:
        """Let time pass with a healthy store; with `auto` every run ends so as soon as it began."""
        until_us = self.now.mono_us + round(seconds * SECOND_US)
        self._work(auto)
        while True:
            wakeup = self.node.next_wakeup(self.now)
            if wakeup is None or wakeup.at_us > until_us:
                break
            self.pass_us(wakeup.at_us - self.now.mono_us)
            self.give(Woke())
            self._work(auto)
        self.pass_us(until_us - self.now.mono_us)

    def _work(self, auto: Outcome | None) -> None:
        self.settle()
        while auto is not None and self.running:
            self.finish_all(auto)
            self.settle()

    def pass_us(self, us: int) -> None:
        """Move both clocks."""
        self.now = evolve(self.now, mono_us=self.now.mono_us + us, utc_us=self.now.utc_us + us)

    # --- asking and ending ------------------------------------------------------------------------------------

    def command(self, command: Command) -> int:
        """Ask for something; the answer, when there is one, is in `replies`."""
        self.requests += 1
        self.give(Commanded(self.requests, command))
        return self.requests

    def ask(self, command: Command) -> Any:
        """Ask, let the store answer, return the answer."""
        request_id = self.command(command)
        self.settle()
        return self.replies[request_id]

    def finish(
        self, run: StartRun, outcome: Outcome = Outcome.SUCCEEDED, reason: str = "", retryable: bool = True
    ) -> list[Effect]:
        """One execution ends."""
        del self.running[run.row, run.attempt]
        self.ended.append((run.row, run.attempt, outcome))
        now_us = self.now.utc_us
        result = RunResult(run.row, run.attempt, outcome, reason, now_us, now_us, retryable=retryable)
        return self.give(RunsFinished((result,)))

    def finish_all(self, outcome: Outcome = Outcome.SUCCEEDED) -> None:
        """Every execution ends."""
        for run in list(self.running.values()):
            self.finish(run, outcome)

    def stop(self, grace_s: float = 10) -> None:
        """Ask the node to drain."""
        self.give(StopRequested(round(grace_s * SECOND_US)))

    def crash(self, now: Now | None = None, seed: int = 0) -> "Bench":
        """The process is gone with all that was under way; the next life on the same store, not started yet."""
        return Bench(self.store, self.node.settings, self.handlers, now if now is not None else self.now, seed)

    def seen(self, kind: type[Any]) -> list[Any]:
        """The notices of one kind, in order."""
        return [notice for notice in self.notices if isinstance(notice, kind)]


def fails(reason: FailReason) -> Fate:
    """The store does not take the write, or cannot read."""

    def fate(operation: Write | Read) -> Event:
        if isinstance(operation, Read):
            return ReadFailed(operation.op, reason)
        return WriteFailed(operation.op, reason)

    return fate
