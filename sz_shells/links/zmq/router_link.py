"""The server's end: one ROUTER, which remote processes connect to."""

from collections import Counter, deque
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import structlog
import zmq
from anyio.abc import TaskStatus

from sz_runtime.ports import LinkError
from sz_shells.links.zmq.addresses import bindable, is_loopback
from sz_shells.links.zmq.connections import Connection, Connections, cut
from sz_shells.links.zmq.curve import ServerSecurity
from sz_shells.links.zmq.fd_socket import FdSocket
from sz_shells.links.zmq.leaving import leave
from sz_shells.links.zmq.limited_log import LimitedLog
from sz_shells.links.zmq.limits import Limits
from sz_shells.links.zmq.metering import BUFFERED
from sz_shells.links.zmq.monitor import HANDSHAKE_FAILED, Happened, Monitor, why_failed
from sz_shells.links.zmq.outbox import Outbox
from sz_shells.links.zmq.zap import serve_zap, zap_socket

Received = Callable[[bytes, str, bytes], None]
"""Takes the peer, its key (z85; "" without CURVE) and one frame."""

AT_ONCE = 64
"""So many messages go to one waiting peer before the others have their turn."""
RETRY_S = (0.001, 0.05)
"""How soon those that had no room are tried again: at first, and at last."""
SWEEP_S = 0.5
BACKLOG = 1024
_EVENTS = zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_DISCONNECTED | HANDSHAKE_FAILED
_log = structlog.get_logger("schedulezero.zmq")


class RouterLink:
    """Receives from and sends to any number of peers.

    A *peer* is one connection: libzmq names it, and gives a name away only once. Everything here belongs to the task
    group of `run`'s event loop; `received`, `gone` and `on_revoked` are called there, never from inside of `send`.
    """

    def __init__(
        self,
        address: str,
        received: Received,
        *,
        gone: Callable[[bytes], None] = lambda peer: None,
        on_revoked: Callable[[str], None] = lambda key: None,
        security: ServerSecurity | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._address = address
        self._received = received
        self._tell_gone = gone
        self._tell_revoked = on_revoked
        self._security = security
        self._limits = limits or Limits()
        self._socket: FdSocket | None = None
        self._endpoint = ""
        self._outboxes: dict[bytes, Outbox] = {}
        self._gone: deque[bytes] = deque()
        self._work = anyio.Event()
        limits = self._limits
        self._connections = Connections(limits.max_connections, limits.silence_s, BUFFERED + 4 * limits.max_frame)
        self._log = LimitedLog(_log)
        self.counts: Counter[str] = Counter()
        """What has happened so far, by name."""

    async def run(self, *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; starts with the address that was bound. Raises LinkError where it cannot be."""
        address = await bindable(self._address)
        if self._security is None and not is_loopback(address):
            _log.warning("zmq_not_encrypted", address=self._address)
        context = zmq.Context()
        async with AsyncExitStack() as ending:
            ending.push_async_callback(leave, context, self._limits.leave_s)
            router = FdSocket(context.socket(zmq.ROUTER, socket_class=zmq.Socket))
            ending.push_async_callback(self._end, router)
            self._set_up(router.socket)
            monitor = Monitor(router.socket, _EVENTS)
            ending.callback(monitor.close)
            works: list[Callable[[], Coroutine[Any, Any, None]]]
            works = [
                partial(self._receive, router, monitor),
                partial(self._watch, monitor),
                self._flush,
                partial(self._sweep, router),
            ]
            if self._security is not None:
                zap = zap_socket(context)
                ending.callback(zap.close)
                works.append(partial(serve_zap, zap, self._security, self._log))
                works.append(partial(self._security.allowlist.watch, self._revoke))
            self._bind(router.socket, address)
            self._socket = router
            async with anyio.create_task_group() as tasks:
                for work in works:
                    tasks.start_soon(work)
                task_status.started(self._endpoint)

    async def _end(self, router: FdSocket) -> None:
        with anyio.move_on_after(self._limits.leave_s, shield=True):
            while self._outboxes:
                for peer in list(self._outboxes):
                    self._flush_one(peer)
                await anyio.sleep(RETRY_S[0])
        self._socket = None
        router.close(self._limits.leave_s)

    def send(self, peer: bytes, data: bytes) -> bool:
        """Hand over one frame; never waits. False: it was dropped, since the peer is gone or its outbox is full."""
        if self._socket is None:
            return False
        if peer not in self._outboxes:
            sent = self._hand_over(self._socket, peer, data)
            if sent is not None:
                return sent
            self._outboxes[peer] = Outbox(self._limits.outbox_messages, self._limits.outbox_bytes)
            self._work.set()
        if self._outboxes[peer].add(data):
            return True
        self.counts["dropped_outbox_full"] += 1
        return False

    def drop(self, peer: bytes) -> None:
        """Forget what waits for a peer and end its connection."""
        self._outboxes.pop(peer, None)
        connection = self._connections.of_peer(peer)
        if connection is not None and not connection.cut:
            self._cut(connection, "dropped")

    def _set_up(self, socket: "zmq.Socket[bytes]") -> None:
        self._limits.apply(socket)
        socket.router_mandatory = True
        socket.router_handover = False
        # A restarted server is met by all its handlers at once: who finds no place here waits for a second.
        socket.backlog = BACKLOG
        if self._security is not None:
            self._security.apply(socket)

    def _bind(self, socket: "zmq.Socket[bytes]", address: str) -> None:
        socket.ipv6 = "[" in address
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            raise LinkError(f"{self._address}: cannot listen there: {zmq.strerror(error.errno or 0)}") from error
        self._endpoint = bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()

    def _hand_over(self, router: FdSocket, peer: bytes, data: bytes) -> bool | None:
        """True: libzmq has it. False: the peer is gone. None: there is no room now."""
        try:
            # Never wait for POLLOUT: a ROUTER always has it, whoever is full.
            return router.send((peer, data)) or None
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._outboxes.pop(peer, None)
            self._gone.append(peer)
            self._work.set()
            return False

    async def _receive(self, router: FdSocket, monitor: Monitor) -> None:
        while True:
            frames = await router.recv_frames()
            peer, last = frames[0].bytes, frames[-1]
            key = ""
            if self._security is not None:
                key = str(last.get("User-Id"))
            if not self._acceptable(frames, peer, key, monitor):
                continue
            try:
                self._received(peer, key, last.bytes)
            except Exception:
                # A mistake of ours about one frame must not take the link from the others.
                self._log.exception("zmq_frame_failed")

    def _acceptable(self, frames: list[zmq.Frame], peer: bytes, key: str, monitor: Monitor) -> bool:
        """Whether a message may be handed on; what may not is counted."""
        connection = self._connections.of_peer(peer)
        if connection is None:
            # Events come on a way of their own: those from before this message first.
            while (happened := monitor.take()) is not None:
                self._on_event(happened)
            fd = _descriptor(frames[-1])
            if fd is None:
                self.counts["refused_ancient"] += 1
                return False
            connection = self._connections.spoke(fd, peer, key)
            for victim in self._connections.beyond(key):
                self._cut(victim, "too many connections with its key")
            # libzmq's own names begin with a zero. With a name of its choice a peer would get what is meant for
            # whoever had it before.
            if len(peer) != 5 or peer[0] != 0:
                self._cut(connection, "chose a routing id")
                return False
        self.counts["taken"] += 1
        self._connections.delivered(connection, sum(map(len, frames)))
        if connection.cut:
            self.counts["refused_cut"] += 1
            return False
        if len(frames) != 2:
            self.counts["refused_multipart"] += 1
            return False
        if self._security is not None and not self._security.allowlist.allows(key):
            # Revoked after it was let in, and before it spoke.
            self.counts["refused_key"] += 1
            self._cut(connection, "its key was revoked")
            return False
        self.counts["received"] += 1
        return True

    async def _flush(self) -> None:
        """Tell who is gone, and try those again that had no room."""
        delay_s = RETRY_S[0]
        while True:
            if not self._outboxes and not self._gone:
                self._work = anyio.Event()
                await self._work.wait()
                delay_s = RETRY_S[0]
            sent = 0
            for peer in list(self._outboxes):
                sent += self._flush_one(peer)
            while self._gone:
                self.counts["gone"] += 1
                self._tell_gone(self._gone.popleft())
            delay_s = RETRY_S[0] if sent else min(delay_s * 2, RETRY_S[1])
            await anyio.sleep(delay_s)

    def _flush_one(self, peer: bytes) -> int:
        outbox = self._outboxes.get(peer)
        if outbox is None or self._socket is None:
            return 0
        router = self._socket
        sent = outbox.flush(lambda data: self._hand_over(router, peer, data) is True, AT_ONCE)
        if not outbox:
            self._outboxes.pop(peer, None)
        return sent

    async def _watch(self, monitor: Monitor) -> None:
        """Keep account of connections, and say what happens to them."""
        while True:
            self._on_event(await monitor.next())

    def _on_event(self, happened: Happened) -> None:
        match happened.event:
            case zmq.EVENT_LISTENING:
                self._connections.listening.add(happened.value)
            case zmq.EVENT_ACCEPTED:
                self._on_accepted(happened.value)
            case zmq.EVENT_DISCONNECTED:
                self._on_ended(happened.value)
            case zmq.EVENT_ACCEPT_FAILED:
                self.counts["accept_failed"] += 1
                self._log.warning("zmq_accept_failed", error=zmq.strerror(happened.value))
            case _:
                self.counts["handshake_failed"] += 1
                self._log.warning("zmq_handshake_failed", because=why_failed(happened))

    def _on_accepted(self, fd: int) -> None:
        self.counts["accepted"] += 1
        victim = self._connections.accepted(fd)
        if victim is not None:
            self._cut(victim, "too many connections")

    def _on_ended(self, fd: int) -> None:
        connection = self._connections.ended(fd)
        if connection is not None and connection.peer:
            self._log.info("zmq_disconnected", address=connection.address)

    def _revoke(self, key: str) -> None:
        for connection in self._connections.of_key(key):
            self._outboxes.pop(connection.peer, None)
            self._cut(connection, "its key was revoked")
        self._tell_revoked(key)

    def _cut(self, connection: Connection, because: str) -> None:
        self.counts["cut"] += 1
        self._log.warning("zmq_connection_cut", address=connection.address, because=because)
        self._connections.ending(connection)
        cut(connection.fd, self._endpoint)

    async def _sweep(self, router: FdSocket) -> None:
        """Cut those that say nothing, and those that say nothing with many words."""
        taken_before = waits_before = 0
        while True:
            await anyio.sleep(SWEEP_S)
            for connection in self._connections.too_silent():
                self._cut(connection, "it said nothing")
            # libzmq takes from one connection after the other: once round, and each that has something had its turn.
            taken, waits = self.counts["taken"], router.waits
            had_turns = router.is_waiting or waits != waits_before or taken - taken_before >= len(self._connections)
            taken_before, waits_before = taken, waits
            for connection in self._connections.hoarders(had_turns):
                self._cut(connection, "it sends what never becomes a message")


def _descriptor(frame: zmq.Frame) -> int | None:
    """The connection that a frame came by. Peers of before ZMTP 2 have no such thing, and random bytes can look like
    one of them: they are not heard, and cut for saying nothing."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return None
