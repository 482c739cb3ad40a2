"""A plan: everything that a simulated run consists of, as plain values. The seed draws one; a scenario file spells one
out; the shrinker makes one smaller."""

from attrs import Factory, frozen

from sz_protocol.definition import Definition
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.settings import Settings
from sz_runtime.simulation.behaviour import Behaviour
from sz_runtime.simulation.steps import Step

ORIGIN_UTC_US = 1_772_323_200 * SECOND_US
"""2026-03-01T00:00:00Z: where true time begins unless a plan says otherwise."""


@frozen
class Job:
    """A schedule, and how its handler behaves. A later job with the same schedule id is an edit of it, which
    `Configure` puts in force."""

    definition: Definition
    behaviour: Behaviour = Factory(Behaviour)
    pool: str = "default"


@frozen
class NodePlan:
    """One node. `store` names its store: its own file, or, when it is `remote`, a server that several may share."""

    name: str
    store: str
    remote: bool = False


@frozen
class Plan:
    """What will be done to which nodes. `origin_utc_us` is the true wall time at which the run begins. The first
    configuration holds the jobs whose indices are in `first_jobs` (None: all). `calm` plans have no faults, and more
    is demanded of them. `settle_us` is how long the nodes may take, after healing, to have nothing left to do."""

    seed: int
    jobs: tuple[Job, ...]
    steps: tuple[Step, ...]
    nodes: tuple[NodePlan, ...] = (NodePlan("a", "a.db"),)
    settings: Settings = Factory(Settings)
    pools: tuple[tuple[str, int], ...] = (("default", 8),)
    origin_utc_us: int = ORIGIN_UTC_US
    first_jobs: tuple[int, ...] | None = None
    calm: bool = False
    settle_us: int = 300 * SECOND_US
    patience_us: int = 30 * SECOND_US
    """How long a run may take once everything is healed."""
