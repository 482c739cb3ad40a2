"""Deliberate protocol bugs, to prove that the checkers see them. Production code carries no seam for this: a mutant
replaces functions of the machines (or of the simulated store) from outside, in this process, for as long as the
`with` block lasts.

    with planted("random_run_key"):
        assert not World(3).run().ok
"""

from contextlib import AbstractContextManager

from attrs import evolve

from sz_runtime.simulation.mutants.allowing import ALLOWING
from sz_runtime.simulation.mutants.attachment import ATTACHMENT
from sz_runtime.simulation.mutants.execution import EXECUTION
from sz_runtime.simulation.mutants.membership import MEMBERSHIP
from sz_runtime.simulation.mutants.planting import Mutant, UnknownMutant, plant
from sz_runtime.simulation.mutants.scheduling import SCHEDULING
from sz_runtime.simulation.mutants.storing import STORING

__all__ = ["MUTANTS", "Mutant", "UnknownMutant", "plant", "planted"]

REMOTE = tuple(evolve(mutant, remote=True) for mutant in (*MEMBERSHIP, *ATTACHMENT, *ALLOWING))
ALL = (*SCHEDULING, *EXECUTION, *STORING, *REMOTE)
MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in ALL}


def planted(name: str) -> AbstractContextManager[Mutant]:
    """A context in which the mutant lives. Raises UnknownMutant."""
    if name not in MUTANTS:
        raise UnknownMutant(name, MUTANTS)
    return plant(MUTANTS[name])
