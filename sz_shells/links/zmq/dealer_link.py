"""The other end: one DEALER, which connects to a server for ever."""

from collections import Counter
from collections.abc import Callable
from random import Random, SystemRandom

import anyio
import structlog
import zmq
from anyio.abc import TaskStatus

from sz_runtime.ports import LinkError
from sz_shells.links.zmq.addresses import connectable, is_loopback
from sz_shells.links.zmq.curve import ClientSecurity
from sz_shells.links.zmq.fd_socket import FdSocket
from sz_shells.links.zmq.leaving import leave
from sz_shells.links.zmq.limited_log import LimitedLog
from sz_shells.links.zmq.limits import Limits
from sz_shells.links.zmq.monitor import HANDSHAKE_FAILED, Happened, Monitor, why_failed
from sz_shells.links.zmq.outbox import Outbox

AT_ONCE = 64
RETRY_S = (0.001, 0.05)
LAST_WORDS_S = 0.01
_ENDS = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED | HANDSHAKE_FAILED
_EVENTS = _ENDS | zmq.EVENT_HANDSHAKE_SUCCEEDED
_log = structlog.get_logger("schedulezero.zmq")


class DealerLink:
    """Connects, and connects again, with a socket of its own for each connection: what was sent over one that broke
    never turns up in the next.

    What is sent before `changed(False)` belongs to the connection that is lost; what is sent after it waits, in a
    bounded outbox, for the next. `received` and `changed` are called in `run`'s event loop, never inside of `send`.
    """

    def __init__(
        self,
        address: str,
        received: Callable[[bytes], None],
        changed: Callable[[bool], None],
        *,
        security: ClientSecurity | None = None,
        limits: Limits | None = None,
        retry_s: tuple[float, float] = (0.2, 30.0),
        rng: Random | None = None,
    ) -> None:
        self._address = address
        self._received = received
        self._changed = changed
        self._security = security
        self._limits = limits or Limits()
        self._retry_s = retry_s
        self._rng = rng or SystemRandom()
        self._outbox = Outbox(self._limits.outbox_messages, self._limits.outbox_bytes)
        self._socket: FdSocket | None = None
        self._work = anyio.Event()
        self._log = LimitedLog(_log)
        self.why_down = "not connected yet"
        """Why there is no connection now; for a person."""
        self._turned_down = False
        self.counts: Counter[str] = Counter()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection until cancelled. Starts at once: the server may be away for days."""
        context = zmq.Context()
        failures = 0
        if self._security is None and not is_loopback(self._address):
            _log.warning("zmq_not_encrypted", address=self._address)
        task_status.started()
        try:
            while True:
                try:
                    was_heard = await self._one_life(context, failures)
                except LinkError as error:
                    was_heard, self.why_down = False, str(error)
                failures = 0 if was_heard else failures + 1
                # A server that is away comes back by itself. One that turns us down wants a person.
                write = self._log.warning if self._turned_down else self._log.info
                write("zmq_not_connected", address=self._address, because=self.why_down, failures=failures)
                await anyio.sleep(self._rng.uniform(0, self._longest_wait_s(failures)))
        finally:
            await leave(context, self._limits.leave_s)

    def send(self, data: bytes) -> bool:
        """Hand over one frame; never waits. False: it was dropped, since the outbox is full."""
        if not self._outbox and self._socket is not None and self._socket.send((data,)):
            return True
        if self._outbox.add(data):
            self._work.set()
            return True
        self.counts["dropped_outbox_full"] += 1
        return False

    def _longest_wait_s(self, failures: int) -> float:
        # Full jitter: a server that comes back is not met by everybody at once.
        base_s, max_s = self._retry_s
        return min(max_s, base_s * 2.0 ** min(failures, 30))

    async def _one_life(self, context: "zmq.Context[zmq.Socket[bytes]]", attempt: int) -> bool:
        """One connection, or one attempt at it; whether anything was heard. Returns when it is over."""
        self._turned_down = False
        address = await connectable(self._address, attempt)
        dealer = FdSocket(context.socket(zmq.DEALER, socket_class=zmq.Socket))
        monitor: Monitor | None = None
        try:
            self._set_up(dealer.socket, address)
            monitor = Monitor(dealer.socket, _EVENTS)
            dealer.socket.connect(address)
            if not await self._came_up(monitor):
                return False
            heard = self.counts["received"]
            await self._stay_up(dealer, monitor)
            # A server that takes us in and says nothing is not to be pressed.
            return self.counts["received"] > heard
        except zmq.ZMQError as error:
            raise LinkError(f"{self._address}: cannot be connected to: {zmq.strerror(error.errno or 0)}") from error
        except anyio.get_cancelled_exc_class():
            dealer.close(self._limits.leave_s)
            raise
        finally:
            if monitor is not None:
                monitor.close()
            dealer.close()

    def _set_up(self, socket: "zmq.Socket[bytes]", address: str) -> None:
        self._limits.apply(socket)
        socket.ipv6 = "[" in address
        # Never by libzmq. Not -1: then it throws away what has come, at the moment when the connection ends.
        socket.reconnect_ivl = 3_600_000
        socket.connect_timeout = int(self._limits.handshake_s * 1000)
        if self._security is not None:
            self._security.apply(socket)

    async def _came_up(self, monitor: Monitor) -> bool:
        with anyio.move_on_after(2 * self._limits.handshake_s):
            happened = await monitor.next()
            if happened.event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return True
            self._turned_down = bool(happened.event & HANDSHAKE_FAILED)
            self.why_down = self._why_not(happened)
            return False
        self.why_down = "no answer"
        return False

    def _why_not(self, happened: Happened) -> str:
        if not happened.event & HANDSHAKE_FAILED:
            return "nobody listens there"
        if happened.event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return why_failed(happened)
        doubt = "is the server's public key the right one?"
        if self._security is None:
            doubt = "does the server want a key? This end was given none"
        return f"{why_failed(happened)} ({doubt})"

    async def _stay_up(self, dealer: FdSocket, monitor: Monitor) -> None:
        self._socket = dealer
        self.why_down = ""
        self.counts["connected"] += 1
        self._log.info("zmq_connected", address=self._address)
        # Make room for what is said first.
        self._outbox.flush(lambda data: dealer.send((data,)), self._limits.queue)
        try:
            self._changed(True)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._receive, dealer)
                tasks.start_soon(self._flush, dealer)
                while not (await monitor.next()).event & _ENDS:
                    pass
                tasks.cancel_scope.cancel()
            # The last words of the other end: libzmq hands them over just after it has said that it is gone.
            await anyio.sleep(LAST_WORDS_S)
            while (parts := dealer.take()) is not None:
                self._hand_on(parts)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(self._limits.leave_s, shield=True):
                while self._outbox:
                    self._outbox.flush(lambda data: dealer.send((data,)), AT_ONCE)
                    await anyio.sleep(RETRY_S[0])
            raise
        finally:
            self._socket = None
            self.why_down = "the connection ended"
            self.counts["dropped_connection_lost"] += self._outbox.clear()
            self._changed(False)

    async def _receive(self, dealer: FdSocket) -> None:
        while True:
            self._hand_on(await dealer.recv_multipart())

    def _hand_on(self, parts: list[bytes]) -> None:
        if len(parts) != 1:
            self.counts["refused_multipart"] += 1
            return
        self.counts["received"] += 1
        try:
            self._received(parts[0])
        except Exception:
            # A mistake of ours about one frame must not take the link from the others.
            self._log.exception("zmq_frame_failed")

    async def _flush(self, dealer: FdSocket) -> None:
        delay_s = RETRY_S[0]
        while True:
            if not self._outbox:
                self._work = anyio.Event()
                await self._work.wait()
                delay_s = RETRY_S[0]
            sent = self._outbox.flush(lambda data: dealer.send((data,)), AT_ONCE)
            delay_s = RETRY_S[0] if sent else min(delay_s * 2, RETRY_S[1])
            await anyio.sleep(0 if sent else delay_s)
