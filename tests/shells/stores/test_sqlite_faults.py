"""A SQLite store when the disk, the machine or another program fails it: clear answers, nothing lost, nothing torn."""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from sz_protocol.changes import InsertRuns, PutSchedules, UpdateRuns
from sz_protocol.kernel.events import Event, FailReason, WriteDone, WriteFailed
from sz_protocol.queries import RunsByRow, RunsPage, SchedulesById, UnfinishedRuns
from sz_protocol.records import CLAIMS_PER_TERM, Run
from sz_runtime.ports import StoreError
from sz_shells.stores.sqlite import SqliteStore
from sz_shells.stores.sqlite.checkpoint import CHECKPOINT_ROWS
from tests.contracts.store_world import T0, Session, a_run, a_schedule, done, reasons
from tests.contracts.test_stores_contract import SqliteWorld
from tests.shells.stores.disks import can_mount, filled, limited_file_size, small_disk
from tests.shells.stores.test_sqlite_files import opened_and_closed, process

UNAVAILABLE, PREVIOUS = FailReason.UNAVAILABLE, FailReason.PREVIOUS

Filling: TypeAlias = Callable[[], AbstractContextManager[None]]
Disk: TypeAlias = Callable[[Path], AbstractContextManager[Filling]]


def failure(event: Event) -> WriteFailed:
    """The event, which has to be a failure."""
    assert isinstance(event, WriteFailed)
    return event


def assert_sound(path: Path) -> None:
    """SQLite itself finds nothing wrong with the file."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def some_runs(first: int, count: int = 20) -> tuple[Run, ...]:
    """Runs with something in them."""
    return tuple(a_run(n, error="x" * 500) for n in range(first, first + count))


# --- no room ---------------------------------------------------------------------------------------------------


@contextmanager
def one_megabyte(directory: Path) -> Iterator[Filling]:
    """A disk of that size, and how to fill it."""
    with small_disk(directory, 1024) as disk:
        yield lambda: filled(disk)


@contextmanager
def limited_files(directory: Path) -> Iterator[Filling]:
    """A limit to the size of files."""
    assert directory.is_dir()
    yield lambda: limited_file_size(256)


DISKS: list[Disk] = [limited_files, one_megabyte] if can_mount() else [limited_files]


@pytest.mark.parametrize("disk", DISKS)
def test_a_full_disk_refuses_clearly_and_recovers_when_space_returns(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with disk(tmp_path) as fill:
        session = Session.begin(SqliteWorld(tmp_path), SqliteStore(path))
        session.do(PutSchedules((a_schedule("a"),), (None,)))
        stored = 0
        with fill():
            while isinstance(answer := session.write(InsertRuns(some_runs(stored)), stream=1), WriteDone):
                stored += 20
            refusal = failure(answer)
            assert refusal.reason is UNAVAILABLE
            assert refusal.detail.startswith(f"{path}: ")
            assert "disk" in refusal.detail
            assert failure(session.write(InsertRuns(some_runs(stored)), stream=1)).reason is PREVIOUS
            assert failure(session.write(InsertRuns(some_runs(stored)), stream=2)).reason is UNAVAILABLE
            assert len(session.read(UnfinishedRuns(limit=10_000))) == stored
        session.do(InsertRuns(some_runs(stored)))
        session.store.close()
        assert len(SqliteStore(path).query(UnfinishedRuns(limit=10_000))) == stored + 20
        assert_sound(path)


@pytest.mark.parametrize("disk", DISKS)
def test_a_full_disk_at_the_start_is_named_and_leaves_nothing_half_made(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with disk(tmp_path) as fill:
        with fill(), filled_files(), pytest.raises(StoreError, match=f"^{path}"):
            SqliteStore(path).open(lambda events: None)
        assert opened_and_closed(path) == 1
        assert_sound(path)


@contextmanager
def filled_files() -> Iterator[None]:
    """No file may grow at all."""
    with limited_file_size(0):
        yield


# --- other programs --------------------------------------------------------------------------------------------


def test_another_programs_transaction_makes_writes_unavailable_until_it_ends(session: Session, path: Path) -> None:
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    answer = failure(session.write(InsertRuns((a_run(1),)), stream=1))
    assert answer.reason is UNAVAILABLE
    assert answer.detail == f"{path}: another program holds a lock on it (database is locked)"
    assert session.read(RunsPage()) == ()
    shell.execute("ROLLBACK")
    shell.close()
    session.do(InsertRuns((a_run(1),)))


def test_a_locked_file_cannot_be_opened_and_the_lock_file_is_let_go(path: Path) -> None:
    opened_and_closed(path)
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another program holds a lock"):
        SqliteStore(path, busy_timeout_ms=50).open(lambda events: None)
    shell.execute("ROLLBACK")
    shell.close()
    assert opened_and_closed(path) == 2


def test_a_program_that_reads_for_long_holds_up_no_write(session: Session, path: Path) -> None:
    """Not even when the log is moved into the database meanwhile; the reader keeps the state that it began with."""
    session.do(InsertRuns((a_run(0),)))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    count = "SELECT count(*) FROM runs"
    assert reader.execute(count).fetchone() == (1,)
    total = 2 * CHECKPOINT_ROWS
    ops = [session.submit(InsertRuns(tuple(map(a_run, range(at, at + 1024))))) for at in range(1, total, 1024)]
    assert set(reasons(session, ops)) == {None}
    assert reader.execute(count).fetchone() == (1,)
    reader.close()
    assert len(session.read(UnfinishedRuns(limit=1 << 20))) == total + 1


def test_the_log_does_not_grow_with_what_has_been_written(session: Session, path: Path) -> None:
    log = path.with_name("store.db-wal")
    sizes = []
    for begin in range(0, 8 * CHECKPOINT_ROWS, CHECKPOINT_ROWS):
        rows = range(begin, begin + CHECKPOINT_ROWS, 4096)
        ops = [session.submit(InsertRuns(tuple(map(a_run, range(at, at + 4096))))) for at in rows]
        assert set(reasons(session, ops)) == {None}
        sizes.append(log.stat().st_size)
    assert sizes[-1] < 3 * sizes[1]


# --- the machine -----------------------------------------------------------------------------------------------


def test_a_commit_whose_sync_fails_is_unknown_until_it_is_read_back(path: Path) -> None:
    """The commit record may be on the disk. Here it is, and the next life finds it; this life must not claim either."""
    with process("fail-to-sync", path) as (server, first):
        assert server.stdout is not None
        said = [first, *(server.stdout.readline() for _ in range(3))]
        server.kill()
        server.wait()
    assert said == ["1 done\n", "2 unknown\n", "3 previous\n", f"visible {CLAIMS_PER_TERM + 1}\n"]
    stored = SqliteStore(path).query(UnfinishedRuns())
    assert stored in ((a_run(1),), (a_run(1), a_run(2)))
    opened_and_closed(path)
    assert_sound(path)


def test_after_kill_9_every_answered_write_is_there_and_none_is_half_there(path: Path) -> None:
    """SCHED-2 and STORE-11: what was said to be durable is, and a run never stands without its cursor's move."""
    moments = random.Random(9)
    for _ in range(5):
        begun = 0 if not path.exists() else cursor_of(path) - T0
        durable = begun
        with process("write-on", path) as (server, _):
            assert server.stdout is not None
            ends_at = time.monotonic() + moments.uniform(0.02, 0.25)
            while time.monotonic() < ends_at:
                durable = int(server.stdout.readline().split()[1])
            server.kill()
            said = server.stdout.read().splitlines()
            durable = max([durable, *(int(line.split()[1]) for line in said if line.startswith("durable "))])
        assert durable > begun
        survived = cursor_of(path) - T0
        assert survived >= durable
        rows = tuple(a_run(n).row for n in range(1, survived + 2))
        assert [run.row for run in SqliteStore(path).query(RunsByRow(rows))] == list(rows[:-1])
    opened_and_closed(path)
    assert_sound(path)


def cursor_of(path: Path) -> int:
    """Where schedule "a" stands."""
    (schedule,) = SqliteStore(path).query(SchedulesById(("a",)))
    cursor_us: int = schedule.cursor_us
    return cursor_us


def test_store_2_one_refusal_among_thousands_costs_only_itself(session: Session) -> None:
    runs = [a_run(n) for n in range(3000)]
    ops = [session.submit(InsertRuns(tuple(runs[at : at + 10])), stream=1) for at in range(0, 3000, 10)]
    twice = session.submit(InsertRuns((a_run(5000), a_run(7))))
    ends = [
        session.submit(UpdateRuns(tuple(map(done, runs[at : at + 10])), (1,) * 10), stream=1)
        for at in range(0, 3000, 10)
    ]
    assert reasons(session, [*ops, twice, *ends]) == [None] * 300 + [FailReason.REFUSED] + [None] * 300
    assert session.read(UnfinishedRuns()) == ()
