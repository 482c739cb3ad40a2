"""How a simulated node reaches its store: the Store port over a file of its own, or over the network to a server."""

from collections.abc import Sequence
from typing import Any, Protocol

from attrs import Factory, define

from sz_protocol.kernel.effects import Read, Write
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import Event, FailReason, ReadFailed, WriteFailed
from sz_protocol.queries import Query
from sz_runtime.ports import Complete, Opened, Store, StoreError
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.answers import answer
from sz_runtime.simulation.facts import Failed
from sz_runtime.simulation.network import SimNetwork
from sz_runtime.simulation.pipe import Pipe
from sz_runtime.simulation.store_server import Session, StoreServer


class AbandonedStore(Store, Protocol):
    """A store that the simulation can also leave as a crash does."""

    def abandon(self) -> None:
        """The node has vanished: nobody takes answers any more."""
        ...


@define
class SimStore:
    """A store on the node's own disk: session and tables share the node's fate."""

    server: StoreServer
    holder: str
    by_force: bool = False
    session: Session | None = None
    _complete: Complete | None = None
    _outstanding: int = 0
    _closed: bool = False

    def open(self, complete: Complete) -> Opened:
        """Take the store. Raises StoreError."""
        self._complete = complete
        self.session, opened = self.server.open(self.holder, self._answered, by_force=self.by_force)
        return opened

    def submit(self, effect: Write | Read) -> None:
        """Queue one operation."""
        if self.session is None or self._closed:
            raise LocalProtocolError("an operation was submitted to a store that is not open")
        self._outstanding += 1
        self.server.submit(self.session, effect)

    def query(self, query: Query) -> tuple[Any, ...]:
        """The rows as they stand now."""
        return answer(self.server.tables, query)

    def close(self) -> None:
        """Take nothing more, and let go when what was submitted has been answered: nobody can block in simulated
        time."""
        self._closed = True
        self._let_go()

    def abandon(self) -> None:
        """The node has vanished."""
        if self.session is not None:
            self.session.open = False

    def _answered(self, events: Sequence[Event]) -> None:
        self._outstanding -= len(events)
        assert self._complete is not None
        self._complete(events)
        self._let_go()

    def _let_go(self) -> None:
        if self._closed and not self._outstanding and self.session is not None:
            self.session.open = False


@define
class Connection:
    """One pair of streams between a node and a store's server."""

    there: Pipe
    back: Pipe
    session: Session | None = None
    given_up: bool = False


@define
class RemoteStore:
    """A store behind the network.

    What is not answered within `timeout_us` has an unknown outcome (a write) or failed (a read); the next operation
    takes a new connection, and its arrival ends the old one at the server, so that nothing old is applied after
    something new was read.
    """

    server: StoreServer
    holder: str
    agenda: Agenda
    network: SimNetwork
    by_force: bool = False
    timeout_us: int = 2_000_000
    _complete: Complete | None = None
    _connection: Connection | None = None
    _outstanding: dict[int, tuple[int, Write | Read]] = Factory(dict)
    _failed_stream: int = 0
    _sessions: list[Session] = Factory(list)
    _closed: bool = False

    def open(self, complete: Complete) -> Opened:
        """Take the store. Raises StoreError, also when it cannot be reached."""
        if self._is_cut():
            raise StoreError(f"store {self.server.name} cannot be reached")
        self._complete = complete
        connection = self._connect()
        connection.session, opened = self.server.open(self.holder, connection.back.send, by_force=self.by_force)
        self._sessions.append(connection.session)
        return opened

    def submit(self, effect: Write | Read) -> None:
        """Queue one operation."""
        if self._complete is None or self._closed:
            raise LocalProtocolError("an operation was submitted to a store that is not open")
        if isinstance(effect, Write) and 0 < effect.stream <= self._failed_stream:
            previous = FailReason.PREVIOUS
            self.network.trace.add(
                Failed(self.agenda.now_us, self.server.name, self.holder, effect.op, previous, False)
            )
            self.agenda.after(1, self._tell, [WriteFailed(effect.op, previous)])
            return
        if self._connection is None:
            self._connect()
        assert self._connection is not None
        self._outstanding[effect.op] = (self.agenda.now_us, effect)
        self._connection.there.send((self._connection, effect))
        self.agenda.after(self.timeout_us, self._expire, effect.op)

    def query(self, query: Query) -> tuple[Any, ...]:
        """The rows as they stand now at the server."""
        return answer(self.server.tables, query)

    def close(self) -> None:
        """Take nothing more, and hang up when what was submitted has been answered."""
        self._closed = True
        self._let_go()

    def abandon(self) -> None:
        """The node has vanished. The server notices at once, or later when the link is cut."""
        self._closed, self._complete = True, None
        self.agenda.after(5 * self.timeout_us if self._is_cut() else 1, self._hang_up)

    def _let_go(self) -> None:
        if self._closed and not self._outstanding:
            self._hang_up()

    def _hang_up(self) -> None:
        for session in self._sessions:
            session.open = False

    def _is_cut(self) -> bool:
        name = self.server.name
        return self.network.is_cut(self.holder, name) or self.network.is_cut(name, self.holder)

    def _connect(self) -> Connection:
        there = Pipe(self.agenda, self.network, self.holder, self.server.name, self._arrived)
        back = Pipe(self.agenda, self.network, self.server.name, self.holder, self._answered)
        self._connection = Connection(there, back)
        return self._connection

    def _arrived(self, item: tuple[Connection, Write | Read]) -> None:
        """At the server."""
        connection, effect = item
        if connection.session is None and (connection.given_up or self._complete is None):
            # Never established while its end here lived: nothing of it was ever sent.
            return
        if connection.session is None:
            connection.session = self.server.reconnect(self.holder, connection.back.send)
            self._sessions.append(connection.session)
        if connection.session.open:
            self.server.submit(connection.session, effect)

    def _answered(self, events: list[Event]) -> None:
        """At the node."""
        known = [event for event in events if getattr(event, "op", None) in self._outstanding]
        for event in known:
            self._settle(event)
        self._tell(known)

    def _settle(self, event: Event) -> None:
        op: int = getattr(event, "op", 0)
        _, effect = self._outstanding.pop(op)
        if isinstance(event, WriteFailed) and isinstance(effect, Write):
            self._failed_stream = max(self._failed_stream, effect.stream)

    def _expire(self, op: int) -> None:
        if op not in self._outstanding or self._complete is None:
            return
        failed: list[Event] = []
        for number, (_, effect) in list(self._outstanding.items()):
            detail = f"no answer from store {self.server.name}"
            if isinstance(effect, Write):
                lost = Failed(self.agenda.now_us, self.server.name, self.holder, number, "unanswered", False)
                self.network.trace.add(lost)
                failed.append(WriteFailed(number, FailReason.UNKNOWN, detail=detail))
            else:
                failed.append(ReadFailed(number, FailReason.UNAVAILABLE, detail))
        for event in failed:
            self._settle(event)
        if self._connection is not None:
            self._connection.given_up = True
        self._connection = None
        self._tell(failed)

    def _tell(self, events: list[Event]) -> None:
        if self._complete is not None and events:
            self._complete(events)
        self._let_go()
