"""How many no-op runs a second does the executor carry, from `submit` to `RunsFinished`? (T1, without the core.)

python -m tests.benchmarks.executor_probe [--runs 200000] [--batch 256]

Also: how long a single run takes from `submit` to its start and to its result, and how long another event loop's
task stalls while a plain handler burns CPU in its thread, for several settings of the interpreter's switch interval.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from sz_protocol.kernel.effects import StartRun, StartRuns
from sz_protocol.kernel.events import Event, RunsFinished
from sz_protocol.records import RunKind
from sz_runtime.executor import HandlerExecutor, limit_thread_stalls
from sz_runtime.handlers import LocalHandlerRegistry
from sz_shells.clocks.boot import BootClock

IN_FLIGHT = 32


async def nothing() -> None:
    """A handler that does nothing."""


def nothing_plain() -> None:
    """A plain handler that does nothing."""


async def one_turn() -> None:
    """A handler that waits for one turn of its loop."""
    await anyio.lowlevel.checkpoint()


def burn(seconds: float) -> None:
    """A plain handler that never lets go of the interpreter by itself."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


class Sink:
    """Counts results and lets the feeder go on."""

    def __init__(self) -> None:
        self.count = 0
        self.batches = 0
        self.arrived = threading.Condition()

    def complete(self, events: Sequence[Event]) -> None:
        """Take results, in any thread."""
        with self.arrived:
            for event in events:
                if isinstance(event, RunsFinished):
                    self.batches += 1
                    self.count += len(event.results)
            self.arrived.notify()

    def wait_for(self, count: int) -> None:
        """Wait until so many results have come."""
        with self.arrived:
            self.arrived.wait_for(lambda: self.count >= count)


def batches_of(method: str, runs: int, batch: int, params: dict[str, Any]) -> list[StartRuns]:
    """The work, made beforehand."""
    starts = [
        StartRun(n, f"{n:032x}", "s", RunKind.SCHEDULED, "probe", method, params, 0, 1, n, None, {})
        for n in range(runs)
    ]
    return [StartRuns(tuple(starts[at : at + batch])) for at in range(0, runs, batch)]


def rate(backend: str, func: Callable[..., Any], runs: int, batch: int) -> tuple[float, float]:
    """Runs a second, and the mean size of a batch of results. At most IN_FLIGHT batches are under way."""
    registry = LocalHandlerRegistry()
    registry.register("probe", func)
    executor = HandlerExecutor(registry, BootClock(), backend)
    work = batches_of(func.__name__, runs, batch, {})
    sink = Sink()
    executor.open(sink.complete)
    began = time.perf_counter()
    submitted = 0
    for effect in work:
        sink.wait_for(submitted - IN_FLIGHT * batch)
        executor.submit(effect)
        submitted += len(effect.runs)
    sink.wait_for(runs)
    took = time.perf_counter() - began
    executor.close(5)
    return runs / took, sink.count / sink.batches


def single(backend: str, func: Callable[..., Any], runs: int = 1000) -> tuple[float, float, float, float]:
    """Median and 99th percentile, in ms, from `submit` to the handler's start and to its result, one at a time."""
    registry, clock = LocalHandlerRegistry(), BootClock()
    registry.register("probe", func)
    executor = HandlerExecutor(registry, clock, backend)
    to_start: list[float] = []
    to_result: list[float] = []
    sink = Sink()

    def complete(events: Sequence[Event]) -> None:
        arrived = time.time_ns() // 1000
        for event in events:
            if isinstance(event, RunsFinished):
                to_start.append(((event.results[0].started_us or arrived) - submitted) / 1000)
                to_result.append((arrived - submitted) / 1000)
        sink.complete(events)

    executor.open(complete)
    for count, effect in enumerate(batches_of(func.__name__, runs, 1, {}), 1):
        time.sleep(0.0005)
        submitted = clock.now().utc_us
        executor.submit(effect)
        sink.wait_for(count)
    executor.close(5)
    at_median, at_99 = runs // 2, runs * 99 // 100
    to_start.sort()
    to_result.sort()
    return to_start[at_median], to_start[at_99], to_result[at_median], to_result[at_99]


async def worst_stall(executor: HandlerExecutor) -> tuple[float, float]:
    """Median and worst time, in ms, by which a 1 ms sleep of this loop is late beside a busy handler thread."""
    for effect in batches_of("burn", 1, 1, {"seconds": 2.0}):
        executor.submit(effect)
    late: list[float] = []
    until = time.perf_counter() + 1.8
    while time.perf_counter() < until:
        began = time.perf_counter()
        await anyio.sleep(0.001)
        late.append((time.perf_counter() - began) * 1000 - 1)
    late.sort()
    return late[len(late) // 2], late[-1]


def stalls(backend: str) -> tuple[float, float]:
    """One busy plain handler beside a task of another loop."""
    registry = LocalHandlerRegistry()
    registry.register("probe", burn)
    executor = HandlerExecutor(registry, BootClock(), backend)
    executor.open(Sink().complete)
    result = anyio.run(worst_stall, executor, backend=backend)
    executor.close(5)
    return result


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    print(f"{'loop':8} {'handler':14} {'runs/s':>9} {'results per batch':>18}")
    for backend in ("asyncio", "trio"):
        for func in (nothing, one_turn, nothing_plain):
            runs = options.runs if func is not one_turn else options.runs // 10
            per_second, size = rate(backend, func, runs, options.batch)
            print(f"{backend:8} {func.__name__:14} {per_second:9,.0f} {size:18.1f}")
    print(f"\n{'loop':8} {'handler':14} {'start p50 ms':>13} {'p99':>7} {'result p50 ms':>14} {'p99':>7}")
    for backend in ("asyncio", "trio"):
        for func in (nothing, nothing_plain):
            start50, start99, result50, result99 = single(backend, func)
            print(f"{backend:8} {func.__name__:14} {start50:13.3f} {start99:7.3f} {result50:14.3f} {result99:7.3f}")
    print(f"\n{'loop':8} {'switch interval':>16} {'p50 late ms':>12} {'worst ms':>9}")
    before = sys.getswitchinterval()
    for backend in ("asyncio", "trio"):
        for interval_s in (0.005, 0.001, 0.0005, 0.0002):
            limit_thread_stalls(interval_s)
            p50, worst = stalls(backend)
            print(f"{backend:8} {interval_s * 1000:13.1f} ms {p50:12.2f} {worst:9.2f}")
    limit_thread_stalls(before)


if __name__ == "__main__":
    main()
