"""Interval schedules while nobody knows what time it is: a device that booted without a network and without a clock
that it can rely on still does every five minutes what it is to do every five minutes.

Rules: specs/scheduling.md. MONO-1 only while the time is not trusted, and only plain intervals; every other schedule
waits. MONO-2 the k-th fire is k periods after boot on the monotonic clock, named (life, that instant): each has one
row, and an edit of the period neither repeats nor swallows one. MONO-3 what fires so leaves the wall-clock cursor where
it is, and marks the schedule unsettled in the same write: when the time is known, the instants that passed meanwhile
get one row, and none of them is served a second time.
"""

from enum import Enum, auto
from heapq import heappop, heappush
from typing import Final

from attrs import Factory, define, evolve

from sz_protocol.kernel.effects import Effect, Publish, Read
from sz_protocol.kernel.events import (
    Event,
    Firing,
    FiringsDecided,
    FiringsSettled,
    FiringsUndone,
    HandlersChanged,
    ParkWanted,
    ReadDone,
    ReadFailed,
    RunsRecovered,
    SchedulesStored,
    Started,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.moves import Moves, allows, move
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.kernel.record import record
from sz_protocol.notices import Ignored
from sz_protocol.ops import Ops
from sz_protocol.policy import Verdict, no_such_method, spread_offset
from sz_protocol.queries import SchedulesPage
from sz_protocol.records import UNSETTLED_US, Outcome, Reason, Schedule, ScheduleState
from sz_protocol.routing import Routes
from sz_protocol.settings import Settings
from sz_protocol.triggers import Interval


class MonotonicState(Enum):
    """IDLE before the start; RECOVERING until the last life's runs are known; RESTING while the time is trusted;
    TICKING while it is not; STOPPED."""

    IDLE = auto()
    RECOVERING = auto()
    RESTING = auto()
    TICKING = auto()
    STOPPED = auto()


# Bound once, as in records.py.
_TICKING: Final = MonotonicState.TICKING
_RESTING: Final = MonotonicState.RESTING


@record
class Distrusted:
    """Verdict: nobody knows what time it is."""


@record
class Trusted:
    """Verdict: the wall clock may be followed."""


MOVES: Moves[MonotonicState] = {
    (MonotonicState.IDLE, Started): MonotonicState.RECOVERING,
    (MonotonicState.RECOVERING, RunsRecovered): MonotonicState.RESTING,
    (MonotonicState.RESTING, Distrusted): MonotonicState.TICKING,
    (MonotonicState.TICKING, Trusted): MonotonicState.RESTING,
    (MonotonicState.IDLE, StopRequested): MonotonicState.STOPPED,
    (MonotonicState.RECOVERING, StopRequested): MonotonicState.STOPPED,
    (MonotonicState.RESTING, StopRequested): MonotonicState.STOPPED,
    (MonotonicState.TICKING, StopRequested): MonotonicState.STOPPED,
    (MonotonicState.STOPPED, RunsRecovered): MonotonicState.STOPPED,
    (MonotonicState.STOPPED, StopRequested): MonotonicState.STOPPED,
}


@record
class Ticking:
    """A schedule that fires by periods since boot, and the number of the next one."""

    schedule: Schedule
    period_us: int
    spread_us: int
    next_k: int

    @property
    def due_us(self) -> int:
        """On the monotonic clock."""
        return self.next_k * self.period_us + self.spread_us

    def counts_like(self, other: "Ticking") -> bool:
        """Whether a number of one means the same in the other: no edit has changed the period between them."""
        return (self.period_us, self.spread_us) == (other.period_us, other.spread_us)


@define
class Monotonic:
    """Reads all active schedules when trust is lost, keeps the intervals, and decides those that are due; one slice
    at a time is on its way to the store."""

    settings: Settings
    ops: Ops
    state: MonotonicState = MonotonicState.IDLE
    routes: Routes | None = None
    ticking: dict[str, Ticking] = Factory(dict)
    heap: list[tuple[int, str]] = Factory(list)
    listing: SchedulesPage | None = None
    """The page to be read next."""
    op: int | None = None
    retry_at_us: int | None = None
    flight: dict[str, Ticking] | None = None
    """What is on its way to the store, as it was before that."""
    overtaken: bool = False
    """Whether the time was known since that was decided: what of it did not become durable was settled by the wall
    clock, and is not decided again."""
    outbox: list[FiringsDecided | ParkWanted | SchedulesStored] = Factory(list)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Notice whether the time is trusted, then take one fact."""
        if self.state is (_TICKING if now.trusted else _RESTING):
            self._look_at(now)
        if self.retry_at_us is not None and now.mono_us >= self.retry_at_us:
            self.retry_at_us = None
        match event:
            case Woke():
                return self._on_woke(now) if self.state is _TICKING else []
            case ReadDone(op=op, rows=rows) if op == self.op:
                self._on_rows(rows, now)
            case ReadFailed(op=op) if op == self.op:
                self.op = None
                self.retry_at_us = now.mono_us + self.settings.store_retry_us
            case SchedulesStored(schedules=schedules) if self.state is _TICKING:
                for schedule in schedules:
                    self._adopt(schedule, now)
            case FiringsSettled(monotonic=True):
                self._on_settled()
            case FiringsUndone(monotonic=True, unavailable=unavailable):
                self._on_undone(unavailable, now)
            case HandlersChanged():
                self.routes = Routes(event) if self.routes is None else self.routes.after(event)
            case Started() | RunsRecovered() | StopRequested():
                if not allows(MOVES, self.state, event):
                    return [Publish(Ignored(type(event).__name__, f"monotonic is {self.state.name}"))]
                self.state = move(MOVES, self.state, event)
            case _:
                pass
        return []

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The next due period or retry; BACKLOG while some are due, or a page is to be read."""
        state = self.state
        if state is not _TICKING and (now.trusted or state is not _RESTING):
            return None
        if self.retry_at_us is not None:
            return Wakeup(max(self.retry_at_us, now.mono_us + 1), WakeReason.RETRY)
        if state is _RESTING or (self.listing is not None and self.op is None):
            return Wakeup(now.mono_us, WakeReason.BACKLOG)
        self._trim()
        if self.flight is not None or not self.heap or self.routes is None:
            return None
        due_us = self.heap[0][0]
        if due_us <= now.mono_us:
            return Wakeup(now.mono_us, WakeReason.BACKLOG)
        return Wakeup(due_us, WakeReason.DUE)

    def _look_at(self, now: Now) -> None:
        """MONO-1: the time has come to be known, or is known no more."""
        self.state = move(MOVES, self.state, Trusted() if now.trusted else Distrusted())
        self.ticking.clear()
        self.heap.clear()
        self.op = None
        self.overtaken = self.flight is not None
        self.listing = None if now.trusted else self._first_page()

    def _first_page(self) -> SchedulesPage:
        return SchedulesPage(limit=self.settings.page_rows, states=(ScheduleState.ACTIVE,))

    # --- which schedules --------------------------------------------------------------------------------------

    def _on_rows(self, rows: tuple[Schedule, ...], now: Now) -> None:
        self.op = None
        if self.listing is None:
            return
        full = len(rows) == self.settings.page_rows
        self.listing = evolve(self.listing, after_id=rows[-1].id) if full else None
        for schedule in rows:
            self._adopt(schedule, now)

    def _adopt(self, schedule: Schedule, now: Now) -> None:
        """Take a schedule as the store has it, or let go of it. Bounds of an interval speak of wall time. An older
        revision says nothing about a newer one (SCHED-9)."""
        known = self.ticking.get(schedule.id)
        if known is not None:
            if known.schedule.rev > schedule.rev:
                return
            del self.ticking[schedule.id]
        trigger = schedule.definition.trigger
        if schedule.state is not ScheduleState.ACTIVE or not isinstance(trigger, Interval):
            return
        if trigger.start_us is not None or trigger.end_us is not None:
            return
        spread_us = spread_offset(schedule.uid, schedule.definition.spread_us)
        next_k = (now.mono_us - spread_us) // trigger.period_us + 1
        ticking = Ticking(schedule, trigger.period_us, spread_us, next_k)
        if known is not None and known.counts_like(ticking):
            ticking = evolve(ticking, next_k=known.next_k)
        self._keep(ticking)

    def _keep(self, ticking: Ticking) -> None:
        self.ticking[ticking.schedule.id] = ticking
        heappush(self.heap, (ticking.due_us, ticking.schedule.id))

    def _trim(self) -> None:
        while self.heap:
            due_us, schedule_id = self.heap[0]
            ticking = self.ticking.get(schedule_id)
            if ticking is not None and ticking.due_us == due_us:
                return
            heappop(self.heap)

    # --- due work ---------------------------------------------------------------------------------------------

    def _on_woke(self, now: Now) -> list[Effect]:
        if self.retry_at_us is not None:
            return []
        if self.listing is not None and self.op is None:
            self.op = self.ops.next()
            return [Read(self.op, self.listing)]
        if self.flight is None and self.routes is not None:
            self._slice(now, self.routes)
        return []

    def _slice(self, now: Now, routes: Routes) -> None:
        """Decide due schedules until the slice is full. The cursor stays: a move to where it is already marks the
        schedule as unsettled, if nobody has edited it meanwhile (MONO-3)."""
        firings: list[Firing] = []
        flight: dict[str, Ticking] = {}
        parked: dict[str, list[str]] = {}
        room = self.settings.slice_instants
        while self.heap and self.heap[0][0] <= now.mono_us and room > 0:
            due_us, schedule_id = heappop(self.heap)
            ticking = self.ticking.get(schedule_id)
            if ticking is None or ticking.due_us != due_us:
                continue
            room -= 1
            schedule, definition = ticking.schedule, ticking.schedule.definition
            if not routes.lets_fire(definition):
                del self.ticking[schedule_id]
                parked.setdefault(no_such_method(definition), []).append(schedule_id)
                continue
            k = (now.mono_us - ticking.spread_us) // ticking.period_us
            verdicts = _verdicts(ticking, k, self.ops.term, now)
            firings.append(Firing(schedule, verdicts, schedule.cursor_us, schedule.cursor_us, UNSETTLED_US))
            flight[schedule_id] = ticking
            self._keep(evolve(ticking, next_k=k + 1))
        for reason, ids in parked.items():
            self.outbox.append(ParkWanted(tuple(ids), ScheduleState.PARKED, reason))
        if firings:
            self.flight, self.overtaken = flight, False
            self.outbox.append(FiringsDecided(tuple(firings), monotonic=True))

    def _on_settled(self) -> None:
        """Whoever has one of these schedules in memory has to know that it is unsettled now."""
        flight, self.flight = self.flight or {}, None
        stored = [evolve(ticking.schedule, next_due_us=UNSETTLED_US) for ticking in flight.values()]
        marked = [s for s, ticking in zip(stored, flight.values(), strict=True) if s != ticking.schedule]
        if marked:
            self.outbox.append(SchedulesStored(tuple(marked)))

    def _on_undone(self, unavailable: bool, now: Now) -> None:
        """Decide the same periods again, on schedules as they are now."""
        flight, self.flight = self.flight or {}, None
        if self.state is not MonotonicState.TICKING:
            return
        for schedule_id, ticking in flight.items():
            known = self.ticking.get(schedule_id)
            if known is not None and known.counts_like(ticking) and not self.overtaken:
                self._keep(evolve(known, next_k=ticking.next_k))
        self.listing, self.op = self._first_page(), None
        if unavailable:
            self.retry_at_us = now.mono_us + self.settings.store_retry_us


def _verdicts(ticking: Ticking, k: int, term: int, now: Now) -> tuple[Verdict, ...]:
    """The newest period that has come is executed; earlier ones that nobody saw pass share one row (MONO-2)."""

    def fire_us(number: int) -> int:
        return now.utc_us - (now.mono_us - number * ticking.period_us)

    first = ticking.next_k
    # Named by its instant, not by k: the same number of another period is another fire.
    newest = Verdict(fire_us(k), nominal=f"{term}/{k * ticking.period_us}")
    if first == k:
        return (newest,)
    until_us = fire_us(k - 1) if k - 1 > first else None
    name = f"{term}/{first * ticking.period_us}"
    folded = Verdict(fire_us(first), Outcome.SKIPPED, Reason.COALESCED, k - first, until_us, nominal=name)
    return (folded, newest)
