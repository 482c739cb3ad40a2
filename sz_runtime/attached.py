"""A handler's process at work: opens its ports, drives its attachment, and takes everything down again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus

from sz_protocol.attaching import Effect, Forget, Keep, WorkerStarted
from sz_protocol.kernel.effects import CancelRun, Publish, Send, StartRuns, Stop
from sz_protocol.kernel.events import HandlersChanged
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.attachment import Attachment
from sz_protocol.messages import RunReport
from sz_runtime.machine_loop import MachineLoop, Observer
from sz_runtime.orders import Orders
from sz_runtime.ports import Clock, Executor, Link, Outbox

CLOSE_S = 5.0
LAST_WORDS_S = 0.1
"""What was said last, the good-bye, gets so long to leave."""


class AttachedDriver(MachineLoop[Any, Effect]):
    """Runs one attachment on its ports, which know more kinds of events than concern it."""

    def __init__(
        self,
        attachment: Attachment,
        link: Link,
        outbox: Outbox,
        executor: Executor,
        clock: Clock,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(attachment, clock)
        self.attachment = attachment
        self._link = link
        self._outbox = outbox
        self._executor = executor
        self._orders = Orders(executor)
        self._observers = tuple(observers)
        self._spoke = False

    async def run(
        self, kept: tuple[RunReport, ...], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Drive it from its start until it has drained. Outbox and executor are open already and were given `complete`;
        the caller closes them afterwards. Raises LinkError."""
        self._inbox.bind()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._clock.run, self._inbox.wake)
                self._handle(WorkerStarted(kept), self._clock.now())
                self._inbox.post([HandlersChanged(*self._executor.methods())])
                await tasks.start(self._link.run, self.complete)
                task_status.started()
                await self._loop()
                if self._spoke:
                    await anyio.sleep(LAST_WORDS_S)
                tasks.cancel_scope.cancel()
        finally:
            self._stopped = True
            self.ended.set()

    def _turn_over(self) -> None:
        self._orders.turn_over()
        self._link.flush()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StartRuns() | CancelRun():
                self._orders.submit(effect)
            case Send():
                self._spoke = True
                self._link.submit(effect)
            case Keep() | Forget():
                self._outbox.submit(effect)
            case Publish(notice=notice):
                for observe in self._observers:
                    observe(notice)
            case Stop():
                self._stopped = True


@asynccontextmanager
async def running_attachment(
    attachment: Attachment,
    link: Link,
    outbox: Outbox,
    executor: Executor,
    clock: Clock,
    *,
    observers: Sequence[Observer] = (),
    grace_s: float = 10.0,
) -> AsyncIterator[AttachedDriver]:
    """Run an attachment for the time of the `async with` block, on whatever backend this is.

    Raises StoreError when the outbox cannot be had, LinkError when the link cannot be made. On the way out it drains
    for at most `grace_s`. The block may end early by `driver.stop`: `driver.ended` tells.
    """
    driver = AttachedDriver(attachment, link, outbox, executor, clock, observers)
    kept = await anyio.to_thread.run_sync(outbox.open, driver.complete)
    try:
        executor.open(driver.complete)
        try:
            async with anyio.create_task_group() as tasks:
                await tasks.start(driver.run, kept)
                try:
                    yield driver
                finally:
                    driver.stop(int(grace_s * SECOND_US))
                    # Leave by the drain, not by cancellation: results are still to be kept.
                    with anyio.CancelScope(shield=True):
                        await driver.ended.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(executor.close, CLOSE_S)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(outbox.close)
