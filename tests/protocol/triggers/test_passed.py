"""What passed: any and all are counted exactly, with few visits, or in parts that leave nothing out."""

from datetime import date
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sz_protocol.kernel.now import DAY_US, HOUR_US, SECOND_US
from sz_protocol.triggers import (
    AllOf,
    AnyOf,
    Cron,
    EveryNth,
    Except,
    Interval,
    Missed,
    Trigger,
    fires_between,
    is_quick,
    missed,
    missed_in_part,
    passed,
)
from tests.protocol.triggers.oracles import us

NIGHT = us("2026-10-25T00:00")  # the clocks of Berlin go back at 01:00Z
SECONDLY = Cron("* * * * * *", "Europe/Berlin")
NIGHTLY = Cron("30 2 * * *", "Europe/Berlin")
HOLIDAY = us("2026-10-25T01:30"), us("2026-10-25T01:45")

MEMBERS: list[Trigger] = [
    Cron("*/20 * * * * *", "Europe/Berlin"),
    Cron("*/5 1-2 * * *", "Europe/Berlin"),
    Interval(7 * SECOND_US, NIGHT),
    Interval(60 * SECOND_US, NIGHT, end_us=NIGHT + 2 * HOUR_US),
    EveryNth(Cron("* * * * *"), 5, 2),
    Except(Interval(10 * SECOND_US), windows=(HOLIDAY,)),
]
members = st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=3)
inner = members.map(AnyOf) | members.map(AllOf)
nested = (
    inner
    | inner.map(lambda one: Except(one, windows=(HOLIDAY,)))
    | st.lists(inner | st.sampled_from(MEMBERS), min_size=1, max_size=3).map(AnyOf)
    | st.lists(inner, min_size=1, max_size=2).map(AllOf)
)


def expected(fires: list[int], keep: int) -> Missed:
    kept = fires[-keep:] if keep else []
    dropped = fires[: len(fires) - len(kept)]
    return Missed(tuple(kept), len(dropped), dropped[0] if dropped else None, dropped[-1] if dropped else None)


@given(nested, st.integers(0, 3600), st.integers(0, 4 * 3600), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_any_and_all_are_counted_as_if_visited(trigger: Trigger, from_s: int, length_s: int, keep: int) -> None:
    after_us, until_us = NIGHT + from_s * SECOND_US, NIGHT + (from_s + length_s) * SECOND_US
    fires = list(fires_between(trigger, after_us + 1, until_us + 1))
    assert missed(trigger, after_us, until_us, keep) == expected(fires, keep)


@given(nested, st.integers(0, 4 * 3600), st.integers(0, 12), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_pain_12_parts_leave_nothing_out_and_keep_the_latest(
    trigger: Trigger, length_s: int, keep: int, most: int
) -> None:
    until_us = NIGHT + length_s * SECOND_US
    fires = list(fires_between(trigger, NIGHT + 1, until_us + 1))
    after_us, folded = NIGHT, 0
    with patch.object(passed, "MOST_VISITED", most):
        while True:
            part, reach_us = missed_in_part(trigger, after_us, until_us, keep)
            folded += part.dropped
            if reach_us == until_us:
                break
            assert reach_us > after_us, "a part goes forward"
            assert part.dropped
            assert not part.kept
            after_us = reach_us
    assert part.kept == expected(fires, keep).kept
    assert folded == len(fires) - len(part.kept)


@pytest.mark.parametrize(
    "trigger",
    [
        AnyOf((SECONDLY, NIGHTLY)),
        AnyOf((NIGHTLY, Interval(SECOND_US), AllOf((NIGHTLY, SECONDLY)))),
        Except(AnyOf((SECONDLY, NIGHTLY)), (date(2026, 11, 5),)),
    ],
    ids=["any", "any of all", "except"],
)
def test_pain_12_a_month_of_seconds_is_counted_with_few_visits(trigger: Trigger) -> None:
    until_us = NIGHT + 30 * DAY_US
    found = missed(trigger, NIGHT, until_us, 100)
    assert is_quick(trigger, NIGHT, until_us)
    assert found.dropped + 100 == (29 if isinstance(trigger, Except) else 30) * 86_400
    assert found.kept == tuple(range(until_us - 99 * SECOND_US, until_us + 1, SECOND_US))


def test_pain_12_where_no_member_is_rare_one_go_takes_a_part() -> None:
    trigger = AnyOf((Cron("*/2 * * * * *"), Cron("*/3 * * * * *")))
    until_us = NIGHT + 30 * DAY_US
    part, reach_us = missed_in_part(trigger, NIGHT, until_us, 100)
    assert NIGHT < reach_us < until_us
    assert not part.kept
    assert passed.MOST_VISITED // 4 < part.dropped <= 2 * passed.MOST_VISITED
