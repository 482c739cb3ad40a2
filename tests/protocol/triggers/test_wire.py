"""Triggers as plain data: both ways, canonical, and with every mistake named."""

import json
from datetime import UTC, date, datetime, timedelta, timezone

import msgpack
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sz_protocol.triggers import (
    Calendar,
    Cron,
    Date,
    EveryNth,
    Except,
    Interval,
    Trigger,
    TriggerError,
    trigger_from_wire,
    trigger_to_wire,
)
from sz_protocol.triggers.records import LONGEST_PERIOD_US

from .oracles import us
from .strategies import triggers

Problems = list[tuple[tuple[str | int, ...], str]]


def problems(obj: object) -> Problems:
    with pytest.raises(TriggerError) as refused:
        trigger_from_wire(obj)
    return refused.value.problems


@given(triggers())
@settings(max_examples=300, deadline=None)
def test_what_is_written_reads_back_equal_through_any_encoding(trigger: Trigger) -> None:
    wire = trigger_to_wire(trigger)
    assert trigger_from_wire(wire) == trigger
    assert trigger_from_wire(json.loads(json.dumps(wire))) == trigger
    assert trigger_from_wire(msgpack.unpackb(msgpack.packb(wire))) == trigger
    assert trigger_from_wire(yaml.safe_load(yaml.safe_dump(wire))) == trigger
    assert trigger_to_wire(trigger_from_wire(wire)) == wire


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ('{type: cron, expression: "*/5 * * * *"}', Cron("*/5 * * * *")),
        (
            '{type: cron, expression: "30 2 * * *", timezone: Europe/Berlin, dst: literal, day_rule: and}',
            Cron("30 2 * * *", "Europe/Berlin", "literal", "and"),
        ),
        (
            '{type: cron, expression: "@daily", timezone: Europe/Berlin, start: 2026-06-01, end: 2026-06-30}',
            Cron("@daily", "Europe/Berlin", start_us=us("2026-05-31T22:00"), end_us=us("2026-06-30T22:00") - 1),
        ),
        (
            '{type: cron, expression: "@daily", timezone: Europe/Berlin, start: 2026-06-01T12:00:00+00:00}',
            Cron("@daily", "Europe/Berlin", start_us=us("2026-06-01T12:00")),
        ),
        (
            "{type: cron, expression: '@daily', timezone: Europe/Berlin, end: '2026-06-01T12:00'}",
            Cron("@daily", "Europe/Berlin", end_us=us("2026-06-01T10:00")),
        ),
        ("{type: interval, minutes: 5}", Interval(300_000_000)),
        ("{type: interval, hours: 1, minutes: 30, seconds: 0.5}", Interval(5_400_500_000)),
        ("{type: interval, hours: 1.5}", Interval(5_400_000_000)),
        ("{type: interval, seconds: 0.001}", Interval(1_000)),
        ("{type: interval, days: 1, anchor: 2026-06-01T06:00:00}", Interval(86_400_000_000, us("2026-06-01T06:00"))),
        ("{type: date, run_date: 2026-06-01T12:00:00Z}", Date(us("2026-06-01T12:00"))),
        (
            "{type: date, run_date: 2026-06-01T12:00:00, timezone: Europe/Berlin}",
            Date(us("2026-06-01T10:00"), "Europe/Berlin"),
        ),
        ("{type: date, run_date: 2026-06-01, timezone: Europe/Berlin}", Date(us("2026-05-31T22:00"), "Europe/Berlin")),
        (
            "{type: date, run_date: 2026-03-29T02:30:15.5, timezone: Europe/Berlin}",  # inside a gap
            Date(us("2026-03-29T01:00"), "Europe/Berlin"),
        ),
        (
            "{type: date, run_date: 2026-10-25T02:30:00, timezone: Europe/Berlin}",  # inside a fold
            Date(us("2026-10-25T00:30"), "Europe/Berlin"),
        ),
        ("{type: calendar, days: 2}", Calendar(2, "days")),
        (
            '{type: calendar, months: 1, time: "09:30", start_date: 2026-01-31, timezone: Asia/Tokyo, month_end: skip}',
            Calendar(1, "months", 34_200, "Asia/Tokyo", date(2026, 1, 31), "skip"),
        ),
        ('{type: calendar, weeks: 1, time: "9:05:07", dst: literal}', Calendar(1, "weeks", 32_707, dst="literal")),
        (
            "{type: except, trigger: {type: interval, hours: 1}, dates: [2026-12-25, '2026-12-26'],"
            " windows: [{from: 2026-06-01T00:00:00, to: 2026-06-02}], timezone: Europe/Berlin}",
            Except(
                Interval(3_600_000_000),
                (date(2026, 12, 25), date(2026, 12, 26)),
                ((us("2026-05-31T22:00"), us("2026-06-01T22:00")),),
                "Europe/Berlin",
            ),
        ),
        (
            "{type: every_nth, n: 3, offset: 1, trigger: {type: interval, hours: 1}, start: 2026-06-01}",
            EveryNth(Interval(3_600_000_000), 3, 1, us("2026-06-01")),
        ),
    ],
)
def test_yaml_as_people_write_it(text: str, trigger: Trigger) -> None:
    assert trigger_from_wire(yaml.safe_load(text)) == trigger


@pytest.mark.parametrize(
    ("trigger", "wire"),
    [
        (Cron("@daily"), {"type": "cron", "expression": "@daily"}),
        (
            Cron("@daily", "Asia/Tokyo", end_us=us("2026-06-01")),
            {"type": "cron", "expression": "@daily", "timezone": "Asia/Tokyo", "end": "2026-06-01T00:00:00Z"},
        ),
        (Interval(604_800_000_000), {"type": "interval", "weeks": 1}),
        (Interval(5_400_000_000), {"type": "interval", "minutes": 90}),
        (Interval(1_500_000), {"type": "interval", "seconds": 1.5}),
        (
            Date(us("2026-06-01T00:00:00.5"), "Asia/Tokyo"),
            {"type": "date", "run_date": "2026-06-01T00:00:00.500000Z", "timezone": "Asia/Tokyo"},
        ),
        (Calendar(1, "days", 9_000), {"type": "calendar", "days": 1, "time": "02:30"}),
        (EveryNth(Interval(10**6), 2), {"type": "every_nth", "n": 2, "trigger": {"type": "interval", "seconds": 1}}),
    ],
)
def test_what_has_its_default_is_left_out_so_that_hashes_stay(trigger: Trigger, wire: dict[str, object]) -> None:
    assert trigger_to_wire(trigger) == wire


def test_equal_periods_are_written_alike() -> None:
    written = {json.dumps(trigger_to_wire(trigger_from_wire({"type": "interval", **period}))) for period in PERIODS}
    assert written == {'{"type": "interval", "minutes": 5}'}


PERIODS: list[dict[str, object]] = [
    {"minutes": 5},
    {"seconds": 300},
    {"minutes": 4, "seconds": 60.0},
    {"hours": 1 / 12},
]


@pytest.mark.parametrize("period_us", [1_001, LONGEST_PERIOD_US - 1, LONGEST_PERIOD_US - 333_333, 86_400_000_001])
def test_long_periods_with_a_fraction_stay_exact(period_us: int) -> None:
    wire = json.loads(json.dumps(trigger_to_wire(Interval(period_us))))
    assert trigger_from_wire(wire) == Interval(period_us)


def test_objects_that_yaml_loaders_make_are_taken() -> None:
    plus_two = datetime(2026, 6, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    assert trigger_from_wire({"type": "date", "run_date": plus_two}) == Date(us("2026-06-01T12:00"))
    aware = datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert trigger_from_wire({"type": "date", "run_date": aware}) == Date(us("2026-06-01T12:00"))
    naive = {"type": "date", "run_date": datetime(2026, 6, 1, 12), "timezone": "Asia/Tokyo"}
    assert trigger_from_wire(naive) == Date(us("2026-06-01T03:00"), "Asia/Tokyo")


HOURLY = {"type": "interval", "hours": 1}

WRONG: list[tuple[object, Problems]] = [
    (5, [((), "must be a mapping such as {type: interval, minutes: 5}, got 5")]),
    ([], [((), "must be a mapping")]),
    ({}, [(("type",), "is missing; one of cron, interval, date, calendar, any, all, except, every_nth")]),
    ({"type": "corn"}, [(("type",), "unknown type 'corn'; did you mean 'cron'?")]),
    ({"type": 5}, [(("type",), "unknown type 5; one of cron")]),
    ({"type": ["cron"]}, [(("type",), "unknown type ['cron']")]),
    ({"type": "cron"}, [(("expression",), 'is missing; write for example expression: "*/5 * * * *"')]),
    ({"type": "cron", "expression": 5}, [(("expression",), "must be text in quotes, got 5")]),
    ({"type": "cron", "expression": "*/61 * * * *"}, [(("expression",), "minute: '*/61'")]),
    ({"type": "cron", "expression": "0 0 30 2 *"}, [(("expression",), "day 30 never comes in month 2")]),
    (
        {"type": "cron", "expression": "@daily", "time_zone": "UTC"},
        [(("time_zone",), "unknown key; did you mean 'timezone'?")],
    ),
    ({"type": "cron", "expression": "@daily", 5: 1}, [(("5",), "unknown key")]),
    ({"type": "cron", "expression": "@daily", "timezone": None}, [(("timezone",), "must be the name of a time zone")]),
    ({"type": "cron", "expression": "@daily", "dst": "litral"}, [(("dst",), "did you mean 'literal'?")]),
    ({"type": "cron", "expression": "@daily", "dst": True}, [(("dst",), "must be text in quotes, got True")]),
    ({"type": "cron", "expression": "@daily", "start": 5}, [(("start",), "must be a time such as")]),
    ({"type": "cron", "expression": "@daily", "start": "yesterday"}, [(("start",), "must be a time such as")]),
    (
        {"type": "cron", "expression": "@daily", "start": "0001-01-01T00:00:00+14:00"},
        [(("start",), "years 1900 to 2199")],
    ),
    (
        {"type": "cron", "expression": "@daily", "start": "2026-06-02", "end": "2026-06-01"},
        [(("end",), "lies before start")],
    ),
    ({"type": "interval"}, [(("seconds",), "is missing; give at least one of weeks")]),
    ({"type": "interval", "seconds": "5"}, [(("seconds",), "must be a number, got '5'")]),
    ({"type": "interval", "seconds": True}, [(("seconds",), "must be a number, got True")]),
    ({"type": "interval", "seconds": -5}, [(("seconds",), "not negative")]),
    ({"type": "interval", "seconds": float("nan")}, [(("seconds",), "not negative")]),
    ({"type": "interval", "seconds": 10**400}, [(("seconds",), "not negative")]),
    ({"type": "interval", "seconds": 0}, [(("seconds",), "the period is 0 seconds; must be from 1 millisecond")]),
    ({"type": "interval", "minutes": 0, "seconds": 0.0001}, [(("minutes",), "the period is 0.0001 seconds")]),
    ({"type": "interval", "weeks": 10**9}, [(("weeks",), "100 years")]),
    ({"type": "interval", "minuts": 5, "seconds": 1}, [(("minuts",), "did you mean 'minutes'?")]),
    ({"type": "date"}, [(("run_date",), "is missing; write for example run_date: 2026-03-29T02:30:00")]),
    ({"type": "date", "run_date": True}, [(("run_date",), "must be a time such as")]),
    ({"type": "calendar"}, [(("days",), "is missing; give one of years")]),
    ({"type": "calendar", "days": 1, "weeks": 1}, [(("days",), "stands beside weeks")]),
    ({"type": "calendar", "days": 1.0}, [(("days",), "must be a whole number, got 1.0")]),
    ({"type": "calendar", "days": 0}, [(("days",), "is 0; must be from 1")]),
    ({"type": "calendar", "months": 1}, [(("start_date",), "is missing; months take their day from it")]),
    ({"type": "calendar", "days": 1, "time": 750}, [(("time",), 'without quotes as a number; write "12:30"')]),
    ({"type": "calendar", "days": 1, "time": "25:00"}, [(("time",), "must be a time of day")]),
    ({"type": "calendar", "days": 1, "start_date": "2026-02-30"}, [(("start_date",), "must be a date such as")]),
    ({"type": "calendar", "days": 1, "start_date": datetime(2026, 1, 1)}, [(("start_date",), "without a time")]),
    ({"type": "any"}, [(("triggers",), "is missing; write a list of triggers")]),
    ({"type": "any", "triggers": {}}, [(("triggers",), "must be a list")]),
    ({"type": "any", "triggers": []}, [(("triggers",), "1 to 64")]),
    ({"type": "every_nth", "n": 2}, [(("trigger",), "is missing")]),
    ({"type": "every_nth", "n": "2", "trigger": HOURLY}, [(("n",), "whole number, got '2'")]),
    ({"type": "except", "trigger": HOURLY}, [(("dates",), "together must be 1 to")]),
    ({"type": "except", "trigger": HOURLY, "windows": [5]}, [(("windows", 0), "must be a mapping")]),
    (
        {"type": "except", "trigger": HOURLY, "windows": [{"from": "2026-06-02"}]},
        [(("windows", 0, "to"), "is missing")],
    ),
]


@pytest.mark.parametrize(("obj", "expected"), WRONG)
def test_what_is_wrong_is_named_with_its_path_and_what_would_be_right(obj: object, expected: Problems) -> None:
    found = problems(obj)
    assert [path for path, _ in found] == [path for path, _ in expected]
    for (_, message), (_, part) in zip(found, expected, strict=True):
        assert part in message


def test_all_mistakes_are_told_at_once() -> None:
    obj = {
        "type": "any",
        "trigers": [],
        "triggers": [
            {"type": "cron", "expression": "60 25 * * *", "timezone": "Europe/Berln", "dst": 5},
            7,
            {"type": "except", "trigger": {"type": "interval", "hurs": 1}, "dates": ["x", 5], "windows": [{"from": 1}]},
        ],
        "end": "soon",
    }
    assert [path for path, _ in problems(obj)] == [
        ("trigers",),
        ("triggers", 0, "timezone"),
        ("triggers", 0, "dst"),
        ("triggers", 0, "expression"),
        ("triggers", 0, "expression"),
        ("triggers", 1),
        ("triggers", 2, "trigger", "hurs"),
        ("triggers", 2, "trigger", "seconds"),
        ("triggers", 2, "dates", 0),
        ("triggers", 2, "dates", 1),
        ("triggers", 2, "windows", 0, "from"),
        ("triggers", 2, "windows", 0, "to"),
        ("end",),
    ]


def test_a_trigger_that_contains_itself_many_times_is_refused() -> None:
    obj: dict[str, object] = {"type": "interval", "hours": 1}
    for _ in range(100):
        obj = {"type": "any", "triggers": [obj]}
    assert "at most 8 deep" in problems(obj)[0][1]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.datetimes()
KEYS = """type cron interval date calendar any all except every_nth expression timezone UTC @daily seconds days run_date
triggers trigger n dates windows start end"""
words = st.sampled_from(KEYS.split())
junk = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.integers(), inner, max_size=5),
    max_leaves=12,
)
typed = st.builds(
    lambda kind, rest: {"type": kind, **rest},
    st.sampled_from(["cron", "interval", "date", "calendar", "any", "all", "except", "every_nth"]),
    st.dictionaries(words, junk, max_size=5),
)


def outcome(obj: object) -> Trigger | TriggerError:
    try:
        return trigger_from_wire(obj)
    except TriggerError as refused:
        return refused


@given(junk | typed)
@settings(max_examples=500, deadline=None)
def test_junk_is_refused_with_a_trigger_error_and_nothing_else(obj: object) -> None:
    found = outcome(obj)
    if isinstance(found, TriggerError):
        assert found.problems
        assert str(found)
    else:
        assert trigger_from_wire(trigger_to_wire(found)) == found


def test_no_value_is_too_odd_to_be_shown() -> None:
    itself: list[object] = []
    itself.append(itself)
    for value in (10**5000, itself, "x" * 10**6, b"x", object(), {1, 2}):
        for obj in (
            value,
            {"type": value},
            {"type": "interval", "seconds": value},
            {"type": "cron", "expression": value},
        ):
            found = outcome(obj)
            assert isinstance(found, TriggerError)
            assert len(str(found)) < 400
    assert "something of type int" in problems({"type": "interval", "seconds": 1, 10**5000: 1})[0][0]
