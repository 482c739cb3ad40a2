"""Opening database files: ours, somebody else's, broken, newer, locked. Every error is a StoreError for a person."""

import os
import sqlite3
from pathlib import Path

from sz_runtime.ports import StoreError, StoreTooNew
from sz_shells.stores.sqlite.schema import APPLICATION_ID, MIGRATIONS

OLDEST_SQLITE = (3, 33, 0)  # UPDATE ... FROM
READ_TIMEOUT_MS = 5000

_SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
    "PRAGMA wal_autocheckpoint = 0",
)

_EXPLANATIONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file or its directory is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_BUSY: "another program holds a lock on it",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_PERM: "no permission",
    sqlite3.SQLITE_IOERR: "reading or writing failed",
}


def describe(path: Path, error: Exception) -> str:
    """One line for a person: the file, what is wrong with it, and the words of SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return str(error) if str(path) in str(error) else f"{path}: {error}"
    explanation = _EXPLANATIONS.get(code & 0xFF)
    return f"{path}: {explanation} ({error})" if explanation else f"{path}: {error}"


def make_parents(path: Path) -> None:
    """Make the directories above `path`, durably: what is committed later must not vanish with them."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for made in missing:
            above = os.open(made.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(above)
            finally:
                os.close(above)
    except OSError as error:
        raise StoreError(f"{path}: its directory cannot be made: {error}") from error


def connect_server(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    """The connection that writes, with the newest schema. Makes the file where there is none; leaves a file that is
    not ours untouched. Raises StoreError, StoreTooNew."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: a store needs 3.33 or newer")
    connection = None
    try:
        connection = _connect(path, "rwc", busy_timeout_ms)
        version = _check(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{path}: this file system cannot hold a write-ahead log (it allows {mode})")
        for setting in _SETTINGS:
            connection.execute(setting)
        for number, migration in enumerate(MIGRATIONS[version:], version + 1):
            connection.execute("BEGIN IMMEDIATE")
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise StoreError(describe(path, error)) from error
    except StoreError:
        if connection is not None:
            connection.close()
        raise
    return connection


def connect_checkpointer(path: Path) -> sqlite3.Connection:
    """A connection that moves the log into the database, beside the one that `connect_server` made. Raises
    StoreError."""
    try:
        connection = _connect(path, "rw", READ_TIMEOUT_MS)
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise StoreError(describe(path, error)) from error
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read, beside whoever writes. Raises StoreError, StoreTooNew."""
    if not path.exists():
        raise StoreError(f"{path}: there is no store yet")
    connection = None
    try:
        # On a read-only disk SQLite cannot make the files by which a log is shared; without a log none is needed.
        alone = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
        connection = _connect(path, "ro&immutable=1" if alone else "ro", READ_TIMEOUT_MS)
        version = _check(connection, path)
        if version < len(MIGRATIONS):
            raise StoreError(
                f"{path} has schema {version}, this version reads {len(MIGRATIONS)}:"
                " start the server once to upgrade it"
            )
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise StoreError(describe(path, error)) from error
    except StoreError:
        if connection is not None:
            connection.close()
        raise
    return connection


def _connect(path: Path, mode: str, busy_timeout_ms: int) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=busy_timeout_ms / 1000,
        check_same_thread=False,
        cached_statements=256,
    )


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of the file, 0 for an empty one. Reads only: a foreign file stays as it is."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID:
        if tables or version or application:
            raise StoreError(f"{path} is a SQLite database of another program; choose another file")
        return 0
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"{path} was written by a newer version of ScheduleZero"
            f" (its schema is {version}, this version knows {len(MIGRATIONS)}); upgrade, or choose another file"
        )
    return int(version)
