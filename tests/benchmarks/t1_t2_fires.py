"""T1 and T2: N interval schedules due at one instant, a no-op async job; fires a second until the last outcome.

T1 in the memory store, T2 on SQLite at synchronous=FULL.
"""

import asyncio
import heapq
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import anyio

from sz_protocol.commands import RunNow
from sz_protocol.kernel.now import SECOND_US
from sz_runtime.ports import Store
from sz_shells.stores.memory import MemoryStore
from sz_shells.stores.sqlite import SqliteStore
from tests.benchmarks.peers import run_peer
from tests.benchmarks.rig import Outcomes, apply, due_once, node, noop, until
from tests.benchmarks.table import Row

SIZES, MANY = (1_000, 10_000, 100_000), 1_000_000
BACKENDS = ("asyncio", "trio")
TURNS = 5


def memory(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """T1."""
    rows: list[Row] = []
    fires_of: dict[int, float] = {}
    for count in sizes:
        work = f"{count:,} due at once, memory"
        rows.append(Row("T1", work, "limit: heap and one task a job", heap_and_tasks(count), "fires/s"))
        for backend in BACKENDS:
            # A thousand are over in a fiftieth of a second: one run says little.
            runs = [ours(MemoryStore, count, backend) for _ in range(TURNS if count < 100_000 else 1)]
            fires, stall = median(fires for fires, _ in runs), max(stall for _, stall in runs)
            fires_of.setdefault(count, fires)
            rows.append(Row("T1", work, f"schedulezero, {backend}", fires, "fires/s"))
            rows.append(Row("T1", work, f"schedulezero, {backend}", stall, "ms worst stall", higher=False))
            _, stall = ours(MemoryStore, count, backend, busy=True)
            busy = f"schedulezero, {backend}, a handler spins"
            rows.append(Row("T1", work, busy, stall, "ms worst stall", higher=False))
        rows += [Row("T1", work, who, figure, "fires/s") for who, figure in run_peer("memory", count)]
    if sizes == SIZES:
        # What a fire costs must not grow with the number of schedules.
        work = f"{MANY:,} due at once, memory"
        fires, stall = ours(MemoryStore, MANY, BACKENDS[0])
        rows.append(Row("T1", work, f"schedulezero, {BACKENDS[0]}", fires, "fires/s"))
        rows.append(Row("T1", work, f"schedulezero, {BACKENDS[0]}", stall, "ms worst stall", higher=False))
        dearer = fires_of[sizes[0]] / fires
        rows.append(Row("T1", work, f"a fire of these against one of {sizes[0]:,}", dearer, "x the cost", higher=False))
    return rows


def sqlite(count: int = 10_000) -> list[Row]:
    """T2. The disk's mood changes from second to second: limit and nodes take turns, and the median counts."""
    turns = [
        (sqlite_limit(100), sqlite_limit(1), *(_sqlite_fires(count, each) for each in BACKENDS)) for _ in range(TURNS)
    ]
    limit, alone, *fires = (median(figures) for figures in zip(*turns, strict=True))
    work = f"{count:,} due at once, SQLite FULL"
    rows = [
        Row("T2", work, "limit: 2 rows, 100 a commit", limit, "outcomes/s"),
        Row("T2", work, "limit: 2 rows, 1 a commit", alone, "outcomes/s"),
    ]
    rows += [
        Row("T2", work, f"schedulezero, {each}", figure, "outcomes/s")
        for each, figure in zip(BACKENDS, fires, strict=True)
    ]
    peers = run_peer("sqlite", min(count, 1_000))
    return rows + [Row("T2", work, who, figure, "outcomes/s") for who, figure in peers]


def _sqlite_fires(count: int, backend: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return ours(partial(SqliteStore, Path(folder) / "bench.db"), count, backend)[0]


def ours(make: Callable[[], Store], count: int, backend: str, busy: bool = False) -> tuple[float, float]:
    """(fires a second, worst stall in ms of another task of the protocol's loop); `busy`: while one more handler, a
    plain function, spins in its thread."""
    return anyio.run(_ours, make, count, backend, busy, backend=backend)


async def _ours(make: Callable[[], Store], count: int, backend: str, busy: bool) -> tuple[float, float]:
    outcomes = Outcomes(count)
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.001)
            if time.time() >= due_s:
                worst = max(worst, time.perf_counter() - before - 0.001)

    # Room for adding them before they are due.
    due_s = time.time() + 1.5 + count / 8_000
    async with node(make(), [outcomes], backend=backend) as driver, anyio.create_task_group() as tasks:
        await apply(driver, due_once(count, int(due_s * SECOND_US)))
        assert time.time() < due_s, "the schedules were due before they were all there"
        tasks.start_soon(watch)
        if busy:
            await driver.ask(RunNow("bench", "spin", "busy", {"until_s": due_s + 1.0 + count / 20_000}))
        await until(outcomes, max(0.0, due_s - time.time()) + 120)
        tasks.cancel_scope.cancel()
    return count / (outcomes.reached_at - due_s), worst * 1000


def heap_and_tasks(count: int) -> float:
    """The least that any scheduler of tasks has to do."""

    async def work() -> float:
        heap = [(0, n) for n in range(count)]
        heapq.heapify(heap)
        started = time.perf_counter()
        tasks = []
        while heap:
            heapq.heappop(heap)
            tasks.append(asyncio.ensure_future(noop()))
        await asyncio.gather(*tasks)
        return count / (time.perf_counter() - started)

    return asyncio.run(work())


def sqlite_limit(batch: int) -> float:
    """Outcomes a second when somebody only writes two rows for each, `batch` a commit."""
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(Path(folder) / "limit.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b INTEGER)")
        count = 20_000 if batch > 1 else 500
        started = time.perf_counter()
        for first in range(0, count, batch):
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO t (a, b) VALUES (?, ?)", [("x", n) for n in range(first, first + 2 * batch)])
            db.execute("COMMIT")
        elapsed = time.perf_counter() - started
        db.close()
    return count / elapsed


if __name__ == "__main__":
    from tests.benchmarks.table import render

    picked = tuple(int(arg) for arg in sys.argv[1:]) or SIZES
    print(render(memory(picked) + sqlite()))
