"""The component `zmq_client`: this instance's handlers, offered to a central server under one id. Its own schedules do
not depend on the link."""

from pathlib import Path
from random import Random, SystemRandom

import structlog

from sz_protocol.attaching import AttachmentSettings, Identity, offer_of
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.attachment import Attachment
from sz_protocol.machines.registration import MOST_SLOTS
from sz_runtime.attached import AttachedDriver, running_attachment
from sz_runtime.components import Component, ComponentContext, Limits
from sz_runtime.config import Config
from sz_runtime.executor import HandlerExecutor
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.ports import Outbox
from sz_runtime.worker import software
from sz_shells.clocks.boot import BootClock
from sz_shells.links.zmq.handler_link import HandlerLink
from sz_shells.links.zmq.securing import secure_client
from sz_shells.outboxes.memory import MemoryOutbox
from sz_shells.outboxes.sqlite import SqliteOutbox

LEAVE_US = 15 * SECOND_US
"""What follows the grace: cancelled handlers, their threads, the last results."""

_log = structlog.get_logger("schedulezero.zmq_client")


class ZmqClient:
    """What the component offers to the program."""

    def __init__(self, driver: AttachedDriver) -> None:
        self.driver = driver

    @property
    def attached(self) -> bool:
        """Whether the central server has registered this instance."""
        return self.driver.attachment.session is not None

    def hurry(self, grace_s: float) -> None:
        """Shorten a stop: running handlers get so long from now on."""
        self.driver.stop(int(grace_s * SECOND_US))


def outbox_of(config: Config) -> Outbox:
    """Beside the ledger; in memory where the ledger is."""
    datastore = config.components.scheduler.datastore
    handler_id = config.components.zmq_client.handler_id
    match datastore.type:
        case "memory":
            return MemoryOutbox()
        case "sqlite":
            path = Path(datastore.path)
            return SqliteOutbox(path.with_name(f"{path.name}.outbox"), handler_id)
        case _:
            return SqliteOutbox(Path("deployments") / config.deployment.name / "outbox.db", handler_id)


def _limits(config: Config) -> Limits:
    return Limits(stop_us=config.components.scheduler.drain_grace_us + LEAVE_US, cancel_us=LEAVE_US)


async def _serve(context: ComponentContext) -> None:
    config, manager = context.config, context.manager
    client, scheduler = config.components.zmq_client, config.components.scheduler
    assert client.server_address is not None, "a client without an address is off"
    handlers = context.value("handlers")
    registry = handlers.registry if handlers is not None else LocalHandlerRegistry()
    clock, rng = BootClock(), manager.rng or SystemRandom()
    slots = min(scheduler.threads, MOST_SLOTS)
    # Slots and threads of its own: what the centre asks for cannot crowd out this instance's schedules, nor they it.
    executor = HandlerExecutor(
        registry, clock, manager.backend or "asyncio", slots=slots, threads=slots, hide=config.hider()
    )
    outbox = outbox_of(config)
    identity = Identity(
        client.handler_id,
        incarnation=rng.getrandbits(63) or 1,
        slots=slots,
        software=software(),
        durable=outbox.durable,
    )
    for method in offer_of(registry.methods(), client.handler_id)[1]:
        _log.warning("method_offered_once", method=method, because="several handlers here have one of this name")
    settings = AttachmentSettings(pause_max_us=client.reconnect_interval_us)
    attachment = Attachment(identity, Random(rng.getrandbits(64)), settings)
    link = HandlerLink(
        client.server_address,
        security=secure_client(client),
        reconnect_s=client.reconnect_interval_us / SECOND_US,
    )
    # No grace where the block is left by an error or a cancellation; in good order we drain ourselves, below.
    async with running_attachment(
        attachment, link, outbox, executor, clock, observers=[manager.observe], grace_s=0
    ) as driver:
        context.started(ZmqClient(driver))
        await context.stopping.wait()
        grace_s = scheduler.drain_grace_us / SECOND_US if manager.grace_s is None else manager.grace_s
        driver.stop(int(grace_s * SECOND_US))
        await driver.ended.wait()


ZMQ_CLIENT = Component(_serve, after=("handlers",), required=False, limits=_limits)
"""The instance lives without its centre. It drains beside the scheduler, not before it: their graces do not add up."""
