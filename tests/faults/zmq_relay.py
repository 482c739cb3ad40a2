"""A relay of ZeroMQ messages with faults: it loses and doubles whole messages, and lets them overtake each other.

TCP repairs what happens to bytes inside a connection, so that a proxy of TCP (`tcp_proxy`) cannot do this. Here the
connection of each worker ends at a ROUTER, and goes on to the server from a DEALER of its own: for the server they are
as many peers as there are connections of workers.
"""

import heapq
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Literal

import zmq
from attrs import frozen

Direction = Literal["up", "down"]
"""Up: from the workers to the server."""


@frozen
class Weather:
    """What becomes of a message, in probabilities. A doubled one arrives once more, each copy late or not by itself."""

    lose: float = 0.0
    double: float = 0.0
    late: float = 0.0
    late_s: float = 0.0
    """How late at most."""


FAIR = Weather()
GONE = Weather(lose=1.0)


class ZmqRelay(threading.Thread):
    """Forwards between workers, who connect to `port`, and the server at `target_port`: on 127.0.0.1, without keys.

    `up` and `down` may be changed at any time. The same seed decides the same for the same messages in one
    direction.
    """

    def __init__(self, target_port: int, seed: int) -> None:
        super().__init__(name="zmq_relay")
        self.up = self.down = FAIR
        self.counts: Counter[tuple[Direction, str]] = Counter()
        """By direction and word: passed, lost, doubled, late."""
        self._draws = {"up": Random(f"up {seed}").random, "down": Random(f"down {seed}").random}
        self._target = f"tcp://127.0.0.1:{target_port}"
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self._front.router_mandatory = True
        self._front.linger = 0
        self.port = self._front.bind_to_random_port("tcp://127.0.0.1")
        self._poller = zmq.Poller()
        self._poller.register(self._front, zmq.POLLIN)
        self._backs: dict[bytes, zmq.Socket[bytes]] = {}
        self._due: list[tuple[float, int, Direction, bytes, bytes]] = []
        self._numbers = count()
        self._ending = False

    def run(self) -> None:
        """Relay until `end`."""
        while not self._ending:
            wait_s = max(0.0, min(0.05, self._due[0][0] - time.monotonic())) if self._due else 0.05
            ready = dict(self._poller.poll(int(wait_s * 1000)))
            if self._front in ready:
                self._take_up()
            for worker, back in list(self._backs.items()):
                if back in ready:
                    self._decide("down", worker, back.recv(), self.down)
            self._hand_on()
        self._context.destroy(linger=0)

    def end(self) -> None:
        """Stop, and close everything."""
        self._ending = True
        self.join()

    def _take_up(self) -> None:
        worker, message = self._front.recv_multipart()
        if worker not in self._backs:
            back = self._context.socket(zmq.DEALER)
            back.linger = 0
            back.reconnect_ivl = 50
            # What is said while the server is away is lost, as on any line; it does not wait for the next server.
            back.immediate = True
            back.connect(self._target)
            back.poll(1000, zmq.POLLOUT)
            self._backs[worker] = back
            self._poller.register(back, zmq.POLLIN)
        self._decide("up", worker, message, self.up)

    def _decide(self, direction: Direction, worker: bytes, message: bytes, weather: Weather) -> None:
        draw = self._draws[direction]
        if draw() < weather.lose:
            self.counts[direction, "lost"] += 1
            return
        copies = 1
        if draw() < weather.double:
            self.counts[direction, "doubled"] += 1
            copies = 2
        for _ in range(copies):
            due_s = time.monotonic()
            if draw() < weather.late:
                self.counts[direction, "late"] += 1
                due_s += draw() * weather.late_s
            heapq.heappush(self._due, (due_s, next(self._numbers), direction, worker, message))

    def _hand_on(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, direction, worker, message = heapq.heappop(self._due)
            if worker not in self._backs:
                continue
            try:
                if direction == "up":
                    self._backs[worker].send(message, zmq.DONTWAIT)
                else:
                    self._front.send_multipart((worker, message), zmq.DONTWAIT)
            except zmq.Again:
                self.counts[direction, "lost"] += 1
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._forget(worker)
            else:
                self.counts[direction, "passed"] += 1

    def _forget(self, worker: bytes) -> None:
        """A worker's connection has ended: so does the one that went on from it."""
        back = self._backs.pop(worker)
        self._poller.unregister(back)
        back.close()


@contextmanager
def relaying(target_port: int, seed: int) -> Iterator[ZmqRelay]:
    """A relay for the time of a block."""
    relay = ZmqRelay(target_port, seed)
    relay.start()
    try:
        yield relay
    finally:
        relay.end()
