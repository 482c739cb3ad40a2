"""Links over bad lines, through a proxy that cuts, holds, delays and half-closes them; and their ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from sz_shells.links.zmq.dealer_link import DealerLink
from sz_shells.links.zmq.limits import Limits
from sz_shells.links.zmq.outbox import Outbox
from tests.faults.tcp_proxy import BOTH, Direction, TcpProxy, proxying
from tests.shells.links_zmq.raw import port_of
from tests.shells.links_zmq.rig import Server, connecting, lasting_address, serving, until

pytestmark = pytest.mark.anyio
QUICK = Limits(beat_s=0.1, dead_s=0.4, handshake_s=0.5)


@asynccontextmanager
async def far_server(**options: Any) -> AsyncIterator[tuple[Server, TcpProxy]]:
    """A server behind a bad line."""
    async with serving(**options) as server, proxying(port_of(server.address)) as proxy:
        yield server, proxy


async def test_a_cut_line_is_noticed_at_once_and_mended() -> None:
    async with far_server() as (server, proxy), connecting(proxy.address) as client:
        for round_ in range(1, 4):
            await until(lambda round_=round_: len(server.frames) == round_)  # type: ignore[misc]
            proxy.cut()
            await until(lambda round_=round_: client.changes.count(False) == round_)  # type: ignore[misc]
        await until(lambda: len(server.frames) == 4)
        assert len(set(server.frames)) == 4, "each connection is another peer"


async def test_half_a_line_is_no_line() -> None:
    async with far_server() as (_server, proxy), connecting(proxy.address) as client:
        for direction in BOTH:
            before = client.changes.count(False)
            proxy.half_close(direction)
            await until(lambda before=before: client.changes.count(False) > before)  # type: ignore[misc]
            await until(lambda: client.up)


@pytest.mark.parametrize("directions", [("up",), ("down",), ("up", "down")], ids=["up", "down", "both"])
async def test_a_black_hole_is_noticed_by_both_ends(directions: tuple[Direction, ...]) -> None:
    async with far_server(limits=QUICK) as (server, proxy), connecting(proxy.address, limits=QUICK) as client:
        await until(lambda: server.frames)
        peer = server.peer()
        proxy.hold(directions)
        await until(lambda: client.changes == [True, False])
        await until(lambda: not server.link.send(peer, b"?"))
        await until(lambda: peer in server.gone)
        proxy.heal()
        await until(lambda: client.up)
        await until(lambda: server.peer() != peer)


async def test_a_slow_line_is_a_line() -> None:
    async with far_server(echo=True, limits=QUICK) as (_server, proxy):
        proxy.delay(0.1)
        async with connecting(proxy.address, limits=QUICK) as client:
            sent = [b"%d" % number for number in range(200)]
            assert all(client.link.send(data) for data in sent)
            await until(lambda: client.frames == [b"hello", *sent])
            assert client.changes == [True]


async def test_a_thin_line_fills_an_outbox_and_blocks_nobody() -> None:
    limits = Limits(outbox_messages=10, queue=4)
    async with (
        far_server(limits=limits) as (server, proxy),
        connecting(proxy.address, hello=b"slow") as slow,
        connecting(server.address, hello=b"fast") as fast,
    ):
        await until(lambda: len(server.frames) == 2)
        peers = {data: peer for peer, _, data in server.frames}
        proxy.hold(["down"])
        taken = 0
        while server.link.send(peers[b"slow"], bytes(200_000)):
            taken += 1
            await anyio.sleep(0)
        assert taken < 1000
        for number in range(20):
            assert server.link.send(peers[b"fast"], b"%d" % number)
            await until(lambda number=number: len(fast.frames) > number)  # type: ignore[misc]
        proxy.heal()
        await until(lambda: len(slow.frames) == taken)
        assert server.link.send(peers[b"slow"], b"last")
        await until(lambda: slow.frames[-1] == b"last")


async def test_the_last_words_of_a_link_that_ends_arrive() -> None:
    patient = Limits(leave_s=10)
    async with serving() as server:
        async with connecting(server.address, limits=patient) as client:
            for number in range(500):
                assert client.link.send(b"%d" % number)
        await until(lambda: len(server.frames) == 501)
    async with serving(limits=patient) as server, connecting(server.address, retry_s=(5, 5)) as client:
        await until(lambda: server.frames)
        for number in range(500):
            assert server.link.send(server.peer(), b"%d" % number)
        await server.stop()
        await until(lambda: len(client.frames) == 500)


async def test_last_words_wait_for_a_line_that_comes_back() -> None:
    patient = Limits(leave_s=10)
    data = bytes(100_000)
    async with serving(limits=patient) as server, proxying(port_of(server.address)) as proxy:
        async with connecting(proxy.address, limits=patient, retry_s=(5, 5)) as client:
            await until(lambda: server.frames)
            proxy.hold()
            for _ in range(120):
                assert client.link.send(data)
            proxy.tasks.start_soon(heal_later, proxy)
        # The client has ended, and its words are on their way.
        await until(lambda: len(server.frames) == 121)
        async with connecting(proxy.address, retry_s=(5, 5)) as client:
            await until(lambda: len(server.frames) == 122)
            proxy.hold()
            for _ in range(120):
                assert server.link.send(server.peer(), data)
            proxy.tasks.start_soon(heal_later, proxy)
            await server.stop()
            await until(lambda: client.frames == [data] * 120)


async def heal_later(proxy: TcpProxy) -> None:
    await anyio.sleep(0.2)
    proxy.heal()


async def test_an_end_does_not_wait_for_a_peer_that_does_not_read() -> None:
    async with far_server() as (server, proxy), connecting(proxy.address):
        await until(lambda: server.frames)
        proxy.hold()
        while server.link.send(server.peer(), bytes(1_000_000)):
            pass
        start = anyio.current_time()
        await server.stop()
        assert anyio.current_time() - start < 5
        assert not server.link.send(server.peer(), b"too late")


async def test_while_it_is_down_a_link_keeps_so_much_and_says_what_it_dropped() -> None:
    limits = Limits(outbox_messages=3, outbox_bytes=100)
    async with serving(lasting_address()) as away:
        address = away.address
    with capture_logs() as lines:
        await fill_and_connect(address, limits)
    assert {line["log_level"] for line in lines if line["event"] == "zmq_not_connected"} == {"info"}, "it comes back"


async def fill_and_connect(address: str, limits: Limits) -> None:
    async with connecting(address, wait=False, limits=limits) as client:
        assert [client.link.send(b"%d" % number) for number in range(5)] == [True, True, True, False, False]
        assert client.link.counts["dropped_outbox_full"] == 2
        await until(lambda: client.link.why_down == "nobody listens there")
        async with serving(address) as server:
            await until(lambda: server.texts() == [b"0", b"1", b"2", b"hello"])


async def test_what_was_sent_over_a_lost_line_never_turns_up_in_the_next() -> None:
    async with far_server() as (server, proxy), connecting(proxy.address, hello=None) as client:
        client.link.send(b"first")
        await until(lambda: server.frames)
        proxy.hold()
        for _ in range(3000):
            client.link.send(bytes(10_000))
        proxy.cut()
        await until(lambda: client.changes == [True, False])
        client.link.send(b"second")
        proxy.heal()
        await until(lambda: b"second" in server.texts())
        assert server.texts() == [b"first", b"second"]
        assert client.link.counts["dropped_connection_lost"] > 0


class Hurried(Random):
    """Draws nothing, and notes what it might have drawn."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0, "full jitter"
        drawn.append(b)
        return 0.0


drawn: list[float] = []


@pytest.mark.parametrize("answers", [True, False])
async def test_a_server_that_says_nothing_is_not_pressed(answers: bool) -> None:
    """Waits grow where nothing was heard, an answer brings them back, and they end at the longest."""
    drawn.clear()
    async with (
        far_server(echo=answers) as (_, proxy),
        connecting(proxy.address, retry_s=(0.05, 0.5), rng=Hurried()) as client,
    ):
        for number in range(1, 7):
            await until(lambda: not answers or len(client.frames) == number)  # noqa: B023
            proxy.cut()
            await until(lambda: client.changes.count(True) == number + 1)  # noqa: B023
    assert drawn[:6] == ([0.05] * 6 if answers else [0.1, 0.2, 0.4, 0.5, 0.5, 0.5])


async def test_names_are_resolved_at_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server, connecting(f"tcp://localhost:{port_of(server.address)}") as client:
        await until(lambda: server.frames)
        assert client.link.why_down == ""
    link = DealerLink("tcp://no-such-host.invalid:5556", lambda data: None, lambda up: None, retry_s=(0.01, 0.01))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.run)
        await until(lambda: "no-such-host.invalid: the name cannot be resolved" in link.why_down)
        tasks.cancel_scope.cancel()


def test_an_outbox_is_bounded_in_number_and_in_bytes() -> None:
    outbox = Outbox(3, 10)
    assert [outbox.add(b"12345"), outbox.add(b"123456"), outbox.add(b"12345"), outbox.add(b"")] == [
        True,
        False,
        True,
        True,
    ]
    assert not outbox.add(b"")
    sent: list[bytes] = []

    def send(data: bytes) -> bool:
        sent.append(data)
        return len(sent) < 2

    assert outbox.flush(send, 10) == 1
    assert (sent, len(outbox)) == ([b"12345", b"12345"], 2)
    assert outbox.add(b"12345")
    assert outbox.clear() == 3
    assert outbox.add(b"1234567890")
