"""Which wall time due work may follow. Clocks step; schedules must not be fooled by one that jumps ahead.

TIME-1 a wall clock that jumps ahead is followed only after it has held for the settle time; meanwhile the wall time
is what the monotonic clock makes of the last accepted one. TIME-2 one that jumps back is followed at once: due work
waits, cursors never regress. TIME-3 a wall clock behind what the store has seen is not trusted until it catches up or
has held for the settle time. TIME-4 while the wall time is not trusted, machines go by the latest known one, carried on
by the monotonic clock: a lower bound, so that nothing is dated or decided ahead of time. TIME-5 until then only
interval schedules fire, on monotonic time; what an edit would have to know the present for is settled when it is known.
"""

from attrs import Factory, define, evolve

from sz_protocol.kernel.now import Now
from sz_protocol.notices import ClockStepped, TrustChanged
from sz_protocol.settings import Settings


@define
class Timekeeping:
    """`base_us` is wall minus monotonic time as accepted; `held_base_us` that of a jump ahead on probation;
    `known_base_us` the latest that was ever known (None: a new store on a device that knows no time)."""

    settings: Settings
    base_us: int | None = None
    held_base_us: int | None = None
    held_until_us: int = 0
    high_water_us: int = 0
    behind_until_us: int | None = None
    known_base_us: int | None = None
    trusted: bool = True
    notices: list[ClockStepped | TrustChanged] = Factory(list)

    def start(self, now: Now, high_water_us: int) -> None:
        """Begin a life: remember the latest wall time that the store has seen."""
        self.high_water_us = high_water_us
        if high_water_us:
            self.known_base_us = high_water_us - now.mono_us
        if now.utc_us + self.settings.clock_step_us < high_water_us:
            self.behind_until_us = now.mono_us + self.settings.clock_settle_us
            self.notices.append(ClockStepped(now.utc_us - high_water_us, held=True))

    def read(self, now: Now) -> Now:
        """The time that the machines are to go by."""
        if (
            self.base_us is not None
            and now.trusted
            and self.trusted
            and self.behind_until_us is None
            and self.held_base_us is None
        ):
            base_us = now.utc_us - now.mono_us
            limit_us = self.settings.clock_step_us
            if base_us == self.base_us or -limit_us <= base_us - self.base_us <= limit_us:
                # As nearly always: the clock is the one that we know.
                self.base_us = self.known_base_us = base_us
                return now
        now = self._steady(now)
        if self.behind_until_us is not None and now.mono_us >= self.behind_until_us:
            self.behind_until_us = None
        if now.trusted:
            now = self._not_behind(now)
        elif self.known_base_us is not None:
            now = Now(now.mono_us, now.mono_us + self.known_base_us, trusted=False)
        if now.trusted is not self.trusted:
            self.trusted = now.trusted
            self.notices.append(TrustChanged(now.trusted, now.utc_us))
        return now

    def _not_behind(self, now: Now) -> Now:
        """TIME-3. Which of the two is wrong, this clock or the one that the store has seen, nobody knows yet: the lower
        one is safe to go by."""
        if self.behind_until_us is not None:
            if now.utc_us < self.high_water_us:
                return evolve(now, trusted=False)
            self.behind_until_us = None
        self.known_base_us = now.utc_us - now.mono_us
        return now

    def next_check_us(self) -> int | None:
        """When, on the monotonic clock, a probation ends."""
        held_us = self.held_until_us if self.held_base_us is not None else None
        behind_us = self.behind_until_us
        if held_us is None or behind_us is None:
            return held_us if behind_us is None else behind_us
        return min(held_us, behind_us)

    def _steady(self, now: Now) -> Now:
        base_us = now.utc_us - now.mono_us
        step_us = 0 if self.base_us is None else base_us - self.base_us
        limit_us = self.settings.clock_step_us
        if self.base_us is None or not now.trusted or -limit_us <= step_us <= limit_us:
            if self.held_base_us is not None:
                self.held_base_us = None
                self.notices.append(ClockStepped(step_us, held=False))
            # A time that is not trusted is no measure for the one that will be: that one is followed at once.
            self.base_us = base_us if now.trusted else None
            return now
        if step_us < 0:
            self.base_us, self.held_base_us = base_us, None
            self.notices.append(ClockStepped(step_us, held=False))
            return now
        return self._hold(now, base_us, self.base_us)

    def _hold(self, now: Now, base_us: int, accepted_us: int) -> Now:
        """TIME-1: a jump ahead is on probation; a different one starts it anew."""
        limit_us = self.settings.clock_step_us
        if self.held_base_us is None or abs(base_us - self.held_base_us) > limit_us:
            self.held_base_us = base_us
            self.held_until_us = now.mono_us + self.settings.clock_settle_us
            self.notices.append(ClockStepped(base_us - accepted_us, held=True))
        if now.mono_us >= self.held_until_us:
            self.base_us, self.held_base_us = base_us, None
            self.notices.append(ClockStepped(base_us - accepted_us, held=False))
            return now
        self.held_base_us = base_us
        return Now(now.mono_us, now.mono_us + accepted_us, now.trusted)
