"""A simulated machine: clocks that go on, a node that dies and comes back with the next incarnation."""

from collections.abc import Callable
from random import Random

from attrs import Factory, define, evolve

from sz_protocol.commands import Apply, Cancel, Command
from sz_protocol.kernel.effects import Read, Send, Write
from sz_protocol.kernel.events import AllowedKey, Commanded, HandlersChanged, KeysChanged, MethodInfo, Started
from sz_protocol.kernel.machine import Machine
from sz_protocol.settings import Settings
from sz_runtime.ports import StoreError
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.diary import Diary
from sz_runtime.simulation.executor import HostedExecutor, SimExecutor
from sz_runtime.simulation.facts import Asked, NodeCrashed, NodeStarted, NodeStopped, StartFailed
from sz_runtime.simulation.handler_link import SimLinks
from sz_runtime.simulation.life import Life, Outlets
from sz_runtime.simulation.mortal import START_AGAIN_US, Mortal
from sz_runtime.simulation.network import SimNetwork
from sz_runtime.simulation.plan import HANDLER, Job, NodePlan, Plan
from sz_runtime.simulation.store import AbandonedStore, RemoteStore, SimStore
from sz_runtime.simulation.store_server import StoreServer
from sz_runtime.simulation.streams import stream
from sz_runtime.simulation.trace import Trace
from sz_runtime.simulation.worker_facts import KeysSet

NodeFactory = Callable[[Settings, Random, NodePlan], Machine]


@define
class Surroundings:
    """What all hosts of one world share. `settings` are the plan's, with remote handlers where it has workers."""

    plan: Plan
    agenda: Agenda
    trace: Trace
    network: SimNetwork
    links: SimLinks
    stores: dict[str, StoreServer]
    make_node: NodeFactory
    make_executor: Callable[["Host", Diary], HostedExecutor] | None = None
    """Replaces the simulated handlers, for users who bring their own."""
    keys_without: tuple[str, ...] = ()
    """Handlers whose keys are taken away."""
    settings: Settings = Factory(
        lambda self: evolve(self.plan.settings, remote=bool(self.plan.workers)), takes_self=True
    )


@define(eq=False, kw_only=True)
class Host(Mortal):
    """One machine and the node that lives on it, if it lives."""

    node: NodePlan
    around: Surroundings
    jobs: tuple[Job, ...] = ()
    requests: int = 0
    _store: AbandonedStore | None = None

    @property
    def server(self) -> StoreServer:
        """The store it uses."""
        return self.around.stores[self.node.store]

    # --- start ------------------------------------------------------------------------------------------------

    def _begin(self, by_force: bool) -> None:
        """A store that cannot be taken is tried again; a node is made for one that is: others stand by for hours."""
        around, agenda = self.around, self.agenda
        incarnation = self.incarnation + 1
        store = self._new_store(by_force)
        try:
            opened = store.open(lambda events: life.take(events))
        except StoreError as error:
            self.trace.add(StartFailed(agenda.now_us, self.name, incarnation, str(error)))
            self.plan_start(START_AGAIN_US)
            return
        executor = self._new_executor(incarnation)
        rng = stream(around.plan.seed, "node", self.name, incarnation)
        machine = around.make_node(around.settings, rng, self.node)
        link = around.links.serve(self.name)
        outlets: Outlets = {Write: store.submit, Read: store.submit, Send: link.submit}
        life = Life(self, self.name, agenda, self.trace, self.clock, machine, executor, outlets)
        self.incarnation = incarnation
        executor.open(life.take)
        self.life, self._store = life, store
        now = self.clock.now(agenda.now_us)
        self.trace.add(
            NodeStarted(agenda.now_us, self.name, self.incarnation, opened.term, now.utc_us, opened.high_water_us)
        )
        self.give((Started(opened.term, opened.high_water_us), self._handlers()))
        self.tell_keys()
        self.ask(self._apply())
        if not life.over:
            # A process that died before it listened is not there to be called.
            link.open(life.take)

    def _new_store(self, by_force: bool) -> AbandonedStore:
        if self.node.remote:
            return RemoteStore(self.server, self.name, self.agenda, self.around.network, by_force)
        return SimStore(self.server, self.name, by_force)

    def _new_executor(self, incarnation: int) -> HostedExecutor:
        diary = Diary(self.name, incarnation, self.agenda, self.trace)
        if self.around.make_executor is not None:
            return self.around.make_executor(self, diary)
        plan, name = self.around.plan, self.name
        return SimExecutor(
            self.agenda,
            diary,
            self.clock,
            {self._key(job): job.behaviour for job in plan.jobs},
            self.infos(),
            plan.pools,
            lambda run_id, attempt: stream(plan.seed, "run", name, run_id, attempt),
            self.die,
            tame=self.tame,
        )

    def infos(self) -> dict[tuple[str, str], MethodInfo]:
        """The methods that this node can execute now."""
        infos: dict[tuple[str, str], MethodInfo] = {}
        for job in self.around.plan.jobs:
            definition = job.definition
            if definition.id not in self.without and self.around.plan.is_here(job):
                key = self._key(job)
                infos[key] = MethodInfo(*key, pool=job.pool, concurrency=job.behaviour.concurrency)
        return infos

    def _key(self, job: Job) -> tuple[str, str]:
        """The name under which a node has the method of a job."""
        handler_id = HANDLER if job.here else job.definition.handler_id
        return handler_id, job.definition.method

    def _handlers(self) -> HandlersChanged:
        if self.life is not None and self.around.make_executor is not None:
            return HandlersChanged(*self.life.executor.methods())
        return HandlersChanged(tuple(self.infos().values()), self.around.plan.pools)

    def _apply(self) -> Apply:
        return Apply(tuple(job.definition for job in self.jobs), source="config", prune=True)

    # --- life -------------------------------------------------------------------------------------------------

    def ask(self, command: Command) -> None:
        """A person or a program asks the node for something, if it lives."""
        if self.life is None:
            return
        self.requests += 1
        about = command.run_id if isinstance(command, Cancel) else getattr(command, "schedule_id", "")
        self.trace.add(Asked(self.agenda.now_us, self.name, self.requests, type(command).__name__, about))
        self.give((Commanded(self.requests, command),))

    def configure(self, jobs: tuple[Job, ...]) -> None:
        """Apply another configuration, now and at every later start."""
        self.jobs = jobs
        self.ask(self._apply())

    def set_methods(self, without: tuple[str, ...]) -> None:
        """Some methods are gone, or back."""
        self.without = without
        if self.life is not None:
            self.life.executor.set_methods(self.infos())
            self.give((self._handlers(),))

    def tell_keys(self) -> None:
        """Who may speak, where links verify that."""
        plan, without = self.around.plan, self.around.keys_without
        if self.life is None or not plan.verified:
            return
        owners = dict.fromkeys(worker.handler_id for worker in plan.workers)
        allowed = tuple(owner for owner in owners if owner not in without)
        self.trace.add(KeysSet(self.agenda.now_us, self.name, allowed))
        self.give((KeysChanged(tuple(AllowedKey(owner, owner) for owner in allowed)),))

    # --- death ------------------------------------------------------------------------------------------------

    def _vanish(self, life: Life, point: str) -> None:
        self.around.links.gone(self.name)
        if self._store is not None:
            self._store.abandon()
        if not self.node.remote and not any(session.open for session in self.server.sessions):
            # The file's last process is gone, and with it what was unsynced. While another one has the file open,
            # its syncs take everything along.
            self.server.crash()
        self.trace.add(NodeCrashed(self.agenda.now_us, self.name, self.incarnation, point))

    def _leave(self, life: Life) -> None:
        self.around.links.gone(self.name)
        if self._store is not None:
            self._store.close()
        why = "replaced" if life.replaced else "drained"
        self.trace.add(NodeStopped(self.agenda.now_us, self.name, self.incarnation, why))
