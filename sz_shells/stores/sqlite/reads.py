"""Queries as SQL.

All rows of an answer come out of the database as one JSON text, in one step: fetching gives up the interpreter's lock
at every row and has to win it back from a busy event loop each time (measured: 500 microseconds a row at worst).
"""

import json
from collections.abc import Callable, Sequence
from sqlite3 import Connection, DataError
from typing import Any, TypeVar

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
from sz_protocol.records import Outcome, RunState
from sz_shells.stores.sqlite.rows import (
    ACTIVE,
    ATTEMPT_OUT,
    DONE,
    OUTCOMES,
    RETIRED,
    RUN_OUT,
    RUN_STATES,
    SCHEDULE_OUT,
    SCHEDULE_STATES,
    attempt_from,
    group_from,
    run_from,
    schedule_from,
)

T = TypeVar("T")
Parameters = Sequence[Any]

_ALL = 1 << 62
_WITH_DEFINITION = " CROSS JOIN definitions AS d ON d.num = s.num"
_UNFINISHED = "INDEXED BY runs_unfinished"
_TROUBLED = "INDEXED BY runs_troubled"


def answer(connection: Connection, query: Query) -> tuple[Any, ...]:
    """The rows that `query` names. Raises sqlite3.Error."""
    match query:
        case DueSchedules():
            return _due(connection, query)
        case SchedulesById(ids=ids):
            wanted = "FROM json_each(?) AS j CROSS JOIN schedules AS s ON s.id = j.value" + _WITH_DEFINITION
            return _fetch(connection, schedule_from, SCHEDULE_OUT, f"{wanted} ORDER BY j.key", [json.dumps(ids)])
        case SchedulesPage():
            return _schedules(connection, query)
        case ScheduleIds(source=source, after_id=after_id, limit=limit):
            wanted = f"FROM schedules WHERE id > ? AND source = ? AND state <> {RETIRED} ORDER BY id"
            return _fetch(connection, _only, ["id"], wanted, [after_id, source], limit)
        case UnfinishedRuns(after_row=after_row, limit=limit):
            wanted = f"FROM runs {_UNFINISHED} WHERE state < {DONE} AND row > ? ORDER BY row"
            return _fetch(connection, run_from, RUN_OUT, wanted, [after_row], limit)
        case RunsByRow(rows=rows):
            wanted = "FROM json_each(?) AS j CROSS JOIN runs ON row = j.value ORDER BY j.key"
            return _fetch(connection, run_from, RUN_OUT, wanted, [json.dumps(rows)])
        case RunsPage():
            return _runs(connection, query)
        case RunByKey(run_key=run_key):
            return _fetch(connection, run_from, RUN_OUT, "FROM runs WHERE run_key = ?", [run_key])
        case AttemptsOf(row=row):
            wanted = "FROM attempts WHERE row = ? ORDER BY attempt"
            return _fetch(connection, attempt_from, ATTEMPT_OUT, wanted, [row])
        case LedgerCounts(schedule_id=schedule_id):
            return _counts(connection, schedule_id)


def _fetch(
    connection: Connection,
    make: Callable[[Sequence[Any]], T],
    columns: Sequence[str],
    wanted: str,
    parameters: Parameters,
    limit: int = _ALL,
) -> tuple[T, ...]:
    # The limit keeps the inner order: SQLite may drop an ORDER BY of a subquery that has none.
    named = ", ".join(f"{column} AS c{at}" for at, column in enumerate(columns))
    inner = f"SELECT {named} {wanted} LIMIT ?"
    names = ", ".join(f"c{at}" for at in range(len(columns)))
    outer = f"SELECT json_group_array(json_array({names})) FROM ({inner})"
    bound = [*parameters, max(limit, 0)]
    try:
        ((text,),) = connection.execute(outer, bound).fetchall()
        rows = json.loads(text)
    except DataError:
        # More than a text may hold (a gigabyte): then row by row.
        rows = connection.execute(inner, bound).fetchall()
    return tuple(map(make, rows))


def _only(row: Sequence[Any]) -> Any:
    return row[0]


def _due(connection: Connection, query: DueSchedules) -> tuple[Any, ...]:
    wanted = (
        "FROM schedules AS s INDEXED BY schedules_due"
        + _WITH_DEFINITION
        + f" WHERE s.state = {ACTIVE} AND s.next_due_us IS NOT NULL AND s.next_due_us <= ?"
    )
    parameters: list[Any] = [query.before_us]
    if query.after is not None:
        wanted += " AND (s.next_due_us, s.id) > (?, ?)"
        parameters += query.after
    wanted += " ORDER BY s.next_due_us, s.id"
    return _fetch(connection, schedule_from, SCHEDULE_OUT, wanted, parameters, query.limit)


def _schedules(connection: Connection, query: SchedulesPage) -> tuple[Any, ...]:
    wanted = "FROM schedules AS s" + _WITH_DEFINITION + " WHERE s.id > ?"
    parameters: list[Any] = [query.after_id]
    if query.states is not None:
        wanted += f" AND s.state IN ({', '.join('?' * len(query.states))})"
        parameters += [SCHEDULE_STATES[state] for state in query.states]
    if query.source is not None:
        wanted += " AND s.source = ?"
        parameters.append(query.source)
    return _fetch(connection, schedule_from, SCHEDULE_OUT, f"{wanted} ORDER BY s.id", parameters, query.limit)


def _runs(connection: Connection, query: RunsPage) -> tuple[Any, ...]:
    conditions: list[str] = []
    parameters: list[Any] = []

    def where(condition: str, *values: Any) -> None:
        conditions.append(condition)
        parameters.extend(values)

    if query.before is not None:
        where("(fire_us, row) < (?, ?)", *query.before)
    if query.schedule_id is not None:
        where("schedule_id = ?", query.schedule_id)
    if query.state is not None:
        where(f"state = {RUN_STATES[query.state]}")
    if query.outcome is not None:
        where(f"outcome = {OUTCOMES[query.outcome]}")
    # A partial index is found only by the very words of its condition.
    index = _index(query)
    if index == _UNFINISHED:
        where(f"state < {DONE}")
    elif index == _TROUBLED:
        where("outcome > 1")
    if query.from_us is not None:
        where("fire_us >= ?", query.from_us)
    if query.to_us is not None:
        where("fire_us < ?", query.to_us)
    wanted = f"FROM runs {index}" + (" WHERE " + " AND ".join(conditions) if conditions else "")
    return _fetch(connection, run_from, RUN_OUT, f"{wanted} ORDER BY fire_us DESC, row DESC", parameters, query.limit)


def _index(query: RunsPage) -> str:
    """The index to walk: SQLite has no statistics here, and a wrong guess reads the whole ledger."""
    if query.state is not None and query.state is not RunState.DONE:
        return _UNFINISHED
    if query.schedule_id is not None:
        return "INDEXED BY runs_of_schedule"
    if query.outcome is not None and query.outcome is not Outcome.SUCCEEDED:
        return _TROUBLED
    return ""


def _counts(connection: Connection, schedule_id: str | None) -> tuple[Any, ...]:
    wanted = "FROM runs" + ("" if schedule_id is None else " WHERE schedule_id = ?")
    wanted += " GROUP BY schedule_id, state, outcome, reason"
    parameters = [] if schedule_id is None else [schedule_id]
    groups = _fetch(
        connection, group_from, ["schedule_id", "state", "outcome", "reason", "sum(count)"], wanted, parameters
    )
    return tuple(sorted(groups, key=lambda group: (group[0], group[1], group[2] or "", group[3])))
