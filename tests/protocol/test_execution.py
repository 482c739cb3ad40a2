"""execution: from due instants to executions, and from executions to outcomes (RUN-1 to RUN-7, PLACE-1, FIRE-1)."""

import pytest
from attrs import evolve

from sz_protocol.changes import InsertAttempts, InsertRuns, MoveCursors, UpdateRuns
from sz_protocol.commands import Cancel, Done, Refusal, RefusalCode
from sz_protocol.definition import Misfire, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.kernel.effects import CancelReason, CancelRun, Read, Write
from sz_protocol.kernel.events import (
    Commanded,
    FailReason,
    FiringsSettled,
    FiringsUndone,
    HandlersChanged,
    MethodInfo,
    ParkWanted,
    ReadDone,
    RunsFound,
    RunsRecovered,
    RunsReturned,
    RunWanted,
    Woke,
    WriteDone,
    WriteFailed,
)
from sz_protocol.kernel.now import SECOND_US, WakeReason, Wakeup
from sz_protocol.machines.execution import ExecutionState
from sz_protocol.notices import AttemptFailed, Ignored, RunsRecorded, SteppedDown
from sz_protocol.records import Outcome, Reason, Run, RunKind, RunState, ScheduleState
from tests.protocol.execution_rig import Rig, lane, recovering, running
from tests.protocol.harness import at, every
from tests.protocol.machine_rig import METHODS, TERM, leased, row_of, stored, waiting

QUEUE, ALLOW = OverlapPolicy.QUEUE, OverlapPolicy.ALLOW


def states(runs: list[Run]) -> list[tuple[str, str]]:
    """(state or outcome, reason) of each row."""
    return [(run.outcome or run.state, run.reason) for run in runs]


# --- from due instants to rows ---------------------------------------------------------------------------------


def test_sched_2_run_4_a_due_instant_is_a_claimed_row_with_its_cursor_and_starts_when_that_is_durable() -> None:
    rig = running()
    (write,) = rig.fires(60)
    assert isinstance(write, Write)
    rows, cursors = write.changes
    assert isinstance(rows, InsertRuns)
    assert isinstance(cursors, MoveCursors)
    (row,) = rows.runs
    assert (row.state, row.attempt, row.fence, row.row) == (RunState.LEASED, 1, row_of(1), row_of(1)), "one write"
    rig.durable()
    (start,) = rig.started
    assert (start.row, start.attempt, start.fence, start.run_id) == (row_of(1), 1, row_of(1), row.run_id)
    assert rig.machine.outbox == [FiringsSettled()]
    assert rig.notices == [RunsRecorded((row,))]


@pytest.mark.parametrize(
    ("overlap", "rows"),
    [
        (None, [("leased", ""), ("skipped", "overlap")]),
        (Overlap(QUEUE, 1), [("leased", ""), ("pending", ""), ("skipped", "queue_full")]),
        (Overlap(ALLOW, 2), [("leased", ""), ("leased", ""), ("skipped", "overlap")]),
        (Overlap(OverlapPolicy.CANCEL_RUNNING), [("leased", ""), ("pending", "")]),
    ],
)
def test_place_1_what_overlap_makes_of_an_instant_beside_running_ones(
    overlap: Overlap | None, rows: list[tuple[str, str]]
) -> None:
    rig = running()
    rig.fires(*(60 * n for n in range(1, len(rows) + 1)), of=lane(overlap))
    assert states(rig.written) == rows


def test_place_1_cancel_running_stops_the_old_one_once_the_new_one_is_durable() -> None:
    rig, definition = running(), lane(Overlap(OverlapPolicy.CANCEL_RUNNING))
    (old,) = rig.starts(60, of=definition)
    rig.fires(120, of=definition)
    assert rig.cancels == []
    rig.durable()
    assert rig.cancels == [CancelRun(old.row, 1, CancelReason.SUPERSEDED)]
    rig.ends(old, Outcome.CANCELLED)
    assert states(rig.written)[0] == ("cancelled", "superseded")


def test_what_policy_decided_already_is_only_written_down() -> None:
    rig = running()
    rig.fires(60, outcome=Outcome.SKIPPED, reason=Reason.COALESCED, count=3, until_us=at(180).utc_us)
    (row,) = rig.written
    assert (row.state, row.outcome, row.count, row.finished_us) == (RunState.DONE, Outcome.SKIPPED, 3, at(60).utc_us)
    rig.durable()
    assert rig.started == []


def test_place_2_where_no_slot_is_free_a_run_waits_and_follows_in_its_order() -> None:
    rig = running()
    first, _ = rig.starts(60, of=lane(id="a")) + rig.starts(60, of=lane(id="b"))
    rig.fires(60, of=lane(id="c"))
    assert states(rig.written) == [("pending", "")]
    rig.durable()
    rig.ends(first)
    saved, claimed = rig.of(Write)
    assert saved.changes[0].runs[0].outcome is Outcome.SUCCEEDED
    assert claimed.changes == (UpdateRuns((rig.machine.table.runs[row_of(3)],), (0,)),)
    rig.give(WriteDone(claimed.op))
    (start,) = rig.started
    assert (start.row, start.fence) == (row_of(3), row_of(4)), "the fence grows from claim to claim"


def test_place_3_a_lane_that_becomes_wider_lets_those_go_first_who_waited_in_it() -> None:
    """As in seed 4102: one waited for its turn when the schedule was changed to allow three at once."""
    rig = running()
    rig.starts(60, of=lane(Overlap(QUEUE, 1)))
    rig.starts(120, of=lane(Overlap(QUEUE, 1)))
    rig.fires(180, of=lane(Overlap(ALLOW, 3)))
    inserted, claimed = rig.of(Write)
    assert [(run.row, run.state) for run in inserted.changes[0].runs] == [(row_of(3), RunState.PENDING)]
    assert [(run.row, run.state) for run in claimed.changes[0].runs] == [(row_of(2), RunState.LEASED)]


def test_place_3_who_comes_later_is_not_claimed_before_one_that_has_its_slot_already() -> None:
    """As in seed 4168: a handler came while the row of the first was on its way to the store."""
    rig = running(HandlersChanged((), ()))
    definition = lane(Overlap(ALLOW, 2))
    (first,) = rig.fires(60, of=definition)
    rig.give(METHODS)
    (second,) = rig.fires(120, of=definition)
    assert isinstance(first, Write)
    assert isinstance(second, Write)
    assert states(rig.written) == [("pending", "")]
    rig.give(WriteDone(first.op))
    assert [(run.row, run.state) for run in rig.written] == [(row_of(1), RunState.LEASED)]
    rig.give(WriteDone(second.op))
    assert [(run.row, run.state) for run in rig.written] == [(row_of(2), RunState.LEASED)]


def test_policy_6_catch_up_runs_with_a_rate_wait_for_their_turn() -> None:
    rig = running()
    definition = lane(Overlap(ALLOW, 2), misfire=Misfire(MisfirePolicy.ALL, rate_per_s=0.5))
    rig.fires(60, 120, of=definition, reason=Reason.CATCH_UP, queued=True)
    rig.durable()
    assert [run.state for run in rig.written] == [RunState.LEASED], "the first is claimed"
    rig.durable()
    assert rig.machine.next_wakeup(at(60)) == Wakeup(at(62).mono_us, WakeReason.DEADLINE)
    rig.seconds = 62
    rig.give(Woke())
    assert [run.row for run in rig.written] == [row_of(2)]


def test_policy_6_a_run_that_came_back_unbegun_waits_out_its_pause_whatever_the_rate() -> None:
    rig = running()
    (start,) = rig.starts(60, of=lane(misfire=Misfire(max=1, rate_per_s=5.0)))
    rig.give(RunsReturned(((start.row, start.attempt),), "busy"))
    rig.durable()
    until_us = at(60).mono_us + rig.machine.settings.return_pause_us
    assert rig.machine.next_wakeup(at(60)) == Wakeup(until_us, WakeReason.DEADLINE)


# --- the store says no -----------------------------------------------------------------------------------------


def test_fire_1_a_row_that_exists_already_is_left_out_when_its_slice_is_decided_anew() -> None:
    rig = running()
    (write,) = rig.fires(60)
    assert isinstance(write, Write)
    rig.give(WriteFailed(write.op, FailReason.REFUSED, (row_of(1),)))
    assert rig.machine.outbox == [FiringsUndone(("s",), unavailable=False)]
    assert rig.machine.table.runs == {}
    rig.fires(60)
    assert rig.written == [], "only the cursor moves"


@pytest.mark.parametrize("reason", [FailReason.UNAVAILABLE, FailReason.PREVIOUS])
def test_a_slice_that_was_not_taken_is_undone_whole(reason: FailReason) -> None:
    rig = running()
    (write,) = rig.fires(60)
    assert isinstance(write, Write)
    rig.give(WriteFailed(write.op, reason))
    assert rig.machine.outbox == [FiringsUndone(("s",), unavailable=reason is FailReason.UNAVAILABLE)]
    assert rig.started == []
    assert len(rig.starts(60)) == 1, "its slot is free again"


def test_a_schedule_whose_rows_the_store_cannot_hold_stands_still_alone() -> None:
    rig = running()
    (write,) = rig.fires(60)
    assert isinstance(write, Write)
    rig.give(WriteFailed(write.op, FailReason.INVALID, (row_of(1),), "too long"))
    assert rig.machine.outbox[1] == ParkWanted(
        ("s",), ScheduleState.QUARANTINED, "the store cannot hold its rows: too long"
    )


def test_run_4_a_claim_that_may_be_durable_starts_only_what_the_store_has() -> None:
    rig = running()
    first, _ = rig.starts(60, of=lane(id="a")) + rig.starts(60, of=lane(id="b"))
    rig.fires(60, of=lane(id="c"))
    rig.durable()
    rig.ends(first)
    claim = rig.of(Write)[1]
    claimed = rig.machine.table.runs[row_of(3)]
    rig.give(WriteFailed(claim.op, FailReason.UNKNOWN))
    assert rig.started == []
    rig.seconds = 61
    rig.give(Woke())
    (read,) = rig.of(Read)
    rig.give(ReadDone(read.op, (claimed,)))
    assert [start.row for start in rig.started] == [row_of(3)]


def test_a_term_that_is_over_stops_everything_at_once() -> None:
    rig = running()
    (start,) = rig.starts(60)
    rig.give(WriteFailed(99, FailReason.FENCED))
    assert rig.notices == [SteppedDown(TERM)]
    assert rig.cancels == [CancelRun(start.row, 1, CancelReason.SHUTDOWN)]
    assert rig.stopped
    assert rig.machine.state is ExecutionState.STOPPED
    assert rig.ends(start) == []


# --- results ---------------------------------------------------------------------------------------------------


def test_run_1_run_5_an_outcome_is_written_and_told_when_it_is_durable() -> None:
    rig = running()
    (start,) = rig.starts(60)
    rig.ends(start, result="7")
    (row,) = rig.written
    assert (row.outcome, row.result) == (Outcome.SUCCEEDED, "7")
    assert rig.machine.table.runs == {}, "its slot and its lane are free at once"
    assert rig.notices == [], "nothing is told before it is durable"
    rig.durable()
    assert rig.notices == [RunsRecorded((row,))]


@pytest.mark.parametrize(
    "wrong",
    [(row_of(9), 1), (row_of(1), 2), (row_of(1), 0)],
    ids=["no such run", "a later attempt", "an earlier attempt"],
)
def test_run_2_a_result_that_matches_no_execution_is_ignored_and_told(wrong: tuple[int, int]) -> None:
    rig = running()
    (start,) = rig.starts(60)
    rig.ends(evolve(start, row=wrong[0], attempt=wrong[1]))
    assert rig.written == []
    assert [type(notice) for notice in rig.notices] == [Ignored]
    rig.ends(start)
    assert len(rig.written) == 1


def test_run_1_the_same_result_a_second_time_changes_nothing() -> None:
    rig = running()
    (start,) = rig.starts(60)
    rig.ends(start)
    rig.ends(start, Outcome.FAILED)
    assert rig.written == []
    assert isinstance(rig.notices[0], Ignored)


def test_run_3_a_failure_waits_out_its_back_off_in_its_lane_and_is_claimed_anew() -> None:
    rig = running()
    (start,) = rig.starts(60, of=every(60, retry=Retry(2, base_us=4 * SECOND_US)))
    rig.ends(start, Outcome.FAILED, "error", error="boom")
    update, attempts = rig.of(Write)[0].changes
    assert isinstance(attempts, InsertAttempts)
    (told,) = rig.notices
    assert isinstance(told, AttemptFailed)
    assert (told.attempt, told.error) == (1, "boom")
    assert update.runs[0].state is RunState.PENDING
    rig.durable()
    wakeup = rig.machine.next_wakeup(at(60))
    assert wakeup is not None
    assert at(60).mono_us < wakeup.at_us <= at(64).mono_us
    rig.seconds = 64
    rig.give(Woke())
    rig.durable()
    (again,) = rig.started
    assert (again.row, again.attempt, again.run_id) == (start.row, 2, start.run_id)
    assert again.fence > start.fence


# --- recovery --------------------------------------------------------------------------------------------------


def test_run_6_nothing_is_claimed_before_the_last_life_is_settled() -> None:
    rig = recovering()
    rig.fires(60)
    assert states(rig.written) == [("pending", "")]
    rig.durable()
    assert rig.written == []
    rig.give(RunsRecovered())
    assert states(rig.written) == [("leased", "")]


@pytest.mark.parametrize(
    ("semantics", "expected"),
    [(Semantics.AT_LEAST_ONCE, ("pending", "")), (Semantics.AT_MOST_ONCE, ("lost", "crashed"))],
)
def test_run_6_pain_7_a_run_that_was_under_way_is_repeated_or_lost(
    semantics: Semantics, expected: tuple[str, str]
) -> None:
    rig = recovering()
    rig.give(RunsFound((leased(),), (stored(every(60, semantics=semantics)),)))
    assert states(rig.written) == [expected]
    assert rig.started == []


def test_run_6_a_run_that_waited_goes_on_and_holds_its_place_in_the_lane() -> None:
    rig = recovering()
    rig.give(RunsFound((waiting(),), (stored(),)))
    assert rig.written == []
    rig.give(RunsRecovered())
    assert states(rig.written) == [("leased", "")]
    rig.fires(120)
    assert states(rig.written) == [("skipped", "overlap")]


# --- what people want ------------------------------------------------------------------------------------------


def wanted(rig: Rig) -> None:
    run = waiting(0, kind=RunKind.MANUAL, reason="manual", row=0)
    rig.give(RunWanted(7, run, None))


def test_a_run_on_demand_is_answered_when_it_is_durable() -> None:
    rig = running()
    wanted(rig)
    (row,) = rig.written
    assert (row.state, row.row, row.attempt, row.fence, rig.answers) == (RunState.LEASED, row_of(1), 1, row_of(1), {})
    assert rig.started == []
    rig.durable()
    assert rig.answers == {7: Done(row.run_id)}
    assert [start.row for start in rig.started] == [row.row]


def test_a_run_on_demand_that_finds_no_slot_waits_for_one() -> None:
    rig = running(HandlersChanged((MethodInfo("h", "m", "pool"),), (("pool", 1),)))
    (first,) = rig.starts(60)
    wanted(rig)
    assert states(rig.written) == [("pending", "manual")]
    rig.durable()
    assert rig.started == []
    rig.ends(first)
    assert ("leased", "manual") in states(rig.written)


def test_place_3_a_run_on_demand_is_not_claimed_before_one_that_has_its_slot_already() -> None:
    rig, definition = running(HandlersChanged((), ())), lane(Overlap(ALLOW, 2))
    rig.fires(60, of=definition)
    rig.give(METHODS)
    run = waiting(0, kind=RunKind.MANUAL, reason="manual", row=0)
    rig.give(RunWanted(7, run, stored(definition)))
    assert states(rig.written) == [("pending", "manual")]


def test_run_7_a_run_on_demand_that_is_cancelled_on_its_way_to_the_store_does_not_begin() -> None:
    rig = running()
    wanted(rig)
    (row,), (write,) = rig.written, rig.of(Write)
    rig.give(Commanded(8, Cancel(row.run_id)))
    rig.give(WriteDone(write.op))
    assert rig.started == []
    assert states(rig.written) == [("cancelled", "requested")]


def test_the_same_key_a_second_time_is_answered_with_the_first_run() -> None:
    rig = running()
    wanted(rig)
    (row,) = rig.written
    rig.give(WriteFailed(rig.of(Write)[0].op, FailReason.REFUSED, (row.row,)))
    assert rig.answers == {7: Done(row.run_id)}
    assert rig.machine.table.runs == {}


def test_a_store_that_cannot_take_it_is_named() -> None:
    rig = running()
    wanted(rig)
    rig.give(WriteFailed(rig.of(Write)[0].op, FailReason.UNAVAILABLE, detail="disk full"))
    assert rig.answers == {7: Refusal(RefusalCode.UNAVAILABLE, "the store could not take the run: disk full")}


# --- methods come and go ---------------------------------------------------------------------------------------


def test_place_2_a_method_has_a_limit_of_its_own() -> None:
    rig = running(HandlersChanged((MethodInfo("h", "m", "pool", concurrency=1),), (("pool", 9),)))
    rig.fires(60, of=lane(id="a"))
    assert states(rig.written) == [("leased", "")]
    rig.fires(60, of=lane(id="b"))
    assert states(rig.written) == [("pending", "")]


def test_a_run_waits_for_a_method_that_is_not_here() -> None:
    rig = running(HandlersChanged((), ()))
    rig.fires(60)
    rig.durable()
    assert rig.started == []
    rig.give(HandlersChanged((MethodInfo("h", "m", "pool"),), (("pool", 1),)))
    assert states(rig.written) == [("leased", "")]
