"""Every n days, weeks, months or years at a wall time: which wall seconds that is, without any zone."""

from datetime import date
from functools import lru_cache
from typing import Final, Literal

import attrs

from .cron_pattern import Pace, month_length
from .instants import DAY_S

Unit = Literal["years", "months", "weeks", "days"]
MonthEnd = Literal["clamp", "skip"]

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_STEP_DAYS: Final = {"days": 1, "weeks": 7}
_STEP_MONTHS: Final = {"months": 1, "years": 12}
_MONTH_DAYS: Final = 365.2425 / 12


@attrs.frozen(eq=False)
class EveryDays:
    """`first_s + k * step_s` for k >= 0: wall seconds every so many days."""

    first_s: int
    step_s: int
    pace: Pace = "times"

    @property
    def per_day(self) -> float:
        return DAY_S / self.step_s

    def between(self, low_s: int, high_s: int) -> list[int]:
        low_s = max(low_s, self.first_s)
        return list(range(low_s + (self.first_s - low_s) % self.step_s, high_s, self.step_s))

    def count(self, low_s: int, high_s: int) -> int:
        low_s = max(low_s, self.first_s)
        return len(range(low_s + (self.first_s - low_s) % self.step_s, high_s, self.step_s))


@attrs.frozen(eq=False)
class EveryMonths:
    """A day of every so many months from `first` on. A day that a month lacks is its last one, or left out."""

    first: date
    time_s: int
    step: int
    clamp: bool
    pace: Pace = "times"

    @property
    def per_day(self) -> float:
        return 1 / (self.step * _MONTH_DAYS)

    def between(self, low_s: int, high_s: int) -> list[int]:
        origin = self.first.year * 12 + self.first.month - 1
        start = date.fromordinal(low_s // DAY_S + _EPOCH_DAY)
        month = max(origin, start.year * 12 + start.month - 1)
        month += (origin - month) % self.step
        found: list[int] = []
        while (day := date(month // 12, month % 12 + 1, 1).toordinal() - _EPOCH_DAY) * DAY_S < high_s:
            length = month_length(month // 12, month % 12 + 1)
            if self.clamp or self.first.day <= length:
                wall_s = (day + min(self.first.day, length) - 1) * DAY_S + self.time_s
                if low_s <= wall_s < high_s:
                    found.append(wall_s)
            month += self.step
        return found

    def count(self, low_s: int, high_s: int) -> int:
        return len(self.between(low_s, high_s))


@lru_cache(maxsize=4096)
def calendar_pattern(every: int, unit: Unit, time_s: int, first: date, month_end: MonthEnd) -> EveryDays | EveryMonths:
    """The pattern of a calendar trigger."""
    if unit in _STEP_DAYS:
        first_s = (first.toordinal() - _EPOCH_DAY) * DAY_S + time_s
        return EveryDays(first_s, every * _STEP_DAYS[unit] * DAY_S)
    return EveryMonths(first, time_s, every * _STEP_MONTHS[unit], month_end == "clamp")
