"""A simulated world: nodes, their stores and clocks, the network, one heap of what happens, and those who watch.

    result = World(4711).run()
    assert not result.violations

The same seed gives the same trace hash, in every process, on every machine.
"""

from collections.abc import Callable
from random import Random

from attrs import Factory, define, field, frozen

from sz_protocol.kernel.machine import Machine
from sz_protocol.node import Node
from sz_protocol.settings import Settings
from sz_runtime.simulation.acting import act
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.checkers import FAMILIES, Checker, Violation, Watch
from sz_runtime.simulation.checkers.base import Enough, Report
from sz_runtime.simulation.clock import SimClock
from sz_runtime.simulation.diary import Diary
from sz_runtime.simulation.disk import SimDisk
from sz_runtime.simulation.drawing import draw_plan
from sz_runtime.simulation.executor import HostedExecutor
from sz_runtime.simulation.facts import Noted, Phase, RunKept, Weighed
from sz_runtime.simulation.handler_link import SimLinks
from sz_runtime.simulation.host import Host, NodeFactory, Surroundings
from sz_runtime.simulation.network import SimNetwork
from sz_runtime.simulation.plan import NodePlan, Plan
from sz_runtime.simulation.steps import Advance, Heal, Point, Step
from sz_runtime.simulation.store_server import StoreServer
from sz_runtime.simulation.streams import stream
from sz_runtime.simulation.trace import Trace
from sz_runtime.simulation.weight import weigh
from sz_runtime.simulation.worker_host import WorkerHost
from sz_runtime.simulation.written import kept

WEIGH_EVERY_US = 60_000_000
A_MOMENT_US = 100


def new_node(settings: Settings, rng: Random, plan: NodePlan) -> Machine:
    """The node that production runs."""
    return Node(settings=settings, rng=rng)


@frozen
class Result:
    """What came of a run. `stats` counts what happened, rare states among it; `records` is the trace where it was
    kept."""

    seed: int
    trace_hash: str
    violations: tuple[Violation, ...]
    stats: dict[str, int]
    plan: Plan
    records: tuple[Noted, ...] = ()

    @property
    def ledger(self) -> tuple[RunKept, ...]:
        """The rows of all stores at the end, in the order in which they were decided; needs the records."""
        last_us = self.records[-1].at_us if self.records else 0
        return tuple(r for r in self.records if isinstance(r, RunKept) and r.at_us == last_us)

    @property
    def ok(self) -> bool:
        """Whether every invariant held."""
        return not self.violations


@define
class World:
    """One run of one plan; without a plan the seed draws one. `make_node` builds the nodes, `make_executor` replaces
    the simulated handlers by real ones. `keep` keeps the trace's records (reports need them, soaks do not). `families`
    are the checkers: without any the trace is hashed, and nobody judges it."""

    seed: int
    plan: Plan = Factory(lambda self: draw_plan(self.seed), takes_self=True)
    keep: bool = False
    healed: bool = False
    stop_at_first: bool = False
    families: tuple[type[Checker], ...] = FAMILIES
    make_node: NodeFactory = new_node
    make_executor: Callable[[Host, Diary], HostedExecutor] | None = None
    agenda: Agenda = Factory(Agenda)
    trace: Trace = Factory(lambda self: Trace(self.keep), takes_self=True)
    hosts: dict[str, Host] = Factory(dict)
    workers: dict[str, WorkerHost] = Factory(dict)
    around: Surroundings = field(init=False)
    stores: dict[str, StoreServer] = Factory(dict)
    network: SimNetwork = Factory(
        lambda self: SimNetwork(self.agenda, self.trace, stream(self.plan.seed, "network")), takes_self=True
    )
    links: SimLinks = Factory(
        lambda self: SimLinks(self.agenda, self.network, self.trace, stream(self.plan.seed, "meddling")),
        takes_self=True,
    )
    watch: Watch = Factory(
        lambda self: Watch(self.plan, self.trace, Report(self.stop_at_first), self.families), takes_self=True
    )

    def __attrs_post_init__(self) -> None:
        plan, agenda = self.plan, self.agenda
        for node in plan.nodes:
            if node.store not in self.stores:
                disk = SimDisk(stream(plan.seed, "disk", node.store))
                rng = stream(plan.seed, "store", node.store)
                server = StoreServer(node.store, agenda, self.trace, rng, disk)
                self.stores[node.store] = server
        around = Surroundings(
            plan, agenda, self.trace, self.network, self.links, self.stores, self.make_node, self.make_executor
        )
        chosen = range(len(plan.jobs)) if plan.first_jobs is None else plan.first_jobs
        jobs = tuple(plan.jobs[index] for index in chosen)
        for node in plan.nodes:
            clock = SimClock(plan.origin_utc_us)
            self.hosts[node.name] = Host(
                name=node.name, agenda=agenda, trace=self.trace, clock=clock, node=node, around=around, jobs=jobs
            )
        for store, server in self.stores.items():
            server.reached = self._store_reached(store)
        for worker in plan.workers:
            self.workers[worker.name] = WorkerHost(
                name=worker.name,
                agenda=agenda,
                trace=self.trace,
                clock=SimClock(plan.origin_utc_us),
                worker=worker,
                around=around,
                disk=SimDisk(stream(plan.seed, "disk", worker.name)),
            )
        if plan.verified:
            self.links.keys = {worker.name: worker.its_key for worker in plan.workers}
        self.around = around
        if plan.workers:
            self.links.attach(list(self.hosts), list(self.workers))

    def _store_reached(self, store: str) -> Callable[[str], None]:
        users = [host for host in self.hosts.values() if host.node.store == store]

        def reached(point: str) -> None:
            for host in users:
                if host.armed:
                    host.struck(Point(point))

        return reached

    # --- running ----------------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Do every step of the plan, let the nodes settle, and judge."""
        try:
            self.begin()
            for step in self.plan.steps:
                self.do(step)
            self.settle()
        except Enough:
            pass
        return self.result()

    def begin(self) -> None:
        """Open the trace. `run` does this; whoever does the steps one by one begins here."""
        self.trace.add(Phase(0, "", "calm" if self.plan.calm else "faults"))
        self.agenda.after(WEIGH_EVERY_US, self._weigh)

    def do(self, step: Step) -> None:
        """Do one step."""
        act(self, step)
        self.healed = isinstance(step, Heal)

    def settle(self, settle_us: int | None = None) -> None:
        """Heal, unless the plan has, and give the nodes time (the plan's, unless told) to have nothing left to do; then
        let the checkers see what the stores hold."""
        if not self.plan.calm and not self.healed:
            act(self, Heal())
        act(self, Advance(self.plan.settle_us if settle_us is None else settle_us))
        while any(server.is_busy for server in self.stores.values()):
            act(self, Advance(A_MOMENT_US))
        self._weigh()
        for name, server in self.stores.items():
            for record in kept(self.agenda.now_us, name, server.tables):
                self.trace.add(record)
        for worker in self.workers.values():
            worker.show_outbox()
        self.trace.add(Phase(self.agenda.now_us, "", "end"))
        self.watch.finish()

    def result(self) -> Result:
        """What has come of it so far."""
        machines = (*self.hosts.values(), *self.workers.values())
        stats = {"steps": sum(machine.steps for machine in machines), "records": self.trace.count}
        stats |= {"simulated_s": self.agenda.now_us // 1_000_000, **self.watch.stats()}
        return Result(
            self.plan.seed,
            self.trace.hash,
            tuple(self.watch.violations),
            stats,
            self.plan,
            tuple(self.trace.records),
        )

    def _weigh(self) -> None:
        for host in self.hosts.values():
            if host.life is not None:
                unfinished = len(host.server.tables.unfinished)
                self.trace.add(Weighed(self.agenda.now_us, host.name, weigh(host.life.machine), unfinished))
        for worker in self.workers.values():
            if worker.life is not None:
                weight = weigh(worker.life.machine)
                self.trace.add(Weighed(self.agenda.now_us, worker.name, weight, worker.executing))
        self.agenda.after(WEIGH_EVERY_US, self._weigh)
