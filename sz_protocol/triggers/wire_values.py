"""Single values of a trigger as they stand in YAML or JSON: each reader returns the value or raises `Wrong`.

YAML loaders turn what looks like a date or a time into objects of their own, so those are taken too.
"""

import re
from datetime import date, datetime
from typing import Final

from .errors import shown
from .instants import DAY_S, SECOND_US, clock, to_us
from .zones import zone, zone_problem

_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)


class Wrong(Exception):  # what is wrong with one value, and what would be right
    """Why a value cannot be taken."""


def read_text(value: object) -> str:
    """Text, and nothing that merely could be written as text."""
    if isinstance(value, str):
        return value
    raise Wrong(f"must be text in quotes, got {shown(value)}")


def read_zone(value: object) -> str:
    """The exact name of a zone."""
    if problem := zone_problem(value):
        raise Wrong(problem)
    return str(value)


def read_whole(value: object) -> int:
    """A whole number; neither a bool nor a text of digits is one."""
    if type(value) is int:
        return value
    raise Wrong(f"must be a whole number, got {shown(value)}")


def read_amount(value: object) -> float:
    """A number of units that is not negative: int or float, finite."""
    if type(value) is not int and type(value) is not float:
        raise Wrong(f"must be a number, got {shown(value)}")
    if not 0 <= value <= 10**12:  # nor infinite, nor NaN
        raise Wrong(f"must be a number that is not negative, got {shown(value)}")
    return value


def read_date(value: object) -> date:
    """A day, written 2026-12-24."""
    if type(value) is date:
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError as wrong:
            raise Wrong(f"must be a date such as 2026-12-24, got {shown(value)} ({wrong})") from None
    raise Wrong(f"must be a date such as 2026-12-24, without a time, got {shown(value)}")


def read_time(value: object) -> int:
    """A time of the day, `HH:MM` or `HH:MM:SS`, as seconds."""
    if isinstance(value, str) and (found := _TIME.fullmatch(value)):
        return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3] or 0)
    if type(value) is int and 600 <= value < DAY_S:  # YAML 1.1 reads 12:30 as 12 * 60 + 30
        meant = clock(value * 60 if value < 1440 else value)
        raise Wrong(f'must be text: YAML reads a time without quotes as a number; write "{meant}"')
    raise Wrong(f'must be a time of day such as "02:30" or "02:30:15", got {shown(value)}')


def read_instant(value: object, timezone: str, *, end_of_day: bool = False) -> int:
    """An instant in microseconds: ISO 8601; on the wall of `timezone` where it has no offset.

    A date alone is its first instant, or with `end_of_day` its last. A wall time that does not exist is the first
    valid instant after it, one that comes twice is its first pass.
    """
    if isinstance(value, str):
        value = _parse(value)
    if not isinstance(value, date):
        raise Wrong(f"must be a time such as 2026-03-29T02:30:00 or 2026-03-29T02:30:00+02:00, got {shown(value)}")
    if not 1900 <= value.year <= 2199:
        raise Wrong(f"must lie in the years 1900 to 2199, got {shown(value)}")
    if not isinstance(value, datetime):
        midnight = datetime(value.year, value.month, value.day)
        if end_of_day:
            return _on_wall(to_us(midnight) + DAY_S * SECOND_US, timezone) - 1
        return _on_wall(to_us(midnight), timezone)
    return _on_wall(to_us(value), timezone) if value.tzinfo is None else to_us(value)


def _parse(text: str) -> date:
    try:
        return date.fromisoformat(text) if len(text) <= 10 else datetime.fromisoformat(text)
    except ValueError:
        raise Wrong(
            f"must be a time such as 2026-03-29T02:30:00 or 2026-03-29T02:30:00+02:00, got {shown(text)}"
        ) from None


def _on_wall(wall_us: int, timezone: str) -> int:
    wall_s, micro_us = divmod(wall_us, SECOND_US)
    where = zone(timezone)
    utc_s = where.first_instant(wall_s)
    moved = where.offsets[where.segment(utc_s)] + utc_s != wall_s
    return utc_s * SECOND_US + (0 if moved else micro_us)
