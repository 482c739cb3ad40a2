"""The loop that drives a machine: one task takes events, performs effects in order, sleeps until the next wake-up.

The same code runs on asyncio and on trio. Completions come back as events through a mailbox, never re-entrantly.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel

from sz_protocol.kernel.events import StopRequested, Woke
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.notices import Notice
from sz_runtime.mailbox import Mailbox
from sz_runtime.ports import Clock

MAX_SLEEP_US = 30_000_000
"""No sleep is longer, so that a suspend or a step of the clock is noticed."""

EVENTS_PER_TURN, TURN_US = 64, 2_500
"""How many events are taken, and for how long, before other tasks of this loop get their turn."""

Observer = Callable[[Notice], None]

E = TypeVar("E")
F = TypeVar("F")
Fact = TypeVar("Fact", contravariant=True)
Order = TypeVar("Order", covariant=True)


class Driven(Protocol[Fact, Order]):
    """What the loop needs of what it drives: the interface of a machine."""

    def handle(self, event: Fact, now: Now) -> Sequence[Order]:
        """Take one fact."""
        ...

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """When to wake it."""
        ...


class MachineLoop(ABC, Generic[E, F]):
    """Drives one machine. Who derives from it says how an effect is performed, and sets `_stopped` at the last one."""

    def __init__(self, machine: Driven[E | Woke | StopRequested, F], clock: Clock) -> None:
        self._machine = machine
        self._clock = clock
        self._inbox: Mailbox[E | Woke | StopRequested] = Mailbox()
        self._stopped = False
        self.ended = anyio.Event()
        """Set when the machine has ended, and its driver with it."""
        self.loop_lag_us = 0
        """How late the last wake-up came: the lag of the protocol's own event loop."""

    def complete(self, events: Sequence[E]) -> None:
        """Hand in completions; from any thread. This is the `Complete` of the ports."""
        self._inbox.post(events)

    def stop(self, grace_us: int) -> None:
        """Ask the machine to drain: the driver's `run` returns when it has. From any thread."""
        self._inbox.post([StopRequested(grace_us)])

    @abstractmethod
    def _perform(self, effect: F) -> None:
        """Carry out one order."""

    @abstractmethod
    def _turn_over(self) -> None:
        """Whatever was held back to go together goes now: other tasks are about to have their turn."""

    async def _loop(self) -> None:
        inbox, clock = self._inbox, self._clock
        while True:
            until_us = clock.now().mono_us + TURN_US
            at_us = self._turn(until_us)
            self._turn_over()
            if self._stopped:
                return
            if at_us is None or inbox:
                await anyio.lowlevel.checkpoint()
                continue
            clock.arm(at_us)
            await inbox.wait()
            now = clock.now()
            late_us = now.mono_us - at_us
            if late_us >= 0:
                self.loop_lag_us = late_us
                self._handle(Woke(), now)

    def _turn(self, until_us: int) -> int | None:
        """Handle what is in the inbox and what the machine has left to do, for one turn at most; returns when to wake
        next, None where work is left."""
        while True:
            now = self._take_events(until_us)
            if self._stopped:
                return None
            wakeup = self._machine.next_wakeup(now)
            limit_us = now.mono_us + MAX_SLEEP_US
            if wakeup is None or (wakeup.reason is not WakeReason.BACKLOG and wakeup.at_us > now.mono_us):
                return limit_us if wakeup is None else min(wakeup.at_us, limit_us)
            if now.mono_us > until_us:
                return None
            self._handle(Woke(), now)

    def _take_events(self, until_us: int) -> Now:
        """Handle what is in the inbox, for one turn at most; returns the time after it."""
        inbox, clock = self._inbox, self._clock
        now = clock.now()
        taken = 0
        while inbox and taken < EVENTS_PER_TURN and now.mono_us <= until_us:
            self._handle(inbox.take(), now)
            now = clock.now()
            taken += 1
        return now

    def _handle(self, event: E | Woke | StopRequested, now: Now) -> None:
        for effect in self._machine.handle(event, now):
            self._perform(effect)
