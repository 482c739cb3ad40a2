"""Handlers that block, burn, leak or kill: the protocol's thread must not notice, other runs as little as possible."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest
import structlog
from structlog.testing import capture_logs

from sz_protocol.kernel.effects import StartRuns
from sz_protocol.records import Outcome
from sz_runtime.executor import HandlerExecutor, limit_thread_stalls
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.run_context import current_run
from sz_shells.clocks.boot import BootClock
from tests.runtime.executor_rig import Rig, eventually

LEAK: ContextVar[str] = ContextVar("leak", default="clean")


@pytest.fixture(params=["asyncio", "trio"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig(request.param, stall_s=0.3) as rig:
        yield rig


async def nothing() -> None:
    """Ends at once."""


def test_pain_8_a_blocked_handler_loop_never_blocks_submit(rig: Rig) -> None:
    """An async handler blocks its loop for 2 s. Submitting and cancelling go on, neither waits for it; plain
    handlers run; results that were ready before the block are handed in during it."""

    async def blocks() -> None:
        time.sleep(2)

    def plain() -> None:
        pass

    rig.handler(blocks)
    rig.handler(nothing)
    rig.handler(plain)
    early = rig.starts("nothing", 3)
    rig.executor.submit(StartRuns(early + rig.starts("blocks") + rig.starts("nothing", 2)))
    until = time.monotonic() + 1.5
    took: list[float] = []
    while time.monotonic() < until:
        runs = StartRuns(rig.starts("nothing") + rig.starts("plain"))
        before = time.perf_counter()
        rig.executor.submit(runs)
        rig.cancel(runs.runs[0].row)
        took.append(time.perf_counter() - before)
        time.sleep(0.002)
    sent = len(took)
    answered = {result.row: result for result in list(rig.results)}
    assert all(answered[run.row].outcome is Outcome.SUCCEEDED for run in early)
    assert sum(r.outcome is Outcome.CANCELLED for r in answered.values()) == sent, "cancelled while waiting: at once"
    assert sent > 100
    assert max(took) < 0.5, "a shared machine has hiccups; waiting for the handler would take 2 s"
    results = rig.wait_for(6 + 2 * sent)
    assert sum(r.outcome is Outcome.SUCCEEDED for r in results) == 6 + sent


def test_pain_8_the_watchdog_names_the_handler_that_blocks_the_loop_once(rig: Rig) -> None:
    async def waits_then_blocks() -> None:
        await anyio.sleep(0.01)
        time.sleep(0.9)

    async def innocent() -> None:
        await anyio.sleep(0.001)

    rig.handler(waits_then_blocks)
    rig.handler(innocent)
    with capture_logs() as logs:
        rig.start("innocent")
        row = rig.start("waits_then_blocks")
        rig.start("innocent")
        rig.wait_for(3)
        eventually(lambda: any(log["event"] == "handler_loop_runs_again" for log in logs))
    blocked = [log for log in logs if log["event"] == "handler_loop_blocked"]
    assert len(blocked) == 1
    assert blocked[0]["handler"] == "h.waits_then_blocks"
    assert blocked[0]["run_id"] == f"{row:032x}"
    assert "test_executor_blocking.py:" in blocked[0]["at"]
    assert blocked[0]["blocked_s"] >= 0.3
    again = [log for log in logs if log["event"] == "handler_loop_runs_again"]
    assert len(again) == 1
    assert again[0]["handler"] == "h.waits_then_blocks"
    assert 0.4 <= again[0]["blocked_s"] <= 1.5


def test_an_idle_executor_uses_no_processor_time() -> None:
    with Rig("asyncio") as rig:
        rig.run(nothing)
        time.sleep(0.6)  # the watch goes to sleep
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.01


def test_t1_the_limit_shortens_the_turns_of_a_busy_handler_thread() -> None:
    """What that does to other loops is measured: `python -m tests.benchmarks.executor_probe`."""
    before = sys.getswitchinterval()
    try:
        limit_thread_stalls()
        assert sys.getswitchinterval() == pytest.approx(0.0002)
    finally:
        limit_thread_stalls(before)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_nothing_that_a_handler_sets_in_its_context_reaches_another_run(rig: Rig) -> None:
    seen: list[tuple[str, dict[str, object]]] = []

    def look() -> None:
        seen.append((LEAK.get(), structlog.contextvars.get_contextvars()))

    async def leaks() -> None:
        look()
        LEAK.set("dirty")
        structlog.contextvars.bind_contextvars(customer=17)

    async def leaks_and_waits() -> None:
        await leaks()
        await anyio.sleep(0)

    def leaks_plain() -> None:
        look()
        LEAK.set("dirty")
        structlog.contextvars.bind_contextvars(customer=17)

    for func in (leaks, leaks_and_waits, leaks_plain):
        rig.handler(func)
    runs = [run for _ in range(20) for name in ("leaks", "leaks_and_waits", "leaks_plain") for run in rig.starts(name)]
    rig.executor.submit(StartRuns(tuple(runs)))
    rig.wait_for(60)
    assert seen == [("clean", {})] * 60


def test_each_run_sees_its_own_context_also_in_its_child_tasks(rig: Rig) -> None:
    async def asks() -> list[int]:
        fences = [current_run().fence]

        async def child() -> None:
            await anyio.sleep(0.002)
            fences.append(current_run().fence)

        async with anyio.create_task_group() as group:
            group.start_soon(child)
            await anyio.sleep(0.001)
            fences.append(current_run().fence)
        return fences

    rig.handler(asks)
    first = rig.start("asks", count=50)
    for result in rig.wait_for(50):
        assert result.result == str([100 + result.row] * 3).replace(" ", "")
    assert first == 1


def test_a_handler_that_cancels_its_own_asyncio_task_hurts_only_itself() -> None:
    async def suicidal() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def suicidal_later() -> None:
        await asyncio.sleep(0)
        await suicidal()

    async def waits() -> None:
        await asyncio.sleep(0.02)

    with Rig("asyncio") as rig:
        for func in (suicidal, suicidal_later, waits, nothing):
            rig.handler(func)
        waiting = rig.start("waits", count=5)
        for _ in range(20):
            rig.executor.submit(
                StartRuns(rig.starts("suicidal") + rig.starts("nothing", 2) + rig.starts("suicidal_later"))
            )
        results = rig.wait_for(85)
        assert waiting == 1
        assert {r.outcome for r in results} == {Outcome.SUCCEEDED}


def test_a_stray_task_that_exits_ends_the_loop_but_neither_the_node_nor_later_runs() -> None:
    """asyncio lets SystemExit in any task end the whole loop. Its runs fail with that reason; another loop starts."""

    async def plants_a_bomb() -> None:
        async def bomb() -> None:
            sys.exit("boom")

        await asyncio.sleep(0.01)
        rig.bomb = asyncio.get_running_loop().create_task(bomb())  # type: ignore[attr-defined]
        await asyncio.sleep(10)

    async def bystander() -> None:
        await asyncio.sleep(10)

    with Rig("asyncio") as rig, capture_logs() as logs:
        rig.handler(plants_a_bomb)
        rig.handler(bystander)
        rig.handler(nothing)
        rig.start("bystander", count=3)
        rig.start("plants_a_bomb")
        results = rig.wait_for(4)
        assert {(r.outcome, r.reason, r.retryable) for r in results} == {(Outcome.FAILED, "error", True)}
        assert rig.result(rig.start("nothing")).outcome is Outcome.SUCCEEDED
        assert len(rig.results) == 5
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["handler_loop_died"]


def test_at_most_so_many_plain_handlers_run_at_once() -> None:
    with Rig("asyncio", threads=3) as rig:
        running: list[int] = []
        most: list[int] = []

        def counts() -> None:
            running.append(1)
            most.append(len(running))
            time.sleep(0.01)
            running.pop()

        rig.handler(counts)
        rig.start("counts", count=30)
        rig.wait_for(30)
        assert max(most) == 3


def test_blocking_plain_handlers_get_threads_quickly() -> None:
    with Rig("asyncio") as rig:
        gate = threading.Barrier(40, timeout=5)

        def meets() -> None:
            gate.wait()

        rig.handler(meets)
        rig.start("meets", count=40)
        assert {r.outcome for r in rig.wait_for(40)} == {Outcome.SUCCEEDED}


def test_results_come_in_batches(rig: Rig) -> None:
    rig.handler(nothing)
    for _ in range(20):
        rig.start("nothing", count=256)
    rig.wait_for(5120)
    assert max(rig.batches) <= 256
    assert len(rig.batches) <= 80


def test_10k_runs_that_all_wait_share_their_wakes(rig: Rig) -> None:
    async def waits() -> None:
        await anyio.lowlevel.checkpoint()

    rig.handler(waits)
    for _ in range(20):
        rig.start("waits", count=500)
    results = rig.wait_for(10_000)
    assert {r.outcome for r in results} == {Outcome.SUCCEEDED}
    assert len({r.row for r in results}) == 10_000
    assert len(rig.batches) < 1000


def test_a_change_of_the_registry_is_completed(rig: Rig) -> None:
    async def fresh() -> None:
        pass

    rig.handler(fresh, concurrency=2)
    assert rig.changes[-1].methods == rig.executor.methods()[0]
    assert [(m.handler_id, m.method, m.pool, m.concurrency) for m in rig.changes[-1].methods] == [
        ("h", "fresh", "async", 2)
    ]
    assert rig.changes[-1].pools == (("async", 16384), ("thread", 40))
    rig.registry.unregister("h", "fresh")
    assert rig.changes[-1].methods == ()


def test_misuse_is_refused() -> None:
    registry, clock = LocalHandlerRegistry(), BootClock()
    with pytest.raises(ValueError, match="no event loop named 'curio' here"):
        HandlerExecutor(registry, clock, "curio")
    with pytest.raises(ValueError, match="at least 1"):
        HandlerExecutor(registry, clock, slots=0)
    executor = HandlerExecutor(registry, clock)
    with pytest.raises(RuntimeError, match="not open"):
        executor.submit(StartRuns(()))
    assert executor.close(1)
