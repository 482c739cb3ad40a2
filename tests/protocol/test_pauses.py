"""Pauses: what a person who ends one gets (SCHED-7), and that one outlasts the absence of its schedule (CAT-10)."""

import re
from typing import Any

import pytest

from sz_protocol.commands import Applied, Apply, Done, Pause, Refusal, RefusalCode, Resume
from sz_protocol.definition import Definition, Misfire, MisfirePolicy
from sz_protocol.kernel.now import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from sz_protocol.machines.backlog import left_out
from sz_protocol.records import Outcome, Reason, Schedule, ScheduleState
from sz_protocol.triggers import AnyOf, Interval
from tests.protocol.harness import T0_US, Bench, at, every

S = ScheduleState


def paused(definition: Definition, for_s: float, **more: Any) -> Bench:
    """A schedule that was paused at T0 and stands so for that long."""
    bench = Bench(**more).start()
    bench.ask(Apply((definition,)))
    assert bench.ask(Pause("s", "the database moves")) == Done()
    bench.advance(for_s)
    return bench


def stored(bench: Bench) -> Schedule:
    return bench.store.schedules["s"]


# --- SCHED-7 -----------------------------------------------------------------------------------------------------


def test_sched_7_whoever_asks_for_all_gets_all_however_long_the_pause_was() -> None:
    bench = paused(every(3600, misfire=Misfire(window_us=HOUR_US)), 3 * 86_400)
    assert bench.ask(Resume("s", MisfirePolicy.ALL)) == Done()
    bench.advance(60, auto=Outcome.SUCCEEDED)
    rows = bench.store.ledger()
    assert [(run.outcome, run.reason) for run in rows] == [(Outcome.SUCCEEDED, "catch_up")] * 72


def test_sched_7_whoever_asks_for_the_latest_gets_it_although_it_is_older_than_the_window() -> None:
    bench = paused(every(86_400, misfire=Misfire(window_us=HOUR_US)), 86_400 + 7200)
    assert bench.ask(Resume("s", MisfirePolicy.LATEST)) == Done()
    bench.advance(60, auto=Outcome.SUCCEEDED)
    assert [run.outcome for run in bench.store.ledger()] == [Outcome.SUCCEEDED]


@pytest.mark.parametrize("any_of", [False, True], ids=["countable", "any"])
def test_sched_7_more_than_max_are_not_run_and_the_answer_says_how_many(any_of: bool) -> None:
    interval = Interval(MINUTE_US, anchor_us=T0_US)
    trigger = AnyOf((interval, Interval(3 * MINUTE_US, anchor_us=T0_US))) if any_of else interval
    bench = paused(Definition("s", "h", "m", trigger, misfire=Misfire(max=5)), 2 * 86_400)
    answer = bench.ask(Resume("s", MisfirePolicy.ALL))
    said = "2875 of 2880 missed fire times are not run: misfire.max is 5, which keeps the newest"
    assert answer == Done(said)
    bench.advance(30, auto=Outcome.SUCCEEDED)
    rows = bench.store.ledger()
    assert sum(run.count for run in rows) == 2880
    ran = [run.fire_us for run in rows if run.outcome is Outcome.SUCCEEDED]
    assert ran == [T0_US + 2 * DAY_US - back * MINUTE_US for back in range(4, -1, -1)]
    assert {run.reason for run in rows if run.outcome is not Outcome.SUCCEEDED} == {Reason.LIMIT}


def test_sched_7_what_passed_after_the_pause_has_its_own_policy_and_window() -> None:
    misfire = Misfire(MisfirePolicy.SKIP, window_us=2 * HOUR_US)
    bench = paused(every(3600, misfire=misfire), 3 * 3600)
    bench.ask(Pause("s", "once more"))
    bench.command(Resume("s", MisfirePolicy.ALL))
    while not bench.replies.get(bench.requests):
        bench.answer()
    bench = bench.crash(at(8 * 3600 + 90)).start()
    bench.advance(60, auto=Outcome.SUCCEEDED)
    found = [((run.fire_us - T0_US) // HOUR_US, str(run.outcome), run.reason) for run in bench.store.ledger()]
    assert sorted(found) == [
        (1, "succeeded", "catch_up"),
        (2, "succeeded", "catch_up"),
        (3, "succeeded", "catch_up"),
        (4, "missed", "window"),
        (7, "skipped", "misfire"),
        (8, "skipped", "misfire"),
    ]


def test_very_many_instants_of_any_are_not_all_counted() -> None:
    trigger = AnyOf((Interval(SECOND_US), Interval(3 * SECOND_US)))
    schedule = Schedule("s", Definition("s", "h", "m", trigger), b"", "config", 1, T0_US, None, T0_US, T0_US)
    said = left_out(schedule, T0_US + 30 * DAY_US)
    assert re.match(r"more than \d+ missed fire times are not run: misfire.max is 100", said)
    assert left_out(schedule, T0_US - 1) == ""


# --- CAT-10 -------------------------------------------------------------------------------------------------------


def gone_and_back(bench: Bench, definition: Definition) -> None:
    """It leaves its file, and comes back a minute later."""
    assert bench.ask(Apply((), prune=True)).retired == 1
    bench.advance(60)
    assert bench.ask(Apply((definition,))) == Applied(changed=1)


@pytest.mark.parametrize("changed", [every(10), every(20)], ids=["the same", "changed meanwhile"])
def test_cat_10_a_paused_schedule_that_leaves_its_file_and_comes_back_is_paused(changed: Definition) -> None:
    bench = paused(every(10), 25)
    before = stored(bench)
    gone_and_back(bench, changed)
    after = stored(bench)
    assert (after.state, after.reason, after.since_us) == (S.PAUSED, before.reason, before.since_us)
    assert (after.paused_us, after.paused_reason) == (None, "")
    bench.advance(60, auto=Outcome.SUCCEEDED)
    assert {run.reason for run in bench.store.ledger()} == {"retired"}
    assert bench.ask(Resume("s")) == Done()
    bench.advance(20, auto=Outcome.SUCCEEDED)
    instants = sorted(run.fire_us for run in bench.store.ledger())
    assert len(instants) == len(set(instants)), "each once"


def test_cat_10_while_it_is_away_the_pause_is_kept_over_restarts_and_can_be_ended() -> None:
    bench = paused(every(10), 5)
    bench.ask(Apply((), prune=True))
    bench = bench.crash(at(20)).start()
    assert (stored(bench).state, stored(bench).paused_reason) == (S.RETIRED, "the database moves")
    assert bench.ask(Resume("s")) == Done()
    assert (stored(bench).state, stored(bench).paused_us) == (S.RETIRED, None)
    refusal = bench.ask(Resume("s"))
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.WRONG_STATE
    bench.ask(Apply((every(10),)))
    assert stored(bench).state is S.ACTIVE


def test_one_that_was_not_paused_comes_back_active() -> None:
    bench = Bench().start()
    bench.ask(Apply((every(10),)))
    gone_and_back(bench, every(10))
    assert stored(bench).state is S.ACTIVE
