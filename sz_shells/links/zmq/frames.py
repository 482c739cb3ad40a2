"""Messages as frames, and back as facts. What does not fit into one frame goes in several, where it is a batch."""

from collections.abc import Iterable
from typing import Any

from attrs import evolve

from sz_protocol.codec import decode, encode
from sz_protocol.kernel.errors import DecodeError, LocalProtocolError
from sz_protocol.kernel.events import Garbled, Received
from sz_protocol.messages import Dispatch, Results
from sz_runtime.config.kinds import MIN_FRAME

BATCH_BYTES = MIN_FRAME // 2
"""A batch is cut above this: the other end may take no more than MIN_FRAME, and would cut us off for what is longer."""


def to_frames(message: Any) -> list[bytes]:
    """The frames of a message, one but for batches that are too large together. Raises LocalProtocolError for what no
    peer would take, however it is cut."""
    halves = _halves(message)
    try:
        frame = encode(message)
    except LocalProtocolError:
        if not halves:
            raise
    else:
        if len(frame) <= BATCH_BYTES or not halves:
            return [frame]
    return [frame for half in halves for frame in to_frames(half)]


def from_frame(sender: bytes, frame: bytes, expected: Iterable[type], key: str = "") -> Received | Garbled:
    """What came, as the machines take it."""
    try:
        return Received(sender, decode(frame, expected), key)
    except DecodeError as problem:
        return Garbled(sender, str(problem), key)


def _halves(message: Any) -> list[Any]:
    match message:
        case Dispatch(runs=batch) if len(batch) > 1:
            name = "runs"
        case Results(results=batch) if len(batch) > 1:
            name = "results"
        case _:
            return []
    middle = len(batch) // 2
    return [evolve(message, **{name: part}) for part in (batch[:middle], batch[middle:])]
