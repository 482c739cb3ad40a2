"""What both links promise, over real TCP."""

import anyio
import pytest

from sz_runtime.ports import LinkError
from sz_shells.links.zmq.limits import Limits
from tests.shells.links_zmq.rig import connecting, serving, until

pytestmark = pytest.mark.anyio


async def test_frames_arrive_in_order_both_ways() -> None:
    roomy = Limits(outbox_messages=10_000)
    async with serving(echo=True, limits=roomy) as server, connecting(server.address) as client:
        sent = [b"%d" % number for number in range(5000)]
        for data in sent:
            while not client.link.send(data):
                await anyio.sleep(0.001)
        await until(lambda: len(client.frames) == 5001)
        assert server.texts() == [b"hello", *sent]
        assert client.frames == [b"hello", *sent]


async def test_a_client_finds_a_server_that_comes_back_at_the_same_port() -> None:
    async with serving() as first, connecting(first.address) as client:
        await until(lambda: first.texts() == [b"hello"])
        await first.stop()
        await until(lambda: not client.up)
        assert client.link.send(b"written while it was down")
        async with serving(first.address) as second:
            await until(lambda: len(second.frames) == 2)
            assert second.texts() == [b"written while it was down", b"hello"]
            assert second.link.send(second.peer(), b"welcome back")
            await until(lambda: client.frames == [b"welcome back"])
            assert client.changes == [True, False, True]


async def test_a_port_that_is_taken_is_said() -> None:
    async with serving() as server:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with serving(server.address):
                pass
        error = caught.value.exceptions[0]
        assert isinstance(error, LinkError)
        assert str(error) == f"{server.address}: cannot listen there: Address already in use"


async def test_a_peer_that_left_is_told_once_at_the_next_send() -> None:
    async with serving() as server:
        async with connecting(server.address):
            await until(lambda: server.frames)
        await until(lambda: not server.link.send(server.peer(), b"are you there?"))
        await until(lambda: server.gone == [server.peer()])


async def test_a_peer_that_does_not_read_fills_its_own_outbox_alone() -> None:
    limits = Limits(outbox_messages=50)
    async with serving(limits=limits) as server, connecting(server.address) as client:
        await until(lambda: server.frames)
        deaf = server.peer()
        sent = 0
        while server.link.send(deaf, bytes(100_000)):
            sent += 1
            assert sent < 20_000
        assert server.link.counts["dropped_outbox_full"] == 1
        await until(lambda: len(client.frames) == sent)
