"""How the tables of a simulated store answer queries."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from itertools import islice
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
from sz_protocol.records import Run, Schedule, ScheduleState
from sz_runtime.simulation.tables import Tables


def answer(tables: Tables, query: Query) -> tuple[Any, ...]:
    """The rows that `query` asks for, as `sz_protocol.queries` describes them."""
    match query:
        case DueSchedules():
            return _due(tables, query)
        case SchedulesById(ids):
            return tuple(tables.schedules[name] for name in ids if name in tables.schedules)
        case SchedulesPage():
            return tuple(islice(_schedules(tables, query), query.limit))
        case ScheduleIds(source, after_id, limit):
            names = sorted(s.id for s in tables.schedules.values() if s.source == source and s.id > after_id)
            live = (name for name in names if tables.schedules[name].state is not ScheduleState.RETIRED)
            return tuple(islice(live, limit))
        case UnfinishedRuns(after_row, limit):
            return tuple(tables.runs[row] for row in sorted(tables.unfinished) if row > after_row)[:limit]
        case RunsByRow(rows):
            return tuple(tables.runs[row] for row in rows if row in tables.runs)
        case RunsPage():
            return tuple(_runs(tables, query)[: query.limit])
        case RunByKey(key):
            return (tables.runs[tables.rows_by_key[key]],) if key in tables.rows_by_key else ()
        case AttemptsOf(row):
            return tuple(tables.attempts_of(row)) if row in tables.runs else ()
        case LedgerCounts(schedule_id):
            return _counts(tables, schedule_id)


def _due(tables: Tables, query: DueSchedules) -> tuple[Schedule, ...]:
    after = query.after if query.after is not None else (-1, "")
    first = bisect_right(tables.due, after)
    found: list[Schedule] = []
    for due_us, name in tables.due[first : first + query.limit]:
        if due_us > query.before_us:
            break
        found.append(tables.schedules[name])
    return tuple(found)


def _schedules(tables: Tables, query: SchedulesPage) -> Iterable[Schedule]:
    for name in sorted(tables.schedules):
        schedule = tables.schedules[name]
        if name <= query.after_id or (query.source is not None and schedule.source != query.source):
            continue
        if query.states is None or schedule.state in query.states:
            yield schedule


def _runs(tables: Tables, query: RunsPage) -> list[Run]:
    found = [run for run in tables.runs.values() if _wanted(run, query)]
    return sorted(found, key=lambda run: (run.fire_us, run.row), reverse=True)


def _wanted(run: Run, query: RunsPage) -> bool:
    return (
        (query.before is None or (run.fire_us, run.row) < query.before)
        and (query.schedule_id is None or run.schedule_id == query.schedule_id)
        and (query.state is None or run.state is query.state)
        and (query.outcome is None or run.outcome is query.outcome)
        and (query.from_us is None or run.fire_us >= query.from_us)
        and (query.to_us is None or run.fire_us < query.to_us)
    )


def _counts(tables: Tables, schedule_id: str | None) -> tuple[tuple[Any, ...], ...]:
    counts: Counter[tuple[Any, ...]] = Counter()
    for run in tables.runs.values():
        if schedule_id is None or run.schedule_id == schedule_id:
            counts[run.schedule_id, run.state, run.outcome, run.reason] += run.count
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or "", item[0][3]))
    return tuple((*group, instants) for group, instants in ordered)
