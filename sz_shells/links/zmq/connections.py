"""The connections of a listening socket: how many there are, which have spoken, and how one is cut.

libzmq names a connection by its descriptor, in the events of its monitor and at every message (SRCFD), and offers no
way to close one. Its descriptor does: what is shut down there, libzmq finds ended.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakSet

from attrs import evolve, field, frozen

from sz_shells.links.zmq.metering import Meter


@frozen
class Connection:
    """One accepted connection. `peer` and `key` are empty until it has spoken; `cut` once it is being cut."""

    fd: int
    address: str
    since_s: float
    peer: bytes = b""
    key: str = field(default="", repr=False)
    cut: bool = False


MOST_OF_A_KEY = 16
"""Whoever has one key and opens thousands of connections with it keeps nobody else out."""

held: "WeakSet[Connections]" = WeakSet()
"""Of this process."""


class Connections:
    """Those that libzmq has accepted and not yet given up."""

    def __init__(self, limit: int, silence_s: float, hoard: int) -> None:
        self._limit = limit
        self.listening: set[int] = set()
        self._silence_s = silence_s
        # Both by descriptor, the oldest first.
        self._silent: dict[int, Connection] = {}
        self._speaking: dict[int, Connection] = {}
        self._peers: dict[bytes, Connection] = {}
        self._ending: dict[int, Connection] = {}
        self._meter = Meter(hoard)
        held.add(self)

    def __len__(self) -> int:
        return len(self._silent) + len(self._speaking)

    def accepted(self, fd: int) -> Connection | None:
        """A connection has come; the one that has to go for it, if any."""
        self.ended(fd)
        self._meter.forget(fd)
        self._silent[fd] = Connection(fd, address_of(fd), time.monotonic())
        if len(self) <= self._limit:
            return None
        # A real peer speaks within milliseconds: who has been silent for longest is the least likely to be one.
        victim = next(iter(self._silent.values()))
        self.ending(victim)
        return victim

    def ending(self, connection: Connection) -> None:
        """A connection is being cut: it counts no more."""
        self.ended(connection.fd)
        self._ending[connection.fd] = marked = evolve(connection, cut=True)
        if marked.peer:
            self._peers[marked.peer] = marked

    def spoke(self, fd: int, peer: bytes, key: str) -> Connection:
        """The first message of a connection has come."""
        before = self.ended(fd)
        address = before.address if before and not before.peer else address_of(fd)
        connection = Connection(fd, address, time.monotonic(), peer, key)
        self._speaking[fd] = self._peers[peer] = connection
        return connection

    def ended(self, fd: int) -> Connection | None:
        """A connection is no more. (Messages that it left behind may make it known again, until its descriptor is used
        by another.)"""
        connection = self._silent.pop(fd, None) or self._speaking.pop(fd, None) or self._ending.pop(fd, None)
        if connection is not None:
            self._peers.pop(connection.peer, None)
        return connection

    def delivered(self, connection: Connection, size: int) -> None:
        """A message has come by a connection."""
        self._meter.delivered(connection.fd, size)

    def hoarders(self, had_their_turn: bool) -> list[Connection]:
        """Those that fill our memory with what never becomes a message; to be asked every now and then."""
        everybody = [*self._silent.values(), *self._speaking.values()]
        return [connection for connection in everybody if self._meter.is_hoarding(connection.fd, had_their_turn)]

    def descriptors(self) -> list[int]:
        """Those of all connections, and that of the socket that listens."""
        return [*self._silent, *self._speaking, *self._ending, *self.listening]

    def of_peer(self, peer: bytes) -> Connection | None:
        """The connection of a peer that has spoken."""
        return self._peers.get(peer)

    def of_key(self, key: str) -> list[Connection]:
        """Those whose messages came with this key."""
        return [connection for connection in self._speaking.values() if connection.key == key]

    def beyond(self, key: str) -> list[Connection]:
        """Those of a key that has more than its share, the oldest first: one process needs one, and one more for the
        moment of a reconnect. Without keys nobody can say whose they are."""
        return self.of_key(key)[:-MOST_OF_A_KEY] if key else []

    def too_silent(self) -> list[Connection]:
        """Those that ought to have said something by now."""
        before = time.monotonic() - self._silence_s
        return [connection for connection in self._silent.values() if connection.since_s < before]


def cut(fd: int, endpoint: str) -> bool:
    """Shut a connection down, if `fd` still is one that came in at `endpoint`; False if it is not.

    libzmq may have closed the descriptor, and anybody may have opened it again since it was named. A duplicate cannot
    be exchanged under our hands: what it is gets checked first. At worst another connection to our own endpoint is
    cut, and connects again.
    """
    try:
        with _duplicate(fd) as connection:
            connection.getpeername()
            if _is_at(connection, endpoint):
                connection.shutdown(socket.SHUT_RDWR)
                return True
    except OSError:
        pass
    return False


def _is_at(connection: socket.socket, endpoint: str) -> bool:
    name = connection.getsockname()
    if isinstance(name, tuple):
        return endpoint.startswith("tcp://") and endpoint.endswith(f":{name[1]}")
    return endpoint == f"ipc://{name}"


def address_of(fd: int) -> str:
    """Who is at the other end, for a person."""
    try:
        with _duplicate(fd) as connection:
            name = connection.getpeername()
    except OSError:
        return "?"
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "local"


@contextmanager
def _duplicate(fd: int) -> Iterator[socket.socket]:
    duplicate = os.dup(fd)
    try:
        connection = socket.socket(fileno=duplicate)
    except OSError:  # a file, not a socket
        os.close(duplicate)
        raise
    with connection:
        yield connection


def _let_go_in_child() -> None:
    for connections in list(held):
        for fd in connections.descriptors():
            with suppress(OSError):
                os.close(fd)


# A forked child (a handler's worker pool, say) would hold the port of a server that was killed, and its connections.
# libzmq's threads, which own them, do not live on in a child.
os.register_at_fork(after_in_child=_let_go_in_child)
