"""Workers over a real link: they register, execute, report, lose their server, find it again, and drain."""

import inspect
import re
import sqlite3
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from sz_protocol.kernel.events import LinkChanged
from sz_protocol.notices import (
    Attached,
    AttachRefused,
    ComponentChanged,
    Detached,
    HandlerLeft,
    HandlerRegistered,
    Notice,
    OutboxTroubled,
    ResultsLeft,
    RunProgressed,
)
from sz_protocol.queries import RunsPage
from sz_protocol.records import Outcome, Reason
from sz_runtime.handlers import DEFAULT_REGISTRY, register_local
from sz_runtime.ports import StoreError, StoreInUse
from sz_runtime.run_context import RunContext
from sz_runtime.worker import Worker, WorkerError
from sz_shells.cli.worker import worker as worker_command
from sz_shells.links.zmq.handler_link import HandlerLink
from tests.runtime.worker_rig import registry, site, until, worker

pytestmark = pytest.mark.anyio


async def greet(name: str) -> str:
    return f"hello {name}"


def add(a: int, b: int) -> int:
    return a + b


async def nap(seconds: float) -> str:
    await anyio.sleep(seconds)
    return "rested"


async def test_a_worker_registers_and_executes_async_and_plain_handlers() -> None:
    async with site() as s, worker(s, greet, add, tags={"zone": "a"}) as w:
        await until(lambda: w.attached)
        assert (await s.do("edge-1", "greet", name="you")).result == '"hello you"'
        run = await s.do("edge-1", "add", a=2, b=3)
        assert (run.outcome, run.result, run.worker, run.attempt) == (Outcome.SUCCEEDED, "5", "edge-1", 1)
        failed = await s.do("edge-1", "add", a=2, b=[3])
        assert failed.outcome is Outcome.FAILED
        assert "TypeError" in str(failed.error)


async def test_a_schedule_runs_on_a_worker_that_comes_later() -> None:
    tick = (
        "{id: tick, handler_id: edge-1, method: greet, params: {name: tick}, trigger: {type: interval, seconds: 0.2}}"
    )
    async with site(schedules=tick) as s:
        await anyio.sleep(0.3)
        async with worker(s, greet):
            with anyio.fail_after(20):
                while True:
                    rows = await s.manager.scheduler.query(RunsPage(limit=100))
                    if any(row.outcome is Outcome.SUCCEEDED for row in rows):
                        break
                    await anyio.sleep(0.01)


async def test_progress_of_a_worker_is_a_notice_of_the_node() -> None:
    go_on = threading.Event()

    def counts(run: RunContext) -> str:
        for number in range(100):
            run.progress(f"{number + 1} of 100", number + 1)
        go_on.wait(20)
        return "counted"

    async with site() as s, worker(s, counts) as w:
        await until(lambda: w.attached)
        run_id = await s.run_now("edge-1", "counts")
        await until(lambda: any(p.note == "100 of 100" and p.worker == "edge-1" for p in s.told(RunProgressed)))
        assert len(s.told(RunProgressed)) < 10
        go_on.set()
        assert (await s.end_of(run_id)).result == '"counted"'


async def test_many_runs_at_once_each_once(tmp_path: Path) -> None:
    seen: list[int] = []

    async def note(number: int) -> int:
        await anyio.sleep(0.01)
        seen.append(number)
        return number

    async with site() as s, worker(s, note, concurrency=8, outbox=tmp_path / "outbox.db") as w:
        await until(lambda: w.attached)
        ids = [await s.run_now("edge-1", "note", number=number) for number in range(60)]
        results = [(await s.end_of(run_id)).result for run_id in ids]
        assert results == [str(number) for number in range(60)]
        assert sorted(seen) == list(range(60))
    with sqlite3.connect(tmp_path / "outbox.db") as left:
        assert left.execute("SELECT count(*) FROM reports").fetchone() == (0,)


async def test_methods_that_change_are_registered_anew() -> None:
    methods = registry(greet)
    async with site() as s, worker(s, registry=methods) as w:
        await until(lambda: w.attached)
        methods.register("tasks", add)
        await until(lambda: len(s.told(HandlerRegistered)) > 1 and w.attached)
        assert (await s.do("edge-1", "add", a=1, b=1)).result == "2"


async def test_a_lost_link_is_found_again_and_what_executes_goes_on() -> None:
    notices: list[Notice] = []
    async with site() as s:
        w = worker(s, nap, observers=[notices.append])
        link = HandlerLink(s.address, reconnect_s=0.2)
        w._link = lambda: link  # type: ignore[assignment]
        async with w:
            await until(lambda: w.attached)
            run_id = await s.run_now("edge-1", "nap", seconds=0.6)
            await until(lambda: w._driver is not None and w._driver.attachment.intake.holding.executing)
            router = s.manager.components["registration_server"].router
            router.drop(next(iter(router._connections._speaking.values())).peer)
            await until(lambda: any(isinstance(notice, Detached) for notice in notices))
            await until(lambda: w.attached)
            run = await s.end_of(run_id)
            assert (run.result, run.attempt) == ('"rested"', 1)
    assert len([notice for notice in notices if isinstance(notice, Attached)]) >= 2


async def test_a_worker_waits_for_a_server_that_is_not_there_yet() -> None:
    notices: list[Notice] = []
    async with site() as first:
        address = first.address
    w = Worker(address, "edge-1", registry=registry(add), observers=[notices.append], reconnect_s=0.1)
    async with w:
        await anyio.sleep(0.3)
        assert not w.attached
        async with site(address=address) as s:
            await until(lambda: w.attached)
            assert (await s.do("edge-1", "add", a=1, b=2)).result == "3"


async def test_a_second_worker_of_one_id_is_rejected_and_takes_over_when_the_first_has_left() -> None:
    notices: list[Notice] = []
    async with site() as s:
        first, second = worker(s, add), worker(s, add, observers=[notices.append])
        async with first:
            await until(lambda: first.attached)
            async with second:
                await until(lambda: any(isinstance(notice, AttachRefused) for notice in notices))
                assert not second.attached
                refused = next(notice for notice in notices if isinstance(notice, AttachRefused))
                assert refused.code == "duplicate"
                first.stop()
                await until(lambda: second.attached)
                assert (await s.do("edge-1", "add", a=3, b=4)).result == "7"


async def test_a_server_whose_address_is_taken_says_how_to_give_it_another() -> None:
    async with site() as first, site(address=first.address, wait=False) as second:
        await until(lambda: [told for told in second.told(ComponentChanged) if told.state == "backing_off"])
        (told, *_) = (told for told in second.told(ComponentChanged) if told.state == "backing_off")
        assert told.reason == (
            f"{first.address}: cannot listen there: Address already in use; another address is given as "
            "components.handlers.remote.registration_server.address, in the configuration or by "
            "--set components.handlers.remote.registration_server.address=tcp://HOST:PORT"
        )


# --- the end -----------------------------------------------------------------------------------------------------


async def test_a_drain_finishes_what_runs_and_leaves_in_good_order() -> None:
    async with site() as s:
        async with worker(s, nap) as w:
            await until(lambda: w.attached)
            run_id = await s.run_now("edge-1", "nap", seconds=0.3)
            await until(lambda: w._driver is not None and w._driver.attachment.intake.holding.executing)
        run = await s.end_of(run_id)
        assert (run.outcome, run.result) == (Outcome.SUCCEEDED, '"rested"')
        await until(lambda: s.told(HandlerLeft))
        assert s.told(HandlerLeft)[0].runs == 0


async def test_a_drain_whose_grace_is_over_interrupts_and_the_run_is_repeated_elsewhere() -> None:
    async with site("away_grace: 10s") as s:
        async with worker(s, nap, grace_s=0.1) as w:
            await until(lambda: w.attached)
            run_id = await s.run_now("edge-1", "nap", seconds=60)
            await until(lambda: w._driver is not None and w._driver.attachment.intake.holding.executing)
        waiting = await s.run(run_id)
        assert waiting is not None
        assert waiting.outcome is None, "interrupted is not failed"

        async def quick(seconds: float) -> str:
            return "quick"

        methods = registry()
        methods.register("tasks", quick, ["nap"])
        async with worker(s, registry=methods):
            run = await s.end_of(run_id)
            assert (run.result, run.attempt, run.failures) == ('"quick"', 2, 0)


async def test_stop_may_come_from_any_thread_and_before_the_start() -> None:
    async with site() as s:
        w = worker(s, add)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(w.run)
            await until(lambda: w.attached)
            await anyio.to_thread.run_sync(w.stop)
        early = worker(s, add)
        early.stop()
        with anyio.fail_after(10):
            await early.run()


async def test_a_worker_runs_once_at_a_time() -> None:
    async with site() as s, worker(s, add) as w:
        with pytest.raises(WorkerError, match="runs already"):
            await w.run()


# --- the outbox --------------------------------------------------------------------------------------------------


async def test_results_wait_in_the_outbox_for_the_next_life(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    begun, go_on = threading.Event(), threading.Event()
    calls: list[str] = []

    def work() -> str:
        calls.append("work")
        begun.set()
        go_on.wait(20)
        return "done offline"

    notices: list[Notice] = []
    async with site("away_grace: 10s") as s:
        async with worker(s, work, outbox=path, observers=[notices.append]) as w:
            await until(lambda: w.attached)
            run_id = await s.run_now("edge-1", "work")
            await until(begun.is_set)
            assert w._driver is not None
            w._driver.complete((LinkChanged(False),))  # as the link says it when its cable is cut
            go_on.set()
            await until(lambda: w._driver is not None and w._driver.attachment.reporting.files)
            w.stop(0)
        assert ResultsLeft(kept=1, lost=0) in notices
        async with worker(s, work, outbox=path):
            run = await s.end_of(run_id)
            assert (run.result, run.attempt) == ('"done offline"', 1)
    assert calls == ["work"]


async def test_an_outbox_that_fails_is_loud_and_costs_no_result(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    notices: list[Notice] = []
    async with site() as s, worker(s, add, outbox=path, observers=[notices.append]) as w:
        await until(lambda: w.attached)
        path.unlink()
        assert (await s.do("edge-1", "add", a=1, b=1)).result == "2"
        assert any(isinstance(notice, OutboxTroubled) for notice in notices)


async def test_two_workers_cannot_share_an_outbox(tmp_path: Path) -> None:
    async with site() as s, worker(s, add, outbox=tmp_path / "o.db") as w:
        await until(lambda: w.attached)
        with pytest.raises(StoreInUse, match="in use by another worker"):
            await worker(s, add, outbox=tmp_path / "o.db").run()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_program_that_does_nothing_else_is_told_in_one_error(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "o.db"
    path.write_text("no database " * 200)
    made = Worker("tcp://127.0.0.1:9", "edge-1", registry=registry(add, handler_id="edge-1"), outbox=path)
    with pytest.raises(StoreError, match="not a SQLite database"):
        made.run_forever(backend)


# --- what is wrong is said at once -------------------------------------------------------------------------------


def test_what_cannot_work_is_said_when_the_worker_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "wt_broken.py").write_text("\n\n1 / 0\n")
    (tmp_path / "wt_empty.py").write_text("")
    both = registry(add)
    both.register("more", add)
    for arguments, said in (
        ({"modules": ["wt_broken"]}, "wt_broken.py:3: handler module wt_broken: ZeroDivisionError"),
        ({"modules": ["wt_nowhere"]}, "there is no module 'wt_nowhere'"),
        ({"modules": ["wt_empty"]}, "has no handler to offer"),
        ({"registry": both}, "would offer 'add' twice: more.add at .*test_worker.py:.* and tasks.add at"),
        ({"registry": registry(add), "server": "tcp://nowhere"}, "the address of the server is"),
        ({"registry": registry(add), "server": "nowhere:5556"}, "one is written as tcp://HOST:5556"),
        ({"registry": registry(add), "server": "nats://a:1"}, "no links plugin 'nats' is installed"),
        ({"registry": registry(add), "concurrency": 0}, "concurrency has to be from 1 to 10000"),
        ({"registry": registry(add), "threads": 0}, "threads has to be from 1 to 10000"),
        ({"registry": registry(add), "handler_id": ""}, "handler id"),
        ({"registry": registry(add), "server_key": "x" * 40}, "a secret key of its own is missing"),
        ({"registry": registry(add), "server_key": "x", "secret_key": "y"}, "neither a public key of 40 characters"),
    ):
        options = {"server": "tcp://127.0.0.1:5556", "handler_id": "edge-1", **arguments}
        with pytest.raises(WorkerError, match=said):
            Worker(**options)  # type: ignore[arg-type]


def test_a_worker_offers_2000_methods_at_most() -> None:
    """What a server would refuse is said before anybody is asked."""
    full = registry()
    full.register("tasks", add, aliases=[f"add-{number}" for number in range(1, 2000)])
    Worker("tcp://127.0.0.1:5556", "edge-1", registry=full)
    full.register("tasks", greet)
    with pytest.raises(WorkerError, match="worker edge-1 has 2001 methods, 2000 are the limit"):
        Worker("tcp://127.0.0.1:5556", "edge-1", registry=full)


async def test_without_modules_a_worker_offers_what_this_process_has_registered() -> None:
    @register_local("edge-of-test")
    async def only_here() -> str:
        return "here"

    try:
        async with site() as s, Worker(s.address, "edge-of-test", observers=()):
            run = await s.do("edge-of-test", "only_here")
            assert run.result == '"here"'
            unknown = await s.do("edge-of-test", "only_here", more=1)
            assert unknown.reason == Reason.INVALID_PARAMS
    finally:
        DEFAULT_REGISTRY.unregister("edge-of-test", "only_here")


def test_the_guides_example_is_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "specs" / "remote.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    made: list[Worker] = []
    monkeypatch.setattr(Worker, "run_forever", lambda worker: made.append(worker))
    try:
        exec(compile(example, "specs/remote.md", "exec"), {"__name__": "guide"})
    finally:
        DEFAULT_REGISTRY.unregister("edge-1", "collect")
    assert [worker.handler_id for worker in made] == ["edge-1"]


def test_the_guide_names_every_argument_and_option() -> None:
    guide = (Path(__file__).parents[2] / "specs" / "remote.md").read_text()
    table = guide.split("| `Worker(...)` |")[1].split("\n\n")[0]
    arguments = set(inspect.signature(Worker).parameters) - {"observers", "clock", "rng"}
    assert {name for name in re.findall(r"`([a-z_]+)`", table) if name in arguments} == arguments
    options = set(inspect.signature(worker_command).parameters) - {"backend", "verbose"}
    assert {option.replace("-", "_") for option in re.findall(r"`--([a-z-]+)", table)} == options
