"""From wall time to UTC: what a pattern fires in a zone, under our own rules for gaps and folds.

A zone is a row of segments with one offset each. In every segment the pattern's wall times become instants by
subtracting the offset; the rules concern only what the wall skips (a gap) or shows again (a fold) between two
segments:

pace      gap: the wall time does not exist            fold: the wall time comes twice
times     one fire at the first valid instant after    the first pass only
rhythm    left out                                     the first pass only
elapsed   left out                                     both passes
literal   left out                                     both passes

Instants are computed in pieces of some 64 fires. The pieces are shared by everything that has the same pattern,
zone and rule, and kept in a bounded cache, so that many schedules with few expressions cost few computations. What
they hold depends on the key alone, never on who asked first.
"""

from array import array
from bisect import bisect_left, bisect_right
from datetime import date
from functools import lru_cache
from typing import Final, Literal, Protocol

import attrs

from .calendar_pattern import MonthEnd, Unit, calendar_pattern
from .cron_pattern import DayRule, Pace, cron_pattern
from .instants import DAY_S, DEFAULT_ANCHOR_US, FIRST_US, LAST_US, SECOND_US
from .zones import Zone, zone

Dst = Literal["default", "literal"]

PIECE_FIRES: Final = 64
LONGEST_PIECE_S: Final = 4 * 366 * DAY_S
PIECES_KEPT: Final = 16_384  # about 0.7 kB each: 12 MB at the most
PATTERNS_KEPT: Final = 4_096

_FIRST_S: Final = FIRST_US // SECOND_US
_LAST_S: Final = LAST_US // SECOND_US


class WallPattern(Protocol):
    """Wall seconds that match: what cron and calendar triggers have in common."""

    @property
    def pace(self) -> Pace: ...

    @property
    def per_day(self) -> float: ...

    def between(self, low_s: int, high_s: int) -> list[int]:
        """Those in [low_s, high_s), ascending."""

    def count(self, low_s: int, high_s: int) -> int:
        """How many these are."""


@attrs.frozen(eq=False)
class LocalFires:
    """The fires of one pattern in one zone under one rule; instances are shared, see `of_cron`."""

    pattern: WallPattern
    zone: Zone
    literal: bool
    both_passes: bool
    makes_up: bool
    piece_us: int

    def next_us(self, after_us: int, limit_us: int) -> int | None:
        """The first fire strictly after `after_us` and not after `limit_us`."""
        piece_us = self.piece_us
        after_us = max(after_us, FIRST_US - 1)
        number = after_us // piece_us
        limit_us = min(limit_us, LAST_US)
        while True:
            fires = piece(self, number)
            at = bisect_right(fires, after_us)
            if at < len(fires):
                fire_us = fires[at]
                return fire_us if fire_us <= limit_us else None
            number += 1
            if number * piece_us > limit_us:
                return None

    def latest_us(self, from_us: int, to_us: int, keep: int) -> list[int]:
        """The last `keep` fires with from_us <= fire < to_us, ascending."""
        from_us = max(from_us, FIRST_US)
        to_us = min(to_us, LAST_US + 1)
        found: list[array[int]] = []
        missing = keep
        number = (to_us - 1) // self.piece_us
        while missing > 0 and (number + 1) * self.piece_us > from_us:
            fires = piece(self, number)
            last = bisect_left(fires, to_us)
            first = max(bisect_left(fires, from_us), last - missing)
            if first < last:
                found.append(fires[first:last])
                missing -= last - first
            number -= 1
        return [fire_us for fires in reversed(found) for fire_us in fires]

    def count(self, from_us: int, to_us: int) -> int:
        """How many fires there are with from_us <= fire < to_us, without visiting them."""
        low_s = max(-(-from_us // SECOND_US), _FIRST_S)
        high_s = min(-(-to_us // SECOND_US), _LAST_S + 1)
        if low_s >= high_s:
            return 0
        total = 0
        for index in range(self.zone.segment(low_s), self.zone.segment(high_s - 1) + 1):
            total += self.made_up(index, low_s)
            total += self.pattern.count(*self._wall_range(index, low_s, high_s))
        return total

    def rank(self, at_us: int) -> int:
        """How many fires there are from DEFAULT_ANCHOR_US up to and with `at_us`."""
        number = at_us // self.piece_us
        fires = piece(self, number)
        start = max(number * self.piece_us, DEFAULT_ANCHOR_US)
        return _rank_before(self, number) + max(0, bisect_right(fires, at_us) - bisect_left(fires, start))

    def made_up(self, index: int, low_s: int) -> bool:
        """Whether segment `index`, if it begins at `low_s` or later, begins with a fire that makes up for the gap."""
        if not self.makes_up or self.zone.begins[index] < low_s:
            return False
        opens = self.zone.opens[index]
        return bool(self.lost(index)) and not self.pattern.between(opens, opens + 1)

    def lost(self, index: int) -> list[int]:
        """The wall seconds of the pattern that do not exist because of the gap before segment `index`."""
        shown, opens = self.zone.shown[index], self.zone.opens[index]
        return self.pattern.between(shown, opens) if index and shown < opens else []

    def repeated(self, index: int) -> list[int]:
        """The wall seconds of the pattern that segment `index` shows once more."""
        shown, opens = self.zone.shown[index], self.zone.opens[index]
        closes = self.zone.end(index) + self.zone.offsets[index]
        return self.pattern.between(opens, min(shown, closes)) if shown > opens else []

    def compute(self, low_s: int, high_s: int) -> list[int]:
        """All fires with low_s <= fire < high_s in UTC seconds: the definition; everything else must agree."""
        found: list[int] = []
        for index in range(self.zone.segment(low_s), self.zone.segment(high_s - 1) + 1):
            if self.made_up(index, low_s):
                found.append(self.zone.begins[index])
            offset = self.zone.offsets[index]
            found += [wall - offset for wall in self.pattern.between(*self._wall_range(index, low_s, high_s))]
        return found

    def _wall_range(self, index: int, low_s: int, high_s: int) -> tuple[int, int]:
        """The part of [low_s, high_s) in segment `index`, on the wall, that counts for this rule."""
        offset = self.zone.offsets[index]
        low = max(low_s, self.zone.begins[index]) + offset
        if not self.both_passes:
            low = max(low, self.zone.shown[index])
        return low, max(low, min(high_s, self.zone.end(index)) + offset)


@lru_cache(maxsize=PIECES_KEPT)
def piece(fires: LocalFires, number: int) -> "array[int]":
    """The fires, in UTC microseconds, of piece `number`: number * piece_us <= fire < (number + 1) * piece_us."""
    piece_s = fires.piece_us // SECOND_US
    low_s, high_s = max(number * piece_s, _FIRST_S), min((number + 1) * piece_s, _LAST_S + 1)
    if low_s >= high_s:
        return array("q")
    return array("q", [fire * SECOND_US for fire in fires.compute(low_s, high_s)])


@lru_cache(maxsize=PIECES_KEPT)
def _rank_before(fires: LocalFires, number: int) -> int:
    return fires.count(DEFAULT_ANCHOR_US, number * fires.piece_us)


@lru_cache(maxsize=PATTERNS_KEPT)
def of_cron(expression: str, timezone: str, dst: Dst, day_rule: DayRule) -> LocalFires:
    """The shared fires of a cron expression in a zone. Raises TriggerError and ValueError for what is wrong."""
    return _local_fires(cron_pattern(expression, day_rule), timezone, dst)


@lru_cache(maxsize=PATTERNS_KEPT)
def of_calendar(
    every: int, unit: Unit, time_s: int, first: date, month_end: MonthEnd, timezone: str, dst: Dst
) -> LocalFires:
    """The shared fires of a calendar trigger in a zone."""
    return _local_fires(calendar_pattern(every, unit, time_s, first, month_end), timezone, dst)


def _local_fires(pattern: WallPattern, timezone: str, dst: Dst) -> LocalFires:
    piece_s = min(LONGEST_PIECE_S, max(1, int(PIECE_FIRES / pattern.per_day * DAY_S)))
    literal = dst == "literal"
    return LocalFires(
        pattern=pattern,
        zone=zone(timezone),
        literal=literal,
        both_passes=literal or pattern.pace == "elapsed",
        makes_up=not literal and pattern.pace == "times",
        piece_us=piece_s * SECOND_US,
    )
