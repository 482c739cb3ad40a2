"""The mailbox between threads: nothing lost, nobody blocked, few wakes."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest

from sz_runtime.mailbox import Mailbox

T = TypeVar("T")

pytestmark = pytest.mark.anyio


async def receive(mailbox: Mailbox[T], count: int, limit: int = 256) -> list[T]:
    got: list[T] = []
    with anyio.fail_after(20):
        while len(got) < count:
            await mailbox.wait()
            got += mailbox.drain(limit)
    return got


async def worst_stall(until: anyio.Event, gaps: list[float]) -> None:
    last = time.perf_counter()
    while not until.is_set():
        await anyio.lowlevel.checkpoint()
        now = time.perf_counter()
        gaps.append(now - last)
        last = now


async def test_100k_items_from_4_threads_arrive_once_and_in_each_senders_order() -> None:
    mailbox: Mailbox[tuple[int, int]] = Mailbox()
    mailbox.bind()

    def send(sender: int) -> None:
        for start in range(0, 25_000, 5):
            mailbox.post([(sender, n) for n in range(start, start + 5)])

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    stop, gaps = anyio.Event(), [0.0]
    async with anyio.create_task_group() as group:
        group.start_soon(worst_stall, stop, gaps)
        for thread in threads:
            thread.start()
        got = await receive(mailbox, 100_000)
        stop.set()
    for sender in range(4):
        assert [n for who, n in got if who == sender] == list(range(25_000))
    assert len(mailbox) == 0
    # Four threads share the interpreter with this one, 5 ms each: anything above that many turns is the mailbox's.
    assert max(gaps) < 0.5


async def test_a_post_before_bind_is_kept_and_wakes_at_once() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.post([1, 2])
    mailbox.bind()
    with anyio.fail_after(1):
        await mailbox.wait()
    assert mailbox.drain(10) == [1, 2]


async def test_one_wake_is_remembered_and_only_one() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.bind()
    await mailbox.wait()  # the look that bind grants
    for _ in range(3):
        mailbox.wake()
    with anyio.fail_after(1):
        await mailbox.wait()
    with anyio.move_on_after(0.02) as scope:
        await mailbox.wait()
    assert scope.cancelled_caught


@pytest.mark.parametrize("ring", [lambda box: box.wake(), lambda box: box.post([7])], ids=["wake", "post"])
async def test_a_waiting_receiver_is_woken_from_another_thread(ring: Callable[[Mailbox[int]], None]) -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.bind()
    await mailbox.wait()
    timer = threading.Timer(0.02, ring, args=(mailbox,))
    timer.start()
    with anyio.fail_after(2):
        await mailbox.wait()
    timer.join()


async def test_a_cancelled_wait_loses_nothing() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.bind()
    await mailbox.wait()
    with anyio.move_on_after(0.01):
        await mailbox.wait()
    mailbox.post([1])
    assert await receive(mailbox, 1) == [1]


async def test_what_a_limit_leaves_is_there_next_time() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.bind()
    mailbox.post(range(5))
    await mailbox.wait()
    assert mailbox.drain(3) == [0, 1, 2]
    with anyio.fail_after(1):
        await mailbox.wait()
    assert mailbox.drain(3) == [3, 4]


async def test_posting_to_a_blocked_receiver_never_waits() -> None:
    """The receiver's loop is blocked until 10,000 posts have gone through."""
    mailbox: Mailbox[int] = Mailbox()
    mailbox.bind()

    def send() -> None:
        for n in range(10_000):
            mailbox.post([n])

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(20)
    assert not sender.is_alive()
    assert await receive(mailbox, 10_000) == list(range(10_000))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_after_the_loop_has_gone_items_are_kept_for_the_next_one(backend: str) -> None:
    mailbox: Mailbox[int] = Mailbox()

    async def bind_only() -> None:
        mailbox.bind()

    def in_a_thread(what: Callable[[], None]) -> None:
        thread = threading.Thread(target=what)
        thread.start()
        thread.join()

    in_a_thread(lambda: anyio.run(bind_only, backend=backend))
    mailbox.post([1])
    mailbox.post([2])
    assert len(mailbox) == 2

    got: list[int] = []

    async def take() -> None:
        mailbox.bind()
        got.extend(await receive(mailbox, 2))

    in_a_thread(lambda: anyio.run(take, backend=backend))
    assert got == [1, 2]


def test_bind_outside_of_a_loop_says_so() -> None:
    with pytest.raises(RuntimeError):
        Mailbox[int]().bind()
