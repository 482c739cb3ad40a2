"""Slow, obvious answers to compare with: datetime and zoneinfo, minute by minute, and nothing of ours."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from itertools import pairwise
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)


def us(text: str) -> int:
    """Microseconds of UTC of an ISO time; UTC where it has no offset."""
    moment = datetime.fromisoformat(text)
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def utc(at_us: int) -> datetime:
    """The aware datetime of an instant."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)


def iso(at_us: int) -> str:
    """`2026-03-29T01:00:00` in UTC."""
    return utc(at_us).replace(tzinfo=None).isoformat()


@cache
def oracle_zone(key: str) -> ZoneInfo:
    """The standard library's zone, from the same pinned data."""
    with files("tzdata").joinpath("zoneinfo", *key.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=key)


def values(text: str, low: int, high: int) -> set[int]:
    """What a plain field means: `*`, numbers, ranges, steps and lists."""
    found: set[int] = set()
    for item in text.split(","):
        base, _, step = item.partition("/")
        first, _, last = base.partition("-")
        begin = low if base == "*" else int(first)
        end = int(last) if last else (high if base == "*" or step else begin)
        found.update(range(begin, end + 1, int(step or 1)))
    return found


def day_matches(day: datetime, days: str, weekdays: str, rule: str) -> bool:
    """Whether the two day fields match, with L, W and #, told from the calendar alone."""

    def on_day(item: str) -> bool:
        if item == "L":
            return (day + timedelta(days=1)).day == 1
        if item.endswith("W"):
            return day == _nearest_weekday(day.replace(day=1), item[:-1])
        return day.day in values(item, 1, 31)

    def on_weekday(item: str) -> bool:
        sunday_0 = day.isoweekday() % 7
        if "#" in item:
            return sunday_0 == int(item[0]) and (day.day - 1) // 7 + 1 == int(item[2])
        if item.endswith("L"):
            return sunday_0 == int(item[:-1]) and (day + timedelta(days=7)).month != day.month
        return sunday_0 in {value % 7 for value in values(item, 0, 6)}

    by_day = any(on_day(item) for item in days.split(","))
    by_weekday = any(on_weekday(item) for item in weekdays.split(","))
    if rule == "or" and days != "*" and weekdays != "*":
        return by_day or by_weekday
    return by_day and by_weekday


def _nearest_weekday(first: datetime, wanted: str) -> datetime | None:
    month = [first + timedelta(days=k) for k in range(31) if (first + timedelta(days=k)).month == first.month]
    target = month[-1].day if wanted == "L" else int(wanted)
    if target > len(month):
        return None
    workdays = [day for day in month if day.isoweekday() <= 5]
    return min(workdays, key=lambda day: (abs(day.day - target), day.day))


def minute_matcher(expression: str, rule: str = "or") -> Callable[[datetime], bool]:
    """Whether a naive wall minute matches a five-field expression of plain fields (and L, W, # for days)."""
    minutes, hours, days, months, weekdays = expression.split()
    in_hour, in_day, in_year = values(minutes, 0, 59), values(hours, 0, 23), values(months, 1, 12)
    fits = cache(lambda day: day_matches(day, days, weekdays, rule))

    def matches(wall: datetime) -> bool:
        if wall.minute not in in_hour or wall.hour not in in_day or wall.month not in in_year:
            return False
        return fits(wall.replace(hour=0, minute=0))

    return matches


def pace(expression: str) -> str:
    """The definition of specs/dst.md, spelled out over two days of hours."""
    minutes, hours = expression.split()[:2]
    per_hour, in_day = len(values(minutes, 0, 59)), values(hours, 0, 23)
    two_days = [hour for hour in range(48) if hour % 24 in in_day]
    steps = [later - hour for hour, later in pairwise([*two_days, two_days[0] + 48])]
    if len(in_day) == 24 or (per_hour > 1 and 1 in steps):
        return "elapsed"
    return "rhythm" if max(steps) <= 4 else "times"


def scan(
    expression: str, key: str, begin: datetime, end: datetime, *, rule: str = "or", literal: bool = False
) -> list[datetime]:
    """Every fire from `begin` to before `end`, by looking at each minute of UTC and at what the wall shows then.

    `begin` must lie days away from any change of the clock.
    """
    matches, where = minute_matcher(expression, rule), oracle_zone(key)
    kind = "literal" if literal else pace(expression)
    fires: list[datetime] = []
    furthest: datetime | None = None
    for now in minutes_between(begin, end):
        wall = now.astimezone(where).replace(tzinfo=None)
        first_pass = furthest is None or wall > furthest
        skipped = list(minutes_between(furthest + MINUTE, wall)) if furthest and kind == "times" else []
        if (matches(wall) and (first_pass or kind in ("elapsed", "literal"))) or any(map(matches, skipped)):
            fires.append(now)
        furthest = wall if first_pass else furthest
    return fires


def minutes_between(begin: datetime, end: datetime) -> Iterator[datetime]:
    """Each minute from `begin` to before `end`."""
    while begin < end:
        yield begin
        begin += MINUTE
