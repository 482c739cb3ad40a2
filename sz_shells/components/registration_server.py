"""The component `registration_server`: where remote handlers register and get their runs."""

import anyio
import structlog

from sz_runtime.components import Component, ComponentContext
from sz_runtime.ports import LinkError
from sz_shells.links.zmq.registration_link import RegistrationLink

_log = structlog.get_logger("schedulezero.registration")


async def _serve(context: ComponentContext) -> None:
    address = context.config.components.handlers.remote.registration_server.address
    driver = context.value("scheduler").driver
    link = RegistrationLink(address)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(link.run, driver.complete)
            with driver.linked(link):
                _log.info("registration_server_listens", address=link.endpoint)
                context.started(link)
                await context.stopping.wait()
            tasks.cancel_scope.cancel()
    except* LinkError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


REGISTRATION_SERVER = Component(_serve, needs=("scheduler",), required=False)
"""Local schedules fire whatever becomes of it: an address that is taken is tried again, and the status shows why."""
