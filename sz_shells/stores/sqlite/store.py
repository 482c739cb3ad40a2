"""The SQLite store as the runtime sees it: two threads, one that writes in groups and one that reads.

Everything passes through the writer's queue, so that a read sees what was submitted before it; the writer hands it on
to the reader once that is committed, and no read holds up a write.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from sz_protocol.kernel.effects import Read, Write
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import FailReason, ReadDone, ReadFailed
from sz_protocol.queries import Query
from sz_runtime.ports import Complete, Opened, StoreError
from sz_shells.stores.sqlite.bulk import MOST_ROWS, prepare
from sz_shells.stores.sqlite.checkpoint import Checkpointer
from sz_shells.stores.sqlite.files import connect_checkpointer, connect_reader, connect_server, describe, make_parents
from sz_shells.stores.sqlite.group import GroupCommit, Submitted
from sz_shells.stores.sqlite.lock import FileLock
from sz_shells.stores.sqlite.reads import answer

MOST_ROWS_OF_A_GROUP = 8192

_Queue = SimpleQueue[Submitted | Read | None]


class SqliteStore:
    """Schedules and ledger in one SQLite file (WAL, synchronous=FULL). `complete` is called from the store's own
    threads, once for each group and each read.

    `busy_timeout_ms` is how long a write waits for another program's lock on the file before it is UNAVAILABLE.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout_ms: int = 1000) -> None:
        self._path = Path(path)
        self._busy_timeout_ms = busy_timeout_ms
        self._life: _Life | None = None

    def open(self, complete: Complete) -> Opened:
        """Take the file, bring its schema up to date, and begin the next term. Raises StoreInUse, StoreTooNew,
        StoreError."""
        make_parents(self._path)
        with ExitStack() as held:
            lock = FileLock(self._path.with_name(self._path.name + ".lock"), self._path)
            held.callback(lock.release)
            writer = connect_server(self._path, self._busy_timeout_ms)
            held.callback(writer.close)
            opened = _begin_term(writer, self._path)
            reader = connect_reader(self._path)
            held.callback(reader.close)
            checkpointer = Checkpointer(connect_checkpointer(self._path))
            held.callback(checkpointer.close)
            group = GroupCommit(writer, self._path)
            self._life = _Life(self._path, group, checkpointer, reader, complete, held.pop_all())
        return opened

    def submit(self, effect: Write | Read) -> None:
        """Queue one operation."""
        if self._life is None:
            raise LocalProtocolError("an operation was submitted to a store that is not open")
        self._life.writes.put(effect if isinstance(effect, Read) else Submitted.of(effect))

    def query(self, query: Query) -> tuple[Any, ...]:
        """Rows as they stand now, over a connection of its own: from any process, with or without a server. Raises
        StoreError, StoreTooNew."""
        connection = connect_reader(self._path)
        try:
            return answer(connection, query)
        except sqlite3.Error as error:
            raise StoreError(describe(self._path, error)) from error
        finally:
            connection.close()

    def close(self) -> None:
        """Answer what was submitted, then let the file go."""
        life, self._life = self._life, None
        if life is not None:
            life.end()


def _begin_term(connection: sqlite3.Connection, path: Path) -> Opened:
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE meta SET term = term + 1")
        term, high_water_us = connection.execute("SELECT term, high_water_us FROM meta").fetchone()
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise StoreError(describe(path, error)) from error
    return Opened(term, high_water_us)


class _Life:
    """One opening of the store, from the term that it began to the close that ends it."""

    def __init__(
        self,
        path: Path,
        group: GroupCommit,
        checkpointer: Checkpointer,
        reader: sqlite3.Connection,
        complete: Complete,
        held: ExitStack,
    ) -> None:
        self._path = path
        self._group = group
        self._checkpointer = checkpointer
        self._reader = reader
        self._complete = complete
        self._held = held
        self.writes: _Queue = SimpleQueue()
        self._reads: SimpleQueue[Read | None] = SimpleQueue()
        self._threads = (
            Thread(target=self._serve_writes, name="store-writer", daemon=True),
            Thread(target=self._serve_reads, name="store-reader", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Serve the queues to their end."""
        self.writes.put(None)
        for thread in self._threads:
            thread.join()
        self._held.close()

    def _serve_writes(self) -> None:
        going_on = True
        try:
            prepared = self._prepare()
            while going_on:
                writes, reads, rows, going_on = self._next_group()
                if writes:
                    self._complete(self._group.commit(writes))
                    self._checkpointer.after_group(rows, self._group.connection)
                    prepared = prepared or (rows >= MOST_ROWS and self._prepare())
                for read in reads:
                    self._reads.put(read)
        finally:
            self._reads.put(None)

    def _prepare(self) -> bool:
        # Only saves time later: a database that fails here will tell with the next write.
        with suppress(sqlite3.Error, MemoryError):
            return prepare(self._group.connection)
        return False

    def _next_group(self) -> tuple[Sequence[Submitted], Sequence[Read], int, bool]:
        """What waits now, up to a bound; False as the last part after everything."""
        writes: list[Submitted] = []
        reads: list[Read] = []
        rows = 0
        effect = self.writes.get()
        while effect is not None:
            if isinstance(effect, Submitted):
                writes.append(effect)
                rows += effect.rows
            else:
                reads.append(effect)
            if rows >= MOST_ROWS_OF_A_GROUP or self.writes.empty():
                return writes, reads, rows, True
            effect = self.writes.get()
        return writes, reads, rows, False

    def _serve_reads(self) -> None:
        while (read := self._reads.get()) is not None:
            self._complete((self._answer(read),))

    def _answer(self, read: Read) -> ReadDone | ReadFailed:
        try:
            return ReadDone(read.op, answer(self._reader, read.query))
        except (sqlite3.Error, MemoryError) as error:
            return ReadFailed(read.op, FailReason.UNAVAILABLE, describe(self._path, error))
        except (KeyError, ValueError) as error:
            return ReadFailed(read.op, FailReason.INVALID, describe(self._path, error))
