"""Messages as frames: none is longer than the other end is sure to take."""

import pytest

from sz_protocol.codec import decode
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.messages import TO_HANDLER_SERVER, Hello, Results, RunReport
from sz_protocol.records import MOST_ERROR, MOST_RESULT, Outcome
from sz_runtime.config.kinds import MIN_FRAME
from sz_shells.links.zmq.frames import to_frames


def report(row: int, size: int) -> RunReport:
    return RunReport(row, 1, 1, 1, 1, Outcome.SUCCEEDED, "", 0, 0, "x" * size, "é" * MOST_ERROR)


@pytest.mark.parametrize(("count", "size"), [(1, MOST_RESULT), (3, MOST_RESULT), (100, MOST_RESULT), (5000, 10)])
def test_a_batch_that_is_too_long_goes_in_several_frames(count: int, size: int) -> None:
    reports = tuple(report(row, size) for row in range(count))
    frames = to_frames(Results(1, 7, reports))
    assert all(len(frame) <= MIN_FRAME for frame in frames)
    messages: list[Results] = [decode(frame, TO_HANDLER_SERVER) for frame in frames]
    assert tuple(one for message in messages for one in message.results) == reports
    assert {(message.session, message.granted) for message in messages} == {(1, 7)}
    assert len(frames) < count or count == 1


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        to_frames(Results(1, 7, (report(1, 5_000_000),)))
    with pytest.raises(LocalProtocolError):
        to_frames(Hello)
