"""A plain pyzmq socket that waits through anyio, on asyncio and on trio.

The descriptor of a ZeroMQ socket is edge triggered: it becomes readable when something has happened since anybody last
looked, and *every* operation on the socket looks. So whoever operates has to tell whoever waits, and only one may wait.
"""

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import zmq

BATCH = 64
"""So many messages are received without a look at the event loop; more of them would stall the other tasks."""


# As numbers: their enumeration costs as much as a call.
_NOW = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)


class FdSocket:
    """Wraps a socket for the tasks of one event loop; nobody else may touch it.

    Any number of tasks may receive; each message goes to exactly one of them, and a cancelled receive takes none.
    """

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        socket.linger = 0
        self._socket = socket
        self._fd = int(socket.getsockopt(zmq.FD))
        self._leader: anyio.CancelScope | None = None
        self._left = anyio.Event()
        self._in_a_row = 0
        self.waits = 0
        """How often nothing was there."""

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        """What is wrapped, for setting it up."""
        return self._socket

    @property
    def is_waiting(self) -> bool:
        """Whether nothing is there now."""
        return self._leader is not None

    async def recv_multipart(self) -> list[bytes]:
        """The next message."""
        while True:
            self._in_a_row += 1
            if self._in_a_row >= BATCH:
                await self._pause()
            parts = self.take()
            if parts is not None:
                return parts
            await self._wait()

    def take(self) -> list[bytes] | None:
        """The next message if it is here already."""
        try:
            parts = self._socket.recv_multipart(_NOW)
        except zmq.ZMQError as error:
            self._nothing(error)
            return None
        if self._leader is not None:
            self._wake_leader()
        return parts

    async def recv_frames(self) -> list[zmq.Frame]:
        """The next message as frames, which know their sender's User-Id."""
        receive = self._socket.recv
        while True:
            self._in_a_row += 1
            if self._in_a_row >= BATCH:
                await self._pause()
            try:
                frame = receive(_NOW, False)
            except zmq.ZMQError as error:
                self._nothing(error)
                await self._wait()
                continue
            frames = [frame]
            # A message arrives as a whole: its other frames are here.
            while frame.more:
                frame = receive(_NOW, False)
                frames.append(frame)
            if self._leader is not None:
                self._wake_leader()
            return frames

    def send(self, parts: Sequence[bytes]) -> bool:
        """Send without waiting; False when there is no room. Raises zmq.ZMQError for whatever else is wrong."""
        try:
            for part in parts[:-1]:
                self._socket.send(part, _MORE)
            self._socket.send(parts[-1], _NOW)
        except zmq.Again:
            return False
        finally:
            if self._leader is not None:
                self._wake_leader()
        return True

    def close(self, leave_s: float = 0.0) -> None:
        """Close the socket and end every receive; what was sent may leave within `leave_s`. A second call is void."""
        if not self._socket.closed:
            anyio.notify_closing(self._fd)
            self._socket.close(linger=round(leave_s * 1000))
        if self._leader is not None:
            self._leader.cancel()
        self._left.set()

    async def _pause(self) -> None:
        """A checkpoint now and then, before anything is taken: a message taken by a cancelled task would be lost."""
        self._in_a_row = 0
        await anyio.lowlevel.checkpoint()

    def _nothing(self, error: zmq.ZMQError) -> None:
        if self._socket.closed:
            raise anyio.ClosedResourceError from error
        if error.errno != zmq.EAGAIN:
            raise error

    async def _wait(self) -> None:
        """Return when another look at the socket may pay."""
        self._in_a_row = 0
        self.waits += 1
        if self._leader is not None:
            await self._left.wait()
            return
        try:
            with anyio.CancelScope() as self._leader:
                # Nobody would tell us of what came in before this line.
                if self._readable():
                    await anyio.lowlevel.checkpoint()
                else:
                    await anyio.wait_readable(self._fd)
        finally:
            self._leader = None
            left, self._left = self._left, anyio.Event()
            left.set()

    def _readable(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def _wake_leader(self) -> None:
        """After each operation, which may have swallowed the signal that the leader waits for."""
        if self._leader is not None and not self._leader.cancel_called and self._readable():
            self._leader.cancel()
