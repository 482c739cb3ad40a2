"""New zone data under stored schedules: a due time that was stored under older data fires nothing (SCHED-8, CAT-8)."""

import pytest
from attrs import evolve

from sz_protocol.commands import Applied, Apply
from sz_protocol.definition import Definition, Misfire
from sz_protocol.kernel.now import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from sz_protocol.records import Outcome, ScheduleState
from sz_protocol.triggers import Cron, Trigger
from tests.protocol.harness import T0_US, Bench, at

FIVE = Cron("0 5 * * *", "Europe/Berlin")  # T0 is 23:13:20 in Berlin, so it fires first 5 h 46 min 40 s later
FIRST_US = T0_US + 5 * HOUR_US + 46 * MINUTE_US + 40 * SECOND_US


def daily(trigger: Trigger = FIVE, **more: object) -> Definition:
    return Definition("s", "h", "m", trigger, **more)  # type: ignore[arg-type]


def restarted(definition: Definition, moved_us: int, after_s: float) -> Bench:
    """A new life on a store whose due time was computed with other zone data, so much later than is right."""
    bench = Bench().start()
    bench.ask(Apply((definition,)))
    stored = bench.store.schedules["s"]
    assert stored.next_due_us == FIRST_US
    bench.store.schedules["s"] = evolve(stored, next_due_us=FIRST_US + moved_us)
    return bench.crash(at(after_s)).start()


@pytest.mark.parametrize("moved_us", [-HOUR_US, HOUR_US], ids=["stored too early", "stored too late"])
@pytest.mark.parametrize("applied", [True, False], ids=["in the file", "not in the file"])
def test_pain_14_a_fire_that_new_zone_data_move_comes_once_and_never_early(moved_us: int, applied: bool) -> None:
    bench = restarted(daily(), moved_us, 60)
    if applied:
        assert bench.ask(Apply((daily(),))) == Applied(changed=1)
        assert bench.ask(Apply((daily(),))) == Applied(unchanged=1)
    bench.advance(2 * DAY_US / SECOND_US, auto=Outcome.SUCCEEDED)
    fired = [run.fire_us for run in bench.store.ledger()]
    assert fired == [FIRST_US, FIRST_US + DAY_US]
    assert all(run.fire_us <= T0_US + 2 * DAY_US for run in bench.started)
    late_us = [run.decided_us - run.fire_us for run in bench.store.ledger()]
    assert min(late_us) >= 0
    # Who applies the file at every start, as `run` does, loses no minute either.
    assert max(late_us) <= (SECOND_US if applied or moved_us < 0 else HOUR_US)


def test_pain_15_a_stored_time_at_which_nothing_fires_any_more_does_not_stop_the_node() -> None:
    # Found due, older than the window, and the trigger has nothing at all between cursor and now.
    bench = restarted(daily(misfire=Misfire(window_us=MINUTE_US)), -4 * HOUR_US, 3 * 3600)
    bench.advance(3 * 3600, auto=Outcome.SUCCEEDED)
    assert [(run.fire_us, run.outcome) for run in bench.store.ledger()] == [(FIRST_US, Outcome.SUCCEEDED)]


def test_a_schedule_that_stands_still_gets_its_new_due_time_and_goes_on_standing_still() -> None:
    bench = Bench().start()
    bench.ask(Apply((daily(),)))
    for state in (ScheduleState.PAUSED, ScheduleState.PARKED):
        stale = evolve(bench.store.schedules["s"], state=state, reason="because", next_due_us=FIRST_US + HOUR_US)
        bench.store.schedules["s"] = stale
        assert bench.ask(Apply((daily(),))) == Applied(changed=1)
        assert bench.store.schedules["s"] == evolve(stale, next_due_us=FIRST_US, rev=stale.rev + 1)


def test_pain_15_a_quarantined_schedule_whose_trigger_can_advance_by_now_fires_again_after_a_restart() -> None:
    bench = Bench().start()
    bench.ask(Apply((daily(),)))
    stuck = evolve(bench.store.schedules["s"], state=ScheduleState.QUARANTINED, reason="stuck", next_due_us=None)
    bench.store.schedules["s"] = stuck
    bench = bench.crash(at(60)).start()
    assert bench.ask(Apply((daily(),))) == Applied(changed=1)
    assert bench.store.schedules["s"].state is ScheduleState.ACTIVE
    bench.advance(DAY_US / SECOND_US, auto=Outcome.SUCCEEDED)
    assert [run.fire_us for run in bench.store.ledger()] == [FIRST_US]
