"""Cron on the wall clock: which wall seconds an expression matches, by tables and bisection, without any zone.

Whether a day matches depends on its month and on nothing but the month's first weekday and length, so there are 28
kinds of month, and each kind's days are computed at most once per expression. Within a day, the hours and the seconds
of an hour are sorted tuples.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import date
from functools import lru_cache, partial
from typing import Final, Literal

import attrs

from .cron_expression import CronFields, parse_cron
from .errors import TriggerError
from .instants import DAY_S, HOUR_S

DayRule = Literal["or", "and"]
Pace = Literal["times", "rhythm", "elapsed"]

# A pattern whose fires come round the clock, never more than this many hours apart, is a rhythm.
RHYTHM_HOURS: Final = 4

_LENGTHS: Final = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


def month_length(year: int, month: int) -> int:
    """The number of days of a month in the Gregorian calendar."""
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if leap else _LENGTHS[month]


@attrs.frozen(eq=False)
class CronPattern:
    """The wall seconds that match. `pace` decides what happens where clocks are moved (see `local_fires`)."""

    hours: tuple[int, ...]
    in_hour: tuple[int, ...]  # seconds of the hour
    months: tuple[int, ...]
    days_of: Callable[[int, int], tuple[int, ...]]  # first weekday, length -> the matching days of such a month
    pace: Pace
    every_day: bool
    per_day: float  # how many fires a day has on average, roughly: sizes the cached pieces

    def between(self, low_s: int, high_s: int) -> list[int]:
        """The matching wall seconds w with low_s <= w < high_s, ascending."""
        found: list[int] = []
        for day in self._days(low_s // DAY_S, -(-high_s // DAY_S)):
            for hour in self.hours:
                base = day * DAY_S + hour * HOUR_S
                first, last = bisect_left(self.in_hour, low_s - base), bisect_left(self.in_hour, high_s - base)
                found += [base + second for second in self.in_hour[first:last]]
        return found

    def count(self, low_s: int, high_s: int) -> int:
        """How many there are, in a time that grows with the months between."""
        days = self._count_days(low_s // DAY_S, high_s // DAY_S)
        return days * len(self.hours) * len(self.in_hour) + self._earlier(high_s) - self._earlier(low_s)

    def _earlier(self, wall_s: int) -> int:
        """How many there are on the same day before `wall_s`."""
        day, second = divmod(wall_s, DAY_S)
        hour, rest = divmod(second, HOUR_S)
        whole = bisect_left(self.hours, hour)
        if not second or not self._count_days(day, day + 1):
            return 0
        begun = bisect_left(self.in_hour, rest) if hour in self.hours else 0
        return whole * len(self.in_hour) + begun

    def _days(self, first: int, last: int) -> Iterator[int]:
        """The matching days from `first` to before `last`, counted from 1970-01-01."""
        if self.every_day:
            yield from range(first, last)
            return
        for base, days in self._months(first, last):
            yield from (base + day for day in days if first <= base + day < last)

    def _count_days(self, first: int, last: int) -> int:
        if self.every_day:
            return last - first
        months = self._months(first, last)
        return sum(bisect_left(days, last - base) - bisect_left(days, first - base) for base, days in months)

    def _months(self, first: int, last: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The months that touch these days: (day before the month's first, its matching days from 1)."""
        if first >= last:
            return
        start = date.fromordinal(first + _EPOCH_DAY)
        year, month, base = start.year, start.month, first - start.day
        while base + 1 < last:
            length = month_length(year, month)
            if month in self.months:
                yield base, self.days_of((base + 5) % 7, length)  # 1970-01-01, base -1, was a Thursday, 4
            base += length
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)


@lru_cache(maxsize=2048)
def cron_pattern(expression: str, day_rule: DayRule) -> CronPattern:
    """The pattern of an expression; TriggerError when it is wrong or can never match."""
    fields = parse_cron(expression)
    days_of = lru_cache(maxsize=28)(partial(_matching_days, fields, day_rule))
    kinds = ((weekday, length) for length in reversed(_month_lengths(fields)) for weekday in range(7))
    if not any(days_of(*kind) for kind in kinds):
        raise TriggerError([(("expression",), _why_never(fields))])
    in_hour = tuple(minute * 60 + second for minute in fields.minutes for second in fields.seconds)
    days_a_year = sum(len(days_of(1, _LENGTHS[month])) for month in fields.months)
    return CronPattern(
        hours=fields.hours,
        in_hour=in_hour,
        months=fields.months,
        days_of=days_of,
        pace=_pace(fields.hours, len(in_hour)),
        every_day=fields.day_open and fields.weekday_open and len(fields.months) == 12,
        per_day=len(fields.hours) * len(in_hour) * max(days_a_year, 1) / 365,
    )


def _pace(hours: tuple[int, ...], per_hour: int) -> Pace:
    """How often the pattern fires around a change of the clock.

    elapsed  every hour of the day, or more than once an hour through at least two hours that follow each other
    rhythm   otherwise, round the clock with never more than RHYTHM_HOURS between two of its hours
    times    anything else: times of the day that somebody chose
    """
    apart = [(later - hour) % 24 or 24 for hour, later in zip(hours, hours[1:] + hours[:1], strict=True)]
    if len(hours) == 24 or (per_hour > 1 and min(apart) == 1):
        return "elapsed"
    return "rhythm" if max(apart) <= RHYTHM_HOURS else "times"


def _matching_days(fields: CronFields, rule: DayRule, first_weekday: int, length: int) -> tuple[int, ...]:
    month = range(1, length + 1)
    by_day = {day for day in fields.days if day <= length}
    by_day |= {length - back for back in fields.before_last if back < length}
    by_day |= {_nearest_weekday(day, first_weekday, length) for day in fields.nearest if day <= length}
    if fields.last_weekday:
        by_day.add(_nearest_weekday(length, first_weekday, length))
    by_weekday = {day for weekday in fields.weekdays for day in month[(weekday - first_weekday) % 7 :: 7]}
    for weekday, nth in fields.nth:
        by_weekday.update(month[(weekday - first_weekday) % 7 :: 7][nth - 1 : nth])
    for weekday in fields.last:
        by_weekday.add(month[(weekday - first_weekday) % 7 :: 7][-1])
    either = rule == "or" and not fields.day_open and not fields.weekday_open
    return tuple(sorted(by_day | by_weekday if either else by_day & by_weekday))


def _nearest_weekday(day: int, first_weekday: int, length: int) -> int:
    """The day from Monday to Friday nearest to `day` without leaving its month."""
    match (first_weekday + day - 1) % 7:
        case 6:
            return day - 1 if day > 1 else day + 2
        case 0:
            return day + 1 if day < length else day - 2
        case _:
            return day


def _month_lengths(fields: CronFields) -> list[int]:
    lengths = {_LENGTHS[month] for month in fields.months} | ({29} if 2 in fields.months else set())
    return sorted(lengths)


def _why_never(fields: CronFields) -> str:
    months = ", ".join(str(month) for month in fields.months)
    longest = max(_month_lengths(fields))
    wanted = [*fields.days, *fields.nearest, *(back + 1 for back in fields.before_last)]
    if wanted and min(wanted) > longest:
        return f"day of month: day {min(wanted)} never comes in month {months}, which has at most {longest} days"
    return f"day of month: never falls together with the weekday in month {months}; day_rule 'or' takes either"
