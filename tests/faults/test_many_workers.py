"""200 workers on one server, each with a link, a session and runs of its own."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sz_protocol.commands import Done, RunNow
from sz_protocol.records import Outcome
from sz_runtime.config import load_config
from sz_shells.cli.control import connected
from tests.faults.fleet import Fleet
from tests.faults.server import ROOT

WORKERS = 200
PROCESSES = 4
EACH = 3
"""Runs that every worker gets; of the four that it has room for."""


@pytest.fixture
def fleet(tmp_path: Path, anyio_backend: str) -> Iterator[Fleet]:
    made = Fleet(tmp_path, anyio_backend)
    made.configure(remote="heartbeat: 1s, lease: 15s, away_grace: 15s", modules=())
    yield made
    made.kill()


@contextmanager
def crowd(fleet: Fleet, gate: Path) -> Iterator[None]:
    """All of them, in a few processes."""
    share = WORKERS // PROCESSES
    processes = []
    try:
        for first in range(0, WORKERS, share):
            words = [f"tcp://127.0.0.1:{fleet.port}", fleet.backend, *map(str, (first, share, fleet.diary, gate))]
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.faults.crowd", *words],
                    cwd=fleet.folder,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
            )
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def ask(fleet: Fleet, handlers: list[str]) -> list[str]:
    """A run of each of these handlers; their ids."""
    with connected(load_config(fleet.config)) as client:
        orders = [RunNow(name, "hold", f"{len(handlers)}/{n}", {}) for n, name in enumerate(handlers)]
        answers = [client.ask(order) for order in orders]
    return [answer.detail for answer in answers if isinstance(answer, Done)]


def test_200_workers_share_the_work_of_one_server(fleet: Fleet) -> None:
    names = [f"edge-{number:03}" for number in range(WORKERS)]
    gate = fleet.folder / "gate"
    fleet.start()
    fleet.wait_for(lambda: "registration_server_listens" in fleet.tail())
    with crowd(fleet, gate):
        fleet.wait_for(lambda: list(fleet.registered().values()) == ["present"] * WORKERS, 40)

        # Nothing ends before all have begun: whoever has least to do is next, so all get the same.
        began = time.monotonic()
        ids = ask(fleet, ["*"] * WORKERS * EACH)
        assert len(set(ids)) == WORKERS * EACH
        fleet.wait_for(lambda: len(fleet.entries("start")) == len(ids))
        assert time.monotonic() - began < 15
        assert Counter(entry.who for entry in fleet.entries("start")) == dict.fromkeys(names, EACH)
        gate.touch()
        began = time.monotonic()
        fleet.wait_for(lambda: Counter(run.outcome for run in fleet.runs()) == {Outcome.SUCCEEDED: len(ids)})
        assert time.monotonic() - began < 10

        # Each by its name, all at once.
        began = time.monotonic()
        ids += ask(fleet, names)
        fleet.wait_for(lambda: Counter(run.outcome for run in fleet.runs()) == {Outcome.SUCCEEDED: len(ids)})
        assert time.monotonic() - began < 10
        assert set(fleet.registered().values()) == {"present"}

    rows = {run.run_id: run for run in fleet.runs()}
    assert set(rows) == set(ids)
    for entry in fleet.entries("end"):
        assert rows[entry.run_id].result == f'"{entry.who}"'
        assert rows[entry.run_id].attempt == 1
    for what in ("start", "end"):
        assert set(Counter(entry.run_id for entry in fleet.entries(what)).values()) == {1}, "each once"
        assert Counter(entry.who for entry in fleet.entries(what)) == dict.fromkeys(names, EACH + 1)
