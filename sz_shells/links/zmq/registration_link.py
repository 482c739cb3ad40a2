"""The registration server as the node's driver sees it: messages of handlers in, messages to handlers out."""

import anyio
import structlog
from anyio.abc import TaskStatus

from sz_protocol.kernel.effects import Send
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.messages import TO_HANDLER_SERVER
from sz_runtime.ports import Complete
from sz_shells.links.zmq.curve import ServerSecurity
from sz_shells.links.zmq.frames import Mail, from_frame, to_frames
from sz_shells.links.zmq.limits import Limits
from sz_shells.links.zmq.router_link import RouterLink

_log = structlog.get_logger("schedulezero.registration")


class RegistrationLink:
    """Implements the Link port of a server. A frame that is dropped is counted by the router and repeated by the
    machines."""

    def __init__(self, address: str, *, security: ServerSecurity | None = None, limits: Limits | None = None) -> None:
        self.router = RouterLink(address, self._received, security=security, limits=limits)
        self.endpoint = ""
        """The address that was bound, once it is."""
        self._complete: Complete | None = None
        self._mail = Mail()

    async def run(self, complete: Complete, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises LinkError."""
        self._complete = complete
        async with anyio.create_task_group() as tasks:
            self.endpoint = await tasks.start(self.router.run)
            task_status.started()

    def submit(self, effect: Send) -> None:
        """Take a message; it leaves at the next `flush`."""
        self._mail.put(effect.to, effect.message)

    def flush(self) -> None:
        """Send what was submitted."""
        for to, message in self._mail.take():
            try:
                for frame in to_frames(message):
                    self.router.send(to, frame)
            except LocalProtocolError as problem:
                _log.error("message_not_sent", because=str(problem))

    def _received(self, peer: bytes, key: str, frame: bytes) -> None:
        assert self._complete is not None, "the router receives only while it runs"
        self._complete((from_frame(peer, frame, TO_HANDLER_SERVER, key),))
