"""Seeds of faults thrown at real nodes: every invariant holds. A budget of them in CI, thousands with `-m soak`."""

import os
import subprocess
import sys

import pytest

from sz_runtime.simulation.checkers.sometimes import REQUIRED
from sz_runtime.simulation.runner import Order, run_one, run_seeds
from sz_runtime.simulation.world import World

CHUNK = 12
BUDGET = range(0, 120, CHUNK)
RARE = (6, 9, 15, 23, 29, 48, 76, 83, 99, 103, 118, 134, 154)
"""Seeds that together reach every rare state that `REQUIRED` names."""


@pytest.mark.parametrize("first", BUDGET)
def test_every_invariant_holds_under_seeded_faults(first: int) -> None:
    broken = [(one.seed, one.violations) for one in run_seeds(Order(), range(first, first + CHUNK)) if one.violations]
    assert not broken, f"replay: schedulezero simulate --seeds {broken[0][0]}..{broken[0][0]}"


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("first", range(1000, 6000, 100))
def test_every_invariant_holds_in_a_long_soak(first: int) -> None:
    broken = [(one.seed, one.violations) for one in run_seeds(Order(), range(first, first + 100)) if one.violations]
    assert not broken, f"replay: schedulezero simulate --seeds {broken[0][0]}..{broken[0][0]}"


def test_rare_states_are_reached() -> None:
    reached: dict[str, int] = {}
    for one in run_seeds(Order(), RARE):
        for name, count in one.stats.items():
            reached[name] = reached.get(name, 0) + count
    assert [name for name in REQUIRED if not reached.get(name)] == []


def test_calm_seeds_are_calm_and_others_are_not() -> None:
    calm = run_one(Order(), 10)
    assert calm.plan.calm
    assert calm.stats.get("told StoreTroubled", 0) == calm.stats.get("node started again", 0) == 0
    assert not run_one(Order(), 11).plan.calm


HASHES = """
from sz_runtime.simulation.world import World
print([World(seed).run().trace_hash for seed in (1, 3, 9)])
"""


def test_the_same_seed_has_the_same_trace_hash_in_every_process_and_under_every_hash_seed() -> None:
    here = [World(seed).run().trace_hash for seed in (1, 3, 9)]
    assert len(set(here)) == 3
    for hash_seed in ("0", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        other = subprocess.run(
            [sys.executable, "-c", HASHES], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert other.stdout.strip() == str(here)


def test_processes_share_seeds_and_report_them_in_order() -> None:
    alone = list(run_seeds(Order(), range(1, 7)))
    shared = list(run_seeds(Order(), range(1, 7), jobs=2))
    assert shared == alone
