"""Cancellation: before the start, while waiting, in threads; and handlers that will not hear."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from random import Random

import anyio
import pytest
from structlog.testing import capture_logs

from sz_protocol.kernel.effects import CancelReason, StartRuns
from sz_protocol.records import Outcome
from sz_runtime.run_context import RunContext, current_run
from tests.runtime.executor_rig import Rig, eventually


@pytest.fixture(params=["asyncio", "trio"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig(request.param, slots=200, threads=4) as rig:
        yield rig


class Marks:
    """What handlers of a test noted, by word."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def wait(self, word: str) -> None:
        eventually(lambda: word in self.seen)


@pytest.mark.parametrize("reason", list(CancelReason))
@pytest.mark.parametrize("isolate", [False, True], ids=["shared", "isolated"])
def test_a_waiting_async_handler_is_cancelled_with_its_reason(rig: Rig, reason: CancelReason, isolate: bool) -> None:
    marks = Marks()

    async def sleeps() -> None:
        marks.seen.append("began")
        try:
            await anyio.sleep(60)
        finally:
            marks.seen.append("cleaned up")

    rig.handler(sleeps, isolate=isolate)
    row = rig.start("sleeps")
    marks.wait("began")
    rig.cancel(row, reason)
    result = rig.result(row)
    assert (result.outcome, result.reason, result.error) == (Outcome.CANCELLED, reason.value, None)
    assert marks.seen == ["began", "cleaned up"]


def test_cleaning_up_may_take_its_time_and_other_runs_feel_nothing(rig: Rig) -> None:
    marks = Marks()

    async def stubborn() -> None:
        marks.seen.append("began")
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            marks.seen.append("done")

    async def neighbour() -> str:
        await anyio.sleep(0.1)
        return "untouched"

    rig.handler(stubborn)
    rig.handler(neighbour)
    row = rig.start("stubborn")
    other = rig.start("neighbour")
    marks.wait("began")
    rig.cancel(row)
    assert rig.result(row).outcome is Outcome.CANCELLED
    assert marks.seen == ["began", "done"]
    assert rig.result(other).result == '"untouched"'


def test_an_error_while_cleaning_up_is_told_beside_the_cancellation(rig: Rig) -> None:
    marks = Marks()

    async def clumsy() -> None:
        marks.seen.append("began")
        try:
            await anyio.sleep(60)
        finally:
            raise OSError("could not remove the lock file")

    rig.handler(clumsy)
    row = rig.start("clumsy")
    marks.wait("began")
    rig.cancel(row, CancelReason.TIMEOUT)
    result = rig.result(row)
    assert (result.outcome, result.reason) == (Outcome.CANCELLED, "timeout")
    assert "could not remove the lock file" in str(result.error)


def test_a_handler_that_swallows_its_cancellation_still_counts_as_cancelled(rig: Rig) -> None:
    marks = Marks()

    async def swallows() -> str:
        marks.seen.append("began")
        try:
            await anyio.sleep(60)
        except BaseException:
            return "half done"
        return "done"

    rig.handler(swallows)
    row = rig.start("swallows")
    marks.wait("began")
    rig.cancel(row)
    result = rig.result(row)
    assert (result.outcome, result.result) == (Outcome.CANCELLED, None)
    assert result.error == "the handler returned after it was asked to stop"


def test_a_run_that_waits_for_a_thread_ends_at_once_and_never_starts(rig: Rig) -> None:
    gate = threading.Event()
    started: list[int] = []

    def holds() -> None:
        started.append(current_run().fence)
        gate.wait(10)

    rig.handler(holds)
    first = rig.start("holds", count=5)  # four threads
    eventually(lambda: len(started) == 4)
    rig.cancel(first + 4, CancelReason.SUPERSEDED)
    result = rig.result(first + 4)
    assert (result.outcome, result.reason) == (Outcome.CANCELLED, "superseded")
    assert result.started_us is None
    gate.set()
    assert len(rig.wait_for(5)) == 5
    assert sorted(started) == [100 + first + n for n in range(4)]


def test_a_run_that_waits_for_a_slot_ends_at_once_and_never_starts() -> None:
    for backend in ("asyncio", "trio"):
        with Rig(backend, slots=2) as rig:
            started: list[int] = []

            async def holds() -> None:
                started.append(current_run().fence)  # noqa: B023
                await anyio.sleep(60)

            rig.handler(holds)
            first = rig.start("holds", count=4)
            eventually(lambda: len(started) == 2)  # noqa: B023
            time.sleep(0.02)
            rig.cancel(first + 3)
            assert rig.result(first + 3).outcome is Outcome.CANCELLED
            rig.cancel(first)
            assert rig.result(first).outcome is Outcome.CANCELLED
            eventually(lambda: len(started) == 3)  # noqa: B023
            assert 100 + first + 3 not in started


def test_a_plain_handler_is_asked_and_looks(rig: Rig) -> None:
    marks = Marks()

    def polls() -> None:
        marks.seen.append("began")
        while not current_run().cancel_requested:
            time.sleep(0.002)

    def checks(run: RunContext) -> None:
        marks.seen.append("began to check")
        while True:
            run.check_cancelled()
            time.sleep(0.002)

    def sleeps(run: RunContext) -> None:
        marks.seen.append("fell asleep")
        run.sleep(60)

    for func, word in ((polls, "began"), (checks, "began to check"), (sleeps, "fell asleep")):
        rig.handler(func)
        row = rig.start(func.__name__)
        marks.wait(word)
        rig.cancel(row, CancelReason.TIMEOUT)
        result = rig.result(row)
        assert (result.outcome, result.reason) == (Outcome.CANCELLED, "timeout")


def test_a_plain_handler_that_never_looked_has_done_its_whole_work(rig: Rig) -> None:
    marks = Marks()

    def deaf() -> str:
        marks.seen.append("began")
        time.sleep(0.1)
        return "all done"

    rig.handler(deaf)
    row = rig.start("deaf")
    marks.wait("began")
    rig.cancel(row)
    result = rig.result(row)
    assert (result.outcome, result.result) == (Outcome.SUCCEEDED, '"all done"')


def test_the_context_tells_the_reason_and_sleep_just_sleeps_when_nobody_asks(rig: Rig) -> None:
    def naps(run: RunContext) -> str:
        began = time.monotonic()
        run.sleep(0.02)
        assert run.cancel_reason is None
        return "rested" if time.monotonic() - began >= 0.02 else "woken"

    assert rig.run(naps).result == '"rested"'


def test_cancelling_what_ended_or_never_was_is_ignored(rig: Rig) -> None:
    async def quick() -> None:
        pass

    row = rig.result(rig.run(quick).row).row
    with capture_logs() as logs:
        rig.cancel(row)
        rig.cancel(999_999)
        rig.cancel(row, attempt=2)
    assert [log["event"] for log in logs] == ["cancel_of_no_run"] * 3
    assert rig.run(quick).outcome is Outcome.SUCCEEDED
    assert len(rig.results) == 2


def test_every_run_ends_in_exactly_one_result_whatever_is_cancelled_when(rig: Rig) -> None:
    """3,000 runs of six kinds, half of them cancelled at random moments from another thread."""
    random = Random(7)

    async def nothing() -> None:
        pass

    async def short() -> None:
        await anyio.sleep(0.002)

    async def long() -> None:
        await anyio.sleep(30)

    def plain() -> None:
        time.sleep(0.0002)

    def patient(run: RunContext) -> None:
        run.sleep(0.003)

    async def swallows() -> None:
        with suppress(BaseException):
            await anyio.sleep(0.004)

    funcs = (nothing, short, long, plain, patient, swallows)
    for func in funcs:
        rig.handler(func, isolate=func is short)
    rows: list[int] = []
    always: list[int] = []
    for _ in range(100):
        runs = [run for func in funcs for run in rig.starts(func.__name__, count=5)]
        random.shuffle(runs)
        rig.executor.submit(StartRuns(tuple(runs)))
        rows += [run.row for run in runs]
        always += [run.row for run in runs if run.method == "long"]
        for run in random.sample(runs, 12):
            rig.cancel(run.row)
    for row in always:
        rig.cancel(row)
    results = rig.wait_for(3000)
    time.sleep(0.05)
    assert sorted(result.row for result in results) == sorted(rows)
    assert len(rig.results) == 3000
    assert all(r.outcome in (Outcome.SUCCEEDED, Outcome.CANCELLED) for r in results)
    assert all(r.outcome is Outcome.CANCELLED for r in results if r.row in set(always))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_close_cancels_everything_and_answers_it(backend: str) -> None:
    with Rig(backend, threads=1) as rig:
        began: list[str] = []

        async def sleeps() -> None:
            began.append("async")
            await anyio.sleep(60)

        def waits(run: RunContext) -> None:
            began.append("plain")
            run.sleep(60)

        rig.handler(sleeps)
        rig.handler(waits)
        rig.start("sleeps", count=3)
        rig.start("waits", count=3)  # one thread: two wait
        eventually(lambda: len(began) == 4)
        assert rig.executor.close(5)
        results = rig.wait_for(6)
        assert {(r.outcome, r.reason) for r in results} == {(Outcome.CANCELLED, "shutdown")}
        late = rig.result(rig.start("sleeps"))
        assert (late.outcome, late.reason) == (Outcome.CANCELLED, "shutdown")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_close_gives_up_on_handlers_that_will_not_end_and_names_them(backend: str) -> None:
    release = threading.Event()
    with Rig(backend) as rig:
        rig.must_end = False
        began: list[str] = []

        async def clings() -> None:
            began.append("async")
            with anyio.CancelScope(shield=True):
                while not release.is_set():
                    await anyio.sleep(0.01)

        def deaf() -> None:
            began.append("plain")
            release.wait(20)

        rig.handler(clings)
        rig.handler(deaf)
        rig.start("clings")
        rig.start("deaf")
        eventually(lambda: len(began) == 2)
        before = time.monotonic()
        with capture_logs() as logs:
            assert rig.executor.close(0.3) is False
        assert 0.3 <= time.monotonic() - before < 1.5
        assert [log["handlers"] for log in logs if log["event"] == "handlers_would_not_end"] == [["h.clings", "h.deaf"]]
        release.set()
        assert len(rig.wait_for(2)) == 2, "even after close a late result is handed in"


HUNG = """
import sys, time
from tests.runtime.executor_rig import Rig, eventually
began = []
def hangs():
    began.append(1)
    time.sleep(60)
async def blocks():
    began.append(2)
    time.sleep(60)
rig = Rig(sys.argv[1])
rig.must_end = False
with rig:
    rig.handler(hangs)
    rig.handler(blocks)
    rig.start("hangs")
    rig.start("blocks")
    eventually(lambda: len(began) == 2)
    assert not rig.executor.close(0.1)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_process_can_end_although_handlers_hang(backend: str) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HUNG, backend], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 10
