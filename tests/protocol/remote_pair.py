"""Membership and attachments, joined by pipes that lose, double, delay and reorder real frames; both sides crash, links
break. A model stands for execution and the ledger on one side, for executor and outbox on the other, and judges.
"""

import heapq
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Any

from attrs import define, frozen

from sz_protocol.attaching import Forget, Identity, Keep, Kept, Key, WorkerStarted
from sz_protocol.codec import decode, encode
from sz_protocol.kernel.effects import CancelReason, CancelRun, Send, StartRun, StartRuns
from sz_protocol.kernel.events import (
    HandlersChanged,
    LeasedRun,
    LinkChanged,
    MethodInfo,
    Received,
    RemoteHandlersChanged,
    ResultsSettled,
    RunResult,
    RunsAssigned,
    RunsFinished,
    RunsLeftBehind,
    RunsRecovered,
    RunsReturned,
    RunsVanished,
    Started,
    StopAssigned,
    Woke,
)
from sz_protocol.kernel.now import SECOND_US, Now, WakeReason, Wakeup
from sz_protocol.machines.attachment import Attachment
from sz_protocol.machines.membership import Membership
from sz_protocol.messages import TO_HANDLER, TO_HANDLER_SERVER, RunReport
from sz_protocol.ops import Ops
from sz_protocol.records import Outcome, Reason, RunKind
from sz_protocol.settings import Settings

REMOTE = Settings(remote=True)
METHODS = HandlersChanged((MethodInfo("tasks", "work", "async"),), (("async", 16),))
T0_US = 1_700_000_000 * SECOND_US


@frozen
class Weather:
    """How bad it is: chances for each frame, and how often something breaks, in seconds (0: never)."""

    loss: float = 0.0
    copies: float = 0.0
    tail: float = 0.0
    break_every_s: float = 0.0
    cut_every_s: float = 0.0
    worker_dies_every_s: float = 0.0
    server_dies_every_s: float = 0.0
    stubborn: float = 0.0


@define
class Row:
    """One run in the ledger."""

    row: int
    exclusive: bool
    attempt: int = 0
    fence: int = 0
    worker: str = ""
    state: str = "pending"
    """pending | leased | done; what a crash of the server leaves of it."""
    reported: bool = False


@define
class Execution:
    """One handler at work."""

    start: StartRun
    began_us: int
    alive: bool = True


class World:
    """One server, some handlers, one clock."""

    def __init__(self, seed: int, weather: Weather, handlers: int = 2, slots: int = 3) -> None:
        self.rng = Random(seed)
        self.weather = weather
        self.now_us = 1000 * SECOND_US
        self.agenda: list[tuple[int, int, Callable[[], None]]] = []
        self.order = count()
        self.rows: dict[int, Row] = {}
        self.ended: dict[int, str] = {}
        self.executed: dict[Key, Execution] = {}
        self.log: list[str] = []
        self.server = Server(self)
        self.handlers = {f"h{n}": Handler(self, f"h{n}", slots) for n in range(handlers)}
        for every_s, breaks in (
            (weather.break_every_s, self._break_link),
            (weather.cut_every_s, self._cut),
            (weather.worker_dies_every_s, self._kill_worker),
            (weather.server_dies_every_s, self.server.crash),
        ):
            self._again(every_s, breaks)

    @property
    def now(self) -> Now:
        """The one clock."""
        return Now(self.now_us, T0_US + self.now_us)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it later."""
        heapq.heappush(self.agenda, (self.now_us + round(seconds * SECOND_US), next(self.order), action))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        end_us = self.now_us + round(seconds * SECOND_US)
        while self.agenda and self.agenda[0][0] <= end_us and not until():
            at_us, _, action = heapq.heappop(self.agenda)
            self.now_us = max(self.now_us, at_us)
            action()
        if not until():
            self.now_us = end_us

    def carry(self, message: Any, expected: tuple[type, ...], deliver: Callable[[Any], None]) -> None:
        """One frame on its way."""
        weather, data = self.weather, encode(message)
        for _ in range(2 if self.rng.random() < weather.copies else 1):
            if self.rng.random() >= weather.loss:
                late_s = self.rng.expovariate(1 / 3) if self.rng.random() < weather.tail else 0.0
                self.after(0.001 + self.rng.random() * 0.02 + late_s, lambda: deliver(decode(data, expected)))

    def heal(self) -> None:
        """Fair weather from now on."""
        self.weather = Weather()
        for handler in self.handlers.values():
            handler.mute = handler.deaf = False
            handler.set_link(True)

    def _again(self, every_s: float, breaks: Callable[[], None]) -> None:
        if every_s:

            def act() -> None:
                if self.weather != Weather():
                    breaks()
                    self._again(every_s, breaks)

            self.after(self.rng.expovariate(1 / every_s), act)

    def _break_link(self) -> None:
        handler = self.handlers[self.rng.choice(sorted(self.handlers))]
        handler.set_link(False)
        self.after(self.rng.expovariate(1 / 2), lambda: handler.set_link(True))

    def _cut(self) -> None:
        """For a while nothing comes through, one way or both, and nobody is told."""
        handler = self.handlers[self.rng.choice(sorted(self.handlers))]
        to_server, to_handler = self.rng.choice([(True, False), (False, True), (True, True)])
        handler.mute, handler.deaf = to_server, to_handler

        def mend() -> None:
            handler.mute = handler.deaf = False

        self.after(self.rng.expovariate(1 / 12), mend)

    def _kill_worker(self) -> None:
        self.handlers[self.rng.choice(sorted(self.handlers))].crash()


class Node:
    """What both sides are: a machine that is woken."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.life = 0
        self.armed_us = -1

    def rearm(self, wakeup: Wakeup | None, wake: Callable[[], None]) -> None:
        """Wake it when it wants to be."""
        if wakeup is None or wakeup.at_us == self.armed_us:
            return
        at_us, life = wakeup.at_us, self.life
        backlog = wakeup.reason is WakeReason.BACKLOG
        assert at_us > self.world.now_us or backlog, "the next wake-up lies in the future"
        self.armed_us = at_us

        def fire() -> None:
            if life == self.life and self.armed_us == at_us:
                self.armed_us = -1
                wake()

        heapq.heappush(self.world.agenda, (at_us, next(self.world.order), fire))


class Server(Node):
    """Membership under a model of execution with a durable ledger."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.up = False
        self.present: dict[str, int] = {}
        self.addresses: dict[bytes, tuple[str, int]] = {}
        self.machine: Membership
        self.ops = Ops()
        self.start()

    def start(self) -> None:
        """A new life on the same ledger."""
        self.life += 1
        self.up = True
        self.present = {}
        self.ops = Ops(self.life)
        self.machine = Membership(REMOTE, self.ops, Random(self.life))
        self.tell(Started(self.life))
        left = []
        for row in self.world.rows.values():
            row.reported = False
            if row.state == "leased":
                left.append(LeasedRun(row.worker, row.row, row.attempt, row.fence, row.exclusive))
        if left:
            self.tell(RunsLeftBehind(tuple(left)))
        self.tell(RunsRecovered())

    def crash(self) -> None:
        """It is gone, and every connection with it."""
        if not self.up:
            return
        self.up = False
        self.life += 1
        self.world.log.append(f"{self.world.now_us} server dies")
        for handler in self.world.handlers.values():
            handler.set_link(False)
        self.world.after(self.world.rng.uniform(0.5, 6), self._return)

    def _return(self) -> None:
        self.start()
        for handler in self.world.handlers.values():
            self.world.after(self.world.rng.uniform(0, 1), partial(handler.set_link, True))

    def receive(self, sender: bytes, message: Any) -> None:
        """A frame has come."""
        if self.up:
            self.tell(Received(sender, message))

    def tell(self, event: Any) -> None:
        """Feed the machine, and do what follows."""
        for effect in self.machine.handle(event, self.world.now):
            if isinstance(effect, Send):
                name, link = self.addresses[effect.to]
                handler = self.world.handlers[name]
                if handler.deaf:
                    continue
                self.world.carry(effect.message, TO_HANDLER, partial(handler.receive, link))
        outbox, self.machine.outbox[:] = list(self.machine.outbox), []
        for told in outbox:
            self._hear(told)
        self.rearm(self.machine.next_wakeup(self.world.now), lambda: self.tell(Woke()))

    # --- execution ----------------------------------------------------------------------------------------------

    def submit(self, count: int, exclusive: bool = False) -> None:
        """New runs."""
        for _ in range(count):
            number = len(self.world.rows) + 1
            self.world.rows[number] = Row(number, exclusive)
        self._place()

    def stop(self, number: int) -> None:
        """A person cancels a run."""
        row = self.world.rows[number]
        if self.up and row.state == "leased" and not row.reported:
            self.tell_later(partial(self.tell, StopAssigned(row.worker, number, row.attempt, CancelReason.REQUESTED)))

    def tell_later(self, action: Callable[[], None], seconds: float = 0.0) -> None:
        """In this life only."""
        life = self.life
        self.world.after(seconds, lambda: action() if life == self.life and self.up else None)

    def _place(self) -> None:
        if not self.up:
            return
        used = dict.fromkeys(self.present, 0)
        for row in self.world.rows.values():
            if row.state == "leased" and row.worker in used:
                used[row.worker] += 1
        starts: dict[str, list[StartRun]] = {}
        for row in self.world.rows.values():
            free = [name for name, slots in self.present.items() if used[name] < slots]
            if row.state != "pending" or not free:
                continue
            row.worker = self.world.rng.choice(free)
            used[row.worker] += 1
            row.attempt += 1
            row.fence, row.state, row.reported = self.ops.next_claim(), "leased", False
            starts.setdefault(row.worker, []).append(_start(row))
        for worker, runs in starts.items():
            self.tell_later(partial(self.tell, RunsAssigned(worker, tuple(runs))), 0.002)

    def _hear(self, told: Any) -> None:
        match told:
            case RemoteHandlersChanged(pools=pools):
                self.present = {name.removeprefix("worker:"): size for name, size in pools if size}
            case RunsFinished(results=results):
                for result in results:
                    self._on_result(result)
            case RunsReturned(runs=runs):
                for row, attempt in runs:
                    self._give_back(row, attempt, attempt - 1)
            case RunsVanished(runs=runs):
                for row, attempt in runs:
                    self._give_back(row, attempt, attempt)
        self.tell_later(self._place, 0.1)

    def _on_result(self, result: RunResult) -> None:
        key, row = (result.row, result.attempt), self.world.rows[result.row]
        assert row.state == "leased", "a run without a lease has a result"
        assert row.attempt == result.attempt, "RUN-2"
        assert not row.reported, "MEMB-8: told twice"
        assert key in self.world.executed, "a result of what was never executed"
        assert result.result in (None, f'"{result.row}/{result.attempt}"'), "another run's result"
        row.reported = True

        def settle() -> None:
            again = result.outcome is Outcome.CANCELLED and result.reason in (Reason.CUT_OFF, Reason.SHUTDOWN)
            row.state = "pending" if again else "done"
            if not again:
                assert result.row not in self.world.ended, "RUN-1: a run ended twice"
                self.world.ended[result.row] = result.outcome
            self.tell(ResultsSettled((key,)))
            self._place()

        self.tell_later(settle, self.world.rng.uniform(0.001, 0.05))

    def _give_back(self, number: int, attempt: int, start_from: int) -> None:
        row = self.world.rows[number]
        if row.state == "leased" and row.attempt == attempt:
            row.state, row.attempt = "pending", start_from


class Handler(Node):
    """An attachment under a model of executor and outbox."""

    def __init__(self, world: World, name: str, slots: int) -> None:
        super().__init__(world)
        self.name = name
        self.slots = slots
        self.up = False
        self.link = 0
        self.linked = False
        self.mute = False
        self.deaf = False
        self.outbox: dict[Key, RunReport] = {}
        self.at_work: dict[Key, Execution] = {}
        self.machine: Attachment
        self.start()

    def start(self) -> None:
        """A new life with the outbox of the last."""
        self.life += 1
        self.up = True
        identity = Identity(self.name, self.world.rng.getrandbits(62) + 1, self.slots)
        self.machine = Attachment(identity, Random(self.world.rng.getrandbits(32)))
        self.tell(WorkerStarted(tuple(self.outbox.values())))
        self.tell(METHODS)
        self.set_link(True)

    def crash(self) -> None:
        """It is gone, with everything that it executes."""
        if not self.up:
            return
        self.world.log.append(f"{self.world.now_us} {self.name} dies")
        self.set_link(False)
        self.up = False
        self.life += 1
        for execution in self.at_work.values():
            execution.alive = False
        self.at_work.clear()
        self.world.after(self.world.rng.uniform(0.5, 4), self.start)

    def set_link(self, up: bool) -> None:
        """The connection comes or goes; each has an address of its own."""
        if not self.up or up == self.linked or (up and not self.world.server.up):
            return
        self.linked = up
        if up:
            self.link += 1
            self.world.server.addresses[self._address()] = (self.name, self.link)
        self.tell(LinkChanged(up))

    def _address(self) -> bytes:
        return f"{self.name}/{self.link}".encode()

    def receive(self, link: int, message: Any) -> None:
        """A frame has come, over this connection or, late, over an older one."""
        if self.up and self.linked and (link == self.link or self.world.rng.random() < 0.5):
            self.tell(Received(b"", message))

    def tell(self, event: Any) -> None:
        """Feed the machine, and do what follows."""
        if not self.up:
            return
        for effect in self.machine.handle(event, self.world.now):
            match effect:
                case Send(message=message) if not self.mute:
                    receive = partial(self.world.server.receive, self._address())
                    self.world.carry(message, TO_HANDLER_SERVER, receive)
                case StartRuns(runs=runs):
                    for start in runs:
                        self._begin(start)
                case CancelRun(row=row, attempt=attempt, reason=reason):
                    self._cancel((row, attempt), reason)
                case Keep():
                    self._keep(effect)
                case Forget(keys=keys):
                    for key in keys:
                        self.outbox.pop(key, None)
                case _:
                    pass
        self.rearm(self.machine.next_wakeup(self.world.now), lambda: self.tell(Woke()))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        life = self.life
        self.world.after(seconds, lambda: action() if life == self.life else None)

    def _keep(self, keep: Keep) -> None:
        def kept() -> None:
            self.outbox.update({(report.row, report.attempt): report for report in keep.reports})
            self.tell(Kept(keep.op))

        self._later(self.world.rng.uniform(0.001, 0.01), kept)

    def _begin(self, start: StartRun) -> None:
        key = start.row, start.attempt
        others = [e for other in self.world.handlers.values() for e in other.at_work.values()]
        assert key not in self.world.executed, f"ATT-2: attempt {key} was executed twice"
        if start.exclusive:
            assert all(e.start.row != start.row for e in others), "ATT-7: an exclusive run executes twice at once"
        assert all(k[0] != start.row for k in self.at_work), "ATT-3: two attempts at once in one process"
        assert len(self.at_work) < self.slots, "ATT-6: more than the slots"
        execution = Execution(start, self.world.now_us)
        self.world.executed[key] = self.at_work[key] = execution
        rng = self.world.rng
        lasts_s = rng.uniform(5, 30) if rng.random() < 0.15 else rng.expovariate(1 / 2)
        self._later(lasts_s, lambda: self._end(key, Outcome.SUCCEEDED, ""))

    def _cancel(self, key: Key, reason: CancelReason) -> None:
        stubborn = self.world.rng.random() < self.world.weather.stubborn
        exclusive = key in self.at_work and self.at_work[key].start.exclusive
        if not stubborn or exclusive:
            self._later(0.05, lambda: self._end(key, Outcome.CANCELLED, reason.value))

    def _end(self, key: Key, outcome: Outcome, reason: str) -> None:
        execution = self.at_work.pop(key, None)
        if execution is not None:
            result = f'"{key[0]}/{key[1]}"' if outcome is Outcome.SUCCEEDED else None
            began_us, now = T0_US + execution.began_us, self.world.now
            self.tell(RunsFinished((RunResult(*key, outcome, reason, began_us, now.utc_us, result),)))


def _start(row: Row) -> StartRun:
    return StartRun(
        row=row.row,
        run_id=f"{row.row:032x}",
        schedule_id="",
        kind=RunKind.MANUAL,
        handler_id="h",
        method="work",
        params={},
        fire_us=T0_US,
        attempt=row.attempt,
        fence=row.fence,
        deadline_us=None,
        labels={},
        exclusive=row.exclusive,
    )
