"""ATT-5: results are kept before they are sent, are sent until they are acknowledged, and are never lost silently."""

from typing import Any

import pytest

from sz_protocol.attaching import AttachmentSettings, Forget, Keep, KeepFailed, Kept
from sz_protocol.codec import decode, encode
from sz_protocol.kernel.effects import Stop
from sz_protocol.kernel.events import LinkChanged, RunsFinished, StopRequested
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.reporting import MOST_TOGETHER
from sz_protocol.messages import TO_HANDLER_SERVER, AckCode, Bye, Dispatch, RejectCode, Results
from sz_protocol.notices import Ignored, OutboxRecovered, OutboxTroubled, ResultsLeft
from sz_protocol.records import Outcome
from tests.protocol.attachment_rig import Rig, a_report, a_result, a_run, of_kind


def rows(messages: list[Results]) -> list[list[int]]:
    return [[report.row for report in message.results] for message in messages]


def test_att_5_a_result_is_kept_then_sent_then_forgotten() -> None:
    rig = Rig(auto_keep=False)
    rig.attach()
    rig.dispatch(a_run(1))
    rig.said.clear()
    (keep,) = of_kind(rig.finish(1), Keep)
    assert not rig.take(Results), "not before the outbox has it"
    rig.tell(Kept(keep.op))
    (results,) = rig.take(Results)
    assert results.results == keep.reports
    assert of_kind(rig.ack((1, 1)), Forget) == [Forget(((1, 1),))]
    rig.live(30)
    assert not rig.take(Results)


def test_results_go_in_batches() -> None:
    rig = Rig(slots=600)
    rig.attach()
    rig.dispatch(*[a_run(row) for row in range(1, 601)])
    effects = rig.tell(RunsFinished(tuple(a_result(row) for row in range(1, 601))))
    assert [len(keep.reports) for keep in of_kind(effects, Keep)] == [256, 256, 88]
    assert [len(message.results) for message in rig.take(Results)] == [MOST_TOGETHER, 256, 88]


def test_results_are_split_by_what_they_weigh() -> None:
    rig = Rig(slots=40)
    rig.attach()
    rig.dispatch(*[a_run(row) for row in range(1, 41)])
    rig.tell(RunsFinished(tuple(a_result(row, result='"' + "x" * 64_000 + '"') for row in range(1, 41))))
    assert [len(batch) for batch in rows(rig.take(Results))] == [16, 16, 8]


def test_att_5_a_result_is_sent_again_until_it_is_acknowledged() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    rig.finish(1)
    assert len(rig.take(Results)) == 1
    rig.live(16)
    assert len(rig.take(Results)) == 3
    rig.ack((1, 1), code=AckCode.STALE)
    rig.live(16)
    assert not rig.take(Results)


def test_att_5_a_new_session_gets_everything_that_is_not_acknowledged() -> None:
    rig = Rig(kept=(a_report(8), a_report(9)))
    rig.attach()
    rig.dispatch(a_run(1))
    rig.tell(LinkChanged(False))
    rig.finish(1)
    rig.tell(LinkChanged(True))
    hello = rig.hello()
    assert [held.row for held in hello.unacked] == [8, 9, 1]
    rig.welcome(hello, session=8)
    assert rows(rig.take(Results)) == [[8, 9, 1]]


@pytest.mark.parametrize(
    "left", [{"error": "half a character: \ud83d"}, {"result": '"\udc00"'}, {"result": "x" * (4 << 20)}]
)
def test_what_no_frame_can_carry_does_not_stop_the_results_behind_it(left: dict[str, Any]) -> None:
    rig = Rig(settings=AttachmentSettings(window=1))
    rig.attach()
    rig.dispatch(a_run(1), a_run(2))
    rig.finish(1, outcome=Outcome.FAILED if "error" in left else Outcome.SUCCEEDED, **left)
    rig.finish(2)
    (results,) = rig.take(Results)
    (report,) = results.results
    assert (report.row, report.result, report.error) == (1, None, "what the handler left cannot be sent")
    assert decode(encode(results), TO_HANDLER_SERVER) == results
    rig.ack((1, 1))
    assert rows(rig.take(Results)) == [[2]]


def test_no_more_than_a_window_is_on_its_way() -> None:
    rig = Rig(settings=AttachmentSettings(window=2), kept=tuple(a_report(row) for row in range(1, 6)))
    rig.tell(LinkChanged(True))
    rig.welcome(rig.hello())
    assert rows(rig.take(Results)) == [[1, 2]]
    rig.ack((1, 1))
    assert rows(rig.take(Results)) == [[3]]
    rig.ack((2, 1), (3, 1))
    assert rows(rig.take(Results)) == [[4, 5]]


def test_a_window_is_also_one_of_bytes() -> None:
    heavy = tuple(a_report(row, result='"' + "x" * 900 + '"') for row in range(1, 6))
    settings = AttachmentSettings(message_bytes=2500, window_bytes=2000)
    rig = Rig(settings=settings, kept=heavy)
    rig.tell(LinkChanged(True))
    rig.welcome(rig.hello())
    assert rows(rig.take(Results)) == [[1, 2]]
    rig.ack((1, 1))
    assert rows(rig.take(Results)) == [[3, 4]]


def test_att_5_an_outbox_that_cannot_keep_is_tried_again_while_results_go_out_loudly() -> None:
    rig = Rig(auto_keep=False)
    rig.attach()
    rig.dispatch(a_run(1), a_run(2))
    rig.said.clear()
    (keep,) = of_kind(rig.finish(1), Keep)
    rig.tell(KeepFailed(keep.op, "the disk is full"))
    assert rig.told(OutboxTroubled) == [OutboxTroubled("the disk is full", 1)]
    assert rows(rig.take(Results)) == [[1]], "to hold it back would not save it"
    began_us, ops = rig.now_us, list[int]()
    while len(ops) < 6:
        rig.pass_time(0.1)
        for order in of_kind(rig.orders, Keep):
            if order.op > (ops[-1] if ops else keep.op):
                ops.append(order.op)
                rig.tell(KeepFailed(order.op, "the disk is full"))
    assert 15 * SECOND_US < rig.now_us - began_us < 30 * SECOND_US, "ever more slowly"
    assert len(rig.told(OutboxTroubled)) == 1, "and says so once"


def test_att_5_when_the_outbox_works_again_everything_is_kept() -> None:
    rig = Rig(slots=600, auto_keep=False)
    rig.tell(LinkChanged(True))
    rig.welcome(rig.hello())
    rig.dispatch(*[a_run(row) for row in range(1, 601)])
    effects = rig.tell(RunsFinished(tuple(a_result(row) for row in range(1, 601))))
    for keep in of_kind(effects, Keep):
        rig.tell(KeepFailed(keep.op, "the disk is full"))
    rig.orders.clear()
    rig.live(1)
    (probe,) = of_kind(rig.orders, Keep)
    assert len(probe.reports) == MOST_TOGETHER, "one at a time while it fails"
    rest = of_kind(rig.tell(Kept(probe.op)), Keep)
    assert rig.told(OutboxRecovered)
    assert sum(len(keep.reports) for keep in rest) == 600 - MOST_TOGETHER
    for keep in rest:
        rig.tell(Kept(keep.op))
    assert all(filed.kept for filed in rig.machine.reporting.files.values())


def test_att_5_a_result_that_was_acknowledged_is_kept_no_more() -> None:
    rig = Rig(auto_keep=False)
    rig.attach()
    rig.dispatch(a_run(1))
    (keep,) = of_kind(rig.finish(1), Keep)
    rig.tell(KeepFailed(keep.op, "the disk is full"))
    rig.ack((1, 1))
    rig.orders.clear()
    rig.live(30)
    assert not of_kind(rig.orders, Keep)


def test_att_5_an_acknowledgement_of_what_was_not_sent_forgets_nothing() -> None:
    rig = Rig(auto_keep=False)
    rig.attach()
    rig.dispatch(a_run(1))
    (keep,) = of_kind(rig.finish(1), Keep)
    assert not of_kind(rig.ack((1, 1)), Forget)
    assert [notice.reason for notice in rig.told(Ignored)] == ["it was not sent yet"]
    rig.tell(Kept(keep.op))
    assert rig.take(Results)
    del rig.checks.acked[1, 1]
    assert of_kind(rig.ack((1, 1)), Forget)
    assert not of_kind(rig.ack((1, 1), code=AckCode.DUPLICATE), Forget), "the answer to a copy"


def test_a_redelivery_does_not_send_what_is_not_kept() -> None:
    rig = Rig(auto_keep=False)
    rig.attach()
    rig.dispatch(a_run(1))
    (keep,) = of_kind(rig.finish(1), Keep)
    rig.said.clear()
    rig.hear(Dispatch(rig.session, rig.last_beat, (a_run(1, delivery=2),)))
    assert not rig.take(Results)
    rig.tell(Kept(keep.op))
    assert [report.delivery for report in rig.take(Results)[0].results] == [2]


# --- ATT-8 with results -----------------------------------------------------------------------------------------


def test_att_8_without_a_server_what_is_kept_waits_for_the_next_life() -> None:
    rig = Rig(auto_keep=False)
    rig.attach()
    rig.dispatch(a_run(1))
    rig.tell(LinkChanged(False))
    (keep,) = of_kind(rig.finish(1), Keep)
    assert not of_kind(rig.tell(StopRequested(10 * SECOND_US)), Stop), "not kept yet"
    assert of_kind(rig.tell(Kept(keep.op)), Stop)
    assert rig.told(ResultsLeft) == [ResultsLeft(kept=1, lost=0)]


def test_att_8_what_only_memory_keeps_waits_for_the_server_and_is_not_lost_silently() -> None:
    rig = Rig(durable=False)
    rig.attach()
    rig.dispatch(a_run(1))
    rig.tell(LinkChanged(False))
    rig.finish(1)
    rig.tell(StopRequested(10 * SECOND_US))
    rig.pass_time(9)
    assert not of_kind(rig.orders, Stop)
    rig.pass_time(7)
    assert of_kind(rig.orders, Stop)
    assert rig.told(ResultsLeft) == [ResultsLeft(kept=0, lost=1)]


def test_att_8_a_server_that_does_not_acknowledge_is_not_waited_for_for_ever() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    rig.finish(1)
    rig.tell(StopRequested(2 * SECOND_US))
    rig.live(6)
    assert not of_kind(rig.orders, Stop)
    rig.live(2)
    assert of_kind(rig.orders, Stop)
    assert rig.take(Bye)
    assert rig.told(ResultsLeft) == [ResultsLeft(kept=1, lost=0)]


def test_att_8_a_session_that_ends_during_a_drain_is_not_waited_for() -> None:
    rig = Rig()
    rig.attach()
    rig.dispatch(a_run(1))
    rig.finish(1)
    rig.tell(StopRequested(60 * SECOND_US))
    assert of_kind(rig.reject(RejectCode.STOPPING, retry_us=SECOND_US), Stop)
