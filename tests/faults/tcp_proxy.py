"""A TCP proxy with faults, for links that have to survive bad networks.

It can hold what flows (a black hole: nothing arrives, and nobody is told), delay it, slow it down, cut connections,
close one direction only, and take no new connections. What it cannot do is lose, reorder or duplicate bytes inside a
connection: TCP repairs that, so that applications meet it as delay or as a broken connection, never as such. (A frame
that is replayed is the protocol's business: send it twice.)
"""

import math
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Literal

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream, TaskGroup
from attrs import define, field
from attrs.setters import NO_OP

Direction = Literal["up", "down"]
"""Up: from the client to the server."""
BOTH: tuple[Direction, ...] = ("up", "down")
CHUNK = 16 * 1024
WINDOW = 64
"""Chunks that are on their way in one direction, before the sender has to wait: TCP's window."""


@define
class Faults:
    """What is wrong with one direction now; may be changed at any time."""

    delay_s: float = 0.0
    bytes_per_s: float = math.inf
    held: bool = False
    _healed: anyio.Event = field(factory=anyio.Event, on_setattr=NO_OP)

    def hold(self) -> None:
        """Let nothing through, ends of connections neither."""
        self.held = True

    def heal(self) -> None:
        """Let everything through at full speed, what was held first."""
        self.delay_s, self.bytes_per_s, self.held = 0.0, math.inf, False
        self._healed.set()
        self._healed = anyio.Event()

    async def pass_through(self, size: int, sent_s: float) -> None:
        """Wait until so many bytes that were sent at that time may arrive."""
        await anyio.sleep(max(0.0, sent_s + self.delay_s - anyio.current_time()))
        if size and self.bytes_per_s < math.inf:
            await anyio.sleep(size / self.bytes_per_s)
        while self.held:
            await self._healed.wait()


class _Passing:
    """One connection through the proxy."""

    def __init__(self, client: SocketStream, server: SocketStream) -> None:
        self.client, self.server = client, server
        self.scope = anyio.CancelScope()
        self.half_closed: dict[Direction, anyio.CancelScope] = {name: anyio.CancelScope() for name in BOTH}

    async def run(self, faults: dict[Direction, Faults]) -> None:
        with self.scope:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._direction, "up", self.client, self.server, faults["up"])
                    tasks.start_soon(self._direction, "down", self.server, self.client, faults["down"])
            finally:
                with anyio.CancelScope(shield=True):
                    # Cut: both ends see a reset. Ended by themselves: there is nothing left to be reset.
                    for stream in (self.client, self.server):
                        if self.scope.cancel_called:
                            _reset_on_close(stream)
                        await anyio.aclose_forcefully(stream)

    async def _direction(self, name: Direction, source: ByteStream, target: ByteStream, faults: Faults) -> None:
        try:
            with self.half_closed[name]:
                await self._pump(source, target, faults)
            await target.send_eof()
        except* (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            # A reset ends both directions, and is passed on as one. (OSError: of an end to who is gone, on trio.)
            self.scope.cancel()

    async def _pump(self, source: ByteStream, target: ByteStream, faults: Faults) -> None:
        entry, way = anyio.create_memory_object_stream[tuple[float, bytes]](WINDOW)

        async def read() -> None:
            async with entry:
                with suppress(anyio.EndOfStream):
                    while True:
                        await entry.send((anyio.current_time(), await source.receive(CHUNK)))

        async with anyio.create_task_group() as tasks, way:
            tasks.start_soon(read)
            async for sent_s, data in way:
                await faults.pass_through(len(data), sent_s)
                await target.send(data)
            await faults.pass_through(0, anyio.current_time())


class TcpProxy:
    """Forwards to `target_port` on 127.0.0.1; `up` and `down` are the faults of each direction."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.refusing = False
        """Whether new connections are closed at once."""
        self.accepted = 0
        self.up, self.down = Faults(), Faults()
        self._passing: set[_Passing] = set()
        self.tasks: TaskGroup
        """Where a test may start what goes on beside it."""

    @property
    def address(self) -> str:
        """For ZeroMQ."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._passing)

    def hold(self, directions: Iterable[Direction] = BOTH) -> None:
        """A black hole: nothing arrives, in one direction or in both, until `heal`."""
        for name in directions:
            self._faults(name).hold()

    def delay(self, delay_s: float, directions: Iterable[Direction] = BOTH) -> None:
        """Everything arrives so much later, in its order."""
        for name in directions:
            self._faults(name).delay_s = delay_s

    def throttle(self, bytes_per_s: float, directions: Iterable[Direction] = BOTH) -> None:
        """A thin line."""
        for name in directions:
            self._faults(name).bytes_per_s = bytes_per_s

    def cut(self) -> None:
        """Reset all connections; both ends are told."""
        for passing in list(self._passing):
            passing.scope.cancel()

    def half_close(self, direction: Direction) -> None:
        """End one direction of all connections; the other one goes on."""
        for passing in list(self._passing):
            passing.half_closed[direction].cancel()

    def heal(self) -> None:
        """No more faults: new connections are taken, what was held arrives."""
        self.refusing = False
        self.up.heal()
        self.down.heal()

    def _faults(self, name: Direction) -> Faults:
        return self.up if name == "up" else self.down

    async def serve(self, listener: anyio.abc.Listener[SocketStream], tasks: TaskGroup) -> None:
        """Take connections until cancelled."""
        await listener.serve(self._take, tasks)

    async def _take(self, client: SocketStream) -> None:
        self.accepted += 1
        if self.refusing:
            _reset_on_close(client)
            await anyio.aclose_forcefully(client)
            return
        try:
            server = await anyio.connect_tcp("127.0.0.1", self.target_port)
        except OSError:
            _reset_on_close(client)
            await anyio.aclose_forcefully(client)
            return
        passing = _Passing(client, server)
        self._passing.add(passing)
        try:
            await passing.run({"up": self.up, "down": self.down})
        finally:
            self._passing.discard(passing)


def _reset_on_close(stream: SocketStream) -> None:
    with suppress(OSError, anyio.ClosedResourceError):
        raw = stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def proxying(target_port: int) -> AsyncIterator[TcpProxy]:
    """A proxy for the time of a block."""
    proxy = TcpProxy(target_port)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy.port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        proxy.tasks = tasks
        tasks.start_soon(proxy.serve, listener, tasks)
        yield proxy
        tasks.cancel_scope.cancel()
