"""A plan: everything that a simulated run consists of, as plain values. The seed draws one; a scenario file spells one
out; the shrinker makes one smaller."""

from collections.abc import Mapping

from attrs import Factory, frozen

from sz_protocol.attaching import AttachmentSettings
from sz_protocol.definition import Definition
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.routing import ANY_HANDLER
from sz_protocol.settings import Settings
from sz_runtime.simulation.behaviour import Behaviour
from sz_runtime.simulation.steps import Step

ORIGIN_UTC_US = 1_772_323_200 * SECOND_US
"""2026-03-01T00:00:00Z: where true time begins unless a plan says otherwise."""

HANDLER = "sim"
"""The handler of a job that names none; its method is then the schedule's id."""


@frozen
class Job:
    """A schedule, and how its handler behaves. A later job with the same schedule id is an edit of it, which
    `Configure` puts in force. `here`: although any handler may execute it (`*`), the nodes have its method too."""

    definition: Definition
    behaviour: Behaviour = Factory(Behaviour)
    pool: str = "default"
    here: bool = False


@frozen
class NodePlan:
    """One node. `store` names its store: its own file, or, when it is `remote`, a server that several may share."""

    name: str
    store: str
    remote: bool = False


@frozen
class WorkerPlan:
    """A process that registers as a remote handler, under its name or as `id` (two with one id are twins), at the first
    of `servers` that it can reach (none named: the nodes of the plan's first store). `has` are the schedules whose
    methods it offers (None: all that remote handlers execute). `volatile`: its outbox does not survive it. `slow`: its
    handlers take so many times as long as those of others. `key`: whose key it has, where that is not its own
    handler's."""

    name: str
    slots: int = 16
    id: str = ""
    servers: tuple[str, ...] = ()
    tags: Mapping[str, str] = Factory(dict)
    has: tuple[str, ...] | None = None
    volatile: bool = False
    slow: int = 1
    key: str = ""

    @property
    def its_key(self) -> str:
        """The key that links verify: named after the handler to whom it belongs."""
        return self.key or self.handler_id

    @property
    def handler_id(self) -> str:
        """Who it says it is."""
        return self.id or self.name


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
    workers: tuple[WorkerPlan, ...] = ()
    attachment: AttachmentSettings = Factory(AttachmentSettings)
    verified: bool = False
    """Links verify keys, and each handler id belongs to one."""

    def servers_of(self, worker: WorkerPlan) -> tuple[str, ...]:
        """The nodes at which a worker registers."""
        first = self.nodes[0].store
        return worker.servers or tuple(node.name for node in self.nodes if node.store == first)

    def is_remote(self, job: Job) -> bool:
        """Whether remote handlers execute it."""
        wanted = job.definition.handler_id
        return bool(self.workers) and wanted in (ANY_HANDLER, *(worker.handler_id for worker in self.workers))

    def is_here(self, job: Job) -> bool:
        """Whether the nodes' own handlers execute it, among others perhaps."""
        return job.here or not self.is_remote(job)
