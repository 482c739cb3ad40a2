"""What libzmq says about the connections of a socket."""

import struct
from itertools import count
from typing import Any

import zmq
from attrs import frozen

from sz_shells.links.zmq.fd_socket import FdSocket

_EVENT = struct.Struct("=Hi")
_numbers = count(1)

HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


@frozen
class Happened:
    """`value` is a descriptor, an error number or a code: it depends on the event."""

    event: int
    value: int


class Monitor:
    """The events of one socket, in their order."""

    def __init__(self, socket: "zmq.Socket[bytes]", events: int) -> None:
        address = f"inproc://monitor-{next(_numbers)}"
        self._watched = socket
        socket.monitor(address, events)
        pair = socket.context.socket(zmq.PAIR, socket_class=zmq.Socket)
        # libzmq's I/O thread *waits* for room for its events. With a bound here, a busy event loop and a thousand
        # connections would stop the heartbeats of all the others.
        pair.rcvhwm = 0
        pair.connect(address)
        self._pair = FdSocket(pair)

    async def next(self) -> Happened:
        """Wait for the next event."""
        return _parsed(await self._pair.recv_multipart())

    def take(self) -> Happened | None:
        """The next event if it is here already."""
        parts = self._pair.take()
        return None if parts is None else _parsed(parts)

    def close(self) -> None:
        """End it; before the socket that it watches."""
        if not self._watched.closed:
            self._watched.disable_monitor()
        self._pair.close()


def _parsed(parts: list[bytes]) -> Happened:
    return Happened(*_EVENT.unpack(parts[0]))


def why_failed(happened: Happened) -> str:
    """The reason of a failed handshake, for a person."""
    if happened.event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "the key is not allowed"
    if happened.event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        if happened.value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            return "one end has keys, and the other has none"
        return _protocol_errors().get(happened.value, f"protocol error {happened.value:#x}")
    return "the connection ended, or took too long, before its handshake was over"


def _protocol_errors() -> dict[int, str]:
    """libzmq's names for what was wrong in a greeting or a handshake."""
    names: dict[str, Any] = vars(zmq)
    prefix = "PROTOCOL_ERROR_"
    return {
        int(value): name.removeprefix(prefix).lower().replace("_", " ")
        for name, value in names.items()
        if name.startswith(prefix)
    }
