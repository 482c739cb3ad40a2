"""Messages as frames, and back as facts. What does not fit into one frame goes in several, where it is a batch."""

from collections.abc import Iterable
from typing import Any

from attrs import evolve

from sz_protocol.codec import decode, encode
from sz_protocol.kernel.errors import DecodeError, LocalProtocolError
from sz_protocol.kernel.events import Garbled, Received
from sz_protocol.messages import Accept, Dispatch, ResultAck, Results
from sz_runtime.config.kinds import MIN_FRAME

BATCH_BYTES = MIN_FRAME // 2
"""A batch is cut above this: the other end may take no more than MIN_FRAME, and would cut us off for what is longer."""

MOST_JOINED = 256
"""Runs in one message."""


class Mail:
    """Messages that wait to leave. Those to one peer that say the same of more runs become one: a frame for each run
    would cost more than the run. Kinds may overtake each other here, as they may on the way (MEMB-11)."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, list[Any]] = {}

    def put(self, to: bytes, message: Any) -> None:
        """Add one."""
        waiting = self._waiting.setdefault(to, [])
        for at in range(len(waiting) - 1, -1, -1):
            if type(waiting[at]) is type(message):
                joined = _joined(waiting[at], message)
                if joined is not None:
                    waiting[at] = joined
                    return
                break
        waiting.append(message)

    def take(self) -> list[tuple[bytes, Any]]:
        """All of them, by peer; none is left."""
        taken = [(to, message) for to, waiting in self._waiting.items() for message in waiting]
        self._waiting.clear()
        return taken


def _joined(first: Any, second: Any) -> Any:
    """One message that says what both say; None where there is none."""
    if not isinstance(first, Dispatch | Accept | Results | ResultAck) or first.session != second.session:
        return None
    match first:
        case Dispatch() | Accept() if len(first.runs) < MOST_JOINED:
            # The later beat, in a Dispatch, is true of all: a lease is counted from what was heard last.
            return evolve(second, runs=first.runs + second.runs)
        case Results() if len(first.results) < MOST_JOINED:
            return evolve(second, results=first.results + second.results)
        case ResultAck() if len(first.acks) < MOST_JOINED:
            return evolve(second, acks=first.acks + second.acks)
    return None


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
