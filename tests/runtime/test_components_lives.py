"""ComponentManager: what it does with components that start, fail, hang, die and will not leave (LIFE-n)."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from sz_protocol.notices import ComponentChanged, NodeFailed, Notice
from sz_runtime.components import ComponentFailed, ComponentManager, StoppedEarly
from sz_runtime.config import Config, Plugins, parse_config
from tests.runtime.odd_components import Deaf, diary, install

pytestmark = pytest.mark.anyio
PLUGINS = Plugins(components=("odd", "user", "extra", "needs_web", "nonsense", "missing", "control"))
QUIET = """
deployment: {mode: autonomous}
components:
  scheduler: {datastore: {type: memory}}
"""


@pytest.fixture(autouse=True)
def odd_components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dist").mkdir()
    install(tmp_path / "dist", monkeypatch)


def config(**sections: dict[str, Any]) -> Config:
    """A quiet node with these sections beside it."""
    lines = [f"  {name}: {{{', '.join(f'{k}: {v}' for k, v in keys.items())}}}" for name, keys in sections.items()]
    return parse_config(QUIET + "\n".join(lines) + "\n", plugins=PLUGINS)


def states(manager: ComponentManager) -> dict[str, str]:
    return {standing.name: str(standing.state) for standing in manager.states}


async def until(met: Callable[[], object], timeout_s: float = 10) -> None:
    with anyio.fail_after(timeout_s):
        while not met():
            await anyio.sleep(0.005)


ON = {"enabled": "true"}


async def test_a_third_partys_component_is_found_started_offered_and_stopped() -> None:
    async with ComponentManager(config(odd=ON, user=ON)) as manager:
        assert states(manager) == dict.fromkeys(("handlers", "scheduler", "odd", "user", "control"), "running")
        assert manager.components["odd"] == "odd 1"
        assert diary == ["start odd", "start user"]
    assert diary[2:] == ["stop user", "stop odd"], "LIFE-2"
    assert set(states(manager).values()) == {"stopped"}
    assert manager.components == {}


async def test_observers_hear_every_state_and_one_that_raises_harms_nobody() -> None:
    heard: list[Notice] = []

    def broken(notice: Notice) -> None:
        raise ValueError("an observer of a user")

    async with ComponentManager(config(odd=ON), observers=[broken, heard.append]):
        pass
    changes = [(n.name, n.state) for n in heard if isinstance(n, ComponentChanged) and n.name == "odd"]
    assert changes == [("odd", s) for s in ("waiting", "starting", "running", "stopping", "stopped")]


async def test_life_4_a_failing_start_is_undone_and_its_cause_is_kept() -> None:
    manager = ComponentManager(config(odd={"start": "fail"}))
    with pytest.raises(ComponentFailed, match=r"odd: OSError: \[Errno 98\] address already in use") as failed:
        await manager.start_all()
    assert isinstance(failed.value.__cause__, OSError)
    assert failed.value.component == "odd"
    assert {name for name, state in states(manager).items() if state != "stopped"} == {"odd"}
    assert states(manager)["odd"] == "failed"
    await manager.wait()


async def test_life_3_a_hanging_start_is_bounded_and_undone() -> None:
    begun = time.monotonic()
    with pytest.raises(ComponentFailed, match="odd: it did not start within 1s"):
        async with ComponentManager(config(odd={"start": "hang"})):
            pytest.fail("it cannot get here")
    assert time.monotonic() - begun < 3


async def test_an_optional_component_that_fails_is_shown_tried_again_and_hinders_nobody() -> None:
    async with ComponentManager(config(extra={"start": "fail"})) as manager:
        await until(lambda: diary.count("start extra") >= 3)
        assert states(manager)["scheduler"] == "running"
        (extra,) = (standing for standing in manager.states if standing.name == "extra")
        assert extra.lives >= 3
    assert states(manager)["extra"] == "stopped"


async def test_life_5_one_that_ends_as_its_time_out_passes_is_tried_again() -> None:
    async with ComponentManager(config(extra=ON | {"start": "block"})) as manager:
        await until(lambda: states(manager)["extra"] == "running")
        assert diary == ["start extra", "start extra"]
    assert set(states(manager).values()) == {"stopped"}


async def test_an_optional_component_whose_error_is_permanent_is_tried_once() -> None:
    async with ComponentManager(config(extra={"start": "refuse"})) as manager:
        await anyio.sleep(0.2)
        assert diary == ["start extra"]
        assert states(manager)["extra"] == "failed"
        (extra,) = (standing for standing in manager.states if standing.name == "extra")
        assert extra.reason == "it will never work"


@pytest.mark.parametrize("quietly", ["true", "false"])
async def test_life_6_a_component_that_dies_comes_back_and_so_do_those_that_need_it(quietly: str) -> None:
    odd = {"dies_after": 0.05, "deaths": 2, "quietly": quietly}
    async with ComponentManager(config(odd=odd, user=ON)) as manager:
        await until(lambda: manager.components.get("odd") == "odd 3" and "user" in manager.components)
        assert manager.components["user"] == "user 3"
    lives = ["start odd", "start user", "stop user"]
    assert diary == [*lives, *lives, *lives, "stop odd"]


async def test_a_required_component_that_is_given_up_ends_the_node_and_wait_tells() -> None:
    heard: list[Notice] = []
    async with ComponentManager(config(odd={"dies_after": 0.05}), observers=[heard.append]) as manager:
        with anyio.fail_after(10):
            await manager.wait()
        assert manager.failed == "odd: RuntimeError: it died"
        assert states(manager)["scheduler"] == "stopped"
    assert [n.component for n in heard if isinstance(n, NodeFailed)] == ["odd"]
    assert diary.count("start odd") == 6, "its limit is five deaths in a row"


async def test_life_3_a_component_that_hangs_in_its_stop_is_cancelled() -> None:
    begun = time.monotonic()
    async with ComponentManager(config(odd={"stop": "hang"})) as manager:
        pass
    assert 0.2 <= time.monotonic() - begun < 3
    assert states(manager)["odd"] == "stopped"
    assert manager.stuck == ()


async def test_life_3_a_component_that_ignores_its_cancellation_cannot_hold_the_node() -> None:
    begun = time.monotonic()
    async with ComponentManager(config(odd={"stop": "deaf"})) as manager:
        pass
    assert time.monotonic() - begun < 3
    assert manager.stuck == ("odd",)
    assert {name for name, state in states(manager).items() if state != "stopped"} == {"odd"}
    Deaf.release.set()
    await until(lambda: manager.stuck == ())


async def test_a_cancelled_program_still_stops_everything_in_order() -> None:
    manager = ComponentManager(config(odd=ON, user=ON))
    with anyio.move_on_after(0.3):
        async with manager:
            await anyio.sleep_forever()
    assert diary == ["start odd", "start user", "stop user", "stop odd"]
    assert set(states(manager).values()) == {"stopped"}


async def test_a_cancelled_start_leaves_nothing_behind() -> None:
    manager = ComponentManager(config(odd={"start": "hang"}))
    with anyio.move_on_after(0.1) as scope:
        await manager.start_all()
    assert scope.cancelled_caught
    assert set(states(manager).values()) == {"stopped"}


async def test_a_stop_while_it_starts_is_told_apart_from_a_failure() -> None:
    manager = ComponentManager(config(odd={"start": "hang"}))
    async with anyio.create_task_group() as tasks:

        async def start() -> None:
            with pytest.raises(StoppedEarly):
                await manager.start_all()

        tasks.start_soon(start)
        await until(lambda: diary == ["start odd"])
        manager.stop()
    assert set(states(manager).values()) == {"stopped"}
    assert manager.failed == ""


async def test_start_all_and_stop_all_may_be_called_from_different_tasks() -> None:
    manager = ComponentManager(config(odd=ON))
    async with anyio.create_task_group() as first:
        first.start_soon(manager.start_all)
    assert states(manager)["odd"] == "running"
    async with anyio.create_task_group() as second:
        second.start_soon(manager.stop_all)
        second.start_soon(manager.stop_all)
    assert set(states(manager).values()) == {"stopped"}
    await manager.start_all()
    assert states(manager)["odd"] == "running", "a manager can be started again"
    await manager.stop_all()


async def test_a_second_stop_that_comes_before_the_schedulers_turn_does_not_take_it_down() -> None:
    """It stops after the others; asked to hurry before it was asked to stop, it would have drained behind our backs."""
    heard: list[Notice] = []
    manager = ComponentManager(config(odd=ON, user={"stop": "hang"}), observers=[heard.append])
    await manager.start_all()
    manager.stop()
    assert states(manager)["scheduler"] == "running"
    manager.stop(grace_s=0)
    with anyio.fail_after(10):
        await manager.wait()
    assert manager.failed == ""
    ends = [notice.state for notice in heard if isinstance(notice, ComponentChanged) and notice.name == "scheduler"]
    assert ends[-2:] == ["stopping", "stopped"]


async def test_one_component_at_a_time_as_in_the_design_document() -> None:
    manager = ComponentManager(config(odd=ON, user=ON))
    scheduler = await manager.start_scheduler()
    assert scheduler is manager.scheduler is manager.components["scheduler"]
    assert await manager.start_event_broker() is None
    assert await manager.start_tornado() is None
    assert await manager.start_zmq_client() is None
    assert await manager.start_registration_server() is None
    assert await manager.start_handlers() is not None
    assert await manager.start("user") == "user 1"
    assert diary == ["start odd", "start user"], "what it needs came first"
    await manager.stop_component("odd")
    assert states(manager)["user"] == "stopped"
    assert states(manager)["scheduler"] == "running"
    manager.stop()
    with anyio.fail_after(5):
        await manager.wait()
    assert manager.failed == ""
