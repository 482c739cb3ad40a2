"""The link of a handler to its server: messages in, messages out, and whether there is a connection."""

import os
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskStatus

from sz_protocol.kernel.effects import Send
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import LinkChanged
from sz_protocol.messages import TO_HANDLER
from sz_protocol.wire_values import Problems
from sz_runtime.config.kinds import KINDS, PeerAddress
from sz_runtime.ports import Complete, LinkError
from sz_shells.links.zmq.curve import ClientSecurity
from sz_shells.links.zmq.dealer_link import DealerLink
from sz_shells.links.zmq.frames import Mail, from_frame, to_frames
from sz_shells.links.zmq.key_files import KeyProblem
from sz_shells.links.zmq.limits import Limits
from sz_shells.links.zmq.securing import client_security

SHORTEST_WAIT_S = 0.2
_log = structlog.get_logger("schedulezero.worker")


class HandlerLink:
    """Implements the Link port of the side that connects. Keys are texts, or paths of their files; both or none."""

    def __init__(
        self,
        address: str,
        *,
        server_key: str | os.PathLike[str] | None = None,
        secret_key: str | os.PathLike[str] | None = None,
        reconnect_s: float = 30.0,
        security: ClientSecurity | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Raises LinkError for an address or keys that cannot be right."""
        problems: Problems = []
        KINDS[PeerAddress].read(address, (), problems)
        if problems:
            raise LinkError(f"the address of the server {problems[0][1]}")
        try:
            security = security or client_security(_known(server_key), _known(secret_key))
        except KeyProblem as problem:
            raise LinkError(str(problem)) from problem
        retry_s = (min(SHORTEST_WAIT_S, reconnect_s), reconnect_s)
        self.dealer = DealerLink(
            address, self._received, self._changed, security=security, limits=limits, retry_s=retry_s
        )
        self._complete: Complete | None = None
        self._mail = Mail()

    async def run(self, complete: Complete, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection until cancelled."""
        self._complete = complete
        task_status.started()
        await self.dealer.run()

    def submit(self, effect: Send) -> None:
        """Take a message; it leaves at the next `flush`."""
        self._mail.put(effect.to, effect.message)

    def flush(self) -> None:
        """Send what was submitted; what is dropped is counted by the dealer and repeated by the machines."""
        for _, message in self._mail.take():
            try:
                for frame in to_frames(message):
                    self.dealer.send(frame)
            except LocalProtocolError as problem:
                _log.error("message_not_sent", because=str(problem))

    def _received(self, frame: bytes) -> None:
        assert self._complete is not None, "the dealer receives only while it runs"
        self._complete((from_frame(b"", frame, TO_HANDLER),))

    def _changed(self, up: bool) -> None:
        assert self._complete is not None, "the dealer connects only while it runs"
        self._complete((LinkChanged(up),))


def _known(key: str | os.PathLike[str] | None) -> str | Path | None:
    return key if key is None or isinstance(key, str) else Path(key)
