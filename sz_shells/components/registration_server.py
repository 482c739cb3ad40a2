"""The component `registration_server`: where remote handlers register and get their runs."""

import anyio
import structlog

from sz_protocol.kernel.events import AllowedKey, KeysChanged
from sz_runtime.components import Component, ComponentContext
from sz_runtime.config import Config
from sz_runtime.ports import LinkError
from sz_shells.links.zmq.limits import Limits
from sz_shells.links.zmq.registration_link import RegistrationLink
from sz_shells.links.zmq.securing import refuses_to_listen, secure_server

ELSEWHERE = (
    "another address is given as components.handlers.remote.registration_server.address, in the configuration or by "
    "--set components.handlers.remote.registration_server.address=tcp://HOST:PORT"
)
_log = structlog.get_logger("schedulezero.registration")


def _refuses(config: Config) -> str:
    return refuses_to_listen(config.components.handlers.remote.registration_server)


async def _serve(context: ComponentContext) -> None:
    server = context.config.components.handlers.remote.registration_server
    driver = context.value("scheduler").driver

    def keys_changed(allowed: tuple[AllowedKey, ...]) -> None:
        driver.complete((KeysChanged(allowed),))

    secured = secure_server(server, keys_changed)
    # Before anybody can be heard: who may speak.
    driver.complete((KeysChanged(None if secured.directory is None else secured.directory.allowed),))
    limits = Limits(max_frame=server.max_frame, max_connections=server.max_connections)
    link = RegistrationLink(server.address, security=secured.security, limits=limits)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(link.run, driver.complete)
            with driver.linked(link):
                _log.info("registration_server_listens", address=link.endpoint, encrypted=secured.security is not None)
                context.started(link)
                await context.stopping.wait()
            tasks.cancel_scope.cancel()
    except* LinkError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise LinkError(f"{error}; {ELSEWHERE}") from None


REGISTRATION_SERVER = Component(_serve, needs=("scheduler",), required=False, refuses=_refuses)
"""Local schedules fire whatever becomes of it: an address that is taken is tried again, and the status shows why."""
