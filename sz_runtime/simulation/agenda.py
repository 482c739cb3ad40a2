"""The one heap of a simulated world: what happens when, in true time."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from attrs import Factory, define

Action = Callable[..., None]


@define
class Agenda:
    """Entries (at, seq, action, arguments), taken in the order of (at, seq): ties keep the order of their planning.

    `now_us` is true time, microseconds since the simulation's origin; only taking an entry moves it. Nothing is ever
    removed: an entry that has lost its meaning (the node it speaks to is dead) finds that out when it is taken.
    """

    now_us: int = 0
    _seq: int = 0
    _heap: list[tuple[int, int, Action, tuple[Any, ...]]] = Factory(list)

    def at(self, at_us: int, action: Action, *arguments: Any) -> None:
        """Plan `action(*arguments)` for `at_us`, or for now if that has passed."""
        self._seq = seq = self._seq + 1
        now_us = self.now_us
        heappush(self._heap, (at_us if at_us > now_us else now_us, seq, action, arguments))

    def after(self, delay_us: int, action: Action, *arguments: Any) -> None:
        """Plan `action(*arguments)` for `delay_us` from now."""
        self._seq = seq = self._seq + 1
        heappush(self._heap, (self.now_us + delay_us if delay_us > 0 else self.now_us, seq, action, arguments))

    def run_until(self, until_us: int) -> None:
        """Take every entry up to and including `until_us`, then let it be `until_us`."""
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            self.now_us, _, action, arguments = heappop(heap)
            action(*arguments)
        self.now_us = max(self.now_us, until_us)

    def __len__(self) -> int:
        return len(self._heap)
