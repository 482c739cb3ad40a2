"""What connections have sent and what has become a message: the difference is memory that somebody else fills.

libzmq bounds the length of a frame and the number of messages that wait, but not the number of frames in one message:
it collects them, however many come, until the last one is there. The kernel counts what arrives (on Linux), we count
what is delivered.
"""

import socket
import struct
import sys
from collections import Counter

PER_MESSAGE = 128
"""What CURVE and ZMTP add to a message, and more."""
PER_LOOK = 64 * 1024
"""What may come between two looks without being a message: handshakes, heartbeats."""
BUFFERED = 16 * 1024 * 1024
"""What the kernel and libzmq may hold of an honest peer while nothing of it is a message: more than enough."""
_TCP_INFO = 11
_RECEIVED_AT = 128
_U64 = struct.Struct("=Q")


class Meter:
    """By descriptor: what has come and is no message yet."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._delivered: Counter[int] = Counter()
        self._seen: dict[int, int] = {}
        self._owed: dict[int, int] = {}

    def forget(self, fd: int) -> None:
        """The descriptor belongs to nobody, or to somebody new."""
        self._delivered.pop(fd, None)
        self._seen.pop(fd, None)
        self._owed.pop(fd, None)

    def delivered(self, fd: int, size: int) -> None:
        """A message has come out."""
        self._delivered[fd] += size + PER_MESSAGE

    def is_hoarding(self, fd: int, had_its_turn: bool) -> bool:
        """Whether a connection, when it was looked at last, had sent more than may be on its way, and none of it has
        come out since, though it had its turn. To be asked again and again."""
        received = received_bytes(fd)
        if received is None:
            return False
        delivered = self._delivered.pop(fd, 0)
        owed = self._owed.get(fd, 0)
        came = received - self._seen.get(fd, 0)
        self._seen[fd] = received
        self._owed[fd] = max(0, owed + came - delivered - PER_LOOK)
        return owed > self._limit and delivered == 0 and had_its_turn


def received_bytes(fd: int) -> int | None:
    """How much a TCP connection has received since it began; None where that cannot be known."""
    if sys.platform != "linux":
        return None
    try:
        # Not ours: it is only looked at, and let go.
        borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
    except OSError:
        return None
    try:
        info = borrowed.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RECEIVED_AT + _U64.size)
    except OSError:
        return None
    finally:
        borrowed.detach()
    return int(_U64.unpack_from(info, _RECEIVED_AT)[0]) if len(info) >= _RECEIVED_AT + _U64.size else None
