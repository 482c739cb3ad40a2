"""Many seeds, in this process or in several; and the hunt for mutants."""

import gc
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from multiprocessing import get_context

from attrs import frozen

from sz_runtime.simulation.checkers import Violation
from sz_runtime.simulation.drawing import draw_plan
from sz_runtime.simulation.mutants import MUTANTS, planted
from sz_runtime.simulation.plan import Job, Plan
from sz_runtime.simulation.world import Result, World

MUTANT_SEEDS = 500
"""Within so many seeds each mutant has to die."""


COLLECT_AFTER = 500_000
"""Containers that a world may come to hold beyond what it lets go of before anybody looks for cycles among them."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Around one world: let the garbage collector look rarely at what it makes, and never at what was there before. Its
    records have no cycles, and following them costs a twentieth of the time. The world itself is one: it goes at the
    end."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.collect()
        gc.set_threshold(*before)
        gc.unfreeze()


@frozen
class Order:
    """What to run for each seed: its own plan, or that of a workload and length given, or one plan for all."""

    jobs: tuple[Job, ...] | None = None
    length_us: int | None = None
    plan: Plan | None = None
    mutant: str | None = None

    def plan_of(self, seed: int) -> Plan:
        """The plan of one seed."""
        return self.plan if self.plan is not None else draw_plan(seed, self.jobs, self.length_us)


@frozen
class SeedReport:
    """What came of one seed, small enough to be sent between processes."""

    seed: int
    trace_hash: str
    violations: tuple[Violation, ...]
    stats: dict[str, int]


def run_one(order: Order, seed: int, *, keep: bool = False) -> Result:
    """Run one seed to its end; with a mutant, to its first violation."""
    context = planted(order.mutant) if order.mutant is not None else nullcontext()
    with context, rare_collections():
        return World(seed, order.plan_of(seed), keep=keep, stop_at_first=order.mutant is not None).run()


def _report(order: Order, seed: int) -> SeedReport:
    result = run_one(order, seed)
    return SeedReport(seed, result.trace_hash, result.violations, result.stats)


def run_seeds(order: Order, seeds: Iterable[int], jobs: int = 1) -> Iterator[SeedReport]:
    """The reports of all seeds, in their order, as they come. `jobs` processes share the work."""
    if jobs <= 1:
        for seed in seeds:
            yield _report(order, seed)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        # One by one: whoever has seen enough need not wait for more than what is under way.
        yield from pool.map(partial(_report, order), seeds)


def hunt(name: str, seeds: Iterable[int] = range(MUTANT_SEEDS)) -> SeedReport | None:
    """The first seed that catches a mutant, or None: it has survived them all. One that can show only where there are
    workers is not looked for elsewhere."""
    order = Order(mutant=name)
    if MUTANTS[name].remote:
        seeds = (seed for seed in seeds if order.plan_of(seed).workers)
    return next((report for report in run_seeds(order, seeds) if report.violations), None)


def mutant_table(known: Mapping[str, int]) -> Iterator[tuple[str, str, SeedReport | None]]:
    """Each mutant by name, its summary, and what caught it: at the seed that is known from last time, if it still dies
    there, else at the first one that does."""
    for name, mutant in MUTANTS.items():
        seeds = (known[name],) if name in known else ()
        yield name, mutant.summary, hunt(name, seeds) or hunt(name)
