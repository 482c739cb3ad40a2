"""The driver: one task owns a node, takes events, performs effects in order, sleeps until the next wake-up.

The same code runs on asyncio and on trio. Completions come back as events through a mailbox, never re-entrantly.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from sz_protocol.commands import Answer, Command, Refusal, RefusalCode
from sz_protocol.kernel.effects import CancelRun, Effect, Publish, Read, Reply, Send, StartRuns, Stop, Write
from sz_protocol.kernel.events import Commanded, Event, HandlersChanged, Started, StopRequested, Woke
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.notices import Notice
from sz_runtime.mailbox import Mailbox
from sz_runtime.ports import Clock, Executor, Link, Opened, Store

MAX_SLEEP_US = 30_000_000
"""No sleep is longer, so that a suspend or a step of the clock is noticed."""

EVENTS_PER_TURN, TURN_US = 64, 2_500
"""How many events are taken, and for how long, before other tasks of this loop get their turn."""

Observer = Callable[[Notice], None]


class DrivenNode(Protocol):
    """What the driver needs of a node: the interface of a machine."""

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact."""
        ...

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """When to wake it."""
        ...


class Driver:
    """Runs one node on its ports. `run` it in a task; `ask` and `stop` from any task of the same loop."""

    def __init__(
        self, node: DrivenNode, store: Store, executor: Executor, clock: Clock, observers: Sequence[Observer] = ()
    ) -> None:
        self.node = node
        self._store = store
        self._executor = executor
        self._clock = clock
        self._observers = tuple(observers)
        self._link: Link | None = None
        self._inbox: Mailbox[Event] = Mailbox()
        self._answers: dict[int, Callable[[Answer], None]] = {}
        self._request_ids = itertools.count(1)
        self._stopped = False
        self.ended = anyio.Event()
        """Set when the node has drained or stepped down, and the driver with it."""
        self.loop_lag_us = 0
        """How late the last wake-up came: the lag of the protocol's own event loop."""

    def complete(self, events: Sequence[Event]) -> None:
        """Hand in completions; from any thread. This is the `Complete` of the ports."""
        self._inbox.post(events)

    async def run(self, opened: Opened, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Drive the node from its start until it has drained.

        Store and executor are open already and were given `complete`; the caller closes them afterwards.
        """
        self._inbox.bind()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._clock.run, self._inbox.wake)
                self._handle(Started(opened.term, opened.high_water_us))
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

    def stop(self, grace_us: int) -> None:
        """Ask the node to drain: `run` returns when it has."""
        self._inbox.post([StopRequested(grace_us)])

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

    async def _loop(self) -> None:
        inbox, clock, node = self._inbox, self._clock, self.node
        while True:
            until_us = clock.now().mono_us + TURN_US
            now = self._take_events(until_us)
            if self._stopped:
                return
            wakeup = node.next_wakeup(now)
            if wakeup is not None and (wakeup.reason is WakeReason.BACKLOG or wakeup.at_us <= now.mono_us):
                if now.mono_us > until_us:
                    await anyio.lowlevel.checkpoint()
                self._handle(Woke())
                await anyio.lowlevel.checkpoint()
                continue
            if inbox:
                await anyio.lowlevel.checkpoint()
                continue
            limit_us = now.mono_us + MAX_SLEEP_US
            at_us = limit_us if wakeup is None else min(wakeup.at_us, limit_us)
            clock.arm(at_us)
            await inbox.wait()
            late_us = clock.now().mono_us - at_us
            if late_us >= 0:
                self.loop_lag_us = late_us
                self._handle(Woke())

    def _take_events(self, until_us: int) -> Now:
        """Handle what is in the inbox, for one turn at most; returns the time after it."""
        inbox, clock = self._inbox, self._clock
        now = clock.now()
        taken = 0
        while inbox and taken < EVENTS_PER_TURN and now.mono_us <= until_us:
            self._handle(inbox.drain(1)[0])
            now = clock.now()
            taken += 1
        return now

    def _handle(self, event: Event) -> None:
        for effect in self.node.handle(event, self._clock.now()):
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Write() | Read():
                self._store.submit(effect)
            case StartRuns() | CancelRun():
                self._executor.submit(effect)
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
