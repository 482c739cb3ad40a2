"""Names of fires: stable, cheap, and different for different fires."""

import pytest

from sz_protocol.triggers import Calendar, Cron, Date, Interval, Trigger, fires_between, local_time, nominal_key

from .oracles import us


@pytest.mark.parametrize(
    ("trigger", "at", "key", "shown"),
    [
        (Interval(60_000_000), "2026-06-01T00:01", str(us("2026-06-01T00:01")), "2026-06-01T00:01:00+00:00"),
        (
            Cron("30 2 * * *", "Europe/Berlin"),
            "2026-06-01T00:30",
            "2026-06-01T02:30:00/0 Europe/Berlin",
            "2026-06-01T02:30:00+02:00",
        ),
        (
            Cron("*/30 * * * *", "Europe/Berlin"),
            "2026-10-25T01:30",
            "2026-10-25T02:30:00/1 Europe/Berlin",
            "2026-10-25T02:30:00+01:00",
        ),
        (
            Date(us("2026-06-01T00:30:00.25"), "Asia/Kathmandu"),
            "2026-06-01T00:30:00.25",
            "2026-06-01T06:15:00.250000/0 Asia/Kathmandu",
            "2026-06-01T06:15:00.250000+05:45",
        ),
        (
            Calendar(1, "days", 9_000, "Europe/Berlin"),
            "2026-03-29T01:00",
            "2026-03-29T02:30:00/0 Europe/Berlin",
            "2026-03-29T03:00:00+02:00",
        ),
        (
            Cron("0 2,3 * * *", "Europe/Berlin"),
            "2026-03-29T01:00",
            "2026-03-29T03:00:00/0 Europe/Berlin",
            "2026-03-29T03:00:00+02:00",
        ),
        (
            Date(us("2026-03-29T01:00"), "Europe/Berlin"),
            "2026-03-29T01:00",
            "2026-03-29T03:00:00/0 Europe/Berlin",
            "2026-03-29T03:00:00+02:00",
        ),
    ],
)
def test_a_fire_s_name_and_its_time_on_the_wall(trigger: Trigger, at: str, key: str, shown: str) -> None:
    assert nominal_key(trigger, us(at)) == key
    assert local_time(trigger, us(at)) == shown


def test_a_fire_that_was_moved_is_named_by_the_time_that_did_not_exist() -> None:
    # So the name stays the same when a later version of the zone data has no gap there.
    trigger = Cron("30 2 * * *", "Europe/Berlin")
    assert nominal_key(trigger, us("2026-03-29T01:00")) == "2026-03-29T02:30:00/0 Europe/Berlin"


@pytest.mark.parametrize("dst", ["default", "literal"])
@pytest.mark.parametrize("expression", ["*/15 * * * *", "30 2 * * *", "0 */2 * * *", "*/20 2 * * *"])
@pytest.mark.parametrize(("key", "day"), [("Pacific/Kwajalein", "1969-09-29"), ("America/St_Johns", "2010-11-06")])
def test_names_differ_through_a_fold(key: str, day: str, expression: str, dst: str) -> None:
    trigger = Cron(expression, key, "literal" if dst == "literal" else "default")
    fires = list(fires_between(trigger, us(day), us(day) + 3 * 86_400_000_000))
    assert len({nominal_key(trigger, fire) for fire in fires}) == len(fires) > 0
