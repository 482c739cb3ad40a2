"""How the memory store applies a change: row by row, in order, remembering how to take it back.

Every function appends to `undo` what takes it back, and returns the schedules or rows that a compare-and-set or a
unique key refused.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Final

from sz_protocol.changes import Change, DropRuns, InsertAttempts, InsertRuns, MoveCursors, PutSchedules, UpdateRuns
from sz_protocol.records import Attempt, Run, RunState, Schedule, ScheduleState
from sz_shells.stores.memory_tables import Place, Tables
from sz_shells.stores.rules import ended_us

# Bound once, as in sz_protocol/records.py.
_DONE: Final = RunState.DONE
_ACTIVE: Final = ScheduleState.ACTIVE
_FINISHED: Final = ScheduleState.FINISHED

Undo = list[Callable[[], None]]
Refused = Sequence[str | int]


def apply_change(tables: Tables, change: Change, undo: Undo) -> Refused:
    """Apply one change. Returns what it refused, passing it over; then `undo`, from its end, restores what was."""
    match change:
        case InsertRuns(runs=runs):
            return _insert_runs(tables, runs, undo)
        case MoveCursors():
            return _move_cursors(tables, change, undo)
        case UpdateRuns():
            return _update_runs(tables, change, undo)
        case PutSchedules():
            return _put_schedules(tables, change, undo)
        case InsertAttempts(attempts=attempts):
            return _insert_attempts(tables, attempts, undo)
        case DropRuns(before_us=before_us, limit=limit):
            return _drop_runs(tables, before_us, limit, undo)


# --- schedules -------------------------------------------------------------------------------------------------


def _put_schedules(tables: Tables, change: PutSchedules, undo: Undo) -> Refused:
    replaced: list[tuple[str, Place | None]] = []
    undo.append(lambda: _restore_places(tables, replaced))
    refused: list[str] = []
    for schedule, expected_us in zip(change.schedules, change.expected_cursors_us, strict=True):
        place = tables.places.get(schedule.id)
        if not _may_put(place, schedule, expected_us):
            refused.append(schedule.id)
            continue
        replaced.append((schedule.id, place))
        new = Place(schedule, schedule.cursor_us, schedule.next_due_us, schedule.state)
        _set_place(tables, schedule.id, place, new)
    return refused


def _may_put(place: Place | None, schedule: Schedule, expected_us: int | None) -> bool:
    if place is None:
        return expected_us is None and schedule.rev == 1
    return place.cursor_us == expected_us and place.put.rev == schedule.rev - 1


def _set_place(tables: Tables, schedule_id: str, old: Place | None, new: Place | None) -> None:
    if old is not None and old.due is not None:
        tables.due.discard((old.due, schedule_id))
    if new is None:
        del tables.places[schedule_id]
        tables.ids.discard(schedule_id)
        return
    tables.places[schedule_id] = new
    if old is None:
        tables.ids.add(schedule_id)
    if new.due is not None:
        tables.due.add((new.due, schedule_id))


def _restore_places(tables: Tables, replaced: list[tuple[str, Place | None]]) -> None:
    for schedule_id, old in reversed(replaced):
        _set_place(tables, schedule_id, tables.places[schedule_id], old)


def _move_cursors(tables: Tables, change: MoveCursors, undo: Undo) -> Refused:
    places, due = tables.places, tables.due
    moved: list[tuple[Place, int, int | None]] = []
    undo.append(lambda: _restore_cursors(tables, moved))
    refused: list[str] = []
    for move in change.moves:
        schedule_id = move.schedule_id
        place = places.get(schedule_id)
        if (
            place is None
            or place.cursor_us != move.expected_us
            or place.state is not _ACTIVE
            or place.put.rev != move.rev
        ):
            refused.append(schedule_id)
            continue
        before = place.next_due_us
        moved.append((place, place.cursor_us, before))
        place.cursor_us = move.cursor_us
        place.next_due_us = after = move.next_due_us
        if before is not None:
            due.discard((before, schedule_id))
        if after is None:
            place.state = _FINISHED
        else:
            due.add((after, schedule_id))
    return refused


def _restore_cursors(tables: Tables, moved: list[tuple[Place, int, int | None]]) -> None:
    for place, cursor_us, next_due_us in reversed(moved):
        schedule_id = place.put.id
        if place.due is not None:
            tables.due.discard((place.due, schedule_id))
        place.cursor_us, place.next_due_us, place.state = cursor_us, next_due_us, _ACTIVE
        if next_due_us is not None:
            tables.due.add((next_due_us, schedule_id))


# --- runs ------------------------------------------------------------------------------------------------------


def _insert_runs(tables: Tables, runs: tuple[Run, ...], undo: Undo) -> Refused:
    by_row, rows_by_key, unfinished, fires = tables.runs, tables.rows_by_key, tables.unfinished, tables.fires
    inserted: list[Run] = []
    undo.append(lambda: _forget_runs(tables, inserted))
    refused: list[int] = []
    for run in runs:
        row = run.row
        if row in by_row or run.run_key in rows_by_key:
            refused.append(row)
            continue
        inserted.append(run)
        by_row[row] = run
        rows_by_key[run.run_key] = row
        fires.add((run.fire_us, row))
        if run.state is _DONE:
            heappush(tables.ended, (ended_us(run), row))
        else:
            unfinished[row] = None
    return refused


def _forget_runs(tables: Tables, runs: list[Run]) -> None:
    for run in runs:
        del tables.runs[run.row], tables.rows_by_key[run.run_key]
        tables.fires.discard((run.fire_us, run.row))
        tables.unfinished.pop(run.row, None)


def _update_runs(tables: Tables, change: UpdateRuns, undo: Undo) -> Refused:
    by_row, unfinished, ended = tables.runs, tables.unfinished, tables.ended
    replaced: list[Run] = []
    undo.append(lambda: _restore_runs(tables, replaced))
    refused: list[int] = []
    for run, expected in zip(change.runs, change.expected_attempts, strict=True):
        row = run.row
        old = by_row.get(row)
        if old is None or old.state is _DONE or old.attempt != expected:
            refused.append(row)
            continue
        replaced.append(old)
        by_row[row] = run
        if run.state is _DONE:
            del unfinished[row]
            heappush(ended, (ended_us(run), row))
    return refused


def _restore_runs(tables: Tables, replaced: list[Run]) -> None:
    for old in reversed(replaced):
        tables.runs[old.row] = old
        tables.unfinished[old.row] = None


def _insert_attempts(tables: Tables, attempts: tuple[Attempt, ...], undo: Undo) -> Refused:
    inserted: list[Attempt] = []
    undo.append(lambda: _forget_attempts(tables, inserted))
    for attempt in attempts:
        known = tables.attempts.setdefault(attempt.row, {})
        if attempt.attempt not in known:
            known[attempt.attempt] = attempt
            inserted.append(attempt)
    return ()


def _forget_attempts(tables: Tables, attempts: list[Attempt]) -> None:
    for attempt in attempts:
        del tables.attempts[attempt.row][attempt.attempt]


def _drop_runs(tables: Tables, before_us: int, limit: int, undo: Undo) -> Refused:
    dropped: list[Run] = []
    attempts: dict[int, dict[int, Attempt]] = {}
    undo.append(lambda: _bring_back(tables, dropped, attempts))
    while len(dropped) < limit and tables.ended and tables.ended[0][0] < before_us:
        end_us, row = heappop(tables.ended)
        run = tables.runs.get(row)
        # An entry outlives its run when the operation that made it was taken back.
        if run is None or run.state is not _DONE or ended_us(run) != end_us:
            continue
        dropped.append(run)
        del tables.runs[row], tables.rows_by_key[run.run_key]
        tables.fires.discard((run.fire_us, row))
        if row in tables.attempts:
            attempts[row] = tables.attempts.pop(row)
    return ()


def _bring_back(tables: Tables, dropped: list[Run], attempts: dict[int, dict[int, Attempt]]) -> None:
    for run in dropped:
        tables.runs[run.row] = run
        tables.rows_by_key[run.run_key] = run.row
        tables.fires.add((run.fire_us, run.row))
        heappush(tables.ended, (ended_us(run), run.row))
    tables.attempts.update(attempts)
