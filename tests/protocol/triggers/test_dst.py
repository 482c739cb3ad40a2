"""Gaps and folds by our own rules, zone by zone, with the exact instants."""

from itertools import pairwise

import pytest

from sz_protocol.triggers import Calendar, Cron, Trigger, describe_dst, dst_notes_between, fires_between, local_time

from .oracles import iso, us


def fires(trigger: Trigger, begin: str, end: str) -> list[str]:
    return [iso(fire) for fire in fires_between(trigger, us(begin), us(end))]


# zone | expression | from | to | the fires in UTC under "default" | and under "literal"
TABLE = """
# An ordinary hour forward and back.
Europe/Berlin | 30 2 * * * | 2026-03-29 | 2026-03-30 | 03-29T01:00 | never
Europe/Berlin | 30 2 * * * | 2026-10-25 | 2026-10-26 | 10-25T00:30 | 10-25T00:30 10-25T01:30
America/New_York | 30 2 * * * | 2026-03-08 | 2026-03-09 | 03-08T07:00 | never
America/New_York | 30 1 * * * | 2026-11-01 | 2026-11-02 | 11-01T05:30 | 11-01T05:30 11-01T06:30
# Half an hour.
Australia/Lord_Howe | 15 2 * * * | 2026-10-03T12 | 2026-10-04T12 | 10-03T15:30 | never
Australia/Lord_Howe | 45 1 * * * | 2026-04-04T12 | 2026-04-05T12 | 04-04T14:45 | 04-04T14:45 04-04T15:15
# A whole day that never was: 30 December 2011. Its fire is made up when the 31st begins.
Pacific/Apia | 30 2 * * * | 2011-12-29T12 | 2011-12-31 | 12-29T12:30 12-30T10:00 12-30T12:30 | 12-29T12:30 12-30T12:30
Pacific/Kwajalein | 0 9 * * * | 1993-08-21 | 1993-08-22 | 08-21T12:00 08-21T21:00 | 08-21T21:00
# Twenty-three hours twice: the clock went back from +11 to -12.
Pacific/Kwajalein | 0 9 * * * | 1969-09-29T12 | 1969-10-01T12 | 09-29T22:00 | 09-29T22:00 09-30T21:00
# Summer time is the standard and winter the exception (negative DST).
Europe/Dublin | 30 1 * * * | 2026-03-29 | 2026-03-30 | 03-29T01:00 | never
Europe/Dublin | 30 1 * * * | 2026-10-25T00 | 2026-10-26T00 | 10-25T00:30 | 10-25T00:30 10-25T01:30
# Back for Ramadan, then forward.
Africa/Casablanca | 30 2 * * * | 2024-03-10 | 2024-03-11 | 03-10T01:30 | 03-10T01:30 03-10T02:30
Africa/Casablanca | 30 2 * * * | 2024-04-14 | 2024-04-15 | 04-14T02:00 | never
# Two hours.
Antarctica/Troll | 30 1 * * * | 2025-03-30 | 2025-03-30T12 | 03-30T01:00 | never
Antarctica/Troll | 30 1,2 * * * | 2025-03-30 | 2025-03-30T12 | 03-30T01:00 | never
Antarctica/Troll | 30 2 * * * | 2025-10-25T12 | 2025-10-26T12 | 10-26T00:30 | 10-26T00:30 10-26T02:30
# One minute after midnight; in 1988 by two hours.
America/St_Johns | 30 0 * * * | 2010-03-14 | 2010-03-15 | 03-14T03:31 | never
America/St_Johns | 30 23 * * * | 2010-11-06T12 | 2010-11-07T12 | 11-07T02:00 | 11-07T02:00 11-07T03:00
America/St_Johns | 30 1 * * * | 1988-04-03 | 1988-04-04 | 04-03T03:31 | never
# Midnight does not exist.
Asia/Tehran | 0 0 * * * | 2022-03-21T12 | 2022-03-22T12 | 03-21T20:30 | never
Asia/Tehran | 30 23 * * * | 2022-09-21T12 | 2022-09-22T12 | 09-21T19:00 | 09-21T19:00 09-21T20:00
Africa/Cairo | 0 0 * * * | 2024-04-25T12 | 2024-04-26T12 | 04-25T22:00 | never
Africa/Cairo | 30 23 * * * | 2024-10-31T12 | 2024-11-01T12 | 10-31T20:30 | 10-31T20:30 10-31T21:30
America/Havana | 0 0 * * * | 2024-03-10 | 2024-03-11 | 03-10T05:00 | never
# In 2024 the standard time moved by an hour as summer time began: the clock on the wall did not move.
America/Scoresbysund | 30 0 * * * | 2024-03-31 | 2024-04-01 | 03-31T01:30 | 03-31T01:30
America/Scoresbysund | 30 23 * * * | 2024-10-26T12 | 2024-10-27T12 | 10-27T00:30 | 10-27T00:30 10-27T01:30
Asia/Gaza | 30 2 * * * | 2024-04-19T12 | 2024-04-20T12 | 04-20T00:00 | never
Asia/Gaza | 30 1 * * * | 2024-10-25T12 | 2024-10-26T12 | 10-25T22:30 | 10-25T22:30 10-25T23:30
# No summer time at all, but a new standard time.
Asia/Pyongyang | 45 23 * * * | 2018-05-04 | 2018-05-05 | 05-04T15:00 | never
Asia/Pyongyang | 45 23 * * * | 2015-08-14 | 2015-08-15 | 08-14T14:45 | 08-14T14:45 08-14T15:15
# At 02:45, by an hour, in a zone of three quarters.
Pacific/Chatham | 0 3 * * * | 2026-09-26 | 2026-09-27 | 09-26T14:00 | never
"""


def rows() -> list[tuple[str, ...]]:
    lines = (line for line in TABLE.strip().splitlines() if not line.startswith("#"))
    return [tuple(cell.strip() for cell in line.split("|")) for line in lines]


@pytest.mark.parametrize(("key", "expression", "begin", "end", "default", "literal"), rows())
def test_pain_14_dst_in_zones_with_odd_changes(
    key: str, expression: str, begin: str, end: str, default: str, literal: str
) -> None:
    def shown(trigger: Trigger) -> str:
        return " ".join(fire[5:16] for fire in fires(trigger, begin, end)) or "never"

    assert shown(Cron(expression, key)) == default
    assert shown(Cron(expression, key, "literal")) == literal


def test_pain_14_dst_a_daily_job_fires_exactly_once_every_day_of_the_year() -> None:
    for time in ("30 2", "0 2", "59 2", "0 3"):
        found = fires(Cron(f"{time} * * *", "Europe/Berlin"), "2025-12-31T23:00", "2026-12-31T23:00")
        assert len(found) == len(set(found)) == 365


def test_peers_in_the_autumn_fold_half_past_two_fires_once() -> None:
    # croniter and APScheduler 3 and 4 fire twice.
    assert fires(Cron("30 2 * * *", "Europe/Berlin"), "2026-10-24T22:00", "2026-10-25T22:00") == ["2026-10-25T00:30:00"]


def test_peers_in_the_spring_gap_half_past_two_fires_at_three() -> None:
    # As croniter and cronsim do; others fire at 03:30.
    trigger = Cron("30 2 * * *", "Europe/Berlin")
    (fire,) = fires_between(trigger, us("2026-03-28T23:00"), us("2026-03-29T22:00"))
    assert local_time(trigger, fire) == "2026-03-29T03:00:00+02:00"


@pytest.mark.parametrize(
    ("minute", "spring", "autumn"),
    [("*/5", 23 * 12, 25 * 12), ("*/15", 23 * 4, 25 * 4), ("0,30", 23 * 2, 25 * 2), ("30", 23, 25)],
)
def test_what_fires_at_least_hourly_follows_elapsed_time(minute: str, spring: int, autumn: int) -> None:
    trigger = Cron(f"{minute} * * * *", "Europe/Berlin")
    step = 3_600_000_000 * 23 // spring
    for begin, end, expected in [
        ("2026-03-28T23:00", "2026-03-29T22:00", spring),
        ("2026-10-24T22:00", "2026-10-25T23:00", autumn),
    ]:
        found = list(fires_between(trigger, us(begin), us(end)))
        assert len(found) == expected
        assert {later - fire for fire, later in pairwise(found)} == {step}


def test_a_window_of_hours_finer_than_an_hour_follows_elapsed_time() -> None:
    trigger = Cron("*/30 1-4 * * *", "Europe/Berlin")
    assert len(fires(trigger, "2026-10-24T22:00", "2026-10-25T23:00")) == 10, "five hours from one to before five"
    assert len(fires(trigger, "2026-03-28T23:00", "2026-03-29T22:00")) == 6


@pytest.mark.parametrize(
    "expression", ["0 */2 * * *", "0 0-22/2 * * *", "0 2-22/4 * * *", "30 */2 * * *", "0,30 */2 * * *"]
)
def test_a_rhythm_of_hours_gets_no_spurious_fire_at_three(expression: str) -> None:
    # croniter adds 03:00 on the wall, 01:00 UTC.
    found = fires(Cron(expression, "Europe/Berlin"), "2026-03-29T00:45", "2026-03-29T02:00")
    assert found == []


def test_a_rhythm_of_hours_takes_the_first_pass_only() -> None:
    found = fires(Cron("0 */2 * * *", "Europe/Berlin"), "2026-10-24T22:00", "2026-10-25T03:30")
    assert found == ["2026-10-24T22:00:00", "2026-10-25T00:00:00", "2026-10-25T03:00:00"]


def test_hours_farther_apart_than_four_are_times_that_are_made_up() -> None:
    found = fires(Cron("0 */6 * * *", "Africa/Cairo"), "2024-04-25T12:00", "2024-04-26T12:00")
    assert found == ["2024-04-25T16:00:00", "2024-04-25T22:00:00", "2024-04-26T03:00:00", "2024-04-26T09:00:00"]


def test_what_a_gap_swallows_together_is_one_fire_and_never_twice_with_a_match() -> None:
    night = ("2026-03-28T23:00", "2026-03-29T22:00")
    assert fires(Cron("0,20,40 2 * * *", "Europe/Berlin"), *night) == ["2026-03-29T01:00:00"]
    assert fires(Cron("0 2,3 * * *", "Europe/Berlin"), *night) == ["2026-03-29T01:00:00"]
    assert fires(Cron("30 2,3 * * *", "Europe/Berlin"), *night) == ["2026-03-29T01:00:00", "2026-03-29T01:30:00"]


def test_a_gap_on_a_day_that_does_not_match_makes_up_for_nothing() -> None:
    assert fires(Cron("30 2 * * MON", "Europe/Berlin"), "2026-03-28T23:00", "2026-03-29T22:00") == []


def test_calendar_triggers_follow_the_same_rules() -> None:
    daily = Calendar(1, "days", 9_000, "Europe/Berlin")
    assert fires(daily, "2026-03-28T23:00", "2026-03-29T22:00") == ["2026-03-29T01:00:00"]
    assert fires(daily, "2026-10-24T22:00", "2026-10-25T22:00") == ["2026-10-25T00:30:00"]
    literal = Calendar(1, "days", 9_000, "Europe/Berlin", dst="literal")
    assert fires(literal, "2026-03-28T23:00", "2026-03-29T22:00") == []
    assert fires(literal, "2026-10-24T22:00", "2026-10-25T22:00") == ["2026-10-25T00:30:00", "2026-10-25T01:30:00"]


@pytest.mark.parametrize(
    ("expression", "at", "note"),
    [
        ("30 2 * * *", "2026-03-29T01:00", "gap: 02:30 does not exist, moved to 03:00"),
        ("0,30 2 * * *", "2026-03-29T01:00", "gap: 02:00 and 02:30 do not exist, moved to 03:00"),
        ("*/20 2 * * *", "2026-03-29T01:00", "gap: 02:00 to 02:40 (3 times) do not exist, moved to 03:00"),
        ("0 2,3 * * *", "2026-03-29T01:00", "gap: 02:00 does not exist, one fire with 03:00"),
        ("30 2 * * *", "2026-10-25T00:30", "fold: first pass of 02:30"),
        ("*/30 * * * *", "2026-10-25T00:30", "fold: first pass of 02:30"),
        ("*/30 * * * *", "2026-10-25T01:30", "fold: second pass of 02:30"),
        ("*/30 * * * *", "2026-03-29T01:00", ""),
        ("*/30 * * * *", "2026-10-25T02:00", ""),
        ("30 2 * * *", "2026-03-30T00:30", ""),
        ("30 2 * * *", "2026-03-28T01:30", ""),
        ("30 2 * * *", "2026-10-24T00:30", ""),
    ],
)
def test_a_fire_tells_what_the_clock_did_to_it(expression: str, at: str, note: str) -> None:
    trigger = Cron(expression, "Europe/Berlin")
    assert us(at) in fires_between(trigger, us(at), us(at) + 1)
    assert describe_dst(trigger, us(at)) == note


def test_a_lost_day_is_told_with_its_dates() -> None:
    note = describe_dst(Cron("30 2 * * *", "Pacific/Apia"), us("2011-12-30T10:00"))
    assert note == "gap: 2011-12-30 02:30 does not exist, moved to 00:00"


@pytest.mark.parametrize(
    ("expression", "dst", "notes"),
    [
        ("30 2 * * *", "default", [("2026-10-25T01:30:00", "fold: second pass of 02:30, left out")]),
        ("30 2 * * *", "literal", [("2026-03-29T01:00:00", "gap: 02:30 does not exist, skipped: dst is literal")]),
        (
            "0 */2 * * *",
            "default",
            [
                ("2026-03-29T01:00:00", "gap: 02:00 does not exist, skipped: it fires round the clock"),
                ("2026-10-25T01:00:00", "fold: second pass of 02:00, left out"),
            ],
        ),
        ("*/5 * * * *", "default", []),
        ("30 12 * * *", "default", []),
    ],
)
def test_what_was_left_out_is_told(expression: str, dst: str, notes: list[tuple[str, str]]) -> None:
    trigger = Cron(expression, "Europe/Berlin", "literal" if dst == "literal" else "default")
    found = dst_notes_between(trigger, us("2026-01-01"), us("2027-01-01"))
    assert [(iso(at), note) for at, note in found] == notes


def test_notes_keep_to_the_bounds_asked_for() -> None:
    trigger = Cron("30 2 * * *", "Europe/Berlin")
    at = us("2026-10-25T01:30")
    assert len(dst_notes_between(trigger, at, at + 1)) == 1
    assert dst_notes_between(trigger, at + 1, at + 10**12) == []
    assert dst_notes_between(trigger, at - 10**9, at) == []
    assert dst_notes_between(Cron("30 2 * * *", "Europe/Berlin", end_us=at - 1), at, at + 1) == []
