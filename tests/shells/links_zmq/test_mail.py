"""Messages that wait to leave: what can be said together is, and nothing is lost or mixed up."""

from sz_protocol.codec import decode
from sz_protocol.kernel.events import Garbled, Received
from sz_protocol.messages import (
    TO_HANDLER,
    TO_HANDLER_SERVER,
    Accept,
    Ack,
    AckCode,
    Beat,
    Bye,
    Dispatch,
    DispatchedRun,
    ResultAck,
    RunRef,
)
from sz_shells.links.zmq.frames import MOST_JOINED, Mail, from_frame, to_frames


def run(row: int, size: int = 0) -> DispatchedRun:
    return DispatchedRun(row, 1, row, row, "id", "s", "m", 0, params={"x": "y" * size} if size else {})


def dispatch(*rows: int, session: int = 7, beat: int = 1) -> Dispatch:
    return Dispatch(session, beat, tuple(run(row) for row in rows))


def test_runs_for_one_peer_leave_in_one_message_with_the_latest_beat() -> None:
    mail = Mail()
    mail.put(b"a", dispatch(1))
    mail.put(b"a", ResultAck(7, (Ack(9, 1, AckCode.OK),)))
    mail.put(b"b", dispatch(2))
    mail.put(b"a", dispatch(3, 4, beat=2))
    mail.put(b"a", ResultAck(7, (Ack(8, 1, AckCode.STALE),)))
    assert mail.take() == [
        (b"a", dispatch(1, 3, 4, beat=2)),
        (b"a", ResultAck(7, (Ack(9, 1, AckCode.OK), Ack(8, 1, AckCode.STALE)))),
        (b"b", dispatch(2)),
    ]
    assert mail.take() == []


def test_sessions_are_kept_apart_and_other_messages_stay_as_they_are() -> None:
    mail = Mail()
    said = [dispatch(1), dispatch(2, session=8), Accept(8, (RunRef(2, 1, 2),)), Beat(8, 1, 4), Beat(8, 2, 4), Bye(8)]
    for message in said:
        mail.put(b"a", message)
    assert [message for _, message in mail.take()] == said


def test_a_message_does_not_grow_for_ever() -> None:
    mail = Mail()
    for row in range(2 * MOST_JOINED + 5):
        mail.put(b"a", dispatch(row))
    sizes = [len(message.runs) for _, message in mail.take()]
    assert sizes == [MOST_JOINED, MOST_JOINED, 5]


def test_a_batch_that_is_too_large_for_a_frame_goes_in_several() -> None:
    large = Dispatch(7, 1, tuple(run(row, 250_000) for row in range(40)))
    frames = to_frames(large)
    assert len(frames) > 2
    messages = [decode(frame, TO_HANDLER) for frame in frames]
    assert [each.row for message in messages for each in message.runs] == list(range(40))


def test_bytes_become_facts_whatever_they_are() -> None:
    (frame,) = to_frames(Beat(7, 1, 4))
    assert from_frame(b"p", frame, TO_HANDLER_SERVER, "k") == Received(b"p", Beat(7, 1, 4), "k")
    assert isinstance(from_frame(b"p", frame, TO_HANDLER), Garbled)
    assert isinstance(from_frame(b"p", frame[:-1], TO_HANDLER_SERVER), Garbled)
