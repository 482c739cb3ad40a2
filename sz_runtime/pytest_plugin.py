"""The pytest plugin: `sz_world`, a user's own handlers on simulated time, and scenario files with golden traces.

Loaded by its entry point wherever ScheduleZero is installed; it imports nothing of ScheduleZero until a test asks.
"""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sz_runtime.simulation.sz_world import SzWorld


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rewrite-scenarios` brings golden traces up to date; people read the difference."""
    group = parser.getgroup("schedulezero")
    group.addoption(
        "--rewrite-scenarios", action="store_true", help="bring the golden traces of scenario files up to date"
    )


@pytest.fixture
def sz_world() -> "Iterator[SzWorld]":
    """A simulated world for your own handlers: register them, add schedules, `run` seeds of faults."""
    from sz_runtime.simulation.sz_world import SzWorld

    world = SzWorld()
    yield world
    world.bury()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A test that fails says which world was the last one: called alone, it does the same again."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    world = getattr(item, "funcargs", {}).get("sz_world")
    if report.when == "call" and report.failed and world is not None and world.last:
        report.sections.append(("the last world of this test", world.last))


@pytest.fixture
def sz_scenario(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Plays a scenario file and compares it with its golden trace (or rewrites that, with --rewrite-scenarios)."""
    from sz_runtime.simulation.scenario import check

    def play(path: Path) -> None:
        text, now = check(path, rewrite=bool(request.config.getoption("--rewrite-scenarios")))
        assert text == now, f"{path}: its trace has changed; read the difference, then use --rewrite-scenarios"

    return play
