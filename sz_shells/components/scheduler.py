"""The component `scheduler`: a node on its store, its executor and its clock, with the schedules of the
configuration."""

from typing import Any

import anyio
import anyio.to_thread
import structlog
from attrs import evolve

from sz_protocol.commands import Answer, Applied, Apply, Command, Refusal
from sz_protocol.components import Restart
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.node import Node
from sz_protocol.queries import Query
from sz_protocol.settings import Settings
from sz_runtime.components import CannotRun, Component, ComponentContext, Limits, ReloadRefused
from sz_runtime.config import Config
from sz_runtime.driver import Driver
from sz_runtime.executor import HandlerExecutor
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.plugins import UnknownPlugin, load_plugin
from sz_runtime.ports import Store
from sz_runtime.running import running_node
from sz_shells.clocks.boot import BootClock
from sz_shells.stores.named import make_store

START_US = 120 * SECOND_US
"""Opening a large file, mending its schema, and storing a hundred thousand new schedules."""
LEAVE_US = 10 * SECOND_US
"""What follows the grace: cancelled handlers, their threads, the last commit. Five seconds, if the store keeps up."""

_log = structlog.get_logger("schedulezero.scheduler")


class Scheduler:
    """What the component offers to the program and to other components."""

    def __init__(self, driver: Driver, store: Store) -> None:
        self.driver = driver
        self.store = store

    @property
    def term(self) -> int:
        """The term of this life: it fences every write."""
        node = self.driver.node
        return node.ops.term if isinstance(node, Node) else 0

    async def ask(self, command: Command) -> Answer:
        """Put a command to the node and wait for its answer."""
        return await self.driver.ask(command)

    async def query(self, query: Query) -> tuple[Any, ...]:
        """Rows of the store, read beside the node. Raises StoreError."""
        return await anyio.to_thread.run_sync(self.store.query, query)

    def hurry(self, grace_s: float) -> None:
        """Shorten a stop: running handlers get so long from now on."""
        self.driver.stop(int(grace_s * SECOND_US))

    async def apply(self, config: Config) -> list[str]:
        """Reconcile the schedules of the configuration; lines for a person. Raises ReloadRefused."""
        answer = await self.ask(Apply(config.schedules, source="config", prune=True))
        if isinstance(answer, Refusal):
            raise ReloadRefused(f"the schedules were not taken over: {answer.message}")
        assert isinstance(answer, Applied), f"an Apply is answered by {answer}"
        refused = [f"schedule {schedule_id!r} was refused: {why}" for schedule_id, why in answer.refused]
        counts = {"added": answer.added, "changed": answer.changed, "retired": answer.retired}
        said = [f"{count} {what}" for what, count in counts.items() if count]
        return [*([f"schedules: {', '.join(said)}"] if said else []), *refused]

    async def reload(self, running: Config, new: Config) -> tuple[Config, list[str]]:
        """Take over the schedules; cursors stay where they are."""
        lines = await self.apply(new)
        return evolve(running, schedules=new.schedules), lines


def _refuses(config: Config) -> str:
    try:
        load_plugin("stores", config.components.scheduler.datastore.type)
    except UnknownPlugin as unknown:
        return str(unknown)
    return ""


def _limits(config: Config) -> Limits:
    return Limits(START_US, config.components.scheduler.drain_grace_us + LEAVE_US, LEAVE_US)


async def _serve(context: ComponentContext) -> None:
    config, manager = context.config, context.manager
    scheduler = config.components.scheduler
    clock = manager.clock or BootClock()
    handlers = context.value("handlers")
    executor = HandlerExecutor(
        handlers.registry if handlers is not None else LocalHandlerRegistry(),
        clock,
        manager.backend or "asyncio",
        slots=scheduler.concurrency,
        threads=scheduler.threads,
        hide=config.hider(),
    )
    remote, registration = config.components.handlers.remote, config.components.handlers.remote.registration_server
    settings = Settings(
        horizon_us=scheduler.horizon_us,
        retention_us=scheduler.retention_us,
        remote=remote.enabled and registration.enabled,
        heartbeat_us=registration.heartbeat_us,
        lease_us=registration.lease_us,
        away_grace_us=registration.away_grace_us,
    )
    store = make_store(config)
    # No grace where the block is left by an error or a cancellation; in good order we drain ourselves, below.
    async with running_node(
        store, executor, clock, settings=settings, observers=[manager.observe], rng=manager.rng, grace_s=0
    ) as driver:
        service = Scheduler(driver, store)
        for line in await service.apply(config):
            _log.info("schedules_reconciled", what=line)
        context.started(service)
        await _either(context.stopping, driver.ended)
        if not context.stopping.is_set():
            raise CannotRun("the node stepped down: another process took its store")
        grace_s = scheduler.drain_grace_us / SECOND_US if manager.grace_s is None else manager.grace_s
        driver.stop(int(grace_s * SECOND_US))
        await driver.ended.wait()


async def _either(first: anyio.Event, second: anyio.Event) -> None:
    """Wait for one of two events."""

    async def wait(event: anyio.Event) -> None:
        await event.wait()
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, first)
        tasks.start_soon(wait, second)


SCHEDULER = Component(
    _serve, after=("handlers", "event_broker"), limits=_limits, refuses=_refuses, restart=Restart(limit=20)
)
