"""A durable outbox: results of one handler in one small SQLite file (WAL, synchronous=FULL), written in groups by a
thread of its own.

The file belongs to one handler id, since a report in another's name would be refused and forgotten, and is locked
against a second process.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from attrs import fields

from sz_protocol.attaching import Forget, Keep, KeepAnswer, KeepFailed, Kept, Key
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.messages import RunReport
from sz_protocol.records import Outcome
from sz_runtime.ports import KeepComplete, StoreError, StoreTooNew
from sz_shells.stores.sqlite.files import describe, make_parents
from sz_shells.stores.sqlite.lock import FileLock

APPLICATION_ID = 0x535A4F42  # "SZOB"
VERSION = 1
MOST_TOGETHER = 256
"""Operations of one commit."""

_SCHEMA = (
    "CREATE TABLE owner (handler_id TEXT NOT NULL)",
    """CREATE TABLE reports (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        delivery INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        incarnation INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        started_us INTEGER,
        finished_us INTEGER NOT NULL,
        result TEXT,
        error TEXT,
        retryable INTEGER NOT NULL,
        run_id TEXT NOT NULL,
        UNIQUE (run, attempt)
    )""",
)
_FIELDS = tuple(field.name for field in fields(RunReport))
_COLUMNS = ", ".join(_FIELDS).replace("row", "run", 1)
_INSERT = f"INSERT OR REPLACE INTO reports ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})"
_DELETE = "DELETE FROM reports WHERE run = ? AND attempt = ?"
_SETTINGS = ("PRAGMA synchronous = FULL", "PRAGMA temp_store = MEMORY", "PRAGMA journal_size_limit = 4194304")
_UNSTORABLE = (OverflowError, UnicodeError, sqlite3.DataError, sqlite3.IntegrityError, sqlite3.ProgrammingError)

_Queue = SimpleQueue[Keep | Forget | None]


class SqliteOutbox:
    """Implements the Outbox port. `complete` is called from the outbox's own thread, once for each commit."""

    def __init__(self, path: str | os.PathLike[str], handler_id: str, *, busy_timeout_ms: int = 1000) -> None:
        self._path = Path(path)
        self._handler_id = handler_id
        self._busy_timeout_ms = busy_timeout_ms
        self._life: _Life | None = None

    @property
    def durable(self) -> bool:
        """Whether what is kept survives the process."""
        return True

    def open(self, complete: KeepComplete) -> tuple[RunReport, ...]:
        """Take the file; what earlier lives left in it. Raises StoreInUse, StoreTooNew, StoreError."""
        make_parents(self._path)
        with ExitStack() as held:
            lock = FileLock(self._path.with_name(self._path.name + ".lock"), self._path, "worker")
            held.callback(lock.release)
            try:
                connection = self._connect()
                held.callback(connection.close)
                self._prepare(connection)
                kept = tuple(
                    _report(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM reports ORDER BY number")
                )
            except (sqlite3.Error, ValueError) as error:
                raise StoreError(describe(self._path, error)) from error
            self._life = _Life(self._path, connection, complete, held.pop_all())
        return kept

    def submit(self, effect: Keep | Forget) -> None:
        """Queue one operation."""
        if self._life is None:
            raise LocalProtocolError("a report was submitted to an outbox that is not open")
        self._life.queue.put(effect)

    def close(self) -> None:
        """Answer what was submitted, then let the file go."""
        life, self._life = self._life, None
        if life is not None:
            life.end()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rwc",
            uri=True,
            isolation_level=None,
            timeout=self._busy_timeout_ms / 1000,
            check_same_thread=False,
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables in a new file; leave one that is not ours untouched."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and (tables or version or application):
            raise StoreError(f"{self._path} is a SQLite database of another program; choose another file")
        if version > VERSION:
            raise StoreTooNew(
                f"{self._path} was written by a newer version of ScheduleZero; upgrade, or choose another"
            )
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{self._path}: this file system cannot hold a write-ahead log (it allows {mode})")
        for setting in _SETTINGS:
            connection.execute(setting)
        if not version:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO owner VALUES (?)", (self._handler_id,))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        (owner,) = connection.execute("SELECT handler_id FROM owner").fetchone()
        if owner != self._handler_id:
            raise StoreError(
                f"{self._path} is the outbox of handler {owner!r}, not of {self._handler_id!r}; choose another file"
            )


class _Life:
    """One opening of the outbox."""

    def __init__(self, path: Path, connection: sqlite3.Connection, complete: KeepComplete, held: ExitStack) -> None:
        self._path = path
        self._connection = connection
        self._complete = complete
        self._held = held
        self._identity = _identity(path)
        self._owed: dict[Key, None] = {}
        """What could not be forgotten yet."""
        self.queue: _Queue = SimpleQueue()
        self._thread = Thread(target=self._serve, name="outbox-writer", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Serve the queue to its end."""
        self.queue.put(None)
        self._thread.join()
        self._held.close()

    def _serve(self) -> None:
        going_on = True
        while going_on:
            group: list[Keep | Forget] = []
            effect = self.queue.get()
            while effect is not None:
                group.append(effect)
                if len(group) >= MOST_TOGETHER or self.queue.empty():
                    break
                effect = self.queue.get()
            going_on = effect is not None
            answers = self._commit(group)
            if answers:
                self._complete(answers)

    def _commit(self, group: Sequence[Keep | Forget]) -> list[KeepAnswer]:
        """One transaction for all; where one of them cannot be stored, each alone."""
        if not group and not self._owed:
            return []
        keeps = [effect for effect in group if isinstance(effect, Keep)]
        problem = self._write(group)
        if problem is None:
            return [Kept(keep.op) for keep in keeps]
        if isinstance(problem, _UNSTORABLE) and len(keeps) > 1:
            return [answer for effect in group for answer in self._commit((effect,))]
        self._owed.update({key: None for effect in group if isinstance(effect, Forget) for key in effect.keys})
        return [KeepFailed(keep.op, describe(self._path, problem)) for keep in keeps]

    def _write(self, group: Sequence[Keep | Forget]) -> Exception | None:
        """What went wrong, if anything."""
        try:
            if _identity(self._path) != self._identity:
                raise StoreError(f"{self._path} was removed or replaced while it was in use")
            self._connection.execute("BEGIN IMMEDIATE")
            # What is owed first, then all in their order: a run kept after one of its number was forgotten is another.
            self._connection.executemany(_DELETE, list(self._owed))
            for effect in group:
                if isinstance(effect, Keep):
                    self._connection.executemany(_INSERT, map(_row, effect.reports))
                else:
                    self._connection.executemany(_DELETE, effect.keys)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, StoreError, OSError, MemoryError, *_UNSTORABLE) as error:
            # Where even this fails the next BEGIN does too, and its group is told.
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            return error
        self._owed.clear()
        return None


def _row(report: RunReport) -> tuple[object, ...]:
    return tuple(getattr(report, name) for name in _FIELDS)


def _report(row: Sequence[Any]) -> RunReport:
    values = dict(zip(_FIELDS, row, strict=True))
    return RunReport(**(values | {"outcome": Outcome(values["outcome"]), "retryable": bool(values["retryable"])}))


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
