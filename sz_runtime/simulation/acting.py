"""What each step of a plan does to a world."""

from collections.abc import Iterable
from typing import Protocol

from sz_protocol.commands import Cancel, Pause, Resume, Trigger
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.disk import SimDisk
from sz_runtime.simulation.facts import ClockChanged, Fault, Phase
from sz_runtime.simulation.handler_link import SimLinks
from sz_runtime.simulation.host import Host, Surroundings
from sz_runtime.simulation.meddling import come_as_strangers, meddle
from sz_runtime.simulation.mortal import Mortal
from sz_runtime.simulation.network import CALM, SimNetwork
from sz_runtime.simulation.plan import Plan
from sz_runtime.simulation.step_lines import step_to_line
from sz_runtime.simulation.steps import (
    Advance,
    CancelRuns,
    Configure,
    Crash,
    Cut,
    DiskState,
    Drain,
    DriftClock,
    HalfClose,
    Heal,
    Meddle,
    Mend,
    Partition,
    PauseSchedule,
    ResumeSchedule,
    Rewind,
    SetDisk,
    SetKeys,
    SetMethods,
    SetStore,
    SetWeather,
    Stall,
    Start,
    Step,
    StepClock,
    Strangers,
    TriggerSchedule,
    TrustClock,
)
from sz_runtime.simulation.store_server import Mood, StoreServer
from sz_runtime.simulation.trace import Trace
from sz_runtime.simulation.worker_host import WorkerHost

RESTART_AT_HEAL_US = 1000


class Stage(Protocol):
    """What a step can reach of the world."""

    plan: Plan
    agenda: Agenda
    trace: Trace
    network: SimNetwork
    hosts: dict[str, Host]
    workers: dict[str, WorkerHost]
    around: Surroundings
    links: SimLinks
    stores: dict[str, StoreServer]


def act(stage: Stage, step: Step) -> None:
    """Do one step, now."""
    if isinstance(step, Advance):
        stage.agenda.run_until(stage.agenda.now_us + step.us)
        return
    stage.trace.add(Fault(stage.agenda.now_us, getattr(step, "node", getattr(step, "store", "")), step_to_line(step)))
    match step:
        case Start() | Crash() | Drain() | Stall() | Rewind():
            _to_machine(stage, step)
        case StepClock() | DriftClock() | TrustClock():
            _to_clock(stage, step)
        case SetDisk(store, state):
            disk = _disk(stage, store)
            disk.full, disk.sync_fails = state is DiskState.FULL, state is DiskState.FAILING
        case SetStore(store, slow, unknown, down):
            stage.stores[store].mood = Mood(slow, unknown, down)
        case Partition(groups):
            stage.network.partition(groups)
        case Cut(sender, to):
            stage.network.cut(sender, to)
        case Mend(swizzle_us):
            _mend(stage, swizzle_us)
        case SetWeather(weather):
            stage.network.weather = weather
        case SetKeys(without):
            set_keys(stage, without)
        case HalfClose(sender, to):
            stage.links.half_close(sender, to)
        case Strangers(node, count):
            come_as_strangers(stage.links, node, count)
        case Meddle():
            meddle(stage.links, step)
        case PauseSchedule() | ResumeSchedule() | TriggerSchedule() | CancelRuns() | Configure() | SetMethods():
            _by_person(stage, step)
        case Heal():
            heal(stage)


def _disk(stage: Stage, place: str) -> SimDisk:
    """The disk of a store, or of a worker."""
    return stage.stores[place].disk if place in stage.stores else stage.workers[place].disk


def _machine(stage: Stage, name: str) -> Mortal:
    """A node's or a worker's."""
    return stage.hosts[name] if name in stage.hosts else stage.workers[name]


def _to_machine(stage: Stage, step: Start | Crash | Drain | Stall | Rewind) -> None:
    if isinstance(step, Rewind):
        _rewind(stage, step)
        return
    host = _machine(stage, step.node)
    match step:
        case Start(by_force=by_force):
            host.start(by_force)
        case Crash(point=None) | Stall(point=None):
            host.strike(step)
        case Crash() | Stall():
            host.arm(step)
        case Drain(grace_us=grace_us, restart_us=restart_us):
            host.drain(grace_us, restart_us)


def _rewind(stage: Stage, step: Rewind) -> None:
    store = stage.hosts[step.node].node.store
    for other in stage.hosts.values():
        if other.node.store == store:
            other.crash(step.restart_us, "rewind")
    stage.stores[store].crash()
    stage.stores[store].rewind(stage.agenda.now_us - step.us)


def _to_clock(stage: Stage, step: StepClock | DriftClock | TrustClock) -> None:
    host = _machine(stage, step.node)
    clock, now_us = host.clock, stage.agenda.now_us
    before_us, drift_before_ppm = clock.now(now_us).utc_us, clock.drift_ppm
    match step:
        case StepClock(us=us):
            clock.step(now_us, us)
        case DriftClock(ppm=ppm):
            clock.drift(now_us, ppm)
        case TrustClock(trusted=trusted, error_us=error_us):
            clock.set_utc(now_us, true_utc(stage, now_us) + error_us, trusted=trusted)
    note_clock(stage, host, before_us, drift_before_ppm)


def note_clock(stage: Stage, host: Mortal, before_us: int, drift_before_ppm: int) -> None:
    """Write down that a clock is not what it was, and let the node's timer follow it."""
    now_us = stage.agenda.now_us
    reading = host.clock.now(now_us)
    error_us = reading.utc_us - true_utc(stage, now_us)
    drift_ppm, trusted = host.clock.drift_ppm, host.clock.trusted
    stage.trace.add(ClockChanged(now_us, host.name, reading.utc_us - before_us, drift_ppm, trusted, error_us))
    if host.life is not None and drift_ppm != drift_before_ppm:
        # Its timer is armed on the monotonic clock: only that one's rate moves it. A step of the wall clock is noticed
        # when the node wakes for some other reason, as in production.
        host.life.rearm()


def true_utc(stage: Stage, true_us: int) -> int:
    """The wall time that a perfect clock shows."""
    return stage.plan.origin_utc_us + true_us


def _mend(stage: Stage, swizzle_us: int) -> None:
    if swizzle_us:
        stage.network.heal_swizzled(swizzle_us)
    else:
        stage.network.heal()


def _by_person(
    stage: Stage,
    step: PauseSchedule | ResumeSchedule | TriggerSchedule | CancelRuns | Configure | SetMethods,
) -> None:
    if isinstance(step, SetMethods):
        _machine(stage, step.node).set_methods(step.without)
        return
    host = stage.hosts[step.node]
    match step:
        case PauseSchedule(schedule_id=schedule_id):
            host.ask(Pause(schedule_id, "maintenance"))
        case ResumeSchedule(schedule_id=schedule_id, missed=missed):
            host.ask(Resume(schedule_id, missed))
        case TriggerSchedule(schedule_id=schedule_id, key=key):
            host.ask(Trigger(schedule_id, key))
        case CancelRuns(schedule_id=schedule_id):
            runs = stage.stores[host.node.store].tables.runs
            rows = sorted(stage.stores[host.node.store].tables.unfinished)
            for run_id in [runs[row].run_id for row in rows if runs[row].schedule_id == schedule_id]:
                host.ask(Cancel(run_id))
        case Configure(jobs=jobs):
            host.configure(tuple(stage.plan.jobs[index] for index in jobs))


def set_keys(stage: Stage, without: tuple[str, ...]) -> None:
    """Take these keys away, give all others back, and tell every server."""
    stage.around.keys_without = without
    for host in stage.hosts.values():
        host.tell_keys()


def heal(stage: Stage) -> None:
    """Put everything right, and say so: from here on the nodes have no excuse."""
    stage.network.weather = CALM
    stage.network.heal_swizzled(1_000_000)
    for server in stage.stores.values():
        server.disk.full = server.disk.sync_fails = False
        server.mood = Mood()
    for worker in stage.workers.values():
        worker.disk.full = worker.disk.sync_fails = False
    for host in (*stage.hosts.values(), *stage.workers.values()):
        host.armed.clear()
        before_us, drift_before_ppm = host.clock.now(stage.agenda.now_us).utc_us, host.clock.drift_ppm
        host.clock.drift(stage.agenda.now_us, 0)
        host.clock.set_utc(stage.agenda.now_us, true_utc(stage, stage.agenda.now_us), trusted=True)
        note_clock(stage, host, before_us, drift_before_ppm)
        host.set_methods(())
        host.let_go()
    if stage.around.keys_without:
        set_keys(stage, ())
    for name in (*holders(stage.hosts.values()), *stage.workers):
        stage.agenda.after(RESTART_AT_HEAL_US, _machine(stage, name).start)
    stage.trace.add(Phase(stage.agenda.now_us, "", "healed"))


def holders(hosts: Iterable[Host]) -> list[str]:
    """One node for each store: the one that lives there, else the first."""
    chosen: dict[str, Host] = {}
    for host in hosts:
        if host.node.store not in chosen or chosen[host.node.store].life is None:
            chosen[host.node.store] = host
    return [host.name for host in chosen.values()]
