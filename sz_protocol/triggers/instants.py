"""Integer microseconds of UTC, wall seconds, and how both are written down.

*Wall seconds* count the seconds from 1970-01-01T00:00 that a clock on the wall in some zone shows. They are what
cron and calendar patterns match; a zone maps them to UTC.
"""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

SECOND_US: Final = 1_000_000
HOUR_S: Final = 3_600
DAY_S: Final = 86_400

# Monday 1970-01-05T00:00:00Z: intervals of whole weeks begin on Mondays, whichever node computes them.
DEFAULT_ANCHOR_US: Final = 4 * DAY_S * SECOND_US

# The years in which triggers fire. A search always ends, because time does: with the year 2199.
FIRST_US: Final = -2_208_988_800 * SECOND_US  # 1900-01-01T00:00:00Z
LAST_US: Final = 7_258_118_400 * SECOND_US - 1  # 2199-12-31T23:59:59.999999Z

_EPOCH: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware `moment` in UTC; of a naive one as the wall shows it."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH) // _MICROSECOND


def wall_datetime(wall_us: int) -> datetime:
    """The naive datetime that stands `wall_us` microseconds after 1970-01-01T00:00."""
    return _EPOCH + timedelta(microseconds=wall_us)


def iso_utc(at_us: int) -> str:
    """`2026-03-29T01:00:00Z`, with microseconds only where there are any."""
    return wall_datetime(at_us).isoformat() + "Z"


def iso_local(at_us: int, offset_s: int) -> str:
    """`2026-03-29T03:00:00+02:00`: the wall time at `offset_s` from UTC, with that offset."""
    zone = timezone(timedelta(seconds=offset_s))
    return wall_datetime(at_us + offset_s * SECOND_US).replace(tzinfo=zone).isoformat()


def clock(wall_s: int) -> str:
    """The time of day, `02:30` or `02:30:15`, of `wall_s` wall seconds."""
    minute, second = divmod(wall_s % DAY_S, 60)
    text = f"{minute // 60:02}:{minute % 60:02}"
    return f"{text}:{second:02}" if second else text
