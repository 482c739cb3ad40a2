"""What every store owes the node, whatever it is made of. The rules are those of specs/stores.md.

A store joins by a subclass with a fixture `world`: StoreContract for any store, DurableStoreContract for one that
promises to survive a crash.
"""

from typing import Any

import pytest
from attrs import evolve

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
from sz_protocol.definition import Definition, Misfire, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import FailReason, ReadDone, WriteDone, WriteFailed
from sz_protocol.queries import (
    AttemptsOf,
    DueSchedules,
    LedgerCounts,
    RunByKey,
    RunsByRow,
    RunsPage,
    ScheduleIds,
    SchedulesById,
    SchedulesPage,
    UnfinishedRuns,
)
from sz_protocol.records import Attempt, Outcome, Run, RunKind, RunState, Schedule, ScheduleState
from sz_protocol.triggers import Cron
from tests.contracts.store_world import SECOND, T0, Session, StoreWorld, a_move, a_run, a_schedule, done, reasons

REFUSED, PREVIOUS, FENCED, INVALID = FailReason.REFUSED, FailReason.PREVIOUS, FailReason.FENCED, FailReason.INVALID
MINUTE = 60 * SECOND


RARE: dict[str, Any] = {
    "kind": RunKind.BACKFILL,
    "failures": 1,
    "losses": 2,
    "not_before_us": T0 + 3,
    "count": 4,
    "until_us": T0 + 5,
    "covers": (T0, T0 + 6),
    "params": {"a": 7},
    "error": "eight",
}
"""What few runs have."""
RARE_AT_DEFAULT: dict[str, Any] = {name: getattr(a_run(1), name) for name in RARE}
ORDINARY_END: dict[str, Any] = {
    "state": RunState.DONE,
    "outcome": Outcome.SUCCEEDED,
    "started_us": T0 + 9,
    "finished_us": T0 + 10,
    "result": "11",
}


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
    assert event.reason is REFUSED
    return event.refused


class StoreContract:
    """Rules of every store."""

    @pytest.fixture
    def session(self, world: StoreWorld) -> Session:
        return Session.begin(world, world.make())

    # --- answers, order, atomicity -------------------------------------------------------------------------------

    def test_store_1_each_operation_is_answered_once_and_close_leaves_none_open(self, session: Session) -> None:
        runs = [a_run(n) for n in range(200)]
        for run in runs:
            session.submit(InsertRuns((run,)))
            session.submit(InsertRuns((run,)))
            session.ask(RunByKey(run.run_key))
        session.store.close()
        session.world.settle(lambda: len(session.answers.by_op) == 600)
        for op, run in zip(range(1, 600, 3), runs, strict=True):
            assert session.answers.by_op[op] == WriteDone(op)
            assert session.answers.by_op[op + 1] == WriteFailed(op + 1, REFUSED, (run.row,))
            assert session.answers.by_op[op + 2] == ReadDone(op + 2, (run,))

    def test_store_1_a_closed_store_takes_nothing_more(self, session: Session) -> None:
        session.store.close()
        with pytest.raises(LocalProtocolError):
            session.ask(UnfinishedRuns())

    def test_store_2_writes_are_applied_in_the_order_of_submission(self, session: Session) -> None:
        start = a_schedule("a")
        session.submit(put(start))
        cursor_us = start.cursor_us
        for _ in range(300):
            move = CursorMove("a", 1, cursor_us, cursor_us + SECOND, cursor_us + 2 * SECOND)
            session.submit(MoveCursors((move,)))
            cursor_us += SECOND
        (stored,) = session.read(SchedulesById(("a",)))
        assert (stored.cursor_us, stored.next_due_us) == (T0 + 300 * SECOND, T0 + 301 * SECOND)
        assert set(reasons(session, range(1, 302))) == {None}

    def test_store_2_a_run_may_be_inserted_and_updated_by_writes_that_wait_together(self, session: Session) -> None:
        runs = [a_run(n, state=RunState.PENDING, attempt=0) for n in range(50)]
        leased = [evolve(run, state=RunState.LEASED, attempt=1) for run in runs]
        for pending, begun in zip(runs, leased, strict=True):
            session.submit(InsertRuns((pending,)))
            session.submit(UpdateRuns((begun,), (0,)))
            session.submit(UpdateRuns((done(begun),), (1,)))
        assert session.read(UnfinishedRuns()) == ()
        assert session.read(RunsPage(limit=50)) == tuple(done(run) for run in reversed(leased))

    def test_store_2_many_writes_at_once_are_all_done(self, session: Session) -> None:
        schedules = [a_schedule(f"s{n:04}") for n in range(2000)]
        ops = [session.submit(put(*schedules[at : at + 100])) for at in range(0, 2000, 100)]
        for at in range(0, 2000, 100):
            runs = tuple(a_run(n, schedule_id=f"s{n:04}") for n in range(at, at + 100))
            moves = tuple(a_move(each, T0 + MINUTE, T0 + 2 * MINUTE) for each in schedules[at : at + 100])
            ops.append(session.submit(InsertRuns(runs), MoveCursors(moves), stream=1))
        assert set(reasons(session, ops)) == {None}
        assert len(session.read(UnfinishedRuns(limit=5000))) == 2000

    def test_store_3_a_refused_write_leaves_nothing_behind(self, session: Session) -> None:
        """FIRE-1, SCHED-2: the instants of a slice and the cursors that pass them stand or fall together."""
        a, b = a_schedule("a"), a_schedule("b")
        session.do(put(a, b), InsertRuns((a_run(1),)), InsertAttempts((an_attempt(a_run(1)),)))
        before = self.everything(session)
        moves = MoveCursors((a_move(a, T0 + MINUTE, None), a_move(b, T0 + MINUTE, T0 + 2 * MINUTE)))
        again = InsertRuns((a_run(2), a_run(1), a_run(3)))
        drop = DropRuns(before_us=1 << 60, limit=10)
        ended = UpdateRuns((done(a_run(1)),), (1,))
        more = InsertAttempts((an_attempt(a_run(1)), an_attempt(a_run(9))))
        assert refused(session, put(a_schedule("c")), ended, more, drop, put(a)) == ("a",)
        assert refused(session, moves, put(a_schedule("c")), more, again) == (a_run(1).row,)
        assert refused(session, again, moves, ended) == (a_run(1).row,)
        assert refused(session, edit(a, cursor_us=T0 + 5), moves) == ("a",)
        assert self.everything(session) == before

    def test_store_3_a_refused_write_harms_no_other_of_the_same_moment(self, session: Session) -> None:
        session.do(InsertRuns((a_run(500),)))
        ops = []
        for number in range(100):
            taken = a_run(500, row=a_run(number).row)
            ops.append(session.submit(InsertRuns((taken if number % 10 == 3 else a_run(number),))))
        assert reasons(session, ops) == [REFUSED if number % 10 == 3 else None for number in range(100)]
        assert len(session.read(UnfinishedRuns())) == 91

    def test_store_3_a_refusal_names_every_row_and_schedule_that_was_in_the_way(self, session: Session) -> None:
        a, b, c = a_schedule("a"), a_schedule("b"), a_schedule("c")
        session.do(put(a, b, c), InsertRuns((a_run(1), a_run(2))))
        inserts = InsertRuns((a_run(1), a_run(3), a_run(2)))
        stale = CursorMove("b", rev=1, expected_us=T0 - 1, cursor_us=T0 + MINUTE, next_due_us=None)
        moves = MoveCursors((a_move(a, T0 + MINUTE, T0 + 2 * MINUTE), stale, a_move(a, T0 + MINUTE, None)))
        assert refused(session, inserts, moves) == (a_run(1).row, a_run(2).row, "b", "a")

    # --- streams and fences --------------------------------------------------------------------------------------

    def test_store_4_after_a_failure_all_later_writes_of_the_stream_fail(self, session: Session) -> None:
        session.do(InsertRuns((a_run(0),)))
        first = session.submit(InsertRuns((a_run(1),)), stream=3)
        bad = session.submit(InsertRuns((a_run(0),)), stream=3)
        same = session.submit(InsertRuns((a_run(2),)), stream=3)
        smaller = session.submit(InsertRuns((a_run(3),)), stream=2)
        alone = session.submit(InsertRuns((a_run(4),)))
        larger = session.submit(InsertRuns((a_run(5),)), stream=4)
        ops = [first, bad, same, smaller, alone, larger]
        assert reasons(session, ops) == [None, REFUSED, PREVIOUS, PREVIOUS, None, None]
        late = [session.submit(InsertRuns((a_run(6),)), stream=3), session.submit(InsertRuns((a_run(7),)), stream=4)]
        assert reasons(session, late) == [PREVIOUS, None]
        assert [run.row for run in session.read(UnfinishedRuns())] == [a_run(n).row for n in (0, 1, 4, 5, 7)]

    def test_store_4_what_went_before_a_failure_of_its_stream_stands(self, session: Session) -> None:
        session.submit(put(*(a_schedule(f"s{n}") for n in range(1000))))  # so that what follows waits together
        ops = [
            session.submit(InsertRuns((a_run(1),)), stream=2),
            session.submit(InsertRuns((a_run(2),)), stream=2, fence=session.term + 1),
            session.submit(InsertRuns((a_run(3),)), stream=2),
            session.submit(InsertRuns((a_run(1),)), stream=3),
            session.submit(InsertRuns((a_run(4),)), stream=4),
        ]
        assert reasons(session, ops) == [None, FENCED, PREVIOUS, REFUSED, None]
        assert session.read(UnfinishedRuns()) == (a_run(1), a_run(4))

    def test_store_4_a_failure_of_stream_0_fails_nothing_else(self, session: Session) -> None:
        session.do(InsertRuns((a_run(0),)))
        ops = [
            session.submit(InsertRuns((a_run(0),))),
            session.submit(InsertRuns((a_run(1),))),
            session.submit(InsertRuns((a_run(2),)), stream=1),
        ]
        assert reasons(session, ops) == [REFUSED, None, None]

    def test_store_4_streams_begin_anew_with_each_life(self, session: Session) -> None:
        session.do(InsertRuns((a_run(0),)))
        assert reasons(session, [session.submit(InsertRuns((a_run(0),)), stream=9)]) == [REFUSED]
        later = Session.begin(session.world, session.end())
        assert isinstance(later.write(InsertRuns((a_run(1),)), stream=1), WriteDone)

    def test_store_5_each_life_has_a_greater_term(self, session: Session) -> None:
        second = Session.begin(session.world, session.end())
        third = Session.begin(second.world, second.end())
        assert 0 < session.term < second.term < third.term

    def test_store_5_pain_3_a_write_of_another_term_is_fenced(self, session: Session) -> None:
        later = Session.begin(session.world, session.end())
        old = later.submit(InsertRuns((a_run(1),)), stream=1, fence=session.term)
        after = later.submit(InsertRuns((a_run(2),)), stream=1)
        future = later.submit(InsertRuns((a_run(3),)), fence=later.term + 1)
        assert reasons(later, [old, after, future]) == [FENCED, PREVIOUS, FENCED]
        assert later.read(UnfinishedRuns()) == ()

    def test_store_6_a_read_sees_every_write_submitted_before_it(self, session: Session) -> None:
        reads = []
        for number in range(50):
            session.submit(InsertRuns((a_run(number),)))
            reads.append(session.ask(UnfinishedRuns()))
        for number, op in enumerate(reads):
            event = session.answer(op)
            assert isinstance(event, ReadDone)
            assert event.rows[: number + 1] == tuple(a_run(n) for n in range(number + 1))

    def test_store_6_query_reads_beside_the_server_and_without_one(self, session: Session) -> None:
        session.do(put(a_schedule("a")), InsertRuns((a_run(1),)))
        assert session.store.query(RunsPage()) == (a_run(1),)
        closed = session.end()
        assert closed.query(SchedulesById(("a",))) == (a_schedule("a"),)

    # --- compare-and-set -----------------------------------------------------------------------------------------

    def test_store_7_a_schedule_is_put_by_rev_and_cursor(self, session: Session) -> None:
        a = a_schedule("a")
        assert refused(session, put(evolve(a, rev=2))) == ("a",)
        assert refused(session, PutSchedules((a,), (a.cursor_us,))) == ("a",)
        session.do(put(a))
        assert refused(session, put(a)) == ("a",)
        assert refused(session, PutSchedules((evolve(a, rev=2),), (T0 + 1,))) == ("a",)
        assert refused(session, PutSchedules((evolve(a, rev=3),), (T0,))) == ("a",)
        assert refused(session, PutSchedules((evolve(a, rev=2),), (None,))) == ("a",)
        session.do(edit(a, state=ScheduleState.PAUSED, reason="holidays", since_us=T0 + 5))
        assert session.read(SchedulesById(("a",))) == (
            evolve(a, rev=2, state=ScheduleState.PAUSED, reason="holidays", since_us=T0 + 5),
        )

    def test_store_7_one_write_may_put_a_schedule_and_edit_it(self, session: Session) -> None:
        a = a_schedule("a")
        session.do(put(a), edit(a, reason="twice"))
        session.do(PutSchedules((evolve(a, rev=3), evolve(a, rev=4, source="api")), (T0, T0)))
        assert session.read(SchedulesById(("a",))) == (evolve(a, rev=4, source="api"),)
        assert refused(session, PutSchedules((evolve(a, rev=6), evolve(a, rev=5)), (T0, T0))) == ("a",)

    def test_store_7_a_cursor_moves_only_from_where_it_was_expected(self, session: Session) -> None:
        a = a_schedule("a")
        session.do(put(a))
        assert refused(session, MoveCursors((a_move(a_schedule("b"), T0 + 1, None),))) == ("b",)
        assert refused(session, MoveCursors((a_move(evolve(a, rev=2), T0 + 1, None),))) == ("a",)
        assert refused(session, MoveCursors((a_move(evolve(a, cursor_us=T0 + 1), T0 + 2, None),))) == ("a",)
        session.do(MoveCursors((a_move(a, T0 + MINUTE, T0 + 2 * MINUTE),)))
        moved = evolve(a, cursor_us=T0 + MINUTE, next_due_us=T0 + 2 * MINUTE)
        assert session.read(SchedulesById(("a",))) == (moved,)
        assert refused(session, MoveCursors((a_move(a, T0 + MINUTE, T0 + 2 * MINUTE),))) == ("a",)
        session.do(MoveCursors((a_move(moved, T0 + 2 * MINUTE, None),)))
        finished = evolve(moved, cursor_us=T0 + 2 * MINUTE, next_due_us=None, state=ScheduleState.FINISHED)
        assert session.read(SchedulesById(("a",))) == (finished,)
        assert refused(session, MoveCursors((a_move(finished, T0 + 3 * MINUTE, None),))) == ("a",)

    @pytest.mark.parametrize("state", [state for state in ScheduleState if state is not ScheduleState.ACTIVE])
    def test_store_7_only_an_active_schedule_moves(self, session: Session, state: ScheduleState) -> None:
        a = a_schedule("a", state=state)
        session.do(put(a))
        assert refused(session, MoveCursors((a_move(a, T0 + MINUTE, T0 + 2 * MINUTE),))) == ("a",)

    def test_store_7_fire_1_a_run_key_and_a_row_exist_once(self, session: Session) -> None:
        session.do(InsertRuns((a_run(1),)))
        other_row = a_run(1, row=a_run(2).row)
        other_key = a_run(2, row=a_run(1).row)
        assert refused(session, InsertRuns((other_row,))) == (other_row.row,)
        assert refused(session, InsertRuns((other_key,))) == (other_key.row,)
        assert refused(session, InsertRuns((a_run(3), a_run(3, row=a_run(4).row)))) == (a_run(4).row,)
        session.do(UpdateRuns((done(a_run(1)),), (1,)))
        assert refused(session, InsertRuns((other_row,))) == (other_row.row,)
        assert session.read(RunByKey(a_run(1).run_key)) == (done(a_run(1)),)

    def test_store_7_run_2_a_completion_of_an_older_attempt_does_not_win(self, session: Session) -> None:
        first = a_run(1)
        second = evolve(first, attempt=2, fence=first.fence + 1)
        session.do(InsertRuns((first,)))
        session.do(UpdateRuns((second,), (1,)))
        assert refused(session, UpdateRuns((done(first),), (1,))) == (first.row,)
        session.do(UpdateRuns((done(second),), (2,)))
        assert refused(session, UpdateRuns((done(second, result="again"),), (2,))) == (first.row,)
        assert refused(session, UpdateRuns((a_run(7),), (1,))) == (a_run(7).row,)
        assert session.read(RunsByRow((first.row,))) == (done(second),)

    def test_store_7_one_write_may_update_a_run_twice(self, session: Session) -> None:
        run = a_run(1)
        again = evolve(run, state=RunState.PENDING, failures=1)
        session.do(InsertRuns((run,)), UpdateRuns((again, evolve(run, attempt=2)), (1, 1)))
        assert session.read(UnfinishedRuns()) == (evolve(run, attempt=2),)

    def test_store_7_an_attempt_that_is_there_already_is_passed_over(self, session: Session) -> None:
        run = a_run(1, attempt=3)
        first, second = an_attempt(run), an_attempt(run, attempt=2)
        session.do(InsertRuns((run,)), InsertAttempts((second, first)))
        session.do(InsertAttempts((evolve(first, reason="other"), an_attempt(run, attempt=3))))
        assert session.read(AttemptsOf(run.row)) == (first, second, an_attempt(run, attempt=3))

    def test_store_7_retention_drops_the_oldest_ends_with_their_attempts(self, session: Session) -> None:
        ends = {1: 40, 2: 10, 3: 30, 4: 20}
        runs = {n: done(a_run(n), finished_us=T0 + second * SECOND) for n, second in ends.items()}
        skipped = a_run(5, state=RunState.DONE, outcome=Outcome.SKIPPED, reason="overlap", decided_us=T0 + 15 * SECOND)
        waiting = a_run(6)
        session.do(InsertRuns((*runs.values(), skipped, waiting)))
        session.do(InsertAttempts(tuple(an_attempt(run) for run in runs.values())))
        session.do(DropRuns(before_us=T0 + 40 * SECOND, limit=0))
        session.do(DropRuns(before_us=T0 + 40 * SECOND, limit=2))
        left = session.read(RunsPage())
        assert left == (waiting, runs[4], runs[3], runs[1])
        assert session.read(AttemptsOf(runs[2].row)) == ()
        assert session.read(AttemptsOf(runs[4].row)) == (an_attempt(runs[4]),)
        session.do(DropRuns(before_us=T0 + 40 * SECOND, limit=100))
        assert session.read(RunsPage()) == (waiting, runs[1])
        session.do(InsertRuns((runs[2],)))

    # --- values --------------------------------------------------------------------------------------------------

    def test_store_8_schedules_come_back_equal(self, session: Session) -> None:
        full = Definition(
            id="käse ☂ 'quoted\"",
            handler_id="reports",
            method="build",
            trigger=Cron("0 2 * * 1-5", "Europe/Berlin"),
            params={"a": [1, 2.5, None, True, {"b": "ü"}], "big": 2**63 - 1, "": ""},
            misfire=Misfire(MisfirePolicy.ALL, grace_us=5 * SECOND, max=7, window_us=3600 * SECOND, rate_per_s=2.0),
            overlap=Overlap(OverlapPolicy.QUEUE, 3),
            retry=Retry(4, SECOND, 9 * SECOND),
            timeout_us=3 * SECOND,
            deadline_us=60 * SECOND,
            spread_us=30 * SECOND,
            semantics=Semantics.AT_MOST_ONCE,
            labels={"team": "billing"},
        )
        odd = a_schedule(full.id, definition=full, next_due_us=None, catch_up=MisfirePolicy.SKIP, catch_up_until_us=T0)
        schedules = [odd]
        schedules += [a_schedule(state.value, state=state, reason=f"{state} ☂", source="") for state in ScheduleState]
        session.do(put(*schedules))
        assert session.read(SchedulesById(tuple(each.id for each in schedules))) == tuple(schedules)

    def test_store_8_runs_come_back_equal(self, session: Session) -> None:
        full = a_run(
            1,
            state=RunState.DONE,
            kind=RunKind.BACKFILL,
            outcome=Outcome.LOST,
            reason="crashed",
            attempt=4,
            failures=2,
            losses=3,
            fence=(1 << 62) + 5,
            not_before_us=T0 + 7,
            started_us=T0 + 8,
            finished_us=T0 + 9,
            count=12,
            until_us=T0 + 10,
            covers=(T0, T0 + 1, T0 + 2),
            params={"x": [1, {"y": None}], "z": b"\x00"},
            result="",
            error="nul \0 and umbrella ☂ and quotes '\"",
        )
        empty = a_run(2, params={}, result="", error="", reason="")
        states = [a_run(10 + n, state=state) for n, state in enumerate(RunState)]
        outcomes = [done(a_run(20 + n), outcome=outcome) for n, outcome in enumerate(Outcome)]
        kinds = [a_run(30 + n, kind=kind, params={}) for n, kind in enumerate(RunKind)]
        runs = (full, empty, done(a_run(3), result=None), a_run(4, fire_us=-5), *states, *outcomes, *kinds)
        session.do(InsertRuns(runs))
        rows = tuple(run.row for run in runs)
        assert session.read(RunsByRow(rows)) == runs
        session.do(InsertAttempts((full_attempt := an_attempt(full, started_us=None, error="\0☂"),)))
        assert session.read(AttemptsOf(full.row)) == (full_attempt,)

    @pytest.mark.parametrize(
        "change",
        [
            {"state": RunState.PENDING, "attempt": 1, "failures": 1, "not_before_us": T0 + 5, "started_us": T0},
            {"state": RunState.DONE, "outcome": Outcome.CANCELLED, "reason": "requested", "finished_us": T0 + 9},
            {"handler_id": "other", "method": "else", "decided_us": T0 + 77, "kind": RunKind.MANUAL},
            RARE_AT_DEFAULT,
            {"run_key": b"another key.....", "schedule_id": "b", "fire_us": T0 + 5},
            RARE_AT_DEFAULT | ORDINARY_END,
            RARE_AT_DEFAULT | ORDINARY_END | {"result": None, "outcome": Outcome.FAILED},
            *({name: value} | ORDINARY_END for name, value in RARE.items()),
            ORDINARY_END | {"started_us": None},
            ORDINARY_END | {"outcome": None},
        ],
    )
    def test_store_8_an_update_replaces_the_whole_row(self, session: Session, change: dict[str, Any]) -> None:
        run = a_run(1, **(RARE if change.keys() >= RARE.keys() else {}))
        session.do(InsertRuns((run, a_run(2))))
        session.do(UpdateRuns((evolve(run, **change),), (1,)))
        assert session.read(RunsByRow((run.row,))) == (evolve(run, **change),)
        assert session.read(RunByKey(evolve(run, **change).run_key)) == (evolve(run, **change),)
        session.do(UpdateRuns((done(a_run(2)),), (1,)))
        assert session.read(RunsByRow((a_run(2).row,))) == (done(a_run(2)),)

    def test_store_8_an_update_cannot_take_the_key_of_another_run(self, session: Session) -> None:
        session.do(InsertRuns((a_run(1), a_run(2))))
        assert refused(session, UpdateRuns((a_run(2, run_key=a_run(1).run_key),), (1,))) == (a_run(2).row,)
        assert session.read(UnfinishedRuns()) == (a_run(1), a_run(2))

    @pytest.mark.parametrize("change", [{"error": "\ud800"}, {"fire_us": 1 << 70}, {"params": {"x": object()}}])
    def test_store_10_data_that_cannot_be_held_is_invalid_and_named(
        self, session: Session, change: dict[str, Any]
    ) -> None:
        """A store may hold more than another; what it cannot hold it names, and the rest is unharmed."""
        bad = a_run(2, **change)
        ops = [
            session.submit(InsertRuns((a_run(1),)), stream=1),
            session.submit(InsertRuns((a_run(3), bad, a_run(4))), stream=1),
            session.submit(InsertRuns((a_run(5),)), stream=2),
        ]
        assert reasons(session, [ops[0], ops[2]]) == [None, None]
        answer = session.answer(ops[1])
        stored = {run.row for run in session.read(UnfinishedRuns())}
        if isinstance(answer, WriteFailed):
            assert (answer.reason, answer.refused) == (INVALID, (bad.row,))
            assert str(bad.row) in answer.detail
            assert stored == {a_run(1).row, a_run(5).row}
        else:
            assert session.read(RunsByRow((bad.row,))) == (bad,)

    def test_store_9_the_latest_recorded_wall_time_is_known_to_the_next_life(self, session: Session) -> None:
        assert session.high_water_us == 0
        session.do(put(a_schedule("a", next_due_us=T0 + 1000 * MINUTE)))
        second = Session.begin(session.world, session.end())
        assert second.high_water_us == T0
        second.do(InsertRuns((a_run(5), a_run(4))), MoveCursors((a_move(a_schedule("a"), T0 + MINUTE, None),)))
        third = Session.begin(second.world, second.end())
        assert third.high_water_us == a_run(5).decided_us
        third.do(UpdateRuns((done(a_run(5), finished_us=T0 + 90 * MINUTE),), (1,)))
        third.do(DropRuns(1 << 60, 10))
        assert refused(third, InsertRuns((a_run(90), a_run(4)))) == (a_run(4).row,)
        assert Session.begin(third.world, third.end()).high_water_us == T0 + 90 * MINUTE

    # --- queries -------------------------------------------------------------------------------------------------

    def test_store_12_due_schedules_come_in_order_page_by_page(self, session: Session) -> None:
        dues = {"d": 3, "b": 1, "a": 3, "c": 2, "e": 9}
        schedules = {name: a_schedule(name, next_due_us=T0 + due) for name, due in dues.items()}
        session.do(put(*schedules.values(), a_schedule("never", next_due_us=None)))
        session.do(put(a_schedule("paused", next_due_us=T0 + 1, state=ScheduleState.PAUSED)))
        assert self.names(session.read(DueSchedules(T0 + 3, None, 10))) == ["b", "c", "a", "d"]
        assert self.names(session.read(DueSchedules(T0 + 3, None, 2))) == ["b", "c"]
        assert self.names(session.read(DueSchedules(T0 + 3, (T0 + 2, "c"), 2))) == ["a", "d"]
        assert self.names(session.read(DueSchedules(T0 + 9, (T0 + 3, "b"), 10))) == ["d", "e"]
        assert self.names(session.read(DueSchedules(T0 + 9, (T0 + 3, "d"), 0))) == []
        session.do(MoveCursors((a_move(schedules["b"], T0 + 1, T0 + 4), a_move(schedules["c"], T0 + 2, None))))
        session.do(edit(schedules["a"], state=ScheduleState.PARKED), edit(schedules["e"], next_due_us=T0 + 2))
        assert self.names(session.read(DueSchedules(T0 + 9, None, 10))) == ["e", "d", "b"]

    def test_store_12_a_refused_write_leaves_the_order_of_due_schedules(self, session: Session) -> None:
        a, b = a_schedule("a", next_due_us=T0 + 1), a_schedule("b", next_due_us=T0 + 2)
        session.do(put(a, b))
        moves = MoveCursors((a_move(a, T0 + 1, T0 + 9), a_move(b, T0 + 2, None), a_move(b, T0 + 2, None)))
        assert refused(session, edit(a, next_due_us=T0 + 7), moves) == ("a", "b")
        assert session.read(DueSchedules(T0 + 100, None, 10)) == (a, b)
        session.do(MoveCursors((a_move(a, T0 + 1, T0 + 9), a_move(b, T0 + 2, T0 + 8))))
        assert self.names(session.read(DueSchedules(T0 + 100, None, 10))) == ["b", "a"]

    def test_store_12_schedules_by_id_and_by_page(self, session: Session) -> None:
        states = (ScheduleState.ACTIVE, ScheduleState.PAUSED, ScheduleState.RETIRED)
        names = [f"s{n}" for n in range(9)]
        stored = [
            a_schedule(name, state=states[n % 3], source="api" if n > 5 else "config") for n, name in enumerate(names)
        ]
        session.do(put(*reversed(stored)))
        assert self.names(session.read(SchedulesById(("s3", "nobody", "s1", "s3")))) == ["s3", "s1", "s3"]
        assert self.names(session.read(SchedulesPage())) == names
        assert self.names(session.read(SchedulesPage(after_id="s2", limit=3))) == ["s3", "s4", "s5"]
        assert self.names(session.read(SchedulesPage(states=states[:2], source="config"))) == ["s0", "s1", "s3", "s4"]
        assert session.read(SchedulesPage(states=())) == ()
        assert session.read(ScheduleIds("config")) == ("s0", "s1", "s3", "s4")
        assert session.read(ScheduleIds("config", after_id="s1", limit=1)) == ("s3",)
        assert session.read(ScheduleIds("api")) == ("s6", "s7")

    def test_store_12_unfinished_runs_in_the_order_of_rows(self, session: Session) -> None:
        session.do(InsertRuns(tuple(a_run(n) for n in (5, 3, 1, 4, 2))))
        session.do(UpdateRuns((done(a_run(3)),), (1,)))
        assert session.read(UnfinishedRuns()) == tuple(a_run(n) for n in (1, 2, 4, 5))
        assert session.read(UnfinishedRuns(after_row=a_run(2).row, limit=1)) == (a_run(4),)
        assert session.read(RunsByRow((a_run(4).row, 77, a_run(3).row))) == (a_run(4), done(a_run(3)))
        assert session.read(RunByKey(b"no such key")) == ()
        assert session.read(AttemptsOf(77)) == ()

    def test_store_12_the_ledger_newest_first_with_filters(self, session: Session) -> None:
        runs = [a_run(n, fire_us=T0 + n // 2, schedule_id="ab"[n % 2]) for n in range(12)]
        for n in range(8):
            runs[n] = done(runs[n], outcome=Outcome.FAILED if n % 4 == 3 else Outcome.SUCCEEDED)
        session.do(InsertRuns(tuple(runs)))
        newest = list(reversed(runs))
        assert session.read(RunsPage()) == tuple(newest)
        assert session.read(RunsPage(limit=3)) == tuple(newest[:3])
        assert session.read(RunsPage(limit=3, before=(T0 + 4, runs[9].row))) == tuple(newest[3:6])
        assert session.read(RunsPage(schedule_id="a")) == tuple(run for run in newest if run.schedule_id == "a")
        assert session.read(RunsPage(state=RunState.LEASED)) == tuple(newest[:4])
        assert session.read(RunsPage(state=RunState.DONE, limit=2)) == tuple(newest[4:6])
        assert session.read(RunsPage(state=RunState.PENDING)) == ()
        assert session.read(RunsPage(outcome=Outcome.FAILED)) == (runs[7], runs[3])
        assert session.read(RunsPage(outcome=Outcome.SUCCEEDED, schedule_id="a", limit=1)) == (runs[6],)
        assert session.read(RunsPage(outcome=Outcome.FAILED, schedule_id="b", to_us=T0 + 3)) == (runs[3],)
        assert session.read(RunsPage(from_us=T0 + 2, to_us=T0 + 4)) == tuple(reversed(runs[4:8]))
        assert session.read(RunsPage(before=(T0 + 3, runs[7].row), from_us=T0 + 3)) == (runs[6],)
        assert session.read(RunsPage(state=RunState.LEASED, outcome=Outcome.FAILED)) == ()

    def test_store_12_the_ledger_in_numbers(self, session: Session) -> None:
        session.do(
            InsertRuns(
                (
                    done(a_run(1)),
                    done(a_run(2)),
                    done(a_run(3), outcome=Outcome.MISSED, reason="window", count=40),
                    a_run(4),
                    done(a_run(5, schedule_id="b"), reason="late"),
                )
            )
        )
        of_a = (
            ("a", RunState.DONE, Outcome.MISSED, "window", 40),
            ("a", RunState.DONE, Outcome.SUCCEEDED, "on_time", 2),
            ("a", RunState.LEASED, None, "on_time", 1),
        )
        assert session.read(LedgerCounts("a")) == of_a
        assert session.read(LedgerCounts()) == (*of_a, ("b", RunState.DONE, Outcome.SUCCEEDED, "late", 1))
        assert session.read(LedgerCounts("nobody")) == ()

    # --- restart -------------------------------------------------------------------------------------------------

    def test_store_11_what_was_closed_opens_with_all_of_it(self, session: Session) -> None:
        session.do(put(a_schedule("a")), InsertRuns((a_run(1), done(a_run(2)))))
        before = self.everything(session)
        assert self.everything(Session.begin(session.world, session.end())) == before

    @staticmethod
    def names(schedules: tuple[Schedule, ...]) -> list[str]:
        return [schedule.id for schedule in schedules]

    @staticmethod
    def everything(session: Session) -> tuple[Any, ...]:
        """All that the store holds."""
        runs: tuple[Run, ...] = session.read(RunsPage(limit=10_000))
        attempts = [session.read(AttemptsOf(run.row)) for run in runs]
        due = session.read(DueSchedules(1 << 60, None, 10_000))
        return session.read(SchedulesPage()), due, runs, session.read(UnfinishedRuns()), attempts


class DurableStoreContract(StoreContract):
    """Rules of a store that survives the death of its process and of its machine."""

    def test_store_11_what_was_answered_survives_a_crash(self, session: Session) -> None:
        session.do(put(a_schedule("a")))
        for number in range(30):
            session.do(InsertRuns((a_run(number),)))
        session.do(UpdateRuns((done(a_run(3)),), (1,)))
        before = self.everything(session)
        later = Session.begin(session.world, session.world.crashed(session.store))
        assert self.everything(later) == before
        assert later.term > session.term
        assert later.high_water_us == a_run(29).decided_us

    def test_store_11_a_crash_keeps_each_write_whole_or_not_at_all(self, session: Session) -> None:
        """SCHED-2: a run without its cursor's move would fire again, a move without its run would lose the fire."""
        start = a_schedule("a")
        session.do(put(start))
        cursor_us = start.cursor_us
        for number in range(1, 200):
            move = CursorMove("a", 1, cursor_us, T0 + number, T0 + number + 1)
            session.submit(InsertRuns((a_run(number),)), MoveCursors((move,)), stream=1)
            cursor_us = T0 + number
        session.answer(40)
        later = Session.begin(session.world, session.world.crashed(session.store))
        (stored,) = later.read(SchedulesById(("a",)))
        survived = stored.cursor_us - T0
        assert survived >= 39
        assert [run.row for run in later.read(UnfinishedRuns())] == [a_run(n).row for n in range(1, survived + 1)]


def an_attempt(run: Run, **changes: Any) -> Attempt:
    """A failed attempt of a run, the first unless said otherwise."""
    attempt = Attempt(run.row, 1, Outcome.FAILED, "error", run.fire_us, run.fire_us + SECOND, "it broke")
    return evolve(attempt, **changes) if changes else attempt
