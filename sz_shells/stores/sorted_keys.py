"""A sorted set that changes in about a microsecond whatever its size: a list of short sorted lists."""

from bisect import bisect_left, bisect_right, insort
from typing import Generic, TypeVar

K = TypeVar("K", tuple[int, str], tuple[int, int], str)

LOAD = 512


class SortedKeys(Generic[K]):
    """Unique keys in order. Reading goes part by part, so that nobody holds all of it still."""

    __slots__ = ("_lasts", "_parts")

    def __init__(self) -> None:
        self._parts: list[list[K]] = []
        self._lasts: list[K] = []

    def add(self, key: K) -> None:
        """Put a key in; one that is there already stays as it is."""
        lasts = self._lasts
        if not lasts or key > lasts[-1]:
            self._append(key)
            return
        at = bisect_left(lasts, key)
        part = self._parts[at]
        if part[bisect_left(part, key)] != key:
            insort(part, key)
            if len(part) > 2 * LOAD:
                self._split(at)

    def discard(self, key: K) -> None:
        """Take a key out, if it is there."""
        if not self._parts:
            return
        # Due work leaves from the front.
        at = place = 0
        part = self._parts[0]
        if part[0] != key:
            at = bisect_left(self._lasts, key)
            if at == len(self._lasts):
                return
            part = self._parts[at]
            place = bisect_left(part, key)
            if part[place] != key:
                return
        del part[place]
        if not part:
            del self._parts[at], self._lasts[at]
        elif place == len(part):
            self._lasts[at] = part[-1]

    def after(self, key: K | None) -> list[K]:
        """The next few hundred keys that are greater than `key` (None: from the first), ascending; none at the end."""
        if key is None:
            return self._parts[0][:] if self._parts else []
        at = bisect_right(self._lasts, key)
        if at == len(self._lasts):
            return []
        part = self._parts[at]
        return part[bisect_right(part, key) :]

    def before(self, key: K | None) -> list[K]:
        """The next few hundred keys that are less than `key` (None: from the last), descending; none at the end."""
        if not self._parts:
            return []
        if key is None:
            return self._parts[-1][::-1]
        at = bisect_left(self._lasts, key)
        part = self._parts[at] if at < len(self._parts) else []
        found = part[: bisect_left(part, key)]
        if not found and at > 0:
            found = self._parts[at - 1]
        return found[::-1]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def _append(self, key: K) -> None:
        if self._parts and len(self._parts[-1]) < LOAD:
            self._parts[-1].append(key)
            self._lasts[-1] = key
        else:
            self._parts.append([key])
            self._lasts.append(key)

    def _split(self, at: int) -> None:
        part = self._parts[at]
        self._parts.insert(at + 1, part[LOAD:])
        self._lasts.insert(at + 1, part[-1])
        del part[LOAD:]
        self._lasts[at] = part[-1]
