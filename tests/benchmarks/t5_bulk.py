"""T5: adding many schedules, one by one and at once, and starting with many stored of which none is due."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio

from sz_protocol.commands import Apply
from sz_protocol.kernel.now import SECOND_US
from sz_shells.stores.sqlite import SqliteStore
from tests.benchmarks.peers import run_peer_adds
from tests.benchmarks.rig import Outcomes, apply, due_once, node
from tests.benchmarks.table import Row


def run(stored: int = 1_000_000) -> list[Row]:
    """All rows of T5."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bulk.db"
        rows.append(Row("T5", "apply 100,000 at once, SQLite", "schedulezero", _bulk(path, 100_000), "adds/s"))
        for clients in (1, 100):
            figure = anyio.run(_singles, Path(folder) / f"single{clients}.db", clients)
            rows.append(Row("T5", "single adds, SQLite", f"schedulezero, {clients} clients", figure, "adds/s"))
        rows += [
            Row("T5", "single adds, SQLite", who, figure, "adds/s") for who, figure in run_peer_adds("sqlite", 300)
        ]
        _bulk(Path(folder) / "stored.db", stored)
        seconds, megabytes = _start_with(Path(folder) / "stored.db")
        rows.append(Row("T5", f"start with {stored:,} stored, none due", "schedulezero", seconds, "s", higher=False))
        rows.append(Row("T5", f"start with {stored:,} stored, none due", "schedulezero", megabytes, "MB", higher=False))
    return rows


def _far() -> int:
    return int((time.time() + 3000) * SECOND_US)


def _bulk(path: Path, count: int) -> float:
    async def work() -> float:
        definitions = due_once(count, _far())
        async with node(SqliteStore(path)) as driver:
            started = time.perf_counter()
            await apply(driver, definitions)
            return count / (time.perf_counter() - started)

    return anyio.run(work)


async def _singles(path: Path, clients: int) -> float:
    each = 300 if clients == 1 else 50
    definitions = due_once(each * clients, _far())

    async with node(SqliteStore(path)) as driver:

        async def client(first: int) -> None:
            for definition in definitions[first : first + each]:
                await driver.ask(Apply((definition,)))

        started = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for n in range(clients):
                tasks.start_soon(client, n * each)
        return len(definitions) / (time.perf_counter() - started)


def _start_with(path: Path) -> tuple[float, float]:
    """(seconds from opening the store to the first fire of a fresh schedule's neighbour, peak MB), in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.t5_bulk", "start", str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    seconds, megabytes = done.stdout.split()
    return float(seconds), float(megabytes)


async def _start(path: Path) -> None:
    """Start on a full store and fire one schedule that is due: the proof that the node is at work."""
    started = time.time()
    outcomes = Outcomes(1)
    async with node(SqliteStore(path), [outcomes]) as driver:
        await apply(driver, due_once(1, int((time.time() + 0.01) * SECOND_US))[:0])
        elapsed = time.time() - started
    # Not getrusage: its peak is inherited from the parent across exec.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(f"{elapsed:.3f} {peak:.1f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["start"]:
        anyio.run(_start, Path(sys.argv[2]))
    else:
        from tests.benchmarks.table import render

        print(render(run(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)))
