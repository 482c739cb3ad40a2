"""One group of writes and one of them in the way: what the others get, and what is noted of them."""

from pathlib import Path

from sz_protocol.changes import InsertRuns, UpdateRuns
from sz_protocol.kernel.effects import Write
from sz_protocol.kernel.events import FailReason, WriteDone, WriteFailed
from sz_shells.stores.sqlite import SqliteStore
from sz_shells.stores.sqlite.files import connect_server
from sz_shells.stores.sqlite.group import GroupCommit, Submitted
from tests.contracts.store_world import MINUTE, T0, a_run, done


def test_store_9_the_latest_time_of_a_group_is_kept_beside_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = SqliteStore(path)
    term = store.open(lambda events: None).term
    store.close()
    connection = connect_server(path, 1000)
    late = a_run(1, decided_us=T0 + 95 * MINUTE)
    writes = [
        Write(1, (InsertRuns((late,)),), term),
        Write(2, (InsertRuns((late,)),), term),
        Write(3, (UpdateRuns((done(a_run(7)),), (1,)),), term),
    ]
    answers = GroupCommit(connection, path).commit([Submitted.of(write) for write in writes])
    connection.close()
    assert answers == [
        WriteDone(1),
        WriteFailed(2, FailReason.REFUSED, (late.row,)),
        WriteFailed(3, FailReason.REFUSED, (a_run(7).row,)),
    ]
    assert store.open(lambda events: None).high_water_us == T0 + 95 * MINUTE
    store.close()
