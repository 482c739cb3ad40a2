"""What do the stores alone allow? (T1, T2 and T5, without the rest of the node.)

python -m tests.benchmarks.store_probe [--fires 131072] [--stored 1000000] [--directory DIR]

A fire is one ledger row inserted, one cursor moved and one row finished, in writes of 256. Each figure is the best of
three, beside what plain sqlite3 does with two small rows a fire, 100 fires a commit, in the same run.
"""

import argparse
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeAlias

from attrs import evolve

from sz_protocol.changes import Change, CursorMove, InsertRuns, MoveCursors, PutSchedules, UpdateRuns
from sz_protocol.definition import Definition
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.effects import Write
from sz_protocol.kernel.events import Event, WriteDone
from sz_protocol.queries import DueSchedules
from sz_protocol.records import CLAIMS_PER_TERM, Outcome, Run, RunState, Schedule, run_key
from sz_protocol.triggers import Interval
from sz_runtime.ports import Store
from sz_shells.stores.memory import MemoryStore
from sz_shells.stores.sqlite import SqliteStore

P = ParamSpec("P")

T0, MINUTE, SLICE = 1_700_000_000_000_000, 60_000_000, 256

Changes: TypeAlias = tuple[Change, ...]


def schedules(count: int) -> list[Schedule]:
    """All due one minute after T0."""
    one = Definition("s", "reports", "build", Interval(MINUTE, T0))
    digest = definition_hash(one)
    return [
        Schedule(f"u{n}", evolve(one, id=f"schedule-{n:07}"), digest, "config", 1, T0, T0 + MINUTE, T0, T0)
        for n in range(count)
    ]


def puts(stored: Sequence[Schedule]) -> list[Changes]:
    """New schedules, a thousand a write."""
    parts = [tuple(stored[at : at + 1000]) for at in range(0, len(stored), 1000)]
    return [(PutSchedules(part, (None,) * len(part)),) for part in parts]


def fires(stored: Sequence[Schedule]) -> tuple[list[Changes], list[Changes]]:
    """What begins the fires, and what ends them."""
    begun: list[Changes] = []
    ended: list[Changes] = []
    for at in range(0, len(stored), SLICE):
        part = stored[at : at + SLICE]
        runs = tuple(_run(CLAIMS_PER_TERM + at + n, each) for n, each in enumerate(part))
        moves = tuple(CursorMove(each.id, 1, T0, T0 + MINUTE, T0 + 2 * MINUTE) for each in part)
        begun.append((InsertRuns(runs), MoveCursors(moves)))
        done = tuple(run.done(Outcome.SUCCEEDED, "on_time", T0 + MINUTE, T0 + MINUTE, "null") for run in runs)
        ended.append((UpdateRuns(done, (1,) * len(done)),))
    return begun, ended


def _run(row: int, schedule: Schedule) -> Run:
    key = run_key(schedule.uid, str(T0))
    state, at_us = RunState.LEASED, T0 + MINUTE
    return Run(row, key, schedule.id, at_us, "reports", "build", state, at_us, reason="on_time", attempt=1, fence=row)


class Client:
    """Submits writes, at most 64 of them under way, and waits for their answers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.room = threading.Semaphore(64)
        self.term = store.open(self._complete).term
        self.last_op = 0

    def _complete(self, events: Sequence[Event]) -> None:
        for event in events:
            assert isinstance(event, WriteDone), event
            self.room.release()

    def write(self, writes: Sequence[Changes]) -> None:
        """All of them, durable when this returns."""
        for changes in writes:
            self.room.acquire()
            self.last_op += 1
            self.store.submit(Write(self.last_op, changes, self.term, stream=1))
        for _ in range(64):
            self.room.acquire()
        self.room.release(64)


def timed(work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> tuple[float, float]:
    """Seconds of wall time and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(*args, **kwargs)
    return time.perf_counter() - wall, time.process_time() - cpu


def limit(path: Path, count: int) -> None:
    """Two small rows a fire, 100 fires a commit."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        "CREATE TABLE fires (id INTEGER PRIMARY KEY, name TEXT, at_us INTEGER, outcome TEXT)"
    )
    for at in range(0, count, 100):
        connection.execute("BEGIN IMMEDIATE")
        rows = [(2 * at + n, "schedule-0000001", T0, "succeeded") for n in range(200)]
        connection.executemany("INSERT INTO fires VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    connection.close()


def measure(make: Callable[[Path], Store], directory: Path, count: int) -> dict[str, tuple[float, float]]:
    """Best of three, by what was done."""
    stored = schedules(count)
    begun, ended = fires(stored)
    new = puts(stored)
    best: dict[str, tuple[float, float]] = {}
    for attempt in range(3):
        client = Client(make(directory / f"{make.__name__}{attempt}.db"))
        for name, writes in (("put", new), ("begin", begun), ("end", ended)):
            figures = timed(client.write, writes)
            best[name] = min(best.get(name, figures), figures)
        client.store.close()
    return best


def report(name: str, best: dict[str, tuple[float, float]], count: int) -> float:
    """Print one store's figures; fires a second."""
    wall, cpu = (best["begin"][n] + best["end"][n] for n in (0, 1))
    parts = ", ".join(f"{part} {best[part][1] / count * 1e6:.2f}" for part in best)
    print(
        f"{name:8} {count / wall:11,.0f} fires/s {count / cpu:11,.0f} a core-second"
        f" {count / best['put'][0]:11,.0f} puts/s   (CPU us: {parts})"
    )
    return count / wall


def memory(path: Path) -> Store:
    """A store that needs no path."""
    assert not path.exists()
    return MemoryStore()


def start(path: Path) -> None:
    """In a process of its own: open, and read what is due."""
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begun = time.perf_counter()
    store = SqliteStore(path)
    store.open(lambda events: None)
    assert store.query(DueSchedules(T0, None, 1000)) == ()
    seconds = time.perf_counter() - begun
    store.close()
    after_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"open     {seconds * 1000:.0f} ms, {after_mb - before_mb:.1f} MB more at most")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fires", type=int, default=131_072)
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        figures = [timed(limit, directory / f"limit{n}.db", 100_000) for n in range(3)]
        bound = 100_000 / min(wall for wall, _ in figures)
        print(f"limit    {bound:11,.0f} fires/s (plain sqlite3, two rows, 100 a commit)")
        report("memory", measure(memory, directory, options.fires), options.fires)
        fired = report("sqlite", measure(SqliteStore, directory, options.fires), options.fires)
        print(f"         {fired / bound:11.0%} of the limit")
        client = Client(SqliteStore(directory / "many.db"))
        client.write(puts(schedules(options.stored)))
        client.store.close()
        print(f"with {options.stored:,} schedules stored, none due:")
        sys.stdout.flush()
        command = [sys.executable, "-m", "tests.benchmarks.store_probe", "--start", str(directory / "many.db")]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--start"]:
        start(Path(sys.argv[2]))
    else:
        main()
