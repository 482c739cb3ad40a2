"""The component `event_broker`, type local: what the node notices, for the program that it runs in."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from sz_protocol.notices import Ignored, Notice
from sz_runtime.components import Component, ComponentContext
from sz_runtime.config import Config


class Subscription:
    """Notices in their order: `async for notice in subscription`. Ends when the broker stops.

    At most `limit` wait here. What comes beyond that is dropped, the latest, and an `Ignored` notice stands in its
    place and says how many they were.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Notice] = deque()
        self._dropped = 0
        self._news = anyio.Event()
        self._closed = False

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Notice:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._news = anyio.Event()
            await self._news.wait()
        notice = self._waiting.popleft()
        if self._dropped and len(self._waiting) < self._limit:
            self._waiting.append(Ignored("notices", f"{self._dropped} were dropped: the subscriber is too slow"))
            self._dropped = 0
        return notice

    def offer(self, notice: Notice) -> None:
        """Take a notice in; never waits."""
        if len(self._waiting) < self._limit and not self._dropped:
            self._waiting.append(notice)
            self._news.set()
        else:
            self._dropped += 1

    def close(self) -> None:
        """No more will come; what waits can still be taken."""
        self._closed = True
        self._news.set()


class LocalBroker:
    """Publish and subscribe inside one event loop."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []

    def publish(self, notice: Notice) -> None:
        """Hand a notice to every subscriber; never waits."""
        for subscription in self._subscriptions:
            subscription.offer(notice)

    @contextmanager
    def subscribe(self, limit: int = 1024) -> Iterator[Subscription]:
        """Receive everything that is published from now on."""
        subscription = Subscription(limit)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)

    def close(self) -> None:
        """End every subscription."""
        for subscription in self._subscriptions:
            subscription.close()


def _refuses(config: Config) -> str:
    kind = config.components.event_broker.type
    return "" if kind == "local" else f"event brokers of type {kind} are not part of this version (type local is)"


async def _serve(context: ComponentContext) -> None:
    broker = LocalBroker()
    try:
        context.started(broker)
        await context.stopping.wait()
    finally:
        broker.close()


EVENT_BROKER = Component(_serve, refuses=_refuses)
