"""When schedules fire. Keeps in memory only what is due soon, decides due work in slices, and lets a cursor advance
only together with the ledger rows that account for it.

Rules: specs/scheduling.md. SCHED-1 a cursor never regresses. SCHED-2 rows and cursor are one write. SCHED-3 nothing
fires before `nominal + spread`. SCHED-4 nothing fires before the runs of the previous life are accounted for.
SCHED-5 a schedule that cannot advance stands still alone. SCHED-6 memory follows due work, not stored schedules.
SCHED-7 what a person decided about a pause holds for the instants that passed in it, and for no others. SCHED-8 a due
time that was stored under other zone data fires nothing: it is computed anew first. SCHED-9 an older state of a
schedule that is told of late never hides a newer one, nor brings it back.
"""

from enum import Enum, auto
from typing import Final

from attrs import Factory, define

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
    SettleWanted,
    Started,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.moves import Moves, allows, move
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.kernel.record import record
from sz_protocol.machines.backlog import decide_backlog, rules_at
from sz_protocol.machines.due_queue import DueQueue
from sz_protocol.notices import Ignored
from sz_protocol.ops import Ops
from sz_protocol.policy import Passed, Verdict, decide_misfire, never_misfires, no_such_method, spread_offset
from sz_protocol.queries import DueSchedules, SchedulesById
from sz_protocol.records import UNSETTLED_US, Schedule, ScheduleState, run_key
from sz_protocol.routing import Routes
from sz_protocol.settings import Settings
from sz_protocol.triggers import CannotAdvance, Unreadable, next_fire, nominal_key


class SchedulingState(Enum):
    """IDLE before the start, RECOVERING until the last life's runs are known, FIRING, then STOPPED."""

    IDLE = auto()
    RECOVERING = auto()
    FIRING = auto()
    STOPPED = auto()


# Bound once, as in records.py.
_FIRING: Final = SchedulingState.FIRING
_BACKLOG: Final = WakeReason.BACKLOG
_PAGE: Final = WakeReason.PAGE
_DUE: Final = WakeReason.DUE
_ACTIVE: Final = ScheduleState.ACTIVE


MOVES: Moves[SchedulingState] = {
    (SchedulingState.IDLE, Started): SchedulingState.RECOVERING,
    (SchedulingState.RECOVERING, RunsRecovered): SchedulingState.FIRING,
    (SchedulingState.IDLE, StopRequested): SchedulingState.STOPPED,
    (SchedulingState.RECOVERING, StopRequested): SchedulingState.STOPPED,
    (SchedulingState.FIRING, StopRequested): SchedulingState.STOPPED,
    (SchedulingState.STOPPED, RunsRecovered): SchedulingState.STOPPED,
    (SchedulingState.STOPPED, StopRequested): SchedulingState.STOPPED,
}


Standing = tuple[int, int]
"""(rev, cursor): of two states of a schedule the greater one is the newer."""


@record
class Paged:
    """A schedule in memory, with its cursor where the decisions made so far have carried it."""

    schedule: Schedule
    cursor_us: int
    due_us: int
    spread_us: int
    key: bytes = b""
    """The run key of what is due, where one instant is executed whenever its turn comes; then `following_us` is the
    fire after it. Found out ahead of time, so that less is to be done when many are due at once."""
    following_us: int | None = None


@define
class Scheduling:
    """Decides due work. Emits reads; its decisions leave as `FiringsDecided` in `outbox`, for execution to write."""

    settings: Settings
    ops: Ops
    state: SchedulingState = SchedulingState.IDLE
    routes: Routes | None = None
    paged: dict[str, Paged] = Factory(dict)
    due: DueQueue = Factory(DueQueue)
    position: tuple[int, str] = (-1, "")
    """Every ACTIVE schedule at or before this place in (due, id) order is in memory, unless it is being read."""
    target_us: int = -1
    """How far the pages that were asked for reach."""
    page_op: int | None = None
    left: dict[str, Standing] = Factory(dict)
    """Those that memory let go of while a page was on its way, and where they stood."""
    reload_ops: dict[int, tuple[str, ...]] = Factory(dict)
    reload_ids: dict[str, None] = Factory(dict)
    in_flight: int = 0
    troubled_until_us: int | None = None
    trouble_us: int = 0
    unfit: dict[tuple[ScheduleState, str], list[str]] = Factory(dict)
    """What the slice at hand found unable to fire: (state to enter, reason) -> ids. ACTIVE: to be settled first."""
    outbox: list[FiringsDecided | ParkWanted | SettleWanted] = Factory(list)
    plain: tuple[Verdict] = (Verdict(0),)
    """The verdict of the last instant that was simply to be executed: many schedules are due at one instant."""

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact. Nothing here expires by itself: due work waits for `Woke`."""
        if self.troubled_until_us is not None and now.mono_us >= self.troubled_until_us:
            self.troubled_until_us = None
        match event:
            case Woke():
                return self._on_woke(now)
            case ReadDone(op=op, rows=rows):
                return self._on_rows(op, rows, now)
            case ReadFailed(op=op):
                return self._on_read_failed(op, now)
            case FiringsSettled(monotonic=False):
                self.in_flight -= 1
                self.trouble_us = 0
            case FiringsUndone(schedule_ids=ids, unavailable=unavailable, monotonic=False):
                self._on_undone(ids, unavailable, now)
            case SchedulesStored(schedules=schedules):
                for schedule in schedules:
                    self._adopt(schedule)
            case HandlersChanged():
                self.routes = Routes(event) if self.routes is None else self.routes.after(event)
            case Started() | RunsRecovered() | StopRequested():
                return self._on_life(event)
            case _:
                pass
        return []

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The next due time, page or retry; BACKLOG while due work waits and may be decided."""
        if self.state is not _FIRING or self.routes is None:
            return None
        if self.troubled_until_us is not None:
            return Wakeup(max(self.troubled_until_us, now.mono_us + 1), WakeReason.RETRY)
        if self.reload_ids and not self.reload_ops:
            return Wakeup(now.mono_us, _BACKLOG)
        if self.in_flight >= self.settings.writes_in_flight:
            return None
        self._trim()
        if not now.trusted:
            return None
        due_us = self.due.instants[0] if self.due.instants else None
        if (due_us is not None and due_us <= now.utc_us) or self._wants_page(now):
            return Wakeup(now.mono_us, _BACKLOG)
        page_us = self.target_us - self.settings.horizon_us // 2
        if (due_us is None or page_us < due_us) and self.page_op is None and not self._crowded():
            return Wakeup(now.mono_us + page_us - now.utc_us, _PAGE)
        if due_us is None:
            return None
        return Wakeup(now.mono_us + due_us - now.utc_us, _DUE)

    # --- life -------------------------------------------------------------------------------------------------

    def _on_life(self, event: Event) -> list[Effect]:
        if not allows(MOVES, self.state, event):
            return [Publish(Ignored(type(event).__name__, f"scheduling is {self.state.name}"))]
        self.state = move(MOVES, self.state, event)
        return []

    # --- due work ---------------------------------------------------------------------------------------------

    def _on_woke(self, now: Now) -> list[Effect]:
        if self.state is not _FIRING or self.routes is None or self.troubled_until_us is not None:
            return []
        effects = self._reload() if self.reload_ids else []
        if not now.trusted:
            return effects
        if self._wants_page(now):
            # Never in one call with a slice: the page has to be read behind the writes of everything decided so far.
            return effects + self._page(now)
        if self.in_flight < self.settings.writes_in_flight:
            firings = self._slice(now)
            if firings:
                self.in_flight += 1
                self.outbox.append(FiringsDecided(tuple(firings)))
            if self.unfit:
                self._ask_to_mend()
        return effects

    def _ask_to_mend(self) -> None:
        for (state, reason), ids in self.unfit.items():
            settle = state is _ACTIVE
            self.outbox.append(SettleWanted(tuple(ids)) if settle else ParkWanted(tuple(ids), state, reason))
        self.unfit.clear()

    def _slice(self, now: Now) -> list[Firing]:
        """Decide due schedules until the slice is full; the rest stays a backlog, strictly smaller."""
        firings: list[Firing] = []
        room = self.settings.slice_instants
        due, instants, everyone = self.due, self.due.instants, self.paged
        while instants and instants[0] <= now.utc_us and room > 0:
            due_us, schedule_id = due.pop()
            paged = everyone.get(schedule_id)
            if paged is None or paged.due_us != due_us:
                continue
            firing = self._decide(paged, now)
            if firing is None:
                self._let_go(schedule_id, (paged.schedule.rev, paged.cursor_us))
                room -= 1
                continue
            room -= len(firing.verdicts)
            firings.append(firing)
            self._advance(paged, firing)
        return firings

    def _decide(self, paged: Paged, now: Now) -> Firing | None:
        """What became due of one schedule; None when it cannot fire as it stands."""
        definition = paged.schedule.definition
        if paged.due_us == UNSETTLED_US:
            self._set_aside(paged, ScheduleState.ACTIVE, "")
            return None
        if self.routes is not None and not self.routes.lets_fire(definition):
            self._set_aside(paged, ScheduleState.PARKED, no_such_method(definition))
            return None
        spread_us = paged.spread_us
        fire_us, until_us = paged.due_us - spread_us, now.utc_us - spread_us
        try:
            following = paged.following_us if paged.key else next_fire(definition.trigger, fire_us)
            if fire_us <= until_us - definition.misfire.window_us or (following is not None and following <= until_us):
                return self._decide_backlog(paged, now)
        except CannotAdvance as stuck:
            self._set_aside(paged, ScheduleState.QUARANTINED, str(stuck))
            return None
        if paged.key:
            if self.plain[0].fire_us != fire_us:
                self.plain = (Verdict(fire_us),)
            verdicts: tuple[Verdict, ...] = self.plain
        else:
            rules = rules_at(paged.schedule, fire_us)
            verdicts = tuple(decide_misfire(*rules, Passed((fire_us,)), now.utc_us, spread_us))
        next_due_us = None if following is None else following + spread_us
        return Firing(paged.schedule, verdicts, paged.cursor_us, fire_us, next_due_us, paged.key)

    def _set_aside(self, paged: Paged, state: ScheduleState, reason: str) -> None:
        self.unfit.setdefault((state, reason), []).append(paged.schedule.id)

    def _decide_backlog(self, paged: Paged, now: Now) -> Firing:
        """Several instants passed."""
        until_us, cap = now.utc_us - paged.spread_us, self.settings.enumerate_instants
        decided = decide_backlog(paged.schedule, paged.cursor_us, until_us, cap, now.utc_us, paged.spread_us)
        next_due_us = None if decided.following_us is None else decided.following_us + paged.spread_us
        return Firing(paged.schedule, decided.verdicts, paged.cursor_us, decided.newest_us, next_due_us)

    def _advance(self, paged: Paged, firing: Firing) -> None:
        assert firing.cursor_us > paged.cursor_us, "SCHED-1: cursor regressed"
        schedule_id = paged.schedule.definition.id
        due_us = firing.next_due_us
        if due_us is not None and self._within_reach(due_us, schedule_id):
            self.paged[schedule_id] = _paged(paged.schedule, firing.cursor_us, due_us, paged.spread_us)
            self.due.push(due_us, schedule_id)
        else:
            self._let_go(schedule_id, (paged.schedule.rev, firing.cursor_us))

    def _let_go(self, schedule_id: str, stood: Standing) -> None:
        """It is not in memory any more. A page on its way may show it as it was before that, and must not bring it back
        (SCHED-9)."""
        self.paged.pop(schedule_id, None)
        if self.page_op is not None:
            self.left[schedule_id] = max(self.left.get(schedule_id, stood), stood)

    # --- paging -----------------------------------------------------------------------------------------------

    def _wants_page(self, now: Now) -> bool:
        """Whether what is in memory does not reach far enough, and is not a crowd already."""
        if self.page_op is not None or self._crowded():
            return False
        return self.position[0] < self.target_us or self.target_us - self.settings.horizon_us // 2 <= now.utc_us

    def _crowded(self) -> bool:
        """Those in memory are due before all others, so a crowd may be served before the next page is read."""
        return len(self.paged) > self.settings.crowd_schedules

    def _within_reach(self, due_us: int, schedule_id: str) -> bool:
        """Whether a schedule belongs in memory. A page on its way was read before this decision is written, so what
        falls into its range has to stay, or nobody would ever see it again."""
        last_us, last_id = self.position
        if due_us < last_us or (due_us == last_us and schedule_id <= last_id):
            return True
        return self.page_op is not None and due_us <= self.target_us

    def _page(self, now: Now) -> list[Effect]:
        if self.position[0] >= self.target_us:
            self.target_us = now.utc_us + self.settings.horizon_us
        self.page_op = self.ops.next()
        return [Read(self.page_op, DueSchedules(self.target_us, self.position, self.settings.page_rows))]

    def _on_rows(self, op: int, rows: tuple[Schedule, ...], now: Now) -> list[Effect]:
        if op == self.page_op:
            self.page_op = None
            if len(rows) < self.settings.page_rows:
                # Everything up to the target is here; ids sort after "", so the place is just past it.
                self.position = max(self.position, (self.target_us + 1, ""))
            else:
                last = rows[-1]
                assert last.next_due_us is not None, "SCHED-6: a page holds schedules that are due"
                self.position = (last.next_due_us, last.id)
            left, self.left = self.left, {}
            paged, reloading = self.paged, self.reload_ids
            for schedule in rows:
                name = schedule.definition.id
                if name in reloading:
                    continue
                # What is, or was, in memory is newer than the page, since decisions may be on their way to the store;
                # but for an edit of which nobody has told yet.
                known, stood = paged.get(name), left.get(name) if left else None
                if known is not None:
                    if known.schedule.rev < schedule.rev:
                        self._adopt(schedule)
                elif stood is None or stood < (schedule.rev, schedule.cursor_us):
                    self._adopt(schedule)
        elif op in self.reload_ops:
            del self.reload_ops[op]
            for schedule in rows:
                known = self.paged.get(schedule.id)
                # An edit may have been told of after these rows were read: what is older must not undo it.
                if known is None or known.schedule.rev <= schedule.rev:
                    self._adopt(schedule)
        return []

    def _on_read_failed(self, op: int, now: Now) -> list[Effect]:
        if op == self.page_op:
            self.page_op = None
            self.left.clear()
            self._trouble(now)
        elif op in self.reload_ops:
            for schedule_id in self.reload_ops.pop(op):
                self.reload_ids[schedule_id] = None
            self._trouble(now)
        return []

    def _adopt(self, schedule: Schedule) -> None:
        """Take a schedule as the store has it; forget it when it is not to fire within reach. An older
        revision says nothing about a newer one (SCHED-9)."""
        due_us, definition = schedule.next_due_us, schedule.definition
        name = definition.id
        known = self.paged.get(name)
        if known is not None and known.schedule.rev > schedule.rev:
            return
        if schedule.state is not _ACTIVE or due_us is None or not self._within_reach(due_us, name):
            # One that is to be read again still is: this may not be its newest revision.
            self._let_go(name, (schedule.rev, schedule.cursor_us))
            return
        if self.reload_ids:
            self.reload_ids.pop(name, None)
        spread_us = spread_offset(schedule.uid, definition.spread_us) if definition.spread_us else 0
        if due_us != UNSETTLED_US and not _is_next(schedule, due_us - spread_us):
            # SCHED-8: stored under other zone data. To be brought right first, wherever its due time really lies.
            due_us = UNSETTLED_US
        self.paged[name] = _paged(schedule, schedule.cursor_us, due_us, spread_us)
        self.due.push(due_us, name)

    # --- the store's troubles ---------------------------------------------------------------------------------

    def _on_undone(self, ids: tuple[str, ...], unavailable: bool, now: Now) -> None:
        self.in_flight -= 1
        for schedule_id in ids:
            self.paged.pop(schedule_id, None)
            self.reload_ids[schedule_id] = None
        if unavailable:
            self._trouble(now)

    def _trouble(self, now: Now) -> None:
        self.trouble_us = min(max(self.trouble_us * 2, self.settings.store_retry_us), self.settings.store_retry_max_us)
        self.troubled_until_us = now.mono_us + self.trouble_us

    def _reload(self) -> list[Effect]:
        if not self.reload_ids or self.reload_ops:
            return []
        op, ids = self.ops.next(), tuple(self.reload_ids)[: self.settings.page_rows]
        for schedule_id in ids:
            del self.reload_ids[schedule_id]
        self.reload_ops[op] = ids
        return [Read(op, SchedulesById(ids))]

    def _trim(self) -> None:
        """Drop entries whose schedule moved on, so that the first tells the truth."""
        due = self.due
        while due:
            due_us, schedule_id = due.first()
            paged = self.paged.get(schedule_id)
            if paged is not None and paged.due_us == due_us:
                return
            due.pop()


def _paged(schedule: Schedule, cursor_us: int, due_us: int, spread_us: int) -> Paged:
    """A schedule for memory, with what can be said ahead of the time at which it is due."""
    definition = schedule.definition
    if due_us != UNSETTLED_US and schedule.catch_up is None and never_misfires(definition.misfire):
        fire_us = due_us - spread_us
        try:
            following_us = next_fire(definition.trigger, fire_us)
        except CannotAdvance:
            pass  # It is set aside when it is due.
        else:
            key = run_key(schedule.uid, nominal_key(definition.trigger, fire_us))
            return Paged(schedule, cursor_us, due_us, spread_us, key, following_us)
    return Paged(schedule, cursor_us, due_us, spread_us)


def _is_next(schedule: Schedule, fire_us: int) -> bool:
    """Whether this is what its trigger fires next after its cursor. One that cannot say is found out when it is due,
    one that cannot be read at once."""
    try:
        return next_fire(schedule.definition.trigger, schedule.cursor_us) == fire_us
    except CannotAdvance:
        return not isinstance(schedule.definition.trigger, Unreadable)
