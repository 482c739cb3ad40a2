"""next_fire, fires_between and missed: they agree, they end, and they do not depend on what was asked before."""

import pickle
from datetime import date
from itertools import islice, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sz_protocol.triggers import (
    DEFAULT_ANCHOR_US,
    FIRST_US,
    LAST_US,
    Calendar,
    Cron,
    Date,
    Interval,
    Missed,
    Trigger,
    TriggerError,
    fires_between,
    missed,
    next_fire,
    nominal_key,
)
from sz_protocol.triggers.firing import count
from sz_protocol.triggers.local_fires import PIECES_KEPT, of_calendar, of_cron, piece
from sz_protocol.triggers.records import countable

from .oracles import iso, us
from .strategies import countable_triggers, instants, leaves, triggers

DAY_US = 86_400_000_000
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

checked = settings(max_examples=200, deadline=None, suppress_health_check=SLOW)


def forget() -> None:
    """Empty every cache that answers could depend on."""
    for cache in (piece, of_cron, of_calendar):
        cache.cache_clear()


def following(trigger: Trigger, after_us: int, limit: int) -> list[int]:
    found: list[int] = []
    while len(found) < limit and (fire := next_fire(trigger, found[-1] if found else after_us)) is not None:
        found.append(fire)
    return found


@given(triggers(), instants)
@checked
def test_pain_15_next_fire_strictly_increases(trigger: Trigger, after_us: int) -> None:
    fires = following(trigger, after_us, 20)
    assert all(earlier < later for earlier, later in pairwise([after_us, *fires]))


@given(triggers(), instants, st.integers(0, 30 * DAY_US), st.integers(0, 30 * DAY_US))
@checked
def test_the_answer_does_not_depend_on_where_one_starts_asking(
    trigger: Trigger, after_us: int, later: int, back: int
) -> None:
    fire = next_fire(trigger, after_us)
    if fire is None:
        assert next_fire(trigger, after_us + later) is None
        return
    assert next_fire(trigger, min(fire - 1, after_us + later)) == fire
    for earlier in following(trigger, after_us - back, 200):
        if earlier >= fire:
            assert earlier == fire
            break
        assert earlier <= after_us


@given(triggers(), instants, st.lists(instants, max_size=5))
@checked
def test_the_answer_does_not_depend_on_what_was_asked_before(
    trigger: Trigger, after_us: int, others: list[int]
) -> None:
    forget()
    cold = next_fire(trigger, after_us)
    for other in others:
        next_fire(trigger, other)
    assert next_fire(trigger, after_us) == cold
    forget()
    following(trigger, after_us - DAY_US, 20)
    assert next_fire(trigger, after_us) == cold


@given(triggers(), instants, st.integers(0, 300))
@checked
def test_fires_between_agrees_with_next_fire_and_takes_from_in_and_leaves_to_out(
    trigger: Trigger, from_us: int, length: int
) -> None:
    expected = following(trigger, from_us - 1, length + 1)
    if not expected:
        assert list(fires_between(trigger, from_us, LAST_US + 1)) == []
        return
    to_us = expected[-1]
    assert list(fires_between(trigger, expected[0], to_us)) == expected[:-1]
    assert list(islice(fires_between(trigger, from_us, to_us + 1), length + 2)) == expected


@given(triggers(), instants, st.integers(0, 200), st.integers(0, 30))
@checked
def test_missed_agrees_with_fires_between(trigger: Trigger, after_us: int, length: int, keep: int) -> None:
    fires = following(trigger, after_us, length + 1)
    until_us = fires[-1] if fires else LAST_US
    kept = tuple(fires[-keep:]) if keep else ()
    dropped = fires[: len(fires) - len(kept)]
    expected = Missed(kept, len(dropped), dropped[0] if dropped else None, dropped[-1] if dropped else None)
    assert missed(trigger, after_us, until_us, keep) == expected


@given(countable_triggers(), instants, st.integers(0, 200))
@checked
def test_counting_agrees_with_visiting(trigger: Trigger, from_us: int, length: int) -> None:
    assert countable(trigger)
    fires = following(trigger, from_us - 1, length + 1)
    to_us = fires[-1] if fires else LAST_US
    assert count(trigger, from_us, to_us) == len([fire for fire in fires if fire < to_us])


@given(leaves(), instants)
@checked
def test_two_fires_never_have_one_name(trigger: Trigger, after_us: int) -> None:
    fires = following(trigger, after_us, 100)
    assert len({nominal_key(trigger, fire) for fire in fires}) == len(fires)


@given(triggers())
@checked
def test_records_are_hashable_and_survive_pickle(trigger: Trigger) -> None:
    copy = pickle.loads(pickle.dumps(trigger))
    assert copy == trigger
    assert hash(copy) == hash(trigger)


@pytest.mark.parametrize(
    "trigger",
    [
        Cron("* * * * *", "Europe/Berlin"),
        Cron("0 0 29 2 *"),
        Interval(1_000_000),
        Date(0),
        Calendar(1, "months", start_date=date(2024, 1, 31)),
    ],
)
def test_far_past_and_far_future_end_at_once(trigger: Trigger) -> None:
    assert next_fire(trigger, 10**30) is None
    assert next_fire(trigger, LAST_US) is None
    first = next_fire(trigger, -(10**30))
    assert first is not None
    assert first >= FIRST_US
    assert list(fires_between(trigger, LAST_US, 10**30)) == []


def test_memory_stays_bounded_however_far_one_asks() -> None:
    every_second = Cron("* * * * * *", "Europe/Berlin")
    for minute in range(PIECES_KEPT + 500):
        next_fire(every_second, us("1990-01-01") + minute * 64_000_000)
    assert piece.cache_info().currsize <= PIECES_KEPT
    forget()


def test_a_cron_expression_whose_time_is_over_ends() -> None:
    assert next_fire(Cron("0 0 29 2 *"), us("2196-03-01")) is None


def test_interval_is_anchored_on_a_monday_and_does_not_drift() -> None:
    assert iso(DEFAULT_ANCHOR_US) == "1970-01-05T00:00:00"
    weekly = Interval(7 * DAY_US)
    assert next_fire(weekly, us("2026-06-03T12:34:56")) == us("2026-06-08")
    assert next_fire(weekly, us("2026-06-08")) == us("2026-06-15")
    third = Interval(20 * 60_000_000)
    assert next_fire(third, us("2026-06-03T12:34:56.789")) == us("2026-06-03T12:40")


def test_interval_before_and_after_an_anchor_of_its_own() -> None:
    trigger = Interval(DAY_US, us("2026-06-03T06:00"))
    assert next_fire(trigger, us("2026-06-01")) == us("2026-06-01T06:00")
    assert next_fire(trigger, us("2026-07-01")) == us("2026-07-01T06:00")


def test_start_and_end_are_both_included() -> None:
    trigger = Cron("0 * * * *", start_us=us("2026-06-01T05:00"), end_us=us("2026-06-01T07:00"))
    hours = [iso(fire)[11:16] for fire in fires_between(trigger, us("2026-01-01"), us("2027-01-01"))]
    assert hours == ["05:00", "06:00", "07:00"]
    assert next_fire(trigger, us("2026-06-01T07:00")) is None


def test_date_fires_once() -> None:
    assert next_fire(Date(us("2026-06-01")), us("2026-06-01") - 1) == us("2026-06-01")
    assert next_fire(Date(us("2026-06-01")), us("2026-06-01")) is None


def test_pain_12_a_hundred_thousand_missed_instants_are_counted_and_only_the_latest_kept() -> None:
    minutely = Cron("* * * * *", "Europe/Berlin")
    start, end = us("2026-01-01"), us("2026-03-11T10:40")
    found = missed(minutely, start, end, 100)
    assert len(found.kept) == 100
    assert found.kept[-1] == end
    assert found.dropped == 100_000 - 100
    assert found.first_dropped_us == start + 60_000_000
    assert found.last_dropped_us == found.kept[0] - 60_000_000


def test_what_was_missed_over_a_change_of_the_clock_is_counted_exactly() -> None:
    for expression in ("*/5 * * * *", "30 2 * * *", "0 */2 * * *", "0,30 2 * * *"):
        for dst in ("default", "literal"):
            trigger = Cron(expression, "Europe/Berlin", "literal" if dst == "literal" else "default")
            fires = list(fires_between(trigger, us("2026-01-01"), us("2027-01-01")))
            found = missed(trigger, us("2026-01-01") - 1, us("2027-01-01") - 1, 3)
            assert (found.dropped, found.kept) == (len(fires) - 3, tuple(fires[-3:]))


def test_keeping_nothing_counts_all() -> None:
    found = missed(Interval(1_000_000), 0, 10_000_000, 0)
    assert found == Missed((), 10, 1_000_000, 10_000_000)
    assert missed(Interval(1_000_000), 0, 999_999, 5) == Missed((), 0, None, None)


@pytest.mark.parametrize(
    ("trigger", "begin", "fires"),
    [
        (Calendar(1, "months", start_date=date(2026, 1, 31)), "2026-01-01", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        (
            Calendar(1, "months", start_date=date(2026, 1, 31), month_end="skip"),
            "2026-01-01",
            ["2026-01-31", "2026-03-31", "2026-05-31"],
        ),
        (
            Calendar(3, "months", start_date=date(2025, 11, 30)),
            "2026-01-01",
            ["2026-02-28", "2026-05-30", "2026-08-30"],
        ),
        (Calendar(1, "years", start_date=date(2024, 2, 29)), "2024-01-01", ["2024-02-29", "2025-02-28", "2026-02-28"]),
        (
            Calendar(1, "years", start_date=date(2024, 2, 29), month_end="skip"),
            "2024-01-01",
            ["2024-02-29", "2028-02-29", "2032-02-29"],
        ),
        (Calendar(2, "weeks", start_date=date(2026, 6, 3)), "2026-06-04", ["2026-06-17", "2026-07-01", "2026-07-15"]),
        (Calendar(10, "days"), "2026-06-01", ["2026-06-10", "2026-06-20", "2026-06-30"]),
        (Calendar(1, "days", start_date=date(2026, 6, 3)), "2020-01-01", ["2026-06-03", "2026-06-04", "2026-06-05"]),
    ],
)
def test_calendar_intervals(trigger: Calendar, begin: str, fires: list[str]) -> None:
    assert [iso(fire)[:10] for fire in following(trigger, us(begin) - 1, 3)] == fires


def test_a_calendar_keeps_its_wall_time_through_the_year() -> None:
    trigger = Calendar(1, "months", 9 * 3600, "Europe/Berlin", date(2026, 1, 15))
    hours = [iso(fire)[5:16] for fire in fires_between(trigger, us("2026-02-01"), us("2026-05-01"))]
    assert hours == ["02-15T08:00", "03-15T08:00", "04-15T07:00"]


@pytest.mark.parametrize(
    ("make", "path", "message"),
    [
        (lambda: Interval(999), ("period",), "is 999; must be from 1000 to"),
        (lambda: Interval(True), ("period",), "must be a whole number"),
        (lambda: Interval(1.5), ("period",), "must be a whole number"),  # type: ignore[arg-type]
        (lambda: Interval(10**18), ("period",), "must be from"),
        (lambda: Interval(10**6, start_us=5, end_us=4), ("end",), "lies before start"),
        (lambda: Interval(10**6, start_us=10**18), ("start",), "years 1900 to 2199"),
        (lambda: Date(LAST_US + 1), ("run_date",), "years 1900 to 2199"),
        (lambda: Date(0, "Berlin"), ("timezone",), "did you mean"),
        (lambda: Calendar(0, "days"), ("days",), "is 0; must be from 1"),
        (lambda: Calendar(1, "fortnights"), ("unit",), "must be years or months or weeks or days"),  # type: ignore[arg-type]
        (lambda: Calendar(1, "days", 86_400), ("time",), "must be from 0 to 86399"),
        (lambda: Calendar(1, "days", month_end="clip"), ("month_end",), "did you mean 'clamp'?"),  # type: ignore[arg-type]
        (lambda: Calendar(1, "days", start_date=date(1899, 1, 1)), ("start_date",), "years 1900 to 2199"),
        (lambda: Cron("* * * * *", day_rule="xor"), ("day_rule",), "must be or or and"),  # type: ignore[arg-type]
    ],
)
def test_records_that_exist_are_valid(make: object, path: tuple[str], message: str) -> None:
    assert callable(make)
    with pytest.raises(TriggerError) as refused:
        make()
    assert [place for place, _ in refused.value.problems] == [path]
    assert message in str(refused.value)
