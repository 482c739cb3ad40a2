"""The component `zmq_client`: an instance that lives by itself, and works for a central server while there is one."""

from pathlib import Path

import anyio
import pytest

from sz_protocol.queries import RunsPage
from sz_protocol.records import Outcome
from sz_runtime.components import ComponentManager
from sz_runtime.config import Config, parse_config
from sz_runtime.handlers import LocalHandlerRegistry
from sz_shells.components.zmq_client import outbox_of
from sz_shells.outboxes.memory import MemoryOutbox
from tests.runtime.worker_rig import registry, site, until

pytestmark = pytest.mark.anyio

EDGE = """\
deployment: {{name: edge, mode: autonomous}}
components:
  control: {{enabled: false}}
  scheduler: {{datastore: {store}}}
  zmq_client: {{server_address: "{address}", handler_id: edge-7, reconnect_interval: 200ms}}
schedules:
  - {{id: own, handler_id: device, method: read, trigger: {{type: interval, seconds: 0.2}}}}
"""


def edge(address: str, store: str = "{type: memory}") -> Config:
    return parse_config(EDGE.format(address=address, store=store))


@pytest.fixture
def device() -> LocalHandlerRegistry:
    async def read() -> str:
        return "21.5 C"

    async def nap(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "rested"

    return registry(read, nap, handler_id="device")


async def own_runs(manager: ComponentManager) -> int:
    rows = await manager.scheduler.query(RunsPage(limit=1000, schedule_id="own"))
    return sum(row.outcome is Outcome.SUCCEEDED for row in rows)


async def test_the_handlers_of_an_edge_work_for_the_centre_too(device: LocalHandlerRegistry, tmp_path: Path) -> None:
    ledger = tmp_path / "edge.db"
    async with site() as centre:
        config = edge(centre.address, f'{{type: sqlite, path: "{ledger}"}}')
        async with ComponentManager(config, registry=device) as manager:
            await until(lambda: (c := manager.components.get("zmq_client")) is not None and c.attached)
            run = await centre.do("edge-7", "read")
            assert (run.result, run.worker) == ('"21.5 C"', "edge-7")
            with anyio.fail_after(10):
                while await own_runs(manager) < 2:
                    await anyio.sleep(0.02)
    assert ledger.with_name("edge.db.outbox").exists()


async def test_an_edge_lives_without_its_centre_and_finds_it_when_it_comes(device: LocalHandlerRegistry) -> None:
    async with site() as first:
        address = first.address
    async with ComponentManager(edge(address), registry=device) as manager:
        client = manager.components["zmq_client"]
        with anyio.fail_after(10):
            while await own_runs(manager) < 2:
                await anyio.sleep(0.02)
        assert not client.attached
        async with site(address=address) as centre:
            await until(lambda: client.attached)
            assert (await centre.do("edge-7", "read")).outcome is Outcome.SUCCEEDED
        await until(lambda: not client.attached)
        before = await own_runs(manager)
        with anyio.fail_after(10):
            while await own_runs(manager) < before + 2:
                await anyio.sleep(0.02)


async def test_a_stop_lets_what_runs_for_the_centre_end_and_a_second_one_hurries(device: LocalHandlerRegistry) -> None:
    async with site("away_grace: 10s") as centre:
        async with ComponentManager(edge(centre.address), registry=device) as manager:
            client = manager.components["zmq_client"]
            await until(lambda: client.attached)
            short = await centre.run_now("edge-7", "nap", seconds=0.5)
            await until(lambda: client.driver.attachment.intake.holding.executing)
        assert (await centre.end_of(short)).result == '"rested"'
        async with ComponentManager(edge(centre.address), registry=device) as manager:
            client = manager.components["zmq_client"]
            await until(lambda: client.attached)
            long = await centre.run_now("edge-7", "nap", seconds=600)
            await until(lambda: client.driver.attachment.intake.holding.executing)
            manager.stop()
            await until(lambda: client.driver.attachment.drain_until_us)
            manager.stop(grace_s=0)
            with anyio.fail_after(10):
                await manager.wait()
        waiting = await centre.run(long)
        assert waiting is not None
        assert waiting.outcome is None


def test_the_outbox_lies_beside_the_ledger() -> None:
    assert isinstance(outbox_of(edge("tcp://c:1")), MemoryOutbox)
    assert outbox_of(edge("tcp://c:1", '{type: sqlite, path: "a/l.db"}')).durable
