"""Clocks that misbehave, on the machine and on a whole node: nothing fires early, nothing twice, nothing is lost
(TIME-1 to TIME-5). On the real driver: tests/runtime/test_driver_clocks.py."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from sz_protocol.commands import Applied, Apply
from sz_protocol.definition import Definition
from sz_protocol.kernel.now import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Now
from sz_protocol.machines.timekeeping import Timekeeping
from sz_protocol.notices import ClockStepped, TrustChanged
from sz_protocol.records import Outcome, Reason, RunKind
from sz_protocol.settings import Settings
from sz_protocol.triggers import Cron
from tests.protocol.harness import T0_US, Bench, at, every

HOUR, DAY = 3600.0, 86_400.0
SETTLE_US = Settings().clock_settle_us


def off(seconds: float, by_us: int, trusted: bool = True) -> Now:
    """The clocks `seconds` after the beginning, the wall clock wrong by so much."""
    right = at(seconds)
    return Now(right.mono_us, right.utc_us + by_us, trusted)


def timekeeping(high_water_us: int = 0, by_us: int = 0) -> Timekeeping:
    time = Timekeeping(Settings())
    time.start(off(0, by_us), high_water_us)
    time.read(off(0, by_us))
    return time


# --- the machine ------------------------------------------------------------------------------------------------


def test_time_1_a_jump_ahead_is_followed_when_it_has_held_for_the_settle_time() -> None:
    time = timekeeping()
    assert time.read(off(10, DAY_US)) == at(10)
    assert time.next_check_us() == at(10).mono_us + SETTLE_US
    assert time.read(off(69.9, DAY_US)) == at(69.9)
    assert time.read(off(70, DAY_US)) == off(70, DAY_US)
    assert time.notices == [ClockStepped(DAY_US, held=True), ClockStepped(DAY_US, held=False)]
    assert time.next_check_us() is None


def test_time_1_a_jump_that_is_taken_back_leaves_nothing_behind() -> None:
    time = timekeeping()
    time.read(off(10, DAY_US))
    assert time.read(off(30, 0)) == at(30)
    assert time.next_check_us() is None
    assert time.read(off(40, DAY_US)) == at(40)
    assert time.next_check_us() == at(40).mono_us + SETTLE_US, "another jump, another probation"


def test_time_1_a_clock_that_goes_on_jumping_is_not_followed_until_it_holds() -> None:
    time = timekeeping()
    for jump in range(1, 20):
        assert time.read(off(30 * jump, jump * HOUR_US)) == at(30 * jump)
    assert time.read(off(30 * 19 + 60, 19 * HOUR_US)) == off(30 * 19 + 60, 19 * HOUR_US)


def test_time_2_a_jump_back_is_followed_at_once() -> None:
    time = timekeeping()
    assert time.read(off(10, -HOUR_US)) == off(10, -HOUR_US)
    assert time.notices == [ClockStepped(-HOUR_US, held=False)]


@pytest.mark.parametrize("ppm", [-500, 500])
def test_a_clock_that_drifts_is_followed_without_a_word(ppm: int) -> None:
    time = timekeeping()
    for second in range(0, 86_400, 30):
        now = off(second, second * ppm)
        assert time.read(now) == now
    assert time.notices == []


def test_time_3_a_clock_behind_what_the_store_has_seen_is_not_trusted_until_it_has_caught_up() -> None:
    time = timekeeping(high_water_us=T0_US + 30 * SECOND_US)
    assert time.notices[0] == ClockStepped(-30 * SECOND_US, held=True)
    assert not time.read(at(29)).trusted
    assert time.read(at(30)) == at(30)


def test_time_3_or_until_it_has_held_for_the_settle_time() -> None:
    time = timekeeping(high_water_us=T0_US + DAY_US)
    assert not time.read(at(59)).trusted
    assert time.read(at(60)) == at(60)


def test_time_4_a_time_that_is_not_trusted_is_never_gone_by() -> None:
    time = timekeeping(high_water_us=T0_US)
    for by_us in (-50 * 365 * DAY_US, 0, 50 * 365 * DAY_US):
        now = time.read(off(100, by_us, trusted=False))
        assert now == evolve(at(100), trusted=False), "the latest known time, carried on"
    assert time.read(off(200, HOUR_US)) == off(200, HOUR_US), "the first trusted time is followed at once"
    assert [notice.trusted for notice in time.notices if isinstance(notice, TrustChanged)] == [False, True]


steps = st.sampled_from([0, 0, 0, -HOUR_US, HOUR_US, DAY_US, -DAY_US])
readings = st.lists(st.tuples(st.integers(1, 40), steps), min_size=1, max_size=40)


@given(readings)
def test_the_time_gone_by_is_never_ahead_of_the_clock_and_leaps_only_where_it_has_held(
    readings: list[tuple[int, int]],
) -> None:
    time, past_s, wrong_us, gone_by_us = timekeeping(), 0, 0, 0
    shown = [(0, 0)]  # (seconds, error) of every reading
    for elapsed_s, step_us in readings:
        past_s, wrong_us = past_s + elapsed_s, wrong_us + step_us
        shown.append((past_s, wrong_us))
        before_us, gone_by_us = gone_by_us, time.read(off(past_s, wrong_us)).utc_us - at(past_s).utc_us
        assert gone_by_us <= wrong_us
        if gone_by_us > before_us:
            held = [error for second, error in shown if second > past_s - SETTLE_US // SECOND_US]
            assert set(held) == {gone_by_us}
        if gone_by_us < wrong_us:
            assert time.next_check_us() is not None, "what is held back has an end"


# --- the node ---------------------------------------------------------------------------------------------------


def node_with(*definitions: Definition) -> Bench:
    bench = Bench().start()
    assert bench.ask(Apply(definitions)) == Applied(added=len(definitions))
    return bench


def step(bench: Bench, by_us: int) -> None:
    bench.now = evolve(bench.now, utc_us=bench.now.utc_us + by_us)


def fired(bench: Bench, schedule_id: str = "s") -> list[float]:
    return [(run.fire_us - T0_US) / SECOND_US for run in bench.started if run.schedule_id == schedule_id]


def test_pain_11_an_hour_back_fires_nothing_twice_and_nothing_early() -> None:
    bench = node_with(every(60), Definition("c", "h", "m", Cron("*/7 * * * * *")))
    bench.advance(600, auto=Outcome.SUCCEEDED)
    before, crons = fired(bench), len(fired(bench, "c"))
    step(bench, -HOUR_US)
    bench.advance(HOUR - 1, auto=Outcome.SUCCEEDED)
    assert fired(bench) == before == [60.0 * n for n in range(1, 11)]
    assert len(fired(bench, "c")) == crons
    bench.advance(121, auto=Outcome.SUCCEEDED)
    assert fired(bench) == [60.0 * n for n in range(1, 13)]
    assert all(run.count == 1 and run.outcome is Outcome.SUCCEEDED for run in bench.store.ledger())


def test_pain_11_back_and_restarted_while_it_is_back() -> None:
    bench = node_with(every(60))
    bench.advance(600, auto=Outcome.SUCCEEDED)
    step(bench, -HOUR_US)
    bench = bench.crash().start()
    bench.advance(HOUR / 2, auto=Outcome.SUCCEEDED)
    step(bench, HOUR_US)  # Corrected: held for a minute, then followed.
    bench.advance(600, auto=Outcome.SUCCEEDED)
    rows = [run for run in bench.store.ledger() if run.kind is RunKind.SCHEDULED]
    assert [run.fire_us for run in rows] == sorted({run.fire_us for run in rows}), "no instant twice"
    assert sum(run.count for run in rows) == (bench.now.utc_us - T0_US) // MINUTE_US, "and none is missing"


@pytest.mark.parametrize("held_s", [20, 50])
def test_a_day_ahead_for_less_than_a_minute_fires_nothing_of_that_day(held_s: int) -> None:
    bench = node_with(every(60), Definition("daily", "h", "m", Cron("0 12 * * *")))
    bench.advance(90, auto=Outcome.SUCCEEDED)
    step(bench, DAY_US)
    bench.advance(held_s, auto=Outcome.SUCCEEDED)
    step(bench, -DAY_US)
    bench.advance(HOUR - 90 - held_s, auto=Outcome.SUCCEEDED)
    assert fired(bench) == [60.0 * n for n in range(1, 61)]
    assert fired(bench, "daily") == []


def test_a_day_ahead_that_holds_is_followed_and_what_it_leapt_over_is_accounted_for() -> None:
    bench = node_with(every(600))
    step(bench, DAY_US)
    bench.advance(120, auto=Outcome.SUCCEEDED)
    assert fired(bench) == [DAY]
    assert sum(run.count for run in bench.store.ledger()) == 144
    step(bench, -DAY_US)  # It was wrong after all: what has been decided is not decided again.
    bench.advance(DAY + 600, auto=Outcome.SUCCEEDED)
    assert fired(bench) == [DAY, DAY + 600]


def test_pain_10_a_suspend_of_eight_hours_is_one_late_run_and_no_clock_step() -> None:
    bench = node_with(every(600))
    bench.pass_us(8 * HOUR_US)  # Boot time counts it: both clocks move.
    bench.advance(1, auto=Outcome.SUCCEEDED)
    assert fired(bench) == [8 * HOUR]
    assert sum(run.count for run in bench.store.ledger()) == 48
    assert bench.seen(ClockStepped) == []


def test_pain_10_where_the_suspend_is_not_counted_it_looks_like_a_jump_and_is_followed_after_a_minute() -> None:
    bench = node_with(every(600))
    step(bench, 8 * HOUR_US)
    bench.advance(59, auto=Outcome.SUCCEEDED)
    assert fired(bench) == []
    bench.advance(2, auto=Outcome.SUCCEEDED)
    assert fired(bench) == [8 * HOUR]


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_drifting_clock_loses_and_doubles_nothing_in_a_day(ppm: int) -> None:
    bench = node_with(every(600))
    for _ in range(24 * 60):
        bench.advance(60, auto=Outcome.SUCCEEDED)
        step(bench, 60 * ppm)
    assert fired(bench) == [600.0 * n for n in range(1, len(fired(bench)) + 1)]
    assert (bench.now.utc_us - T0_US) // (600 * SECOND_US) == len(fired(bench))


def test_pain_24_untrusted_at_boot_cron_waits_intervals_go_on_and_nothing_is_served_twice() -> None:
    bench = node_with(every(600, id="i"), Definition("c", "h", "m", Cron("*/10 * * * *")))
    bench.advance(1800, auto=Outcome.SUCCEEDED)
    bench = bench.crash(Now(at(2000).mono_us, 0, trusted=False)).start()  # The device has no clock of its own.
    bench.advance(3000, auto=Outcome.SUCCEEDED)
    assert fired(bench, "c") == []
    assert len(fired(bench, "i")) == 5
    bench.now = at(5000)  # It learns the time.
    bench.advance(1100, auto=Outcome.SUCCEEDED)
    assert fired(bench, "c") == [4600, 5200, 5800], "one late run for the five that nobody could date"
    rows = [run for run in bench.store.ledger("i") if run.kind is RunKind.SCHEDULED]
    assert [(run.reason, run.count) for run in rows if run.outcome is Outcome.SKIPPED] == [(Reason.UNTRUSTED_TIME, 5)]
    assert sum(run.count for run in rows) == 10, "each instant of the wall clock has its row"
    assert sum(run.count for run in bench.store.ledger("c")) == len({run.fire_us for run in bench.store.ledger("c")})


def test_pain_24_a_new_device_that_learns_the_time_does_not_catch_up_fifty_years() -> None:
    bench = Bench(now=Now(1000 * SECOND_US, 0, trusted=False)).start()
    assert bench.ask(Apply((Definition("c", "h", "m", Cron("*/10 * * * *")),))) == Applied(added=1)
    bench.advance(HOUR)
    bench.now = Now(bench.now.mono_us, T0_US)
    bench.advance(HOUR, auto=Outcome.SUCCEEDED)
    assert all(run.fire_us > T0_US for run in bench.store.ledger("c"))
    assert len(fired(bench, "c")) == 6
