"""Faults of the main job, shown on real server processes."""

import itertools
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sz_protocol.records import Outcome, RunState, ScheduleState
from tests.faults.server import Server

EVERY_SECOND = "{id: tick, handler_id: h, method: tick, trigger: {type: interval, seconds: 1}}"
TICK = """
from sz_runtime.handlers import register_local

@register_local("h")
async def tick():
    return "tick"
"""


@pytest.fixture
def server(tmp_path: Path, anyio_backend: str) -> Iterator[Server]:
    made = Server(tmp_path, anyio_backend)
    yield made
    made.kill()


@pytest.fixture
def plain_server(tmp_path: Path) -> Iterator[Server]:
    """On asyncio alone, where the loop makes no difference."""
    made = Server(tmp_path)
    yield made
    made.kill()


def succeeded(server: Server, schedule_id: str) -> int:
    return sum(run.outcome is Outcome.SUCCEEDED for run in server.runs(schedule_id))


def test_the_main_job_fires_and_the_ledger_is_read_beside_it(server: Server) -> None:
    server.write(EVERY_SECOND, h=TICK)
    server.start()
    server.wait_for(lambda: succeeded(server, "tick") >= 2)
    rows = server.cli_json("runs", str(server.config), "--limit", "2")
    assert len(rows) == 2
    assert {"schedule_id", "fire_time", "outcome", "reason", "attempt", "started_at", "finished_at"} <= set(rows[0])
    assert server.stop() == 0
    assert all(run.state is RunState.DONE for run in server.runs())


def test_a_second_server_on_one_database_is_refused_and_the_first_goes_on(plain_server: Server) -> None:
    server = plain_server
    server.write(EVERY_SECOND, h=TICK)
    first = server.start()
    server.wait_for(lambda: succeeded(server, "tick") >= 1)
    done = server.cli("run", str(server.config))
    assert done.returncode == 1
    assert str(first.pid) in done.stderr
    assert "Traceback" not in done.stderr
    before = succeeded(server, "tick")
    server.wait_for(lambda: succeeded(server, "tick") > before)


@pytest.mark.parametrize("damage", ["newer", "foreign", "directory"])
def test_a_database_that_is_not_ours_is_refused_untouched(plain_server: Server, damage: str) -> None:
    server = plain_server
    server.write(EVERY_SECOND, h=TICK)
    if damage == "newer":
        server.start()
        server.wait_for(lambda: succeeded(server, "tick") >= 1)
        server.stop()
        with sqlite3.connect(server.database) as db:
            db.execute("PRAGMA user_version = 9999")
        db.close()
    elif damage == "foreign":
        server.database.write_bytes(b"this is no database, but somebody's letter" * 100)
    else:
        server.database.mkdir()
    before = server.database.read_bytes() if server.database.is_file() else b""
    done = server.cli("run", str(server.config))
    assert done.returncode == 1
    assert str(server.database) in done.stderr
    assert "Traceback" not in done.stderr
    assert (server.database.read_bytes() if server.database.is_file() else b"") == before


def test_pain_16_a_broken_module_parks_its_schedules_and_a_mended_one_brings_them_back(plain_server: Server) -> None:
    server = plain_server
    lost = "{id: lost, handler_id: broken, method: work, trigger: {type: interval, seconds: 1}}"
    server.write(f"{EVERY_SECOND}\n{lost}", h=TICK, broken="import os\nraise RuntimeError('no such luck')\n")
    server.start()
    server.wait_for(lambda: succeeded(server, "tick") >= 2)
    assert "broken.py:2" in server.tail()
    parked = server.schedules()["lost"]
    assert parked.state is ScheduleState.PARKED
    assert "broken" in parked.reason
    server.stop()
    mended = TICK.replace('"h"', '"broken"').replace("tick", "work")
    (server.folder / "broken.py").write_text(mended)
    server.start()
    server.wait_for(lambda: succeeded(server, "lost") >= 1)
    assert server.schedules()["lost"].state is ScheduleState.ACTIVE
    # What passed while it was parked is in the ledger: run once late, the others coalesced into that.
    late = [run for run in server.runs("lost") if run.covers]
    assert late or succeeded(server, "lost") >= 1


SLOW = """
import anyio, time
from sz_runtime.handlers import register_local

@register_local("slow")
async def nap(seconds):
    await anyio.sleep(seconds)
    return "rested"

@register_local("slow")
async def block(seconds):
    time.sleep(seconds)

@register_local("slow")
def plain():
    return 1
"""


def test_sigterm_drains_running_handlers_end_and_their_outcomes_are_written(server: Server) -> None:
    server.write(
        "{id: nap, handler_id: slow, method: nap, params: {seconds: 2.5}, trigger: {type: interval, seconds: 3}}",
        slow=SLOW,
    )
    server.start()
    server.wait_for(lambda: any(run.state is RunState.LEASED for run in server.runs()))
    assert server.stop() == 0
    (run, *_) = server.runs("nap")
    assert run.outcome is Outcome.SUCCEEDED
    assert run.result == '"rested"'


def test_what_outlasts_the_grace_is_cancelled_and_runs_again_after_the_restart(server: Server) -> None:
    server.write(
        "{id: now, handler_id: slow, method: nap, params: {seconds: 4}, trigger: {type: interval, seconds: 2}}",
        grace="0.5s",
        slow=SLOW,
    )
    server.start()
    server.wait_for(lambda: any(run.state is RunState.LEASED for run in server.runs("now")))
    assert server.stop() == 0
    (cut,) = (run for run in server.runs("now") if run.state is RunState.PENDING)
    assert cut.attempt == 1
    server.start()
    server.wait_for(lambda: any(r.run_key == cut.run_key and r.outcome is Outcome.SUCCEEDED for r in server.runs()))
    (again,) = (run for run in server.runs("now") if run.run_key == cut.run_key)
    assert again.attempt == 2


def test_pain_8_a_handler_that_blocks_its_loop_delays_neither_plain_handlers_nor_the_protocol(server: Server) -> None:
    server.write(
        "{id: block, handler_id: slow, method: block, params: {seconds: 5}, trigger: {type: interval, seconds: 7}}\n"
        "{id: plain, handler_id: slow, method: plain, trigger: {type: interval, seconds: 0.5}}",
        slow=SLOW,
    )
    server.start()
    server.wait_for(lambda: any(run.state is RunState.LEASED for run in server.runs("block")), timeout_s=30)
    begun = time.time()
    time.sleep(3)
    during = [r for r in server.runs("plain") if r.outcome is Outcome.SUCCEEDED and r.fire_us > (begun + 0.2) * 1e6]
    assert len(during) >= 3
    assert all(run.started_us is not None and run.started_us - run.fire_us < 1_000_000 for run in during)
    server.wait_for(lambda: "handler_loop_blocked" in server.tail())


def test_a_full_disk_loses_nothing_and_work_goes_on_when_there_is_space_again(plain_server: Server) -> None:
    server = plain_server
    server.write(EVERY_SECOND, h=TICK)
    process = server.start()
    server.wait_for(lambda: succeeded(server, "tick") >= 2)
    size = max(path.stat().st_size for path in server.folder.glob("ledger.db*"))
    # No file of this process may grow any more: every write beyond fails as on a full disk.
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (min(size, 4096), resource.RLIM_INFINITY))
    server.wait_for(lambda: "store_failing" in server.tail())
    time.sleep(2)
    assert process.poll() is None, server.tail()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    before = succeeded(server, "tick")
    server.wait_for(lambda: succeeded(server, "tick") > before + 2)
    assert server.stop() == 0
    check = sqlite3.connect(server.database)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()
    fires = sorted(run.fire_us for run in server.runs("tick"))
    assert [b - a for a, b in itertools.pairwise(fires)] == [1_000_000] * (len(fires) - 1)


def test_pain_12_a_hundred_thousand_overdue_instants_after_downtime_are_one_late_run_and_a_full_account(
    plain_server: Server,
) -> None:
    server = plain_server
    server.write(EVERY_SECOND, h=TICK)
    server.start()
    server.wait_for(lambda: succeeded(server, "tick") >= 1)
    server.stop()
    down_us = 100_000 * 1_000_000
    with sqlite3.connect(server.database) as db:
        # As if the server had stopped 100,000 s ago.
        db.execute("DELETE FROM runs")
        db.execute("UPDATE schedules SET cursor_us = cursor_us - ?, next_due_us = next_due_us - ?", (down_us, down_us))
    db.close()
    cursor_us = server.schedules()["tick"].cursor_us
    begun = time.monotonic()
    server.start()
    server.wait_for(lambda: succeeded(server, "tick") >= 3)
    assert time.monotonic() - begun < 15
    server.stop()
    instants = sum(run.count for run in server.runs("tick"))
    assert instants == (server.schedules()["tick"].cursor_us - cursor_us) // 1_000_000
    assert instants > 100_000
    (late,) = (run for run in server.runs("tick") if run.covers)
    assert late.outcome is Outcome.SUCCEEDED
    assert late.reason == "catch_up"


def test_pain_7_a_run_whose_server_was_killed_is_repeated_or_lost_as_it_promises(server: Server) -> None:
    nap = "handler_id: slow, method: nap, params: {seconds: 30}, trigger: {type: interval, seconds: 2}"
    server.write(
        f"{{id: again, {nap}}}\n{{id: once, {nap}, semantics: at_most_once}}",
        grace="0s",
        slow=SLOW,
    )
    server.start()
    server.wait_for(lambda: sum(run.state is RunState.LEASED for run in server.runs()) == 2)
    server.stop(signal.SIGKILL)
    cut = {run.schedule_id: run.run_key for run in server.runs() if run.state is RunState.LEASED}
    server.start()
    server.wait_for(lambda: any(r.run_key == cut["once"] and r.outcome is Outcome.LOST for r in server.runs()))
    server.wait_for(
        lambda: any(r.run_key == cut["again"] and r.state is RunState.LEASED and r.attempt == 2 for r in server.runs())
    )
    # The phantom of the last life does not keep `once` from running again.
    server.wait_for(lambda: any(r.state is RunState.LEASED for r in server.runs("once")))
