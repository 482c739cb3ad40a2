"""The handler of specs/examples/handler_in_node, in JavaScript, against a real server: the wire is enough to write one.

Needs Node.js with npm. `.ci/run` installs them, and there this fails where they are missing; elsewhere it is skipped.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import Fleet
from tests.faults.server import ROOT

EXAMPLE = ROOT / "specs" / "examples" / "handler_in_node"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its packages, beside a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "handler.js"):
        shutil.copy(EXAMPLE / name, folder)
    npm = shutil.which("npm")
    if npm is None and "CI" not in os.environ:
        pytest.skip("Node.js with npm is not here")
    assert npm is not None, "Node.js is missing: apt-get install nodejs npm"
    subprocess.run(
        [npm, "install", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True, timeout=100
    )
    return folder


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    made.configure(
        "{id: sum, handler_id: js, method: add, params: {a: 2, b: 3}, trigger: {type: interval, seconds: 1}}",
        remote="heartbeat: 200ms, lease: 15s, away_grace: 15s",
    )
    made.start()
    yield made
    made.kill()


def test_a_handler_in_javascript_executes_is_stopped_and_finds_a_restarted_server(example: Path, fleet: Fleet) -> None:
    log = fleet.folder / "js.log"
    with log.open("wb") as out:
        handler = subprocess.Popen(
            ["node", "handler.js", f"tcp://127.0.0.1:{fleet.port}", "js"],
            cwd=example,
            stdout=out,
            stderr=out,
            env={**os.environ},
        )
    try:
        fleet.wait_for(lambda: any(run.result == "5" for run in fleet.runs("sum")), 40)
        run_id = fleet.run_now("js", "nap", '{"seconds": 60}')
        fleet.wait_for(lambda: any(run.run_id == run_id and run.started_us is None for run in fleet.runs()))
        assert fleet.cli("cancel", run_id, str(fleet.config)).returncode == 0
        assert fleet.wait_outcome(run_id) == "cancelled"
        under_way = fleet.run_now("js", "nap", '{"seconds": 4}')
        fleet.wait_for(lambda: fleet.registered()["js"] == "present")
        assert fleet.process is not None
        fleet.process.kill()
        fleet.process.wait()
        fleet.start()
        assert fleet.wait_outcome(under_way) == "succeeded"
        (run,) = (run for run in fleet.runs() if run.run_id == under_way)
        assert (run.attempt, run.result) == (1, '"slept 4 s"')
        handler.terminate()
        assert handler.wait(10) == 0
        fleet.wait_for(lambda: fleet.registered()["js"] == "away")
    finally:
        handler.kill()
        handler.wait()
    assert "registered" in log.read_text()
