"""A whole node for benchmarks: real driver, real executor, real clock; only the store varies."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from attrs import define

from sz_protocol.commands import Applied, Apply
from sz_protocol.definition import Definition
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.notices import Notice, RunsRecorded
from sz_protocol.records import RunState
from sz_protocol.settings import Settings
from sz_protocol.triggers import Interval
from sz_runtime.driver import Driver
from sz_runtime.executor import HandlerExecutor
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.interpreter import tune_interpreter
from sz_runtime.ports import Store
from sz_runtime.running import running_node
from sz_shells.clocks.boot import BootClock

HOUR_US = 3600 * SECOND_US
_DONE = RunState.DONE  # bound once: what measures must not cost


async def noop() -> None:
    """The job of every benchmark."""


def spin(until_s: float) -> None:
    """A plain function that never lets go of the interpreter by itself."""
    while time.time() < until_s:
        pass


@define
class Outcomes:
    """Counts outcomes as they become durable, and remembers when the wanted number was reached."""

    wanted: int
    count: int = 0
    reached_at: float = 0.0

    def __call__(self, notice: Notice) -> None:
        """Take one notice."""
        if isinstance(notice, RunsRecorded):
            self.count += [run.state for run in notice.runs].count(_DONE)
            if self.count >= self.wanted and not self.reached_at:
                self.reached_at = time.time()


def registry() -> LocalHandlerRegistry:
    """One handler: a no-op, and one that keeps a thread busy."""
    handlers = LocalHandlerRegistry()
    handlers.register("bench", noop, ["noop"])
    handlers.register("bench", spin, ["spin"])
    return handlers


def due_once(count: int, at_us: int) -> tuple[Definition, ...]:
    """Interval schedules that are all due at one instant, and then not for an hour."""
    trigger = Interval(HOUR_US, anchor_us=at_us)
    return tuple(Definition(f"s{n:07d}", "bench", "noop", trigger) for n in range(count))


@asynccontextmanager
async def node(
    store: Store, observers: Sequence[Outcomes] = (), *, backend: str = "asyncio", settings: Settings | None = None
) -> AsyncIterator[Driver]:
    """A running node on `store`, in a process tuned as `schedulezero run` does it."""
    tune_interpreter()
    clock = BootClock()
    executor = HandlerExecutor(registry(), clock, backend=backend)
    async with running_node(store, executor, clock, observers=observers, settings=settings) as driver:
        yield driver


async def apply(driver: Driver, definitions: tuple[Definition, ...]) -> None:
    """Add schedules; anything but success is an error of the benchmark."""
    answer = await driver.ask(Apply(definitions))
    assert isinstance(answer, Applied), answer
    assert not answer.refused, answer.refused


async def until(outcomes: Outcomes, timeout_s: float) -> None:
    """Wait for the wanted number of outcomes."""
    with anyio.fail_after(timeout_s):
        while not outcomes.reached_at:
            await anyio.sleep(0.005)
