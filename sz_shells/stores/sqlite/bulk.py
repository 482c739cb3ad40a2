"""Many operations as few statements: the fast way through a group, which takes all of it or gives up.

Rows of all operations are gathered by what is done to them, and each gathering becomes a handful of statements over
VALUES of up to 512 rows. A statement runs without the interpreter's lock and takes it again once, where a statement
per row would fight for it a thousand times with a busy event loop. The price: a statement tells how many rows it
matched, not which. When a count is not what it should be, `Bulk` raises Mismatch, the transaction is rolled back, and
`exact.py` goes through the group row by row.

What touches a schedule or a run for the second time flushes first: a statement that meets a row twice counts it once.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from sqlite3 import Connection
from typing import TypeVar

from sz_protocol.changes import Change, DropRuns, InsertAttempts, InsertRuns, MoveCursors, PutSchedules, UpdateRuns
from sz_protocol.records import Run, Schedule
from sz_shells.stores.sqlite import statements
from sz_shells.stores.sqlite.rows import (
    Row,
    attempt_row,
    definition_row,
    insert_rows,
    place_row,
    update_rows,
)

K = TypeVar("K", str, int)

MOST_ROWS = 512


class Mismatch(Exception):
    """Some row was refused; which, only the exact way can tell."""


def execute(connection: Connection, statement: Callable[[int], str], rows: Sequence[Row]) -> int:
    """Run a statement over all rows and count those that matched. The sizes are powers of two, so that few different
    statements have to be prepared."""
    matched = start = 0
    while start < len(rows):
        size = min(MOST_ROWS, 1 << (len(rows) - start).bit_length() - 1)
        parameters = tuple(chain.from_iterable(rows[start : start + size]))
        matched += connection.execute(statement(size), parameters).rowcount
        start += size
    return matched


class Bulk:
    """Gathers the changes of a group and applies them. Both steps raise Mismatch, and what the encoders and sqlite3
    raise for data that cannot be stored."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows_of: dict[Callable[[int], str], list[Row]] = {}
        self._attempts: list[Row] = []
        self._schedules_touched: set[str] = set()
        self._runs_touched: set[int] = set()

    def add(self, change: Change) -> None:
        """Take a change; it may be applied now or by the next flush."""
        match change:
            case InsertRuns(runs=runs):
                self._touch(self._runs_touched, [run.row for run in runs])
                self._insert_runs(runs)
            case UpdateRuns(runs=runs, expected_attempts=expected):
                self._touch(self._runs_touched, [run.row for run in runs])
                self._update_runs(runs, expected)
            case MoveCursors():
                self._touch(self._schedules_touched, [move.schedule_id for move in change.moves])
                self._move_cursors(change)
            case PutSchedules(schedules=schedules, expected_cursors_us=expected_us):
                self._touch(self._schedules_touched, [schedule.id for schedule in schedules])
                self._put_schedules(schedules, expected_us)
            case InsertAttempts(attempts=attempts):
                self._attempts += map(attempt_row, attempts)
            case DropRuns():
                self.flush()
                drop_runs(self._connection, change)

    def flush(self) -> None:
        """Apply what was gathered."""
        for statement, rows in self._rows_of.items():
            if execute(self._connection, statement, rows) != len(rows):
                raise Mismatch
        execute(self._connection, statements.insert_attempts, self._attempts)
        self._rows_of = {}
        self._attempts = []
        self._schedules_touched.clear()
        self._runs_touched.clear()

    def _gather(self, statement: Callable[[int], str], rows: list[Row]) -> None:
        if rows:
            self._rows_of.setdefault(statement, []).extend(rows)

    def _touch(self, touched: set[K], keys: list[K]) -> None:
        expected = len(touched) + len(keys)
        touched.update(keys)
        if len(touched) != expected:
            self.flush()
            touched.update(keys)
            if len(touched) != len(keys):
                raise Mismatch

    def _insert_runs(self, runs: tuple[Run, ...]) -> None:
        claimed, fresh, others = insert_rows(runs)
        self._gather(statements.insert_claimed_runs, claimed)
        self._gather(statements.insert_fresh_runs, fresh)
        self._gather(statements.insert_runs, others)

    def _update_runs(self, runs: tuple[Run, ...], expected: tuple[int, ...]) -> None:
        ends, others = update_rows(runs, expected)
        self._gather(statements.end_runs, ends)
        self._gather(statements.update_runs, others)

    def _move_cursors(self, change: MoveCursors) -> None:
        moves = [
            (move.schedule_id, move.rev, move.expected_us, move.cursor_us, move.next_due_us)
            for move in change.moves
            if move.next_due_us is not None
        ]
        self._gather(statements.move_cursors, moves)
        if len(moves) < len(change.moves):
            last = [
                (move.schedule_id, move.rev, move.expected_us, move.cursor_us)
                for move in change.moves
                if move.next_due_us is None
            ]
            self._gather(statements.finish_cursors, last)

    def _put_schedules(self, schedules: tuple[Schedule, ...], expected_us: tuple[int | None, ...]) -> None:
        new: list[Schedule] = []
        edited: list[tuple[int, Schedule]] = []
        for schedule, cursor_us in zip(schedules, expected_us, strict=True):
            if cursor_us is not None:
                edited.append((cursor_us, schedule))
            elif schedule.rev == 1:
                new.append(schedule)
            else:
                raise Mismatch
        self._gather(statements.insert_schedules, [place_row(schedule) for schedule in new])
        self._gather(statements.insert_definitions, [(each.id, *definition_row(each)) for each in new])
        self._gather(statements.edit_schedules, [(cursor_us, *place_row(each)) for cursor_us, each in edited])
        self._gather(statements.edit_definitions, [(each.id, *definition_row(each)) for _, each in edited])


def drop_runs(connection: Connection, change: DropRuns) -> None:
    """Retention."""
    bounds = (change.before_us, max(change.limit, 0))
    connection.execute(statements.DROP_ATTEMPTS, bounds)
    connection.execute(statements.DROP_RUNS, bounds)
