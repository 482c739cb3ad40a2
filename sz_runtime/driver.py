"""The driver: one task owns a node, and performs what it orders on the ports of its process."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import anyio
from anyio.abc import TaskStatus

from sz_protocol.commands import Answer, Command, Refusal, RefusalCode
from sz_protocol.kernel.effects import CancelRun, Effect, Publish, Read, Reply, Send, StartRuns, Stop, Write
from sz_protocol.kernel.events import Commanded, Event, HandlersChanged, Started
from sz_protocol.kernel.now import Now, Wakeup
from sz_runtime.machine_loop import MachineLoop, Observer
from sz_runtime.orders import Orders
from sz_runtime.ports import Clock, Executor, Link, Opened, Store


class DrivenNode(Protocol):
    """What the driver needs of a node: the interface of a machine."""

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact."""
        ...

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """When to wake it."""
        ...


class Driver(MachineLoop[Event, Effect]):
    """Runs one node on its ports. `run` it in a task; `ask` and `stop` from any task of the same loop."""

    def __init__(
        self, node: DrivenNode, store: Store, executor: Executor, clock: Clock, observers: Sequence[Observer] = ()
    ) -> None:
        super().__init__(node, clock)
        self.node = node
        self._store = store
        self._executor = executor
        self._orders = Orders(executor)
        self._observers = tuple(observers)
        self._link: Link | None = None
        self._answers: dict[int, Callable[[Answer], None]] = {}
        self._request_ids = itertools.count(1)

    async def run(self, opened: Opened, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Drive the node from its start until it has drained.

        Store and executor are open already and were given `complete`; the caller closes them afterwards.
        """
        self._inbox.bind()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._clock.run, self._inbox.wake)
                self._handle(Started(opened.term, opened.high_water_us), self._clock.now())
                self.handlers_changed()
                task_status.started()
                await self._loop()
                tasks.cancel_scope.cancel()
        finally:
            self._stopped = True
            self._refuse_open_requests()
            self.ended.set()

    def _refuse_open_requests(self) -> None:
        gone = Refusal(RefusalCode.STOPPING, "the node has stopped")
        for take in list(self._answers.values()):
            take(gone)

    def handlers_changed(self) -> None:
        """Tell the node what the executor can do now."""
        methods, pools = self._executor.methods()
        self._inbox.post([HandlersChanged(methods, pools)])

    @contextmanager
    def linked(self, link: Link) -> Iterator[None]:
        """Send messages through this link for the time of the block; without one they are lost, as on any link."""
        self._link = link
        try:
            yield
        finally:
            self._link = None

    async def ask(self, command: Command) -> Answer:
        """Put a command to the node and wait for its answer."""
        if self._stopped:
            return Refusal(RefusalCode.STOPPING, "the node has stopped")
        answered = anyio.Event()
        answers: list[Answer] = []

        def take(answer: Answer) -> None:
            answers.append(answer)
            answered.set()

        request_id = next(self._request_ids)
        self._answers[request_id] = take
        try:
            self._inbox.post([Commanded(request_id, command)])
            await answered.wait()
        finally:
            self._answers.pop(request_id, None)
        return answers[0]

    def _turn_over(self) -> None:
        self._orders.turn_over()
        if self._link is not None:
            self._link.flush()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Write() | Read():
                self._store.submit(effect)
            case StartRuns() | CancelRun():
                self._orders.submit(effect)
            case Send():
                if self._link is not None:
                    self._link.submit(effect)
            case Publish(notice=notice):
                for observe in self._observers:
                    observe(notice)
            case Reply(request_id=request_id, answer=answer):
                take = self._answers.get(request_id)
                if take is not None:
                    take(answer)
            case Stop():
                self._stopped = True
