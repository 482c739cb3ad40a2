"""The SQL of writing. Each function gives the statement for `n` rows at once; its parameters are the rows, flattened.

A statement says by its row count how many rows it matched: refusals are found by counting.
"""

from functools import cache

from sz_shells.stores.sqlite.rows import (
    ACTIVE,
    CLAIMED_COLUMNS,
    DONE,
    END_COLUMNS,
    FINISHED,
    FRESH_COLUMNS,
    LEASED,
    RUN_COLUMNS,
    STANDING_COLUMNS,
)

_DEFINITION = (
    "uid, hash, created_us, since_us, reason, catch_up, catch_up_until_us, paused_us, paused_reason, definition"
)


def _values(n: int, columns: int, *, last: str = "?") -> str:
    one = "(" + "?, " * (columns - 1) + last + ")"
    return "VALUES " + ", ".join([one] * n)


def _set(columns: tuple[str, ...], first: int) -> str:
    return ", ".join(f"{column} = v.column{first + at}" for at, column in enumerate(columns))


@cache
def insert_claimed_runs(n: int) -> str:
    """CLAIMED_COLUMNS: the rest of what a claim says is the same for all, or the row's own number."""
    columns = ", ".join(CLAIMED_COLUMNS)
    given = ", ".join(f"column{at}" for at in range(1, len(CLAIMED_COLUMNS) + 1))
    return (
        f"INSERT INTO runs ({columns}, state, attempt, fence) SELECT {given}, {LEASED}, 1, column1"
        f" FROM ({_values(n, len(CLAIMED_COLUMNS))}) WHERE true ON CONFLICT DO NOTHING"
    )


@cache
def insert_fresh_runs(n: int) -> str:
    """FRESH_COLUMNS."""
    return f"INSERT INTO runs ({', '.join(FRESH_COLUMNS)}) {_values(n, len(FRESH_COLUMNS))} ON CONFLICT DO NOTHING"


@cache
def insert_runs(n: int) -> str:
    """RUN_COLUMNS."""
    return f"INSERT INTO runs ({', '.join(RUN_COLUMNS)}) {_values(n, len(RUN_COLUMNS))} ON CONFLICT DO NOTHING"


@cache
def end_runs(n: int) -> str:
    """END_COLUMNS. To insert what is there costs half of what a join with the rows would (measured: 1.9 us, not 3.8). A
    row that is not there becomes one without a key: NOTE_LATEST finds it, and all of it is taken back."""
    same = ", ".join(f"{column} = excluded.{column}" for column in END_COLUMNS[2:-1])
    return (
        f"INSERT INTO runs ({', '.join(END_COLUMNS)}) {_values(n, len(END_COLUMNS))} ON CONFLICT (row) DO UPDATE"
        f" SET state = {DONE}, {same}, result = nullif(excluded.result, 0),"
        " error = NULL, failures = 0, losses = 0, not_before_us = 0, worker = ''"
        f" WHERE state < {DONE} AND attempt = excluded.attempt"
    )


@cache
def update_runs(n: int) -> str:
    """row, expected attempt, STANDING_COLUMNS."""
    return (
        f"UPDATE runs SET {_set(STANDING_COLUMNS, 3)} FROM ({_values(n, len(STANDING_COLUMNS) + 2)}) AS v"
        f" WHERE runs.row = v.column1 AND runs.state < {DONE} AND runs.attempt = v.column2"
    )


@cache
def insert_attempts(n: int) -> str:
    """Rows of `attempt_row`; a repeat is passed over."""
    return f"INSERT INTO attempts {_values(n, 7)} ON CONFLICT (row, attempt) DO NOTHING"


@cache
def move_cursors(n: int) -> str:
    """id, rev, expected cursor, cursor, next due time."""
    return (
        f"UPDATE schedules SET cursor_us = v.column4, next_due_us = v.column5 FROM ({_values(n, 5)}) AS v"
        f" WHERE id = v.column1 AND rev = v.column2 AND cursor_us = v.column3 AND state = {ACTIVE}"
    )


@cache
def finish_cursors(n: int) -> str:
    """id, rev, expected cursor, cursor: of schedules that have no fire time left."""
    return (
        f"UPDATE schedules SET cursor_us = v.column4, next_due_us = NULL, state = {FINISHED}"
        f" FROM ({_values(n, 4)}) AS v"
        f" WHERE id = v.column1 AND rev = v.column2 AND cursor_us = v.column3 AND state = {ACTIVE}"
    )


@cache
def insert_schedules(n: int) -> str:
    """Rows of `place_row`."""
    return (
        "INSERT INTO schedules (id, rev, state, cursor_us, source, next_due_us)"
        f" {_values(n, 6, last=_OR_NULL)} ON CONFLICT DO NOTHING"
    )


@cache
def insert_definitions(n: int) -> str:
    """id, then the columns of `definition_row`; the schedules are there already."""
    columns = ", ".join(f"v.column{at}" for at in range(2, 12))
    return (
        f"INSERT INTO definitions (num, {_DEFINITION}) SELECT s.num, {columns}"
        f" FROM ({_values(n, 11)}) AS v CROSS JOIN schedules AS s WHERE s.id = v.column1"
    )


@cache
def edit_schedules(n: int) -> str:
    """Expected cursor, then rows of `place_row`."""
    columns = ("rev", "state", "cursor_us", "source", "next_due_us")
    return (
        f"UPDATE schedules SET {_set(columns, 3)} FROM ({_values(n, 7, last=_OR_NULL)}) AS v"
        " WHERE id = v.column2 AND rev = v.column3 - 1 AND cursor_us = v.column1"
    )


@cache
def edit_definitions(n: int) -> str:
    """id, then the columns of `definition_row`."""
    columns = tuple(_DEFINITION.split(", "))
    return (
        # A sub-select, not a join: the planner would walk through all definitions for each row.
        f"UPDATE definitions SET {_set(columns, 2)} FROM ({_values(n, 11)}) AS v"
        " WHERE definitions.num = (SELECT s.num FROM schedules AS s WHERE s.id = v.column1)"
    )


KEEP_LATEST = "UPDATE meta SET high_water_us = max(high_water_us, ?)"
"""The latest wall time of a group."""
NOTE_LATEST = f"{KEEP_LATEST} WHERE term = ? AND NOT EXISTS (SELECT 1 FROM runs WHERE run_key IS NULL)"
"""The same, and the term of the group. Matches nothing where the term is over, or where the end of a run that
is not there was taken for a new run: one statement for both, and not one each."""

_OR_NULL = "nullif(?, '')"
_OLD_RUNS = (
    f"SELECT row FROM runs WHERE state = {DONE} AND coalesce(finished_us, decided_us) < ?"
    " ORDER BY coalesce(finished_us, decided_us), row LIMIT ?"
)
DROP_ATTEMPTS = f"DELETE FROM attempts WHERE row IN ({_OLD_RUNS})"
DROP_RUNS = f"DELETE FROM runs WHERE row IN ({_OLD_RUNS})"
"""Of the runs that ended before a time, the oldest: time, limit. The attempts first, while the runs still name them."""
