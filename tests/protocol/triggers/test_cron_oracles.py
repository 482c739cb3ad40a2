"""Thousands of generated expressions against independent oracles: croniter, cronsim and a scan of the calendar."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from croniter import croniter
from cronsim import CronSim, CronSimError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sz_protocol.triggers import Cron, TriggerError, fires_between, next_fire

from .oracles import minute_matcher, oracle_zone, scan, us, utc
from .strategies import ZONES, expressions, is_possible

START = datetime(2023, 11, 7, 13, 41, 30, tzinfo=UTC)


def random_field(random: Random, low: int, high: int) -> str:
    match random.randrange(7):
        case 0 | 1:
            return "*"
        case 2:
            return f"*/{random.randint(2, (high - low + 1) // 2)}"
        case 3:
            return str(random.randint(low, high))
        case 4:
            return ",".join(str(random.randint(low, high)) for _ in range(3))
        case kind:
            begin, end = sorted(random.sample(range(low, high + 1), 2))
            return f"{begin}-{end}" + (f"/{random.randint(2, 5)}" if kind == 5 else "")


def random_expressions(seed: int, count: int, *, seconds: bool) -> list[str]:
    random = Random(seed)
    found: list[str] = []
    limits = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
    while len(found) < count:
        shape = [(0, 59), *limits] if seconds and random.random() < 0.3 else limits
        expression = " ".join(random_field(random, *limit) for limit in shape)
        if is_possible(expression):
            found.append(expression)
    return found


def following(trigger: Cron, start: datetime, count: int) -> list[datetime]:
    at, found = us(start.isoformat()), []
    for _ in range(count):
        fire = next_fire(trigger, at)
        assert fire is not None
        at = fire
        found.append(utc(fire))
    return found


def test_2000_expressions_agree_with_croniter() -> None:
    for expression in random_expressions(1, 2000, seconds=True):
        theirs = croniter(expression, START, ret_type=datetime, second_at_beginning=True)
        assert following(Cron(expression), START, 3) == [theirs.get_next() for _ in range(3)], expression


def test_2000_expressions_agree_with_cronsim() -> None:
    for expression in random_expressions(2, 2000, seconds=True):
        days, _, weekdays = expression.split()[-3:]
        # cronsim follows Debian: a day field that begins with a star makes both have to match.
        rule = "and" if days.startswith("*") or weekdays.startswith("*") else "or"
        try:
            ours = Cron(expression, day_rule="and" if rule == "and" else "or")
        except TriggerError:
            with pytest.raises(CronSimError):
                CronSim(expression, START)
            continue
        theirs = CronSim(expression, START)
        assert following(ours, START, 3) == [next(theirs) for _ in range(3)], expression


@pytest.mark.parametrize("key", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
def test_between_two_changes_of_the_clock_zones_agree_with_croniter_and_cronsim(key: str) -> None:
    start = datetime(2026, 5, 3, 7, 11, 30, tzinfo=oracle_zone(key))
    end = datetime(2026, 9, 1, tzinfo=UTC)
    for expression in random_expressions(3, 150, seconds=False):
        one, other = croniter(expression, start, ret_type=datetime), CronSim(expression, start)
        days, weekdays = expression.split()[2::2]
        alike = not (days.startswith("*") or weekdays.startswith("*")) or "*" in (days, weekdays)
        for fire in following(Cron(expression, key), start.astimezone(UTC), 3):
            if fire >= end:
                break
            assert one.get_next().astimezone(UTC) == fire, expression
            if alike:
                assert next(other).astimezone(UTC) == fire, expression


@given(
    expressions(special=True).filter(is_possible),
    st.sampled_from(["or", "and"]),
    st.integers(0, 18_000),
    st.integers(1, 1500),
)
@settings(max_examples=250, deadline=None)
def test_our_tables_agree_with_a_scan_of_the_calendar(expression: str, rule: str, first: int, length: int) -> None:
    matches = minute_matcher(expression, rule)
    times = minute_matcher(" ".join([*expression.split()[:2], "* * *"]))
    midnight = datetime(2000, 1, 1) + timedelta(days=first)
    in_day = [timedelta(minutes=k) for k in range(1440) if times(midnight + timedelta(minutes=k))]
    # Dense patterns get short windows.
    days = [midnight + timedelta(days=k) for k in range(min(length, 9_000 // len(in_day)))]
    expected = [day + time for day in days if matches(day + in_day[0]) for time in in_day]
    try:
        trigger = Cron(expression, day_rule="and" if rule == "and" else "or")
    except TriggerError:
        assert not expected
        return
    fires = fires_between(trigger, us(midnight.isoformat()), us((midnight + timedelta(days=len(days))).isoformat()))
    assert [utc(fire).replace(tzinfo=None) for fire in fires] == expected


# Windows of three days around changes of the clock of many kinds.
CHANGES = [
    ("Europe/Berlin", "2026-03-28"),
    ("Europe/Berlin", "2026-10-24"),
    ("America/New_York", "2026-03-07"),
    ("America/New_York", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-04-03"),
    ("Australia/Lord_Howe", "2026-10-02"),
    ("Antarctica/Troll", "2025-03-29"),
    ("Antarctica/Troll", "2025-10-25"),
    ("America/St_Johns", "1988-04-02"),
    ("America/St_Johns", "2010-11-06"),
    ("Africa/Cairo", "2024-04-25"),
    ("America/Havana", "2024-03-09"),
    ("Pacific/Apia", "2011-12-29"),
    ("Pacific/Kwajalein", "1969-09-29"),
    ("Pacific/Kwajalein", "1993-08-20"),
    ("Asia/Pyongyang", "2018-05-03"),
    ("Asia/Pyongyang", "2015-08-13"),
]

night_hours = st.sampled_from(
    ["*", "*/2", "*/3", "*/6", "0-6", "1-2", "0", "1", "2", "3", "0,2", "1,2,3", "23", "22,2", "1-23/2"]
)
night_minutes = st.sampled_from(["*/5", "*/15", "*/30", "0", "30", "15", "45", "0,30", "7-59/10", "59", "1"])
ends = st.sampled_from(["* * *", "* * *", "* * 0-6/2", "*/2 * *", "L * *"])


@given(st.sampled_from(CHANGES), night_minutes, night_hours, ends, st.booleans())
@settings(max_examples=400, deadline=None)
def test_changes_of_the_clock_agree_with_a_scan_of_every_minute(
    change: tuple[str, str], minutes: str, hours: str, days: str, literal: bool
) -> None:
    key, day = change
    expression = f"{minutes} {hours} {days}"
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    end = begin + timedelta(days=3)
    trigger = Cron(expression, key, "literal" if literal else "default")
    fires = fires_between(trigger, us(begin.isoformat()), us(end.isoformat()))
    assert [utc(fire) for fire in fires] == scan(expression, key, begin, end, literal=literal)


@given(expressions(seconds=True), st.sampled_from(ZONES), st.integers(0, 60 * 365))
@settings(max_examples=150, deadline=None)
def test_every_fire_shows_a_matching_time_or_ends_a_gap(expression: str, key: str, day: int) -> None:
    assume(is_possible(expression) and len(expression.split()) == 5)
    matches = minute_matcher(expression)
    at = us((datetime(1975, 1, 1) + timedelta(days=day)).isoformat())
    for _ in range(5):
        fire = next_fire(Cron(expression, key), at)
        if fire is None:
            return
        wall = utc(fire).astimezone(oracle_zone(key))
        before = utc(fire - 1).astimezone(oracle_zone(key))
        assert matches(wall.replace(tzinfo=None)) or wall.utcoffset() > before.utcoffset()  # type: ignore[operator]
        at = fire
