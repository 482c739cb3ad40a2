"""stopping: time-outs, deadlines, requests, drains, and executions that will not stop (RUN-7, RUN-8, RUN-9)."""

import pytest

from sz_protocol.commands import Cancel, Done, Refusal, RefusalCode
from sz_protocol.definition import Overlap, OverlapPolicy, Retry
from sz_protocol.kernel.effects import CancelReason, CancelRun, Write
from sz_protocol.kernel.events import Commanded, FailReason, StopRequested, Woke, WriteFailed
from sz_protocol.kernel.now import SECOND_US, WakeReason, Wakeup
from sz_protocol.machines.execution import ExecutionState
from sz_protocol.notices import Ignored, RunUnresponsive
from sz_protocol.records import Outcome, RunState
from tests.protocol.execution_rig import Rig, lane, running
from tests.protocol.harness import at, every
from tests.protocol.machine_rig import row_of, waiting

QUEUE = Overlap(OverlapPolicy.QUEUE, 5)
RUN_ID = waiting().run_id


def woken(rig: Rig, seconds: float) -> None:
    rig.seconds = seconds
    rig.give(Woke())


def cancel(rig: Rig, run_id: str = RUN_ID, number: int = 7) -> None:
    rig.give(Commanded(number, Cancel(run_id)))


def ended(rig: Rig) -> list[tuple[str, str]]:
    return [(run.outcome or run.state, run.reason) for run in rig.written]


# --- time ------------------------------------------------------------------------------------------------------


def test_a_time_out_bounds_the_attempt_and_a_late_success_counts() -> None:
    rig = running()
    (start,) = rig.starts(60, of=every(60, timeout_us=5 * SECOND_US, retry=Retry(2)))
    assert start.deadline_us == at(65).mono_us
    assert rig.machine.next_wakeup(at(60)) == Wakeup(at(65).mono_us, WakeReason.DEADLINE)
    woken(rig, 65)
    assert rig.cancels == [CancelRun(start.row, 1, CancelReason.TIMEOUT)]
    rig.ends(start)
    assert ended(rig) == [("succeeded", "late")]


def test_a_time_out_is_a_failure_and_may_be_tried_again() -> None:
    rig = running()
    (start,) = rig.starts(60, of=every(60, timeout_us=5 * SECOND_US, retry=Retry(2)))
    woken(rig, 65)
    rig.ends(start, Outcome.CANCELLED)
    assert ended(rig) == [("pending", "")]


def test_the_deadline_bounds_all_attempts_and_ends_a_run_that_waits() -> None:
    rig = running()
    (start,) = rig.starts(60, of=every(60, deadline_us=8 * SECOND_US, retry=Retry(9, 60 * SECOND_US, 60 * SECOND_US)))
    rig.ends(start, Outcome.FAILED, "error")
    rig.durable()
    woken(rig, 68)
    assert ended(rig) == [("failed", "deadline")]


def test_run_1_a_time_out_comes_before_a_result_that_came_too_late_to_be_looked_at() -> None:
    rig = running()
    (start,) = rig.starts(60, of=every(60, timeout_us=5 * SECOND_US))
    rig.seconds = 66
    rig.ends(start, Outcome.FAILED, "error")
    assert ended(rig) == [("failed", "timeout")], "deadlines expire before the event is looked at"


# --- on demand -------------------------------------------------------------------------------------------------


def test_run_8_a_request_is_answered_when_the_end_is_durable() -> None:
    rig = running()
    (start,) = rig.starts(60)
    cancel(rig)
    assert (rig.cancels, rig.answers) == ([CancelRun(start.row, 1, CancelReason.REQUESTED)], {})
    rig.ends(start, Outcome.CANCELLED)
    assert ended(rig) == [("cancelled", "requested")]
    rig.durable()
    assert rig.answers == {7: Done(RUN_ID)}


def test_run_8_who_asked_too_late_is_told_how_it_ended() -> None:
    rig = running()
    (start,) = rig.starts(60)
    cancel(rig)
    rig.ends(start)
    rig.durable()
    assert rig.answers == {7: Refusal(RefusalCode.WRONG_STATE, f"run {RUN_ID} ended first: succeeded")}


def test_run_7_what_is_on_its_way_to_the_store_ends_when_the_answer_is_there() -> None:
    rig = running()
    rig.fires(60)
    (write,) = rig.of(Write)
    cancel(rig)
    assert rig.effects == []
    rig.effects = [write]
    rig.durable()
    assert rig.started == [], "never started"
    assert ended(rig) == [("cancelled", "requested")]
    rig.durable()
    assert rig.answers == {7: Done(RUN_ID)}


def test_run_8_of_a_run_that_was_never_stored_one_has_to_ask_again() -> None:
    rig = running()
    rig.fires(60)
    (write,) = rig.of(Write)
    cancel(rig)
    rig.give(WriteFailed(write.op, FailReason.UNAVAILABLE))
    refusal = rig.answers[7]
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.CONFLICT


@pytest.mark.parametrize("run_id", ["", "no hexadecimal", "00" * 16])
def test_what_does_not_run_cannot_be_stopped(run_id: str) -> None:
    rig = running()
    rig.starts(60)
    cancel(rig, run_id)
    refusal = rig.answers[7]
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.UNKNOWN_RUN


def test_a_stronger_reason_replaces_a_weaker_one_and_nobody_is_asked_twice() -> None:
    rig = running()
    (start,) = rig.starts(60, of=every(60, timeout_us=5 * SECOND_US, retry=Retry(3)))
    woken(rig, 65)
    assert len(rig.cancels) == 1
    cancel(rig)
    assert rig.cancels == []
    rig.ends(start, Outcome.CANCELLED)
    assert ended(rig) == [("cancelled", "requested")], "no other attempt follows"


# --- executions that will not stop -----------------------------------------------------------------------------


def test_what_will_not_stop_is_recorded_without_it_and_keeps_slot_and_lane_until_it_ends() -> None:
    rig, queued = running(), lane(QUEUE, timeout_us=5 * SECOND_US, retry=Retry(3))
    (start,) = rig.starts(60, of=queued)
    rig.fires(120, of=queued)
    rig.durable()
    woken(rig, 65)
    assert rig.machine.next_wakeup(at(65)) == Wakeup(at(75).mono_us, WakeReason.DEADLINE), "the grace"
    woken(rig, 75)
    assert rig.notices == [RunUnresponsive(start.row, "s", 1)]
    assert ended(rig) == [("failed", "timeout")]
    rig.durable()
    assert rig.started == [], "the next in the lane waits: it is still executing"
    rig.ends(start)
    assert isinstance(rig.notices[0], Ignored)
    assert [run.row for run in rig.written] == [row_of(2)], "now it is claimed"


# --- the drain -------------------------------------------------------------------------------------------------


def draining(rig: Rig, grace_s: float = 10) -> None:
    rig.give(StopRequested(round(grace_s * SECOND_US)))


def test_a_drain_with_nothing_to_do_is_over_at_once() -> None:
    rig = running()
    draining(rig)
    assert rig.stopped
    assert rig.machine.state is ExecutionState.STOPPED


def test_run_9_what_executes_may_end_and_its_outcome_is_written_first() -> None:
    rig = running()
    (start,) = rig.starts(60)
    draining(rig)
    assert not rig.stopped
    rig.ends(start)
    assert (ended(rig), rig.stopped) == ([("succeeded", "on_time")], False)
    rig.durable()
    assert rig.stopped


def test_run_9_nothing_new_starts_and_what_was_claimed_for_nothing_is_given_back() -> None:
    rig = running()
    rig.fires(60)
    (write,) = rig.of(Write)
    draining(rig)
    rig.effects = [write]
    rig.durable()
    assert rig.started == []
    assert [(run.state, run.attempt) for run in rig.written] == [(RunState.PENDING, 0)]
    rig.durable()
    assert rig.stopped


def test_run_9_after_the_grace_it_is_cancelled_then_recorded_without_it_then_left() -> None:
    rig = running()
    (start,) = rig.starts(60)
    draining(rig, grace_s=10)
    woken(rig, 70)
    assert rig.cancels == [CancelRun(start.row, 1, CancelReason.SHUTDOWN)]
    woken(rig, 72.5)
    assert rig.notices == [RunUnresponsive(start.row, "s", 1)]
    assert ended(rig) == [("pending", "")], "at least once: to be repeated by the next life"
    assert not rig.stopped
    woken(rig, 74)
    assert rig.stopped, "whatever the store does"


def test_run_9_a_second_wish_may_only_make_the_drain_shorter() -> None:
    rig = running()
    rig.starts(60)
    draining(rig, grace_s=10)
    draining(rig, grace_s=60)
    assert rig.machine.next_wakeup(at(60)) == Wakeup(at(70).mono_us, WakeReason.DEADLINE)
    draining(rig, grace_s=1)
    assert rig.machine.next_wakeup(at(60)) == Wakeup(at(61).mono_us, WakeReason.DEADLINE)


def test_nothing_is_wanted_of_a_node_that_drains() -> None:
    rig = running()
    rig.starts(60)
    draining(rig)
    rig.fires(120)
    assert rig.written[0].state is not RunState.LEASED
