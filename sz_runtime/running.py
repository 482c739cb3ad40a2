"""A node at work: opens its ports, drives it, and takes everything down again in reverse order."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random, SystemRandom

import anyio
import anyio.to_thread

from sz_protocol.kernel.now import SECOND_US
from sz_protocol.node import Node
from sz_protocol.settings import Settings
from sz_runtime.driver import Driver
from sz_runtime.machine_loop import Observer
from sz_runtime.ports import Clock, Executor, Store

CLOSE_S = 5.0


@asynccontextmanager
async def running_node(
    store: Store,
    executor: Executor,
    clock: Clock,
    *,
    settings: Settings | None = None,
    observers: Sequence[Observer] = (),
    rng: Random | None = None,
    grace_s: float = 10.0,
) -> AsyncIterator[Driver]:
    """Run a node for the time of the `async with` block, on whatever backend this is.

    Raises StoreError when the store cannot be had. On the way out the node drains for at most `grace_s`: nothing new
    starts, executing handlers may end, outcomes are written. The block may end early when the node steps down:
    `driver.ended` tells.
    """
    node = Node(settings or Settings(), rng or Random(SystemRandom().getrandbits(64)))
    driver = Driver(node, store, executor, clock, observers)
    opened = await anyio.to_thread.run_sync(store.open, driver.complete)
    try:
        executor.open(driver.complete)
        try:
            async with anyio.create_task_group() as tasks:
                await tasks.start(driver.run, opened)
                try:
                    yield driver
                finally:
                    driver.stop(int(grace_s * SECOND_US))
                    # Leave by the drain, not by cancellation: outcomes are still to be written.
                    with anyio.CancelScope(shield=True):
                        await driver.ended.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(executor.close, CLOSE_S)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(store.close)
