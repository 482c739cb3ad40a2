"""A simulated machine: clocks that go on, a node that dies and comes back with the next incarnation."""

from collections.abc import Callable, Sequence
from random import Random

from attrs import Factory, define, evolve

from sz_protocol.commands import Apply, Cancel, Command
from sz_protocol.kernel.events import Commanded, Event, HandlersChanged, MethodInfo, Started, StopRequested
from sz_protocol.kernel.machine import Machine
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.settings import Settings
from sz_runtime.ports import StoreError
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.clock import SimClock
from sz_runtime.simulation.diary import Diary
from sz_runtime.simulation.executor import HostedExecutor, SimExecutor
from sz_runtime.simulation.facts import (
    Asked,
    NodeCrashed,
    NodeStarted,
    NodeStopped,
    Stalled,
    StartFailed,
)
from sz_runtime.simulation.life import Life
from sz_runtime.simulation.network import SimNetwork
from sz_runtime.simulation.plan import Job, NodePlan, Plan
from sz_runtime.simulation.steps import Crash, Point, Stall, StallKind
from sz_runtime.simulation.store import AbandonedStore, RemoteStore, SimStore
from sz_runtime.simulation.store_server import StoreServer
from sz_runtime.simulation.streams import stream
from sz_runtime.simulation.trace import Trace

NodeFactory = Callable[[Settings, Random, NodePlan], Machine]
START_AGAIN_US = SECOND_US
"""How soon a start that failed is tried again, and a process that died of itself is started again."""
MOST_RAISED = 5


@define
class Surroundings:
    """What all hosts of one world share."""

    plan: Plan
    agenda: Agenda
    trace: Trace
    network: SimNetwork
    stores: dict[str, StoreServer]
    make_node: NodeFactory
    make_executor: Callable[["Host", Diary], HostedExecutor] | None = None
    """Replaces the simulated handlers, for users who bring their own."""


@define(eq=False)
class Host:
    """One machine and the node that lives on it, if it lives."""

    node: NodePlan
    around: Surroundings
    clock: SimClock
    life: Life | None = None
    incarnation: int = 0
    armed: list[Crash | Stall] = Factory(list)
    """Crashes and stalls that wait for the node to reach their point."""
    jobs: tuple[Job, ...] = ()
    without: tuple[str, ...] = ()
    requests: int = 0
    restart_us: int | None = None
    """How long after its own stop the node is started again."""
    tame: bool = False
    """Handlers do nothing wicked any more."""
    past_steps: int = 0
    _raised: int = 0
    _start_planned: bool = False

    @property
    def name(self) -> str:
        """The node's name; its lane in the report."""
        return self.node.name

    @property
    def steps(self) -> int:
        """How many events its nodes have handled, in all their lives."""
        return self.past_steps + (self.life.steps if self.life is not None else 0)

    @property
    def server(self) -> StoreServer:
        """The store it uses."""
        return self.around.stores[self.node.store]

    # --- start ------------------------------------------------------------------------------------------------

    def start(self, by_force: bool = False) -> None:
        """Begin a life, unless one is under way. A store that cannot be taken is tried again."""
        self._start_planned = False
        if self.life is not None:
            return
        around, agenda = self.around, self.around.agenda
        incarnation = self.incarnation + 1
        store = self._new_store(by_force)
        executor = self._new_executor(incarnation)
        rng = stream(around.plan.seed, "node", self.name, incarnation)
        machine = around.make_node(around.plan.settings, rng, self.node)
        life = Life(self, self.name, agenda, around.trace, self.clock, machine, store, executor)
        try:
            opened = store.open(life.take)
        except StoreError as error:
            around.trace.add(StartFailed(agenda.now_us, self.name, incarnation, str(error)))
            self._plan_start(START_AGAIN_US)
            return
        self.incarnation = incarnation
        executor.open(life.take)
        self.life = life
        now = self.clock.now(agenda.now_us)
        around.trace.add(
            NodeStarted(agenda.now_us, self.name, self.incarnation, opened.term, now.utc_us, opened.high_water_us)
        )
        self.give((Started(opened.term, opened.high_water_us), self._handlers()))
        self.ask(self._apply())

    def _plan_start(self, after_us: int) -> None:
        """Start later; one plan at a time."""
        if not self._start_planned:
            self._start_planned = True
            self.around.agenda.after(after_us, self.start)

    def _new_store(self, by_force: bool) -> AbandonedStore:
        if self.node.remote:
            return RemoteStore(self.server, self.name, self.around.agenda, self.around.network, by_force)
        return SimStore(self.server, self.name, by_force)

    def _new_executor(self, incarnation: int) -> HostedExecutor:
        diary = Diary(self.name, incarnation, self.around.agenda, self.around.trace)
        if self.around.make_executor is not None:
            return self.around.make_executor(self, diary)
        plan, name = self.around.plan, self.name
        return SimExecutor(
            self.around.agenda,
            diary,
            self.clock,
            {(job.definition.handler_id, job.definition.method): job.behaviour for job in plan.jobs},
            self.infos(),
            plan.pools,
            lambda run_id, attempt: stream(plan.seed, "run", name, run_id, attempt),
            self._die,
            tame=self.tame,
        )

    def infos(self) -> dict[tuple[str, str], MethodInfo]:
        """The methods that this node can execute now."""
        infos: dict[tuple[str, str], MethodInfo] = {}
        for job in self.around.plan.jobs:
            definition = job.definition
            if definition.id not in self.without:
                key = (definition.handler_id, definition.method)
                infos[key] = MethodInfo(*key, pool=job.pool, concurrency=job.behaviour.concurrency)
        return infos

    def _handlers(self) -> HandlersChanged:
        if self.life is not None and self.around.make_executor is not None:
            return HandlersChanged(*self.life.executor.methods())
        return HandlersChanged(tuple(self.infos().values()), self.around.plan.pools)

    def _apply(self) -> Apply:
        return Apply(tuple(job.definition for job in self.jobs), source="config", prune=True)

    # --- life -------------------------------------------------------------------------------------------------

    def give(self, events: Sequence[Event]) -> None:
        """Hand events to the node, if it lives."""
        if self.life is not None:
            self.life.take(events)

    def ask(self, command: Command) -> None:
        """A person or a program asks the node for something, if it lives."""
        if self.life is None:
            return
        self.requests += 1
        about = command.run_id if isinstance(command, Cancel) else getattr(command, "schedule_id", "")
        self.around.trace.add(Asked(self.around.agenda.now_us, self.name, self.requests, type(command).__name__, about))
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

    def let_go(self) -> None:
        """Nothing holds the node up any more, and handlers that hang come back."""
        self.tame = True
        if self.life is not None:
            self.life.executor.let_go()

    def drain(self, grace_us: int, restart_us: int | None) -> None:
        """Ask the node to stop in order."""
        self.restart_us = restart_us
        self.give((StopRequested(grace_us),))

    # --- death ------------------------------------------------------------------------------------------------

    def crash(self, restart_us: int | None, point: str = "any", power: bool = False) -> None:
        """The process vanishes; so does everything that it had not made durable."""
        if self.life is not None:
            self._bury(self.life)
            self.around.trace.add(NodeCrashed(self.around.agenda.now_us, self.name, self.incarnation, point))
        if power:
            self.clock.reboot(self.around.agenda.now_us)
        if restart_us is not None:
            self._plan_start(restart_us)

    def _bury(self, life: Life) -> None:
        life.over = True
        self.life = None
        self.past_steps += life.steps
        life.executor.close(0)
        life.store.abandon()
        if not self.node.remote and not any(session.open for session in self.server.sessions):
            # The file's last process is gone, and with it what was unsynced. While another one has the file open,
            # its syncs take everything along.
            self.server.crash()

    def _die(self, why: str) -> None:
        self.crash(START_AGAIN_US, why)

    def raised(self) -> None:
        """A machine raised: in production the process ends and is started again, and given up when that is no use."""
        self._raised += 1
        self.crash(START_AGAIN_US if self._raised <= MOST_RAISED else None, "raised")

    def ended(self) -> None:
        """The node has drained, or was fenced out: the process ends in order."""
        if self.life is None:
            return
        life, self.life = self.life, None
        why = "replaced" if life.replaced else "drained"
        life.over = True
        self.past_steps += life.steps
        life.executor.close(0)
        life.store.close()
        self.around.trace.add(NodeStopped(self.around.agenda.now_us, self.name, self.incarnation, why))
        if self.restart_us is not None:
            self._plan_start(self.restart_us)
            self.restart_us = None

    # --- trouble ----------------------------------------------------------------------------------------------

    def strike(self, trouble: Crash | Stall) -> None:
        """Do it now."""
        match trouble:
            case Crash(restart_us=restart_us, point=point, power=power):
                self.crash(restart_us, point or "any", power)
            case Stall(kind=kind, us=us):
                self.stall(kind, us)

    def stall(self, kind: StallKind, us: int) -> None:
        """Stand still for a while."""
        if self.life is None:
            return
        until_us = self.around.agenda.now_us + us
        self.around.trace.add(Stalled(self.around.agenda.now_us, self.name, kind, until_us))
        self.life.freeze(until_us)
        if kind is not StallKind.STALL:
            self.life.executor.freeze(until_us)

    def struck(self, point: Point) -> bool:
        """Whether trouble was planned for this point; it happens now."""
        for place, trouble in enumerate(self.armed):
            if trouble.point is point:
                del self.armed[place]
                self.strike(trouble)
                return True
        return False

    def arm(self, trouble: Crash | Stall) -> None:
        """Plan trouble for the next time that the node reaches its point; one of a kind at a time."""
        self.armed = [other for other in self.armed if other.point is not trouble.point]
        self.armed.append(evolve(trouble))
