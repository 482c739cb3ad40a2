"""A one-way reliable stream between two places, as TCP gives it: in order, once, late while the link is cut."""

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import Factory, define

from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.network import MILLISECOND_US, SimNetwork

RETRANSMIT_US = 200 * MILLISECOND_US
LINGER_US = 10_000_000
"""How long after its sender has given up an item may still arrive: what the kernel had in its buffers."""


@define
class Pipe:
    """Delivers items to `receive` in the order of sending. While the link is cut the head of the queue is sent again
    and again, until the item is `LINGER_US` old; then the stream is broken and carries nothing any more."""

    agenda: Agenda
    network: SimNetwork
    sender: str
    to: str
    receive: Callable[[Any], None]
    _items: deque[tuple[int, Any]] = Factory(deque)
    _busy: bool = False
    broken: bool = False

    def send(self, item: Any) -> None:
        """Put one item on its way."""
        self._items.append((self.agenda.now_us, item))
        if not self._busy:
            self._busy = True
            self.agenda.after(self.network.delay_us(), self._arrive)

    def _arrive(self) -> None:
        sent_us, item = self._items[0]
        if self.network.is_cut(self.sender, self.to):
            if self.agenda.now_us - sent_us > LINGER_US:
                self.broken = True
                self._items.clear()
                return
            self.agenda.after(RETRANSMIT_US, self._arrive)
            return
        self._items.popleft()
        if self._items:
            # What was sent together travels together: the next one is right behind.
            self.agenda.after(self.network.delay_us() // 8, self._arrive)
        else:
            self._busy = False
        self.receive(item)
