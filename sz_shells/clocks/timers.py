"""The node's one timer: a file descriptor where the system has one, a plain sleep elsewhere.

Both serve `arm` and `run` of the Clock port. `arm` is called in the loop that `run` runs in, after almost every event,
so it must cost next to nothing: an instant that moves away is only noted, and the timer, when it rings too early for
it, is set again.
"""

import math
import os
from collections.abc import Callable
from typing import Protocol

import anyio

from sz_runtime.loops import asyncio_loop
from sz_shells.clocks.timerfd import clear_timer, open_timer, set_timer

MonotonicUs = Callable[[], int]


class Timer(Protocol):
    """The timer half of the Clock port."""

    def arm(self, at_us: int | None) -> None:
        """Ring at this instant of the monotonic clock (None: not at all); replaces the one before."""
        ...

    async def run(self, wake: Callable[[], None]) -> None:
        """Serve until cancelled."""
        ...


class FdTimer:
    """A timerfd on the boot-time clock, set in absolute time: nothing is added up, so nothing drifts."""

    def __init__(self, now_us: MonotonicUs) -> None:
        self._now_us = now_us
        self._at_us: int | None = None
        self._set_us: int | None = None
        self._fd: int | None = None

    def arm(self, at_us: int | None) -> None:
        self._at_us = at_us
        if at_us is not None and (self._set_us is None or at_us < self._set_us):
            self._set(at_us)

    async def run(self, wake: Callable[[], None]) -> None:
        """On asyncio `wake` is called by the loop itself: what it raises goes to the loop's exception handler."""
        self._fd = fd = open_timer()
        loop = asyncio_loop()
        try:
            self.arm(self._at_us)
            if loop is not None:
                # Waiting for each ring anew costs two system calls and a turn of the loop: a tenth of a millisecond.
                loop.add_reader(fd, self._rung, fd, wake)
                await anyio.sleep_forever()
            while True:
                await anyio.wait_readable(fd)
                self._rung(fd, wake)
        finally:
            self._fd = self._set_us = None
            if loop is not None:
                loop.remove_reader(fd)
            else:
                anyio.notify_closing(fd)
            os.close(fd)

    def _rung(self, fd: int, wake: Callable[[], None]) -> None:
        clear_timer(fd)
        self._expired(wake)

    def _expired(self, wake: Callable[[], None]) -> None:
        self._set_us = None
        if self._at_us is None:
            return
        if self._now_us() < self._at_us:
            self._set(self._at_us)
            return
        self._at_us = None  # before the call: `wake` may arm anew
        wake()

    def _set(self, at_us: int) -> None:
        if self._fd is not None:
            set_timer(self._fd, at_us * 1000)
            self._set_us = at_us


class SleepTimer:
    """Sleeps. The loop's clock may stand still during a suspend: an instant that passes meanwhile rings late by at
    most what was still to sleep, which the driver bounds."""

    def __init__(self, now_us: MonotonicUs) -> None:
        self._now_us = now_us
        self._at_us: int | None = None
        self._sleeps_until_us = math.inf
        self._sooner: anyio.Event | None = None

    def arm(self, at_us: int | None) -> None:
        self._at_us = at_us
        if self._sooner is not None and at_us is not None and at_us < self._sleeps_until_us:
            self._sooner.set()

    async def run(self, wake: Callable[[], None]) -> None:
        try:
            while True:
                self._sooner = anyio.Event()
                self._sleeps_until_us = math.inf if self._at_us is None else self._at_us
                with anyio.move_on_after(max(0.0, (self._sleeps_until_us - self._now_us()) / 1e6)):
                    await self._sooner.wait()
                if self._at_us is not None and self._now_us() >= self._at_us:
                    self._at_us = None
                    wake()
        finally:
            self._sooner = None
