"""Group commit: all writes that wait at one moment become one transaction (STORE-2)."""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import define

from sz_protocol.changes import DropRuns, InsertAttempts, InsertRuns, MoveCursors, PutSchedules, UpdateRuns
from sz_protocol.kernel.effects import Write
from sz_protocol.kernel.events import FailReason, WriteDone, WriteFailed
from sz_runtime.ports import StoreError
from sz_shells.stores.rules import Streams, latest_us
from sz_shells.stores.sqlite import statements
from sz_shells.stores.sqlite.bulk import Bulk
from sz_shells.stores.sqlite.encoded import Encoded, Mismatch, encode
from sz_shells.stores.sqlite.exact import UNSTORABLE, Exact
from sz_shells.stores.sqlite.files import describe

# A commit that fails so has written no commit record. After any other failure (a sync that did not come back) the
# record may be on the disk, and nobody knows until the next life reads it.
_SURELY_NOT_COMMITTED = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_CANTOPEN,
)
_SURELY_NOT_WRITTEN = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_READ)

Verdict = WriteFailed | None

ENCODED_AT_ONCE = 1024
"""Rows of a write that the protocol's thread may be held up with (about 2 us each)."""
_OFTEN = (InsertRuns, MoveCursors, UpdateRuns, InsertAttempts)


@define(eq=False)
class Submitted:
    """A write on its way to its group, about `rows` large. `encoded` is None where that is left to the writer."""

    write: Write
    rows: int
    encoded: tuple[Encoded, ...] | None = None

    @staticmethod
    def of(write: Write) -> "Submitted":
        """With what is small and frequent encoded here and now. What cannot be encoded is for the writer to refuse."""
        rows = _weight(write)
        encoded = None
        if rows <= ENCODED_AT_ONCE and all(isinstance(change, _OFTEN) for change in write.changes):
            with suppress(Mismatch, MemoryError, *UNSTORABLE):
                encoded = tuple(map(encode, write.changes))
        return Submitted(write, rows, encoded)

    def changes(self) -> Iterable[Encoded]:
        """What it changes. Raises what `encode` raises."""
        return map(encode, self.write.changes) if self.encoded is None else self.encoded


class GroupCommit:
    """Applies groups of writes over one connection, checking each write's fence against the stored term."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self._path = path
        self._identity = _identity(path)
        self._streams = Streams()

    def commit(self, submitted: Sequence[Submitted]) -> list[WriteDone | WriteFailed]:
        """One transaction; an answer for each write, in order. Never raises for a failing database."""
        before = self._streams.failed
        writes = [each.write for each in submitted]
        try:
            self._begin()
            verdicts = self._in_bulk(submitted)
            if verdicts is None:
                self._streams.failed = before
                self.connection.execute("ROLLBACK")
                self._begin()
                verdicts = self._one_by_one(writes)
                self.connection.execute(statements.KEEP_LATEST, (_latest_us(writes, verdicts),))
        except (sqlite3.Error, StoreError, OSError, MemoryError) as error:
            self._roll_back()
            self._streams.failed = before
            return self._refuse_all(writes, FailReason.UNAVAILABLE, describe(self._path, error))
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            detail = describe(self._path, error)
            if _surely_not_committed(error):
                self._streams.failed = before
                return self._refuse_all(writes, FailReason.UNAVAILABLE, detail)
            return self._doubt_all(writes, verdicts, detail)
        return [verdict or WriteDone(write.op) for write, verdict in zip(writes, verdicts, strict=True)]

    def _begin(self) -> None:
        if _identity(self._path) != self._identity:
            raise StoreError(f"{self._path} was removed or replaced while it was in use")
        self.connection.execute("BEGIN IMMEDIATE")

    # --- the two ways --------------------------------------------------------------------------------------------

    def _in_bulk(self, submitted: Sequence[Submitted]) -> list[Verdict] | None:
        """All writes together; None when some row of some write is in the way, or the term is not what all of them
        take it to be."""
        term = submitted[0].write.fence
        bulk = Bulk(self.connection)
        verdicts: list[Verdict] = []
        noted_us = 0
        try:
            for each in submitted:
                verdict = self._refuse_untried(each.write, term)
                if verdict is None:
                    for change in each.changes():
                        bulk.add(change)
                        noted_us = max(noted_us, change.latest_us)
                verdicts.append(verdict)
            bulk.flush()
            noted = self.connection.execute(statements.NOTE_LATEST, (noted_us, term))
            return verdicts if noted.rowcount == 1 else None
        except (Mismatch, sqlite3.IntegrityError, *UNSTORABLE):
            return None

    def _one_by_one(self, writes: Sequence[Write]) -> list[Verdict]:
        """Each write in a savepoint of its own."""
        term = self._stored_term()
        verdicts: list[Verdict] = []
        for write in writes:
            verdict = self._refuse_untried(write, term)
            if verdict is None:
                self.connection.execute("SAVEPOINT operation")
                verdict = self._try(write)
                if verdict is not None:
                    self._streams.fail(write.stream)
                    self.connection.execute("ROLLBACK TO operation")
                self.connection.execute("RELEASE operation")
            verdicts.append(verdict)
        return verdicts

    def _refuse_untried(self, write: Write, term: int) -> Verdict:
        if write.fence != term:
            self._streams.fail(write.stream)
            return WriteFailed(write.op, FailReason.FENCED, detail=f"term {write.fence} is over, now {term}")
        if self._streams.broken(write.stream):
            return WriteFailed(write.op, FailReason.PREVIOUS)
        return None

    def _try(self, write: Write) -> Verdict:
        exact = Exact(self.connection)
        try:
            for change in write.changes:
                exact.apply(change)
        except UNSTORABLE as error:
            return WriteFailed(write.op, FailReason.INVALID, detail=str(error))
        found = exact.findings
        if found.unstorable:
            return WriteFailed(write.op, FailReason.INVALID, tuple(found.unstorable), found.detail)
        if found.refused:
            return WriteFailed(write.op, FailReason.REFUSED, tuple(found.refused))
        return None

    def _stored_term(self) -> int:
        (term,) = self.connection.execute("SELECT term FROM meta").fetchone()
        return int(term)

    # --- when the database fails ---------------------------------------------------------------------------------

    def _roll_back(self) -> None:
        # Where even this fails the next BEGIN does too, and its group is told.
        with suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def _refuse_all(self, writes: Sequence[Write], reason: FailReason, detail: str) -> list[WriteDone | WriteFailed]:
        """Nothing of the group was written, refusals that rested on its other writes included."""
        answers: list[WriteDone | WriteFailed] = []
        for write in writes:
            if self._streams.broken(write.stream):
                answers.append(WriteFailed(write.op, FailReason.PREVIOUS))
            else:
                self._streams.fail(write.stream)
                answers.append(WriteFailed(write.op, reason, detail=detail))
        return answers

    def _doubt_all(
        self, writes: Sequence[Write], verdicts: Sequence[Verdict], detail: str
    ) -> list[WriteDone | WriteFailed]:
        """All or nothing of the group was written; only what was never tried is certain."""
        answers: list[WriteDone | WriteFailed] = []
        for write, verdict in zip(writes, verdicts, strict=True):
            self._streams.fail(write.stream)
            certain = verdict is not None and verdict.reason in (FailReason.FENCED, FailReason.PREVIOUS)
            unknown = WriteFailed(write.op, FailReason.UNKNOWN, detail=detail)
            answers.append(verdict if certain and verdict is not None else unknown)
        return answers


def _weight(write: Write) -> int:
    """How much of a group a write takes up: about its rows."""
    rows = 1
    for change in write.changes:
        match change:
            case InsertRuns(runs=runs) | UpdateRuns(runs=runs):
                rows += len(runs)
            case MoveCursors(moves=moves):
                rows += len(moves)
            case PutSchedules(schedules=schedules):
                rows += len(schedules)
            case InsertAttempts(attempts=attempts):
                rows += len(attempts)
            case DropRuns(limit=limit):
                rows += limit
    return rows


def _latest_us(writes: Sequence[Write], verdicts: Sequence[Verdict]) -> int:
    """The latest wall time of what was taken (STORE-9)."""
    taken = (write for write, verdict in zip(writes, verdicts, strict=True) if verdict is None)
    return max((latest_us(change) for write in taken for change in write.changes), default=0)


def _surely_not_committed(error: sqlite3.Error) -> bool:
    code = error.sqlite_errorcode
    return code in _SURELY_NOT_WRITTEN or code & 0xFF in _SURELY_NOT_COMMITTED


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
