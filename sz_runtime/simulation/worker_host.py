"""A simulated machine with a worker: the handler's side of a remote handler, its executor, its outbox and its link."""

from attrs import define

from sz_protocol.attaching import Forget, Identity, Keep
from sz_protocol.attaching import WorkerStarted as Begun
from sz_protocol.kernel.effects import Send
from sz_protocol.kernel.events import HandlersChanged, MethodInfo
from sz_protocol.machines.attachment import Attachment
from sz_runtime.simulation.behaviour import Behaviour
from sz_runtime.simulation.diary import Diary
from sz_runtime.simulation.disk import SimDisk
from sz_runtime.simulation.executor import SimExecutor
from sz_runtime.simulation.handler_link import ClientEnd
from sz_runtime.simulation.host import Surroundings
from sz_runtime.simulation.life import Life, Outlets
from sz_runtime.simulation.mortal import Mortal
from sz_runtime.simulation.outbox import SimOutbox, held
from sz_runtime.simulation.plan import WorkerPlan
from sz_runtime.simulation.streams import stream
from sz_runtime.simulation.worker_facts import OutboxHeld, WorkerCrashed, WorkerStarted, WorkerStopped

POOL = "worker"
BITS = 62


@define(eq=False, kw_only=True)
class WorkerHost(Mortal):
    """One machine and the worker that lives on it, if it lives."""

    worker: WorkerPlan
    around: Surroundings
    disk: SimDisk
    _executor: SimExecutor | None = None
    _outbox: SimOutbox | None = None
    _link: ClientEnd | None = None

    def _begin(self, by_force: bool) -> None:
        around, name = self.around, self.name
        self.incarnation += 1
        rng = stream(around.plan.seed, "worker", name, self.incarnation)
        outbox = SimOutbox(name, self.agenda, self.trace, self.disk, self.struck, self.worker.volatile)
        link = around.links.call(name, around.plan.servers_of(self.worker), rng)
        machine = Attachment(self._identity(rng.getrandbits(BITS)), rng, around.plan.attachment)
        executor = self._new_executor()
        outlets: Outlets = {Send: link.submit, Keep: outbox.submit, Forget: outbox.submit}
        life = Life(self, name, self.agenda, self.trace, self.clock, machine, executor, outlets)
        kept = outbox.open(life.take)
        executor.open(life.take)
        self.life, self._executor, self._outbox, self._link = life, executor, outbox, link
        now, keys = self.clock.now(self.agenda.now_us), tuple((report.row, report.attempt) for report in kept)
        self.trace.add(WorkerStarted(self.agenda.now_us, name, self.incarnation, keys, now.utc_us))
        self.give((Begun(kept), self._handlers()))
        link.open(life.take)

    def _identity(self, incarnation: int) -> Identity:
        worker = self.worker
        return Identity(
            worker.handler_id, incarnation, worker.slots, worker.tags, "simulated", durable=not worker.volatile
        )

    def _new_executor(self) -> SimExecutor:
        plan, name = self.around.plan, self.name
        infos = self._infos(())
        slow = self.worker.slow
        behaviours = {job.definition.method: job.behaviour.slowed(slow) for job in plan.jobs if plan.is_remote(job)}
        return SimExecutor(
            self.agenda,
            Diary(name, self.incarnation, self.agenda, self.trace),
            self.clock,
            {key: behaviours.get(key[1], Behaviour()) for key in infos},
            self._infos(self.without),
            ((POOL, self.worker.slots),),
            lambda run_id, attempt: stream(plan.seed, "run", name, run_id, attempt),
            self.die,
            tame=self.tame,
        )

    def _infos(self, without: tuple[str, ...]) -> dict[tuple[str, str], MethodInfo]:
        """The methods that it has: of all jobs that remote handlers execute, or of those that it was given."""
        plan, worker = self.around.plan, self.worker
        infos: dict[tuple[str, str], MethodInfo] = {}
        for job in plan.jobs:
            name = job.definition.id
            if plan.is_remote(job) and (worker.has is None or name in worker.has) and name not in without:
                key = (worker.handler_id, job.definition.method)
                infos[key] = MethodInfo(*key, pool=POOL, concurrency=job.behaviour.concurrency)
        return infos

    def _handlers(self) -> HandlersChanged:
        return HandlersChanged(tuple(self._infos(self.without).values()), ((POOL, self.worker.slots),))

    def set_methods(self, without: tuple[str, ...]) -> None:
        """Some methods are gone, or back."""
        self.without = without
        if self.life is not None:
            self.life.executor.set_methods(self._infos(without))
            self.give((self._handlers(),))

    # --- death ------------------------------------------------------------------------------------------------

    def _vanish(self, life: Life, point: str) -> None:
        if self._outbox is not None and self._link is not None:
            self._link.close()
            self._outbox.abandon()
        self.trace.add(WorkerCrashed(self.agenda.now_us, self.name, self.incarnation, point))

    def _leave(self, life: Life) -> None:
        if self._outbox is not None and self._link is not None:
            self._outbox.close()
            self._link.close()
        self.trace.add(WorkerStopped(self.agenda.now_us, self.name, self.incarnation))

    @property
    def executing(self) -> int:
        """How many runs it executes."""
        return len(self._executor.running) if self.life is not None and self._executor is not None else 0

    def show_outbox(self) -> None:
        """What the outbox holds, for the end of the trace."""
        self.trace.add(OutboxHeld(self.agenda.now_us, self.name, tuple(held(self.disk))))
