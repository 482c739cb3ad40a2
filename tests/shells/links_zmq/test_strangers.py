"""Whoever reaches the port: strangers, liars and the clumsy hurt nobody but themselves (ZMQ-3 to ZMQ-8)."""

import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import anyio
import anyio.to_thread
import pytest
import zmq

from sz_shells.links.zmq import router_link
from sz_shells.links.zmq.limits import Limits
from tests.shells.links_zmq import raw
from tests.shells.links_zmq.rig import Client, Server, connecting, lasting_address, serving, until

pytestmark = pytest.mark.anyio


async def works(server: Server, client: Client, count: int = 20) -> None:
    """Frames go both ways, whatever else goes on."""
    for number in range(count):
        sent, before = b"works %d %d" % (id(client), number), len(client.frames)
        assert client.link.send(sent)
        await until(lambda sent=sent: sent in server.texts()[-500:])  # type: ignore[misc]
        peer = next(peer for peer, _, data in reversed(server.frames) if data == sent)
        assert server.link.send(peer, sent)
        await until(lambda before=before: len(client.frames) > before)  # type: ignore[misc]
    assert client.changes == [True]


async def test_a_frame_that_is_too_long_ends_its_connection_and_no_other() -> None:
    limits = Limits(max_frame=100_000)
    async with (
        serving(limits=limits) as server,
        connecting(server.address) as client,
        connecting(server.address) as big,
    ):
        await works(server, client, 1)
        assert big.link.send(bytes(100_000))
        await until(lambda: bytes(100_000) in server.texts())
        assert big.link.send(bytes(100_001))
        await until(lambda: big.changes == [True, False, True])
        await works(server, client)
        assert bytes(100_001) not in server.texts()


GARBAGE = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a greeting": raw.greeting()[:20],
    "an unknown mechanism": raw.greeting(b"MAGIC"),
    "CURVE where there is none": raw.greeting(b"CURVE"),
    "no command": raw.greeting() + b"\x04\x00",
    "a message before READY": raw.greeting() + raw.frame(b"hello"),
    "READY with a property that ends nowhere": raw.greeting()
    + raw.command(b"READY", b"\x0bSocket-Type\xff\xff\xff\xff"),
    "another kind of socket": raw.greeting() + raw.ready()[:-6] + b"SUB",
    "a frame of 2**63 bytes": raw.greeting() + raw.ready() + b"\x02" + b"\x7f" + b"\xff" * 7,
    "version 1, a peer of 2010": b"\x01\x00\x06\x00hello",
    "a greeting again": raw.greeting() + raw.ready() + raw.greeting() + raw.ready(),
}


async def test_garbage_at_the_port_hurts_nobody() -> None:
    rng = random.Random(5)
    noise = [rng.randbytes(rng.randrange(1, 300)) for _ in range(100)]
    noise += [raw.greeting() + rng.randbytes(rng.randrange(1, 300)) for _ in range(50)]
    noise += [raw.greeting() + raw.ready() + rng.randbytes(rng.randrange(1, 300)) for _ in range(50)]
    limits = Limits(handshake_s=0.3, silence_s=0.6)
    async with serving(limits=limits) as server, connecting(server.address) as client:
        strangers = []
        for data in (*GARBAGE.values(), *noise):
            stranger = raw.connect(server.address)
            stranger.sendall(data)
            strangers.append(stranger)
        await works(server, client)
        # What looked like a peer and spoke may stay; it is for the codec to say what its messages are worth.
        spoke = {peer for peer, _, _ in server.frames}
        await until(lambda: sum(map(raw.is_ended, strangers)) >= len(strangers) - len(spoke))
        await works(server, client)
        for stranger in strangers:
            stranger.close()


async def test_a_thousand_half_open_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # With a handshake that may take long, nobody goes but for want of room.
    limits = Limits(max_connections=100, handshake_s=120, silence_s=120)
    async with serving(limits=limits) as server, connecting(server.address) as client:
        await works(server, client, 1)
        with raw.many(server.address, 1000) as strangers:
            await works(server, client)
            async with connecting(server.address) as newcomer:
                await works(server, newcomer)
            await until(lambda: server.link.counts["cut"] >= 900)
            await anyio.sleep(0.1)
            await until(lambda: sum(map(raw.is_ended, strangers)) >= 900)
            await works(server, client)


async def test_where_all_have_spoken_the_newcomer_has_to_go() -> None:
    limits = Limits(max_connections=3)
    async with (
        serving(limits=limits) as server,
        connecting(server.address) as one,
        connecting(server.address) as two,
        connecting(server.address) as three,
    ):
        await until(lambda: len(server.frames) == 3)
        stranger = raw.connect(server.address)
        await until(lambda: raw.is_ended(stranger))
        stranger.close()
        for client in (one, two, three):
            await works(server, client, 3)


async def test_who_says_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_link, "SWEEP_S", 0.05)
    limits = Limits(silence_s=0.3)
    async with serving(limits=limits) as server, connecting(server.address) as client:
        mute = raw.peer(server.address)
        await until(lambda: raw.is_ended(mute))
        mute.close()
        await works(server, client)
        assert server.link.counts["cut"] == 1


@pytest.mark.parametrize("name", [b"mine", b"\x00abcd", b"\x00\x00"], ids=["text", "as if", "short"])
async def test_who_chooses_a_routing_id_is_not_heard(name: bytes) -> None:
    """A name of its choice would give a peer what is meant for whoever had that name before. (One that looks like
    libzmq's own is let through: it would have to be guessed among four thousand million.)"""
    async with serving() as server, connecting(server.address) as client:
        stranger = raw.peer(server.address, Identity=name)
        stranger.sendall(raw.frame(b"it is me"))
        if name == b"\x00abcd":
            await until(lambda: b"it is me" in server.texts())
        else:
            await until(lambda: raw.is_ended(stranger))
            assert b"it is me" not in server.texts()
        stranger.close()
        await works(server, client)


async def test_messages_of_several_frames_are_refused_and_counted() -> None:
    async with serving() as server, connecting(server.address) as client:
        stranger = raw.peer(server.address)
        stranger.sendall(raw.frame(b"one", more=True) + raw.frame(b"two") + raw.frame(b"three"))
        await until(lambda: b"three" in server.texts())
        assert server.link.counts["refused_multipart"] == 1
        assert not {b"one", b"two"} & set(server.texts())
        stranger.close()
        await works(server, client)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody says how much has come")
async def test_a_message_without_an_end_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq collects the frames of a message until the last one has come, however many they are."""
    monkeypatch.setattr(router_link, "SWEEP_S", 0.05)
    limits = Limits(max_frame=100_000)
    endless = b"\x03" + struct.pack("!Q", 100_000) + bytes(100_000)
    async with serving(limits=limits) as server, connecting(server.address) as client:
        stranger = raw.peer(server.address)

        def flood() -> int:
            for number in range(100_000):
                try:
                    stranger.sendall(endless)
                except OSError:
                    return number
                time.sleep(0.0005)
            return -1

        assert await anyio.to_thread.run_sync(flood) > 0
        stranger.close()
        await works(server, client)
        assert server.link.counts["cut"] == 1


async def test_one_who_sends_much_is_not_taken_for_one_who_hoards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_link, "SWEEP_S", 0.01)
    limits = Limits(max_frame=100_000)
    async with serving(limits=limits) as server, connecting(server.address) as client:
        for number in range(3000):
            while not client.link.send(bytes(100_000 if number % 3 else 10)):
                await anyio.sleep(0.001)
        await until(lambda: len(server.frames) == 3001)
        assert client.changes == [True]


async def test_one_who_floods_does_not_starve_the_others() -> None:
    async with serving() as server, connecting(server.address) as client:
        over = False

        def flood() -> None:
            context = zmq.Context()
            with context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                socket.connect(server.address)
                while not over:
                    try:
                        for _ in range(100):
                            socket.send(b"x" * 50, zmq.DONTWAIT)
                    except zmq.Again:
                        time.sleep(0.0005)
            context.term()

        thread = Thread(target=flood)
        thread.start()
        try:
            await until(lambda: len(server.frames) > 1000)
            for number in range(50):
                before = len(server.frames)
                assert client.link.send(b"real %d" % number)
                await until(lambda number=number: any(d == b"real %d" % number for _, _, d in server.frames[-5000:]))  # type: ignore[misc]
                assert len(server.frames) - before < 50_000
        finally:
            over = True
            await anyio.to_thread.run_sync(thread.join)
        assert client.changes == [True]


async def test_a_peer_that_was_dropped_is_heard_no_more_and_may_come_again() -> None:
    async with serving() as server, connecting(server.address) as client:
        await until(lambda: server.frames)
        first = server.peer()
        server.link.drop(first)
        server.link.drop(first)
        await until(lambda: client.changes == [True, False, True])
        await until(lambda: len(server.frames) == 2)
        assert server.peer() != first
        assert server.link.counts["cut"] == 1
        assert not server.link.send(first, b"x")


async def test_a_busy_event_loop_does_not_stop_libzmq() -> None:
    """Thousands of connections come while our loop handles nothing: the events about them must not block libzmq's own
    thread, which answers everybody's heartbeats."""
    async with serving(limits=Limits(max_connections=10_000)) as server, connecting(server.address) as client:
        answered: list[bytes] = []

        def strangers() -> None:
            for _ in range(750):
                with raw.connect(server.address) as stranger:
                    stranger.sendall(b"x" * 10)
            with raw.connect(server.address) as polite:
                polite.settimeout(5)
                polite.sendall(raw.greeting())
                answered.append(polite.recv(10))

        thread = Thread(target=strangers)
        thread.start()
        thread.join()  # the event loop stands still meanwhile
        assert answered
        assert (answered[0][0], answered[0][-1]) == (0xFF, 0x7F)
        await works(server, client)


PARENT = """
import os, sys, time
import anyio
from sz_shells.links.zmq.router_link import RouterLink

async def main():
    async with anyio.create_task_group() as tasks:
        link = RouterLink(sys.argv[1], lambda *frame: print(os.fork() or time.sleep(60), flush=True))
        print(await tasks.start(link.run), flush=True)

anyio.run(main)
"""


async def test_a_forked_child_holds_neither_the_port_nor_the_connections_of_a_killed_server(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PARENT, lasting_address()],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as process:
        assert process.stdout is not None
        address = (await anyio.to_thread.run_sync(process.stdout.readline)).decode().strip()
        async with connecting(address) as client:
            child = int(await anyio.to_thread.run_sync(process.stdout.readline))
            try:
                process.kill()
                await anyio.to_thread.run_sync(process.wait)
                await until(lambda: not client.up)
                async with serving(address) as server:
                    await until(lambda: server.frames)
            finally:
                os.kill(child, signal.SIGKILL)


async def test_no_descriptor_stays_behind() -> None:
    async with serving() as server:
        for _ in range(3):
            async with connecting(server.address):
                await until(lambda: server.frames)
            server.frames.clear()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            async with connecting(server.address):
                await until(lambda: server.frames)
            server.frames.clear()
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)
