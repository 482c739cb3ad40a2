"""Points in time as people write them, and as they are shown to people: pure text work, no clock.

A `Moment` is as wide as it was written: `2026-03-29T02:30` means that minute, `2026-03-29` that day.
"""

import re
from datetime import datetime

from attrs import frozen

from sz_protocol.durations import format_duration
from sz_protocol.kernel.now import DAY_US, MINUTE_US, SECOND_US
from sz_protocol.triggers import FIRST_US, LAST_US, AllOf, AnyOf, EveryNth, Except, Interval, Trigger, Unreadable
from sz_protocol.triggers.instants import iso_local, to_us
from sz_protocol.triggers.zones import zone

EXAMPLES = "2026-03-29, 2026-03-29T02:30 or 2026-03-29T02:30:00+02:00"

_MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:[T ](?P<minute>\d\d:\d\d)(?P<second>:\d\d(?P<fraction>\.\d{1,6})?)?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?\Z"
)


@frozen
class Moment:
    """`at_us` microseconds after 1970 in UTC, or on a wall that is not named where `naive`; `width_us` is how much
    time the text stands for: a day, a minute, a second or a microsecond."""

    at_us: int
    width_us: int
    naive: bool


def read_moment(text: str) -> Moment:
    """Read a date or a time of ISO 8601. Raises ValueError, whose message says what would be right."""
    match = _MOMENT.match(text.strip())
    if match is None or (match["zone"] and not match["minute"]):
        raise ValueError(f"{text[:60]!r} is no time: write it as in {EXAMPLES}")
    try:
        at_us = to_us(datetime.fromisoformat(match[0]))
    except ValueError as wrong:
        raise ValueError(f"{text[:60]!r} is no time: {wrong}") from None
    if not FIRST_US <= at_us <= LAST_US:
        raise ValueError(f"{text[:60]!r} does not lie in the years 1900 to 2199")
    if match["fraction"]:
        width_us = 1
    elif match["second"]:
        width_us = SECOND_US
    else:
        width_us = MINUTE_US if match["minute"] else DAY_US
    return Moment(at_us, width_us, naive=match["zone"] is None)


def spans_of(moment: Moment, key: str) -> list[tuple[int, int]]:
    """The stretches of UTC microseconds, ends excluded, that a moment stands for when a naive one is read on the wall
    of zone `key`: two in a fold; where the wall skips it, the first valid instants after the gap."""
    if not moment.naive:
        return [(moment.at_us, moment.at_us + moment.width_us)]
    where = zone(key)
    wall_s, rest_us = divmod(moment.at_us, SECOND_US)
    width_s = -(-moment.width_us // SECOND_US)
    spans = where.utc_spans(wall_s, wall_s + width_s) or [(first := where.first_instant(wall_s), first + width_s)]
    if moment.width_us < SECOND_US:
        return [(begin * SECOND_US + rest_us, begin * SECOND_US + rest_us + moment.width_us) for begin, _ in spans]
    return [(begin * SECOND_US, end * SECOND_US) for begin, end in spans]


def zone_of(trigger: Trigger) -> str:
    """The zone in which a trigger's fires are shown: its own, or that of its first member; intervals have UTC."""
    match trigger:
        case Interval() | Unreadable():
            return "UTC"
        case AnyOf(triggers=members) | AllOf(triggers=members):
            return zone_of(members[0])
        case Except(trigger=inner) | EveryNth(trigger=inner):
            return zone_of(inner)
        case _:
            return trigger.timezone


def show_time(at_us: int, key: str) -> str:
    """For a sentence: `2026-03-29T03:00:00+02:00`, on the wall of zone `key`, to the second."""
    where = zone(key)
    second_s = at_us // SECOND_US
    return iso_local(second_s * SECOND_US, where.offsets[where.segment(second_s)])


def show_span(span_us: int) -> str:
    """For a sentence: about how long; 340ms, 4.2s, 5m12s, 3d2h."""
    span_us = abs(span_us)
    if span_us < SECOND_US:
        return f"{span_us / 1000:.3g}ms" if span_us else "0s"
    if span_us < MINUTE_US and span_us % SECOND_US:
        return f"{span_us / SECOND_US:.1f}s"
    unit_us = MINUTE_US if span_us >= DAY_US else SECOND_US
    return format_duration(round(span_us / unit_us) * unit_us)
