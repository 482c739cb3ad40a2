"""The tables of a SQLite store, as a list of migrations: the n-th leads from version n-1 to version n.

A migration that was released is never edited; what is needed next is appended. Each runs in a transaction of its own
together with the new version number, so that a crash leaves a whole version behind.

Codes of enumerations stand in `rows.py`. Times are microseconds since 1970, UTC. Columns have no NOT NULL: a statement
over many rows that could fail such a check keeps a journal of its own (measured: 8 % of a fire).
"""

from attrs import frozen

APPLICATION_ID = 0x535A_6572
"""Marks a SQLite file as ours (pragma application_id): the letters "SZer"."""


@frozen
class Migration:
    """One step of the schema: what it is for, and its statements in order."""

    purpose: str
    statements: tuple[str, ...]


# Every index is paid for by each write; each names the query that needs it.
_SCHEDULES_AND_LEDGER = Migration(
    "schedules, runs, attempts",
    (
        # One row: the term of the last life and the latest wall time that was recorded (STORE-5, STORE-9).
        "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), term INTEGER, high_water_us INTEGER)",
        "INSERT INTO meta VALUES (1, 0, 0)",
        # What moves with every fire is kept apart from what only an edit changes: fires write small rows.
        "CREATE TABLE schedules (num INTEGER PRIMARY KEY, id TEXT UNIQUE, rev INTEGER,"
        " state INTEGER, cursor_us INTEGER, next_due_us INTEGER, source TEXT)",
        "CREATE TABLE definitions (num INTEGER PRIMARY KEY, uid TEXT, hash BLOB,"
        " created_us INTEGER, since_us INTEGER, reason TEXT, catch_up INTEGER,"
        " catch_up_until_us INTEGER, definition BLOB)",
        # DueSchedules.
        "CREATE INDEX schedules_due ON schedules (next_due_us, id) WHERE state = 1 AND next_due_us IS NOT NULL",
        "CREATE TABLE runs (row INTEGER PRIMARY KEY, run_key BLOB, schedule_id TEXT,"
        " fire_us INTEGER, handler_id TEXT, method TEXT, state INTEGER,"
        " decided_us INTEGER, reason TEXT, attempt INTEGER, fence INTEGER,"
        " outcome INTEGER, started_us INTEGER, finished_us INTEGER, result TEXT, error TEXT,"
        " kind INTEGER DEFAULT 1, failures INTEGER DEFAULT 0, losses INTEGER DEFAULT 0,"
        " not_before_us INTEGER DEFAULT 0, count INTEGER DEFAULT 1, until_us INTEGER,"
        " covers TEXT, params BLOB, worker TEXT DEFAULT '')",
        # FIRE-1, and RunByKey; and the check of each group for ends of runs that are not there.
        "CREATE UNIQUE INDEX runs_key ON runs (run_key)",
        # RunsPage, of all and of one schedule.
        "CREATE INDEX runs_fire ON runs (fire_us)",
        "CREATE INDEX runs_of_schedule ON runs (schedule_id, fire_us)",
        # RunsPage of what did not succeed; successes cost nothing here.
        "CREATE INDEX runs_troubled ON runs (outcome, fire_us) WHERE outcome > 1",
        # UnfinishedRuns.
        "CREATE INDEX runs_unfinished ON runs (row) WHERE state < 3",
        # DropRuns, oldest first; one that never ran ended when it was decided.
        "CREATE INDEX runs_ended ON runs (coalesce(finished_us, decided_us)) WHERE state = 3",
        "CREATE TABLE attempts (row INTEGER, attempt INTEGER, outcome INTEGER, reason TEXT, started_us INTEGER,"
        " finished_us INTEGER, error TEXT, PRIMARY KEY (row, attempt)) WITHOUT ROWID",
    ),
)

_LASTING_PAUSES = Migration(
    "a schedule that was paused when it left its source comes back so",
    (
        "ALTER TABLE definitions ADD COLUMN paused_us INTEGER DEFAULT -1",
        "ALTER TABLE definitions ADD COLUMN paused_reason TEXT DEFAULT ''",
    ),
)

MIGRATIONS: tuple[Migration, ...] = (_SCHEDULES_AND_LEDGER, _LASTING_PAUSES)
