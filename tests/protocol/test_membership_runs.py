"""The server's side of remote handlers: runs on their way. MEMB-5 to MEMB-9, and the ends of runs (specs/remote.md)."""

import pytest
from attrs import evolve

from sz_protocol.commands import ListHandlers, RunNote
from sz_protocol.kernel.effects import CancelReason
from sz_protocol.kernel.events import (
    Commanded,
    LeasedRun,
    ResultsSettled,
    RunsFinished,
    StopAssigned,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.leases import BATCH, weigh
from sz_protocol.messages import (
    Accept,
    Ack,
    AckCode,
    DispatchedRun,
    HeldRun,
    OfferedMethod,
    Progress,
    Refuse,
    RefuseCode,
    RejectCode,
    ResultAck,
    RunRef,
    Stop,
)
from sz_protocol.notices import HandlerLost, HandlerRegistered, Ignored, RunProgressed
from sz_protocol.records import CLAIMS_PER_TERM, MOST_ERROR, MOST_RESULT, Outcome, Reason
from tests.protocol.harness import T0_US
from tests.protocol.remote_rig import REMOTE, Desk, Remote, held, ref

LEFT = LeasedRun("h", 5, 2, 77)


def sent(desk: Desk, count: int = 1, **more: object) -> tuple[Remote, list[DispatchedRun]]:
    """A handler that was handed so many runs."""
    handler = Remote(desk).join()
    desk.assign("h", count, **more)
    handler.take()
    assert len(handler.runs) == count
    return handler, handler.runs


# --- a run's way -----------------------------------------------------------------------------------------------


def test_a_run_is_dispatched_accepted_reported_settled_and_acknowledged() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    (start,) = desk.assign("h", params={"x": 1}, at_most_once=True, exclusive=True)
    handler.take()
    (run,) = handler.runs
    assert run == DispatchedRun(
        start.row, 1, CLAIMS_PER_TERM + 1, start.fence, start.run_id, "s", "m", T0_US, params={"x": 1},
        at_most_once=True, exclusive=True,
    )  # fmt: skip
    assert handler.accept(run) == []
    assert handler.report(run, result="42") == [], "MEMB-8: nothing before it is settled"
    assert desk.ends() == {(1, 1): "succeeded"}
    desk.settle_results()
    assert handler.acks() == [Ack(1, 1, AckCode.OK)]
    assert not desk.machine.leases.all


def test_a_batch_travels_in_one_message_and_is_acknowledged_in_one() -> None:
    desk = Desk()
    handler, runs = sent(desk, 10)
    assert len([message for message in handler.got if type(message).__name__ == "Dispatch"]) == 1
    for run in runs:
        handler.report(run)
    desk.settle_results()
    handler.take()
    assert isinstance(handler.got[-1], ResultAck)
    assert len(handler.got[-1].acks) == 10


def test_a_dispatch_holds_no_more_runs_than_fit() -> None:
    desk = Desk()
    handler = Remote(desk, slots=1000).join()
    desk.assign("h", 600)
    handler.take()
    assert [len(m.runs) for m in handler.got if hasattr(m, "runs")] == [BATCH, BATCH, 600 - 2 * BATCH]
    handler.got.clear()
    desk.assign("h", 5, params={"text": "x" * 600_000})
    handler.take()
    assert [len(m.runs) for m in handler.got if hasattr(m, "runs")] == [1, 1, 1, 1, 1]


def test_a_run_that_fits_into_no_frame_fails_at_once() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    desk.assign("h", params={"text": "x" * 4_000_000})
    assert handler.take() == []
    (told,) = [told for told in desk.told if isinstance(told, RunsFinished)]
    (result,) = told.results
    assert (result.outcome, result.reason, result.retryable) == (Outcome.FAILED, Reason.INVALID_PARAMS, False)


@pytest.mark.parametrize(
    ("value", "most"),
    [({}, 5), ("ab", 7), ("ü", 9), ([1, 2.5, None], 32), ({"a": [True]}, 25), ({"a": {"b": "c"}}, 28)],
)
def test_a_value_is_never_heavier_than_it_is_weighed(value: object, most: int) -> None:
    msgpack = pytest.importorskip("msgpack")
    assert len(msgpack.packb(value)) <= weigh(value) <= most


def test_a_run_for_a_handler_that_is_not_here_comes_back() -> None:
    desk = Desk()
    desk.assign("nobody")
    handler = Remote(desk).join()
    handler.drain()
    desk.assign("h")
    assert list(desk.ends().values()) == ["returned", "returned"]


def test_the_timeout_that_is_sent_is_what_is_left() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    desk.assign("h", deadline_us=desk.now.mono_us + 5 * SECOND_US)
    handler.take()
    assert handler.runs[0].timeout_us == 5 * SECOND_US


# --- MEMB-5: credit --------------------------------------------------------------------------------------------


def test_memb_5_what_exceeds_the_credit_waits_in_order() -> None:
    desk = Desk()
    handler = Remote(desk)
    handler.hello()
    handler.beat(granted=2)
    desk.assign("h", 5)
    handler.take()
    assert [run.row for run in handler.runs] == [1, 2]
    handler.beat(granted=3)
    handler.beat(granted=2)
    assert [run.row for run in handler.runs] == [1, 2, 3], "it never shrinks"
    handler.slots = 3
    handler.report(handler.runs[0])
    assert [run.row for run in handler.runs] == [1, 2, 3, 4], "a result brings credit with it"
    handler.beat(granted=9)
    assert [run.row for run in handler.runs] == [1, 2, 3, 4, 5]


def test_memb_5_a_refused_run_has_taken_its_credit() -> None:
    desk = Desk()
    handler = Remote(desk)
    handler.hello()
    handler.beat(granted=1)
    desk.assign("h", 2)
    handler.take()
    handler.refuse(handler.runs[0])
    assert len(handler.runs) == 1
    handler.beat(granted=2)
    assert len(handler.runs) == 2


def test_memb_5_a_run_that_waits_too_long_for_credit_comes_back() -> None:
    desk = Desk()
    handler = Remote(desk)
    handler.hello()
    handler.beat(granted=1)
    desk.assign("h", 2)
    for _ in range(10):
        desk.advance(1)
        handler.beat(granted=1)
    assert desk.ends() == {(2, 1): "returned"}


def test_memb_5_a_run_that_waited_for_credit_in_two_sessions_comes_back_once_when_the_server_stood_still() -> None:
    """As in seed 2713: both waits were over at once."""
    desk = Desk()
    handler = Remote(desk)
    for _ in range(2):
        handler.hello()
        handler.beat(granted=0)
        if not desk.rows:
            desk.assign("h")
        desk.advance(1)
    desk.pass_us(30 * SECOND_US)
    desk.give(Woke())
    assert desk.ends() == {(1, 1): "returned"}


def test_memb_5_a_run_that_a_new_session_did_not_begin_waits_the_whole_time_again() -> None:
    desk = Desk()
    handler, _ = sent(desk)
    desk.advance(3)
    handler.hello()
    for _ in range(9):
        handler.beat(granted=0)
        desk.advance(1)
    assert not desk.ends()
    handler.beat(granted=0)
    desk.advance(1)
    assert desk.ends() == {(1, 1): "returned"}


def test_memb_5_a_run_whose_time_is_over_before_it_could_be_sent_comes_back() -> None:
    desk = Desk()
    handler = Remote(desk)
    handler.hello()
    handler.beat(granted=0)
    desk.assign("h", deadline_us=desk.now.mono_us + SECOND_US)
    desk.advance(1)
    handler.beat(granted=1)
    assert desk.ends() == {(1, 1): "returned"}
    assert not handler.runs


def test_memb_5_each_session_counts_anew() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.accept(run)
    handler.slots = 1
    handler.join(executing=(held(run),))
    desk.assign("h", 2)
    handler.take()
    assert len(handler.runs) == 2
    assert desk.seen(HandlerRegistered)[-1].adopted == 1


# --- MEMB-7: repetition ----------------------------------------------------------------------------------------


def test_memb_7_a_dispatch_that_is_not_answered_is_repeated_under_a_higher_delivery() -> None:
    desk = Desk()
    handler, runs = sent(desk, 2)
    handler.accept(runs[0])
    handler.beat_for(3)
    assert [run.row for run in handler.runs] == [1, 2, 2]
    again = handler.runs[2]
    assert again.delivery > runs[1].delivery
    assert evolve(again, delivery=0) == evolve(runs[1], delivery=0)
    handler.accept(runs[1])
    handler.beat_for(10)
    assert len(handler.runs) == 3, "an answer to an earlier delivery is as good"


def test_memb_7_what_was_sent_in_two_sessions_is_repeated_once_at_a_time() -> None:
    desk = Desk()
    handler, _ = sent(desk)
    desk.advance(1)
    handler.join()
    assert len(handler.runs) == 2
    desk.pass_us(30 * SECOND_US)
    desk.give(Woke())
    handler.take()
    assert len(handler.runs) == 3
    handler.beat_for(4)
    assert len(handler.runs) == 5


@pytest.mark.parametrize("end", ["report", "refuse"])
def test_memb_7_what_has_ended_is_not_repeated(end: str) -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    if end == "report":
        handler.report(run)
    else:
        handler.refuse(run)
    handler.beat_for(10)
    assert len(handler.runs) == 1


def test_memb_7_only_the_refusal_of_the_latest_delivery_counts() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.beat_for(3)
    handler.refuse(run)
    assert not desk.ends(), "the second one may have been taken"
    handler.accept(handler.runs[1])
    handler.refuse(handler.runs[1])
    assert not desk.ends(), "and it was"
    assert len(desk.seen(Ignored)) == 2


def test_memb_7_a_silent_handler_is_not_sent_anything_again() -> None:
    desk = Desk()
    handler, _ = sent(desk)
    desk.advance(9)
    assert len(handler.runs) == 1
    assert not handler.take() or len(handler.runs) == 2
    before = len(handler.runs)
    handler.beat()
    desk.advance(2.5)
    handler.take()
    assert len(handler.runs) == before + 1


@pytest.mark.parametrize("code", [RefuseCode.BUSY, RefuseCode.STALE, RefuseCode.DRAINING])
def test_a_refused_run_comes_back_unbegun(code: RefuseCode) -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.refuse(run, code)
    handler.refuse(run, code)
    assert desk.ends() == {(1, 1): "returned"}
    handler.take()
    assert desk.machine.workers.all["h"].slots == (0 if code is RefuseCode.DRAINING else 10)


def test_a_run_whose_method_the_handler_has_not_fails_for_good() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.refuse(run, RefuseCode.UNKNOWN_METHOD)
    (result,) = next(told.results for told in desk.told if isinstance(told, RunsFinished))
    assert (result.outcome, result.reason, result.retryable) == (Outcome.FAILED, Reason.UNKNOWN_METHOD, False)


# --- MEMB-8: results -------------------------------------------------------------------------------------------


def test_memb_8_a_result_that_comes_twice_is_told_once_and_acknowledged_as_a_duplicate_after_the_first() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.report(run)
    assert handler.report(run) == [], "the first is not settled yet"
    desk.settle_results()
    assert handler.report(run) == [ResultAck(handler.session, (Ack(1, 1, AckCode.DUPLICATE),))]
    assert sum(isinstance(told, RunsFinished) for told in desk.told) == 1


def test_memb_8_a_result_of_another_handlers_run_is_stale_and_changes_nothing() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    thief = Remote(desk, "thief").join()
    assert thief.report(run) == [ResultAck(thief.session, (Ack(1, 1, AckCode.STALE),))]
    thief.accept(run)
    assert not desk.ends()
    handler.report(run)
    assert desk.ends() == {(1, 1): "succeeded"}


def test_memb_8_a_result_counts_only_with_the_fence_of_its_attempt() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    assert handler.report(run, fence=run.fence - 1) == [ResultAck(handler.session, (Ack(1, 1, AckCode.STALE),))]
    assert not desk.ends()


def test_memb_8_a_result_of_a_run_that_was_never_sent_is_stale() -> None:
    desk = Desk()
    handler = Remote(desk)
    handler.hello()
    handler.beat(granted=0)
    (start,) = desk.assign("h")
    forged = DispatchedRun(start.row, 1, 0, start.fence, start.run_id, "s", "m", 0)
    handler.slots = 0
    assert handler.report(forged)[0].acks == (Ack(1, 1, AckCode.STALE),)


def test_memb_8_an_acknowledgement_goes_to_the_session_that_is_then() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.report(run)
    handler.join(unacked=(held(run),))
    desk.settle_results()
    assert handler.acks() == [Ack(1, 1, AckCode.OK)]
    assert desk.sent[-1].message.session == handler.session


def test_memb_8_a_result_that_is_not_settled_outlives_its_handler() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.report(run)
    desk.advance(60)
    assert desk.seen(HandlerLost)[-1].runs == 0
    assert desk.state() is not None, "it is owed an acknowledgement"
    desk.settle_results()
    assert desk.state() is None
    again = Remote(desk).join(unacked=(held(run),))
    assert again.report(run)[-1].acks == (Ack(1, 1, AckCode.DUPLICATE),)


def test_memb_8_what_was_settled_long_ago_is_stale() -> None:
    desk = Desk()
    desk.machine.leases.settled = {(row, 1): row for row in range(9_999)}
    handler, (run,) = sent(desk)
    handler.report(run)
    desk.settle_results()
    assert handler.report(run)[-1].acks[0].code is AckCode.DUPLICATE
    desk.machine.leases.settled = {(row, 1): row for row in range(9_999)}
    (start,) = desk.assign("h")
    handler.take()
    handler.report(handler.runs[-1])
    desk.settle_results()
    assert handler.report(run)[-1].acks[0].code is AckCode.STALE
    assert handler.report(handler.runs[-1])[-1].acks == (Ack(start.row, 1, AckCode.DUPLICATE),)


@pytest.mark.parametrize(
    ("started", "finished", "expected"),
    [(1, 2, (1, 2)), (-50, 2, (0, 2)), (1, 999, (1, 5)), (7, 3, (5, 5)), (-(1 << 60), 1 << 60, (0, 5))],
)
def test_what_a_handlers_clock_says_counts_only_within_what_the_server_saw(
    started: int, finished: int, expected: tuple[int, int]
) -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    begun_us = desk.now.utc_us
    desk.pass_us(5)
    handler.report(run, started_us=begun_us + started, finished_us=begun_us + finished)
    (result,) = next(told.results for told in desk.told if isinstance(told, RunsFinished))
    assert (result.started_us, result.finished_us) == tuple(begun_us + us for us in expected)


def test_an_outcome_that_no_execution_has_is_a_failure() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.report(run, Outcome.SKIPPED)
    assert desk.ends() == {(1, 1): "failed"}


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ('"' + "x" * (MOST_RESULT - 1) + '"', f"takes {MOST_RESULT + 1} bytes"),
        ('"' + "é" * (MOST_RESULT // 2) + '"', f"takes {MOST_RESULT + 2} bytes"),
        ("not json", "is no JSON"),
        ("[NaN]", "NaN is no number of JSON"),
        ("[" * 30_000, "is no JSON"),
        ("", "is no JSON"),
    ],
)
def test_a_result_that_the_ledger_does_not_take_fails_for_good(result: str, why: str) -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.report(run, result=result)
    (ended,) = next(told.results for told in desk.told if isinstance(told, RunsFinished))
    assert (ended.outcome, ended.reason, ended.result, ended.retryable) == ("failed", "unstorable_result", None, False)
    assert why in str(ended.error)


def test_what_a_handler_says_of_its_failure_is_cut() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.report(run, Outcome.FAILED, error="x" * 5000, result="no json")
    (ended,) = next(told.results for told in desk.told if isinstance(told, RunsFinished))
    assert (ended.reason, ended.result, ended.error) == ("", None, "x" * MOST_ERROR)


def test_the_largest_result_that_the_ledger_takes_is_taken() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.report(run, result='"' + "x" * (MOST_RESULT - 2) + '"')
    assert desk.ends() == {(1, 1): "succeeded"}


# --- stops -----------------------------------------------------------------------------------------------------


def test_a_stop_is_repeated_until_the_run_has_ended() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.accept(run)
    assert desk.give(StopAssigned("h", 1, 1, CancelReason.REQUESTED)) == [
        Stop(handler.session, 1, 1, CancelReason.REQUESTED)
    ]
    handler.beat_for(5)
    assert len(handler.stops()) == 3
    handler.report(run, Outcome.CANCELLED)
    handler.beat_for(5)
    assert len(handler.stops()) == 3


def test_a_run_that_is_to_stop_before_it_was_sent_comes_back() -> None:
    desk = Desk()
    handler = Remote(desk)
    handler.hello()
    handler.beat(granted=0)
    desk.assign("h")
    assert desk.give(StopAssigned("h", 1, 1, CancelReason.REQUESTED)) == []
    assert desk.ends() == {(1, 1): "returned"}
    handler.beat(granted=5)
    assert not handler.runs


def test_a_stop_of_what_has_ended_is_nothing() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.report(run)
    assert desk.give(StopAssigned("h", 1, 1, CancelReason.TIMEOUT)) == []
    desk.settle_results()
    assert desk.give(StopAssigned("h", 1, 1, CancelReason.TIMEOUT)) == []
    assert desk.give(StopAssigned("nobody", 9, 9, CancelReason.TIMEOUT)) == []


def test_a_stop_that_could_not_be_heard_is_said_in_the_next_session() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.accept(run)
    desk.give(StopAssigned("h", 1, 1, CancelReason.TIMEOUT))
    handler.join(executing=(held(run),))
    assert handler.stops()[-1] == Stop(handler.session, 1, 1, CancelReason.TIMEOUT)


def test_a_stop_that_was_said_in_two_sessions_is_repeated_once_at_a_time() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.accept(run)
    desk.give(StopAssigned("h", 1, 1, CancelReason.TIMEOUT))
    handler.join(executing=(held(run),))
    assert len(handler.stops()) == 2
    handler.beat_for(4)
    assert len(handler.stops()) == 4


def test_a_run_to_be_stopped_that_a_new_session_of_the_same_life_does_not_list_comes_back() -> None:
    desk = Desk()
    handler, _ = sent(desk)
    desk.give(StopAssigned("h", 1, 1, CancelReason.REQUESTED))
    handler.join()
    assert desk.ends() == {(1, 1): "returned"}


# --- silence, farewells and other lives ------------------------------------------------------------------------


def test_memb_3_when_the_lease_is_over_all_runs_vanish_together() -> None:
    desk = Desk()
    handler, runs = sent(desk, 3)
    handler.accept(*runs[:2])
    desk.advance(9.9)
    assert not desk.ends()
    desk.advance(0.1)
    assert list(desk.ends().values()) == ["vanished"] * 3
    assert desk.seen(HandlerLost)[0].runs == 3
    assert [message.code for message in handler.report(runs[0])] == [RejectCode.UNKNOWN_SESSION]
    handler.join(executing=tuple(map(held, runs[:2])))
    assert [(stop.row, stop.reason) for stop in handler.stops()] == [(1, "superseded"), (2, "superseded")]
    assert handler.report(runs[0])[-1].acks == (Ack(1, 1, AckCode.STALE),)


def test_memb_3_what_was_not_sent_to_a_silent_handler_comes_back() -> None:
    desk = Desk()
    handler = Remote(desk)
    handler.hello()
    handler.beat(granted=1)
    desk.assign("h", 3)
    desk.advance(3)
    assert desk.ends() == {(2, 1): "returned", (3, 1): "returned"}


def test_memb_6_what_the_last_life_left_is_adopted_when_a_hello_lists_it() -> None:
    desk = Desk(left=(LEFT,))
    handler = Remote(desk, incarnation=8).join(executing=(HeldRun(5, 2, 3, 77),))
    handler.beat_for(60)
    assert not desk.ends()
    handler.report(DispatchedRun(5, 2, 3, 77, "", "s", "m", 0))
    assert desk.ends() == {(5, 2): "succeeded"}


def test_memb_6_what_the_last_life_left_and_has_ended_since_comes_with_its_result() -> None:
    desk = Desk(left=(LEFT,))
    handler = Remote(desk, incarnation=8).join(unacked=(HeldRun(5, 2, 3, 77),))
    handler.report(DispatchedRun(5, 2, 3, 77, "", "s", "m", 0))
    desk.settle_results()
    assert handler.acks() == [Ack(5, 2, AckCode.OK)]


def test_memb_6_what_a_hello_does_not_list_is_lost_with_the_first_message_of_its_session() -> None:
    desk = Desk(left=(LEFT,))
    handler = Remote(desk)
    handler.hello()
    desk.advance(1)
    assert not desk.ends(), "this Hello may be an old one"
    handler.beat()
    assert desk.ends() == {(5, 2): "vanished"}


@pytest.mark.parametrize("fence", [76, 78])
def test_memb_6_another_claim_of_the_same_attempt_is_not_what_was_left(fence: int) -> None:
    desk = Desk(left=(LEFT,))
    handler = Remote(desk).join(executing=(HeldRun(5, 2, 3, fence),))
    assert desk.ends() == {(5, 2): "vanished"}
    assert handler.stops() == [Stop(handler.session, 5, 2, CancelReason.SUPERSEDED)]


def test_memb_6_memb_8_another_ledgers_run_of_the_same_numbers_is_not_what_was_left() -> None:
    """A ledger that was lost counts anew; what a handler still has of the old one is another run's."""
    desk = Desk(left=(evolve(LEFT, run_id="new"), evolve(LEFT, row=6, run_id="new")))
    handler = Remote(desk).join(executing=(HeldRun(5, 2, 3, 77, "old"), HeldRun(6, 2, 4, 77, "new")))
    assert desk.ends() == {(5, 2): "vanished"}
    handler.report(DispatchedRun(6, 2, 4, 77, "", "s", "m", 0), run_id="old")
    assert handler.acks() == [Ack(6, 2, AckCode.STALE)]
    assert desk.ends() == {(5, 2): "vanished"}
    handler.report(DispatchedRun(6, 2, 4, 77, "", "s", "m", 0), run_id="new")
    assert desk.ends() == {(5, 2): "vanished", (6, 2): "succeeded"}


def test_memb_6_silence_loses_what_was_left_at_the_end_of_a_full_lease() -> None:
    desk = Desk(left=(LEFT, evolve(LEFT, worker="other", row=6)))
    desk.advance(9.9)
    Remote(desk).join(executing=(HeldRun(5, 2, 3, 77),))
    desk.advance(0.1)
    assert desk.ends() == {(6, 2): "vanished"}


def test_memb_9_a_new_life_that_does_not_list_a_run_has_lost_it() -> None:
    desk = Desk()
    handler, runs = sent(desk, 2)
    handler.accept(runs[0])
    desk.advance(3)
    again = Remote(desk, incarnation=2, address=b"h2")
    again.hello()
    assert not desk.ends()
    again.beat()
    assert list(desk.ends().values()) == ["vanished", "vanished"]


def test_memb_9_a_new_life_that_has_the_result_reports_it() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.accept(run)
    desk.advance(3)
    again = Remote(desk, incarnation=2, address=b"h2").join(unacked=(held(run),))
    again.report(run)
    assert desk.ends() == {(1, 1): "succeeded"}


def test_memb_9_an_exclusive_run_is_given_up_only_when_the_old_life_cannot_be_executing_it() -> None:
    desk = Desk()
    handler, (run,) = sent(desk, exclusive=True)
    handler.accept(run)
    desk.advance(3)
    again = Remote(desk, incarnation=2, address=b"h2").join()
    assert not desk.ends()
    desk.advance(3)
    again.join()
    desk.advance(3.9)
    assert not desk.ends()
    desk.advance(0.1)
    assert desk.ends() == {(1, 1): "vanished"}


def test_memb_9_an_exclusive_run_whose_life_came_back_has_the_lease_of_its_last_word_not_of_an_earlier_one() -> None:
    """Two processes have one name: the one that executes the run is replaced, comes back, and is replaced again."""
    desk = Desk()
    first, (run,) = sent(desk, exclusive=True)
    first.accept(run)
    desk.advance(3)
    Remote(desk, incarnation=2, address=b"h2").join().bye()
    desk.advance(1)
    first.join(executing=(held(run),))
    desk.advance(3)
    third = Remote(desk, incarnation=3, address=b"h3").join()
    third.beat_for(6)
    assert not desk.ends(), "its lease of 10 s began again when it came back, 6 s before"
    third.beat_for(1)
    assert desk.ends() == {(1, 1): "vanished"}


def test_memb_9_the_same_life_says_at_once_that_it_has_not_an_exclusive_run() -> None:
    desk = Desk()
    handler, (run,) = sent(desk, exclusive=True)
    handler.accept(run)
    handler.join()
    assert desk.ends() == {(1, 1): "vanished"}


def test_memb_9_an_exclusive_run_of_the_last_life_has_a_full_lease_whoever_comes() -> None:
    desk = Desk(left=(evolve(LEFT, exclusive=True),))
    desk.advance(1)
    Remote(desk, incarnation=8).join()
    desk.advance(8.9)
    assert not desk.ends()
    desk.advance(0.1)
    assert desk.ends() == {(5, 2): "vanished"}


def test_a_new_session_of_the_same_life_gets_again_what_it_did_not_begin_before_anything_new() -> None:
    desk = Desk()
    handler = Remote(desk)
    handler.hello()
    handler.beat(granted=3)
    desk.assign("h", 5)
    handler.take()
    first = list(handler.runs)
    handler.accept(first[1])
    handler.hello(executing=(held(first[1]),))
    handler.runs.clear()
    handler.beat(granted=4)
    assert [run.row for run in handler.runs] == [1, 3, 4, 5]
    assert handler.runs[0].delivery > first[2].delivery
    assert not desk.ends()


@pytest.mark.parametrize("more", [{"methods": (OfferedMethod("n"),)}, {"tags": {"zone": "south"}}])
def test_what_was_not_begun_comes_back_when_its_handler_is_not_the_same_any_more(more: dict[str, object]) -> None:
    desk = Desk()
    handler, _ = sent(desk, 2)
    handler.join(**more)
    assert list(desk.ends().values()) == ["returned", "returned"]
    handler.take()
    assert len(handler.runs) == 2


def test_a_run_that_a_handler_accepts_and_should_not_have_is_stopped() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    assert handler.say(Accept(handler.session, (RunRef(9, 1, 1),))) == [
        Stop(handler.session, 9, 1, CancelReason.SUPERSEDED)
    ]


def test_an_accept_that_comes_after_the_result_is_nothing() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.report(run)
    assert handler.accept(run) == []
    desk.settle_results()
    assert handler.accept(run) == []


def test_a_handler_that_left_may_bring_its_results_with_its_next_life() -> None:
    desk = Desk()
    handler, runs = sent(desk, 2)
    handler.accept(*runs)
    handler.bye()
    desk.advance(9)
    assert not desk.ends()
    again = Remote(desk, incarnation=2, address=b"h2").join(unacked=(held(runs[0]),))
    assert desk.ends() == {(2, 1): "vanished"}
    again.report(runs[0])
    assert desk.ends() == {(1, 1): "succeeded", (2, 1): "vanished"}


def test_what_a_handler_that_left_never_reports_vanishes_at_the_end_of_its_lease() -> None:
    desk = Desk()
    handler, _ = sent(desk)
    handler.bye()
    desk.advance(10)
    assert desk.ends() == {(1, 1): "vanished"}
    desk.advance(21)
    assert desk.state() is None


def test_memb_12_a_grace_shorter_than_the_lease_forgets_no_runs() -> None:
    desk = Desk(evolve(REMOTE, away_grace_us=SECOND_US))
    handler, _ = sent(desk)
    handler.bye()
    desk.advance(9)
    assert desk.fences
    desk.advance(1)
    assert desk.ends() == {(1, 1): "vanished"}
    assert desk.state() is None


def test_a_stopping_server_gives_back_what_it_has_not_sent() -> None:
    desk = Desk()
    handler = Remote(desk)
    handler.hello()
    handler.beat(granted=1)
    desk.assign("h", 2)
    desk.give(StopRequested(SECOND_US))
    desk.assign("h")
    assert desk.ends() == {(2, 1): "returned", (3, 1): "returned"}
    handler.take()
    handler.report(handler.runs[0])
    desk.settle_results()
    assert handler.acks() == [Ack(1, 1, AckCode.OK)]


# --- progress, nonsense ----------------------------------------------------------------------------------------


def test_progress_is_told_and_the_last_of_it_kept() -> None:
    desk = Desk()
    handler, (run,) = sent(desk)
    handler.say(Progress(handler.session, ref(run), "half" + "!" * 500, 50))
    (told,) = desk.seen(RunProgressed)
    assert (told.row, told.worker, told.percent, len(told.note)) == (1, "h", 50, 200)
    desk.give(Commanded(1, ListHandlers()))
    assert desk.replies[0].progress == (RunNote(f"{1:032x}", 1, "h", told.note, 50),)
    handler.say(Progress(handler.session, ref(run), "\x1b[31mred\nnew", 1000))
    assert desk.seen(RunProgressed)[-1].note == " [31mred new"
    assert desk.seen(RunProgressed)[-1].percent == 100
    handler.say(Progress(handler.session, ref(run), "", -5))
    assert desk.seen(RunProgressed)[-1].percent == 0


def test_nonsense_about_runs_is_ignored_with_a_reason() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    handler.say(Progress(handler.session, RunRef(9, 9, 9), "?"))
    handler.say(Refuse(handler.session, RunRef(9, 9, 9), RefuseCode.BUSY))
    assert len(desk.seen(Ignored)) == 2
    assert desk.give(ResultsSettled(((9, 9),))) == []
