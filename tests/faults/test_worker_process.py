"""`schedulezero worker` in a process of its own: what it says, how it ends, and what survives it."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sz_runtime.signals import ECHO_S
from sz_shells.links.zmq.key_files import Role, new_keys
from sz_shells.outboxes.sqlite import SqliteOutbox
from tests.faults.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path, anyio_backend: str) -> Iterator[Fleet]:
    made = Fleet(tmp_path, anyio_backend)
    yield made
    made.kill()


def wait_for_word(fleet: Fleet, name: str, word: str, times: int = 1) -> None:
    """Wait until a worker has logged it so often."""
    fleet.wait_for(lambda: fleet.workers[name].tail().count(f"event={word}") >= times)


def test_sigterm_drains_and_a_second_one_hurries(fleet: Fleet) -> None:
    fleet.configure()
    fleet.start()
    worker = fleet.worker("edge-1")
    wait_for_word(fleet, "edge-1", "registered")
    short = fleet.run_now("edge-1", "nap", '{"seconds": 2}')
    fleet.wait_for(lambda: fleet.starts_of(short))
    assert worker.stop() == 0
    assert worker.tail().splitlines()[-1].endswith("level=info event=stopped")
    assert fleet.wait_outcome(short) == "succeeded"
    worker.start()
    wait_for_word(fleet, "edge-1", "registered", 2)
    long = fleet.run_now("edge-1", "nap", '{"seconds": 600}')
    fleet.wait_for(lambda: fleet.starts_of(long))
    worker.signal(signal.SIGTERM)
    wait_for_word(fleet, "edge-1", "draining", 2)
    time.sleep(2 * ECHO_S)  # two signals that come together are one
    worker.signal(signal.SIGINT)
    assert worker.process is not None
    assert worker.process.wait(20) == 0
    log = worker.tail()
    assert "event=stopping_now" in log
    assert "event=registered" in log
    assert "Traceback" not in log
    assert fleet.outcome(long) is None, "interrupted, to be repeated"


def test_a_result_survives_its_worker_and_its_server(fleet: Fleet) -> None:
    """The run ends while nobody listens; then the worker is killed, and both start again: it is not repeated."""
    fleet.configure(remote="heartbeat: 200ms, lease: 8s, away_grace: 9s")
    fleet.start()
    worker = fleet.worker("edge-1")
    wait_for_word(fleet, "edge-1", "registered")
    run_id = fleet.run_now("edge-1", "nap", '{"seconds": 1.5}')
    fleet.wait_for(lambda: fleet.starts_of(run_id))
    assert fleet.process is not None
    fleet.process.kill()
    fleet.process.wait()
    fleet.process = None
    fleet.wait_for(lambda: any(entry.run_id == run_id for entry in fleet.entries("end")))
    outbox = fleet.folder / "edge-1.outbox"

    def kept() -> bool:
        with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT count(*) FROM reports").fetchone()[0])

    fleet.wait_for(kept)
    worker.kill9()
    fleet.start()
    worker.start()
    assert fleet.wait_outcome(run_id) == "succeeded"
    assert fleet.starts_of(run_id) == 1
    assert worker.stop() == 0
    left = SqliteOutbox(outbox, "edge-1")
    assert left.open(lambda answers: None) == ()
    left.close()


def test_a_worker_with_a_key_is_let_in_and_one_without_is_not(fleet: Fleet) -> None:
    keys = fleet.folder / "keys"
    new_keys(keys, "server", Role.SERVER)
    for name in ("edge-1", "edge-2"):
        new_keys(keys, name, Role.HANDLER)
    fleet.configure(remote=f'heartbeat: 200ms, lease: 2s, keys: "{keys}"')
    fleet.start()
    fleet.wait_for(lambda: " encrypted" in fleet.tail())
    own = ("--server-key", str(keys / "server.pub"), "--secret-key")
    fleet.worker("edge-1", *own, str(keys / "edge-1.secret"))
    stranger = fleet.worker("stranger")
    thief = fleet.worker("thief", *own, str(keys / "edge-2.secret"))
    wait_for_word(fleet, "edge-1", "registered")
    run_id = fleet.run_now("edge-1", "noop")
    assert fleet.wait_outcome(run_id) == "succeeded"
    wait_for_word(fleet, "thief", "rejected")
    assert "code=not_allowed" in thief.tail()
    assert "this key is not that of handler 'thief', but of 'edge-2'" in thief.tail().replace("\\", "")
    fleet.wait_for(lambda: "does the server want a key?" in stranger.tail())
    assert "event=registered" not in stranger.tail() + thief.tail()
    hints = [line for line in stranger.tail().splitlines() if "does the server want a key?" in line]
    assert all("level=warning" in line for line in hints)
    assert fleet.cli("keys", "revoke", "edge-1", str(fleet.config)).returncode == 0
    fleet.wait_for(lambda: "the key is not allowed" in fleet.workers["edge-1"].tail())
    revoked = [line for line in fleet.tail().splitlines() if "event=handler_rejected handler=edge-1" in line]
    assert all("it was revoked or removed" in line for line in revoked)
    fleet.wait_for(lambda: fleet.registered()["edge-1"] in ("suspect", "lost"))
    assert (keys / "edge-1.secret").read_text().strip() not in fleet.tail()
