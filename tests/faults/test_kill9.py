"""kill -9 at any moment, of a server and of remote handlers: after the restart each due instant has exactly one outcome
(LEDGER-1, RUN-1, RUN-4, RUN-5)."""

from pathlib import Path

import pytest

from tests.faults import kill9_fleet
from tests.faults.kill9 import torment


@pytest.mark.timeout(120)
def test_kill9_every_few_seconds_loses_and_doubles_nothing(tmp_path: Path, anyio_backend: str) -> None:
    verdict = torment(tmp_path, seconds=24, backend=anyio_backend, seed=1)
    assert verdict.hurts >= 3
    assert not verdict.problems, verdict.problems


@pytest.mark.timeout(150)
def test_a_fleet_that_is_killed_and_stopped_loses_and_doubles_nothing(tmp_path: Path, anyio_backend: str) -> None:
    verdict = kill9_fleet.torment(tmp_path, seconds=30, backend=anyio_backend, seed=1)
    assert verdict.hurts >= 3
    assert not verdict.problems, verdict.problems


@pytest.mark.soak
@pytest.mark.timeout(420)
def test_five_minutes_of_kill9(tmp_path: Path, anyio_backend: str) -> None:
    verdict = torment(tmp_path, seconds=300, backend=anyio_backend, seed=2)
    assert verdict.hurts >= 40
    assert not verdict.problems, verdict.problems


@pytest.mark.soak
@pytest.mark.timeout(480)
def test_five_minutes_of_a_tormented_fleet(tmp_path: Path, anyio_backend: str) -> None:
    verdict = kill9_fleet.torment(tmp_path, seconds=300, backend=anyio_backend, seed=2)
    assert verdict.hurts >= 40
    assert not verdict.problems, verdict.problems
