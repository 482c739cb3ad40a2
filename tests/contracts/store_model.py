"""Any store against the memory store: random writes, refusals, streams, restarts; the same answers, the same contents.

A store joins by a subclass that says how to make its world.
"""

from typing import Any, TypeAlias

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sz_protocol.changes import (
    Change,
    CursorMove,
    DropRuns,
    InsertAttempts,
    InsertRuns,
    MoveCursors,
    PutSchedules,
    UpdateRuns,
)
from sz_protocol.kernel.events import ReadDone, WriteFailed
from sz_protocol.queries import (
    AttemptsOf,
    DueSchedules,
    LedgerCounts,
    Query,
    RunByKey,
    RunsByRow,
    RunsPage,
    ScheduleIds,
    SchedulesById,
    SchedulesPage,
    UnfinishedRuns,
)
from sz_protocol.records import Attempt, Outcome, Run, RunKind, RunState, Schedule, ScheduleState
from sz_shells.stores.memory import MemoryStore
from tests.contracts.store_world import Session, StoreWorld, a_schedule

NAMES = st.sampled_from(["a", "b", "c", "d"])
ROWS = st.integers(1, 10)
SMALL = st.integers(0, 4)
TIMES = st.integers(1, 12)
KEYS = st.integers(0, 12).map(lambda n: n.to_bytes(16, "big"))
LIMITS = st.integers(0, 6)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Schedules that often meet each other: few names, small revs, small cursors."""
    return a_schedule(
        draw(NAMES),
        rev=draw(st.sampled_from([1, 1, 1, 2, 2, 3])),
        cursor_us=draw(SMALL),
        next_due_us=draw(st.none() | TIMES),
        state=draw(st.sampled_from([ScheduleState.ACTIVE] * 4 + list(ScheduleState))),
        source=draw(st.sampled_from(["config", "api"])),
        since_us=draw(TIMES),
        created_us=1,
    )


def a_small_run(row: int, **changes: Any) -> Run:
    """A leased run. What it is follows from its row (STORE-14): three of ten are no ordinary ones, and the keys of the
    last two are those of the first."""
    key = (row if row < 9 else row - 8).to_bytes(16, "big")
    run = Run(row, key, "abcd"[row % 4], row, "reports", "build", RunState.LEASED, 1, reason="on_time", fence=row)
    odd: dict[str, Any] = {}
    if row % 3 == 0:
        odd = {"kind": list(RunKind)[row % 4], "count": row, "covers": (row, row + 1), "decided_us": 12 - row}
        odd["params"] = {"a": row}
        odd["fire_us"] = 3
    return evolve(run, **odd, **changes)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Ordinary runs for the most part: fresh, or ended as they should; else anything."""
    run = a_small_run(draw(ROWS), attempt=draw(st.sampled_from([1, 1, 2])))
    plain = draw(st.sampled_from([True, True, False]))
    if draw(st.booleans()):
        run = evolve(run, state=RunState.DONE, outcome=draw(st.sampled_from(Outcome)), started_us=1)
        run = evolve(run, finished_us=draw(TIMES), result=draw(st.none() | st.text(max_size=3)))
    if plain:
        return run
    return evolve(
        run,
        state=draw(st.sampled_from(RunState)),
        finished_us=draw(st.none() | TIMES),
        failures=draw(SMALL),
        fence=draw(SMALL),
        error=draw(st.none() | st.text(max_size=4)),
        worker=draw(st.sampled_from(["", "edge"])),
    )


ATTEMPTS = st.builds(
    Attempt,
    row=ROWS,
    attempt=st.integers(1, 3),
    outcome=st.sampled_from(Outcome),
    reason=st.just("error"),
    started_us=st.none() | TIMES,
    finished_us=TIMES,
    error=st.none() | st.text(max_size=3),
)
MOVES = st.builds(
    CursorMove,
    schedule_id=NAMES,
    rev=st.sampled_from([1, 1, 2]),
    expected_us=SMALL,
    cursor_us=SMALL,
    next_due_us=TIMES | TIMES | st.none(),
)


def _pairs(of: st.SearchStrategy[Any], expected: st.SearchStrategy[Any], make: Any) -> st.SearchStrategy[Any]:
    pairs = st.lists(st.tuples(of, expected), max_size=4)
    return pairs.map(lambda found: make(tuple(one for one, _ in found), tuple(other for _, other in found)))


CHANGES: st.SearchStrategy[Change] = st.one_of(
    _pairs(schedules(), st.none() | SMALL, PutSchedules),
    st.lists(schedules(), max_size=3).map(lambda new: PutSchedules(tuple(new), (None,) * len(new))),
    st.builds(MoveCursors, st.lists(MOVES, max_size=4).map(tuple)),
    st.builds(InsertRuns, st.lists(runs(), max_size=4).map(tuple)),
    st.builds(InsertRuns, st.lists(runs(), max_size=1).map(tuple)),
    _pairs(runs(), st.sampled_from([1, 1, 1, 2]), UpdateRuns),
    st.builds(lambda run, expected: UpdateRuns((run,), (expected,)), runs(), st.sampled_from([1, 2])),
    st.builds(InsertAttempts, st.lists(ATTEMPTS, max_size=3).map(tuple)),
    st.builds(DropRuns, TIMES, LIMITS),
)
ARandomWrite: TypeAlias = tuple[list[Change], int, int]
# Mostly one change, in no stream, of the right term: what goes wrong early hides what comes after it.
WRITES = st.tuples(
    st.lists(CHANGES, min_size=1, max_size=1) | st.lists(CHANGES, min_size=1, max_size=3),
    st.sampled_from([0] * 8 + [1, 2, 3]),
    st.sampled_from([0] * 19 + [-1]),
)
POSITIONS = st.none() | st.tuples(TIMES, ROWS)
QUERIES: st.SearchStrategy[Query] = st.one_of(
    st.builds(DueSchedules, TIMES, st.none() | st.tuples(TIMES, NAMES), LIMITS),
    st.builds(SchedulesById, st.lists(NAMES, max_size=4).map(tuple)),
    st.builds(
        SchedulesPage,
        after_id=st.just("") | NAMES,
        limit=LIMITS,
        states=st.none() | st.lists(st.sampled_from(ScheduleState), max_size=3).map(tuple),
        source=st.none() | st.just("api"),
    ),
    st.builds(ScheduleIds, st.just("config"), st.just("") | NAMES, LIMITS),
    st.builds(UnfinishedRuns, SMALL, LIMITS),
    st.builds(RunsByRow, st.lists(ROWS, max_size=4).map(tuple)),
    st.builds(
        RunsPage,
        limit=LIMITS,
        before=POSITIONS,
        schedule_id=st.none() | NAMES,
        state=st.none() | st.sampled_from(RunState),
        outcome=st.none() | st.sampled_from(Outcome),
        from_us=st.none() | TIMES,
        to_us=st.none() | TIMES,
    ),
    st.builds(RunByKey, KEYS),
    st.builds(AttemptsOf, ROWS),
    st.builds(LedgerCounts, st.none() | NAMES),
)
EVERYTHING: tuple[Query, ...] = (
    SchedulesPage(),
    DueSchedules(1 << 40, None, 100),
    RunsPage(limit=1000),
    UnfinishedRuns(),
    LedgerCounts(),
    *(AttemptsOf(row) for row in range(1, 11)),
)


class StoreModel(RuleBasedStateMachine):
    """The store under test and its model, told the same things."""

    def make_world(self) -> StoreWorld:
        """Where the store under test lives."""
        raise AssertionError("a subclass says which store")

    @initialize()
    def begin(self) -> None:
        self.world = self.make_world()
        self.real = Session.begin(self.world, self.world.make())
        self.model = Session.begin(self.world, MemoryStore())
        # Something to meet from the start.
        first = PutSchedules(tuple(a_schedule(name, cursor_us=1, next_due_us=3) for name in "abc"), (None,) * 3)
        begun = InsertRuns(tuple(a_small_run(row, attempt=1 + row % 2) for row in range(1, 7)))
        for session in (self.real, self.model):
            session.do(first, begun)

    @rule(writes=st.lists(WRITES, min_size=4, max_size=12))
    def write_at_once(self, writes: list[ARandomWrite]) -> None:
        """They may share a transaction."""
        ops = [self._submit(write) for write in writes]
        for op in ops:
            self._compare(op)

    @rule(writes=st.lists(WRITES, min_size=4, max_size=12))
    def write_in_turn(self, writes: list[ARandomWrite]) -> None:
        """Each has a transaction of its own."""
        for write in writes:
            self._compare(self._submit(write))

    def _submit(self, write: ARandomWrite) -> int:
        changes, stream, staleness = write
        fence = self.model.term + staleness
        self.model.submit(*changes, stream=stream, fence=fence)
        return self.real.submit(*changes, stream=stream, fence=fence)

    def _compare(self, op: int) -> None:
        expected, answer = self.model.answer(op), self.real.answer(op)
        assert type(answer) is type(expected)
        if isinstance(answer, WriteFailed) and isinstance(expected, WriteFailed):
            assert (answer.reason, answer.refused) == (expected.reason, expected.refused)

    @rule(query=QUERIES)
    def ask(self, query: Query) -> None:
        assert self.real.read(query) == self.model.read(query)
        assert self.real.store.query(query) == self.model.store.query(query)

    @rule()
    def restart(self) -> None:
        self.real = Session.begin(self.world, self.real.end())
        self.model.store.close()
        self.model = Session.begin(self.world, self.model.store)
        assert (self.real.term, self.real.high_water_us) == (self.model.term, self.model.high_water_us)

    @invariant()
    def both_hold_the_same(self) -> None:
        ops = [self.real.ask(query) for query in EVERYTHING]
        for op, query in zip(ops, EVERYTHING, strict=True):
            answer = self.real.answer(op)
            assert isinstance(answer, ReadDone)
            assert answer.rows == self.model.read(query)

    def teardown(self) -> None:
        self.real.store.close()
