"""Which files a SQLite store opens, and what it says of those that it does not."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sz_protocol.changes import InsertRuns, PutSchedules
from sz_protocol.kernel.events import FailReason, WriteFailed
from sz_protocol.queries import RunsPage, SchedulesPage
from sz_protocol.records import ScheduleState
from sz_protocol.triggers import Unreadable
from sz_runtime.ports import StoreError, StoreInUse, StoreTooNew
from sz_shells.stores.sqlite import SqliteStore
from sz_shells.stores.sqlite.lock import FileLock
from sz_shells.stores.sqlite.schema import MIGRATIONS
from tests.contracts.store_world import Session, a_run, a_schedule
from tests.shells.stores.disks import read_only


def opened_and_closed(path: Path) -> int:
    """The term of a short life."""
    store = SqliteStore(path)
    term = store.open(lambda events: None).term
    store.close()
    return term


def open_it(store: SqliteStore) -> None:
    """As a server does."""
    store.open(lambda events: None)


def query_it(store: SqliteStore) -> None:
    """As a command beside the server does."""
    store.query(RunsPage())


def snapshot(directory: Path) -> dict[str, bytes]:
    """All files of a directory but the lock."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".lock"}


@contextmanager
def process(mode: str, path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and the first line that it said."""
    command = [sys.executable, "-m", "tests.shells.stores.store_process", mode, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server, server.stdout.readline()
        finally:
            server.kill()


def test_parent_directories_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b c" / "d?e#f%41" / "store.db"
    assert opened_and_closed(path) == 1
    assert opened_and_closed(path) == 2
    assert path.is_file()


def test_a_path_may_be_text(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "store.db"))
    assert store.open(lambda events: None).term == 1
    store.close()


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(StoreError, match=r"^/proc/nowhere/store\.db: its directory cannot be made"):
        SqliteStore("/proc/nowhere/store.db").open(lambda events: None)


def test_a_directory_in_the_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=str(tmp_path)):
        SqliteStore(tmp_path).open(lambda events: None)


def test_a_read_only_directory_is_named_and_left_alone(path: Path) -> None:
    opened_and_closed(path)
    before = snapshot(path.parent)
    with read_only(path.parent), pytest.raises(StoreError, match=str(path)):
        SqliteStore(path).open(lambda events: None)
    assert snapshot(path.parent) == before
    assert opened_and_closed(path) == 2


def test_a_store_on_a_read_only_disk_can_be_queried(session: Session, path: Path) -> None:
    session.do(InsertRuns((a_run(1),)))
    session.store.close()
    with read_only(path.parent):
        assert SqliteStore(path).query(RunsPage()) == (a_run(1),)


@pytest.mark.parametrize("content", [b"schedules:\n- id: a\n" * 400, b"\0" * 5000, os.urandom(9000)])
def test_a_file_that_is_no_database_is_named_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"^{path}: the file is not a SQLite database"):
        SqliteStore(path).open(lambda events: None)
    with pytest.raises(StoreError, match=rf"^{path}: the file is not a SQLite database"):
        SqliteStore(path).query(RunsPage())
    assert snapshot(path.parent) == {"store.db": content}


def test_a_database_of_another_program_is_named_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE customers (name)")
    foreign.commit()
    foreign.close()
    before = snapshot(path.parent)
    for use in (open_it, query_it):
        with pytest.raises(StoreError, match=f"^{path} is a SQLite database of another program"):
            use(SqliteStore(path))
    assert snapshot(path.parent) == before


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert opened_and_closed(path) == 1


def test_a_newer_version_is_refused_with_both_versions(path: Path) -> None:
    opened_and_closed(path)
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    before = path.read_bytes()
    for use in (open_it, query_it):
        with pytest.raises(StoreTooNew, match=f"^{path} .*schema is 99, this version knows {len(MIGRATIONS)}"):
            use(SqliteStore(path))
    assert path.read_bytes() == before


def test_an_older_version_is_upgraded_by_the_server_and_explained_to_a_reader(path: Path) -> None:
    """Version 0 of our own: what is left when the very first migration was interrupted."""
    opened_and_closed(path)
    older = sqlite3.connect(path)
    for (name,) in older.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        older.execute(f"DROP TABLE {name}")
    older.execute("PRAGMA user_version = 0")
    older.commit()
    older.close()
    with pytest.raises(StoreError, match="start the server once to upgrade it"):
        SqliteStore(path).query(RunsPage())
    assert opened_and_closed(path) == 1


def test_schedules_of_schema_1_are_read_as_they_were(session: Session, path: Path) -> None:
    schedules = (a_schedule("a"), a_schedule("b", state=ScheduleState.PAUSED, reason="moving"))
    session.do(PutSchedules(schedules, (None, None)))
    session.store.close()
    older = sqlite3.connect(path)
    for column in ("paused_us", "paused_reason"):
        older.execute(f"ALTER TABLE definitions DROP COLUMN {column}")
    older.execute("PRAGMA user_version = 1")
    older.commit()
    older.close()
    opened_and_closed(path)
    assert SqliteStore(path).query(SchedulesPage()) == schedules


def test_query_without_a_file_says_so_and_makes_none(path: Path) -> None:
    with pytest.raises(StoreError, match=f"^{path}: there is no store yet"):
        SqliteStore(path).query(RunsPage())
    assert not path.parent.exists()


def test_damaged_pages_are_named_by_path(session: Session, path: Path) -> None:
    session.do(InsertRuns(tuple(a_run(n) for n in range(300))))
    session.store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with pytest.raises(StoreError, match=f"^{path}: the file is damaged"):
        SqliteStore(path).query(RunsPage())
    with pytest.raises(StoreError, match=f"^{path}: "):
        SqliteStore(path).open(lambda events: None)


def test_a_definition_that_this_version_cannot_read_is_named(path: Path, session: Session) -> None:
    session.do(PutSchedules((a_schedule("a"), a_schedule("b")), (None, None)))
    other = sqlite3.connect(path)
    other.execute("UPDATE definitions SET definition = x'c1' WHERE num = 2")
    other.commit()
    other.close()
    for rows in (session.store.query(SchedulesPage()), session.read(SchedulesPage())):
        assert rows[0] == a_schedule("a")
        assert (rows[1].id, rows[1].hash, rows[1].state) == ("b", a_schedule("b").hash, ScheduleState.ACTIVE)
        trigger = rows[1].definition.trigger
        assert isinstance(trigger, Unreadable)
        assert trigger.data == b"\xc1"
        assert trigger.why.startswith("this version cannot read it: stored definition: not the expected bytes")


# --- one server on one file ------------------------------------------------------------------------------------


def test_a_second_server_is_refused_and_told_who_holds_the_file(session: Session, path: Path) -> None:
    with pytest.raises(StoreInUse, match=rf"^{path} is in use by another server \(process {os.getpid()}\)"):
        SqliteStore(path).open(lambda events: None)
    with pytest.raises(StoreInUse):
        session.store.open(lambda events: None)
    session.do(InsertRuns((a_run(1),)))
    session.store.close()
    assert opened_and_closed(path) == 2


def test_another_process_holds_the_file_until_it_is_killed(path: Path) -> None:
    with process("hold", path) as (server, first):
        assert first == "open 1\n"
        with pytest.raises(StoreInUse, match=rf"\(process {server.pid}\)"):
            SqliteStore(path).open(lambda events: None)
        assert SqliteStore(path).query(RunsPage()) == ()
        server.kill()
        server.wait()
        assert path.with_name("store.db.lock").read_text() == f"{server.pid}\n"
        assert opened_and_closed(path) == 2


def test_a_forked_child_does_not_keep_the_file_of_a_killed_server(path: Path) -> None:
    with process("hold-with-child", path) as (server, first):
        child = int(first.split()[1])
        try:
            with pytest.raises(StoreInUse):
                SqliteStore(path).open(lambda events: None)
            server.kill()
            server.wait()
            os.kill(child, 0)
            assert opened_and_closed(path) == 2
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_forked_while_a_lock_is_taken_does_not_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    reader, writer = os.pipe()

    def fork() -> None:
        if (child := os.fork()) == 0:
            os.write(writer, b".")
            signal.pause()
        children.append(child)
        os.read(reader, 1)  # it has come to itself

    forking = threading.Thread(target=fork)

    def truncate(fd: int, length: int) -> None:
        forking.start()
        forking.join(0.2)  # it is locked now; a handler's thread forks

    monkeypatch.setattr(os, "truncate", truncate)
    held = FileLock(tmp_path / "lock", tmp_path)
    monkeypatch.undo()
    forking.join()
    held.release()
    try:
        FileLock(tmp_path / "lock", tmp_path).release()
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
        os.close(reader)
        os.close(writer)


def test_a_removed_file_is_noticed_and_nothing_is_written_to_its_ghost(session: Session, path: Path) -> None:
    session.do(InsertRuns((a_run(1),)))
    moved = path.rename(path.with_name("moved.db"))
    answer = session.write(InsertRuns((a_run(2),)))
    assert isinstance(answer, WriteFailed)
    assert answer.reason is FailReason.UNAVAILABLE
    assert answer.detail == f"{path} was removed or replaced while it was in use"
    moved.rename(path)
    session.do(InsertRuns((a_run(2),)))


def test_a_store_can_be_moved_while_closed(session: Session, path: Path, tmp_path: Path) -> None:
    session.do(InsertRuns((a_run(1),)))
    session.store.close()
    assert not path.with_name("store.db-wal").exists(), "closing leaves one file that holds everything"
    shutil.copyfile(path, tmp_path / "copy.db")
    assert SqliteStore(tmp_path / "copy.db").query(RunsPage()) == (a_run(1),)


def test_the_memory_store_does_not_load_sqlite() -> None:
    code = "import sys, sz_shells.stores.memory; print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
