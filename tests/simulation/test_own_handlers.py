"""Users' own handlers on simulated time: what they can await, what a crash does to them, and what they may not do."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from sz_runtime.run_context import RunContext, current_run
from sz_runtime.simulation.facts import ExecutionEnded
from sz_runtime.simulation.sz_world import HandlersFailed, SzWorld

ONCE = "2026-03-01T00:01:00Z"
EVERY_MINUTE = {"type": "interval", "seconds": 60}


def add(world: SzWorld, handler: Callable[..., Any], **policies: Any) -> None:
    """One handler and one schedule for it, every minute."""
    world.register("jobs", handler, methods=["work"])
    world.schedule(id="work", handler_id="jobs", method="work", trigger=EVERY_MINUTE, **policies)


def test_the_example_in_the_specs_passes() -> None:
    example = Path(__file__).parents[2] / "specs" / "examples" / "simulate_your_handlers"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(example)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout


FAILING = """
def test_it(sz_world):
    async def work():
        pass
    sz_world.register("jobs", work)
    sz_world.schedule(id="work", handler_id="jobs", method="work", trigger={"type": "interval", "seconds": 60})
    for seed in range(3, 9):
        assert sz_world.run(seed, minutes=2).ok
        assert seed < 5
"""


def test_a_test_that_fails_shows_its_last_world(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FAILING)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "the last world of this test" in done.stdout
    assert "sz_world.run(5, minutes=2, faults=('crash',), longest_run_s=600)" in done.stdout


def test_faults_that_are_not_there_are_named(sz_world: SzWorld) -> None:
    with pytest.raises(ValueError, match="no faults 'crahs'; there are crash, drain"):
        sz_world.run(faults=("crahs",))


async def sleep_in_asyncio() -> None:
    await asyncio.sleep(1.5)


async def sleep_in_anyio() -> None:
    await anyio.sleep(1.5)


async def in_a_task_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 1.5)
        group.start_soon(anyio.sleep, 0.5)


async def with_a_timeout() -> None:
    with anyio.move_on_after(1.5):
        await anyio.sleep(3600)


async def through_a_queue() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def put() -> None:
        await asyncio.sleep(1.5)
        await queue.put(1)

    other = asyncio.create_task(put())
    assert await queue.get() == 1
    await other


async def in_a_thread_on_the_spot() -> None:
    await asyncio.sleep(1.5)
    assert await asyncio.to_thread(sum, [1, 2]) == 3


@pytest.mark.parametrize(
    "wait",
    [sleep_in_asyncio, sleep_in_anyio, in_a_task_group, with_a_timeout, through_a_queue, in_a_thread_on_the_spot],
)
def test_what_a_handler_awaits_takes_simulated_time(sz_world: SzWorld, wait: Callable[[], Awaitable[None]]) -> None:
    async def work(run: RunContext) -> str:
        await wait()
        assert current_run() is run
        return "done"

    add(sz_world, work)
    began = time.monotonic()
    result = sz_world.play("advance 1h")
    assert result.ok, result.violations
    assert time.monotonic() - began < 20
    ends = [record for record in result.records if isinstance(record, ExecutionEnded)]
    assert len(ends) >= 60
    assert {end.at_us % 60_000_000 // 100_000 for end in ends} == {15}, "a second and a half after each minute"
    assert {row.outcome for row in result.ledger if row.state == "done"} == {"succeeded"}


def test_a_crash_is_a_kill_no_finally_runs(sz_world: SzWorld) -> None:
    events: list[str] = []

    async def work(run: RunContext) -> None:
        events.append(f"begin {run.attempt}")
        try:
            await anyio.sleep(5)
            events.append(f"end {run.attempt}")
        finally:
            events.append(f"finally {run.attempt}")

    sz_world.register("jobs", work)
    sz_world.schedule(id="once", handler_id="jobs", method="work", trigger={"type": "date", "run_date": ONCE})
    result = sz_world.play("advance 62s\ncrash a restart after 1s\nadvance 10s")
    assert result.ok, result.violations
    assert events == ["begin 1", "begin 2", "end 2", "finally 2"]
    sz_world.bury()
    assert events[-1] == "finally 1", "what the kill left is let go only after the simulation"


def test_a_time_out_cancels_the_handler_and_a_failure_is_retried(sz_world: SzWorld) -> None:
    seen: list[str] = []

    async def work(run: RunContext) -> None:
        try:
            await anyio.sleep(30 if run.attempt == 1 else 1)
        except asyncio.CancelledError:
            seen.append(str(run.cancel_reason))
            raise
        if run.attempt == 2:
            raise ValueError("not yet")

    add(sz_world, work, timeout=5, retry={"attempts": 3, "base": "100ms"})
    result = sz_world.play("advance 80s")
    assert result.ok, result.violations
    assert seen[0] == "timeout"
    assert (result.ledger[0].outcome, result.ledger[0].reason, result.ledger[0].attempt) == ("succeeded", "retried", 3)


def test_plain_functions_run_on_the_spot_and_what_they_return_is_judged(sz_world: SzWorld) -> None:
    add(sz_world, lambda: {1, 2})
    result = sz_world.play("advance 61s")
    assert result.ok, result.violations
    assert (result.ledger[0].outcome, result.ledger[0].reason) == ("failed", "unstorable_result")


def test_the_same_seed_gives_the_same_trace(sz_world: SzWorld) -> None:
    async def work() -> None:
        await anyio.sleep(3)

    add(sz_world, work)
    faults = ("crash", "stall", "clock", "disk", "store", "drain")
    hashes = [sz_world.run(seed, minutes=15, faults=faults).trace_hash for seed in (4, 4, 5)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_at_most_once_holds_for_the_handlers_own_book(sz_world: SzWorld) -> None:
    """Pain 7, 22: what the handler wrote down outside agrees with the ledger, whatever crashes."""
    book: list[str] = []

    async def work(run: RunContext) -> None:
        await anyio.sleep(4)
        book.append(run.run_id)

    add(sz_world, work, semantics="at_most_once", misfire="all")
    for result in sz_world.runs(seeds=15, minutes=15):
        assert result.ok, result.violations
        assert len(book) == len(set(book)), "no run was done twice"
        succeeded = {row.run_key for row in result.ledger if row.outcome == "succeeded"}
        lost = {row.run_key for row in result.ledger if row.outcome == "lost"}
        assert succeeded <= set(book) <= succeeded | lost
        book.clear()


def test_a_real_thread_is_refused_by_name(sz_world: SzWorld) -> None:
    async def work() -> None:
        await anyio.to_thread.run_sync(time.sleep, 0.01)

    add(sz_world, work)
    result = sz_world.play("advance 61s")
    assert (result.ledger[0].outcome, result.ledger[0].reason) == ("failed", "error")


def test_the_network_is_refused_by_name(sz_world: SzWorld) -> None:
    async def work() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    add(sz_world, work)
    result = sz_world.play("advance 61s")
    assert (result.ledger[0].outcome, result.ledger[0].reason) == ("failed", "error")


def test_a_stray_task_that_fails_is_told(sz_world: SzWorld) -> None:
    async def stray() -> None:
        raise KeyError("lost")

    async def work() -> None:
        task = asyncio.create_task(stray())
        await asyncio.sleep(1)
        del task

    add(sz_world, work)
    with pytest.raises(HandlersFailed, match="lost"):
        sz_world.play("advance 61s")


def test_a_configuration_gives_the_schedules(sz_world: SzWorld, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "deployment: {name: x}\nschedules:\n"
        "  - {id: work, handler_id: jobs, method: work, trigger: {type: interval, seconds: 60}}\n"
    )
    sz_world.register("jobs", lambda: None, methods=["work"])
    sz_world.configuration(config)
    assert sz_world.run(seed=2, minutes=5).ok
