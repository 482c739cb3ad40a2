"""The component `control`: the local control link, a socket beside the database."""

from pathlib import Path

import anyio

from sz_runtime.components import Component, ComponentContext
from sz_runtime.control import ControlService, control_path
from sz_shells.links.control_server import ControlServer, control_socket


async def _serve(context: ComponentContext) -> None:
    path = control_path(context.config)
    if path is None:
        # A node without a database file and without a configuration file has no directory: only its program steers it.
        context.started(None)
        await context.stopping.wait()
        return
    server = ControlServer(ControlService(context.manager))
    async with control_socket(Path(path)) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, listener)
        context.started(path)
        await context.stopping.wait()
        tasks.cancel_scope.cancel()


CONTROL = Component(_serve, after=("scheduler",), required=False)
