"""`schedulezero runs`: what its table and its JSON make of a ledger, whatever stands in it."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve

from sz_protocol.commands import RunNow
from sz_protocol.definition import Definition
from sz_protocol.kernel.effects import StartRun
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.records import Outcome, Reason, Run, RunState
from sz_protocol.triggers import Cron
from sz_shells.cli.runs import as_row, cells, runs
from sz_shells.stores.sqlite import SqliteStore
from tests.protocol.explaining_rig import Ending, World, utc

CONFIG = """\
deployment: {{name: office, mode: minimal}}
components:
  tornado: {{enabled: false}}
  scheduler: {{datastore: {{type: sqlite, path: "{path}"}}}}
"""
PROMISED = {"schedule_id", "fire_time", "outcome", "reason", "attempt", "started_at", "finished_at"}
ERROR = "ValueError: no closing tag [/red], " + "and much more that has to stay on one line " * 10


def handler(start: StartRun) -> Ending:
    if start.schedule_id == "broken":
        return Ending(SECOND_US, Outcome.FAILED, Reason.ERROR, ERROR)
    return Ending()


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Two schedules of one minute; nobody was there from 09:03 to 09:06."""
    file = tmp_path / "schedulezero.yaml"
    file.write_text(CONFIG.format(path=tmp_path / "ledger.db"))
    world = World(SqliteStore(tmp_path / "ledger.db"), utc("2026-03-01T09:00:30"), handler)
    world.start()
    world.apply(*(Definition(name, "h", "m", Cron("* * * * *")) for name in ("works", "broken")))
    world.until("2026-03-01T09:03:30")
    world.kill()
    world.away_until("2026-03-01T09:06:30")
    world.start()
    world.until("2026-03-01T09:07:30")
    return str(file)


def test_pain_25_json_has_a_row_for_each_due_instant_skipped_ones_too(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs(config, limit=0, schedule="works", output="json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["fire_time"] for row in rows] == [f"2026-03-01T09:0{minute}:00+00:00" for minute in range(7, 0, -1)]
    assert [row["outcome"] for row in rows].count("skipped") == 2, "09:04 and 09:05 are coalesced into 09:06"
    for row in rows:
        assert set(row) >= PROMISED
        ran = row["outcome"] == "succeeded"
        assert (row["attempt"] > 0, row["started_at"] is not None) == (ran, ran)
        assert datetime.fromisoformat(row["finished_at"]).utcoffset() == timedelta(0)


def test_the_limit_takes_the_newest(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs(config, limit=3, output="json") == 0
    assert [row["fire_time"][11:16] for row in json.loads(capsys.readouterr().out)] == ["09:07", "09:07", "09:06"]


def test_the_table_says_what_ran_where_and_what_was_asked_for_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schedulezero.yaml"
    file.write_text(CONFIG.format(path=tmp_path / "ledger.db"))
    world = World(SqliteStore(tmp_path / "ledger.db"), utc("2026-03-01T09:00:30"), handler)
    world.start()
    world.apply(Definition("nightly", "h", "m", Cron("* * * * *")))
    world.ask(RunNow("h", "m", "key"))
    world.until("2026-03-01T09:01:30")
    assert runs(str(file)) == 0
    head, scheduled, by_hand = (re.split(" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines())
    assert head[1:4] == ["schedule", "method", "outcome"]
    assert scheduled[1:4] == ["nightly", "h.m", "succeeded"]
    assert by_hand[1:4] == ["(run-now)", "h.m", "succeeded"]


def test_a_row_names_the_worker_where_its_handler_does_not() -> None:
    run = Run(1, b"k", "s", 0, "*", "make", RunState.DONE, 0, outcome=Outcome.SUCCEEDED)
    assert cells(run)[2] == "*.make"
    assert cells(evolve(run, worker="edge-1"))[2] == "*.make (edge-1)"
    assert cells(evolve(run, handler_id="edge-1", worker="edge-1"))[2] == "edge-1.make"
    assert as_row(evolve(run, worker="edge-1"))["worker"] == "edge-1"


def test_in_a_pipe_a_row_is_one_line_and_an_error_is_no_markup(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs(config, limit=0) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 14
    assert sum(ERROR.strip() in line for line in lines) == 5
