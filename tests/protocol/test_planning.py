"""What a plan holds: every fire and nothing else, in order, lazily, with what the clock does to it."""

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sz_protocol.definition import Definition
from sz_protocol.kernel.now import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from sz_protocol.moments import Moment, read_moment, show_span, show_time, spans_of, zone_of
from sz_protocol.planning import (
    Change,
    Known,
    Load,
    LoadCount,
    Outlook,
    Planned,
    PlannedKind,
    changed_otherwise,
    diff_plans,
    plan_of,
)
from sz_protocol.policy import spread_offset
from sz_protocol.triggers import AllOf, AnyOf, Cron, Date, EveryNth, Except, Interval, Trigger, fires_between


def utc(text: str) -> int:
    return read_moment(text).at_us


def job(trigger: Trigger, id: str = "job", **policies: Any) -> Definition:
    return Definition(id, "h", "m", trigger, **policies)


def plan(*definitions: Definition, from_: str, to: str, known: dict[str, Known] | None = None) -> list[Planned]:
    return list(plan_of(definitions, Outlook(utc(from_), utc(to), known or {})))


def fires(rows: list[Planned]) -> list[int]:
    return [row.at_us for row in rows if row.kind is PlannedKind.FIRE]


# --- which rows ------------------------------------------------------------------------------------------------


def test_from_is_included_and_to_is_not() -> None:
    rows = plan(job(Cron("0 * * * *")), from_="2026-03-01T10:00", to="2026-03-01T12:00")
    assert fires(rows) == [utc("2026-03-01T10:00"), utc("2026-03-01T11:00")]
    assert plan(job(Cron("0 * * * *")), from_="2026-03-01T10:00", to="2026-03-01T10:00") == []


def test_all_schedules_by_time_then_by_id() -> None:
    definitions = [job(Cron("*/30 * * * *"), "b"), job(Cron("0 * * * *"), "a"), job(Interval(20 * MINUTE_US), "c")]
    rows = plan(*definitions, from_="2026-03-01", to="2026-03-01T01:00")
    assert [(row.at_us - utc("2026-03-01"), row.schedule_id) for row in rows] == [
        (0, "a"),
        (0, "b"),
        (0, "c"),
        (20 * MINUTE_US, "c"),
        (30 * MINUTE_US, "b"),
        (40 * MINUTE_US, "c"),
    ]


def test_rows_are_found_as_they_are_taken_however_many_there_are() -> None:
    outlook = Outlook(utc("2026-01-01"), utc("2199-01-01"))
    rows = plan_of([job(Interval(1000), "ms"), job(Cron("* * * * * *"), "s")], outlook)
    assert len(list(islice(rows, 3000))) == 3000


def test_there_is_no_cap_on_rows() -> None:
    rows = plan(job(Cron("* * * * *")), from_="2026-01-01", to="2026-02-01")
    assert len(rows) == 31 * 24 * 60


@settings(max_examples=60, deadline=None)
@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kolkata", "UTC"]),
    day=st.integers(0, 364),
)
def test_a_daily_cron_agrees_with_an_independent_walk_along_the_wall(
    minute: int, hour: int, zone: str, day: int
) -> None:
    """Fires at the first minute of each local day at which the wall shows the time, or has passed it in a gap."""
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    firsts: dict[date, datetime] = {}
    for step in range(-24 * 60, 3 * 24 * 60):
        at = begin + timedelta(minutes=step)
        wall = at.astimezone(ZoneInfo(zone))
        if (wall.hour, wall.minute) >= (hour, minute):
            firsts.setdefault(wall.date(), at)
    from_us = int(begin.timestamp()) * SECOND_US
    rows = plan_of([job(Cron(f"{minute} {hour} * * *", zone))], Outlook(from_us, from_us + 3 * DAY_US))
    planned = [datetime.fromtimestamp(row.at_us / 1e6, UTC) for row in rows if row.kind is PlannedKind.FIRE]
    assert planned == [at for at in firsts.values() if at >= begin]


def test_local_time_and_utc_and_due_time() -> None:
    definition = job(Cron("30 9 * * *", "Asia/Kolkata"), spread_us=10 * MINUTE_US)
    (row,) = plan(definition, from_="2026-03-01", to="2026-03-02")
    assert row.local_time == "2026-03-01T09:30:00+05:30"
    assert row.at_us == utc("2026-03-01T04:00")
    assert row.due_us == row.at_us + spread_offset("job", 10 * MINUTE_US)


def test_combinations_and_bounds_are_planned_like_the_rest() -> None:
    trigger = Except(
        AnyOf((Cron("0 * * * *"), EveryNth(Interval(10 * MINUTE_US), 4))),
        windows=((utc("2026-03-01T02:00"), utc("2026-03-01T04:00")),),
        end_us=utc("2026-03-01T05:00"),
    )
    rows = plan(job(trigger), from_="2026-03-01", to="2026-03-02")
    assert fires(rows) == list(fires_between(trigger, utc("2026-03-01"), utc("2026-03-02")))
    assert all(not utc("2026-03-01T02:00") <= at_us < utc("2026-03-01T04:00") for at_us in fires(rows))


# --- gaps, folds, and what cannot go on ------------------------------------------------------------------------


def test_pain_14_a_gap_moves_the_fire_and_says_so() -> None:
    rows = plan(job(Cron("30 2 * * *", "Europe/Berlin")), from_="2026-03-29", to="2026-03-30")
    assert [(row.at_us, row.local_time) for row in rows] == [(utc("2026-03-29T01:00"), "2026-03-29T03:00:00+02:00")]
    assert rows[0].notes == ("gap: 02:30 does not exist, moved to 03:00",)


def test_pain_14_a_fold_fires_once_and_shows_what_it_left_out() -> None:
    first, second = plan(job(Cron("30 2 * * *", "Europe/Berlin")), from_="2026-10-25", to="2026-10-26")
    assert (first.kind, first.at_us) == (PlannedKind.FIRE, utc("2026-10-25T00:30"))
    assert first.notes == ("fold: first pass of 02:30",)
    assert (second.kind, second.at_us) == (PlannedKind.LEFT_OUT, utc("2026-10-25T01:30"))
    assert second.local_time == "2026-10-25T02:30:00+01:00"
    assert first.left_out == ((utc("2026-10-25T01:30"), "fold: second pass of 02:30, left out"),)


def test_what_is_left_out_before_the_first_fire_goes_with_it() -> None:
    literal = job(Cron("30 2 * * *", "Europe/Berlin", dst="literal"))
    gap, fire = plan(literal, from_="2026-03-29", to="2026-03-31")
    assert (gap.kind, gap.alone) == (PlannedKind.LEFT_OUT, False)
    assert fire.at_us == utc("2026-03-30T00:30")
    assert fire.left_out == ((utc("2026-03-29T01:00"), "gap: 02:30 does not exist, skipped: dst is literal"),)


def test_what_is_left_out_where_nothing_fires_stands_alone() -> None:
    literal = job(Cron("30 2 * * *", "Europe/Berlin", dst="literal"))
    (gap,) = plan(literal, from_="2026-03-29", to="2026-03-30")
    assert (gap.kind, gap.alone) == (PlannedKind.LEFT_OUT, True)


def test_each_left_out_instant_is_told_by_exactly_one_fire() -> None:
    every_other = job(Cron("15 */2 * * *", "Europe/Berlin"))
    rows = plan(every_other, from_="2026-01-01", to="2030-01-01")
    shown = [(row.at_us, row.notes[0]) for row in rows if row.kind is PlannedKind.LEFT_OUT]
    told = [note for row in rows for note in row.left_out]
    assert shown
    assert told == shown
    assert [row.at_us for row in rows] == sorted(row.at_us for row in rows)


def test_pain_15_a_trigger_that_cannot_advance_is_a_row_and_stops_nobody_else() -> None:
    never = AllOf((Interval(7 * SECOND_US, anchor_us=0), Interval(7 * SECOND_US, anchor_us=SECOND_US)))
    rows = plan(job(never, "bad"), job(Cron("0 * * * *"), "good"), from_="2026-03-01", to="2027-03-01")
    assert [row.kind for row in rows if row.schedule_id == "bad"] == [PlannedKind.STUCK]
    assert "would be quarantined" in rows[0].notes[0]
    assert len([row for row in rows if row.schedule_id == "good"]) == 365 * 24


def test_what_a_store_knows_is_noted_on_every_row() -> None:
    known = {"job": Known(remark="paused since 2026-03-01: does not fire")}
    rows = plan(job(Cron("0 * * * *")), from_="2026-03-01", to="2026-03-01T02:00", known=known)
    assert [row.notes for row in rows] == [("paused since 2026-03-01: does not fire",)] * 2


# --- differences -----------------------------------------------------------------------------------------------


def test_a_diff_has_the_fires_that_only_one_plan_has() -> None:
    old = [job(Cron("0 * * * *"), "kept"), job(Cron("0 0 * * *"), "gone"), job(Cron("0 6 * * *"), "moved")]
    new = [job(Cron("0 * * * *"), "kept", timeout_us=1), job(Cron("30 6 * * *"), "moved"), job(Date(1), "new")]
    outlook = Outlook(utc("2026-03-01"), utc("2026-03-02"))
    found = [
        (str(change), row.schedule_id, row.at_us - utc("2026-03-01"))
        for change, row in diff_plans(plan_of(old, outlook), plan_of(new, outlook))
    ]
    assert found == [
        ("removed", "gone", 0),
        ("removed", "moved", 6 * HOUR_US),
        ("added", "moved", 6 * HOUR_US + 30 * MINUTE_US),
    ]
    assert changed_otherwise(old, new) == ["kept"]


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_a_diff_is_the_difference_of_the_sets(old: set[int], new: set[int]) -> None:
    def rows(times: set[int]) -> list[Planned]:
        return [Planned("job", at_us, at_us, "") for at_us in sorted(times)]

    found = list(diff_plans(rows(old), rows(new)))
    assert {row.at_us for change, row in found if change is Change.REMOVED} == old - new
    assert {row.at_us for change, row in found if change is Change.ADDED} == new - old
    assert [row.at_us for _, row in found] == sorted(row.at_us for _, row in found)


def test_a_changed_spread_moves_what_is_due() -> None:
    outlook = Outlook(utc("2026-03-01"), utc("2026-03-01T01:00"))
    old, new = job(Cron("0 * * * *")), job(Cron("0 * * * *"), spread_us=HOUR_US)
    changes = [change for change, _ in diff_plans(plan_of([old], outlook), plan_of([new], outlook))]
    assert sorted(changes) == [Change.ADDED, Change.REMOVED]


# --- load ------------------------------------------------------------------------------------------------------


def start(at_us: int) -> Planned:
    return Planned("job", at_us, at_us, "")


def test_load_counts_starts_by_minute_spread_included() -> None:
    (row,) = plan(job(Cron("0 * * * *"), spread_us=10 * MINUTE_US), from_="2026-03-01", to="2026-03-01T01:00")
    count = LoadCount()
    count.add(row)
    begin_us = utc("2026-03-01") + spread_offset("job", 10 * MINUTE_US) // MINUTE_US * MINUTE_US
    assert count.bars(10) == [Load(begin_us, MINUTE_US, 1, 1, begin_us)]


@given(st.dictionaries(st.integers(0, 60 * 24 * 40), st.integers(1, 5), min_size=1), st.integers(1, 60))
def test_load_loses_no_start_and_keeps_to_its_width(minutes: dict[int, int], most: int) -> None:
    count = LoadCount()
    for minute, starts in minutes.items():
        for second in range(starts):
            count.add(start(minute * MINUTE_US + second * SECOND_US))
    bars = count.bars(most)
    counted = {minute * MINUTE_US: starts for minute, starts in minutes.items()}
    assert sum(bar.starts for bar in bars) == sum(counted.values())
    assert max(bar.peak for bar in bars) == max(counted.values())
    assert all(counted[bar.peak_us] == bar.peak for bar in bars)
    assert [bar.at_us for bar in bars] == sorted({bar.at_us for bar in bars})
    assert len(bars) <= most or bars[0].width_us == 364 * DAY_US
    if len(counted) <= most:
        assert {bar.at_us: bar.starts for bar in bars} == counted, "few enough: one bar a minute"


def test_the_load_of_a_plan_without_end_is_counted_in_bounded_memory() -> None:
    count = LoadCount(most_minutes=2000)
    for minute in range(60 * 24 * 20):
        for _ in range(3 if minute == 777 else 1):
            count.add(start(minute * MINUTE_US))
    assert len(count.minutes) <= 2000
    bars = count.bars(48)
    assert [bar.width_us for bar in bars] == [DAY_US] * 20
    assert sum(bar.starts for bar in bars) == 60 * 24 * 20 + 2
    assert (bars[0].peak, bars[0].peak_us) == (3, 777 * MINUTE_US)


# --- moments ---------------------------------------------------------------------------------------------------


def test_moments_are_as_wide_as_they_are_written() -> None:
    assert read_moment("2026-03-29") == Moment(utc("2026-03-29T00:00Z"), DAY_US, naive=True)
    assert read_moment("2026-03-29T02:30").width_us == MINUTE_US
    assert read_moment("2026-03-29 02:30:01").width_us == SECOND_US
    assert read_moment("2026-03-29T02:30:00.5Z") == Moment(utc("2026-03-29T02:30") + 500_000, 1, naive=False)
    assert read_moment("2026-03-29T02:30+02:00").at_us == utc("2026-03-29T00:30")


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2026-02-30", "2026-03-29T25:00", "2026-03-29Z", "1800-01-01", "2300-01-01", "29.03.2026", "1e9"],
)
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time|does not lie"):
        read_moment(text)


def test_a_naive_moment_comes_twice_in_a_fold_and_after_a_gap() -> None:
    fold = spans_of(read_moment("2026-10-25T02:30"), "Europe/Berlin")
    assert [begin for begin, _ in fold] == [utc("2026-10-25T00:30"), utc("2026-10-25T01:30")]
    gap = spans_of(read_moment("2026-03-29T02:30"), "Europe/Berlin")
    assert gap == [(utc("2026-03-29T01:00"), utc("2026-03-29T01:01"))]
    exact = spans_of(read_moment("2026-07-01T12:00:00.25"), "Europe/Berlin")
    assert exact == [(utc("2026-07-01T10:00") + 250_000, utc("2026-07-01T10:00") + 250_001)]
    day = spans_of(read_moment("2026-03-29"), "Europe/Berlin")
    assert sum(end - begin for begin, end in day) == 23 * HOUR_US


def test_times_and_spans_are_shown_short() -> None:
    assert show_time(utc("2026-07-01T10:00") + 999_999, "Europe/Berlin") == "2026-07-01T12:00:00+02:00"
    spans = [0, 340_000, 4_240_000, 60 * SECOND_US, 312 * SECOND_US, 3 * DAY_US + 2 * HOUR_US + 1]
    assert [show_span(span) for span in spans] == ["0s", "340ms", "4.2s", "1m", "5m12s", "3d2h"]


def test_a_combination_is_shown_in_the_zone_of_its_first_member() -> None:
    berlin = Cron("0 0 * * *", "Europe/Berlin")
    assert zone_of(EveryNth(Except(berlin, windows=((0, 1),)), 2)) == "Europe/Berlin"
    assert zone_of(AnyOf((Interval(SECOND_US), berlin))) == "UTC"
