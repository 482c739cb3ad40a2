"""How the memory store answers queries. The lock is held for a few hundred rows at a time, so that a long report
stalls no write."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from threading import Lock
from typing import Any

from sz_protocol.queries import (
    AttemptsOf,
    DueSchedules,
    LedgerCounts,
    Query,
    RunByKey,
    RunsByRow,
    RunsPage,
    ScheduleIds,
    SchedulesById,
    SchedulesPage,
    UnfinishedRuns,
)
from sz_protocol.records import Outcome, Run, RunState, Schedule, ScheduleState
from sz_shells.stores.memory_tables import Tables


def answer(tables: Tables, lock: Lock, query: Query) -> tuple[Any, ...]:
    """The rows that `query` names."""
    match query:
        case DueSchedules():
            return _take(_due(tables, lock, query), query.limit)
        case SchedulesById(ids=ids):
            with lock:
                return tuple(tables.places[each].now() for each in ids if each in tables.places)
        case SchedulesPage():
            wanted = (s for s in _schedules(tables, lock, query.after_id) if _matches_schedule(s, query))
            return _take(wanted, query.limit)
        case ScheduleIds(source=source, after_id=after_id, limit=limit):
            living = (
                schedule.id
                for schedule in _schedules(tables, lock, after_id)
                if schedule.source == source and schedule.state is not ScheduleState.RETIRED
            )
            return _take(living, limit)
        case UnfinishedRuns(after_row=after_row, limit=limit):
            with lock:
                waiting = sorted(row for row in tables.unfinished if row > after_row)
                return tuple(tables.runs[row] for row in waiting[: max(limit, 0)])
        case RunsByRow(rows=rows):
            with lock:
                return tuple(tables.runs[row] for row in rows if row in tables.runs)
        case RunsPage():
            return _take((run for run in _runs(tables, lock, query) if _matches_run(run, query)), query.limit)
        case RunByKey(run_key=run_key):
            with lock:
                row = tables.rows_by_key.get(run_key)
                return () if row is None else (tables.runs[row],)
        case AttemptsOf(row=row):
            with lock:
                attempts = tables.attempts.get(row, {})
                return tuple(attempts[number] for number in sorted(attempts))
        case LedgerCounts(schedule_id=schedule_id):
            return _counts(tables, lock, schedule_id)


def _take(rows: Iterator[Any], limit: int) -> tuple[Any, ...]:
    return tuple(islice(rows, max(limit, 0)))


def _due(tables: Tables, lock: Lock, query: DueSchedules) -> Iterator[Schedule]:
    position = query.after
    while True:
        with lock:
            keys = tables.due.after(position)[: max(query.limit, 0)]
            found = [tables.places[schedule_id].now() for due_us, schedule_id in keys if due_us <= query.before_us]
        yield from found
        if not keys or len(found) < len(keys):
            return
        position = keys[-1]


def _schedules(tables: Tables, lock: Lock, after_id: str) -> Iterator[Schedule]:
    position = after_id
    while True:
        with lock:
            ids = tables.ids.after(position)
            found = [tables.places[schedule_id].now() for schedule_id in ids]
        if not ids:
            return
        yield from found
        position = ids[-1]


def _matches_schedule(schedule: Schedule, query: SchedulesPage) -> bool:
    return (query.states is None or schedule.state in query.states) and (
        query.source is None or schedule.source == query.source
    )


def _runs(tables: Tables, lock: Lock, query: RunsPage) -> Iterator[Run]:
    """Runs from the newest fire time down, within the bounds of time."""
    position = query.before
    if query.to_us is not None:
        end = (query.to_us, -1)
        position = end if position is None else min(position, end)
    while True:
        with lock:
            keys = tables.fires.before(position)
            found = [tables.runs[row] for fire_us, row in keys if query.from_us is None or fire_us >= query.from_us]
        yield from found
        if not keys or len(found) < len(keys):
            return
        position = keys[-1]


def _matches_run(run: Run, query: RunsPage) -> bool:
    return (
        (query.schedule_id is None or run.schedule_id == query.schedule_id)
        and (query.state is None or run.state is query.state)
        and (query.outcome is None or run.outcome is query.outcome)
    )


def _counts(tables: Tables, lock: Lock, schedule_id: str | None) -> tuple[Any, ...]:
    with lock:
        runs = list(tables.runs.values())
    counts: Counter[tuple[str, RunState, Outcome | None, str]] = Counter()
    for run in runs:
        if schedule_id is None or run.schedule_id == schedule_id:
            counts[run.schedule_id, run.state, run.outcome, run.reason] += run.count
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or "", item[0][3]))
    return tuple((*group, instants) for group, instants in ordered)
