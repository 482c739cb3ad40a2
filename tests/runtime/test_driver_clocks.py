"""Clocks that misbehave, on the real driver: nothing fires early, nothing twice, nothing is lost (TIME-1 to TIME-3).

The machine's own tests are in tests/protocol/test_timekeeping.py.
"""

import pytest

from sz_protocol.definition import Definition
from sz_protocol.notices import ClockStepped
from sz_protocol.triggers import Cron, Interval
from tests.runtime.driver_rig import DAY, HOUR, MIDNIGHT_US, MINUTE, SECOND, HandClock, bench

pytestmark = pytest.mark.anyio

MINUTELY = Definition("minutely", "h", "m", Interval(MINUTE))
HOURLY = Definition("hourly", "h", "m", Cron("0 * * * *", "Europe/Berlin"))


async def test_pain_11_a_clock_that_steps_back_an_hour_fires_nothing_twice_and_goes_on(anyio_backend: str) -> None:
    async with bench(anyio_backend, [MINUTELY]) as b:
        await b.pass_time(150)
        before = b.fired("minutely")
        assert before == [MIDNIGHT_US + MINUTE, MIDNIGHT_US + 2 * MINUTE]
        b.clock.move(0, step_us=-HOUR)
        await b.pass_time(1800, every=30)
        assert b.fired("minutely") == before, "TIME-2: it waits"
        await b.pass_time(1980, every=30)
        after = b.fired("minutely")
        assert after[:2] == before
        assert after == sorted(set(after)), "no instant twice"
        assert len(after) > len(before)
        assert len(after) + len(before) < 60


async def test_a_clock_that_jumps_a_day_ahead_fires_nothing_early_while_it_is_on_probation(anyio_backend: str) -> None:
    async with bench(anyio_backend, [HOURLY, MINUTELY]) as b:
        await b.pass_time(90)
        b.clock.move(SECOND, step_us=DAY)
        await b.pass_time(40)
        # It follows the monotonic clock meanwhile: what is really due fires.
        assert b.fired("minutely") == [MIDNIGHT_US + MINUTE, MIDNIGHT_US + 2 * MINUTE]
        assert b.fired("hourly") == []
        b.clock.move(SECOND, step_us=-DAY)
        await b.pass_time(60)
        assert b.fired("minutely") == [MIDNIGHT_US + n * MINUTE for n in (1, 2, 3)]
        steps = [notice for notice in b.notices if isinstance(notice, ClockStepped)]
        assert [step.held for step in steps] == [True, False]


async def test_a_jump_that_holds_is_followed_and_what_it_leapt_over_is_accounted_for(anyio_backend: str) -> None:
    async with bench(anyio_backend, [HOURLY]) as b:
        b.clock.move(SECOND, step_us=5 * HOUR)
        await b.pass_time(100)
        rows = b.rows("hourly")
        assert sorted(run.fire_us for run in rows) == [MIDNIGHT_US + n * HOUR for n in range(1, 6)]
        assert b.fired("hourly") == [MIDNIGHT_US + 5 * HOUR], "one late run covers the others"
        assert rows[-1].covers == tuple(MIDNIGHT_US + n * HOUR for n in range(1, 5))


async def test_pain_10_after_a_suspend_of_eight_hours_one_late_run_covers_what_was_slept_through(
    anyio_backend: str,
) -> None:
    async with bench(anyio_backend, [HOURLY]) as b:
        # Boot time counts the suspend: both clocks move together.
        b.clock.move(8 * HOUR + 5 * MINUTE)
        await b.settle()
        assert b.fired("hourly") == [MIDNIGHT_US + 8 * HOUR]
        assert len(b.rows("hourly")) == 8
        assert not [notice for notice in b.notices if isinstance(notice, ClockStepped)]


@pytest.mark.parametrize("drift_ppm", [-200, 200])
async def test_drift_is_followed_without_a_gap(anyio_backend: str, drift_ppm: int) -> None:
    async with bench(anyio_backend, [MINUTELY]) as b:
        await b.pass_time(600, every=10, drift_ppm=drift_ppm)
        fires = b.fired("minutely")
        assert fires == [MIDNIGHT_US + n * MINUTE for n in range(1, len(fires) + 1)]
        assert len(fires) in (9, 10)


async def test_pain_24_a_device_that_does_not_know_the_time_yet_fires_no_cron(anyio_backend: str) -> None:
    clock = HandClock(utc_us=0, trusted=False)
    async with bench(anyio_backend, [HOURLY], clock) as b:
        await b.pass_time(7200, every=30)
        assert b.rows("hourly") == ()
        clock.trusted = True
        clock.move(SECOND, step_us=MIDNIGHT_US)
        await b.pass_time(7200, every=30)
        fires = b.fired("hourly")
        assert fires, "it fires once the time is known"
        assert all(at_us > MIDNIGHT_US for at_us in fires), "fifty years were not missed"
        assert sum(run.count for run in b.rows("hourly")) <= 4
