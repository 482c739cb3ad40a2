"""A real driver, executor and memory store on a clock that the test moves."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

from sz_protocol.commands import Applied, Apply
from sz_protocol.definition import Definition
from sz_protocol.kernel.now import Now
from sz_protocol.notices import Notice
from sz_protocol.queries import RunsPage
from sz_protocol.records import Run, RunState
from sz_protocol.settings import Settings
from sz_runtime.driver import Driver
from sz_runtime.executor import HandlerExecutor
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.running import running_node
from sz_shells.stores.memory import MemoryStore

MIDNIGHT_US = 1_790_000_000_000_000 - 1_790_000_000_000_000 % 86_400_000_000
SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000


class HandClock:
    """A Clock whose time stands still until the test moves it."""

    def __init__(self, utc_us: int = MIDNIGHT_US, *, trusted: bool = True) -> None:
        self.mono_us = 1_000 * SECOND
        self.utc_us = utc_us
        self.trusted = trusted
        self._armed_us: int | None = None
        self._wake: Callable[[], None] = lambda: None

    def now(self) -> Now:
        """The time as the test has set it."""
        return Now(self.mono_us, self.utc_us, self.trusted)

    def arm(self, at_us: int | None) -> None:
        """Wake when the test moves past `at_us`."""
        self._armed_us = at_us

    async def run(self, wake: Callable[[], None]) -> None:
        """Serve until cancelled."""
        self._wake = wake
        await anyio.sleep_forever()

    def move(self, elapsed_us: int, *, step_us: int = 0) -> None:
        """Let time pass, and step the wall clock besides."""
        self.mono_us += elapsed_us
        self.utc_us += elapsed_us + step_us
        if self._armed_us is not None and self.mono_us >= self._armed_us:
            self._armed_us = None
            self._wake()


class Bench:
    """What the tests look at."""

    def __init__(self, driver: Driver, store: MemoryStore, clock: HandClock, notices: list[Notice]) -> None:
        self.driver = driver
        self.store = store
        self.clock = clock
        self.notices = notices

    async def settle(self) -> None:
        """Let everything that is possible at this instant happen: until the ledger is at rest for a while."""
        quiet, seen = 0, -1
        with anyio.fail_after(10):
            while quiet < 5:
                await anyio.sleep(0.005)
                rows = self.rows()
                done = sum(run.state is RunState.DONE for run in rows)
                quiet = quiet + 1 if done == seen and done == len(rows) else 0
                seen = done

    async def pass_time(self, seconds: float, *, every: float = 1.0, drift_ppm: int = 0) -> None:
        """Let time pass in small steps, as a real clock does."""
        for _ in range(int(seconds / every)):
            step_us = int(every * SECOND)
            self.clock.move(step_us, step_us=step_us * drift_ppm // 1_000_000)
            await anyio.sleep(0.002)
        await self.settle()

    def rows(self, schedule_id: str | None = None) -> tuple[Run, ...]:
        """The ledger, oldest first."""
        found: tuple[Run, ...] = self.store.query(RunsPage(limit=100_000, schedule_id=schedule_id))
        return found[::-1]

    def fired(self, schedule_id: str) -> list[int]:
        """The fire times that were executed."""
        return [run.fire_us for run in self.rows(schedule_id) if run.attempt]


async def noop() -> None:
    """The job."""


@asynccontextmanager
async def bench(
    backend: str, definitions: Sequence[Definition], clock: HandClock | None = None, settings: Settings | None = None
) -> AsyncIterator[Bench]:
    """A running node with these schedules."""
    clock = clock or HandClock()
    handlers = LocalHandlerRegistry()
    handlers.register("h", noop, ["m"])
    store, notices = MemoryStore(), list[Notice]()
    executor = HandlerExecutor(handlers, clock, backend=backend)
    async with running_node(store, executor, clock, observers=[notices.append], settings=settings) as driver:
        answer = await driver.ask(Apply(tuple(definitions)))
        assert isinstance(answer, Applied), answer
        made = Bench(driver, store, clock, notices)
        await made.settle()
        yield made
