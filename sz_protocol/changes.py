"""What a `Write` holds. Each change is a batch; a store applies all changes of one `Write`, in order, or none.

Every change that could meet a newer truth is a compare-and-set. A store answers `WriteFailed(op, REFUSED, refused)`
with the identities it refused (schedule ids or run rows), and leaves nothing of that operation behind.
"""

from sz_protocol.kernel.record import record
from sz_protocol.records import Attempt, Run, Schedule


@record
class PutSchedules:
    """Insert or replace whole schedules. An existing row is replaced only when its rev is `schedule.rev - 1` and its
    cursor is the paired `expected_cursors_us`; a new row needs rev 1 and an expected cursor of None."""

    schedules: tuple[Schedule, ...]
    expected_cursors_us: tuple[int | None, ...]


@record
class CursorMove:
    """Advance one cursor, if rev and cursor are still those that the decision was made on, and the schedule is
    ACTIVE. No `next_due_us`: no fire time is left, and the schedule is FINISHED. A cursor may stay where it is."""

    schedule_id: str
    rev: int
    expected_us: int
    cursor_us: int
    next_due_us: int | None


@record
class MoveCursors:
    """Advance cursors; a move with `next_due_us=None` also turns the schedule FINISHED."""

    moves: tuple[CursorMove, ...]


@record
class InsertRuns:
    """New rows of the ledger. A run key that exists already is refused (FIRE-1)."""

    runs: tuple[Run, ...]


@record
class UpdateRuns:
    """Bring rows to where their runs stand now. Refused when the stored row is DONE, or when its attempt is not the
    paired expected one: a completion of an older attempt must not win (RUN-2). What a run is (`records.INBORN`) is as
    it was inserted, which is for the caller to see to: a store may take it from either (STORE-14)."""

    runs: tuple[Run, ...]
    expected_attempts: tuple[int, ...]


@record
class InsertAttempts:
    """History of attempts that were followed by another one; (row, attempt) is unique, a repeat is ignored."""

    attempts: tuple[Attempt, ...]


@record
class DropRuns:
    """Retention: delete at most `limit` DONE rows that finished before `before_us`, oldest first, with their
    attempts."""

    before_us: int
    limit: int


Change = PutSchedules | MoveCursors | InsertRuns | UpdateRuns | InsertAttempts | DropRuns
