"""Remote handlers as the server knows them: sessions, when they were heard, and what they offer. Part of membership; no
effects.

Rules: specs/remote.md. MEMB-3 silence makes SUSPECT, then LOST. MEMB-12 who left stays known for a while, without
slots.
"""

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush

from attrs import Factory, define

from sz_protocol.commands import HandlerState, HandlerStatus
from sz_protocol.kernel.events import MethodInfo, RemoteHandlersChanged
from sz_protocol.kernel.moves import Moves
from sz_protocol.kernel.now import Now
from sz_protocol.kernel.record import record
from sz_protocol.machines.leases import Key, Lease, LeaseState
from sz_protocol.messages import Bye, Drain, HeldRun, Hello
from sz_protocol.routing import worker_pool
from sz_protocol.settings import Settings

Call = tuple[str, int, int]
"""(handler id, incarnation, nonce): one Hello, however often it comes."""

LISTED_METHODS = 10_000
"""Names of methods in one list of handlers, all handlers together."""


@record
class Joined:
    """Verdict: the first message of a new session came."""


@record
class LeftBehind:
    """Verdict: it had runs when the last life of this node ended, and has not been heard in this one."""


@record
class Heard:
    """Verdict: a message of its session came."""


@record
class Silent:
    """Verdict: it missed its heartbeats."""


@record
class Expired:
    """Verdict: its lease is over."""


@record
class Revoked:
    """Verdict: it may not speak any more."""


MOVES: Moves[HandlerState] = {
    (HandlerState.AWAY, Joined): HandlerState.PRESENT,
    (HandlerState.LOST, Joined): HandlerState.PRESENT,
    (HandlerState.SUSPECT, Joined): HandlerState.PRESENT,
    (HandlerState.PRESENT, Joined): HandlerState.PRESENT,
    (HandlerState.DRAINING, Joined): HandlerState.PRESENT,
    (HandlerState.AWAY, LeftBehind): HandlerState.SUSPECT,
    (HandlerState.PRESENT, Silent): HandlerState.SUSPECT,
    (HandlerState.SUSPECT, Heard): HandlerState.PRESENT,
    (HandlerState.PRESENT, Drain): HandlerState.DRAINING,
    (HandlerState.PRESENT, Expired): HandlerState.LOST,
    (HandlerState.SUSPECT, Expired): HandlerState.LOST,
    (HandlerState.DRAINING, Expired): HandlerState.LOST,
    (HandlerState.PRESENT, Bye): HandlerState.AWAY,
    (HandlerState.DRAINING, Bye): HandlerState.AWAY,
    (HandlerState.PRESENT, Revoked): HandlerState.SUSPECT,
    (HandlerState.SUSPECT, Revoked): HandlerState.SUSPECT,
    (HandlerState.DRAINING, Revoked): HandlerState.SUSPECT,
}
"""A handler that is not known is AWAY. SUSPECT, when it was revoked: its runs have their lease yet."""


@define(eq=False)
class Session:
    """What the server gave to one life of a handler, from its Welcome on; it counts from the first message that it
    carries. `granted` and `sent` count runs from its start (MEMB-5), `beat` is the last that was heard."""

    id: int
    sender: bytes
    key: str
    hello: Hello
    until_us: int
    """While it is only offered: when it is taken back."""
    listed: dict[Key, HeldRun]
    executing: tuple[HeldRun, ...]
    beat: int = 0
    granted: int = 0
    sent: int = 0

    @property
    def call(self) -> Call:
        """What it answers."""
        return call_of(self.hello)


@define(eq=False)
class Worker:
    """One remote handler. `leases` are its runs in the order of their assignment, `unsent` those that wait for credit;
    `gone_us` is until when it is known after it left,
    `watch_us` when it is looked at again."""

    id: str
    state: HandlerState
    since_us: int
    heard_us: int
    hello: Hello | None = None
    key: str = ""
    session: Session | None = None
    leases: dict[Key, Lease] = Factory(dict)
    unsent: deque[Lease] = Factory(deque)
    gone_us: int | None = None
    watch_us: int | None = None
    offers: tuple[MethodInfo, ...] = ()

    @property
    def slots(self) -> int:
        """How many runs it may have at once now."""
        return self.hello.slots if self.hello is not None and self.state is HandlerState.PRESENT else 0

    @property
    def has_live_leases(self) -> bool:
        """Whether it owes the end of a run."""
        return any(lease.state is not LeaseState.REPORTED for lease in self.leases.values())


@define
class Workers:
    """Every handler that is known, and when each has to be looked at again."""

    settings: Settings
    all: dict[str, Worker] = Factory(dict)
    sessions: dict[int, tuple[Worker | None, Session]] = Factory(dict)
    """By id; no worker: it is only offered."""
    offered: dict[Call, Session] = Factory(dict)
    """Offered sessions by what they answer, oldest first."""
    watch: list[tuple[int, str]] = Factory(list)

    def silence_us(self) -> int:
        """So long may a handler be silent before it is suspect."""
        return min(self.settings.missed_beats * self.settings.heartbeat_us, self.settings.lease_us)

    def registered(self) -> int:
        """How many have a session."""
        return len(self.sessions) - len(self.offered)

    def is_heard(self, worker: Worker, now: Now) -> bool:
        """Whether somebody is there under that name."""
        return worker.session is not None and now.mono_us < worker.heard_us + self.silence_us()

    def forget_offer(self, session: Session) -> None:
        """Take back a session that nobody used."""
        del self.offered[session.call], self.sessions[session.id]

    def end_session(self, worker: Worker) -> None:
        """Whoever speaks in it from here on is a stranger."""
        if worker.session is not None:
            del self.sessions[worker.session.id]
            worker.session = None

    def forget_if_gone(self, worker: Worker) -> None:
        """A handler that left long ago is forgotten when the last of its results is settled."""
        gone = worker.state in (HandlerState.AWAY, HandlerState.LOST) and worker.gone_us is None
        if gone and not worker.leases and worker.session is None:
            self.all.pop(worker.id, None)

    # --- when to look again -----------------------------------------------------------------------------------

    def due_us(self, worker: Worker) -> int | None:
        """When something about a handler is over, unless it is heard before."""
        match worker.state:
            case HandlerState.PRESENT:
                return worker.heard_us + self.silence_us()
            case HandlerState.SUSPECT | HandlerState.DRAINING:
                return worker.heard_us + self.settings.lease_us
            case HandlerState.AWAY if worker.has_live_leases:
                return worker.heard_us + self.settings.lease_us
            case _:
                return worker.gone_us

    def look_again(self, worker: Worker) -> None:
        """See to it that its next deadline is not missed."""
        due_us = self.due_us(worker)
        if due_us is not None and (worker.watch_us is None or due_us < worker.watch_us):
            worker.watch_us = due_us
            heappush(self.watch, (due_us, worker.id))

    def pop_due(self, now: Now) -> list[Worker]:
        """Handlers whose deadlines have passed. Most were heard since, and are only looked at again later."""
        found: list[Worker] = []
        while self.watch and self.watch[0][0] <= now.mono_us:
            at_us, name = heappop(self.watch)
            worker = self.all.get(name)
            if worker is None or worker.watch_us != at_us:
                continue
            worker.watch_us = None
            due_us = self.due_us(worker)
            if due_us is not None and due_us <= now.mono_us:
                found.append(worker)
            else:
                self.look_again(worker)
        return found

    # --- what they offer --------------------------------------------------------------------------------------

    def changed(self, expecting: bool) -> RemoteHandlersChanged:
        """What can be executed elsewhere from now on."""
        offering = [worker for worker in self.all.values() if worker.offers]
        return RemoteHandlersChanged(
            tuple(info for worker in offering for info in worker.offers),
            tuple((worker_pool(worker.id), worker.slots) for worker in offering),
            expecting,
        )

    def listing(self, now: Now) -> tuple[HandlerStatus, ...]:
        """All of them, for a person."""
        known = sorted(self.all)
        most = max(LISTED_METHODS // max(len(known), 1), 1)
        return tuple(_status(self.all[name], now, most) for name in known)


def call_of(hello: Hello) -> Call:
    """Which Hello of which start of which handler."""
    return hello.handler_id, hello.incarnation, hello.nonce


def offers_of(hello: Hello) -> tuple[MethodInfo, ...]:
    """The methods of a handler as execution sees them."""
    pool, tags = worker_pool(hello.handler_id), tuple(sorted(hello.tags.items()))
    return tuple(
        MethodInfo(hello.handler_id, offer.method, pool, offer.concurrency, hello.handler_id, tags)
        for offer in hello.methods
    )


def keys_of(leases: Iterable[Lease]) -> tuple[Key, ...]:
    """Their names."""
    return tuple(lease.key for lease in leases)


def _status(worker: Worker, now: Now, most: int) -> HandlerStatus:
    hello = worker.hello
    return HandlerStatus(
        worker.id,
        worker.state,
        worker.since_us,
        now.mono_us - worker.heard_us,
        () if hello is None else tuple(offer.method for offer in hello.methods[:most]),
        {} if hello is None else hello.tags,
        0 if hello is None else hello.slots,
        len(worker.leases),
        worker.key,
        "" if hello is None else hello.software,
        0 if worker.session is None else worker.session.id,
    )
