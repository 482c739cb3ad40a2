"""Words of progress: from plain and async handlers, never too many, the latest one always."""

import threading
from collections.abc import Iterator

import anyio
import pytest

from sz_protocol.kernel.events import RunProgress
from sz_protocol.records import Outcome
from sz_runtime.live_run import NOTE_LIMIT
from sz_runtime.run_context import RunContext, current_run
from tests.runtime.executor_rig import Rig, eventually


@pytest.fixture(params=["asyncio", "trio"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig(request.param, slots=200, threads=4) as rig:
        yield rig


def test_a_plain_handler_tells_its_latest_word_and_not_every_one(rig: Rig) -> None:
    go_on = threading.Event()

    def counts(run: RunContext) -> None:
        for number in range(1001):
            run.progress(f"{number} of 1000", number // 10)
        go_on.wait(10)

    rig.handler(counts)
    row = rig.start("counts")
    last = RunProgress(row, 1, "1000 of 1000", 100)
    eventually(lambda: last in rig.progress)
    assert len(rig.progress) <= 20, "a few times a second"
    go_on.set()
    assert rig.result(row).outcome is Outcome.SUCCEEDED


def test_an_async_handler_tells_too_also_from_below(rig: Rig) -> None:
    go_on = threading.Event()

    async def below() -> None:
        current_run().progress("half", 50)

    async def works(run: RunContext) -> None:
        run.progress("begun")
        await below()
        while not go_on.is_set():
            await anyio.sleep(0.01)

    rig.handler(works)
    row = rig.start("works")
    eventually(lambda: RunProgress(row, 1, "half", 50) in rig.progress)
    go_on.set()
    assert rig.result(row).outcome is Outcome.SUCCEEDED


def test_a_word_is_bounded_and_can_be_stored(rig: Rig) -> None:
    go_on = threading.Event()

    def talks(run: RunContext) -> None:
        run.progress("\ud800\0" + "x" * 100_000)
        go_on.wait(10)

    rig.handler(talks)
    row = rig.start("talks")
    eventually(lambda: bool(rig.progress))
    go_on.set()
    rig.result(row)
    assert len(rig.progress[0].note) == NOTE_LIMIT
    assert rig.progress[0].note.startswith("\\ud800\\0xxx")


@pytest.mark.parametrize("percent", [-1, 101, 50.0, True, "50"])
def test_a_percent_that_is_none_is_an_error_of_the_handler(rig: Rig, percent: object) -> None:
    def errs(run: RunContext) -> None:
        run.progress("x", percent)  # type: ignore[arg-type]

    result = rig.run(errs)
    assert result.outcome is Outcome.FAILED
    assert "from 0 to 100" in str(result.error)


def test_outside_of_a_node_progress_goes_nowhere() -> None:
    run = RunContext(run_id="r", schedule_id="s", handler_id="h", method="m", fire_us=0, started_us=0)
    run.progress("done", 100)
