"""Runs on their way to a remote handler and back: one lease each, from its assignment until execution has settled it.
Part of membership; no effects.

Rules: specs/remote.md. MEMB-7 what is not answered is handed over again. MEMB-8 nothing is forgotten, and nothing
acknowledged, before execution has settled it.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from heapq import heappop, heappush
from itertools import islice

from attrs import Factory, define

from sz_protocol.commands import RunNote
from sz_protocol.kernel.effects import CancelReason, StartRun
from sz_protocol.kernel.moves import Moves, allows, move
from sz_protocol.kernel.now import Now
from sz_protocol.kernel.record import record
from sz_protocol.messages import Accept, Dispatch, DispatchedRun, HeldRun, Hello, RunReport

Key = tuple[int, int]
"""(row, attempt)."""

BATCH = 256
"""Runs in one Dispatch."""
BATCH_WEIGHT = 1 << 20
"""What their params may weigh together, in bytes on the wire."""
MOST_WEIGHT = 3 << 20
"""A run that weighs more fits into no frame."""
SETTLED = 10_000
"""Results that are remembered as settled, in each of two generations."""


class LeaseState(Enum):
    """QUEUED was not begun, whatever was sent. SENT is on its way. ACCEPTED is with the handler. LEFT was with the
    handler when the last life of this node ended. ORPHANED is exclusive, and was with a life of the handler that
    another one has replaced. REPORTED has its result, which execution has not settled yet."""

    QUEUED = auto()
    SENT = auto()
    ACCEPTED = auto()
    LEFT = auto()
    ORPHANED = auto()
    REPORTED = auto()


@record
class Replaced:
    """Verdict: another life of the handler is here, and does not have it; the old one may be executing it yet."""


MOVES: Moves[LeaseState] = {
    (LeaseState.QUEUED, Dispatch): LeaseState.SENT,
    (LeaseState.SENT, Dispatch): LeaseState.SENT,
    (LeaseState.QUEUED, Accept): LeaseState.ACCEPTED,
    (LeaseState.SENT, Accept): LeaseState.ACCEPTED,
    (LeaseState.ACCEPTED, Accept): LeaseState.ACCEPTED,
    (LeaseState.LEFT, Accept): LeaseState.ACCEPTED,
    (LeaseState.QUEUED, HeldRun): LeaseState.ACCEPTED,
    (LeaseState.SENT, HeldRun): LeaseState.ACCEPTED,
    (LeaseState.ACCEPTED, HeldRun): LeaseState.ACCEPTED,
    (LeaseState.LEFT, HeldRun): LeaseState.ACCEPTED,
    (LeaseState.ORPHANED, HeldRun): LeaseState.ACCEPTED,
    (LeaseState.SENT, Replaced): LeaseState.ORPHANED,
    (LeaseState.ACCEPTED, Replaced): LeaseState.ORPHANED,
    (LeaseState.LEFT, Replaced): LeaseState.ORPHANED,
    # A new session of the same life does not list it: it was not begun, and since that life has let go of the session
    # in which it was sent, it will not be.
    (LeaseState.SENT, Hello): LeaseState.QUEUED,
    (LeaseState.QUEUED, RunReport): LeaseState.REPORTED,
    (LeaseState.SENT, RunReport): LeaseState.REPORTED,
    (LeaseState.ACCEPTED, RunReport): LeaseState.REPORTED,
    (LeaseState.LEFT, RunReport): LeaseState.REPORTED,
    (LeaseState.ORPHANED, RunReport): LeaseState.REPORTED,
}
"""What is refused, returned, vanished or settled has no lease any more."""


# Not frozen, as an exception: four moves a run, on the hot path.
@define(eq=False)
class Lease:
    """One attempt of one run with one worker. `first` and `delivery` are the numbers of its first and its latest
    hand-over (0: none in this life), `since_us` (UTC) is when it was first sent (0: nobody knows). `due_us` is when it
    is looked at again if it still is in its state then, `stop_due_us` when it is asked to stop again (0: never)."""

    worker: str
    row: int
    attempt: int
    fence: int
    state: LeaseState
    start: StartRun | None = None
    exclusive: bool = False
    run_id: str = ""
    weight: int = 0
    first: int = 0
    delivery: int = 0
    since_us: int = 0
    due_us: int = 0
    stop: CancelReason | None = None
    stop_due_us: int = 0
    note: str = ""
    percent: int | None = None

    @property
    def key(self) -> Key:
        """Its name on the wire."""
        return self.row, self.attempt

    def is_of(self, fence: int, run_id: str) -> bool:
        """Whether a handler that names this fence and this run means it: after the loss of a ledger another run may
        have the same numbers."""
        return self.fence == fence and (not run_id or not self.run_id or self.run_id == run_id)

    def allows(self, event: object) -> bool:
        """Whether it may go on so."""
        return allows(MOVES, self.state, event)

    def move(self, event: object) -> None:
        """Go on."""
        self.state = move(MOVES, self.state, event)

    @property
    def was_sent(self) -> bool:
        """Whether a handler may know of it."""
        return self.delivery > 0 or self.start is None

    def is_late(self, now: Now) -> bool:
        """Whether its time is over before it could be begun."""
        deadline_us = None if self.start is None else self.start.deadline_us
        return deadline_us is not None and deadline_us <= now.mono_us

    def is_hand_over(self, delivery: int) -> bool:
        """Whether this life of the node handed it over under that number."""
        return self.first <= delivery <= self.delivery


@define
class Leases:
    """Every lease by its key, and what has to be said again while no answer comes: an entry with another time than its
    lease has is void, so that each is looked at once, however often it changed its state meanwhile. `settled` remembers
    the fences of what was settled lately, in two generations, so that it stays bounded."""

    redeliver_us: int
    patience_us: int
    all: dict[Key, Lease] = Factory(dict)
    last_delivery: int = 0
    settled: dict[Key, int] = Factory(dict)
    settled_before: dict[Key, int] = Factory(dict)
    unanswered: deque[tuple[int, tuple[Lease, ...]]] = Factory(deque)
    """(when to send again, what): in that order, since the wait is the same for all."""
    stops: deque[tuple[int, Lease]] = Factory(deque)
    """(when to ask again, what)."""
    waiting: deque[tuple[int, Lease]] = Factory(deque)
    """(when to wait for credit no longer, what)."""
    orphans: list[tuple[int, int, Lease]] = Factory(list)
    """A heap of (when the lease of its old life is over, fence, what)."""

    def add(self, lease: Lease) -> None:
        """A run begins its way."""
        assert lease.key not in self.all, "one lease for each attempt"
        self.all[lease.key] = lease

    def drop(self, lease: Lease) -> None:
        """It has ended, one way or the other."""
        if self.all.get(lease.key) is lease:
            del self.all[lease.key]

    def progress(self, most: int) -> tuple[RunNote, ...]:
        """What was heard of how far they are."""
        told = (lease for lease in self.all.values() if lease.note or lease.percent is not None)
        return tuple(
            RunNote(lease.run_id, lease.attempt, lease.worker, lease.note, lease.percent)
            for lease in islice(told, most)
        )

    def lives(self, lease: Lease) -> bool:
        """Whether it is still on its way."""
        return self.all.get(lease.key) is lease

    def hand_over(self, leases: Iterable[Lease], now: Now) -> tuple[DispatchedRun, ...]:
        """Number the hand-overs of one Dispatch, and look again later whether it was answered."""
        handed = tuple(leases)
        self.look_again(handed, now)
        return tuple(self._dispatched(lease, now) for lease in handed)

    def _dispatched(self, lease: Lease, now: Now) -> DispatchedRun:
        start = lease.start
        assert start is not None, "MEMB-7: what an earlier life sent cannot be sent again"
        self.last_delivery += 1
        lease.delivery = self.last_delivery
        if not lease.first:
            lease.first, lease.since_us = lease.delivery, now.utc_us
        return DispatchedRun(
            start.row,
            start.attempt,
            lease.delivery,
            lease.fence,
            start.run_id,
            start.schedule_id,
            start.method,
            start.fire_us,
            start.kind,
            start.params,
            # What is over already is being stopped: the handler is told at once.
            None if start.deadline_us is None else max(start.deadline_us - now.mono_us, 1),
            start.at_most_once,
            start.exclusive,
            start.labels,
        )

    def look_again(self, leases: Iterable[Lease], now: Now) -> None:
        """Look again later whether they were answered."""
        due_us, unanswered = now.mono_us + self.redeliver_us, tuple(leases)
        for lease in unanswered:
            lease.due_us = due_us
        self.unanswered.append((due_us, unanswered))

    def ask_to_stop(self, lease: Lease, now: Now) -> None:
        """Look again later whether it has ended."""
        lease.stop_due_us = now.mono_us + self.redeliver_us
        self.stops.append((lease.stop_due_us, lease))

    def wait_for_credit(self, leases: Iterable[Lease], now: Now) -> None:
        """Look again later whether they could be sent."""
        due_us = now.mono_us + self.patience_us
        for lease in leases:
            lease.due_us = due_us
            self.waiting.append((due_us, lease))

    def _falls_due(self, lease: Lease, state: LeaseState, due_us: int) -> bool:
        """Whether this is what is looked at now, and not an entry of an earlier time in the same state."""
        if lease.state is not state or lease.due_us != due_us or not self.lives(lease):
            return False
        lease.due_us = 0
        return True

    def pop_unanswered(self, now: Now) -> list[Lease]:
        """What was sent long enough ago and not answered."""
        found: list[Lease] = []
        while self.unanswered and self.unanswered[0][0] <= now.mono_us:
            due_us, sent = self.unanswered.popleft()
            found += [lease for lease in sent if self._falls_due(lease, LeaseState.SENT, due_us)]
        return found

    def pop_stops(self, now: Now) -> list[Lease]:
        """What was asked to stop long enough ago and has not ended."""
        found: list[Lease] = []
        while self.stops and self.stops[0][0] <= now.mono_us:
            due_us, lease = self.stops.popleft()
            if lease.state is not LeaseState.REPORTED and lease.stop_due_us == due_us and self.lives(lease):
                lease.stop_due_us = 0
                found.append(lease)
        return found

    def pop_waiting(self, now: Now) -> list[Lease]:
        """What has waited for credit long enough."""
        found: list[Lease] = []
        while self.waiting and self.waiting[0][0] <= now.mono_us:
            due_us, lease = self.waiting.popleft()
            if self._falls_due(lease, LeaseState.QUEUED, due_us):
                found.append(lease)
        return found

    def orphan(self, lease: Lease, until_us: int) -> None:
        """Its old life has it until then."""
        lease.move(Replaced())
        lease.due_us = until_us
        heappush(self.orphans, (until_us, lease.fence, lease))

    def pop_orphans(self, now: Now) -> list[Lease]:
        """What no old life can be executing any more."""
        found: list[Lease] = []
        while self.orphans and self.orphans[0][0] <= now.mono_us:
            due_us, _, lease = heappop(self.orphans)
            if self._falls_due(lease, LeaseState.ORPHANED, due_us):
                found.append(lease)
        return found

    def next_us(self) -> int | None:
        """When something of all this may have to be done."""
        heads: list[int] = []
        if self.unanswered:
            heads.append(self.unanswered[0][0])
        if self.stops:
            heads.append(self.stops[0][0])
        if self.waiting:
            heads.append(self.waiting[0][0])
        if self.orphans:
            heads.append(self.orphans[0][0])
        return min(heads) if heads else None

    # --- what was settled -------------------------------------------------------------------------------------

    def remember(self, lease: Lease) -> None:
        """Its result is settled; a copy that comes now is a duplicate."""
        self.settled[lease.key] = lease.fence
        if len(self.settled) >= SETTLED:
            self.settled_before, self.settled = self.settled, {}

    def is_remembered(self, key: Key) -> bool:
        """Whether a result of this attempt was settled a while ago."""
        return key in self.settled or key in self.settled_before

    def was_settled(self, key: Key, fence: int) -> bool:
        """Whether this very result was settled a while ago."""
        found = self.settled.get(key) or self.settled_before.get(key)
        return found == fence


def weigh(value: object) -> int:
    """What a plain value takes on the wire, at most (and a little more)."""
    if isinstance(value, str):
        return 5 + (len(value) if value.isascii() else 4 * len(value))
    if isinstance(value, dict):
        return 5 + sum(weigh(key) + weigh(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return 5 + sum(weigh(item) for item in value)
    return 9
