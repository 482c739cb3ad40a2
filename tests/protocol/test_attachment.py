"""The handler's side: how it registers, takes runs and turns them away, by the rules of specs/remote.md."""

from itertools import pairwise

import pytest

from sz_protocol.attaching import AttachmentSettings, Keep, offer_of
from sz_protocol.kernel.effects import CancelReason, CancelRun, StartRuns, Stop
from sz_protocol.kernel.events import (
    Garbled,
    LinkChanged,
    MethodInfo,
    RunProgress,
    RunsFinished,
    RunsProgressed,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.now import SECOND_US, WakeReason, Wakeup
from sz_protocol.messages import (
    Accept,
    AckCode,
    Ask,
    Beat,
    Bye,
    Dispatch,
    Drain,
    Echo,
    HeldRun,
    Hello,
    OfferedMethod,
    Progress,
    Refuse,
    RefuseCode,
    RejectCode,
    Reload,
    Results,
    RunRef,
    Welcome,
)
from sz_protocol.messages import Stop as StopRun
from sz_protocol.notices import Attached, AttachRefused, Detached, Ignored
from sz_protocol.records import Outcome
from tests.protocol.attachment_rig import INCARNATION, METHODS, Rig, a_report, a_result, a_run, handlers, of_kind


def refusals(rig: Rig) -> list[RefuseCode]:
    return [refusal.code for refusal in rig.take(Refuse)]


# --- ATT-1: registering ------------------------------------------------------------------------------------------


def test_att_1_the_first_hello_goes_out_at_once_and_says_everything() -> None:
    rig = Rig(kept=(a_report(9),))
    rig.tell(LinkChanged(True))
    (hello,) = rig.take(Hello)
    assert hello == Hello(
        handler_id="edge-1",
        incarnation=INCARNATION,
        nonce=1,
        proto_min=1,
        proto_max=1,
        methods=(OfferedMethod("narrow", 1), OfferedMethod("work")),
        slots=4,
        tags={"zone": "a"},
        unacked=(HeldRun(9, 1, 1, 9001),),
        software="test",
    )


def test_att_1_an_unanswered_hello_is_said_again_for_ever_with_growing_full_jitter() -> None:
    waits: list[list[int]] = []
    for seed in range(20):
        rig = Rig(seed=seed)
        rig.tell(LinkChanged(True))
        times = [rig.now_us]
        while len(times) < 12:
            rig.take(Hello)
            rig.pass_time(0.1)
            times += [rig.now_us] * len(rig.take(Hello))
        waits.append([after - before for before, after in pairwise(times)])
    longest = [max(column) for column in zip(*waits, strict=True)]
    assert all(wait >= 2 * SECOND_US - 100_000 for row in waits for wait in row), "an answer gets its time"
    assert longest[0] < 3.2 * SECOND_US
    assert 20 * SECOND_US < longest[-1] < 32.2 * SECOND_US, "up to half a minute"
    assert len({tuple(row) for row in waits}) == 20, "no two handlers keep time with each other"


def test_att_1_only_an_answer_to_the_latest_hello_counts() -> None:
    rig = Rig()
    rig.tell(LinkChanged(True))
    first = rig.hello()
    second = rig.hello()
    assert second.nonce == first.nonce + 1
    rig.welcome(first, session=5)
    assert rig.state == "CALLING"
    rig.welcome(second, session=6)
    assert rig.state == "ATTACHED"
    rig.welcome(second, session=6)
    assert [type(notice) for notice in rig.notices[-1:]] == [Ignored], "a copy of the Welcome"


@pytest.mark.parametrize(
    "nonsense", [{"proto": 2}, {"heartbeat_us": 0}, {"heartbeat_us": -5}, {"lease_us": 1}, {"lease_us": -(1 << 62)}]
)
def test_att_9_a_worthless_welcome_is_none(nonsense: dict[str, int]) -> None:
    rig = Rig()
    rig.tell(LinkChanged(True))
    rig.welcome(rig.hello(), **nonsense)
    assert rig.state == "CALLING"
    assert rig.hello().nonce == 2


def test_att_1_a_welcome_that_nobody_asked_for_is_ignored() -> None:
    rig = Rig()
    rig.tell(LinkChanged(True))
    rig.hear(Welcome(0, 7, 1, SECOND_US, 10 * SECOND_US, 1))
    assert rig.state == "CALLING"


def test_att_1_hello_again_when_the_session_is_unknown() -> None:
    rig = Rig()
    rig.attach()
    rig.reject(RejectCode.UNKNOWN_SESSION)
    assert rig.hello().nonce == 2
    assert rig.told(Detached)


def test_att_1_hello_again_after_a_lease_of_silence_and_not_before() -> None:
    rig = Rig()
    rig.attach()
    rig.live(5)
    rig.said.clear()
    rig.pass_time(9.9)
    assert not rig.take(Hello)
    rig.pass_time(1.2)
    assert rig.take(Hello)


def test_att_1_hello_again_when_the_link_is_a_new_one() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    rig.tell(LinkChanged(False))
    assert rig.state == "DOWN"
    rig.pass_time(60)
    assert not rig.take(Hello), "nobody would hear it"
    rig.tell(LinkChanged(True))
    assert rig.hello().executing == (HeldRun(1, 1, 1, 1001, f"{1:032x}"),)


def test_att_1_a_rejected_hello_waits_as_long_as_it_is_told_to_within_reason() -> None:
    for asked_us, least_s, most_s in ((3 * SECOND_US, 3, 4.2), (-1, 0, 1.2), (1 << 62, 300, 301.2)):
        rig = Rig()
        rig.tell(LinkChanged(True))
        began_us = rig.now_us
        rig.reject(RejectCode.DUPLICATE, retry_us=asked_us, nonce=rig.hello().nonce)
        (refused,) = rig.told(AttachRefused)
        assert refused.code == "duplicate"
        rig.pass_time(302)
        assert rig.machine.calling.nonce > 1
        assert least_s * SECOND_US <= refused.again_us <= most_s * SECOND_US, began_us


def test_att_1_other_methods_mean_another_hello_and_the_same_ones_none() -> None:
    rig = Rig()
    rig.attach()
    rig.tell(handlers(*reversed(METHODS)))
    assert rig.state == "ATTACHED"
    rig.tell(handlers(METHODS[0]))
    assert rig.state == "CALLING"
    assert rig.hello().methods == (OfferedMethod("work"),)


def test_att_1_methods_that_change_under_an_open_hello_make_it_void() -> None:
    rig = Rig()
    rig.tell(LinkChanged(True))
    first = rig.hello()
    rig.tell(handlers(METHODS[0]))
    rig.welcome(first)
    assert rig.state == "CALLING"
    assert rig.hello().methods == (OfferedMethod("work"),)


def test_att_1_what_comes_of_an_old_session_is_not_begun() -> None:
    rig = Rig()
    rig.attach(session=7)
    rig.tell(handlers(METHODS[0]))
    assert not of_kind(rig.dispatch(a_run(1)), StartRuns), "the next Hello does not list it"
    rig.attach(session=8)
    rig.session = 7
    assert not of_kind(rig.dispatch(a_run(1)), StartRuns)
    rig.session = 8
    assert of_kind(rig.dispatch(a_run(1, delivery=2)), StartRuns)


def test_flapping_sessions_are_asked_for_ever_more_slowly() -> None:
    rig = Rig()
    rig.tell(LinkChanged(True))
    for session in range(1, 9):
        rig.welcome(rig.hello(), session)
        rig.reject(RejectCode.UNKNOWN_SESSION)
    assert rig.machine.calling.tries == 8, "no echo came in between"
    rig.attach(9)
    assert rig.machine.calling.tries == 0


# --- beats and credit --------------------------------------------------------------------------------------------


def test_a_session_begins_with_a_beat_that_grants_the_slots_and_goes_on_every_heartbeat() -> None:
    rig = Rig(slots=4)
    rig.tell(LinkChanged(True))
    rig.welcome(rig.hello())
    assert rig.take(Beat) == [Beat(7, 1, 4)]
    rig.pass_time(3)
    assert rig.take(Beat) == [Beat(7, 2, 4), Beat(7, 3, 4), Beat(7, 4, 4)]
    (attached,) = rig.told(Attached)
    assert attached == Attached(7, 10 * SECOND_US, ("narrow", "work"))


def test_att_6_granted_is_what_came_plus_what_there_is_room_for() -> None:
    rig = Rig(slots=2)
    rig.attach()
    rig.dispatch(a_run(1), a_run(2))
    rig.pass_time(1)
    assert rig.take(Beat) == [Beat(7, 2, 2)]
    rig.finish(1)
    (results,) = rig.take(Results)
    assert (results.granted, [report.row for report in results.results]) == (3, [1])
    rig.dispatch(a_run(3))
    rig.dispatch(a_run(3, delivery=2))
    rig.pass_time(1)
    assert rig.take(Beat)[-1].granted == 3, "a repeated one takes no credit"


def test_att_6_what_is_refused_was_sent_all_the_same() -> None:
    rig = Rig(slots=2)
    rig.attach()
    rig.dispatch(a_run(1, method="nothing"), a_run(2, method="nothing"))
    rig.pass_time(1)
    assert rig.take(Beat)[-1].granted == 4


def test_att_6_a_new_session_counts_anew() -> None:
    rig = Rig(slots=3)
    rig.attach()
    rig.dispatch(a_run(1))
    rig.finish(1)
    rig.dispatch(a_run(2))
    rig.reject(RejectCode.UNKNOWN_SESSION)
    rig.welcome(rig.hello(), session=8)
    assert rig.take(Beat) == [Beat(8, 1, 2)], "one of three slots is taken"


def test_att_6_nothing_is_granted_while_too_many_results_wait() -> None:
    rig = Rig(slots=4, settings=AttachmentSettings(backlog=2))
    rig.attach()
    rig.dispatch(a_run(1), a_run(2))
    rig.finish(1)
    rig.finish(2)
    rig.dispatch(a_run(3))
    assert refusals(rig)[-1:] == [RefuseCode.BUSY]
    rig.ack((1, 1), (2, 1))
    assert of_kind(rig.dispatch(a_run(4)), StartRuns)


# --- ATT-2, ATT-3: once ------------------------------------------------------------------------------------------


def test_a_batch_is_begun_and_accepted_together() -> None:
    rig = Rig()
    rig.attach()
    effects = rig.dispatch(a_run(1, params={"a": [1]}, labels={"team": "blue"}), a_run(2, timeout_us=5), a_run(3))
    (order,) = of_kind(effects, StartRuns)
    assert [(s.row, s.attempt, s.handler_id, s.method, s.fence) for s in order.runs] == [
        (1, 1, "tasks", "work", 1001),
        (2, 1, "tasks", "work", 2001),
        (3, 1, "tasks", "work", 3001),
    ]
    assert order.runs[0].params == {"a": [1]}
    assert order.runs[0].labels == {"team": "blue"}
    assert order.runs[1].deadline_us == rig.now_us + 5
    assert rig.take(Accept) == [Accept(7, (RunRef(1, 1, 1), RunRef(2, 1, 1), RunRef(3, 1, 1)))]


def test_att_2_a_repeated_dispatch_of_what_executes_is_adopted() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    rig.said.clear()
    assert not of_kind(rig.dispatch(a_run(1, delivery=5)), StartRuns)
    assert rig.take(Accept) == [Accept(7, (RunRef(1, 1, 5),))]
    assert not of_kind(rig.dispatch(a_run(1, delivery=4)), StartRuns), "a lower delivery"
    assert not rig.take(Accept)
    rig.finish(1)
    (results,) = rig.take(Results)
    assert results.results[0].delivery == 5
    assert results.results[0].incarnation == INCARNATION


def test_att_2_a_repeated_dispatch_of_what_is_done_is_answered_by_its_result() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    rig.finish(1, result='{"n":1}')
    rig.said.clear()
    effects = rig.dispatch(a_run(1, delivery=3))
    assert not of_kind(effects, StartRuns)
    (results,) = rig.take(Results)
    assert [(r.row, r.delivery, r.result) for r in results.results] == [(1, 3, '{"n":1}')]


def test_att_2_what_an_earlier_life_has_done_is_answered_by_its_result() -> None:
    rig = Rig(kept=(a_report(1),))
    rig.attach()
    assert not of_kind(rig.dispatch(a_run(1, delivery=2)), StartRuns)
    assert [r.delivery for r in rig.take(Results)[-1].results] == [2]


def test_att_2_done_runs_are_remembered_as_long_as_their_dispatch_can_be_on_its_way() -> None:
    rig = Rig()
    rig.attach()
    beat = rig.last_beat
    rig.dispatch(a_run(1))
    rig.finish(1)
    rig.ack((1, 1))
    for _ in range(21):
        effects = rig.dispatch(a_run(1, delivery=1), beat=beat)
        assert not of_kind(effects, StartRuns)
        rig.live(0.5)
    rig.said.clear()
    rig.dispatch(a_run(1, delivery=1), beat=beat)
    assert refusals(rig) == [RefuseCode.STALE]
    assert rig.machine.intake.holding.ended == {}, "and not for ever"


def test_att_2_what_was_refused_is_refused_again_in_this_session() -> None:
    """The server may have heard the refusal by now, and have the run executed elsewhere."""
    rig = Rig(slots=1)
    rig.attach()
    rig.dispatch(a_run(1), a_run(2))
    assert refusals(rig) == [RefuseCode.BUSY]
    rig.finish(1)
    rig.said.clear()
    assert not of_kind(rig.dispatch(a_run(2, delivery=2)), StartRuns)
    assert refusals(rig) == [RefuseCode.BUSY]
    assert of_kind(rig.dispatch(a_run(2, delivery=3, fence=9999)), StartRuns), "a new claim of the same attempt"


def test_att_2_a_new_session_may_send_again_what_was_refused() -> None:
    rig = Rig(slots=1)
    rig.attach()
    rig.dispatch(a_run(1), a_run(2))
    rig.finish(1)
    rig.reject(RejectCode.UNKNOWN_SESSION)
    rig.attach(8)
    assert of_kind(rig.dispatch(a_run(2, delivery=2)), StartRuns)


def test_att_2_another_ledgers_run_of_the_same_numbers_is_another_run() -> None:
    """The server lost its ledger and counts anew: rows, attempts and fences may all be the same."""
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1), a_run(2))
    rig.finish(1)
    rig.said.clear()
    effects = rig.dispatch(a_run(1, run_id="another"), a_run(2, run_id="another"))
    assert of_kind(effects, CancelRun) == [CancelRun(2, 1, CancelReason.SUPERSEDED)]
    assert refusals(rig) == [RefuseCode.BUSY] * 2, "one has a result that waits, the other executes"
    rig.ack((1, 1), code=AckCode.STALE)
    del rig.checks.started[1, 1]
    again = a_run(1, fence=1002, run_id="another")
    assert [start.run_id for order in of_kind(rig.dispatch(again), StartRuns) for start in order.runs] == ["another"]


def test_att_3_a_higher_attempt_stops_the_older_one_and_waits_for_its_end() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    effects = rig.dispatch(a_run(1, attempt=2))
    assert of_kind(effects, CancelRun) == [CancelRun(1, 1, CancelReason.SUPERSEDED)]
    assert refusals(rig) == [RefuseCode.BUSY]
    rig.finish(1, outcome=Outcome.CANCELLED, reason="superseded")
    assert of_kind(rig.dispatch(a_run(1, attempt=2, fence=1003)), StartRuns)
    assert not of_kind(rig.dispatch(a_run(1, attempt=1, delivery=9)), StartRuns), "an older one is over"


def test_a_method_takes_no_more_than_its_concurrency() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1, method="narrow"), a_run(2, method="narrow"), a_run(3))
    assert refusals(rig) == [RefuseCode.BUSY]
    rig.finish(1)
    assert of_kind(rig.dispatch(a_run(4, method="narrow")), StartRuns)


def test_an_accept_waits_for_others_and_is_left_out_where_the_result_comes_first() -> None:
    rig = Rig(settings=AttachmentSettings())
    rig.attach()
    rig.dispatch(a_run(1))
    rig.pass_time(0.015)
    rig.dispatch(a_run(2), a_run(3))
    rig.finish(2)
    assert not rig.take(Accept)
    rig.pass_time(0.006)
    assert rig.take(Accept) == [Accept(7, (RunRef(1, 1, 1), RunRef(3, 1, 1)))]
    rig.dispatch(a_run(4))
    rig.tell(LinkChanged(False))
    rig.attach(8)
    rig.live(1)
    assert not rig.take(Accept), "the Hello has listed it"


def test_a_full_accept_does_not_wait() -> None:
    rig = Rig(slots=300, settings=AttachmentSettings())
    rig.attach()
    rig.dispatch(*[a_run(row) for row in range(1, 257)])
    assert [len(accept.runs) for accept in rig.take(Accept)] == [256]


def test_results_that_come_together_go_together() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1), a_run(2))
    rig.said.clear()
    machine, now = rig.machine, rig.now
    for row in (1, 2):
        assert not machine.handle(RunsFinished((a_result(row),)), now), "until the driver has nothing else"
    assert machine.next_wakeup(now) == Wakeup(now.mono_us, WakeReason.BACKLOG)
    (keep,) = machine.handle(Woke(), now)
    assert isinstance(keep, Keep)
    assert [report.row for report in keep.reports] == [1, 2]


def test_an_unknown_method_is_refused() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1, method="gone"))
    assert refusals(rig) == [RefuseCode.UNKNOWN_METHOD]


# --- ATT-4, ATT-7: leases ----------------------------------------------------------------------------------------


def test_att_4_a_dispatch_on_an_old_beat_is_stale() -> None:
    rig = Rig()
    rig.attach()
    beat = rig.last_beat
    rig.live(9)
    assert of_kind(rig.dispatch(a_run(1), beat=beat), StartRuns)
    rig.live(2)
    rig.dispatch(a_run(2), beat=beat)
    rig.dispatch(a_run(3), beat=rig.last_beat + 1)
    rig.dispatch(a_run(4), beat=-1)
    assert refusals(rig) == [RefuseCode.STALE] * 3, "too old, never sent, nonsense"


def test_att_7_an_exclusive_run_ends_before_its_lease_and_others_go_on() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1, exclusive=True), a_run(2))
    rig.live(30)
    assert not of_kind(rig.orders, CancelRun)
    proven_us = rig.now_us
    rig.tell(LinkChanged(False))
    while not of_kind(rig.orders, CancelRun):
        rig.pass_time(0.05)
    assert of_kind(rig.orders, CancelRun) == [CancelRun(1, 1, CancelReason.CUT_OFF)]
    assert 6.4 * SECOND_US <= rig.now_us - proven_us <= 7.6 * SECOND_US
    rig.pass_time(60)
    assert len(of_kind(rig.orders, CancelRun)) == 1


def test_att_7_a_late_echo_does_not_revive_what_is_over() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1, exclusive=True))
    rig.jump(8)
    effects = rig.hear(Echo(rig.session, rig.last_beat, 1))
    assert of_kind(effects, CancelRun) == [CancelRun(1, 1, CancelReason.CUT_OFF)]


def test_att_7_a_beat_that_the_server_did_not_hear_proves_nothing() -> None:
    """The beats go out, and nothing that comes back says that one of them has arrived."""
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1, exclusive=True))
    first = rig.last_beat
    for _ in range(16):
        rig.pass_time(0.5)
        rig.hear(Echo(rig.session, first, 1))
    assert of_kind(rig.orders, CancelRun) == [CancelRun(1, 1, CancelReason.CUT_OFF)]


def test_att_7_an_exclusive_run_does_not_begin_when_there_is_no_lease_left_for_it() -> None:
    rig = Rig()
    rig.attach()
    beat = rig.last_beat
    for _ in range(15):
        rig.pass_time(0.5)
        rig.hear(Echo(rig.session, beat, 1))
    rig.said.clear()
    rig.dispatch(a_run(1, exclusive=True), a_run(2), beat=beat)
    assert refusals(rig) == [RefuseCode.STALE]


def test_a_run_is_stopped_at_its_deadline_whatever_the_link_does() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1, timeout_us=3 * SECOND_US), a_run(2, timeout_us=-(1 << 63)))
    rig.tell(LinkChanged(False))
    rig.pass_time(2.9)
    assert of_kind(rig.orders, CancelRun) == [CancelRun(2, 1, CancelReason.TIMEOUT)]
    rig.pass_time(0.2)
    assert of_kind(rig.orders, CancelRun)[1:] == [CancelRun(1, 1, CancelReason.TIMEOUT)]


# --- stops, progress, nonsense -----------------------------------------------------------------------------------


def test_a_stop_reaches_the_executor_once() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    stop = StopRun(7, 1, 1, CancelReason.REQUESTED)
    assert of_kind(rig.hear(stop), CancelRun) == [CancelRun(1, 1, CancelReason.REQUESTED)]
    assert not of_kind(rig.hear(stop), CancelRun)


def test_att_2_a_run_whose_stop_came_first_does_not_begin() -> None:
    rig = Rig()
    rig.attach()
    rig.hear(StopRun(7, 1, 1, CancelReason.REQUESTED))
    rig.dispatch(a_run(1))
    assert refusals(rig) == [RefuseCode.STALE]
    assert of_kind(rig.dispatch(a_run(1, attempt=2)), StartRuns)


def test_progress_is_told_under_the_latest_delivery_while_there_is_a_server() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1, delivery=4))
    rig.tell(RunsProgressed((RunProgress(1, 1, "half", 50), RunProgress(2, 1, "not ours"), RunProgress(1, 2, "no"))))
    assert rig.take(Progress) == [Progress(7, RunRef(1, 1, 4), "half", 50)]
    rig.tell(LinkChanged(False))
    rig.tell(RunsProgressed((RunProgress(1, 1, "more", 70),)))
    assert not rig.take(Progress)


def test_att_9_what_is_no_message_for_a_handler_is_ignored_with_a_reason() -> None:
    rig = Rig()
    rig.attach()
    rig.tell(Garbled(b"", "no msgpack of ours"))
    rig.hear(Ask(1, Reload()))
    rig.hear("gibberish")
    rig.hear(Dispatch(6, 1, (a_run(1),)))
    rig.finish(99)
    reasons = [notice.reason for notice in rig.told(Ignored)]
    assert reasons == [
        "no msgpack of ours",
        "it is no message for a handler",
        "it is no message for a handler",
        "session 6 is not the present one",
        "it does not execute here",
    ]


# --- ATT-8: the end ----------------------------------------------------------------------------------------------


def test_att_8_a_drain_takes_nothing_new_finishes_what_executes_and_says_good_bye() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    rig.said.clear()
    rig.tell(StopRequested(10 * SECOND_US))
    assert rig.take(Drain) == [Drain(7)]
    rig.dispatch(a_run(2))
    assert refusals(rig) == [RefuseCode.DRAINING]
    rig.live(3)
    assert not of_kind(rig.orders, Stop)
    rig.finish(1)
    assert rig.take(Results)
    assert not of_kind(rig.orders, Stop), "its result is not acknowledged yet"
    effects = rig.ack((1, 1))
    assert rig.take(Bye) == [Bye(7)]
    assert of_kind(effects, Stop)
    assert rig.state == "STOPPED"
    assert rig.machine.next_wakeup(rig.now) is None


def test_att_8_after_the_grace_what_still_executes_is_cancelled_and_reported() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1), a_run(2))
    rig.tell(StopRequested(3 * SECOND_US))
    rig.live(3.5)
    assert of_kind(rig.orders, CancelRun) == [
        CancelRun(1, 1, CancelReason.SHUTDOWN),
        CancelRun(2, 1, CancelReason.SHUTDOWN),
    ]
    rig.finish(1, outcome=Outcome.CANCELLED, reason="shutdown")
    (results,) = rig.take(Results)
    assert [report.reason for report in results.results] == ["shutdown"]
    rig.ack((1, 1))
    assert not of_kind(rig.orders, Stop), "the other has a little longer"
    rig.live(6)
    assert of_kind(rig.orders, Stop), "whatever it does"


def test_att_8_a_second_request_hurries() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    rig.tell(StopRequested(3600 * SECOND_US))
    effects = rig.tell(StopRequested(0))
    assert of_kind(effects, CancelRun) == [CancelRun(1, 1, CancelReason.SHUTDOWN)]
    rig.finish(1, outcome=Outcome.CANCELLED, reason="shutdown")
    rig.ack((1, 1))
    assert of_kind(rig.orders, Stop)


def test_att_8_with_nothing_to_do_it_ends_at_once_also_without_a_server() -> None:
    rig = Rig()
    assert of_kind(rig.tell(StopRequested(10 * SECOND_US)), Stop)


def test_att_8_a_drain_that_finds_its_server_reports_and_takes_nothing() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    rig.tell(LinkChanged(False))
    rig.tell(StopRequested(10 * SECOND_US))
    rig.tell(LinkChanged(True))
    rig.welcome(rig.hello(), session=8)
    assert rig.said[0] == Drain(8)
    assert rig.take(Beat) == [Beat(8, 1, 0)]


# --- what is offered ---------------------------------------------------------------------------------------------


def test_own_methods_are_offered_alone_where_there_are_any() -> None:
    methods = (MethodInfo("tasks", "a", "p"), MethodInfo("edge-1", "b", "p"), MethodInfo("more", "a", "p"))
    assert list(offer_of(methods, "edge-1")[0]) == ["b"]
    offer, twice = offer_of(methods, "edge-2")
    assert {name: info.handler_id for name, info in offer.items()} == {"b": "edge-1", "a": "more"}
    assert twice == ("a",)
