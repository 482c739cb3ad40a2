"""Faults of remote handlers by their names, each in a world made for it. specs/simulation.md says where each of them is
shown on real processes."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from sz_protocol.definition_wire import definition_from_wire
from sz_protocol.kernel.now import SECOND_US
from sz_runtime.simulation.behaviour import Behaviour
from sz_runtime.simulation.facts import ExecutionEnded, ExecutionStarted, Weighed
from sz_runtime.simulation.plan import HANDLER, ORIGIN_UTC_US, Job, NodePlan, Plan, WorkerPlan
from sz_runtime.simulation.steps import (
    Advance,
    Cut,
    HalfClose,
    Heal,
    SetMethods,
    Start,
    Step,
    Strangers,
    TriggerSchedule,
)
from sz_runtime.simulation.worker_facts import HandlerSeen, LinkDown
from sz_runtime.simulation.world import Result, World

ON_TIME_US = SECOND_US // 10


def job(name: str, seconds: float, takes_s: float, **more: Any) -> Job:
    wire = {
        "id": name,
        "handler_id": HANDLER,
        "method": name,
        "trigger": {"type": "interval", "seconds": seconds},
        **more,
    }
    takes_us = int(takes_s * SECOND_US)
    return Job(definition_from_wire(wire), Behaviour(takes_us, takes_us))


def world(jobs: list[Job], workers: list[WorkerPlan], *steps: Step, **more: Any) -> Result:
    begin = (Start("a"), *(Start(worker.name) for worker in workers))
    plan = Plan(1, tuple(jobs), (*begin, *steps, Heal()), (NodePlan("a", "a.db"),), workers=tuple(workers), **more)
    result = World(1, plan, keep=True).run()
    assert result.violations == ()
    return result


def begun(result: Result, name: str) -> list[ExecutionStarted]:
    """Its executions, in order."""
    return [r for r in result.records if isinstance(r, ExecutionStarted) and r.schedule_id == name]


def lateness_us(result: Result, name: str) -> int:
    """The worst, from when an instant was due until its handler began."""
    return max(ORIGIN_UTC_US + one.at_us - one.fire_us for one in begun(result, name))


# --- users.md ------------------------------------------------------------------------------------------------


def test_a_job_of_twelve_seconds_runs_once() -> None:
    # Longer than a lease, and than whatever a server waits for an answer.
    once = {"type": "date", "run_date": "2026-03-01T00:00:05Z"}
    result = world([job("long", 1, 12, handler_id="w1", trigger=once)], [WorkerPlan("w1")], Advance(60 * SECOND_US))
    assert Counter((run.outcome, run.attempt) for run in result.ledger) == {("succeeded", 1): 1}
    assert len(begun(result, "long")) == 1


def test_two_run_now_calls_at_once_give_two_runs_with_one_outcome_each() -> None:
    never = {"type": "date", "run_date": "2027-01-01T00:00:00Z"}
    work = job("work", 1, 3, handler_id="w1", trigger=never, overlap="allow(2)")
    calls = (TriggerSchedule("a", "work", "first"), TriggerSchedule("a", "work", "second"))
    result = world([work], [WorkerPlan("w1")], Advance(5 * SECOND_US), *calls, Advance(30 * SECOND_US))
    assert [(run.kind, run.outcome, run.attempt) for run in result.ledger] == [("manual", "succeeded", 1)] * 2
    first, second = begun(result, "work")
    assert first.row != second.row
    assert abs(first.at_us - second.at_us) < ON_TIME_US


def test_a_dead_handler_slows_nothing_else() -> None:
    dead = [job(f"dead{i}", 5, 1, handler_id="gone", overlap="queue(50)") for i in range(6)]
    others = [job("here", 1, 0.1), job("there", 1, 0.1, handler_id="w1")]
    workers = [WorkerPlan("w1"), WorkerPlan("gone")]
    steps = (Advance(10 * SECOND_US), Cut("gone", "a"), Cut("a", "gone"), Advance(60 * SECOND_US))
    result = world([*dead, *others], workers, *steps, patience_us=120 * SECOND_US, settle_us=150 * SECOND_US)
    assert any(r.what == "lost" for r in result.records if isinstance(r, HandlerSeen))
    assert max(lateness_us(result, "here"), lateness_us(result, "there")) < ON_TIME_US


def test_a_handler_without_its_method_slows_nothing_else() -> None:
    jobs = [job("gone", 1, 0.1, handler_id="w2"), job("there", 1, 0.1, handler_id="w1")]
    steps = (Advance(10 * SECOND_US), SetMethods("w2", ("gone",)), Advance(60 * SECOND_US))
    result = world(jobs, [WorkerPlan("w1"), WorkerPlan("w2")], *steps, settle_us=60 * SECOND_US)
    assert lateness_us(result, "there") < ON_TIME_US


def test_a_slow_worker_among_fast_ones_has_only_what_it_has_slots_for() -> None:
    workers = [WorkerPlan(f"w{i}", slots=2, slow=30 if i == 0 else 1) for i in range(4)]
    tick = job("tick", 1, 1, handler_id="*", overlap="allow(8)")
    result = world([tick], workers, Advance(90 * SECOND_US), patience_us=60 * SECOND_US)
    done = Counter(r.node for r in result.records if isinstance(r, ExecutionEnded))
    assert done["w0"] <= 2 * 4
    assert sum(done.values()) - done["w0"] >= 80
    assert lateness_us(result, "tick") < ON_TIME_US


# --- many ----------------------------------------------------------------------------------------------------


def test_two_hundred_workers_share_the_load_and_each_instant_has_one_outcome() -> None:
    shared = [job(f"any{i}", 1, 10, handler_id="*", overlap="allow(16)") for i in range(4)]
    any_ = tuple(one.definition.id for one in shared)
    named = [job(f"s{i:03}", 10, 1, handler_id=f"w{i:03}") for i in range(0, 200, 4)]
    workers = [WorkerPlan(f"w{i:03}", slots=2, has=(*any_, *([f"s{i:03}"] if i % 4 == 0 else []))) for i in range(200)]
    result = world([*named, *shared], workers, Advance(30 * SECOND_US), settle_us=30 * SECOND_US)
    over_us = ORIGIN_UTC_US + result.records[-1].at_us - 12 * SECOND_US
    over = [run for run in result.ledger if run.fire_us < over_us]
    assert {(run.outcome, run.attempt) for run in over} == {("succeeded", 1)}
    assert len({(run.schedule_id, run.fire_us) for run in over}) == len(over) > 4 * 40
    registered = [r.handler_id for r in result.records if isinstance(r, HandlerSeen) and r.what == "registered"]
    assert sorted(registered) == [worker.name for worker in workers]
    # As long as there is an idle one, nobody gets a second run beside his first.
    early = [one for one in result.records if isinstance(one, ExecutionStarted) and one.at_us < 30 * SECOND_US]
    begins = sorted((one.node, one.at_us) for one in early if one.schedule_id in any_)
    assert len(begins) > 100
    assert all(at - before >= 10 * SECOND_US for (a, before), (b, at) in pairwise(begins) if a == b)
    assert max(lateness_us(result, one.definition.id) for one in named) < ON_TIME_US


# --- strangers -----------------------------------------------------------------------------------------------


def strangers(count: int) -> Result:
    jobs = [job("here", 1, 0.1), job("there", 1, 0.1, handler_id="w1")]
    steps = (Advance(10 * SECOND_US), Strangers("a", count), Advance(60 * SECOND_US))
    return world(jobs, [WorkerPlan("w1")], *steps, settle_us=30 * SECOND_US)


def test_a_thousand_connections_that_say_nothing_or_nothing_right_keep_nobody_from_his_work() -> None:
    result = strangers(1000)
    seen = [r for r in result.records if isinstance(r, HandlerSeen)]
    assert [r.handler_id for r in seen if r.what == "registered"] == ["w1"]
    assert not [r for r in seen if r.handler_id == "w1" and r.what in ("lost", "suspect")]
    assert max(lateness_us(result, "here"), lateness_us(result, "there")) < ON_TIME_US


def test_of_strangers_a_server_remembers_a_lease_later_only_who_has_said_hello() -> None:
    # That is one entry each, for the limit of their number in a time, and one for complaints; it forgets all of them
    # when they are too many.
    kept = {count: [r.objects for r in strangers(count).records if isinstance(r, Weighed)][-2] for count in (0, 1000)}
    assert kept[1000] <= kept[0] + 1000 // 4 + 1


# --- half a connection ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sender", "to"), [("w1", "a"), ("a", "w1")])
def test_a_connection_that_is_closed_in_one_direction_is_given_up_and_made_anew(sender: str, to: str) -> None:
    jobs = [job("there", 1, 0.1, handler_id="w1"), job("beside", 1, 0.1, handler_id="w2")]
    steps = (Advance(10 * SECOND_US), HalfClose(sender, to), Advance(60 * SECOND_US))
    result = world(jobs, [WorkerPlan("w1"), WorkerPlan("w2")], *steps)
    down = [r for r in result.records if isinstance(r, LinkDown)]
    assert [r.node for r in down] == ["w1"]
    assert down[0].at_us < 30 * SECOND_US
    last = max(r.at_us for r in result.records if isinstance(r, HandlerSeen) and r.what == "registered")
    assert down[0].at_us < last < 45 * SECOND_US
    assert lateness_us(result, "beside") < ON_TIME_US
