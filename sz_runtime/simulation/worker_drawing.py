"""A good share of seeds gets workers: part of their schedules goes to them, and they, their links and their outboxes
have faults of their own. Drawn from a stream of its own: what a seed is without them stays as it is."""

from collections.abc import Callable
from random import Random

from attrs import evolve

from sz_protocol.attaching import AttachmentSettings
from sz_protocol.definition import AwayPolicy
from sz_protocol.kernel.now import MINUTE_US, SECOND_US
from sz_protocol.routing import ANY_HANDLER
from sz_protocol.settings import Settings
from sz_runtime.simulation.network import Weather, draw_weather
from sz_runtime.simulation.plan import Job, Plan, WorkerPlan
from sz_runtime.simulation.planned import Planned, as_steps, timed
from sz_runtime.simulation.steps import (
    OUTBOX_POINTS,
    WORKER_POINTS,
    Crash,
    Cut,
    DiskState,
    Drain,
    DriftClock,
    Heal,
    Meddle,
    Meddling,
    Mend,
    Partition,
    Rewind,
    SetDisk,
    SetKeys,
    SetMethods,
    SetStore,
    SetWeather,
    Stall,
    StallKind,
    Start,
    StepClock,
)
from sz_runtime.simulation.streams import stream
from sz_runtime.simulation.workload import draw_duration

SHARE = 0.4
"""Of all seeds."""
KEYED_SHARE = 0.35
"""Of those with workers and faults: their links verify keys."""
ROOMS = ("attic", "cellar")
"""Values of the one tag that simulated workers have."""
LONGEST_SETTLE_US = 20 * MINUTE_US
REJOIN_US = MINUTE_US
"""Beside a lease: how long healed workers, and their runs, may take."""

WorkerFault = Callable[[Random, Plan, int, str], Planned]
"""Draws the steps of one fault of a worker that begins at a time."""


def has_workers(plan: Plan) -> bool:
    """Whether its seed is one of those: not where it has to settle for an hour (there would be heartbeats all along),
    nor where its store is restored from a copy (what workers hold is of the history that was lost)."""
    if any(isinstance(step, Rewind) for step in plan.steps):
        return False
    return plan.settle_us <= LONGEST_SETTLE_US and stream(plan.seed, "workers").random() < SHARE


def enlist(plan: Plan) -> Plan:
    """The plan with workers, where its seed is one of those that have them."""
    if not has_workers(plan):
        return plan
    rng = stream(plan.seed, "enlisting")
    plan = evolve(plan, workers=draw_workers(rng, calm=plan.calm))
    ids = list(dict.fromkeys(job.definition.id for job in plan.jobs))
    remote = {id_: None for id_ in ids if rng.random() < 0.75} or {ids[0]: None}
    chosen = {id_: draw_route(rng, plan) for id_ in remote}
    jobs = tuple(chosen[job.definition.id](job) if job.definition.id in chosen else job for job in plan.jobs)
    if not plan.calm:
        jobs = lengthened(stream(plan.seed, "long runs"), jobs)
    plan = evolve(plan, jobs=jobs)
    if not plan.calm:
        plan = evolve(plan, settings=draw_remote_settings(rng, plan.settings), attachment=draw_attachment(rng))
    planned, length_us = timed(plan.steps)
    planned = [(at_us, step) for at_us, step in planned if not isinstance(step, Heal)]
    for worker in plan.workers:
        planned.append((0 if plan.calm else rng.choice((0, 0, rng.randint(0, 20 * SECOND_US))), Start(worker.name)))
    if not plan.calm:
        planned += _faults(rng, plan, length_us)
        keyed = stream(plan.seed, "access")
        if keyed.random() < KEYED_SHARE:
            plan, more = with_keys(keyed, plan, length_us)
            planned += more
        planned += slow_recoveries(stream(plan.seed, "slow recoveries"), plan, length_us)
    steps = as_steps(((at_us, step) for at_us, step in planned if at_us <= length_us), length_us)
    more_us = plan.settings.lease_us + REJOIN_US
    stalls_us = max((step.us for _, step in planned if isinstance(step, Stall)), default=0)
    return evolve(
        plan,
        steps=steps if plan.calm else (*steps, Heal()),
        settle_us=plan.settle_us + more_us + stalls_us,
        patience_us=plan.patience_us + more_us,
    )


# --- who takes part ------------------------------------------------------------------------------------------


def draw_workers(rng: Random, *, calm: bool) -> tuple[WorkerPlan, ...]:
    """One to four, now and then with a twin."""
    workers = [
        WorkerPlan(
            f"w{number}",
            slots=rng.choice((1, 2, 4, 16)),
            tags={"room": rng.choice(ROOMS)} if rng.random() < 0.5 else {},
            volatile=not calm and rng.random() < 0.1,
            slow=1 if calm else rng.choice((1, 1, 1, 10)),
        )
        for number in range(1, rng.choice((1, 2, 2, 3, 4)) + 1)
    ]
    if not calm and rng.random() < 0.3:
        workers.append(evolve(workers[0], name="twin", id=workers[0].name))
    return tuple(workers)


def draw_route(rng: Random, plan: Plan) -> Callable[[Job], Job]:
    """Where the runs of one schedule go: to one worker, or to any."""
    worker = rng.choice(plan.workers)
    anybody = rng.random() < 0.25
    here = anybody and rng.random() < 0.3
    away = AwayPolicy.WAIT if anybody else rng.choice((AwayPolicy.WAIT, *AwayPolicy))
    # Nodes have no tags.
    tags = dict(worker.tags) if rng.random() < 0.4 and not here else {}
    exclusive = rng.random() < 0.4

    def route(job: Job) -> Job:
        definition = evolve(
            job.definition,
            handler_id=ANY_HANDLER if anybody else worker.handler_id,
            away=away,
            tags=tags,
            exclusive=exclusive,
        )
        return evolve(job, definition=definition, here=here)

    return route


def lengthened(rng: Random, jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """A third of the schedules take longer, some of them longer than a lease: much of what is rare happens to those."""
    return tuple(evolve(job, behaviour=job.behaviour.slowed(rng.choice((1, 1, 1, 1, 5, 20)))) for job in jobs)


def draw_remote_settings(rng: Random, settings: Settings) -> Settings:
    """Short and long leases, impatient and patient servers."""
    heartbeat_us = rng.choice((SECOND_US // 4, SECOND_US))
    return evolve(
        settings,
        heartbeat_us=heartbeat_us,
        missed_beats=rng.choice((2, 3)),
        lease_us=rng.choice((4, 10)) * heartbeat_us,
        away_grace_us=rng.choice((3, 30)) * SECOND_US,
        redeliver_us=rng.choice((SECOND_US // 2, 2 * SECOND_US)),
        return_pause_us=rng.choice((SECOND_US // 10, SECOND_US // 2)),
    )


def draw_attachment(rng: Random) -> AttachmentSettings:
    """Small windows and backlogs, short and long waits."""
    usual = AttachmentSettings()
    return AttachmentSettings(
        answer_us=rng.choice((SECOND_US // 2, usual.answer_us)),
        pause_max_us=rng.choice((2 * SECOND_US, usual.pause_max_us)),
        margin_share=rng.choice((2, usual.margin_share)),
        message_bytes=rng.choice((400, usual.message_bytes)),
        window=rng.choice((1, 2, usual.window)),
        window_bytes=rng.choice((400, usual.window_bytes)),
        resend_us=rng.choice((SECOND_US, usual.resend_us)),
        backlog=rng.choice((1, 3, usual.backlog)),
        keep_retry_max_us=rng.choice((SECOND_US, usual.keep_retry_max_us)),
        leave_us=rng.choice((SECOND_US, usual.leave_us)),
    )


# --- faults --------------------------------------------------------------------------------------------------


def _faults(rng: Random, plan: Plan, length_us: int) -> Planned:
    kinds = [kind for kind in WORKER_FAULTS if rng.random() < 0.35] or [rng.choice(WORKER_FAULTS)]
    planned: Planned = []
    for kind in kinds:
        for _ in range(rng.randint(1, 4)):
            planned += kind(rng, plan, rng.randint(0, length_us), rng.choice(plan.workers).name)
    return planned


def with_keys(rng: Random, plan: Plan, length_us: int) -> tuple[Plan, Planned]:
    """Keys are taken away and given back; and now and then somebody calls himself by the name of a worker, with a key
    of his own or with that of another worker."""
    planned: Planned = []
    owners = list(dict.fromkeys(worker.handler_id for worker in plan.workers))
    if rng.random() < 0.7:
        victim = rng.choice(plan.workers)
        others = [owner for owner in owners if owner != victim.handler_id]
        key = rng.choice((*others, "thief"))
        thief = WorkerPlan("thief", slots=4, id=victim.handler_id, tags=victim.tags, key=key)
        plan = evolve(plan, workers=(*plan.workers, thief))
        planned.append((rng.randint(0, length_us // 2), Start(thief.name)))
    for _ in range(rng.randint(1, 6)):
        at_us = rng.randint(0, length_us)
        until_us = at_us + draw_duration(rng, SECOND_US // 10, 60 * SECOND_US)
        without = tuple(rng.sample(owners, rng.randint(1, len(owners))))
        planned += [(at_us, SetKeys(without)), (until_us, SetKeys())]
    return evolve(plan, verified=True), planned


def slow_recoveries(rng: Random, plan: Plan, length_us: int) -> Planned:
    """A server is killed while its store is slow: its workers are back before it knows which runs it has."""
    node, planned = plan.nodes[0], Planned()
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        at_us = rng.randint(0, length_us)
        killed_us = at_us + rng.randint(0, 3 * SECOND_US)
        planned += [
            (at_us, SetStore(node.store, slow=float(rng.choice((300, 1000, 3000))))),
            (killed_us, Crash(node.name, None, draw_duration(rng, SECOND_US // 100, 2 * SECOND_US))),
            (killed_us + rng.randint(1, 20) * SECOND_US, SetStore(node.store)),
        ]
    return planned


def worker_crashes(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """Kills, most of them between two particular things."""
    point = rng.choice(WORKER_POINTS + OUTBOX_POINTS) if rng.random() < 0.7 else None
    restart_us = draw_duration(rng, SECOND_US // 100, 40 * SECOND_US)
    return [(at_us, Crash(worker, point, restart_us, power=rng.random() < 0.2))]


def worker_drains(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """Stops in order, a few in a row, for most find a worker with nothing to do; of some nobody hears for a while."""
    planned: Planned = []
    for _ in range(rng.randint(1, 5)):
        grace_us = draw_duration(rng, SECOND_US // 10, 30 * SECOND_US)
        planned.append((at_us, Drain(worker, grace_us, rng.randint(1, 5) * SECOND_US)))
        if rng.random() < 0.5:
            planned.append((at_us, Cut(worker, plan.nodes[0].name)))
            planned.append((at_us + plan.settings.lease_us, Mend()))
        at_us += rng.randint(5, 15) * SECOND_US
    return planned


def worker_stalls(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """The process stands still, shorter or longer than a lease."""
    point = rng.choice(WORKER_POINTS) if rng.random() < 0.5 else None
    return [(at_us, Stall(worker, rng.choice(tuple(StallKind)), rng.randint(1, 25) * SECOND_US, point))]


def worker_clocks(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """Drift, and a wall clock that is wrong."""
    if rng.random() < 0.6:
        return [(at_us, DriftClock(worker, rng.randint(-200, 200)))]
    return [(at_us, StepClock(worker, rng.choice((5, -5, 3600, -3600)) * SECOND_US))]


def outbox_faults(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """A disk that is full, or whose sync fails, for a while."""
    state = rng.choice((DiskState.FULL, DiskState.FAILING))
    until_us = at_us + draw_duration(rng, SECOND_US // 10, 60 * SECOND_US)
    return [(at_us, SetDisk(worker, state)), (until_us, SetDisk(worker, DiskState.OK))]


def link_cuts(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """Partitions, one-way or full, for less or more than a lease."""
    server = plan.nodes[0].name
    until_us = at_us + draw_duration(rng, SECOND_US // 2, 60 * SECOND_US)
    cut = rng.choice((Partition(((worker,), (server,))), Cut(worker, server), Cut(server, worker)))
    return [(at_us, cut), (until_us, Mend(rng.choice((0, SECOND_US))))]


def twin_cuts(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """A worker is out of sight for long enough that its twin, where it has one, may take its place; that one is started
    anew, so that it calls again soon."""
    first, server, planned = plan.workers[0], plan.nodes[0].name, Planned()
    twins = [other.name for other in plan.workers if other.id == first.name]
    for twin in twins * 3:
        until_us = at_us + rng.randint(1, 3) * plan.settings.lease_us
        restart_us = rng.randint(1, 2 * plan.settings.missed_beats * plan.settings.heartbeat_us)
        planned += [
            (at_us, Partition(((first.name,), (server,)))),
            (at_us, Crash(twin, None, restart_us)),
            (until_us, Mend()),
        ]
        at_us = until_us + rng.randint(5, 20) * SECOND_US
    return planned


def bad_weather(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """Loss, duplication, delay, datagrams that overtake each other."""
    return [(at_us, SetWeather(draw_weather(rng)))]


def late_lines(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """What is sent takes longer than a lease now and then; then nothing goes to the server any more, for a while."""
    lease_us = plan.settings.lease_us
    weather = Weather(duplication=0.3, tail=0.3, tail_us=rng.randint(1, 3) * lease_us)
    cut_us = at_us + draw_duration(rng, SECOND_US, 20 * SECOND_US)
    mend_us = cut_us + rng.randint(1, 3) * lease_us
    cut = Cut(worker, plan.nodes[0].name)
    return [(at_us, SetWeather(weather)), (cut_us, cut), (mend_us, Mend(0))]


def worker_methods(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """Methods that go away for a while."""
    ids = [job.definition.id for job in plan.jobs if plan.is_remote(job)]
    until_us = at_us + rng.randint(1, 60) * SECOND_US
    return [(at_us, SetMethods(worker, (rng.choice(ids),))), (until_us, SetMethods(worker))]


def meddlers(rng: Random, plan: Plan, at_us: int, worker: str) -> Planned:
    """A handful of frames that nobody who is right sends."""
    server, planned = plan.nodes[0].name, Planned()
    for _ in range(rng.randint(1, 6)):
        kind = rng.choice(tuple(Meddling))
        back = kind is not Meddling.FORGE and rng.random() < 0.4
        ends = (server, worker) if back else (worker, server)
        planned.append((at_us + rng.randint(0, 20 * SECOND_US), Meddle(kind, *ends)))
    return planned


WORKER_FAULTS: tuple[WorkerFault, ...] = (
    worker_crashes,
    worker_drains,
    worker_stalls,
    worker_clocks,
    outbox_faults,
    link_cuts,
    twin_cuts,
    bad_weather,
    late_lines,
    worker_methods,
    meddlers,
)
