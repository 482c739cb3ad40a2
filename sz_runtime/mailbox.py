"""The one way across threads: a deque and a coalesced wake of a task in another event loop.

Never a portal: `BlockingPortal.start_task_soon` waits for the loop that it calls, so that a handler which blocks its
loop would block the protocol too. Here the sender appends and goes on.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from sz_runtime.loops import asyncio_loop

T = TypeVar("T")
Kick = Callable[[Callable[[], None]], None]


class Mailbox(Generic[T]):
    """Many senders in any thread, one receiving task in the event loop that called `bind`.

    Items of one sender arrive in their order. Nothing is ever dropped: what is posted before `bind`, or after the
    receiver's loop has gone, stays here until somebody drains it (only the wake is void then), and the next `bind`
    finds it. A hundred posts to a busy receiver cost one wake.
    """

    __slots__ = ("_event", "_items", "_kick", "_loop", "_pending", "_rung", "_thread", "_waiter")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._kick: Kick | None = None
        self._thread = 0
        self._pending = False
        self._rung = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._event: anyio.Event | None = None

    def __len__(self) -> int:
        return len(self._items)

    def bind(self) -> None:
        """Receive here: call it in the event loop of the task that will `wait`. May be called again by a later loop."""
        self._thread = get_ident()
        self._event = self._waiter = None
        self._pending = False
        self._loop = asyncio_loop()
        self._kick = _kick_of_trio() if self._loop is None else _kick_of(self._loop)
        # Whoever posted before now could not wake us: look once in any case.
        self._rung = True

    def post(self, items: Iterable[T]) -> None:
        """Append `items` and wake the receiver. From any thread; never blocks."""
        self._items.extend(items)
        self.wake()

    def wake(self) -> None:
        """Let `wait` return, with or without items. From any thread; never blocks."""
        if get_ident() == self._thread:
            self._ring()
            return
        # Append first, look at the flag second: whoever sees it set knows that the ring is still to come, and the
        # receiver drains after the ring.
        if self._pending or self._kick is None:
            return
        self._pending = True
        try:
            self._kick(self._ring)
        except RuntimeError:  # The loop is closed (trio's RunFinishedError is one too).
            self._pending = False

    def take(self) -> T:
        """The oldest item. Only the receiver calls this; raises IndexError where there is none."""
        return self._items.popleft()

    def drain(self, limit: int) -> list[T]:
        """Take at most `limit` items, oldest first. Only the receiver calls this."""
        take = self._items.popleft
        return [take() for _ in range(min(limit, len(self._items)))]

    async def wait(self) -> None:
        """Return when there are items, or after a `wake` since the last return; always a checkpoint.

        One wake is remembered, however many there were. Only the receiver calls this.
        """
        if self._rung or self._items:
            await anyio.lowlevel.checkpoint()
        elif self._loop is not None:
            # Before each handler somebody waits here twice. A bare future costs half of an event (5 us, not 9).
            self._waiter = self._loop.create_future()
            await self._waiter
        else:
            self._event = anyio.Event()
            await self._event.wait()
        self._rung = False

    def _ring(self) -> None:
        self._pending = False
        self._rung = True
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self._event is not None:
            self._event.set()


def _kick_of_trio() -> Kick:
    """How another thread gets a function called in the trio loop that runs here."""
    import trio

    token = trio.lowlevel.current_trio_token()
    return lambda ring: token.run_sync_soon(ring, idempotent=True)


def _kick_of(loop: asyncio.AbstractEventLoop) -> Kick:
    # call_soon_threadsafe returns a handle; nobody needs it.
    def kick(ring: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(ring)

    return kick
