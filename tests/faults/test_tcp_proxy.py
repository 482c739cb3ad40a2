"""The proxy does to a connection what it says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from tests.faults.tcp_proxy import TcpProxy, proxying

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def line() -> AsyncIterator[tuple[TcpProxy, SocketStream, SocketStream]]:
    """A proxy, and both ends of a connection through it."""
    entry, taken = anyio.create_memory_object_stream[SocketStream](1)

    async def accept(stream: SocketStream) -> None:
        await entry.send(stream)
        await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    with anyio.fail_after(20):
        async with entry, taken, listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, accept)
            port = listener.extra(SocketAttribute.local_port)
            async with (
                proxying(port) as proxy,
                await anyio.connect_tcp("127.0.0.1", proxy.port) as client,
                await taken.receive() as server,
            ):
                yield proxy, client, server
            tasks.cancel_scope.cancel()


async def arrives(stream: SocketStream, size: int = 1) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive()
    return data


async def test_it_forwards_and_passes_ends_on() -> None:
    async with line() as (proxy, client, server):
        await client.send(b"hello")
        assert await arrives(server) == b"hello"
        await client.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await server.receive()
        await server.send(b"x" * 1_000_000)
        assert await arrives(client, 1_000_000) == b"x" * 1_000_000
        assert (proxy.accepted, proxy.connections) == (1, 1)


async def test_a_black_hole_says_nothing_and_loses_nothing() -> None:
    async with line() as (proxy, client, server):
        proxy.hold(["up"])
        await client.send(b"held")
        await client.send_eof()
        await server.send(b"the other direction")
        assert await arrives(client) == b"the other direction"
        with anyio.move_on_after(0.1) as waited:
            await server.receive()
        assert waited.cancelled_caught
        proxy.heal()
        assert await arrives(server) == b"held"
        with pytest.raises(anyio.EndOfStream):
            await server.receive()


async def test_a_delay_is_not_a_throttle() -> None:
    async with line() as (proxy, client, server):
        proxy.delay(0.2)
        start = anyio.current_time()
        for _ in range(20):
            await client.send(b"x" * 1000)
            await anyio.sleep(0.001)
        await arrives(server, 20_000)
        assert 0.2 <= anyio.current_time() - start < 3, "all of them were on their way at once"


async def test_a_throttle() -> None:
    async with line() as (proxy, client, server):
        proxy.throttle(100_000)
        start = anyio.current_time()
        await client.send(b"x" * 20_000)
        await arrives(server, 20_000)
        assert anyio.current_time() - start >= 0.2


async def test_a_cut_resets_both_ends() -> None:
    async with line() as (proxy, client, server):
        proxy.cut()
        for end in (client, server):
            with pytest.raises(anyio.BrokenResourceError):
                await end.receive()
        while proxy.connections:
            await anyio.sleep(0.01)


async def test_one_direction_ends_and_the_other_goes_on() -> None:
    async with line() as (proxy, client, server):
        proxy.half_close("up")
        with pytest.raises(anyio.EndOfStream):
            await server.receive()
        await server.send(b"still here")
        assert await arrives(client) == b"still here"


async def test_new_connections_are_refused_until_it_heals() -> None:
    async with line() as (proxy, _client, _server):
        proxy.refusing = True
        async with await anyio.connect_tcp("127.0.0.1", proxy.port) as second:
            with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
                await second.receive()
        proxy.heal()
        async with await anyio.connect_tcp("127.0.0.1", proxy.port):
            while proxy.connections < 2:
                await anyio.sleep(0.01)
