"""T10: how fast simulated time passes.

    python -m tests.benchmarks T10

A *machine step* is one `handle` of one machine: an event of a node is a *node step*, and makes one machine step for
each machine that hears of it, and for each that these tell something. They are counted in another run of the same
seeds, which does the same, so that counting costs the measured one nothing. *All checkers* is what `schedulezero
simulate` does; *no checkers* hashes the trace and judges nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import process_time
from typing import Any

from attrs import frozen

from sz_protocol.definition import Definition
from sz_protocol.kernel.now import HOUR_US
from sz_protocol.machines.attachment import Attachment
from sz_protocol.node import Node
from sz_protocol.settings import Settings
from sz_protocol.triggers import Interval
from sz_runtime.simulation.checkers import FAMILIES, Checker
from sz_runtime.simulation.drawing import draw_plan
from sz_runtime.simulation.plan import Job, NodePlan, Plan
from sz_runtime.simulation.runner import rare_collections
from sz_runtime.simulation.steps import Advance, Start
from sz_runtime.simulation.world import Result, World
from tests.benchmarks.table import Row

SEEDS = range(30)
ROUNDS = 3
JOBS = 20


@frozen
class Speed:
    """The best of several rounds over the same plans."""

    cpu_s: float
    node_steps: int
    simulated_s: int


def calm_plan() -> Plan:
    """An hour of one node with default settings, no faults, and a schedule due about every half second."""
    jobs = [Job(Definition(f"job{n}", "sim", f"job{n}", Interval(10_000_000 + n * 37_000))) for n in range(JOBS)]
    steps = (Start("a"), Advance(HOUR_US))
    return Plan(seed=1, calm=True, nodes=(NodePlan("a", "db"),), jobs=tuple(jobs), steps=steps)


def run_all(plans: Sequence[Plan], families: tuple[type[Checker], ...]) -> list[Result]:
    """Each plan once."""
    with rare_collections():
        return [World(plan.seed, plan, families=families).run() for plan in plans]


def speed(plans: Sequence[Plan], families: tuple[type[Checker], ...]) -> Speed:
    """How long the plans take."""
    best_s, results = float("inf"), []
    for _ in range(ROUNDS):
        begun_s = process_time()
        results = run_all(plans, families)
        best_s = min(best_s, process_time() - begun_s)
    assert not any(result.violations for result in results), "a seed is broken: schedulezero simulate says how"
    stats = [result.stats for result in results]
    return Speed(best_s, sum(one["steps"] for one in stats), sum(one["simulated_s"] for one in stats))


@contextmanager
def counting(counts: list[int]) -> Iterator[None]:
    """Count what the machines handle."""
    originals: dict[type[Any], Any] = {}

    def counted(original: Any) -> Any:
        def handle(self: Any, event: Any, now: Any) -> Any:
            counts[0] += 1
            return original(self, event, now)

        return handle

    for kind in dict.fromkeys((*(type(machine) for machine in Node(Settings(remote=True)).machines), Attachment)):
        originals[kind] = kind.handle
        kind.handle = counted(kind.handle)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.handle = original


def run() -> list[Row]:
    """Seeds with faults, and an hour without."""
    rows: list[Row] = []
    for work, plans in (
        (f"seeds {SEEDS.start}..{SEEDS.stop - 1}: faults, odd settings", [draw_plan(seed) for seed in SEEDS]),
        (f"calm hour, default settings, {JOBS} schedules", [calm_plan()]),
    ):
        counts = [0]
        with counting(counts):
            run_all(plans, ())
        for who, families in (("schedulezero, all checkers", FAMILIES), ("schedulezero, no checkers", ())):
            measured = speed(plans, families)
            for steps, unit in (
                (counts[0], "machine steps/s"),
                (measured.node_steps, "node steps/s"),
                (measured.simulated_s, "× real time"),
            ):
                rows.append(Row("T10", work, who, steps / measured.cpu_s, unit))
    return rows
