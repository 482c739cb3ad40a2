"""Hypothesis strategies for configurations, handlers, faults and whole plans: for your own properties.

    @given(plans())
    def test_nothing_is_lost(plan):
        assert World(plan.seed, plan).run().ok

Needs `hypothesis` (the extra `test`). What they draw shrinks: fewer steps, fewer jobs, plainer policies.
"""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sz_protocol.definition import Definition, Misfire, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.kernel.now import DAY_US, SECOND_US
from sz_protocol.settings import Settings
from sz_protocol.triggers import Cron, Date, Interval, Trigger
from sz_runtime.simulation.behaviour import Behaviour
from sz_runtime.simulation.plan import HANDLER, ORIGIN_UTC_US, Job, NodePlan, Plan
from sz_runtime.simulation.steps import (
    NODE_POINTS,
    Advance,
    CancelRuns,
    Crash,
    DiskState,
    Drain,
    Heal,
    PauseSchedule,
    Point,
    ResumeSchedule,
    SetDisk,
    SetMethods,
    SetStore,
    Stall,
    StallKind,
    Start,
    Step,
    StepClock,
    TriggerSchedule,
)
from sz_runtime.simulation.workload import CRONS, ZONES

NODE, STORE = "a", "db"
LONGEST_US = 240 * SECOND_US


def durations(least_us: int, most_us: int) -> SearchStrategy[int]:
    """Microseconds, whole milliseconds."""
    return st.integers(-(-least_us // 1000), most_us // 1000).map(lambda ms: ms * 1000)


def triggers() -> SearchStrategy[Trigger]:
    """Intervals, cron expressions down to seconds, dates near the origin."""
    return st.one_of(
        st.builds(Interval, durations(SECOND_US, 60 * SECOND_US)),
        st.builds(Cron, st.sampled_from(CRONS), st.sampled_from(ZONES)),
        st.builds(Date, durations(-SECOND_US, LONGEST_US).map(lambda us: ORIGIN_UTC_US + us)),
    )


def misfires() -> SearchStrategy[Misfire]:
    """Every policy, with and without grace, narrow windows, small caps."""
    return st.builds(
        Misfire,
        policy=st.sampled_from(MisfirePolicy),
        grace_us=st.none() | durations(SECOND_US // 2, 60 * SECOND_US),
        max=st.sampled_from((1, 2, 5, 100)),
        window_us=st.sampled_from((DAY_US, 30 * SECOND_US, 5 * SECOND_US)),
        rate_per_s=st.sampled_from((None, 0.5, 5.0)),
    )


def overlaps() -> SearchStrategy[Overlap]:
    """Every policy; a limit where it has a meaning."""
    plain = st.builds(Overlap, st.sampled_from((OverlapPolicy.SKIP, OverlapPolicy.CANCEL_RUNNING)))
    limited = st.builds(Overlap, st.sampled_from((OverlapPolicy.QUEUE, OverlapPolicy.ALLOW)), st.integers(1, 3))
    return plain | limited


def retries() -> SearchStrategy[Retry]:
    """None, or a few with short back-offs."""
    back_off = durations(SECOND_US // 20, 5 * SECOND_US)
    return st.just(Retry()) | st.builds(Retry, st.integers(2, 5), back_off, back_off)


def definitions(name: str) -> SearchStrategy[Definition]:
    """A schedule of this name, whose handler is one of the simulation's."""
    return st.builds(
        Definition,
        id=st.just(name),
        handler_id=st.just(HANDLER),
        method=st.just(name),
        trigger=triggers(),
        misfire=misfires(),
        overlap=overlaps(),
        retry=retries(),
        timeout_us=st.none() | durations(SECOND_US // 2, 20 * SECOND_US),
        deadline_us=st.none() | durations(2 * SECOND_US, 60 * SECOND_US),
        spread_us=st.just(0) | durations(SECOND_US // 10, 20 * SECOND_US),
        semantics=st.sampled_from(Semantics),
    )


def behaviours(*, bounded: bool) -> SearchStrategy[Behaviour]:
    """How a handler behaves; one that nothing bounds (no time-out) never hangs."""
    chance = st.sampled_from((0.0, 0.0, 0.1, 0.5))
    return st.builds(
        Behaviour,
        least_us=durations(5_000, SECOND_US),
        most_us=durations(5_000, 20 * SECOND_US),
        fails=chance,
        hangs=chance if bounded else st.just(0.0),
        stubborn=chance,
        unstorable=chance,
        poison=chance,
        fatal=st.sampled_from((0.0, 0.0, 0.02)),
        concurrency=st.none() | st.integers(1, 2),
    )


@st.composite
def jobs(draw: st.DrawFn, name: str) -> Job:
    """A schedule and its handler."""
    definition = draw(definitions(name))
    return Job(definition, draw(behaviours(bounded=definition.timeout_us is not None)))


def workloads(most: int = 4) -> SearchStrategy[tuple[Job, ...]]:
    """One to `most` schedules with different names."""
    return st.integers(1, most).flatmap(lambda n: st.tuples(*(jobs(f"s{index}") for index in range(n))))


def settings_of_nodes() -> SearchStrategy[Settings]:
    """The limits of machines, tiny ones too."""
    return st.builds(
        Settings,
        slice_instants=st.sampled_from((256, 1, 2, 5)),
        horizon_us=st.sampled_from((120 * SECOND_US, SECOND_US, 5 * SECOND_US)),
        page_rows=st.sampled_from((1000, 1, 3)),
        crowd_schedules=st.sampled_from((1_000_000, 1)),
        writes_in_flight=st.sampled_from((16, 1, 2)),
        loss_limit=st.sampled_from((5, 1)),
        cancel_grace_us=st.sampled_from((10 * SECOND_US, SECOND_US // 2)),
        clock_settle_us=st.sampled_from((60 * SECOND_US, 5 * SECOND_US)),
        enumerate_instants=st.sampled_from((100, 1, 3)),
    )


def faults(names: tuple[str, ...]) -> SearchStrategy[Step]:
    """One thing that is done to node `a`, its store, its clock, or asked by a person of schedules `names`."""
    soon = durations(SECOND_US // 100, 20 * SECOND_US)
    name = st.sampled_from(names)
    clock_steps = st.sampled_from((1, -1, 30, -30, 3600, -3600)).map(lambda seconds: seconds * SECOND_US)
    return st.one_of(
        st.builds(Crash, st.just(NODE), st.none() | st.sampled_from(Point), soon, st.booleans()),
        st.builds(Drain, st.just(NODE), soon, soon),
        st.builds(Stall, st.just(NODE), st.sampled_from(StallKind), soon, st.none() | st.sampled_from(NODE_POINTS)),
        st.builds(StepClock, st.just(NODE), clock_steps),
        st.builds(SetDisk, st.just(STORE), st.sampled_from(DiskState)),
        st.builds(SetStore, st.just(STORE), st.sampled_from((1.0, 300.0)), st.sampled_from((0.0, 0.5)), st.booleans()),
        st.builds(PauseSchedule, st.just(NODE), name),
        st.builds(ResumeSchedule, st.just(NODE), name, st.sampled_from(MisfirePolicy)),
        st.builds(TriggerSchedule, st.just(NODE), name, st.sampled_from(("k1", "k2"))),
        st.builds(CancelRuns, st.just(NODE), name),
        st.builds(SetMethods, st.just(NODE), st.lists(name, max_size=1).map(tuple)),
    )


@st.composite
def fault_plans(draw: st.DrawFn, names: tuple[str, ...], most: int = 12) -> tuple[Step, ...]:
    """A start, faults with time between them, and healing."""
    steps: list[Step] = [Start(NODE)]
    for fault in draw(st.lists(faults(names), max_size=most)):
        steps += [Advance(draw(durations(1000, 30 * SECOND_US))), fault]
    return (*steps, Advance(draw(durations(1000, 30 * SECOND_US))), Heal())


@st.composite
def plans(draw: st.DrawFn, most_jobs: int = 3, most_faults: int = 12) -> Plan:
    """A whole plan: workload, settings, faults."""
    workload = draw(workloads(most_jobs))
    names = tuple(job.definition.id for job in workload)
    steps = draw(fault_plans(names, most_faults))
    steps_ahead_us = sum(step.us for step in steps if isinstance(step, StepClock) and step.us > 0)
    return Plan(
        seed=draw(st.integers(0, 1 << 32)),
        jobs=workload,
        steps=steps,
        nodes=(NodePlan(NODE, STORE),),
        settings=draw(settings_of_nodes()),
        settle_us=420 * SECOND_US + steps_ahead_us,
    )
