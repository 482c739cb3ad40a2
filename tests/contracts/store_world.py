"""What the contract suite of the stores needs to know of a store's world, and the tools that its tests share."""

from collections.abc import Callable, Sequence
from threading import Condition
from typing import Any, Protocol

from attrs import Factory, define, evolve

from sz_protocol.changes import Change, CursorMove, PutSchedules
from sz_protocol.definition import Definition
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.effects import Read, Write
from sz_protocol.kernel.events import Event, FailReason, ReadDone, ReadFailed, WriteDone, WriteFailed
from sz_protocol.queries import AttemptsOf, DueSchedules, Query, RunsPage, SchedulesPage, UnfinishedRuns
from sz_protocol.records import CLAIMS_PER_TERM, Attempt, Outcome, Run, RunState, Schedule, run_key
from sz_protocol.triggers import Interval
from sz_runtime.ports import Store

SECOND = 1_000_000
MINUTE = 60 * SECOND
T0 = 1_700_000_000 * SECOND
"""Where the time of these tests begins."""


class StoreWorld(Protocol):
    """One place where a store can live, die and live again. Nothing here knows what the store is made of."""

    def make(self) -> Store:
        """The store of this world, not open yet and with nothing in it. Called once."""
        ...

    def reopened(self, store: Store) -> Store:
        """A store over the same contents, not open yet, after `store` was closed."""
        ...

    def crashed(self, store: Store) -> Store:
        """Pull the plug now: nothing that `store` still does counts. A store over what survived, not open yet. Asked
        of durable stores only."""
        ...

    def settle(self, done: Callable[[], bool]) -> None:
        """Let the world go on until `done()`; fail when it does not come to that."""
        ...


@define
class Answers:
    """What a store answered, by operation; thread-safe. A second answer to one operation is an error."""

    by_op: dict[int, Event] = Factory(dict)
    in_order: list[Event] = Factory(list)
    changed: Condition = Factory(Condition)

    def complete(self, events: Sequence[Event]) -> None:
        """Handed to the store."""
        with self.changed:
            for event in events:
                assert isinstance(event, WriteDone | WriteFailed | ReadDone | ReadFailed)
                assert event.op not in self.by_op, f"STORE-1: operation {event.op} was answered twice"
                self.by_op[event.op] = event
                self.in_order.append(event)
            self.changed.notify_all()


@define
class Session:
    """One life of a store under test."""

    world: StoreWorld
    store: Store
    term: int
    high_water_us: int
    answers: Answers
    last_op: int = 0

    @classmethod
    def begin(cls, world: StoreWorld, store: Store) -> "Session":
        """Open the store."""
        answers = Answers()
        opened = store.open(answers.complete)
        return cls(world, store, opened.term, opened.high_water_us, answers)

    def submit(self, *changes: Change, stream: int = 0, fence: int | None = None) -> int:
        """Submit one write; returns its operation."""
        self.last_op += 1
        self.store.submit(Write(self.last_op, changes, self.term if fence is None else fence, stream))
        return self.last_op

    def ask(self, query: Query) -> int:
        """Submit one read; returns its operation."""
        self.last_op += 1
        self.store.submit(Read(self.last_op, query))
        return self.last_op

    def answer(self, op: int) -> Event:
        """Wait for the answer to an operation."""
        self.world.settle(lambda: op in self.answers.by_op)
        return self.answers.by_op[op]

    def write(self, *changes: Change, stream: int = 0, fence: int | None = None) -> Event:
        """Submit one write and wait for its answer."""
        return self.answer(self.submit(*changes, stream=stream, fence=fence))

    def do(self, *changes: Change) -> None:
        """A write that has to succeed."""
        op = self.submit(*changes)
        assert self.answer(op) == WriteDone(op)

    def read(self, query: Query) -> tuple[Any, ...]:
        """A read that has to succeed."""
        event = self.answer(self.ask(query))
        assert isinstance(event, ReadDone)
        return event.rows

    def end(self) -> Store:
        """Close; the next life's store."""
        self.store.close()
        return self.world.reopened(self.store)


def reasons(session: Session, ops: Sequence[int]) -> list[FailReason | None]:
    """How the writes ended: None is success."""
    events = [session.answer(op) for op in ops]
    return [event.reason if isinstance(event, WriteFailed) else None for event in events]


# --- records ---------------------------------------------------------------------------------------------------


def a_schedule(name: str, **changes: Any) -> Schedule:
    """A schedule as it is first put: every minute, due a minute after T0."""
    definition = changes.pop("definition", None) or Definition(
        id=name, handler_id="reports", method="build", trigger=Interval(60 * SECOND, T0)
    )
    schedule = Schedule(
        uid=f"uid of {name}",
        definition=definition,
        hash=definition_hash(definition),
        source="config",
        rev=1,
        cursor_us=T0,
        next_due_us=T0 + 60 * SECOND,
        created_us=T0,
        since_us=T0,
    )
    return evolve(schedule, **changes) if changes else schedule


def a_run(number: int, **changes: Any) -> Run:
    """The ledger's row for the `number`-th fire time of schedule "a", leased for its first attempt."""
    row = CLAIMS_PER_TERM + number
    fire_us = T0 + number * 60 * SECOND
    run = Run(
        row=row,
        run_key=run_key("uid of a", str(fire_us)),
        schedule_id="a",
        fire_us=fire_us,
        handler_id="reports",
        method="build",
        state=RunState.LEASED,
        decided_us=fire_us + 1500,
        reason="on_time",
        attempt=1,
        fence=row,
    )
    return evolve(run, **changes) if changes else run


def done(run: Run, **changes: Any) -> Run:
    """The run after it succeeded a second later."""
    ended: dict[str, Any] = {
        "state": RunState.DONE,
        "outcome": Outcome.SUCCEEDED,
        "started_us": run.fire_us + 2000,
        "finished_us": run.fire_us + SECOND,
        "result": '{"rows": 3}',
    }
    return evolve(run, **(ended | changes))


def a_move(schedule: Schedule, cursor_us: int, next_due_us: int | None) -> CursorMove:
    """Advance the cursor of a schedule that stands as given."""
    return CursorMove(schedule.id, schedule.rev, schedule.cursor_us, cursor_us, next_due_us)


def an_attempt(run: Run, **changes: Any) -> Attempt:
    """A failed attempt of a run, the first unless said otherwise."""
    attempt = Attempt(run.row, 1, Outcome.FAILED, "error", run.fire_us, run.fire_us + SECOND, "it broke")
    return evolve(attempt, **changes) if changes else attempt


# --- writing and reading -----------------------------------------------------------------------------------------


def put(*schedules: Schedule) -> PutSchedules:
    """Schedules that are new."""
    return PutSchedules(schedules, (None,) * len(schedules))


def edit(old: Schedule, **changes: Any) -> PutSchedules:
    """The next revision of a schedule that stands as `old`."""
    return PutSchedules((evolve(old, rev=old.rev + 1, **changes),), (old.cursor_us,))


def refused(session: Session, *changes: Change) -> tuple[str | int, ...]:
    """Who was refused by a write of these changes."""
    event = session.write(*changes)
    assert isinstance(event, WriteFailed)
    assert event.reason is FailReason.REFUSED
    return event.refused


def names(schedules: tuple[Schedule, ...]) -> list[str]:
    """Their ids."""
    return [schedule.id for schedule in schedules]


def everything(session: Session) -> tuple[Any, ...]:
    """All that the store holds."""
    runs: tuple[Run, ...] = session.read(RunsPage(limit=10_000))
    attempts = [session.read(AttemptsOf(run.row)) for run in runs]
    due = session.read(DueSchedules(1 << 60, None, 10_000))
    return session.read(SchedulesPage()), due, runs, session.read(UnfinishedRuns()), attempts
