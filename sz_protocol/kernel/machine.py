"""The one interface that every state machine has."""

from collections.abc import Iterable
from typing import Final, Protocol

from sz_protocol.kernel.effects import Effect
from sz_protocol.kernel.events import Event
from sz_protocol.kernel.now import Now, WakeReason, Wakeup

_BACKLOG: Final = WakeReason.BACKLOG  # bound once, as in records.py


class Machine(Protocol):
    """A pure state machine: facts go in, orders come out, and time is an argument.

    Every `handle` expires all deadlines before it looks at the event, so that a late message cannot revive what
    has expired. After every call `next_wakeup` lies in the future, or its reason is BACKLOG and each further
    `Woke` strictly shrinks that backlog.
    """

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact and return the orders that follow from it, to be performed in list order."""
        ...

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """When `Woke` should come, or None when only an event can bring news."""
        ...


def earliest(machines: Iterable[Machine], now: Now) -> Wakeup | None:
    """The first wake-up of several machines that live together; a backlog comes before all others."""
    first: Wakeup | None = None
    for machine in machines:
        wakeup = machine.next_wakeup(now)
        if wakeup is None:
            continue
        if wakeup.reason is _BACKLOG:
            return wakeup
        if first is None or wakeup.at_us < first.at_us:
            first = wakeup
    return first
