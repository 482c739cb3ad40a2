"""What both links promise, over real TCP."""

import socket
import time
from pathlib import Path

import anyio
import pytest
import structlog

from sz_runtime.ports import LinkError
from sz_shells.links.zmq import limited_log
from sz_shells.links.zmq.limited_log import LimitedLog
from sz_shells.links.zmq.limits import Limits
from tests.shells.links_zmq.rig import connecting, lasting_address, serving, until

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
    async with serving(lasting_address()) as first, connecting(first.address) as client:
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


def kinds() -> list[str]:
    found = ["name", "everywhere", "ipc"]
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return found  # this host has no IPv6
    return [*found, "ipv6"]


@pytest.mark.parametrize("kind", kinds())
async def test_addresses_of_every_kind(kind: str, tmp_path: Path) -> None:
    address = {
        "name": "tcp://localhost:*",
        "ipv6": "tcp://[::1]:*",
        "everywhere": "tcp://*:0",
        "ipc": f"ipc://{tmp_path}/link",
    }[kind]
    async with serving(address) as server:
        to = server.address.replace("0.0.0.0", "127.0.0.1")
        async with connecting(to, retry_s=(0.01, 0.01)) as client:
            await until(lambda: server.frames)
            server.link.send(server.peer(), b"here")
            await until(lambda: client.frames == [b"here"])
            first = server.peer()
            server.link.drop(first)
            await until(lambda: client.changes == [True, False, True])
            await until(lambda: len(server.frames) == 2)


async def test_our_own_mistake_about_one_frame_does_not_end_the_link() -> None:
    got: list[bytes] = []

    def received(*what: bytes | str) -> None:
        data = what[-1]
        assert data != b"bad", "a mistake of ours"
        got.append(bytes(data))  # type: ignore[arg-type]

    async with serving() as server, connecting(server.address, hello=None) as client:
        server.link._received = client.link._received = received
        for data in (b"1", b"bad", b"2"):
            client.link.send(data)
        await until(lambda: got == [b"1", b"2"])
        server.link.send(next(iter(server.link._connections._peers)), b"bad")
        server.link.send(next(iter(server.link._connections._peers)), b"3")
        await until(lambda: got == [b"1", b"2", b"3"])
        assert client.changes == [True]


def test_a_flood_of_one_event_leaves_few_lines_and_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """ZMQ-15."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with structlog.testing.capture_logs() as lines:
        log = LimitedLog(structlog.get_logger("test"))
        for number in range(1000):
            log.warning("refused", number=number)
        log.info("connected")
        now[0] += limited_log.WINDOW_S
        log.warning("refused", number=1000)
    assert [line.get("number") for line in lines if line["event"] == "refused"] == [*range(limited_log.LINES), 1000]
    assert lines[-1]["not_logged_before"] == 1000 - limited_log.LINES
    assert "connected" in {line["event"] for line in lines}
