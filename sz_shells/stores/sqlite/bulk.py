"""Many operations as few statements: the fast way through a group, which takes all of it or gives up.

Rows of all operations are gathered by what is done to them, and each gathering becomes a handful of statements over
VALUES of up to 512 rows. A statement runs without the interpreter's lock and takes it again once, where a statement
per row would fight for it a thousand times with a busy event loop. The price: a statement tells how many rows it
matched, not which. When a count is not what it should be, `Bulk` raises Mismatch, the transaction is rolled back, and
`exact.py` goes through the group row by row.

What touches a schedule or a run for the second time flushes first: a statement that meets a row twice counts it once.
"""

from collections.abc import Sequence
from itertools import chain
from sqlite3 import Connection
from typing import TypeVar

from sz_protocol.changes import DropRuns
from sz_shells.stores.sqlite import statements
from sz_shells.stores.sqlite.encoded import Encoded, Mismatch, Statement
from sz_shells.stores.sqlite.rows import Row

K = TypeVar("K", str, int)

MOST_ROWS = 512
_BURST = (statements.insert_claimed_runs, statements.move_cursors, statements.end_runs)


def execute(connection: Connection, statement: Statement, rows: Sequence[Row]) -> int:
    """Run a statement over all rows and count those that matched. The sizes are powers of two, so that few different
    statements have to be prepared."""
    matched = start = 0
    while start < len(rows):
        size = min(MOST_ROWS, 1 << (len(rows) - start).bit_length() - 1)
        parameters = tuple(chain.from_iterable(rows[start : start + size]))
        matched += connection.execute(statement(size), parameters).rowcount
        start += size
    return matched


def prepare(connection: Connection) -> bool:
    """Let the connection have at hand what a burst of fires needs: to prepare a statement over hundreds of rows takes a
    millisecond, and a burst should not have to wait for ten of them. False where there are too few schedules for a
    burst: a small device keeps its 2 MB."""
    (last,) = connection.execute("SELECT max(num) FROM schedules").fetchone()
    if last is None or last < MOST_ROWS:
        return False
    for statement in _BURST:
        size = MOST_ROWS
        while size:
            connection.executemany(statement(size), ())
            size //= 2
    return True


class Bulk:
    """Gathers the changes of a group and applies them. Both steps raise Mismatch, and what sqlite3 raises for data that
    cannot be stored."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows_of: dict[Statement, list[Row]] = {}
        self._schedules_touched: set[str] = set()
        self._runs_touched: set[int] = set()
        self._drops: list[DropRuns] = []

    def add(self, change: Encoded) -> None:
        """Take a change; it may be applied now or by the next flush."""
        if self._drops and change.ends_before(max(drop.before_us for drop in self._drops)):
            self.flush()
        if isinstance(change.change, DropRuns):
            self._drops.append(change.change)
        self._touch(self._runs_touched, change.runs)
        self._touch(self._schedules_touched, change.schedules)
        for statement, rows in change.rows:
            self._rows_of.setdefault(statement, []).extend(rows)

    def flush(self) -> None:
        """Apply what was gathered."""
        for statement, rows in self._rows_of.items():
            matched = execute(self._connection, statement, rows)
            # An attempt that is told twice is passed over.
            if matched != len(rows) and statement is not statements.insert_attempts:
                raise Mismatch
        # Last, or a busy group would be cut to pieces. `add` sees to it that nothing old has come after them.
        for drop in self._drops:
            drop_runs(self._connection, drop)
        self._rows_of = {}
        self._schedules_touched.clear()
        self._runs_touched.clear()
        self._drops = []

    def _touch(self, touched: set[K], keys: list[K]) -> None:
        expected = len(touched) + len(keys)
        touched.update(keys)
        if len(touched) != expected:
            self.flush()
            touched.update(keys)
            if len(touched) != len(keys):
                raise Mismatch


def drop_runs(connection: Connection, change: DropRuns) -> None:
    """Retention."""
    bounds = (change.before_us, max(change.limit, 0))
    connection.execute(statements.DROP_ATTEMPTS, bounds)
    connection.execute(statements.DROP_RUNS, bounds)
