"""A change as rows, ready to be bound to statements.

What a busy server writes all the time is encoded where it is submitted, not by the writer: the records were made there
a moment ago, so they are in that core's cache, and the writer, for which a server at its limit waits, is left with
statements, which need no interpreter.
"""

from collections.abc import Callable
from typing import Final

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
from sz_protocol.records import RunState, Schedule
from sz_shells.stores.rules import ended_us, latest_us
from sz_shells.stores.sqlite import statements
from sz_shells.stores.sqlite.rows import Row, attempt_row, definition_row, insert_rows, place_row, update_rows

_DONE: Final = RunState.DONE  # bound once, as in sz_protocol/records.py

Statement = Callable[[int], str]
"""The SQL for so many rows."""


class Mismatch(Exception):
    """Some row was refused, or will be; which, only the exact way can tell."""


@define(eq=False)
class Encoded:
    """One change: the runs and schedules that it touches, rows by what is done with them, and the latest wall time of
    it (STORE-9)."""

    change: Change
    latest_us: int
    runs: list[int] = Factory(list)
    schedules: list[str] = Factory(list)
    rows: list[tuple[Statement, list[Row]]] = Factory(list)

    def put(self, statement: Statement, rows: list[Row]) -> None:
        """Rows for one statement."""
        if rows:
            self.rows.append((statement, rows))

    def ends_before(self, us: int) -> bool:
        """Whether it leaves something that retention up to then would take."""
        match self.change:
            case InsertRuns(runs=runs) | UpdateRuns(runs=runs):
                return any(run.state is _DONE and ended_us(run) < us for run in runs)
            case InsertAttempts():
                return True
            case _:
                return False


def encode(change: Change) -> Encoded:
    """Raises Mismatch, and what the encoders raise for data that cannot be stored."""
    encoded = Encoded(change, latest_us(change))
    match change:
        case InsertRuns(runs=runs):
            encoded.runs = [run.row for run in runs]
            claimed, fresh, others = insert_rows(runs)
            encoded.put(statements.insert_claimed_runs, claimed)
            encoded.put(statements.insert_fresh_runs, fresh)
            encoded.put(statements.insert_runs, others)
        case UpdateRuns(runs=runs, expected_attempts=expected):
            encoded.runs = [run.row for run in runs]
            ends, others = update_rows(runs, expected)
            encoded.put(statements.end_runs, ends)
            encoded.put(statements.update_runs, others)
        case MoveCursors(moves=moves):
            _move_cursors(encoded, moves)
        case PutSchedules(schedules=schedules, expected_cursors_us=expected_us):
            _put_schedules(encoded, schedules, expected_us)
        case InsertAttempts(attempts=attempts):
            encoded.put(statements.insert_attempts, [attempt_row(attempt) for attempt in attempts])
        case DropRuns():
            pass  # It has no rows.
    return encoded


def _move_cursors(encoded: Encoded, moves: tuple[CursorMove, ...]) -> None:
    encoded.schedules = [move.schedule_id for move in moves]
    going_on = [
        (move.schedule_id, move.rev, move.expected_us, move.cursor_us, move.next_due_us)
        for move in moves
        if move.next_due_us is not None
    ]
    encoded.put(statements.move_cursors, going_on)
    if len(going_on) < len(moves):
        last = [
            (move.schedule_id, move.rev, move.expected_us, move.cursor_us) for move in moves if move.next_due_us is None
        ]
        encoded.put(statements.finish_cursors, last)


def _put_schedules(encoded: Encoded, schedules: tuple[Schedule, ...], expected_us: tuple[int | None, ...]) -> None:
    encoded.schedules = [schedule.id for schedule in schedules]
    new: list[Schedule] = []
    edited: list[tuple[int, Schedule]] = []
    for schedule, cursor_us in zip(schedules, expected_us, strict=True):
        if cursor_us is not None:
            edited.append((cursor_us, schedule))
        elif schedule.rev == 1:
            new.append(schedule)
        else:
            raise Mismatch
    encoded.put(statements.insert_schedules, [place_row(schedule) for schedule in new])
    encoded.put(statements.insert_definitions, [(each.id, *definition_row(each)) for each in new])
    encoded.put(statements.edit_schedules, [(cursor_us, *place_row(each)) for cursor_us, each in edited])
    encoded.put(statements.edit_definitions, [(each.id, *definition_row(each)) for _, each in edited])
