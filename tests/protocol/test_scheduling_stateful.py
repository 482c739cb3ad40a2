"""Scheduling alone, against a store with every kind of answer: pages and slices, edits between them, handlers that come
and go, clocks that step, lives that end. SCHED-1 to SCHED-8, LEDGER-1, POLICY-2; the next timer is never after the next
due time; and at the end every instant that is due has its one row.

Here intervals and dates only: what they name is counted by hand. The rig writes what was decided, as execution does,
and does what is wanted, as catalog does.
"""

from collections import deque
from collections.abc import Callable

from attrs import define, evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sz_protocol.changes import CursorMove, MoveCursors
from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.effects import Effect, Publish, Read, Write
from sz_protocol.kernel.events import (
    Event,
    FailReason,
    Firing,
    FiringsDecided,
    FiringsSettled,
    FiringsUndone,
    HandlersChanged,
    MethodInfo,
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
from sz_protocol.kernel.now import SECOND_US, Now, WakeReason
from sz_protocol.machines.scheduling import Scheduling, SchedulingState
from sz_protocol.notices import Ignored
from sz_protocol.ops import Ops
from sz_protocol.policy import SKIP_GRACE_US, Verdict, spread_offset
from sz_protocol.queries import DueSchedules
from sz_protocol.records import UNSETTLED_US, Schedule, ScheduleState
from sz_protocol.settings import Settings
from sz_protocol.triggers import Date, Interval, Trigger, Unreadable
from sz_runtime.simulation.strategies import misfires
from tests.protocol.harness import T0_US, ModelStore, at

ODD = Settings(
    slice_instants=3,
    horizon_us=60 * SECOND_US,
    page_rows=2,
    crowd_schedules=3,
    writes_in_flight=2,
    enumerate_instants=3,
)
NAMES = "abcdef"
HERE = MethodInfo("h", "m", "pool")
ALL_THERE = HandlersChanged((HERE, MethodInfo("g", "m", "pool")), (("pool", 2),))
SOME_GONE = HandlersChanged((HERE,), (("pool", 2),))
EXPECTING = evolve(SOME_GONE, expecting=True)
STUCK = Unreadable(b"{}", "another version wrote it")
"""It cannot advance. (What searches in vain does not either, and takes long for it: test_scheduling.)"""
FATES = ("true", "true", "true", "away", "done unknown", "lost unknown")
"""How the store answers: what is unknown has happened, or has not."""
triggers = st.one_of(
    st.sampled_from([2, 7, 10, 30, 100]).map(lambda seconds: Interval(seconds * SECOND_US, T0_US)),
    st.integers(-20, 200).map(lambda seconds: Date(T0_US + seconds * SECOND_US)),
    st.just(STUCK),
)
jobs = st.builds(
    Definition,
    st.sampled_from(NAMES),
    st.sampled_from("hhg"),
    st.just("m"),
    triggers,
    misfire=misfires(),
    spread_us=st.sampled_from([0, 0, 3, 20]).map(lambda seconds: seconds * SECOND_US),
)


def instants(trigger: Trigger, after_us: int, until_us: int) -> list[int]:
    """What a trigger names after one instant and up to another."""
    match trigger:
        case Interval(period_us):
            first = after_us - (after_us - T0_US) % period_us + period_us
            return list(range(first, until_us + 1, period_us))
        case Date(at_us):
            return [at_us] if after_us < at_us <= until_us else []
        case _:
            return []


def following(trigger: Trigger, after_us: int) -> int | None:
    """The next one after that."""
    return next(iter(instants(trigger, after_us, after_us + 10_000 * SECOND_US)), None)


def spread_of(schedule: Schedule) -> int:
    return spread_offset(schedule.uid, schedule.definition.spread_us)


def due_of(schedule: Schedule) -> int | None:
    """What is to be stored as its next due time. A stuck one is found out when it is due."""
    if schedule.definition.trigger == STUCK:
        return schedule.cursor_us + 7 * SECOND_US
    next_us = following(schedule.definition.trigger, schedule.cursor_us)
    return None if next_us is None else next_us + spread_of(schedule)


def named(schedule: Schedule, verdict: Verdict) -> list[int]:
    """The instants that one verdict is about."""
    if verdict.until_us is None:
        assert verdict.count == 1
        return [verdict.fire_us]
    found = instants(schedule.definition.trigger, verdict.fire_us - 1, verdict.until_us)
    assert (len(found), found[0], found[-1]) == (verdict.count, verdict.fire_us, verdict.until_us), "a range counts"
    return found


@define
class Slice:
    """A decided slice on its way to the store, in its stream (STORE-4)."""

    firings: tuple[Firing, ...]
    stream: int


class Calendar(RuleBasedStateMachine):
    """Plays everybody round scheduling. The store answers in order; anything else happens whenever it likes."""

    @initialize(first=st.lists(jobs, min_size=2, max_size=6, unique_by=lambda job: job.id))
    def begin(self, first: list[Definition]) -> None:
        self.store = ModelStore()
        self.now = at(0)
        self.ledger: dict[str, dict[int, None]] = {}
        """Instants that are accounted for, durably."""
        self.latest_us = self.now.utc_us
        self.handlers = ALL_THERE
        self.queue: deque[Read | Slice] = deque()
        for job in first:
            self.stored(self.apply(job))
        self.live()

    def live(self) -> None:
        """The next life."""
        self.store.open()
        self.machine = Scheduling(ODD, Ops(self.store.term))
        self.queue.clear()
        self.wishes: list[ParkWanted | SettleWanted] = []
        self.let_go: dict[str, None] = {}
        self.calm = True
        """Nothing was edited and nothing failed in this life. A row that was read for a page while it was edited, or
        read once more, may be older than what was decided since: that costs a refused write, and nothing else."""
        self.stream, self.failed = 1, 0
        self.quiet_until_us = 0
        self.target_us = -1
        self.answered: list[ReadDone] = []
        self.stale = False
        self.give(Started(self.store.term))
        self.give(self.handlers)
        assert not self.queue, "SCHED-4: nothing is read or decided before the last life is accounted for"
        self.give(Woke())
        assert not self.queue, "SCHED-4"
        self.give(RunsRecovered())

    # --- driving ----------------------------------------------------------------------------------------------

    def give(self, event: Event) -> None:
        """Hand over one fact, file the orders and what it has decided, look at when it wants to be woken."""
        self.latest_us = max(self.latest_us, self.now.utc_us)
        effects = self.machine.handle(event, self.now)
        told = list(self.machine.outbox)
        self.machine.outbox.clear()
        firing = self.machine.state is SchedulingState.FIRING
        busy = bool(told) or any(isinstance(effect, Read) for effect in effects)
        assert not busy or (firing and self.now.mono_us >= self.quiet_until_us), "the store is given its pause"
        for effect in effects:
            self.order(effect)
        for decided in told:
            self.hear(decided)
        self.look_at_memory()
        self.look_at_timer()

    def order(self, effect: Effect) -> None:
        match effect:
            case Read(query=query):
                if isinstance(query, DueSchedules):
                    assert query.before_us <= self.latest_us + ODD.horizon_us, "SCHED-6: no further than the horizon"
                    assert query.limit == ODD.page_rows
                    assert len(self.machine.paged) <= ODD.crowd_schedules, "SCHED-6: a crowd is served first"
                    self.target_us = max(self.target_us, query.before_us)
                self.queue.append(effect)
            case Publish(notice=Ignored()):
                pass
            case _:
                raise AssertionError(f"no order of scheduling's: {effect}")

    def hear(self, told: FiringsDecided | ParkWanted | SettleWanted) -> None:
        assert self.now.trusted, "TIME-5: nothing is decided by a clock that nobody trusts"
        if not isinstance(told, FiringsDecided):
            self.judge_wish(told)
            self.wishes.append(told)
            self.let_go.update(dict.fromkeys(told.schedule_ids))
            return
        for one in told.firings:
            self.judge(one)
        rows = [len(one.verdicts) for one in told.firings]
        assert told.firings
        assert sum(rows[:-1]) < ODD.slice_instants, "a slice is bounded"
        self.queue.append(Slice(told.firings, self.stream))
        under_way = [one for one in self.queue if isinstance(one, Slice)]
        assert len(under_way) <= ODD.writes_in_flight

    def judge(self, one: Firing) -> None:
        """LEDGER-1, SCHED-1, SCHED-3, POLICY-2: each instant that the cursor passes has exactly one verdict."""
        schedule, trigger, spread_us = one.schedule, one.schedule.definition.trigger, spread_of(one.schedule)
        assert one.cursor_us > one.from_us, "SCHED-1"
        assert one.cursor_us + spread_us <= self.now.utc_us, "SCHED-3: nothing fires ahead"
        about = [at_us for verdict in one.verdicts for at_us in named(schedule, verdict)]
        assert sorted(about) == instants(trigger, one.from_us, one.cursor_us), "LEDGER-1"
        next_us = following(trigger, one.cursor_us)
        assert one.next_due_us == (None if next_us is None else next_us + spread_us)
        assert not self.stale or schedule.state is ScheduleState.ACTIVE
        if not self.stale:
            stands = self.store.schedules[schedule.id]
            assert stands.rev == schedule.rev, "what was told counts"
            assert schedule.state is ScheduleState.ACTIVE, "what was told counts"
        misfire, kept = schedule.definition.misfire, schedule.catch_up is not None
        grace_us = SKIP_GRACE_US if misfire.grace_us is None else misfire.grace_us
        graceful = misfire.grace_us is not None or misfire.policy is MisfirePolicy.SKIP
        for verdict in one.verdicts:
            late_us = self.now.utc_us - spread_us - verdict.fire_us
            in_pause = kept and verdict.fire_us <= schedule.catch_up_until_us
            if verdict.outcome is None and not in_pause:
                assert not graceful or late_us <= grace_us, "POLICY-2"
            if in_pause and schedule.catch_up is MisfirePolicy.ALL:
                assert verdict.outcome is None or verdict.reason == "limit", "SCHED-7: whoever resumes knows"

    def judge_wish(self, wish: ParkWanted | SettleWanted) -> None:
        for name in wish.schedule_ids:
            row = self.store.schedules[name]
            if self.stale or row.state is not ScheduleState.ACTIVE:
                continue
            trigger = row.definition.trigger
            if isinstance(wish, SettleWanted):
                assert trigger == STUCK or row.next_due_us != due_of(row), "SCHED-8: it is as it should be"
            elif wish.state is ScheduleState.PARKED:
                assert row.definition.handler_id == "g"
                assert self.handlers == SOME_GONE, "ROUTE-3: nobody can execute it, nor will soon"
            else:
                raise AssertionError(f"SCHED-5: {row} can advance")

    def look_at_memory(self) -> None:
        """SCHED-6."""
        for name, paged in self.machine.paged.items():
            assert name in self.store.schedules
            assert paged.due_us <= self.target_us, "SCHED-6: memory holds what is due soon"

    def look_at_timer(self) -> None:
        """It wakes before the first due time, wherever nothing else keeps it from that."""
        machine, now = self.machine, self.now
        wakeup = machine.next_wakeup(now)
        if wakeup is not None and wakeup.reason is not WakeReason.BACKLOG:
            assert wakeup.at_us > now.mono_us, "KERNEL-4: a wake-up lies in the future"
        if machine.state is not SchedulingState.FIRING:
            assert wakeup is None
            return
        slices = [one for one in self.queue if isinstance(one, Slice)]
        retry = wakeup is not None and wakeup.reason is WakeReason.RETRY
        assert retry or now.mono_us >= self.quiet_until_us, "the store is asked again"
        if wakeup is not None and retry:
            pause_us = wakeup.at_us - (self.quiet_until_us - ODD.store_retry_us)
            assert ODD.store_retry_us <= pause_us <= ODD.store_retry_max_us, "a bounded pause after the last failure"
            return
        if len(slices) < len(self.queue) or len(slices) >= ODD.writes_in_flight or not now.trusted:
            return
        dues = {row.id: row.next_due_us for row in self.store.schedules.values() if row.state is ScheduleState.ACTIVE}
        for one in slices:
            for firing in one.firings:
                name = firing.schedule.id
                if name in dues and self.store.schedules[name].rev == firing.schedule.rev:
                    dues[name] = firing.next_due_us
        soonest = min((due for name, due in dues.items() if due is not None and name not in self.let_go), default=None)
        if soonest is not None:
            assert wakeup is not None, "somebody is due and nobody wakes"
            assert wakeup.at_us - now.mono_us <= max(soonest - now.utc_us, 0), "the timer is not after what is due"

    # --- what the store does ----------------------------------------------------------------------------------

    @precondition(lambda self: self.queue)
    @rule(fate=st.sampled_from(FATES))
    def answers(self, fate: str) -> None:
        self.answer(fate)

    def answer(self, fate: str) -> None:
        """The oldest operation."""
        operation = self.queue.popleft()
        if isinstance(operation, Read):
            self.answer_read(operation, fate)
            return
        doomed = operation.stream <= self.failed
        moved = fate in ("true", "done unknown") and not doomed and self.write(operation)
        if moved and fate == "true":
            self.give(FiringsSettled())
            return
        # Nothing decided on top of what did not happen may happen; what is decided from here on may.
        self.failed = max(self.failed, operation.stream)
        self.stream = self.failed + 1
        unavailable = fate != "true" and not doomed
        names = tuple(dict.fromkeys(one.schedule.id for one in operation.firings))
        if unavailable:
            self.rest()
        self.calm = False
        self.give(FiringsUndone(names, unavailable))

    def answer_read(self, read: Read, fate: str) -> None:
        if fate == "true":
            done = ReadDone(read.op, self.store.read(read.query))
            self.answered.append(done)
            self.give(done)
        else:
            self.rest()
            self.give(ReadFailed(read.op, FailReason.UNAVAILABLE))

    def rest(self) -> None:
        if self.machine.state is SchedulingState.FIRING:
            self.quiet_until_us = max(self.quiet_until_us, self.now.mono_us + ODD.store_retry_us)

    def write(self, decided: Slice) -> bool:
        """SCHED-2: rows and cursors, or nothing. Only an edit may have come between."""
        edited = any(self.store.schedules[one.schedule.id].rev != one.schedule.rev for one in decided.firings)
        moves = [
            CursorMove(one.schedule.id, one.schedule.rev, one.from_us, one.cursor_us, one.next_due_us)
            for one in decided.firings
        ]
        written = self.store.write(Write(1, (MoveCursors(tuple(moves)),), self.store.term))
        done = type(written).__name__ == "WriteDone"
        assert done or edited or not self.calm, f"decided on what stands: {moves}"
        if done:
            for one in decided.firings:
                self.account(one.schedule, instants(one.schedule.definition.trigger, one.from_us, one.cursor_us))
        return done

    def account(self, schedule: Schedule, fires: list[int]) -> None:
        rows = self.ledger.setdefault(schedule.id, {})
        assert not any(fire_us in rows for fire_us in fires), "LEDGER-1: an instant has one row"
        rows.update(dict.fromkeys(fires))

    @precondition(lambda self: self.answered)
    @rule(which=st.integers(0, 9), kind=st.sampled_from(["twice", "strange", "failed", "monotonic"]))
    def replay(self, which: int, kind: str) -> None:
        """Answers that come twice, to others, or to what the other life asked, change nothing."""
        self.machine.handle(FiringsSettled(monotonic=True), self.now)
        before = repr(self.machine)
        done = self.answered[-1 - which % len(self.answered)]
        events: dict[str, tuple[Event, ...]] = {
            "twice": (done,),
            "strange": (ReadDone(1_000_000 + which, done.rows),),
            "failed": (ReadFailed(done.op, FailReason.UNAVAILABLE),),
            "monotonic": (FiringsSettled(monotonic=True), FiringsUndone(tuple(NAMES), True, monotonic=True)),
        }
        for event in events[kind]:
            assert self.machine.handle(event, self.now) == []
        assert repr(self.machine) == before, "an answer that nobody waits for"

    @precondition(lambda self: self.queue and isinstance(self.queue[0], Read))
    @rule(job=jobs)
    def edit_while_read(self, job: Definition) -> None:
        """The rows were read before an edit and come after it."""
        read = self.queue[0]
        assert isinstance(read, Read)
        rows = self.store.read(read.query)
        self.stale = True
        self.change(job)
        self.queue.popleft()
        self.give(ReadDone(read.op, rows))

    # --- what catalog does ------------------------------------------------------------------------------------

    def stored(self, schedule: Schedule) -> Schedule:
        self.store.schedules[schedule.id] = schedule
        return schedule

    def tell(self, schedule: Schedule) -> None:
        """An edit is durable."""
        self.let_go.pop(schedule.id, None)
        self.calm = False
        self.give(SchedulesStored((self.stored(schedule),)))

    def apply(self, job: Definition) -> Schedule:
        """A new definition begins at the present; what the old one had named until then is accounted for."""
        old, now_us = self.store.schedules.get(job.id), self.now.utc_us
        if old is None:
            new = Schedule(job.id, job, definition_hash(job), "config", 1, now_us, None, now_us, now_us)
        else:
            cursor_us = max(old.cursor_us, now_us)
            new = evolve(old, definition=job, hash=definition_hash(job), rev=old.rev + 1, cursor_us=cursor_us)
        return self.standing(new)

    def standing(self, schedule: Schedule) -> Schedule:
        due_us = due_of(schedule)
        state = ScheduleState.FINISHED if due_us is None else ScheduleState.ACTIVE
        return evolve(schedule, next_due_us=due_us, state=state)

    @rule(job=jobs)
    def change(self, job: Definition) -> None:
        self.tell(self.apply(job))

    @rule(name=st.sampled_from(NAMES), state=st.sampled_from([ScheduleState.PAUSED, ScheduleState.RETIRED]))
    def stand_still(self, name: str, state: ScheduleState) -> None:
        row = self.store.schedules.get(name)
        if row is not None and row.state in (ScheduleState.ACTIVE, ScheduleState.PARKED):
            self.tell(evolve(row, rev=row.rev + 1, state=state))

    @rule(name=st.sampled_from(NAMES), policy=st.sampled_from([MisfirePolicy.ALL, MisfirePolicy.LATEST]))
    def resume(self, name: str, policy: MisfirePolicy) -> None:
        row = self.store.schedules.get(name)
        if row is not None and row.state is ScheduleState.PAUSED:
            row = evolve(row, rev=row.rev + 1, catch_up=policy, catch_up_until_us=self.now.utc_us)
            self.tell(self.standing(row))

    @precondition(lambda self: self.wishes and not any(isinstance(one, Slice) for one in self.queue))
    @rule()
    def fulfil(self) -> None:
        """Park, quarantine or settle, unless it is over meanwhile: then scheduling takes it back. Catalog reads behind
        what is under way."""
        wish = self.wishes.pop(0)
        for name in wish.schedule_ids:
            row = self.store.schedules[name]
            if row.state is ScheduleState.ACTIVE and row.definition.trigger == STUCK:
                row = evolve(row, rev=row.rev + 1, state=ScheduleState.QUARANTINED)
            elif row.state is ScheduleState.ACTIVE and isinstance(wish, SettleWanted):
                right = self.standing(row)
                row = evolve(right, rev=row.rev + 1) if right != row else row
            elif row.state is ScheduleState.ACTIVE and isinstance(wish, ParkWanted):
                here = row.definition.handler_id == "h" or self.handlers != SOME_GONE
                row = row if here else evolve(row, rev=row.rev + 1, state=wish.state)
            self.tell(row)

    @rule(handlers=st.sampled_from([ALL_THERE, SOME_GONE, EXPECTING]))
    def handlers_change(self, handlers: HandlersChanged) -> None:
        self.handlers = handlers
        self.give(handlers)
        if handlers == ALL_THERE:
            for row in list(self.store.schedules.values()):
                if row.state is ScheduleState.PARKED:
                    self.tell(self.standing(evolve(row, rev=row.rev + 1)))

    # --- time, and ends ---------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1, 3, 9, 45, 200]), fates=st.lists(st.sampled_from(FATES), min_size=1))
    def work(self, seconds: float, fates: list[str]) -> None:
        """Time passes as the driver lets it, and the store answers; the machine is woken wherever it asked for it."""
        until_us = self.now.mono_us + round(seconds * SECOND_US)
        step = still = 0
        while still < 100:
            step += 1
            before_us = self.now.mono_us
            wakeup = self.machine.next_wakeup(self.now)
            if self.queue and (wakeup is None or step % 3):
                self.answer(fates[step % len(fates)])
            elif wakeup is None or wakeup.at_us > until_us:
                self.pass_until(until_us)
                self.give(Woke())
                return
            else:
                self.pass_until(wakeup.at_us)
                self.give(Woke())
            still = still + 1 if self.now.mono_us == before_us else 0
        raise AssertionError("KERNEL-4: the backlog does not shrink")

    @rule(seconds=st.sampled_from([0, 0.3, 7, 90]))
    def oversleep(self, seconds: float) -> None:
        """Nobody woke it in time."""
        self.pass_until(self.now.mono_us + round(seconds * SECOND_US))
        self.give(Woke())

    @rule(us=st.sampled_from([1, 999, 200_000]))
    def woken_early(self, us: int) -> None:
        """The driver also wakes to look at the clocks."""
        wakeup = self.machine.next_wakeup(self.now)
        if wakeup is not None and not self.queue:
            self.pass_until(wakeup.at_us - us)
            self.give(Woke())

    def pass_until(self, mono_us: int) -> None:
        ahead_us = max(mono_us - self.now.mono_us, 0)
        self.now = evolve(self.now, mono_us=self.now.mono_us + ahead_us, utc_us=self.now.utc_us + ahead_us)

    @rule(seconds=st.sampled_from([-300, -5, 5, 300]), trusted=st.sampled_from([True, True, False]))
    def clock_steps(self, seconds: int, trusted: bool) -> None:
        self.now = Now(self.now.mono_us, self.now.utc_us + seconds * SECOND_US, trusted)
        self.give(Woke())

    @rule(durable=st.integers(0, 4), zone_us=st.sampled_from([None, None, -SECOND_US, SECOND_US, UNSETTLED_US]))
    def crash(self, durable: int, zone_us: int | None) -> None:
        """Some of what was under way became durable. The next life may have other zone data."""
        for operation in list(self.queue)[:durable]:
            if isinstance(operation, Slice) and (operation.stream <= self.failed or not self.write(operation)):
                break
        for row in list(self.store.schedules.values())[::2]:
            if zone_us is not None and row.next_due_us and row.definition.trigger != STUCK:
                self.stored(evolve(row, next_due_us=row.next_due_us + zone_us if zone_us else UNSETTLED_US))
        self.live()

    @rule()
    def stop(self) -> None:
        """After a stop nothing is decided; the next life goes on."""
        self.give(StopRequested(SECOND_US))
        while self.queue:
            self.answer("true")
        self.pass_until(self.now.mono_us + 200 * SECOND_US)
        self.give(Woke())
        assert not self.queue, "it has stopped"
        self.live()

    def teardown(self) -> None:
        """Heal everything: then every due instant has its row, and nothing is under way."""
        if not hasattr(self, "machine"):
            return
        self.now = evolve(self.now, trusted=True, utc_us=self.latest_us)
        self.handlers_change(ALL_THERE)
        self.work(9, ["true"])
        for _ in range(1000):
            wakeup = self.machine.next_wakeup(self.now)
            if self.queue:
                self.answer("true")
            elif self.wishes:
                self.fulfil()
            elif wakeup is not None and wakeup.reason is WakeReason.BACKLOG:
                self.give(Woke())
            else:
                break
        assert not self.queue, "KERNEL-4: the backlog does not shrink"
        machine = self.machine
        assert (machine.in_flight, machine.page_op) == (0, None)
        assert (machine.reload_ids, machine.reload_ops, machine.unfit) == ({}, {}, {})
        for row in self.store.schedules.values():
            rows = list(self.ledger.get(row.id, {}))
            assert rows == sorted(rows), "SCHED-1: the cursor never goes back"
            assert row.state is not ScheduleState.PARKED
            if row.state is ScheduleState.ACTIVE:
                until_us = self.now.utc_us - spread_of(row)
                assert not instants(row.definition.trigger, row.cursor_us, until_us), f"LEDGER-1: {row} is still open"
                due_us = row.next_due_us or 0
                assert row.definition.trigger != STUCK or due_us > self.now.utc_us, "SCHED-5: it was noticed"


Calendar.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestCalendar: Callable[..., None] = Calendar.TestCase  # type: ignore[assignment]
