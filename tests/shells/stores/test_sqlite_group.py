"""One group of writes: what the others get where one of them is in the way, what is noted of them, and their order."""

from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection

import pytest

from sz_protocol.changes import Change, DropRuns, InsertRuns, UpdateRuns
from sz_protocol.kernel.effects import Write
from sz_protocol.kernel.events import FailReason, WriteDone, WriteFailed
from sz_shells.stores.sqlite import SqliteStore
from sz_shells.stores.sqlite.bulk import MOST_ROWS, prepare
from sz_shells.stores.sqlite.files import connect_server
from sz_shells.stores.sqlite.group import ENCODED_AT_ONCE, GroupCommit, Submitted
from tests.contracts.store_world import MINUTE, T0, a_run, a_schedule, done, put


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that has had one life."""
    path = tmp_path / "jobs.db"
    store = SqliteStore(path)
    assert store.open(lambda events: None).term == 1
    store.close()
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[Connection]:
    connection = connect_server(path, 1000)
    yield connection
    connection.close()


def write(op: int, *changes: Change) -> Submitted:
    return Submitted.of(Write(op, changes, 1))


def test_store_9_the_latest_time_of_a_group_is_kept_beside_a_refusal(path: Path, connection: Connection) -> None:
    late = a_run(1, decided_us=T0 + 95 * MINUTE)
    ghost = done(a_run(7))
    answers = GroupCommit(connection, path).commit(
        [write(1, InsertRuns((late,))), write(2, InsertRuns((late,))), write(3, UpdateRuns((ghost,), (1,)))]
    )
    assert answers == [
        WriteDone(1),
        WriteFailed(2, FailReason.REFUSED, (late.row,)),
        WriteFailed(3, FailReason.REFUSED, (ghost.row,)),
    ]
    assert connection.execute("SELECT high_water_us FROM meta").fetchone() == (T0 + 95 * MINUTE,)


def test_store_2_retention_takes_nothing_that_was_submitted_after_it(path: Path, connection: Connection) -> None:
    old, ended, recent = done(a_run(1)), done(a_run(2)), done(a_run(3), finished_us=T0 + 95 * MINUTE)
    drop = DropRuns(T0 + 90 * MINUTE, 10)
    group = [
        write(1, InsertRuns((old,))),
        write(2, drop),
        write(3, InsertRuns((ended,))),
        write(4, InsertRuns((recent,))),
    ]
    assert GroupCommit(connection, path).commit(group) == [WriteDone(op) for op in (1, 2, 3, 4)]
    assert connection.execute("SELECT row FROM runs ORDER BY row").fetchall() == [(ended.row,), (recent.row,)]


def test_what_fires_write_is_encoded_where_it_is_submitted_and_the_rest_by_the_writer() -> None:
    assert write(1, InsertRuns((a_run(1),))).encoded is not None
    assert write(1, put(a_schedule("a"))).encoded is None, "an edit may be of thousands"
    assert write(1, InsertRuns(tuple(a_run(n) for n in range(ENCODED_AT_ONCE + 1)))).encoded is None
    assert write(1, InsertRuns((a_run(1, schedule_id="\udcff"), a_run(2, run_key=None)))).encoded is None


def test_what_cannot_be_encoded_is_refused_by_the_writer(path: Path, connection: Connection) -> None:
    bad = a_run(1, run_key=None)
    (answer,) = GroupCommit(connection, path).commit([write(1, InsertRuns((bad,)))])
    assert isinstance(answer, WriteFailed)
    assert (answer.reason, answer.refused) == (FailReason.INVALID, (bad.row,))


def test_memory_that_is_short_is_the_writers_to_tell(path: Path, connection: Connection) -> None:
    greedy = write(1, InsertRuns((a_run(1, run_key=1 << 62),)))
    (answer,) = GroupCommit(connection, path).commit([greedy])
    assert isinstance(answer, WriteFailed)
    assert answer.reason is FailReason.UNAVAILABLE


def test_a_burst_finds_its_statements_prepared(path: Path, connection: Connection) -> None:
    assert not prepare(connection), "no schedules, no burst"
    many = [write(op, put(a_schedule(f"{op:04d}"))) for op in range(1, MOST_ROWS + 1)]
    assert set(map(type, GroupCommit(connection, path).commit(many))) == {WriteDone}
    assert prepare(connection)
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
