"""One operation, row by row: the slow way, which names every row that is refused or cannot be stored."""

from collections.abc import Callable, Sequence
from sqlite3 import Connection, DataError, IntegrityError, InterfaceError, ProgrammingError

from attrs import Factory, define

from sz_protocol.changes import (
    Change,
    CursorMove,
    DropRuns,
    InsertAttempts,
    InsertRuns,
    MoveCursors,
    PutSchedules,
    UpdateRuns,
)
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.records import Attempt, Run, Schedule
from sz_shells.stores.sqlite import statements
from sz_shells.stores.sqlite.bulk import drop_runs
from sz_shells.stores.sqlite.rows import attempt_row, definition_row, place_row, run_row, standing_row

UNSTORABLE = (
    TypeError,
    ValueError,  # a lone surrogate, lists of different lengths
    OverflowError,  # an integer beyond 64 bits
    KeyError,  # no member of its enumeration
    AttributeError,  # no record at all
    DataError,
    InterfaceError,
    ProgrammingError,
    LocalProtocolError,
)
"""What encoders and sqlite3 raise for data that cannot be stored."""

_UNIQUE = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID")


@define
class Findings:
    """Who was refused and whose data cannot be stored, each once, in order; and why the first could not."""

    refused: dict[str | int, None] = Factory(dict)
    unstorable: dict[str | int, None] = Factory(dict)
    detail: str = ""


class Exact:
    """Applies changes one row after the other. Rows that are refused or unstorable are passed over and noted in
    `findings`; when there are any, the caller takes the whole operation back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.findings = Findings()

    def apply(self, change: Change) -> None:
        """Apply what can be applied. Raises UNSTORABLE when the fault is no single row's, sqlite3.Error when the
        database fails."""
        match change:
            case PutSchedules(schedules=schedules, expected_cursors_us=expected_us):
                for schedule, cursor_us in zip(schedules, expected_us, strict=True):
                    self._try(schedule.id, self._put_schedule, schedule, cursor_us)
            case MoveCursors(moves=moves):
                for move in moves:
                    self._try(move.schedule_id, self._move_cursor, move)
            case InsertRuns(runs=runs):
                for run in runs:
                    self._try(run.row, self._insert_run, run)
            case UpdateRuns(runs=runs, expected_attempts=attempts):
                for run, attempt in zip(runs, attempts, strict=True):
                    self._try(run.row, self._update_run, run, attempt)
            case InsertAttempts(attempts=attempts):
                for each in attempts:
                    self._try(each.row, self._insert_attempt, each)
            case DropRuns():
                drop_runs(self._connection, change)

    def _try(self, identity: str | int, step: Callable[..., bool], *record: object) -> None:
        try:
            if not step(*record):
                self.findings.refused[identity] = None
        except IntegrityError as error:
            if error.sqlite_errorname in _UNIQUE:
                self.findings.refused[identity] = None
            else:
                self._unstorable(identity, error)
        except UNSTORABLE as error:
            self._unstorable(identity, error)

    def _unstorable(self, identity: str | int, error: Exception) -> None:
        self.findings.unstorable[identity] = None
        self.findings.detail = self.findings.detail or f"{identity}: {error}"

    def _put_schedule(self, schedule: Schedule, expected_us: int | None) -> bool:
        place, definition = place_row(schedule), (schedule.id, *definition_row(schedule))
        if expected_us is not None:
            return self._one(statements.edit_schedules, (expected_us, *place)) and self._one(
                statements.edit_definitions, definition
            )
        return (
            schedule.rev == 1
            and self._one(statements.insert_schedules, place)
            and self._one(statements.insert_definitions, definition)
        )

    def _move_cursor(self, move: CursorMove) -> bool:
        row = (move.schedule_id, move.rev, move.expected_us, move.cursor_us)
        if move.next_due_us is None:
            return self._one(statements.finish_cursors, row)
        return self._one(statements.move_cursors, (*row, move.next_due_us))

    def _insert_run(self, run: Run) -> bool:
        return self._one(statements.insert_runs, run_row(run))

    def _update_run(self, run: Run, expected_attempt: int) -> bool:
        return self._one(statements.update_runs, standing_row(run, expected_attempt))

    def _insert_attempt(self, attempt: Attempt) -> bool:
        self._one(statements.insert_attempts, attempt_row(attempt))
        return True

    def _one(self, statement: Callable[[int], str], row: Sequence[object]) -> bool:
        return self._connection.execute(statement(1), row).rowcount == 1
