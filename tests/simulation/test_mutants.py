"""Deliberate bugs are caught: each within the budget of seeds, by the seed that the specs name."""

import re
from pathlib import Path

import pytest

from sz_runtime.simulation.invariants import INVARIANTS
from sz_runtime.simulation.mutants import MUTANTS, UnknownMutant, planted
from sz_runtime.simulation.runner import MUTANT_SEEDS, Order, hunt, run_one

PAGE = Path(__file__).parents[2] / "specs" / "simulation.md"
ROW = re.compile(r"\| `(\w+)` \| .* \| (\w+) \| (\d+) \|")
CAUGHT = {name: (invariant, int(seed)) for name, invariant, seed in ROW.findall(PAGE.read_text("utf-8"))}


def test_the_table_in_the_specs_has_every_mutant_and_none_survived() -> None:
    assert list(CAUGHT) == list(MUTANTS)
    assert len(MUTANTS) >= 15
    assert {invariant for invariant, _ in CAUGHT.values()} <= {invariant.id for invariant in INVARIANTS}
    assert max(seed for _, seed in CAUGHT.values()) < MUTANT_SEEDS


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_dies_at_the_seed_that_the_specs_name(name: str) -> None:
    _, seed = CAUGHT[name]
    # A changed protocol changes what a seed leads to: then any seed of the budget will do, and the table is made anew.
    assert not run_one(Order(mutant=name), seed).ok or hunt(name) is not None, (
        "survived the budget; make the table anew: python -m sz_runtime.simulation.specs --mutants"
    )


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_dies_within_the_budget(name: str) -> None:
    assert hunt(name) is not None


def test_a_mutant_is_gone_when_its_block_ends() -> None:
    before = run_one(Order(), 1).trace_hash
    with planted("random_run_key"):
        assert not run_one(Order(), 1).ok
    assert run_one(Order(), 1).trace_hash == before


def test_an_unknown_mutant_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownMutant, match="random_run_key"):
        planted("random_runkey")
