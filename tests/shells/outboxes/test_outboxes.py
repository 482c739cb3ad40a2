"""Both outboxes under the contract, and what is the SQLite one's own: its file, its lock, its disk."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from attrs import fields

from sz_protocol.attaching import KeepFailed, Kept
from sz_protocol.messages import RunReport
from sz_runtime.ports import Outbox, StoreError, StoreInUse, StoreTooNew
from sz_shells.outboxes.memory import MemoryOutbox
from sz_shells.outboxes.sqlite import SqliteOutbox
from tests.contracts.outboxes import DurableOutboxContract, OutboxContract, Session, ThreadedWorld, a_report, key_of
from tests.shells.stores.disks import can_mount, filled, limited_file_size, small_disk

Filling: TypeAlias = Callable[[], AbstractContextManager[None]]
Disk: TypeAlias = Callable[[Path], AbstractContextManager[Filling]]


class MemoryWorld:
    """An outbox that answers at once."""

    def make(self) -> Outbox:
        return MemoryOutbox()

    def reopened(self, outbox: Outbox) -> Outbox:
        return outbox

    def crashed(self, outbox: Outbox) -> Outbox:
        raise AssertionError("memory promises nothing")

    def settle(self, done: Callable[[], bool]) -> None:
        assert done()


class SqliteWorld(ThreadedWorld):
    """A directory; a crash is a copy of its files as they are at that moment."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.path = directory / "box" / "outbox.db"
        self.opened: list[Outbox] = []

    def make(self) -> Outbox:
        return self._note(SqliteOutbox(self.path, "edge-1"))

    def reopened(self, outbox: Outbox) -> Outbox:
        return self._note(SqliteOutbox(self.path, "edge-1"))

    def crashed(self, outbox: Outbox) -> Outbox:
        copy = self.path.parent.with_name("copy")
        copy.mkdir()
        # The log first: a checkpoint meanwhile would move what it holds into a database that is copied already.
        for suffix in ("-wal", ""):
            source = self.path.with_name(self.path.name + suffix)
            if source.exists():
                shutil.copy(source, copy / source.name)
        return self._note(SqliteOutbox(copy / self.path.name, "edge-1"))

    def _note(self, outbox: Outbox) -> Outbox:
        self.opened.append(outbox)
        return outbox


class TestMemory(OutboxContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()

    def test_it_does_not_claim_to_be_durable(self, session: Session) -> None:
        assert not session.outbox.durable


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[SqliteWorld]:
    world = SqliteWorld(tmp_path)
    yield world
    for outbox in world.opened:
        outbox.close()


class TestSqlite(DurableOutboxContract):
    @pytest.fixture
    def world(self, sqlite_world: SqliteWorld) -> SqliteWorld:
        return sqlite_world


def test_a_second_worker_is_told_who_has_it(sqlite_world: SqliteWorld) -> None:
    session = Session(sqlite_world, sqlite_world.make())
    with pytest.raises(StoreInUse, match=r"outbox\.db is in use by another worker \(process \d+\); stop it first"):
        SqliteOutbox(sqlite_world.path, "edge-1").open(lambda answers: None)
    session.end()


def test_another_handlers_outbox_is_left_alone(sqlite_world: SqliteWorld) -> None:
    session = Session(sqlite_world, sqlite_world.make())
    session.kept(a_report(1))
    session.outbox.close()
    with pytest.raises(StoreError, match="is the outbox of handler 'edge-1', not of 'edge-2'"):
        SqliteOutbox(sqlite_world.path, "edge-2").open(lambda answers: None)
    assert Session(sqlite_world, sqlite_world.reopened(session.outbox)).left == (a_report(1),)


def test_files_that_are_no_outbox_are_named_and_left_alone(tmp_path: Path) -> None:
    foreign, text = tmp_path / "foreign.db", tmp_path / "text.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    text.write_text("this is no database, and long enough to be sure of that " * 20)
    before = foreign.read_bytes(), text.read_bytes()
    for path, error, said in (
        (foreign, StoreError, "another program"),
        (text, StoreError, "not a SQLite database"),
        (tmp_path, StoreError, "cannot be opened"),
    ):
        with pytest.raises(error, match=said):
            SqliteOutbox(path, "edge-1").open(lambda answers: None)
    assert (foreign.read_bytes(), text.read_bytes()) == before


def test_a_newer_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    outbox = SqliteOutbox(path, "edge-1")
    outbox.open(lambda answers: None)
    outbox.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(StoreTooNew, match="newer version"):
        SqliteOutbox(path, "edge-1").open(lambda answers: None)


def test_a_file_that_was_taken_away_keeps_nothing_and_says_so(sqlite_world: SqliteWorld) -> None:
    session = Session(sqlite_world, sqlite_world.make())
    session.kept(a_report(1))
    sqlite_world.path.unlink()
    op = session.keep(a_report(2))
    answer = session.answer(op)
    assert isinstance(answer, KeepFailed)
    assert "No such file" in answer.detail


@contextmanager
def two_megabytes(directory: Path) -> Iterator[Filling]:
    """A small disk, which something else fills."""
    with small_disk(directory, 2048):
        yield lambda: filled(directory)


@contextmanager
def limited_files(directory: Path) -> Iterator[Filling]:
    """A limit to the size of files."""
    assert directory.is_dir()
    yield lambda: limited_file_size(64)


DISKS: list[Disk] = [limited_files, two_megabytes] if can_mount() else [limited_files]


@pytest.mark.parametrize("disk", DISKS)
def test_a_full_disk_fails_clearly_and_works_again_when_there_is_room(disk: Disk, tmp_path: Path) -> None:
    with disk(tmp_path) as fill:
        world = SqliteWorld(tmp_path)
        session = Session(world, world.make())
        session.kept(a_report(1))
        large = [a_report(number, result='"' + "x" * 60_000 + '"') for number in range(2, 10)]
        with fill():
            answer = session.answer(session.keep(*large))
            assert isinstance(answer, KeepFailed)
            assert str(world.path) in answer.detail
            session.forget(key_of(a_report(1)))
            session.answer(session.keep(*large))
        again = a_report(1, run_id="f" * 32)
        session.kept(*large, again)
        assert session.end().left == (*large, again), "and what was to be forgotten meanwhile is"
        world.opened[-1].close()


def test_kill_9_loses_nothing_that_was_said_to_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    kept: set[int] = set()
    for lines in (30, 100, 300):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.shells.outboxes.outbox_process", str(path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            text=True,
        )
        assert process.stdout is not None
        kept.update(int(process.stdout.readline()) for _ in range(lines))
        process.kill()
        # What it said before it died counts too; its last line may be cut.
        kept.update(int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n"))
        process.wait()
        process.stdout.close()
    outbox = SqliteOutbox(path, "edge-1")
    left = {report.delivery: report for report in outbox.open(lambda answers: None)}
    outbox.close()
    missing = {number for number in kept if number not in left}
    assert all((number + 5) % 10 == 0 for number in missing), "only what was forgotten"
    assert all(report == a_report(number) for number, report in left.items())
    assert list(left) == sorted(left)


def test_an_answer_means_a_commit(sqlite_world: SqliteWorld) -> None:
    session = Session(sqlite_world, sqlite_world.make())
    op = session.keep(a_report(1))
    assert session.answer(op) == Kept(op)
    other = sqlite3.connect(f"{sqlite_world.path.as_uri()}?mode=ro", uri=True)
    assert other.execute("SELECT delivery FROM reports").fetchall() == [(1,)]
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


def test_the_file_holds_every_field_of_a_report(sqlite_world: SqliteWorld) -> None:
    session = Session(sqlite_world, sqlite_world.make())
    connection = sqlite3.connect(sqlite_world.path)
    columns = {name: bool(not_null) for _, name, _, not_null, *_ in connection.execute("PRAGMA table_info(reports)")}
    connection.close()
    optional = {field.name for field in fields(RunReport) if "None" in str(field.type)}
    expected = {field.name: field.name not in optional for field in fields(RunReport)}
    expected["run"] = expected.pop("row")
    del columns["number"]
    assert columns == expected
    session.kept(a_report(1))
