"""IANA zones, from the pinned `tzdata` distribution and from nowhere else.

This is the one place of the package that loads data. `zoneinfo.ZoneInfo(key)` would read the host's
/usr/share/zoneinfo first, so two nodes of one cluster could disagree about a fire; the files inside the `tzdata`
package are read instead, through its own loader, once per zone.
"""

from bisect import bisect_right
from functools import lru_cache
from importlib import import_module
from itertools import accumulate
from pkgutil import get_data
from typing import Final

import attrs

from .errors import nearest, shown
from .tzif import read_tzif

_BEFORE_TIME: Final = -(10**12)
_AFTER_TIME: Final = 10**12


def tzdata_version() -> str:
    """The version of the zone data in use, as IANA names it (`2025b`)."""
    return str(import_module("tzdata").IANA_VERSION)


@attrs.frozen(eq=False)
class Zone:
    """The transitions of one zone. Segment i is the time between two of them, with one offset:

    `begins[i] <= utc < begins[i + 1]`, in UTC seconds, at `offsets[i]`. On the wall it starts with
    `opens[i] = begins[i] + offsets[i]`, and `shown[i]` is the wall time up to which earlier segments had come:
    `shown < opens` is a gap, `shown > opens` a fold.
    """

    key: str
    begins: tuple[int, ...]
    offsets: tuple[int, ...]
    opens: tuple[int, ...]
    shown: tuple[int, ...]

    def segment(self, utc_s: int) -> int:
        """The index of the segment that holds this UTC second."""
        return bisect_right(self.begins, utc_s) - 1

    def first_instant(self, wall_s: int) -> int:
        """The UTC second at which the wall first shows `wall_s`; inside a gap, the first valid one after it."""
        index = bisect_right(self.shown, wall_s) - 1
        return self.begins[index] + max(0, wall_s - self.opens[index])

    def utc_spans(self, wall_from_s: int, wall_to_s: int) -> list[tuple[int, int]]:
        """The stretches of UTC seconds, upper end excluded, in which the wall shows a time of this range."""
        spans = []
        # A wall time and its UTC second are never two days apart.
        for index in range(self.segment(wall_from_s - 172_800), self.segment(wall_to_s + 172_800) + 1):
            begin = max(self.begins[index], wall_from_s - self.offsets[index])
            end = min(self.end(index), wall_to_s - self.offsets[index])
            if begin < end:
                spans.append((begin, end))
        return spans

    def end(self, index: int) -> int:
        """The UTC second with which segment `index` is over."""
        return self.begins[index + 1] if index + 1 < len(self.begins) else _AFTER_TIME


def zone_names() -> tuple[str, ...]:
    """All zone names there are, in order."""
    text = get_data("tzdata", "zones")
    assert text is not None, "the tzdata distribution lists its zones"
    return tuple(sorted(name for name in text.decode("ascii").split() if name != "Factory"))


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(zone_names())


def zone_problem(key: object) -> str:
    """Why `key` is no zone, with the nearest name that is one; empty when it is one. Case matters."""
    if not isinstance(key, str):
        return f"must be the name of a time zone such as Europe/Berlin, got {shown(key)}"
    if key in _known():
        return ""
    names = zone_names()
    hint = nearest(key, names)
    if not hint:
        city = key.rsplit("/", 1)[-1].lower().replace(" ", "_")
        hint = next((f"; did you mean {name!r}?" for name in names if name.rsplit("/", 1)[-1].lower() == city), "")
    return f"unknown time zone {shown(key)}{hint or '; zone names look like Europe/Berlin or UTC'}"


@lru_cache(maxsize=640)  # more than there are
def zone(key: str) -> Zone:
    """The zone of this name; ValueError when there is none."""
    if problem := zone_problem(key):
        raise ValueError(problem)
    data = get_data("tzdata", f"zoneinfo/{key}")
    assert data is not None, "the tzdata distribution holds every zone that it lists"
    at, offsets = read_tzif(data)
    begins = (_BEFORE_TIME, *at)
    opens = tuple(begin + offset for begin, offset in zip(begins, offsets, strict=True))
    closes = (begin + offset for begin, offset in zip(at, offsets, strict=False))
    shown = tuple(accumulate(closes, max, initial=_BEFORE_TIME + offsets[0]))
    return Zone(key, begins, tuple(offsets), opens, shown)
