"""What waits for one peer that has no room at the moment."""

from collections import deque
from collections.abc import Callable


class Outbox:
    """Messages, oldest first, bounded in number and in bytes."""

    __slots__ = ("_bytes", "_max_bytes", "_max_messages", "_waiting")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, data: bytes) -> bool:
        """Take one message in; False when it is full."""
        if len(self._waiting) >= self._max_messages or self._bytes + len(data) > self._max_bytes:
            return False
        self._waiting.append(data)
        self._bytes += len(data)
        return True

    def flush(self, send: Callable[[bytes], bool], limit: int) -> int:
        """Hand over at most `limit` messages to `send`, until it says False; how many went."""
        for sent in range(limit):
            if not self._waiting or not send(self._waiting[0]):
                return sent
            self._bytes -= len(self._waiting.popleft())
        return limit

    def clear(self) -> int:
        """Drop everything; how many there were."""
        dropped = len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return dropped
