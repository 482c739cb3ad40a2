"""T10: how fast simulated time passes.

    python -m tests.benchmarks T10

A *machine step* is one `handle` of one machine: an event of a node is a *node step*, and makes one machine step for
each machine that hears of it, and for each that these tell something. They are counted in another run of the same
seeds, which does the same, so that counting costs the measured one nothing. *All checkers* is what `schedulezero
simulate` does; *no checkers* hashes the trace and judges nothing; they take turns. The target speaks of two edges too:
there are none yet, and instances that share a store stand by rather than elect.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import process_time
from typing import Any

from sz_protocol.definition import Definition
from sz_protocol.kernel.now import MINUTE_US
from sz_protocol.machines.attachment import Attachment
from sz_protocol.node import Node
from sz_protocol.routing import ANY_HANDLER
from sz_protocol.settings import Settings
from sz_protocol.triggers import Interval
from sz_runtime.simulation.checkers import FAMILIES, Checker
from sz_runtime.simulation.drawing import draw_plan
from sz_runtime.simulation.plan import HANDLER, Job, NodePlan, Plan, WorkerPlan
from sz_runtime.simulation.runner import rare_collections
from sz_runtime.simulation.steps import Advance, Start, Step
from sz_runtime.simulation.world import Result, World
from tests.benchmarks.table import Row

SEEDS = range(9)
ROUNDS = 3
JOBS = 20
INSTANCES, WORKERS = 3, 5


def calm_plan() -> Plan:
    """Half an hour of one node with default settings, no faults, and a schedule due about every half second."""
    steps = (Start("a"), Advance(30 * MINUTE_US))
    return Plan(seed=1, calm=True, nodes=(NodePlan("a", "db"),), jobs=jobs_for(HANDLER), steps=steps)


def fleet_plan() -> Plan:
    """The same for instances that share a store and workers, all with the default timers, and due each ten seconds."""
    nodes = tuple(NodePlan(f"i{n}", "db", remote=True) for n in range(INSTANCES))
    workers = tuple(WorkerPlan(f"w{n}") for n in range(WORKERS))
    names = [*(node.name for node in nodes), *(worker.name for worker in workers)]
    steps: tuple[Step, ...] = (*(Start(name) for name in names), Advance(30 * MINUTE_US))
    jobs = jobs_for(ANY_HANDLER, JOBS)
    return Plan(seed=1, calm=True, nodes=nodes, workers=workers, jobs=jobs, steps=steps)


def jobs_for(handler_id: str, slower: int = 1) -> tuple[Job, ...]:
    """Interval schedules of about ten seconds, or so many times slower."""
    intervals = [Interval((10_000_000 + n * 37_000) * slower) for n in range(JOBS)]
    return tuple(Job(Definition(f"job{n}", handler_id, f"job{n}", each)) for n, each in enumerate(intervals))


def run_all(plans: Sequence[Plan], families: tuple[type[Checker], ...]) -> list[Result]:
    """Each plan once."""
    results = []
    for plan in plans:
        with rare_collections():
            results.append(World(plan.seed, plan, families=families).run())
    return results


def cpu_seconds(plans: Sequence[Plan], judged: Sequence[tuple[type[Checker], ...]]) -> list[float]:
    """How long the plans take with each set of checkers: the best of several rounds, in which they take turns."""
    best_s = [float("inf")] * len(judged)
    for _ in range(ROUNDS):
        for place, families in enumerate(judged):
            begun_s = process_time()
            results = run_all(plans, families)
            best_s[place] = min(best_s[place], process_time() - begun_s)
            assert not any(result.violations for result in results), "a seed is broken: schedulezero simulate says how"
    return best_s


@contextmanager
def counting(counts: list[int]) -> Iterator[None]:
    """Count what the machines handle, those of remote handlers on both sides too."""
    originals: dict[Any, Any] = {}

    def counted(original: Any) -> Any:
        def handle(self: Any, event: Any, now: Any) -> Any:
            counts[0] += 1
            return original(self, event, now)

        return handle

    kinds: list[Any] = [type(machine) for machine in Node(Settings(remote=True)).machines]
    for kind in dict.fromkeys([*kinds, Attachment]):
        originals[kind] = kind.handle
        kind.handle = counted(kind.handle)
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.handle = original


def run() -> list[Row]:
    """Seeds with faults, and half an hour without."""
    rows: list[Row] = []
    for work, plans in (
        (f"seeds {SEEDS.start}..{SEEDS.stop - 1}: faults, odd settings", [draw_plan(seed) for seed in SEEDS]),
        (f"calm, default settings, {JOBS} schedules due every 10 s", [calm_plan()]),
        (f"{INSTANCES} instances, {WORKERS} workers, default timers, {JOBS} schedules due every 200 s", [fleet_plan()]),
    ):
        counts = [0]
        with counting(counts):
            results = run_all(plans, ())
        node_steps = sum(result.stats["steps"] for result in results)
        simulated_s = sum(result.stats["simulated_s"] for result in results)
        names = ("schedulezero, all checkers", "schedulezero, no checkers")
        for who, cpu_s in zip(names, cpu_seconds(plans, (FAMILIES, ())), strict=True):
            for amount, unit in (
                (counts[0], "machine steps/s"),
                (node_steps, "node steps/s"),
                (simulated_s, "× real time"),
            ):
                rows.append(Row("T10", work, who, amount / cpu_s, unit))
    return rows
