"""The driver: commands are answered, events lose nothing, the node drains; on both event loops."""

from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from sz_protocol.commands import Applied, Apply, Done, Pause, Refusal, RefusalCode, Resume, RunNow, Trigger
from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.kernel.effects import Effect, Stop
from sz_protocol.kernel.events import Event, RunsFinished, StopRequested
from sz_protocol.kernel.now import Now, Wakeup
from sz_protocol.records import Outcome, Reason, RunKind
from sz_protocol.triggers import Interval
from sz_runtime.driver import Driver
from sz_runtime.executor import HandlerExecutor
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.machine_loop import TURN_US
from sz_shells.stores.memory import MemoryStore
from tests.runtime.driver_rig import MIDNIGHT_US, MINUTE, HandClock, bench

pytestmark = pytest.mark.anyio

MINUTELY = Definition("minutely", "h", "m", Interval(MINUTE))


async def test_commands_are_answered_exactly_once(anyio_backend: str) -> None:
    async with bench(anyio_backend, [MINUTELY]) as b:
        assert await b.driver.ask(Pause("nobody")) == Refusal(RefusalCode.UNKNOWN_SCHEDULE, "no schedule 'nobody'")
        assert await b.driver.ask(Apply((MINUTELY,))) == Applied(unchanged=1)
        answer = await b.driver.ask(RunNow("h", "nothing", "key"))
        assert isinstance(answer, Refusal)
        assert answer.code is RefusalCode.UNKNOWN_METHOD


async def test_a_trigger_with_the_same_idempotency_key_runs_once(anyio_backend: str) -> None:
    async with bench(anyio_backend, [MINUTELY]) as b:
        answers = [await b.driver.ask(Trigger("minutely", "order-1")) for _ in range(3)]
        await b.settle()
        assert len(set(answers)) == 1
        (run,) = b.rows("minutely")
        assert isinstance(answers[0], Done)
        assert answers[0].detail == run.run_id
        assert (run.kind, run.outcome) == (RunKind.MANUAL, Outcome.SUCCEEDED)


async def test_two_concurrent_run_now_calls_both_run(anyio_backend: str) -> None:
    async with bench(anyio_backend, [MINUTELY]) as b:
        async with anyio.create_task_group() as tasks:
            for key in ("one", "two"):
                tasks.start_soon(b.driver.ask, RunNow("h", "m", key))
        await b.settle()
        assert [run.outcome for run in b.rows()] == [Outcome.SUCCEEDED] * 2


async def test_a_pause_takes_instants_away_and_accounts_for_them(anyio_backend: str) -> None:
    async with bench(anyio_backend, [MINUTELY]) as b:
        await b.driver.ask(Pause("minutely", "maintenance"))
        await b.pass_time(180, every=20)
        assert b.rows() == ()
        assert await b.driver.ask(Resume("minutely")) == Done()
        assert [(run.outcome, run.reason) for run in b.rows()] == [(Outcome.SKIPPED, Reason.PAUSED)] * 3
        await b.pass_time(60, every=20)
        assert b.fired("minutely") == [MIDNIGHT_US + 4 * MINUTE]


async def test_a_resume_may_ask_for_the_latest_of_what_was_missed(anyio_backend: str) -> None:
    async with bench(anyio_backend, [MINUTELY]) as b:
        await b.driver.ask(Pause("minutely", "maintenance"))
        await b.pass_time(180, every=20)
        assert await b.driver.ask(Resume("minutely", MisfirePolicy.LATEST)) == Done()
        await b.settle()
        assert b.fired("minutely") == [MIDNIGHT_US + 3 * MINUTE]
        assert len(b.rows()) == 3


async def test_after_the_end_commands_are_refused(anyio_backend: str) -> None:
    async with bench(anyio_backend, [MINUTELY]) as b:
        driver = b.driver
    answer = await driver.ask(Pause("minutely"))
    assert isinstance(answer, Refusal)
    assert answer.code is RefusalCode.STOPPING


class Slow:
    """A node to which every event takes three milliseconds of its clock."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.taken = 0

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact, slowly."""
        self.clock.mono_us += 3_000
        self.taken += isinstance(event, RunsFinished)
        return [Stop()] if isinstance(event, StopRequested) else []

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """Never."""
        return None


async def test_a_turn_ends_by_time_so_that_slow_events_stall_no_other_task(anyio_backend: str) -> None:
    clock = HandClock()
    node, store, executor = Slow(clock), MemoryStore(), HandlerExecutor(LocalHandlerRegistry(), clock)
    driver = Driver(node, store, executor, clock)
    opened = store.open(driver.complete)
    driver.complete([RunsFinished(()) for _ in range(40)])
    driver.stop(0)
    seen: list[int] = []

    async def watch() -> None:
        while not driver.ended.is_set():
            seen.append(node.taken)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await driver.run(opened)
    steps = [after - before for before, after in pairwise(seen)]
    assert node.taken == 40
    # A turn is over with the event that runs over its time; trio may give the driver two turns in a row.
    assert max(steps) * 3_000 <= 2 * (TURN_US + 3_000)
