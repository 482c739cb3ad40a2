"""The clock of a real node: time since boot for every decision, wall time for fire times, and one timer."""

import time
from collections.abc import Callable
from functools import partial

from sz_protocol.kernel.now import SECOND_US, Now
from sz_shells.clocks.timerfd import timer_works
from sz_shells.clocks.timers import FdTimer, SleepTimer, Timer
from sz_shells.clocks.trust import TrustPolicy, why_not_synchronised


class BootClock:
    """Implements the Clock port.

    `now().mono_us` counts suspends where the system has such a clock (CLOCK_BOOTTIME, Linux) and never steps;
    `utc_us` is the system's wall clock. `now` may be called from any thread and costs under a microsecond.

    Under TrustPolicy.SYNCHRONISED the kernel is asked once a second until it first says yes. From then on the clock
    stays trusted for the life of the process: a device that was right once and then lost its network for a week
    drifts, but it knows the time.
    """

    def __init__(
        self,
        trust: TrustPolicy = TrustPolicy.RTC,
        *,
        timerfd: bool = True,
        why_untrusted: Callable[[], str] = why_not_synchronised,
    ) -> None:
        """`timerfd=False` asks for the plain sleep even where the finer timer is to be had; `why_untrusted` answers
        an empty string once the wall clock can be believed."""
        self._mono_ns = _suspend_counting_ns()
        self._timer: Timer = _timer(self._mono_us, timerfd)
        self._why_untrusted = why_untrusted
        self._trusted = trust is TrustPolicy.RTC
        self._ask_again_us = 0
        self._distrust = ""

    @property
    def distrust(self) -> str:
        """Why `now().trusted` is False, for a person; empty when it is True."""
        self.now()
        return self._distrust

    def now(self) -> Now:
        """Read both clocks."""
        mono_us = self._mono_ns() // 1000
        if not self._trusted and mono_us >= self._ask_again_us:
            self._ask(mono_us)
        return Now(mono_us, time.time_ns() // 1000, self._trusted)

    def arm(self, at_us: int | None) -> None:
        """Wake once, soon after the monotonic clock reaches `at_us`; replaces what was armed before. Call it in the
        event loop that serves `run`, or before `run` begins."""
        self._timer.arm(at_us)

    async def run(self, wake: Callable[[], None]) -> None:
        """Serve the timer until cancelled."""
        await self._timer.run(wake)

    def _mono_us(self) -> int:
        return self._mono_ns() // 1000

    def _ask(self, mono_us: int) -> None:
        self._ask_again_us = mono_us + SECOND_US
        self._distrust = self._why_untrusted()
        self._trusted = not self._distrust


def _suspend_counting_ns() -> Callable[[], int]:
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns if boot is None else partial(time.clock_gettime_ns, boot)


def _timer(now_us: Callable[[], int], timerfd: bool) -> Timer:
    return FdTimer(now_us) if timerfd and timer_works() else SleepTimer(now_us)
