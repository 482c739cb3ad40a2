"""The pains of users.md that are about time, on a whole node: each ends in rows, and no instant is without one."""

from datetime import date
from itertools import pairwise

import pytest

from sz_protocol.commands import Applied, Apply, Command, Done, Pause, Resume
from sz_protocol.definition import Definition, Misfire, MisfirePolicy, Overlap, OverlapPolicy
from sz_protocol.kernel.now import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from sz_protocol.policy import spread_offset
from sz_protocol.records import Outcome, Reason, Run, ScheduleState
from sz_protocol.triggers import AllOf, AnyOf, Cron, Except, Interval, Trigger, fires_between
from tests.protocol.harness import T0_US, Bench, at, every

HOUR, DAY = 3600.0, 86_400.0
SPRING_US = 1_774_742_400 * SECOND_US  # 2026-03-29T00:00Z: at 01:00Z the clocks of Berlin skip from 02:00 to 03:00
AUTUMN_US = 1_792_886_400 * SECOND_US  # 2026-10-25T00:00Z: at 01:00Z they go back from 03:00 to 02:00


def bench_with(*definitions: Definition, from_us: int = T0_US) -> Bench:
    bench = Bench(now=at((from_us - T0_US) / SECOND_US)).start()
    assert bench.ask(Apply(definitions)) == Applied(added=len(definitions))
    return bench


def down_for(bench: Bench, seconds: float) -> Bench:
    """Kill the server; the next life, so much later."""
    bench.pass_us(round(seconds * SECOND_US))
    return bench.crash().start()


def accounted(runs: list[Run]) -> int:
    return sum(run.count for run in runs)


def executed(bench: Bench, schedule_id: str = "s") -> list[float]:
    return [(run.fire_us - T0_US) / SECOND_US for run in bench.store.ledger(schedule_id) if run.attempt]


# --- 9: a second of grace drops silently ------------------------------------------------------------------------


def test_pain_9_what_is_late_runs_once_by_default_however_late() -> None:
    bench = bench_with(every(60))
    bench = down_for(bench, 5 * HOUR + 30)
    bench.advance(1, auto=Outcome.SUCCEEDED)
    assert executed(bench) == [5 * HOUR]
    assert accounted(bench.store.ledger()) == 300
    assert {(run.outcome, run.reason) for run in bench.store.ledger() if not run.attempt} == {
        (Outcome.SKIPPED, Reason.COALESCED),
        (Outcome.MISSED, Reason.LIMIT),
    }


def test_pain_9_a_second_of_grace_drops_nothing_without_a_row_and_a_reason() -> None:
    bench = bench_with(every(60, misfire=Misfire(grace_us=SECOND_US)))
    bench = down_for(bench, 90)  # thirty seconds late
    bench.advance(30, auto=Outcome.SUCCEEDED)
    assert bench.store.outcomes() == [(60, "skipped", "misfire"), (120, "succeeded", "on_time")]


# --- 12, 13: counts and floods ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger",
    [
        Interval(SECOND_US, T0_US),
        Cron("* * * * * *", "Europe/Berlin"),
        Except(Cron("* * * * * *"), (date(2023, 11, 15),)),
        AnyOf((Cron("* * * * * *"), Interval(SECOND_US, T0_US))),
    ],
    ids=["interval", "cron", "except", "any"],
)
def test_pain_12_two_hundred_thousand_missed_instants_are_decided_in_small_steps_and_all_accounted_for(
    trigger: Trigger,
) -> None:
    bench = bench_with(Definition("s", "h", "m", trigger))
    bench = down_for(bench, 2.5 * DAY)
    bench.settle()
    rows = bench.store.ledger()
    due = list(fires_between(trigger, T0_US + 1, bench.now.utc_us + 1))
    assert accounted(rows) == len(due) > 100_000
    assert len(rows) < 200
    assert [run.fire_us for run in bench.started] == [due[-1]]
    assert [run.fire_us for run in rows[-100:]] == due[-100:], "the latest are decided one by one"
    folded = [run for run in rows if run.count > 1]
    assert {run.reason for run in folded} == {Reason.WINDOW, Reason.LIMIT}
    assert sum(run.count for run in folded if run.reason == Reason.WINDOW) == sum(
        at_us <= bench.now.utc_us - DAY_US for at_us in due
    )


SLOW = AnyOf((Cron("*/2 * * * * *"), Cron("*/3 * * * * *")))
"""Neither member is rare: what passed has to be visited."""


@pytest.mark.parametrize("command", [Resume("s"), Apply((every(60),)), Apply((), prune=True)])
def test_pain_12_cat_9_an_edit_after_a_long_pause_accounts_for_it_in_steps(command: Command) -> None:
    bench = bench_with(Definition("s", "h", "m", SLOW))
    bench.ask(Pause("s"))
    cursor_us = bench.store.schedules["s"].cursor_us
    bench.pass_us(DAY_US)
    answer = bench.ask(command)
    rows = [run for run in bench.store.ledger() if run.decided_us == bench.now.utc_us]
    assert answer in (Done(), Applied(changed=1), Applied(retired=1))
    assert accounted(rows) == len(list(fires_between(SLOW, cursor_us + 1, bench.now.utc_us + 1))) == 57_600
    assert 4 < sum(run.count > 1 for run in rows) < 40, "each step folds some thousands"
    assert sum(run.count == 1 for run in rows) == 100
    assert bench.store.schedules["s"].cursor_us == bench.now.utc_us
    assert {run.reason for run in rows} < {Reason.PAUSED, Reason.SUPERSEDED, Reason.RETIRED}


def test_pain_13_catching_up_is_bounded_in_number_and_in_rate() -> None:
    misfire = Misfire(MisfirePolicy.ALL, max=6, rate_per_s=0.5)
    bench = bench_with(every(60, misfire=misfire, overlap=Overlap(OverlapPolicy.ALLOW, 10)))
    bench = down_for(bench, 3 * HOUR + 1)
    started_us = [bench.now.utc_us] * len(bench.started)
    for _ in range(40):
        bench.advance(0.5, auto=Outcome.SUCCEEDED)
        started_us += [bench.now.utc_us] * (len(bench.started) - len(started_us))
    gaps_s = [(later - one) / SECOND_US for one, later in pairwise(started_us)]
    assert executed(bench) == [3 * HOUR - 60 * back for back in range(5, -1, -1)]
    assert min(gaps_s) >= 2
    assert {run.reason for run in bench.store.ledger() if not run.attempt} == {Reason.LIMIT}
    assert accounted(bench.store.ledger()) == 180


def test_pain_13_a_crash_in_the_midst_of_catching_up_does_not_let_the_rest_loose() -> None:
    bench = bench_with(every(60, misfire=Misfire(MisfirePolicy.ALL, max=6, rate_per_s=0.5)))
    bench = down_for(bench, HOUR + 1)
    bench.advance(3, auto=Outcome.SUCCEEDED)
    bench = down_for(bench, 1)
    bench.settle()
    assert len(bench.running) <= 1
    bench.advance(30, auto=Outcome.SUCCEEDED)
    assert executed(bench)[:6] == [HOUR - 60 * back for back in range(5, -1, -1)]


# --- 14: DST ----------------------------------------------------------------------------------------------------


def nightly(**more: object) -> Definition:
    return Definition("s", "h", "m", Cron("30 2 * * *", "Europe/Berlin"), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("day_us", "fires_at_us"), [(SPRING_US, HOUR_US), (AUTUMN_US, HOUR_US // 2)])
def test_pain_14_dst_a_nightly_job_runs_once_in_the_night_of_the_change(day_us: int, fires_at_us: int) -> None:
    bench = bench_with(nightly(), from_us=day_us - HOUR_US)
    bench.advance(6 * HOUR, auto=Outcome.SUCCEEDED)
    assert [run.fire_us for run in bench.store.ledger()] == [day_us + fires_at_us]


@pytest.mark.parametrize("day_us", [SPRING_US, AUTUMN_US])
@pytest.mark.parametrize("how", ["down", "paused", "restarted inside"])
def test_pain_14_dst_nor_twice_nor_never_when_nobody_served_it_in_time(day_us: int, how: str) -> None:
    bench = bench_with(nightly(misfire=Misfire(MisfirePolicy.ALL, window_us=3 * DAY_US)), from_us=day_us - 2 * DAY_US)
    bench.advance(1.9 * DAY, auto=Outcome.SUCCEEDED)
    match how:
        case "down":
            bench = down_for(bench, 1.2 * DAY)
        case "paused":
            bench.ask(Pause("s"))
            bench.advance(1.2 * DAY)
            bench.ask(Resume("s", MisfirePolicy.ALL))
        case _:
            for _ in range(24):
                bench = down_for(bench, HOUR / 4)
                bench.advance(1, auto=Outcome.SUCCEEDED)
    bench.advance(1.2 * DAY, auto=Outcome.SUCCEEDED)
    expected = list(fires_between(nightly().trigger, day_us - 2 * DAY_US + 1, bench.now.utc_us + 1))
    assert len(expected) >= 3
    assert [run.fire_us for run in bench.store.ledger() if run.outcome is Outcome.SUCCEEDED] == expected


# --- 15: one bad schedule ---------------------------------------------------------------------------------------


def test_pain_15_a_schedule_that_cannot_advance_is_set_aside_alone() -> None:
    never = AllOf((Interval(7 * SECOND_US), Interval(7 * SECOND_US, SECOND_US)))
    bench = bench_with(Definition("bad", "h", "m", never), every(60, id="good"))
    bench.advance(HOUR, auto=Outcome.SUCCEEDED)
    bad = bench.store.schedules["bad"]
    assert (bad.state, "did not coincide" in bad.reason) == (ScheduleState.QUARANTINED, True)
    assert len(executed(bench, "good")) == 60


def test_pain_15_one_that_ceases_to_advance_while_it_runs_is_set_aside_alone() -> None:
    # Meets once more, then never again within any search.
    once = AllOf(
        (AnyOf((Interval(7 * SECOND_US, T0_US), Cron("30 13 22 14 11 *"))), Interval(7 * SECOND_US, T0_US + SECOND_US))
    )
    also = AnyOf((once, Cron("0 14 22 14 11 *")))
    bench = bench_with(Definition("bad", "h", "m", also), every(60, id="good"))
    bench.advance(HOUR, auto=Outcome.SUCCEEDED)
    assert bench.store.schedules["bad"].state is ScheduleState.QUARANTINED
    assert len(executed(bench, "good")) == 60


# --- 19: the midnight herd --------------------------------------------------------------------------------------


def test_pain_19_a_herd_is_spread_over_its_window_the_same_way_after_every_restart() -> None:
    window_us, herd = 10 * MINUTE_US, [f"job-{number}" for number in range(200)]
    bench = bench_with(*(every(HOUR, id=name, spread_us=window_us) for name in herd))
    starts: list[dict[str, int]] = []
    for _ in range(2):
        at_us: dict[str, int] = {}
        bench.advance(HOUR - 1, auto=Outcome.SUCCEEDED)
        for _ in range(601):
            seen = len(bench.started)
            bench.advance(1, auto=Outcome.SUCCEEDED)
            at_us |= {run.schedule_id: bench.now.utc_us - run.fire_us for run in bench.started[seen:]}
        starts.append(at_us)
        bench.advance(HOUR - 600, auto=Outcome.SUCCEEDED)
        bench = down_for(bench, 0.5)
    assert len(starts[0]) == len(herd)
    drift_us = max(abs(starts[0][name] - starts[1][name]) for name in herd)
    assert drift_us <= 2 * SECOND_US, "never redrawn"
    busiest = max(sum(at_us // MINUTE_US == minute for at_us in starts[0].values()) for minute in range(10))
    assert busiest <= 40, "twenty a minute, not two hundred at once"
    for name in herd:
        assert spread_offset(name, window_us) <= starts[0][name] < window_us + 2 * SECOND_US, "SCHED-3: never early"


def test_pain_19_a_changed_spread_neither_repeats_nor_swallows_an_instant() -> None:
    bench = bench_with(every(HOUR, spread_us=50 * MINUTE_US))
    offset_s = spread_offset("s", 50 * MINUTE_US) / SECOND_US
    assert 60 < offset_s < 49 * 60
    bench.advance(HOUR + offset_s - 30, auto=Outcome.SUCCEEDED)
    assert bench.ask(Apply((every(HOUR),))) == Applied(changed=1)  # the instant is due at once
    bench.advance(HOUR, auto=Outcome.SUCCEEDED)
    assert bench.ask(Apply((every(HOUR, spread_us=50 * MINUTE_US),))) == Applied(changed=1)  # 2 h has started
    bench.advance(2 * HOUR, auto=Outcome.SUCCEEDED)
    assert executed(bench) == [HOUR, 2 * HOUR, 3 * HOUR]


# --- 25: exactly one reasoned outcome ---------------------------------------------------------------------------


def test_pain_25_through_edits_pauses_and_downtime_every_due_instant_has_one_row_with_a_reason() -> None:
    ten = every(600)
    bench = bench_with(ten)
    bench.advance(HOUR, auto=Outcome.SUCCEEDED)
    bench.ask(Pause("s", "a holiday"))
    bench.advance(HOUR)
    bench.ask(Resume("s"))
    bench = down_for(bench, 2 * HOUR)
    bench.advance(HOUR, auto=Outcome.FAILED)
    bench.ask(Apply((), prune=True))
    bench.advance(HOUR)
    bench.ask(Apply((ten,)))
    bench.advance(HOUR, auto=Outcome.SUCCEEDED)
    bench.ask(Pause("s"))
    bench.advance(HOUR)
    bench.ask(Apply((every(1200),)))
    bench.ask(Resume("s", MisfirePolicy.ALL))
    bench.advance(HOUR, auto=Outcome.SUCCEEDED)
    rows = bench.store.ledger()
    planned = [600.0 * number for number in range(1, 49)] + [28_800.0 + 1200 * number for number in range(1, 4)]
    assert [(run.fire_us - T0_US) / SECOND_US for run in rows] == planned
    assert all(run.outcome is not None and run.reason and run.count == 1 for run in rows)
    assert [run.reason for run in rows[42:48]] == [Reason.SUPERSEDED] * 6
