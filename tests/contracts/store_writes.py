"""What every store owes the node: order, atomicity, streams, fences, compare-and-set (STORE-1 to STORE-7)."""

import pytest
from attrs import evolve

from sz_protocol.changes import CursorMove, DropRuns, InsertAttempts, InsertRuns, MoveCursors, PutSchedules, UpdateRuns
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import FailReason, ReadDone, WriteDone, WriteFailed
from sz_protocol.queries import AttemptsOf, RunByKey, RunsByRow, RunsPage, SchedulesById, UnfinishedRuns
from sz_protocol.records import Outcome, RunState, ScheduleState
from tests.contracts.store_world import (
    MINUTE,
    SECOND,
    T0,
    Session,
    a_move,
    a_run,
    a_schedule,
    an_attempt,
    done,
    edit,
    everything,
    put,
    reasons,
    refused,
)

FENCED = FailReason.FENCED
PREVIOUS = FailReason.PREVIOUS
REFUSED = FailReason.REFUSED


class WriteContract:
    """Rules of writing."""

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
        before = everything(session)
        moves = MoveCursors((a_move(a, T0 + MINUTE, None), a_move(b, T0 + MINUTE, T0 + 2 * MINUTE)))
        again = InsertRuns((a_run(2), a_run(1), a_run(3)))
        drop = DropRuns(before_us=1 << 60, limit=10)
        ended = UpdateRuns((done(a_run(1)),), (1,))
        more = InsertAttempts((an_attempt(a_run(1)), an_attempt(a_run(9))))
        assert refused(session, put(a_schedule("c")), ended, more, drop, put(a)) == ("a",)
        assert refused(session, moves, put(a_schedule("c")), more, again) == (a_run(1).row,)
        assert refused(session, again, moves, ended) == (a_run(1).row,)
        assert refused(session, edit(a, cursor_us=T0 + 5), moves) == ("a",)
        assert everything(session) == before

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
        # The fence is looked at first: an old life learns from each of its writes that it is over.
        another = later.submit(InsertRuns((a_run(4),)), stream=1, fence=session.term)
        assert reasons(later, [old, after, future, another]) == [FENCED, PREVIOUS, FENCED, FENCED]
        assert later.read(UnfinishedRuns()) == ()

    def test_store_5_a_write_without_changes_tells_whether_the_term_is_over(self, session: Session) -> None:
        later = Session.begin(session.world, session.end())
        ops = [later.submit(), later.submit(fence=session.term)]
        assert reasons(later, ops) == [None, FENCED]

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

    def test_store_2_retention_takes_nothing_that_the_same_write_leaves_after_it(self, session: Session) -> None:
        old, going = done(a_run(1)), a_run(2)
        ended, late = done(going), done(a_run(3))
        drop = DropRuns(before_us=1 << 60, limit=2)
        session.do(InsertRuns((old, going)), InsertAttempts((an_attempt(old),)))
        session.do(drop, UpdateRuns((ended,), (1,)))
        assert session.read(RunsPage()) == (ended,)
        session.do(drop, InsertRuns((late,)), InsertAttempts((an_attempt(late),)))
        assert session.read(RunsPage()) == (late,)
        assert session.read(AttemptsOf(late.row)) == (an_attempt(late),)

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
