"""Time zone files (TZif, RFC 9636) as a table of transitions.

`zoneinfo` answers "which offset here?" but not "where are the transitions?", and the rules for gaps and folds are
about transitions. So the table is read from the file itself; the tests compare it with `zoneinfo` for every zone.
"""

import re
import struct
from collections.abc import Iterator
from datetime import date
from typing import Final

from .instants import DAY_S

LAST_RULE_YEAR: Final = 2200

_NAME = r"(?:<[A-Za-z0-9+\-]+>|[A-Za-z]{3,})"
_OFFSET = r"([+-]?\d{1,3}(?::\d\d){0,2})"
_DAY = r"(J\d+|\d+|M\d+\.\d\.\d)(?:/([+-]?\d{1,3}(?::\d\d){0,2}))?"
_FOOTER: Final = re.compile(rf"{_NAME}{_OFFSET}(?:{_NAME}{_OFFSET}?,{_DAY},{_DAY})?")
_HEADER: Final = struct.Struct(">4sc15x6l")
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


def read_tzif(data: bytes) -> tuple[list[int], list[int]]:
    """`(at, offsets)`: transitions in UTC seconds up to the year 2200, and the offset from UTC before, between and
    after them, so `len(offsets) == len(at) + 1`. Neighbouring offsets always differ. ValueError for other data."""
    magic, version, *counts = _HEADER.unpack_from(data)
    if magic != b"TZif" or version < b"2":
        raise ValueError("not a TZif file of version 2 or later")
    isut, isstd, leap, times, types, chars = counts
    second = _HEADER.size + times * 5 + types * 6 + chars + leap * 8 + isstd + isut
    _, _, isut, isstd, leap, times, types, chars = _HEADER.unpack_from(data, second)
    start = second + _HEADER.size
    instants = struct.unpack_from(f">{times}q", data, start)
    indexes = data[start + times * 8 : start + times * 9]
    table = [struct.unpack_from(">lBB", data, start + times * 9 + 6 * k)[0] for k in range(types)]
    footer = data[start + times * 9 + types * 6 + chars + leap * 12 + isstd + isut :].strip(b"\n").decode("ascii")
    rows = [(at, table[index]) for at, index in zip(instants, indexes, strict=True)]
    rows += list(_rule_rows(footer, rows[-1][0] if rows else None))
    return _without_repeats(table[0], rows)


def _without_repeats(before: int, rows: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    at, offsets = [], [before]
    for instant, offset in rows:
        if offset != offsets[-1]:  # Only the abbreviation or the DST flag changed: no clock moved.
            at.append(instant)
            offsets.append(offset)
    return at, offsets


def _rule_rows(footer: str, last: int | None) -> Iterator[tuple[int, int]]:
    """The transitions that the footer's rule makes after the `last` one in the table."""
    found = _FOOTER.fullmatch(footer)
    if not found:
        raise ValueError(f"not a TZ rule: {footer!r}")
    std, dst, start, start_at, end, end_at = found.groups()
    standard = -_seconds(std)
    if start is None:
        if last is None:
            yield -(10**11), standard
        return
    summer = -_seconds(dst) if dst else standard + 3600
    first_year = 1970 if last is None else date.fromordinal(last // DAY_S + _EPOCH_DAY).year
    for year in range(first_year, LAST_RULE_YEAR + 1):
        begins = _rule_day(start, year) * DAY_S + _seconds(start_at or "2") - standard
        ends = _rule_day(end, year) * DAY_S + _seconds(end_at or "2") - summer
        for row in sorted([(begins, summer), (ends, standard)]):
            if last is None or row[0] > last:
                yield row


def _seconds(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    hours, minutes, seconds = ([int(part) for part in text.lstrip("+-").split(":")] + [0, 0])[:3]
    return sign * (hours * 3600 + minutes * 60 + seconds)


def _rule_day(rule: str, year: int) -> int:
    """The day since 1970 that `M3.5.0` (month, week, weekday; week 5 is the last), `J60` or `59` means in `year`."""
    first = date(year, 1, 1).toordinal() - _EPOCH_DAY
    if rule.startswith("J"):  # 1-365, and 29 February is never counted
        day = int(rule[1:])
        leap = date(year, 12, 31).timetuple().tm_yday == 366
        return first + day - 1 + (1 if leap and day >= 60 else 0)
    if not rule.startswith("M"):  # 0-365, and 29 February is counted
        return first + int(rule)
    month, week, weekday = (int(part) for part in rule[1:].split("."))
    begin = date(year, month, 1).toordinal() - _EPOCH_DAY
    following = date(year + month // 12, month % 12 + 1, 1).toordinal() - _EPOCH_DAY
    day = begin + (weekday - (begin + 4)) % 7 + 7 * (week - 1)  # 1970-01-01 was a Thursday, 4 with Sunday 0
    return day if day < following else day - 7
