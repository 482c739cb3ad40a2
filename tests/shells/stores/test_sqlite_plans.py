"""Pain 20: cost follows due work only. SQLite's own plans say that no statement of the hot paths walks a table."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sz_protocol.changes import InsertRuns, PutSchedules
from sz_protocol.queries import (
    AttemptsOf,
    DueSchedules,
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
from sz_shells.stores.sqlite import statements
from sz_shells.stores.sqlite.files import connect_reader
from sz_shells.stores.sqlite.reads import answer
from tests.contracts.store_world import T0, Session, a_run, a_schedule

TABLES = ("runs", "schedules", "definitions", "attempts", "s", "d")
MANY = (
    statements.insert_claimed_runs,
    statements.insert_fresh_runs,
    statements.insert_runs,
    statements.end_runs,
    statements.update_runs,
    statements.insert_attempts,
    statements.move_cursors,
    statements.finish_cursors,
    statements.insert_schedules,
    statements.insert_definitions,
    statements.edit_schedules,
    statements.edit_definitions,
)
ONE = (statements.NOTE_LATEST, statements.DROP_ATTEMPTS, statements.DROP_RUNS)


@pytest.fixture
def connection(session: Session, path: Path) -> Iterator[sqlite3.Connection]:
    """A reader of a store with something in it."""
    session.do(PutSchedules((a_schedule("a"),), (None,)), InsertRuns((a_run(1),)))
    connection = connect_reader(path)
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    """What SQLite would do, a line for each loop and each sort."""
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))]


def walked(steps: list[str]) -> list[str]:
    """Tables that are read from end to end, in whatever order."""
    return [step for step in steps if step.startswith("SCAN ") and step.split()[1] in TABLES]


@pytest.mark.parametrize("statement", MANY, ids=lambda statement: statement.__name__)
def test_pain_20_writing_looks_each_row_up(connection: sqlite3.Connection, statement: Callable[[int], str]) -> None:
    for n in (1, 2, 512):
        assert walked(plan(connection, statement(n))) == []


@pytest.mark.parametrize("sql", ONE)
def test_pain_20_retention_and_the_check_of_a_group_walk_nothing(connection: sqlite3.Connection, sql: str) -> None:
    assert walked(plan(connection, sql)) == []


@pytest.mark.parametrize(
    "query",
    [
        DueSchedules(T0, None, 10),
        DueSchedules(T0, (T0, "a"), 10),
        SchedulesPage(after_id="a"),
        ScheduleIds("config", "a"),
        UnfinishedRuns(),
        RunsPage(before=(T0, 1)),
        RunsPage(schedule_id="a"),
        RunsPage(schedule_id="a", before=(T0, 1), from_us=T0),
        RunsPage(outcome=Outcome.FAILED),
        RunsPage(outcome=Outcome.LOST, before=(T0, 1)),
        RunByKey(b"key"),
        AttemptsOf(1),
    ],
)
def test_pain_20_a_page_is_read_in_the_order_of_its_index(connection: sqlite3.Connection, query: Query) -> None:
    steps = plan(connection, sql_of(connection, query))
    assert walked(steps) == []
    assert [step for step in steps if "TEMP B-TREE" in step] == []


@pytest.mark.parametrize("query", [SchedulesById(("a", "b")), RunsByRow((1, 2))])
def test_pain_20_what_is_asked_for_by_name_is_looked_up(connection: sqlite3.Connection, query: Query) -> None:
    assert walked(plan(connection, sql_of(connection, query))) == []


def test_pain_20_the_newest_of_the_ledger_and_what_waits_are_found_by_index(connection: sqlite3.Connection) -> None:
    (newest,) = walked(plan(connection, sql_of(connection, RunsPage())))
    assert newest == "SCAN runs USING INDEX runs_fire"
    (waiting,) = walked(plan(connection, sql_of(connection, RunsPage(state=RunState.LEASED))))
    assert waiting == "SCAN runs USING INDEX runs_unfinished"


def sql_of(connection: sqlite3.Connection, query: Query) -> str:
    """The statement that answers a query."""
    said: list[str] = []
    connection.set_trace_callback(said.append)
    answer(connection, query)
    connection.set_trace_callback(None)
    (sql,) = said
    return sql
