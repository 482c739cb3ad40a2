"""The driver: commands are answered, events lose nothing, the node drains; on both event loops."""

import anyio
import pytest

from sz_protocol.commands import Applied, Apply, Done, Pause, Refusal, RefusalCode, Resume, RunNow, Trigger
from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.records import Outcome, Reason, RunKind
from sz_protocol.triggers import Interval
from tests.runtime.driver_rig import MIDNIGHT_US, MINUTE, bench

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
