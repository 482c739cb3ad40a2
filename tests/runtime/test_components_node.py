"""The components together: a node that works, that is reloaded, and that two programs cannot run at once."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import pytest
from attrs import evolve

from sz_protocol.commands import Done, Pause, Refusal, RunNow
from sz_protocol.notices import Ignored, Notice, RunsRecorded
from sz_protocol.queries import RunsPage, SchedulesPage
from sz_protocol.records import Outcome, RunState, Schedule, ScheduleState
from sz_runtime.components import ComponentFailed, ComponentManager, ReloadRefused
from sz_runtime.components.spawning import backend_here
from sz_runtime.config import Config, ConfigError, load_config, parse_config
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.ports import StoreInUse
from sz_shells.components.event_broker import LocalBroker

pytestmark = pytest.mark.anyio
TICK = "{id: tick, handler_id: h, method: tick, trigger: {type: interval, seconds: 0.1}}"
YEARLY = "{id: yearly, handler_id: h, method: tick, trigger: {type: cron, expression: '0 0 1 1 *'}}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registry() -> LocalHandlerRegistry:
    made = LocalHandlerRegistry()
    made.register("h", lambda: "tick", methods=["tick"])

    async def nap(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "rested"

    made.register("h", nap)
    return made


def config(*schedules: str, store: str = "{type: memory}", more: str = "") -> Config:
    """A configuration as a file would have it."""
    listed = "".join(f"  - {schedule}\n" for schedule in schedules)
    components = f"components:\n  scheduler: {{datastore: {store}}}\n{more}\n"
    return parse_config(f"deployment: {{mode: autonomous}}\n{components}{'schedules:' if schedules else ''}\n{listed}")


async def until(met: Callable[[], object], timeout_s: float = 10) -> None:
    with anyio.fail_after(timeout_s):
        while not met():
            await anyio.sleep(0.005)


async def schedules(manager: ComponentManager) -> dict[str, Schedule]:
    return {schedule.id: schedule for schedule in await manager.scheduler.query(SchedulesPage())}


async def test_the_schedules_of_the_configuration_fire(registry: LocalHandlerRegistry) -> None:
    ran: list[str] = []

    def observe(notice: Notice) -> None:
        if isinstance(notice, RunsRecorded):
            ran.extend(run.schedule_id for run in notice.runs if run.outcome is Outcome.SUCCEEDED)

    async with ComponentManager(config(TICK), registry=registry, observers=[observe]) as manager:
        await until(lambda: len(ran) >= 3)
        assert manager.scheduler.term == 1
        answer = await manager.scheduler.ask(Pause("tick", "enough"))
        assert answer == Done()


async def test_handlers_run_on_the_backend_that_is_asked_for(
    registry: LocalHandlerRegistry, anyio_backend: str
) -> None:
    seen: list[str] = []

    async def where() -> None:
        seen.append(backend_here())

    registry.register("h", where)
    other = {"asyncio": "trio", "trio": "asyncio"}[anyio_backend]
    for backend, expected in ((None, anyio_backend), (other, other)):
        seen.clear()
        async with ComponentManager(config(), registry=registry, backend=backend) as manager:
            assert isinstance(await manager.scheduler.ask(RunNow("h", "where", "k")), Done)
            await until(lambda: seen)
        assert seen == [expected]


async def test_without_local_handlers_schedules_are_parked_and_visible(registry: LocalHandlerRegistry) -> None:
    more = "  handlers: {local: {enabled: false}}"
    async with ComponentManager(config(YEARLY, more=more), registry=registry) as manager:
        found = await schedules(manager)
        assert found["yearly"].state is ScheduleState.PARKED


async def test_a_module_that_fails_to_import_is_reported_and_the_others_go_on(here: Path) -> None:
    (here / "sz_good_module.py").write_text(
        "from sz_runtime.handlers import register_local\n@register_local('good')\ndef work(): return 1\n"
    )
    (here / "sz_bad_module.py").write_text("x = 1\nraise RuntimeError('no such luck')\n")
    more = "  handlers: {local: {modules: [sz_bad_module, sz_good_module]}}"
    mine = LocalHandlerRegistry()
    async with ComponentManager(config(more=more), registry=mine) as manager:
        (warning,) = manager.warnings
        assert "sz_bad_module.py:2" in warning
        assert [entry.key for entry in mine.entries()] == [("good", "work")]


async def test_two_managers_on_one_database_are_refused_and_the_first_goes_on(
    here: Path, registry: LocalHandlerRegistry
) -> None:
    both = config(TICK, store=f"{{type: sqlite, path: '{here}/jobs.db'}}")
    async with ComponentManager(both, registry=registry) as first:
        with pytest.raises(ComponentFailed, match=r"scheduler: .*jobs.db is in use by another server") as failed:
            async with ComponentManager(both, registry=registry):
                pytest.fail("it cannot get here")
        assert isinstance(failed.value.__cause__, StoreInUse)
        assert isinstance(await first.scheduler.ask(Pause("tick")), Done)
    async with ComponentManager(both, registry=registry) as again:
        assert again.scheduler.term == 2


async def test_running_handlers_get_the_grace_that_stop_gives_them(registry: LocalHandlerRegistry) -> None:
    for grace_s, state in ((5.0, RunState.DONE), (0.0, RunState.PENDING)):
        async with ComponentManager(config(), registry=registry) as manager:
            scheduler = manager.scheduler
            await scheduler.ask(RunNow("h", "nap", "k", {"seconds": 0.4}))
            await until(partial(scheduler.store.query, RunsPage(state=RunState.LEASED)))
            manager.stop(grace_s)
            with anyio.fail_after(10):
                await manager.wait()
            (run,) = scheduler.store.query(RunsPage())
            assert run.state is state


async def test_a_second_stop_shortens_the_first(registry: LocalHandlerRegistry) -> None:
    async with ComponentManager(config(), registry=registry) as manager:
        scheduler = manager.scheduler
        await scheduler.ask(RunNow("h", "nap", "k", {"seconds": 30}))
        await until(partial(scheduler.store.query, RunsPage(state=RunState.LEASED)))
        manager.stop()
        with anyio.move_on_after(0.2) as scope:
            await manager.wait()
        assert scope.cancelled_caught, "it drains for ten seconds"
        manager.stop(0)
        with anyio.fail_after(5):
            await manager.wait()


async def test_a_node_without_any_file_makes_none(here: Path, registry: LocalHandlerRegistry) -> None:
    async with ComponentManager(evolve(config(), file=""), registry=registry) as manager:
        assert manager.components["control"] is None
    assert list(here.iterdir()) == []


# --- reload ----------------------------------------------------------------------------------------------------------


async def test_pain_17_a_reload_reconciles_schedules_and_touches_no_cursor(registry: LocalHandlerRegistry) -> None:
    second = YEARLY.replace("yearly", "second")
    async with ComponentManager(config(YEARLY, second, TICK), registry=registry) as manager:
        before = await schedules(manager)
        changed = YEARLY.replace("method: tick", "method: tick, timeout: 5m")
        third = YEARLY.replace("yearly", "third")
        lines = await manager.reload(config(changed, third, TICK))
        assert lines == ["schedules: 1 added, 1 changed, 1 retired"]
        after = await schedules(manager)
        assert after["yearly"].cursor_us == before["yearly"].cursor_us
        assert after["yearly"].definition.timeout_us == 300_000_000
        assert after["second"].state is ScheduleState.RETIRED
        assert after["tick"].rev == before["tick"].rev
        assert await manager.reload(config(changed, third, TICK)) == [], "nothing has changed any more"
        assert manager.config.schedules == config(changed, third, TICK).schedules


async def test_what_needs_a_restart_is_said_until_it_happens_and_secrets_are_not(
    registry: LocalHandlerRegistry,
) -> None:
    def with_url(password: str, drain: str) -> Config:
        broker = f"  event_broker: {{enabled: false, redis_url: 'redis://u:{password}@h'}}"
        store = f"{{type: memory}}, drain_grace: {drain}"
        return config(store=store, more=broker)

    async with ComponentManager(with_url("first-secret", "10s"), registry=registry) as manager:
        for _ in range(2):
            lines = await manager.reload(with_url("other-secret", "5s"))
            assert lines == [
                "components.scheduler.drain_grace: 10 -> 5: needs a restart",
                "components.event_broker.redis_url: redis://u:***@h -> redis://u:***@h: needs a restart",
            ]
        assert manager.config.components.scheduler.drain_grace_us == 10_000_000


async def test_secrets_of_the_configuration_stay_out_of_the_ledger_and_of_warnings(
    here: Path, registry: LocalHandlerRegistry
) -> None:
    def fails() -> None:
        raise OSError("cannot log in with hunter2 at redis://u:hunter2@h")

    registry.register("h", fails)
    (here / "sz_telling_module.py").write_text("raise RuntimeError('hunter2 is wrong')\n")
    broker = "  event_broker: {enabled: false, redis_url: 'redis://u:hunter2@h'}"
    modules = "  handlers: {local: {modules: [sz_telling_module]}}"
    async with ComponentManager(config(more=f"{broker}\n{modules}"), registry=registry) as manager:
        assert isinstance(await manager.scheduler.ask(RunNow("h", "fails", "k")), Done)
        await until(lambda: manager.scheduler.store.query(RunsPage(outcome=Outcome.FAILED)))
        (run,) = await manager.scheduler.query(RunsPage())
        assert run.error.startswith("OSError: cannot log in with *** at redis://u:***@h\n")
        assert any("RuntimeError: *** is wrong" in warning for warning in manager.warnings)
        assert "hunter2" not in f"{run}{manager.warnings}"


async def test_a_module_that_was_added_is_imported_and_its_schedules_fire(here: Path) -> None:
    (here / "sz_added_module.py").write_text(
        "from sz_runtime.handlers import register_local\n@register_local('added')\ndef work(): return 1\n"
    )
    added = "{id: added, handler_id: added, method: work, trigger: {type: interval, seconds: 0.1}}"
    modules = "  handlers: {local: {modules: [sz_added_module]}}"
    async with ComponentManager(config(added), registry=LocalHandlerRegistry()) as manager:
        assert (await schedules(manager))["added"].state is ScheduleState.PARKED
        assert await manager.reload(config(added, more=modules)) == ["handler modules imported: sz_added_module"]
        await until(lambda: manager.scheduler.store.query(RunsPage(outcome=Outcome.SUCCEEDED)))
        lines = await manager.reload(config(added))
        assert lines == ["components.handlers.local.modules: ['sz_added_module'] -> []: needs a restart"]


async def test_a_broken_or_impossible_configuration_changes_nothing(here: Path, registry: LocalHandlerRegistry) -> None:
    file = here / "schedulezero.yaml"
    good = "deployment: {mode: autonomous}\ncomponents: {scheduler: {datastore: {type: memory}}}\nschedules:\n"
    file.write_text(f"{good}  - {YEARLY}\n")
    async with ComponentManager(load_config(file, environ={}), registry=registry) as manager:
        for broken in (f"{good}  - {{id: half}}\n", good.replace("{scheduler", "{tornado: {enabled: true}, scheduler")):
            file.write_text(broken)
            with pytest.raises(ConfigError, match=r"schedulezero\.yaml:\d"):
                await manager.reload()
            assert (await schedules(manager))["yearly"].state is ScheduleState.ACTIVE
        file.write_text(f"{good}  - {TICK}\n")
        assert await manager.reload() == ["schedules: 1 added, 1 retired"]


async def test_a_node_without_a_file_says_so_when_it_is_asked_to_read_it_again(registry: LocalHandlerRegistry) -> None:
    made = load_config(None, environ={}, overrides={"scheduler.datastore.type": "memory", "tornado.enabled": False})
    async with ComponentManager(made, registry=registry) as manager:
        with pytest.raises(ReloadRefused, match="not started from a file"):
            await manager.reload()
        manager.loader = lambda: made
        assert await manager.reload() == []


async def test_a_reload_without_a_running_scheduler_is_refused_not_forgotten(registry: LocalHandlerRegistry) -> None:
    async with ComponentManager(config(), registry=registry) as manager:
        await manager.stop_component("scheduler")
        with pytest.raises(ReloadRefused, match="the scheduler does not run now"):
            await manager.reload(config(TICK))
        assert await manager.start_scheduler() is not None
        assert await manager.reload(config(TICK)) == ["schedules: 1 added"]


async def test_concurrent_reloads_happen_one_after_the_other(registry: LocalHandlerRegistry) -> None:
    async with ComponentManager(config(), registry=registry) as manager:
        async with anyio.create_task_group() as tasks:
            for n in range(6):
                tasks.start_soon(manager.reload, config(YEARLY if n % 2 else TICK))
        active = [s.id for s in (await schedules(manager)).values() if s.state is not ScheduleState.RETIRED]
        assert active == [schedule.id for schedule in manager.config.schedules]


async def test_a_node_that_stops_refuses_a_reload(registry: LocalHandlerRegistry) -> None:
    async with ComponentManager(config(), registry=registry) as manager:
        scheduler = manager.scheduler
        scheduler.hurry(0)
        await scheduler.driver.ended.wait()
        answer = await scheduler.ask(Pause("tick"))
        assert isinstance(answer, Refusal)
        with pytest.raises(ReloadRefused, match="the node has stopped"):
            await scheduler.apply(config(TICK))


# --- the local event broker ------------------------------------------------------------------------------------------


async def test_the_local_broker_hands_the_nodes_notices_to_the_program(registry: LocalHandlerRegistry) -> None:
    more = "  event_broker: {enabled: true, type: local}"
    heard: list[Notice] = []

    async def listen(broker: LocalBroker, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with broker.subscribe() as notices:
            task_status.started()
            async for notice in notices:
                heard.append(notice)

    manager = ComponentManager(config(TICK, more=more), registry=registry)
    async with anyio.create_task_group() as tasks, manager:
        await tasks.start(listen, manager.event_broker)
        await until(lambda: sum(isinstance(notice, RunsRecorded) for notice in heard) >= 2)
    assert heard, "and the subscription ended with the broker"


async def test_a_slow_subscriber_learns_how_much_it_has_missed() -> None:
    broker = LocalBroker()
    with broker.subscribe(limit=2) as notices:
        for n in range(5):
            broker.publish(Ignored(str(n), ""))
        broker.close()
        got = [notice async for notice in notices]
    assert [n.what for n in got if isinstance(n, Ignored)] == ["0", "1", "notices"]
    assert got[-1] == Ignored("notices", "3 were dropped: the subscriber is too slow")
