"""T4: how late do handlers start? 1,000 fires a second, spread over the second, memory store."""

import sys
import time

import anyio

from sz_protocol.definition import Definition
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.triggers import Interval
from sz_runtime.executor import HandlerExecutor
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.interpreter import tune_interpreter
from sz_runtime.run_context import RunContext
from sz_runtime.running import running_node
from sz_shells.clocks.boot import BootClock
from sz_shells.stores.memory import MemoryStore
from tests.benchmarks.peers import run_peer_lateness
from tests.benchmarks.rig import apply
from tests.benchmarks.table import Row

RATE = 1000


def run(seconds: int = 60, backends: tuple[str, ...] = ("asyncio", "trio")) -> list[Row]:
    """All rows of T4."""
    rows: list[Row] = []
    work = f"{RATE} fires/s for {seconds} s"
    for backend in backends:
        p50, p99, missed = anyio.run(_ours, seconds, backend, backend=backend)
        rows.append(Row("T4", work, f"schedulezero, {backend}", p50, "ms p50", higher=False))
        rows.append(Row("T4", work, f"schedulezero, {backend}", p99, "ms p99", higher=False))
        rows.append(Row("T4", work, f"schedulezero, {backend}", missed, "instants not run", higher=False))
    for who, (p50, p99) in run_peer_lateness(min(seconds, 20)):
        rows.append(Row("T4", work, who, p50, "ms p50", higher=False))
        rows.append(Row("T4", work, who, p99, "ms p99", higher=False))
    return rows


async def _ours(seconds: int, backend: str) -> tuple[float, float, float]:
    late_us: list[int] = []

    async def stamp(run: RunContext) -> None:
        late_us.append(time.time_ns() // 1000 - run.fire_us)

    handlers = LocalHandlerRegistry()
    handlers.register("bench", stamp, ["stamp"])
    clock = BootClock()
    executor = HandlerExecutor(handlers, clock, backend=backend)
    start_us = (int(time.time()) + 3) * SECOND_US
    tune_interpreter()
    definitions = tuple(
        Definition(
            f"s{n:04d}",
            "bench",
            "stamp",
            Interval(SECOND_US, anchor_us=start_us + n * SECOND_US // RATE, start_us=start_us),
        )
        for n in range(RATE)
    )
    async with running_node(MemoryStore(), executor, clock) as driver:
        await apply(driver, definitions)
        await anyio.sleep(max(0.0, start_us / 1e6 - time.time()) + seconds)
    late_us.sort()
    expected = RATE * seconds
    p50, p99 = late_us[len(late_us) // 2] / 1000, late_us[int(len(late_us) * 0.99)] / 1000
    return p50, p99, float(max(0, expected - len(late_us)))


if __name__ == "__main__":
    from tests.benchmarks.table import render

    print(render(run(int(sys.argv[1]) if len(sys.argv) > 1 else 10)))
