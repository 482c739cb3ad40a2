"""The one interface that every state machine has."""

from typing import Protocol

from sz_protocol.kernel.effects import Effect
from sz_protocol.kernel.events import Event
from sz_protocol.kernel.now import Now, Wakeup


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
