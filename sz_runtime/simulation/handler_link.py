"""Links between servers and workers over the simulated network: datagrams, harsher than ZeroMQ, through the real codec.

A worker calls the servers that it knows, one after the other, until one answers; what goes either way then carries the
number of that connection. Answers to an earlier connection fall on the floor, as a ROUTER drops what it has no route
for. A connection that is cut loses what is sent; the worker notices after a while, or never.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from attrs import Factory, define

from sz_protocol.codec import decode, encode
from sz_protocol.kernel.effects import Send
from sz_protocol.kernel.errors import DecodeError, LocalProtocolError
from sz_protocol.kernel.events import Garbled, LinkChanged, Received
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.kernel.record import record
from sz_protocol.messages import TO_HANDLER, TO_HANDLER_SERVER
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.network import MILLISECOND_US, SimNetwork
from sz_runtime.simulation.said import said
from sz_runtime.simulation.trace import Trace
from sz_runtime.simulation.worker_facts import LinkDown, LinkUp, Unsaid

Deliver = Callable[[Sequence[Any]], None]

NUMBER_BYTES = 4
"""The number of the connection, in front of every frame."""
LEAST_CALL_US, MOST_CALL_US = 20 * MILLISECOND_US, SECOND_US // 2
"""How long a worker waits before it calls the next server."""
NOTICE_US = (SECOND_US // 2, 3 * SECOND_US, 15 * SECOND_US, None)
"""How soon a worker notices that its connection is cut: drawn for each one."""
HALF_CLOSED_US = 15 * SECOND_US
"""So long it takes at most to notice that a direction of a connection is closed: links ask for signs of life."""
REMEMBERED = 256
"""Frames that can be replayed."""


@record
class Frame:
    """A frame that was sent, for those who replay and forge."""

    sender: str
    to: str
    connection: int
    bytes: bytes
    message: Any


@define(eq=False)
class ServerEnd:
    """One life of a node that listens."""

    links: "SimLinks"
    name: str
    deliver: Deliver | None = None
    connections: dict[int, str] = Factory(dict)
    """Worker of each connection that was made to this life."""

    def open(self, deliver: Deliver) -> None:
        """Listen from now on."""
        self.deliver = deliver
        self.links.listening[self.name] = self

    def submit(self, effect: Send) -> None:
        """Send to the address that a message came from, if it is still there."""
        worker, _, number = effect.to.decode().partition("/")
        self.links.send(self.name, worker, int(number), effect.message)


@define(eq=False)
class ClientEnd:
    """One life of a worker. `number` is that of its connection (0: it has none)."""

    links: "SimLinks"
    name: str
    servers: tuple[str, ...]
    rng: Random
    deliver: Deliver | None = None
    server: str = ""
    number: int = 0
    notice_us: int | None = None
    cut_since_us: int | None = None
    over: bool = False
    _turn: int = 0

    def open(self, deliver: Deliver) -> None:
        """Call for a server from now on."""
        self.deliver = deliver
        self.links.calling[self.name] = self
        self._call_soon()

    def close(self) -> None:
        """The process is gone."""
        self.over = True

    def submit(self, effect: Send) -> None:
        """Send to the server, if there is one."""
        if self.number:
            self.links.send(self.name, self.server, self.number, effect.message)
            self._look_whether_cut()

    def hang_up(self, number: int, why: str) -> None:
        """This connection is gone, and the worker knows it."""
        if self.over or number != self.number or self.deliver is None:
            return
        self.number, self.cut_since_us = 0, None
        self.links.trace.add(LinkDown(self.links.agenda.now_us, self.name, self.server, number, why))
        self._turn += 1
        self._call_soon()
        self.deliver((LinkChanged(False),))

    def _look_whether_cut(self) -> None:
        notice_us = self.notice_us
        if self.links.is_half_closed(self.name, self.server, self.number):
            notice_us = HALF_CLOSED_US if notice_us is None else notice_us
        elif not self.links.is_cut(self.name, self.server):
            self.cut_since_us = None
            return
        now_us = self.links.agenda.now_us
        self.cut_since_us = now_us if self.cut_since_us is None else self.cut_since_us
        if notice_us is not None and now_us - self.cut_since_us >= notice_us:
            # Not at once: this is the midst of an order.
            self.links.agenda.after(1, self.hang_up, self.number, "silence")

    def _call_soon(self) -> None:
        self.links.agenda.after(self.rng.randint(LEAST_CALL_US, MOST_CALL_US), self._call)

    def _call(self) -> None:
        if self.over or self.number or self.deliver is None:
            return
        server = self.servers[self._turn % len(self.servers)]
        number = self.links.connect(self.name, server)
        if not number:
            self._turn += 1
            self._call_soon()
            return
        self.server, self.number, self.notice_us = server, number, self.rng.choice(NOTICE_US)
        self.links.trace.add(LinkUp(self.links.agenda.now_us, self.name, server, number))
        self.deliver((LinkChanged(True),))


@define(eq=False)
class SimLinks:
    """Every connection between workers and servers of one world. `rng` is for those who meddle."""

    agenda: Agenda
    network: SimNetwork
    trace: Trace
    rng: Random
    keys: Mapping[str, str] = Factory(dict)
    """The verified key of each place; nobody has one where links verify nothing."""
    listening: dict[str, ServerEnd] = Factory(dict)
    calling: dict[str, ClientEnd] = Factory(dict)
    sent: deque[Frame] = Factory(lambda: deque(maxlen=REMEMBERED))
    issued: int = 0
    half_closed: dict[tuple[str, int], None] = Factory(dict)
    """(who sends, connection): what goes nowhere."""

    def serve(self, name: str) -> ServerEnd:
        """The link of a node that begins a life."""
        return ServerEnd(self, name)

    def call(self, name: str, servers: tuple[str, ...], rng: Random) -> ClientEnd:
        """The link of a worker that begins a life."""
        return ClientEnd(self, name, servers, rng)

    def attach(self, nodes: Sequence[str], workers: Sequence[str]) -> None:
        """These places take part, for as long as the world stands."""
        for node in nodes:
            self.network.attach(node, partial(self._at_server, node))
        for worker in workers:
            self.network.attach(worker, partial(self._at_worker, worker))

    # --- connections ------------------------------------------------------------------------------------------

    def is_cut(self, worker: str, server: str) -> bool:
        """Whether nothing goes, in one direction at least."""
        return self.network.is_cut(worker, server) or self.network.is_cut(server, worker)

    def half_close(self, sender: str, to: str) -> None:
        """What `sender` says over the connection that the two have now goes nowhere; the other direction works on."""
        for worker, server in ((sender, to), (to, sender)):
            client = self.calling.get(worker)
            if client is not None and client.server == server and client.number:
                self.half_closed[sender, client.number] = None

    def is_half_closed(self, worker: str, server: str, connection: int) -> bool:
        """Whether a direction of this connection is closed."""
        half_closed = self.half_closed
        return bool(half_closed) and ((worker, connection) in half_closed or (server, connection) in half_closed)

    def connect(self, worker: str, server: str) -> int:
        """The number of a new connection; 0 where nobody answers."""
        end = self.listening.get(server)
        if end is None or self.is_cut(worker, server):
            return 0
        self.issued += 1
        end.connections[self.issued] = worker
        return self.issued

    def gone(self, server: str) -> None:
        """A node's life is over: the system tells those that it can reach."""
        end = self.listening.pop(server, None)
        for number, worker in end.connections.items() if end is not None else ():
            self._reset(server, worker, number)

    def _reset(self, server: str, worker: str, number: int) -> None:
        client = self.calling.get(worker)
        if client is not None and client.number == number and not self.is_cut(worker, server):
            self.agenda.after(self.network.delay_us(), client.hang_up, number, "reset")

    # --- messages ---------------------------------------------------------------------------------------------

    def send(self, sender: str, to: str, connection: int, message: Any) -> None:
        """Put a message on its way."""
        try:
            data = encode(message)
        except LocalProtocolError as why:
            self.trace.add(Unsaid(self.agenda.now_us, sender, type(message).__name__, str(why)))
            return
        self.sent.append(Frame(sender, to, connection, data, message))
        number = self.put(sender, to, connection, data)
        self.trace.add(said(self.agenda.now_us, sender, to, number, message))

    def put(self, sender: str, to: str, connection: int, data: bytes) -> int:
        """Put bytes on their way; the number of the datagram."""
        lost = (sender, connection) in self.half_closed
        return self.network.send(sender, to, connection.to_bytes(NUMBER_BYTES, "big") + data, lost)

    def _at_server(self, server: str, worker: str, payload: bytes) -> None:
        end = self.listening.get(server)
        connection = int.from_bytes(payload[:NUMBER_BYTES], "big")
        if end is None or end.deliver is None or connection not in end.connections:
            # Made to an earlier life: the system answers for it.
            self._reset(server, worker, connection)
            return
        address = f"{worker}/{connection}".encode()
        end.deliver((_event(address, payload[NUMBER_BYTES:], TO_HANDLER_SERVER, self.keys.get(worker, "")),))

    def _at_worker(self, worker: str, server: str, payload: bytes) -> None:
        client = self.calling.get(worker)
        if client is None or client.over or client.deliver is None:
            return
        if client.number == int.from_bytes(payload[:NUMBER_BYTES], "big"):
            client.deliver((_event(b"", payload[NUMBER_BYTES:], TO_HANDLER),))


def _event(sender: bytes, frame: bytes, expected: tuple[type, ...], key: str = "") -> Received | Garbled:
    try:
        return Received(sender, decode(frame, expected), key)
    except DecodeError as problem:
        return Garbled(sender, str(problem), key)
