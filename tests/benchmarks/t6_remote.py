"""T6: a no-op that a remote worker executes, there and back: one at a time, and a hundred in flight.

Ours goes the whole way: a command to the node, a row in the ledger, the claim, ZeroMQ over TCP, the worker's executor
and its outbox, and back until the outcome is stored. Beside it: two blocking pyzmq sockets that echo as many bytes.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import zmq

from sz_protocol.commands import Done, ListHandlers, RunNow
from sz_protocol.kernel.events import KeysChanged
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.notices import Notice, RunsRecorded
from sz_protocol.records import RunState
from sz_protocol.settings import Settings
from sz_runtime.driver import Driver
from sz_runtime.executor import HandlerExecutor
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.interpreter import tune_interpreter
from sz_runtime.ports import Store
from sz_runtime.running import running_node
from sz_shells.clocks.boot import BootClock
from sz_shells.links.zmq.registration_link import RegistrationLink
from sz_shells.stores.memory import MemoryStore
from sz_shells.stores.sqlite import SqliteStore
from tests.benchmarks.peers import run_peer_round_trips
from tests.benchmarks.rig import apply, due_once
from tests.benchmarks.table import Row

WORKER = "bench"
IN_FLIGHT = 100
ALONE, TOGETHER = "one at a time", f"{IN_FLIGHT} in flight"
DUE = f"{IN_FLIGHT} in flight, of schedules that are due"
HANDLERS = "from sz_runtime.handlers import register_local\n\n@register_local('bench')\nasync def noop():\n    pass\n"


class Finished:
    """Wakes whoever waits for a run, once its outcome is stored."""

    def __init__(self) -> None:
        self._waiting: dict[str, anyio.Event] = {}
        self._early: dict[str, None] = {}
        self.scheduled = 0
        """How many runs of schedules are over."""

    def __call__(self, notice: Notice) -> None:
        """Take one notice."""
        if isinstance(notice, RunsRecorded):
            for run in notice.runs:
                if run.state is RunState.DONE and run.schedule_id:
                    self.scheduled += 1
                elif run.state is RunState.DONE:
                    waiting = self._waiting.pop(run.run_id, None)
                    if waiting is None:
                        self._early[run.run_id] = None
                    else:
                        waiting.set()

    async def wait(self, run_id: str) -> None:
        """Until that run is over."""
        if run_id in self._early:
            del self._early[run_id]
            return
        self._waiting[run_id] = event = anyio.Event()
        await event.wait()


@asynccontextmanager
async def _remote(store: Store, folder: Path, outbox: str) -> AsyncIterator[tuple[Driver, Finished]]:
    """A node that remote handlers register with, and one worker in a process of its own."""
    tune_interpreter()
    clock, finished = BootClock(), Finished()
    executor = HandlerExecutor(LocalHandlerRegistry(), clock)
    link = RegistrationLink("tcp://127.0.0.1:*")
    (folder / "bench_handlers.py").write_text(HANDLERS)
    async with (
        running_node(store, executor, clock, observers=[finished], settings=Settings(remote=True)) as driver,
        anyio.create_task_group() as tasks,
    ):
        driver.complete([KeysChanged(None)])
        await tasks.start(link.run, driver.complete)
        command = [
            *(sys.executable, "-m", "sz_shells.cli.main", "worker", "--server", link.endpoint),
            *("--handler-id", WORKER, "--modules", "bench_handlers", "--concurrency", str(IN_FLIGHT)),
            *("--outbox", outbox),
        ]
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}
        worker = subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            with driver.linked(link):
                with anyio.fail_after(30):
                    while not getattr(await driver.ask(ListHandlers()), "handlers", ()):
                        await anyio.sleep(0.05)
                yield driver, finished
        finally:
            worker.kill()
            worker.wait()
            tasks.cancel_scope.cancel()


async def _due(driver: Driver, finished: Finished, count: int) -> float:
    """Round trips a second of schedules that all become due at one instant."""
    at_us = (time.time_ns() // 1_000_000_000 + 3) * SECOND_US
    await apply(driver, due_once(count, at_us))
    await anyio.sleep(max(0.0, at_us / 1e6 - time.time()))
    with anyio.fail_after(300):
        while finished.scheduled < count:
            await anyio.sleep(0.005)
    return count / (time.time() - at_us / 1e6)


Ours = tuple[list[float], float, float]


async def _ours(make: Callable[[Path], Store], outbox: str, alone: int, together: int) -> Ours:
    """Round trips one at a time, in ms; and round trips a second with many in flight: by commands, and by schedules."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with _remote(make(folder), folder, outbox) as (driver, finished):
            times: list[float] = []
            keys = iter(range(1 << 30))

            async def trip() -> None:
                answer = await driver.ask(RunNow(WORKER, "noop", str(next(keys))))
                assert isinstance(answer, Done), answer
                await finished.wait(answer.detail)

            for number in range(alone + 50):
                began = time.perf_counter()
                await trip()
                if number >= 50:
                    times.append((time.perf_counter() - began) * 1000)
            left = iter(range(together))

            async def many() -> None:
                for _ in left:
                    await trip()

            began = time.perf_counter()
            async with anyio.create_task_group() as clients:
                for _ in range(IN_FLIGHT):
                    clients.start_soon(many)
            rate = together / (time.perf_counter() - began)
            return times, rate, await _due(driver, finished, together)


def _pyzmq(size: int = 200, alone: int = 3000, together: int = 60_000) -> tuple[list[float], float]:
    """The limit: two blocking sockets that echo."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")

    def echo() -> None:
        while True:
            frames = router.recv_multipart()
            if frames[1] == b"":
                return
            router.send_multipart(frames)

    server = threading.Thread(target=echo)
    server.start()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(f"tcp://127.0.0.1:{port}")
    data, times = b"x" * size, []
    for _ in range(alone):
        began = time.perf_counter()
        dealer.send(data)
        dealer.recv()
        times.append((time.perf_counter() - began) * 1000)
    began = time.perf_counter()
    for number in range(together + IN_FLIGHT):
        if number < together:
            dealer.send(data)
        if number >= IN_FLIGHT:
            dealer.recv()
    rate = together / (time.perf_counter() - began)
    dealer.send(b"")
    server.join()
    context.destroy(linger=0)
    return times, rate


def _rows(who: str, times: list[float], rate: float) -> list[Row]:
    times.sort()
    return [
        Row("T6", ALONE, who, statistics.median(times), "ms p50", higher=False),
        Row("T6", ALONE, who, times[int(len(times) * 0.99)], "ms p99", higher=False),
        Row("T6", TOGETHER, who, rate, "round trips/s"),
    ]


def _ours_rows(who: str, times: list[float], rate: float, due: float) -> list[Row]:
    return [*_rows(who, times, rate), Row("T6", DUE, who, due, "round trips/s")]


def run(alone: int = 1000, together: int = 20_000) -> list[Row]:
    """All rows of T6."""
    rows = _rows("limit: blocking pyzmq echo", *_pyzmq())
    for backend in ("asyncio", "trio"):
        memory = anyio.run(_ours, lambda folder: MemoryStore(), "memory", alone, together, backend=backend)
        rows += _ours_rows(f"schedulezero, memory, {backend}", *memory)
    durable = anyio.run(_ours, lambda folder: SqliteStore(folder / "ledger.db"), "worker.outbox", alone, together)
    rows += _ours_rows("schedulezero, SQLite FULL and a durable outbox, asyncio", *durable)
    for who, times, rate in run_peer_round_trips(alone, together // 4):
        rows += _rows(who, times, rate)
    return rows


if __name__ == "__main__":
    from tests.benchmarks.table import render

    print(render(run()))
