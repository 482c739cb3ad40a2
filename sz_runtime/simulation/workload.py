"""Workloads: schedules and handlers drawn from a seed, and a small one that is always the same."""

from collections.abc import Iterable
from random import Random

from sz_protocol.definition import (
    Definition,
    Misfire,
    MisfirePolicy,
    Overlap,
    OverlapPolicy,
    Retry,
    Semantics,
)
from sz_protocol.kernel.now import DAY_US, MINUTE_US, SECOND_US
from sz_protocol.triggers import AnyOf, Cron, Date, EveryNth, Except, Interval, Trigger
from sz_runtime.simulation.behaviour import Behaviour
from sz_runtime.simulation.plan import HANDLER, Job

CRONS = ("* * * * *", "*/2 * * * *", "*/10 * * * * *", "5,7,30 * * * * *", "*/7 * * * * *", "0-20/4 * * * * *")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")


def draw_duration(rng: Random, least_us: int, most_us: int) -> int:
    """Whole milliseconds between the two, short and long ones alike in order of magnitude."""
    drawn_us = int(least_us * (most_us / least_us) ** rng.random())
    return max(drawn_us // 1000 * 1000, least_us)


def draw_job(rng: Random, name: str, start_utc_us: int, length_us: int, *, wicked: bool) -> Job:
    """One schedule with its policies and its handler. `wicked` handlers fail, hang, and worse."""
    timeout_us = draw_duration(rng, SECOND_US // 2, 20 * SECOND_US) if rng.random() < 0.4 else None
    definition = Definition(
        id=name,
        handler_id=HANDLER,
        method=name,
        trigger=draw_trigger(rng, start_utc_us, length_us),
        misfire=draw_misfire(rng),
        overlap=draw_overlap(rng),
        retry=draw_retry(rng),
        timeout_us=timeout_us if wicked else None,
        deadline_us=draw_duration(rng, 2 * SECOND_US, 60 * SECOND_US) if wicked and rng.random() < 0.15 else None,
        spread_us=draw_duration(rng, SECOND_US // 10, 20 * SECOND_US) if rng.random() < 0.25 else 0,
        semantics=rng.choice((Semantics.AT_LEAST_ONCE, Semantics.AT_LEAST_ONCE, Semantics.AT_MOST_ONCE)),
    )
    return Job(definition, draw_behaviour(rng, wicked=wicked, bounded=timeout_us is not None), rng.choice(POOLS)[0])


POOLS = (("default", 8), ("default", 8), ("narrow", 2))
"""The pools that jobs are drawn for; a repeated one is likelier."""


def draw_trigger(rng: Random, start_utc_us: int, length_us: int) -> Trigger:
    """Mostly intervals; some cron expressions, single dates and combinations."""
    dice = rng.random()
    interval = Interval(draw_duration(rng, SECOND_US, 60 * SECOND_US))
    if dice < 0.6:
        return interval
    if dice < 0.85:
        return Cron(rng.choice(CRONS), rng.choice(ZONES))
    if dice < 0.93:
        return Date(start_utc_us + rng.randint(-MINUTE_US, length_us) // 1000 * 1000)
    if dice < 0.96:
        return EveryNth(interval, rng.randint(2, 5))
    if dice < 0.98:
        begin_us = start_utc_us + rng.randint(0, length_us)
        return Except(interval, windows=((begin_us, begin_us + MINUTE_US),))
    return AnyOf((interval, Interval(draw_duration(rng, SECOND_US, 60 * SECOND_US))))


def draw_misfire(rng: Random) -> Misfire:
    """Every policy, with and without grace, narrow windows, small caps."""
    return Misfire(
        policy=rng.choice(tuple(MisfirePolicy)),
        grace_us=draw_duration(rng, SECOND_US // 2, 60 * SECOND_US) if rng.random() < 0.4 else None,
        max=rng.choice((1, 2, 5, 100)),
        window_us=rng.choice((DAY_US, DAY_US, 30 * SECOND_US, 5 * SECOND_US)),
        rate_per_s=rng.choice((None, None, 0.5, 2.0, 5.0)),
    )


def draw_overlap(rng: Random) -> Overlap:
    """Every policy."""
    policy = rng.choice(tuple(OverlapPolicy))
    limited = policy in (OverlapPolicy.QUEUE, OverlapPolicy.ALLOW)
    return Overlap(policy, rng.randint(1, 3) if limited else 1)


def draw_retry(rng: Random) -> Retry:
    """None, or a few with short and long back-offs."""
    if rng.random() < 0.5:
        return Retry()
    base_us = draw_duration(rng, SECOND_US // 20, 5 * SECOND_US)
    return Retry(attempts=rng.randint(2, 5), base_us=base_us, max_us=base_us * rng.randint(1, 8))


def draw_behaviour(rng: Random, *, wicked: bool, bounded: bool) -> Behaviour:
    """How long the handler takes, and how wicked it is. One that nothing bounds (no time-out) never hangs."""
    least_us = draw_duration(rng, SECOND_US // 200, SECOND_US)
    most_us = least_us * rng.choice((1, 3, 30))
    concurrency = rng.choice((None, None, None, 1, 2))
    if not wicked:
        return Behaviour(least_us, most_us, concurrency=concurrency)

    def chance(most: float) -> float:
        return round(rng.uniform(0, most), 2) if rng.random() < 0.4 else 0.0

    return Behaviour(
        least_us,
        most_us,
        fails=chance(0.6),
        hangs=chance(0.2) if bounded else 0.0,
        stubborn=chance(0.5),
        unstorable=chance(0.1),
        poison=chance(0.1),
        fatal=chance(0.04),
        concurrency=concurrency,
    )


def with_behaviour(rng: Random, job: Job, *, wicked: bool) -> Job:
    """A job whose handler behaves as drawn; how much of its time-out it needs is a matter of luck."""
    bounded = job.definition.timeout_us is not None
    return Job(job.definition, draw_behaviour(rng, wicked=wicked, bounded=bounded))


def jobs_of(definitions: Iterable[Definition]) -> tuple[Job, ...]:
    """A user's schedules, to be simulated with handlers of ours: `draw_plan` draws how those behave."""
    return tuple(Job(definition) for definition in definitions)


def builtin_jobs() -> tuple[Job, ...]:
    """A small workload that shows every policy; `schedulezero simulate` uses it where no configuration is given."""

    def job(name: str, trigger: Trigger, behaviour: Behaviour, **policies: object) -> Job:
        return Job(Definition(name, HANDLER, name, trigger, **policies), behaviour)  # type: ignore[arg-type]

    second = SECOND_US
    return (
        job("heartbeat", Interval(2 * second), Behaviour(second // 100, second // 20)),
        job(
            "import",
            Interval(7 * second),
            Behaviour(second, 12 * second, fails=0.2),
            overlap=Overlap(OverlapPolicy.QUEUE, 2),
            retry=Retry(3, second // 2, 4 * second),
        ),
        job(
            "invoice",
            Cron("*/15 * * * * *", "Europe/Berlin"),
            Behaviour(second // 2, 3 * second),
            misfire=Misfire(MisfirePolicy.ALL, max=10, rate_per_s=2.0),
            semantics=Semantics.AT_MOST_ONCE,
        ),
        job(
            "report",
            Cron("* * * * *"),
            Behaviour(second, 40 * second, hangs=0.1, stubborn=0.3),
            timeout_us=20 * second,
            overlap=Overlap(OverlapPolicy.CANCEL_RUNNING),
        ),
        job("sweep", Interval(30 * second), Behaviour(second, 5 * second), misfire=Misfire(MisfirePolicy.SKIP)),
    )
