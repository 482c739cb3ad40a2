"""From a seed to a plan: configuration, workload and faults. Every tenth seed is calm."""

from collections.abc import Callable
from random import Random

from attrs import evolve

from sz_protocol.definition import MisfirePolicy
from sz_protocol.kernel.now import HOUR_US, MINUTE_US, SECOND_US
from sz_protocol.settings import Settings
from sz_runtime.simulation.network import draw_weather
from sz_runtime.simulation.plan import ORIGIN_UTC_US, Job, NodePlan, Plan
from sz_runtime.simulation.planned import Planned, as_steps
from sz_runtime.simulation.steps import (
    NODE_POINTS,
    STORE_POINTS,
    Advance,
    CancelRuns,
    Configure,
    Crash,
    Cut,
    DiskState,
    Drain,
    DriftClock,
    Heal,
    Mend,
    Partition,
    PauseSchedule,
    ResumeSchedule,
    Rewind,
    SetDisk,
    SetMethods,
    SetStore,
    SetWeather,
    Stall,
    StallKind,
    Start,
    StepClock,
    TriggerSchedule,
    TrustClock,
)
from sz_runtime.simulation.streams import stream
from sz_runtime.simulation.worker_drawing import enlist
from sz_runtime.simulation.workload import POOLS, draw_duration, draw_job, with_behaviour

ORIGINS_UTC_US = (
    ORIGIN_UTC_US,
    1_774_745_700 * SECOND_US,  # 2026-03-29T00:55Z: clocks go forward in Berlin at 01:00Z
    1_792_889_700 * SECOND_US,  # 2026-10-25T00:55Z: and back
    1_775_314_500 * SECOND_US,  # 2026-04-04T14:55Z: half an hour back on Lord Howe at 15:00Z
    1_793_512_500 * SECOND_US,  # 2026-11-01T05:55Z: back in New York
)
CALM_EVERY = 10
HEALING_US = 90 * SECOND_US

Fault = Callable[[Random, Plan, int], Planned]
"""Draws the steps of one fault that begins at a time."""


def draw_plan(
    seed: int,
    jobs: tuple[Job, ...] | None = None,
    length_us: int | None = None,
    faults: tuple[Fault, ...] | None = None,
) -> Plan:
    """The plan of a seed. `jobs` replaces the drawn workload, `length_us` the drawn length, and `faults` the kinds of
    faults to choose from: then all of them strike, and the network and other nodes are left alone."""
    rng = stream(seed, "plan")
    calm = seed % CALM_EVERY == 0 if faults is None else not faults
    drawn_us = rng.randint(60, 300) * SECOND_US
    length_us = drawn_us if length_us is None else length_us
    origin_us = rng.choice(ORIGINS_UTC_US)
    own = jobs is None
    if jobs is None:
        count = rng.choice((1, 2, 3, 3, 5, 8))
        jobs = tuple(draw_job(rng, f"s{i}", origin_us, length_us, wicked=not calm) for i in range(count))
    else:
        jobs = tuple(with_behaviour(rng, job, wicked=not calm) for job in jobs)
    nodes = (NodePlan("a", "db", remote=rng.random() < 0.25),)
    settings = Settings() if calm or faults is not None else draw_settings(rng)
    pools = tuple(dict(POOLS).items())
    plan = Plan(seed, jobs, (), nodes, settings, pools, origin_us, calm=calm)
    if calm:
        # Nobody hurries these handlers: a run may wait for all of its lane before it.
        lanes_us = max((job.definition.overlap.limit + 1) * job.behaviour.most_us for job in jobs)
        plan = evolve(plan, steps=(Start("a"), Advance(length_us)), patience_us=plan.patience_us + lanes_us)
        return enlist(plan) if own and faults is None else plan
    if faults is not None:
        return _struck(evolve(plan, nodes=(NodePlan("a", "db"),)), rng, length_us, list(faults), [(0, Start("a"))])
    plan = _with_faults(plan, rng, length_us, edited=own)
    return enlist(plan) if own else plan


def draw_settings(rng: Random) -> Settings:
    """Tiny batches, short and long waits: the corners that defaults never reach."""
    return Settings(
        slice_instants=rng.choice((1, 2, 5, 256)),
        horizon_us=rng.choice((SECOND_US, 5 * SECOND_US, 120 * SECOND_US)),
        page_rows=rng.choice((1, 2, 3, 1000)),
        crowd_schedules=rng.choice((1, 3, 1_000_000)),
        writes_in_flight=rng.choice((1, 2, 16)),
        loss_limit=rng.choice((1, 2, 5)),
        cancel_grace_us=rng.choice((SECOND_US // 2, 10 * SECOND_US)),
        store_retry_us=rng.choice((SECOND_US // 20, SECOND_US // 4)),
        clock_settle_us=rng.choice((5 * SECOND_US, 60 * SECOND_US)),
        retention_us=rng.choice((None, 90 * 24 * HOUR_US, 60 * SECOND_US)),
        retention_every_us=rng.choice((10 * SECOND_US, 10 * MINUTE_US)),
        retention_rows=rng.choice((5, 2000)),
        enumerate_instants=rng.choice((1, 3, 100)),
    )


# --- faults --------------------------------------------------------------------------------------------------


def _with_faults(plan: Plan, rng: Random, length_us: int, *, edited: bool) -> Plan:
    chosen = [kind for kind in FAULTS if rng.random() < 0.35] or [rng.choice(FAULTS)]
    if plan.nodes[0].remote:
        chosen.append(network_faults)
    rare = rng.random()
    if rare < 0.05:
        chosen.append(rewinds)
    elif rare < 0.15:
        plan = evolve(plan, nodes=(*plan.nodes, NodePlan("b", plan.nodes[0].store, plan.nodes[0].remote)))
        chosen.append(usurpers)
    planned: Planned = [(0, Start("a"))]
    if rng.random() < 0.1:
        planned.insert(0, (0, TrustClock("a", False, -rng.randint(1, 40) * HOUR_US)))
        planned.append((rng.randint(1, length_us), TrustClock("a", True)))
    # A user's schedules are simulated as they are: nobody rewrites them half-way.
    edits = _edits(rng, plan, length_us) if edited else ((), [])
    plan = evolve(plan, jobs=plan.jobs + edits[0], first_jobs=tuple(range(len(plan.jobs))))
    return _struck(plan, rng, length_us, chosen, planned + edits[1])


def _struck(plan: Plan, rng: Random, length_us: int, kinds: list[Fault], planned: Planned) -> Plan:
    """The plan with one to five faults of each kind, and what was planned before; healed at its end."""
    for kind in kinds:
        for _ in range(rng.randint(1, 5)):
            planned = planned + kind(rng, plan, rng.randint(0, length_us))
    steps = as_steps(((at, step) for at, step in planned if at <= length_us), length_us)
    return evolve(plan, steps=(*steps, Heal()), settle_us=_settle_us(plan, planned))


def _settle_us(plan: Plan, planned: Planned) -> int:
    """How long healed nodes may take: time-outs, back-offs and queues, and a clock that was ahead to be caught up."""
    misfires = [job.definition.misfire for job in plan.jobs]
    back_us = max((job.definition.retry.max_us for job in plan.jobs), default=0)
    back_us += max((int(m.max * SECOND_US / m.rate_per_s) for m in misfires if m.rate_per_s is not None), default=0)
    stalls_us = max((step.us for _, step in planned if isinstance(step, Stall)), default=0)
    return HEALING_US + _furthest_ahead_us(planned) + 2 * back_us + stalls_us + plan.settings.clock_settle_us


def _furthest_ahead_us(planned: Planned) -> int:
    """How far ahead of true time a wall clock ever gets: so long may a healed node have to wait for its cursor."""
    error_us = most_us = 0
    for _, step in sorted(planned, key=lambda item: item[0]):
        match step:
            case StepClock(us=us):
                error_us += us
            case TrustClock(error_us=set_us):
                error_us = set_us
        most_us = max(most_us, error_us)
    return most_us


def crashes(rng: Random, plan: Plan, at_us: int) -> Planned:
    """Kills, some of them between two particular things."""
    point = rng.choice(NODE_POINTS + STORE_POINTS) if rng.random() < 0.7 else None
    restart_us = draw_duration(rng, SECOND_US // 100, 40 * SECOND_US)
    return [(at_us, Crash("a", point, restart_us, power=rng.random() < 0.2))]


def drains(rng: Random, plan: Plan, at_us: int) -> Planned:
    """Stops in order."""
    return [(at_us, Drain("a", draw_duration(rng, SECOND_US // 10, 10 * SECOND_US), rng.randint(1, 10) * SECOND_US))]


def stalls(rng: Random, plan: Plan, at_us: int) -> Planned:
    """Pauses of 1 to 40 s, most of them between a check and its effect."""
    kind = rng.choice(tuple(StallKind))
    point = rng.choice(NODE_POINTS) if rng.random() < 0.6 else None
    return [(at_us, Stall("a", kind, rng.randint(1, 40) * SECOND_US, point))]


def clock_faults(rng: Random, plan: Plan, at_us: int) -> Planned:
    """Steps of seconds or an hour, some taken back later; drift."""
    if rng.random() < 0.3:
        return [(at_us, DriftClock("a", rng.randint(-200, 200)))]
    step_us = rng.choice((5, -5, 1, -1, 30, -30, 3600, -3600)) * SECOND_US
    back = [(at_us + rng.randint(1, 120) * SECOND_US, StepClock("a", -step_us))] if rng.random() < 0.5 else []
    return [(at_us, StepClock("a", step_us)), *back]


def disk_faults(rng: Random, plan: Plan, at_us: int) -> Planned:
    """A disk that is full, or whose sync fails, for a while."""
    store = plan.nodes[0].store
    state = rng.choice((DiskState.FULL, DiskState.FAILING))
    until_us = at_us + draw_duration(rng, SECOND_US // 10, 60 * SECOND_US)
    return [(at_us, SetDisk(store, state)), (until_us, SetDisk(store, DiskState.OK))]


def store_faults(rng: Random, plan: Plan, at_us: int) -> Planned:
    """A store that is slow, doubtful or down for a while."""
    store = plan.nodes[0].store
    trouble = rng.choice(
        (
            SetStore(store, slow=float(rng.choice((20, 300, 3000)))),
            SetStore(store, unknown=round(rng.uniform(0.05, 1), 2)),
            SetStore(store, down=True),
        )
    )
    return [(at_us, trouble), (at_us + draw_duration(rng, SECOND_US // 10, 60 * SECOND_US), SetStore(store))]


def network_faults(rng: Random, plan: Plan, at_us: int) -> Planned:
    """Bad weather, and partitions between the node and its store: full, or in one direction."""
    store = plan.nodes[0].store
    if rng.random() < 0.3:
        return [(at_us, SetWeather(draw_weather(rng)))]
    until_us = at_us + draw_duration(rng, SECOND_US // 10, 60 * SECOND_US)
    cut = rng.choice((Partition((("a",), (store,))), Cut("a", store), Cut(store, "a")))
    return [(at_us, cut), (until_us, Mend(rng.choice((0, SECOND_US))))]


def people(rng: Random, plan: Plan, at_us: int) -> Planned:
    """Pauses, resumes, manual runs, cancellations."""
    name = rng.choice(plan.jobs).definition.id
    dice = rng.random()
    if dice < 0.3:
        return [(at_us, TriggerSchedule("a", name, f"k{rng.randint(1, 3)}"))]
    if dice < 0.5:
        return [(at_us, CancelRuns("a", name))]
    until_us = at_us + draw_duration(rng, SECOND_US // 10, 60 * SECOND_US)
    missed = rng.choice(tuple(MisfirePolicy))
    return [(at_us, PauseSchedule("a", name)), (until_us, ResumeSchedule("a", name, missed))]


def missing_methods(rng: Random, plan: Plan, at_us: int) -> Planned:
    """Handlers that go away for a while."""
    name = rng.choice(plan.jobs).definition.id
    return [(at_us, SetMethods("a", (name,))), (at_us + rng.randint(1, 60) * SECOND_US, SetMethods("a"))]


def rewinds(rng: Random, plan: Plan, at_us: int) -> Planned:
    """A store restored from an older copy."""
    return [(at_us, Rewind("a", rng.randint(1, 60) * SECOND_US, rng.randint(1, 10) * SECOND_US))]


def usurpers(rng: Random, plan: Plan, at_us: int) -> Planned:
    """A second node takes the store while the first one still believes in itself."""
    return [(at_us, Start("b", by_force=True)), (at_us + rng.randint(1, 60) * SECOND_US, Start("a", by_force=True))]


FAULTS: tuple[Fault, ...] = (
    crashes,
    drains,
    stalls,
    clock_faults,
    disk_faults,
    store_faults,
    people,
    missing_methods,
)


def _edits(rng: Random, plan: Plan, length_us: int) -> tuple[tuple[Job, ...], Planned]:
    """Redeployments: some schedules changed, some removed, or everything as it was."""
    if rng.random() > 0.35:
        return (), []
    extra: list[Job] = []
    planned: Planned = []
    for _ in range(rng.randint(1, 3)):
        chosen = {index: index for index in range(len(plan.jobs)) if rng.random() < 0.8}
        if chosen and rng.random() < 0.7:
            index = rng.choice(list(chosen))
            name = plan.jobs[index].definition.id
            extra.append(draw_job(rng, name, plan.origin_utc_us, length_us, wicked=True))
            chosen[index] = len(plan.jobs) + len(extra) - 1
        planned.append((rng.randint(1, length_us), Configure("a", tuple(chosen.values()))))
    return tuple(extra), planned
