"""Any of, all of, except and every n-th."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sz_protocol.triggers import (
    AllOf,
    AnyOf,
    CannotAdvance,
    Cron,
    Date,
    EveryNth,
    Except,
    Interval,
    Trigger,
    TriggerError,
    describe_dst,
    dst_notes_between,
    fires_between,
    local_time,
    missed,
    next_fire,
    nominal_key,
)

from .oracles import iso, us

MINUTE_US = 60_000_000
HOURLY = Cron("0 * * * *")


def times(trigger: Trigger, begin: str, end: str) -> list[str]:
    return [iso(fire)[5:16] for fire in fires_between(trigger, us(begin), us(end))]


def test_any_fires_with_each_member_and_once_where_they_meet() -> None:
    trigger = AnyOf((Cron("0 6,12 * * *"), Cron("30 6 * * *"), Cron("0 12 * * *")))
    assert times(trigger, "2026-06-01", "2026-06-02") == ["06-01T06:00", "06-01T06:30", "06-01T12:00"]


def test_all_fires_where_the_members_meet() -> None:
    trigger = AllOf((Interval(4 * MINUTE_US), Interval(6 * MINUTE_US), Cron("* * * * *")))
    assert times(trigger, "2026-06-01", "2026-06-01T00:30") == ["06-01T00:00", "06-01T00:12", "06-01T00:24"]


def test_pain_15_all_that_never_coincide_gives_up_and_says_so() -> None:
    trigger = AllOf((Interval(7_000_000), Interval(7_000_000, 1_000_000)))
    with pytest.raises(CannotAdvance, match="after 2026-06-01T00:00:00Z: the triggers of all did not coincide"):
        next_fire(trigger, us("2026-06-01"))


def test_all_looks_no_further_than_it_was_asked() -> None:
    trigger = AllOf((Interval(7_000_000), Interval(7_000_000, 1_000_000)))
    assert times(trigger, "2026-06-01", "2026-06-01T01:00") == []


def test_all_with_a_member_that_is_over_is_over() -> None:
    assert next_fire(AllOf((HOURLY, Date(us("2026-06-01T12:00")))), us("2026-06-01T12:00")) is None


def test_holidays_are_whole_days_on_the_wall_of_their_zone() -> None:
    trigger = Except(Cron("0 */6 * * *"), (date(2026, 12, 25),), timezone="America/New_York")
    assert times(trigger, "2026-12-25", "2026-12-26T12:00") == ["12-25T00:00", "12-26T06:00"]


def test_a_window_ends_before_its_last_instant() -> None:
    trigger = Except(HOURLY, windows=((us("2026-06-01T01:00"), us("2026-06-01T03:00")),))
    assert times(trigger, "2026-06-01", "2026-06-01T05:00") == ["06-01T00:00", "06-01T03:00", "06-01T04:00"]


def test_windows_may_overlap_touch_and_come_in_any_order() -> None:
    a, b, c = (us(f"2026-06-01T0{hour}:00") for hour in (1, 2, 4))
    trigger = Except(HOURLY, windows=((b, c), (a, b), (a, c)))
    assert trigger == Except(HOURLY, windows=((a, c), (b, c), (a, b), (a, b)))
    assert times(trigger, "2026-06-01", "2026-06-01T06:00") == ["06-01T00:00", "06-01T04:00", "06-01T05:00"]


def test_what_is_blacked_out_for_ever_ends() -> None:
    trigger = Except(Date(us("2026-06-01T12:00")), (date(2026, 6, 1),))
    assert next_fire(trigger, 0) is None


def test_every_nth_counts_from_one_origin() -> None:
    trigger = EveryNth(Cron("0 0 * * *"), 3)
    found = times(trigger, "2026-06-01", "2026-06-12")
    assert len(found) == 4
    assert found == times(trigger, "2026-05-20", "2026-06-12")[-4:]
    origin = EveryNth(Cron("0 0 * * *"), 3, start_us=us("2026-06-02"))
    assert times(origin, "2026-01-01", "2026-06-10") == ["06-02T00:00", "06-05T00:00", "06-08T00:00"]


def test_every_nth_with_an_offset() -> None:
    start = us("2026-06-01")
    parts = [EveryNth(Cron("0 0 * * *"), 3, k, start) for k in range(3)]
    assert [times(part, "2026-06-01", "2026-06-07") for part in parts] == [
        ["06-01T00:00", "06-04T00:00"],
        ["06-02T00:00", "06-05T00:00"],
        ["06-03T00:00", "06-06T00:00"],
    ]


def test_every_second_monday_and_every_third_interval() -> None:
    fortnightly = EveryNth(Cron("0 9 * * MON", "Europe/Berlin"), 2, start_us=us("2026-06-01"))
    assert times(fortnightly, "2026-06-01", "2026-07-01") == ["06-01T07:00", "06-15T07:00", "06-29T07:00"]
    third = EveryNth(Interval(10 * MINUTE_US), 3, start_us=us("2026-06-01"))
    assert times(third, "2026-06-01", "2026-06-01T02:00") == [
        "06-01T00:00",
        "06-01T00:30",
        "06-01T01:00",
        "06-01T01:30",
    ]


@given(
    st.sampled_from([Cron("*/7 1-5 * * *", "Europe/Berlin"), Interval(11 * MINUTE_US), Cron("30 2 * * MON,THU")]),
    st.integers(1, 20).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))),
    st.integers(0, 400),
)
@settings(max_examples=60, deadline=None)
def test_every_nth_is_a_slice_of_its_trigger(inner: Cron | Interval, pair: tuple[int, int], days: int) -> None:
    n, offset = pair
    start = us("2025-06-01")
    trigger = EveryNth(inner, n, offset, start)
    end = start + (days + 30) * 86_400_000_000
    everything = list(fires_between(inner, start, end))
    assert list(fires_between(trigger, start - 10**12, end)) == everything[offset::n]


DENSE = Cron("*/10 * * * * *", "Europe/Berlin")
AUTUMN = us("2026-10-23"), us("2026-10-28")


@given(
    st.sampled_from([DENSE, Except(DENSE, (date(2026, 10, 24),)), EveryNth(DENSE, 3, 1), Cron("0 */2 * * * 1-6")]),
    st.integers(150, 4000),
    st.integers(0, 10**6),
)
@settings(max_examples=15, deadline=None)
def test_far_leaps_land_where_steps_would(inner: Trigger, n: int, ahead_s: int) -> None:
    start, end = AUTUMN
    after = start + ahead_s % 300_000 * 1_000_000
    everything = list(fires_between(inner, start, end))
    trigger = EveryNth(inner, n, 0, start)
    assert list(fires_between(trigger, start, end)) == everything[::n]
    assert list(fires_between(trigger, after, end)) == [fire for fire in everything[::n] if fire >= after]
    of_nth = missed(EveryNth(trigger, 2, 1, start), start - 1, end - 1, 3)
    assert list(of_nth.kept) == everything[n :: 2 * n][-3:]
    assert missed(inner, start - 1, end - 1, 300).kept == tuple(everything[-300:])


def test_pain_15_every_nth_of_every_nth_ends_at_once() -> None:
    trigger: Trigger = Cron("* * * * * *")
    for _ in range(6):
        trigger = EveryNth(trigger, 100)  # one second in 10**12: walked through, it would take hours
    assert next_fire(trigger, us("2026-06-01")) is None
    thrice = EveryNth(EveryNth(EveryNth(Cron("* * * * * *"), 100), 100), 100)
    first = next_fire(thrice, us("2026-06-01"))
    assert first is not None
    assert next_fire(thrice, first) == first + 10**6 * 1_000_000


def test_pain_12_a_month_of_missed_seconds_with_a_holiday_is_counted_not_visited() -> None:
    day_s, until = 86_400, us("2026-12-31")
    blocked = Except(Cron("* * * * * *"), (date(2026, 12, 25),))
    found = missed(blocked, until - 30 * day_s * 1_000_000, until, 100)
    assert (len(found.kept), found.dropped) == (100, 29 * day_s - 100)
    assert found.kept == tuple(range(until - 99_000_000, until + 1, 1_000_000))


def test_pain_15_alls_inside_each_other_share_one_search() -> None:
    second_us = 1_000_000
    seldom = AllOf((Interval(997 * second_us), Interval(1009 * second_us)))  # a thousand steps for each of its fires
    never = AllOf((seldom, Interval(997 * 1009 * second_us, second_us)))
    for trigger in (never, Except(never, windows=((0, 1),)), AnyOf((never, never))):
        with pytest.raises(CannotAdvance, match="within 10000 steps"):
            next_fire(trigger, us("2026-06-01"))
    assert next_fire(AnyOf((seldom, Date(us("2026-06-03")))), us("2026-06-01")) == us("2026-06-03")


def test_a_bound_narrows_every_combination() -> None:
    start, end = us("2026-06-01T02:00"), us("2026-06-01T04:00")
    window = (us("2020-01-01"), us("2020-01-02"))
    for trigger in (
        AnyOf((HOURLY,), start, end),
        AllOf((HOURLY,), start, end),
        Except(HOURLY, windows=(window,), start_us=start, end_us=end),
        EveryNth(HOURLY, 1, 0, start, end),
    ):
        assert times(trigger, "2026-01-01", "2027-01-01") == ["06-01T02:00", "06-01T03:00", "06-01T04:00"]


def test_combinations_stand_inside_each_other() -> None:
    working_day = Except(Cron("0 9 * * 1-5", "Europe/Berlin"), (date(2026, 6, 4),), timezone="Europe/Berlin")
    trigger = AnyOf((working_day, Cron("0 12 * * SAT", "Europe/Berlin")))
    assert times(trigger, "2026-06-01", "2026-06-08") == [
        "06-01T07:00",
        "06-02T07:00",
        "06-03T07:00",
        "06-05T07:00",
        "06-06T10:00",
    ]


def test_a_fire_of_a_combination_has_the_name_of_the_member_that_fires() -> None:
    berlin, every_hour = Cron("30 2 * * *", "Europe/Berlin"), Interval(60 * MINUTE_US)
    either = AnyOf((berlin, every_hour))
    at, hour = us("2026-06-01T00:30"), us("2026-06-01T01:00")
    assert nominal_key(either, at) == "2026-06-01T02:30:00/0 Europe/Berlin"
    assert nominal_key(either, hour) == str(hour)
    assert nominal_key(either, hour + 1) == str(hour + 1)
    assert local_time(either, at) == "2026-06-01T02:30:00+02:00"
    assert local_time(AllOf((berlin, Interval(MINUTE_US))), at) == "2026-06-01T02:30:00+02:00"
    blocked = Except(berlin, (date(2020, 1, 1),))
    assert nominal_key(blocked, at) == nominal_key(EveryNth(berlin, 2), at) == nominal_key(berlin, at)


def test_the_name_in_any_needs_no_search_that_could_be_given_up() -> None:
    never = AllOf((Interval(7_000_000), Interval(7_000_000, 1_000_000)))
    at = us("2026-06-01")
    assert nominal_key(AnyOf((never, HOURLY)), at) == "2026-06-01T00:00:00/0 UTC"


def test_every_nth_of_a_trigger_with_holidays_counts_what_is_left() -> None:
    days = tuple(date(2026, 6, day) for day in (2, 3, 9))
    inner = Except(Cron("0 0 * * *"), days)
    trigger = EveryNth(inner, 2, start_us=us("2026-06-01"))
    assert times(trigger, "2026-06-01", "2026-06-13") == [f"06-{day}T00:00" for day in ("01", "05", "07", "10", "12")]
    far = list(fires_between(inner, us("2026-06-01"), us("2027-06-01")))
    assert list(fires_between(trigger, us("2027-01-01"), us("2027-06-01"))) == [
        fire for fire in far[::2] if fire >= us("2027-01-01")
    ]


def test_notes_of_a_combination_keep_to_its_bounds_and_blackouts() -> None:
    berlin = Cron("30 2 * * *", "Europe/Berlin")
    year = (us("2026-01-01"), us("2027-01-01"))
    left_out = us("2026-10-25T01:30")
    assert [at for at, _ in dst_notes_between(AnyOf((berlin, berlin)), *year)] == [left_out]
    assert [at for at, _ in dst_notes_between(EveryNth(berlin, 2), *year)] == [left_out]
    assert dst_notes_between(AnyOf((berlin,), end_us=left_out - 1), *year) == []
    assert dst_notes_between(Except(berlin, (date(2026, 10, 25),), timezone="Europe/Berlin"), *year) == []
    for combined in (AnyOf((HOURLY, berlin)), AllOf((HOURLY, berlin)), EveryNth(berlin, 2)):
        assert describe_dst(combined, us("2026-03-29T01:00")).startswith("gap: 02:30")
    assert describe_dst(AnyOf((HOURLY, berlin)), us("2026-03-29T02:00")) == ""


def nested(levels: int) -> Trigger:
    trigger: Trigger = HOURLY
    for _ in range(levels):
        trigger = AnyOf((trigger,))
    return trigger


@pytest.mark.parametrize(
    ("make", "path", "message"),
    [
        (lambda: AnyOf(()), ("triggers",), "1 to 64"),
        (lambda: AllOf((HOURLY, "0 * * * *")), ("triggers", 1), "must be a trigger"),  # type: ignore[arg-type]
        (lambda: nested(8), ("triggers", 0), "at most 8 deep"),
        (lambda: Except(HOURLY), ("dates",), "together must be 1 to"),
        (lambda: Except(HOURLY, windows=((2, 1),)), ("windows", 0, "to"), "after from"),
        (lambda: Except(HOURLY, windows=(5,)), ("windows", 0), "must be a pair"),  # type: ignore[arg-type]
        (lambda: Except(HOURLY, ("2026-12-25",)), ("dates", 0), "must be a date"),  # type: ignore[arg-type]
        (lambda: EveryNth(HOURLY, 0), ("n",), "must be from 1 to 10000"),
        (lambda: EveryNth(HOURLY, 3, 3), ("offset",), "from 0 to n - 1, which is 2"),
        (lambda: EveryNth(AnyOf((HOURLY,)), 2), ("trigger",), "put every_nth inside"),
        (lambda: EveryNth(Except(AllOf((HOURLY,)), (date(2026, 1, 1),)), 2), ("trigger",), "put every_nth inside"),
    ],
)
def test_combinations_that_exist_are_valid(make: object, path: tuple[str | int, ...], message: str) -> None:
    assert callable(make)
    with pytest.raises(TriggerError) as refused:
        make()
    assert [place for place, _ in refused.value.problems] == [path]
    assert message in str(refused.value)
