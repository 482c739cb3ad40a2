"""The wrapper under stress: nothing is lost to cancellations, to swallowed signals, or to a flood."""

from collections.abc import Iterator
from random import Random
from threading import Thread

import anyio
import anyio.lowlevel
import pytest
import zmq

from sz_shells.links.zmq.fd_socket import BATCH, FdSocket
from tests.shells.links_zmq.rig import until

pytestmark = pytest.mark.anyio
MESSAGES = 3000
CANCELLATIONS = 2000


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


async def pair(context: "zmq.Context[zmq.Socket[bytes]]") -> tuple[FdSocket, FdSocket]:
    """Two DEALERs, connected over TCP; neither ever runs out of room."""
    ends = []
    for _ in range(2):
        socket = context.socket(zmq.DEALER)
        socket.sndhwm = socket.rcvhwm = 0
        ends.append(socket)
    port = ends[0].bind_to_random_port("tcp://127.0.0.1")
    ends[1].connect(f"tcp://127.0.0.1:{port}")
    here, there = FdSocket(ends[0]), FdSocket(ends[1])
    there.send((b"connected",))
    assert await here.recv_multipart() == [b"connected"]
    return here, there


async def test_no_message_is_lost_to_cancellations(context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    here, there = await pair(context)
    rng = Random(7)
    got: list[int] = []
    scopes: set[anyio.CancelScope] = set()
    cancelled = 0

    async def receive() -> None:
        nonlocal cancelled
        while len(got) < MESSAGES:
            with anyio.CancelScope() as scope:
                scopes.add(scope)
                got.append(int((await here.recv_multipart())[0]))
            scopes.discard(scope)
            cancelled += scope.cancelled_caught

    async def cancel() -> None:
        while len(got) < MESSAGES:
            for scope in list(scopes):
                if rng.random() < 0.5:
                    scope.cancel()
            await anyio.lowlevel.checkpoint()

    async def send() -> None:
        # The second half waits for the cancellations, so that there are enough of both.
        for number in range(MESSAGES):
            assert there.send((b"%d" % number,))
            due = (number - MESSAGES // 2) * 2 * CANCELLATIONS // MESSAGES
            while cancelled < due:
                await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for work in (receive, receive, receive, cancel, send):
                tasks.start_soon(work)
            await until(lambda: len(got) == MESSAGES)
            tasks.cancel_scope.cancel()
    assert sorted(got) == list(range(MESSAGES))
    assert cancelled >= CANCELLATIONS - 2
    assert here.take() is None
    for socket in (here, there):
        socket.close()


async def test_no_reply_is_lost_to_a_send_that_swallows_the_signal(
    context: "zmq.Context[zmq.Socket[bytes]]",
) -> None:
    """Each end sends from one task while another waits to receive there: the busy echo of two event loops in one."""
    here, there = await pair(context)
    awaited: dict[bytes, anyio.Event] = {}

    async def echo() -> None:
        while True:
            assert there.send(await there.recv_multipart())

    async def receive() -> None:
        while True:
            (reply,) = await here.recv_multipart()
            if reply in awaited:
                awaited[reply].set()

    async def chatter(socket: FdSocket) -> None:
        while True:
            assert socket.send((b"chatter",))
            await anyio.sleep(0.0005)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for work in (echo, receive):
                tasks.start_soon(work)
            tasks.start_soon(chatter, here)
            for number in range(1000):
                data = b"%d" % number
                awaited[data] = anyio.Event()
                assert here.send((data,))
                await awaited[data].wait()
            tasks.cancel_scope.cancel()
    for socket in (here, there):
        socket.close()


async def test_a_flood_leaves_the_other_tasks_their_turns(context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    here, _ = await pair(context)
    count = 20_000
    port = int(bytes(here.socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").rpartition(b":")[2])

    def flood() -> None:
        with context.socket(zmq.DEALER) as socket:
            socket.sndhwm = 0
            socket.connect(f"tcp://127.0.0.1:{port}")
            for _ in range(count):
                socket.send(b"x" * 100)
            socket.close(linger=10_000)

    got = since_tick = most = 0

    async def tick() -> None:
        nonlocal since_tick
        while True:
            since_tick = 0
            await anyio.lowlevel.checkpoint()

    thread = Thread(target=flood)
    thread.start()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            while got < count:
                await here.recv_multipart()
                got += 1
                since_tick += 1
                most = max(most, since_tick)
            tasks.cancel_scope.cancel()
    thread.join()
    # trio lets two tasks that are ready run in either order: two turns in a row.
    assert most <= 2 * BATCH
    here.close()


async def test_a_close_ends_every_receive(context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    here, there = await pair(context)
    ended: list[type[BaseException]] = []

    async def receive() -> None:
        try:
            await here.recv_multipart()
        except anyio.ClosedResourceError as error:
            ended.append(type(error))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            here.close()
    assert len(ended) == 3
    here.close()
    there.close()


async def test_what_a_fast_receiver_leaves_wakes_the_one_that_waits(context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    """The leader waits for the descriptor; another task looks first, and takes the signal and one message of two."""
    here, there = await pair(context)
    got: list[list[bytes]] = []

    async def receive() -> None:
        got.append(await here.recv_multipart())

    with anyio.fail_after(20):
        for _ in range(50):
            got.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                await anyio.wait_all_tasks_blocked()
                there.send((b"one",))
                there.send((b"two",))
                taken = None
                while taken is None and not got:
                    taken = here.take()
                if taken is None:
                    break  # the leader was quicker
            assert taken == [b"one"]
            assert got == [[b"two"]]
    for socket in (here, there):
        socket.close()
