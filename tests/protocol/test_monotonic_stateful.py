"""The monotonic machine alone, against a model of what has to fire: MONO-1, MONO-2, MONO-3, KERNEL-4."""

from collections.abc import Callable

from attrs import define, evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sz_protocol.commands import Apply
from sz_protocol.definition import Definition
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.effects import Effect, Read
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
    Started,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.now import SECOND_US, Now, WakeReason
from sz_protocol.machines.monotonic import Monotonic, MonotonicState
from sz_protocol.ops import Ops
from sz_protocol.policy import Verdict, spread_offset
from sz_protocol.queries import SchedulesPage
from sz_protocol.records import UNSETTLED_US, Outcome, Schedule, ScheduleState
from sz_protocol.settings import Settings
from sz_protocol.triggers import Cron, Interval, Trigger
from tests.protocol.harness import T0_US, Bench, at, every

TERM = 7
SMALL = Settings(page_rows=2, slice_instants=3)
NAMES = ("a", "b", "c", "d", "e")
BOUNDED = Interval(10 * SECOND_US, start_us=T0_US)
TRIGGERS: tuple[Trigger, ...] = (
    *(Interval(seconds * SECOND_US) for seconds in (2, 3, 10, 45)),
    BOUNDED,
    Cron("* * * * * *"),
)
THERE = HandlersChanged((MethodInfo("h", "m", "p"), MethodInfo("h", "n", "p")), (("p", 1),))
PARTLY = HandlersChanged((MethodInfo("h", "m", "p"),), (("p", 1),))


@define
class Served:
    """Where a schedule stands: the instants of its clock up to here, on the monotonic clock, have their rows."""

    period_us: int
    until_us: int


class Boot(RuleBasedStateMachine):
    """A device that does not know the time, off and on. This plays store, catalog and execution."""

    def __init__(self) -> None:
        super().__init__()
        self.now = Now(mono_us=1000 * SECOND_US, utc_us=T0_US, trusted=True)
        self.machine = Monotonic(SMALL, Ops(term=TERM))
        self.stored: dict[str, Schedule] = {}
        self.reads: list[Read] = []
        self.slices: list[FiringsDecided] = []
        self.phase = self.decided_in = 0
        """How often the time became known or unknown; and when the slice under way was decided."""
        self.served: dict[str, Served] = {}
        self.rows: dict[tuple[str, str], None] = {}
        self.handlers = THERE
        self.stopped = False

    @initialize(triggers=st.lists(st.sampled_from(TRIGGERS), max_size=len(NAMES)), spread_s=st.sampled_from([0, 7]))
    def begin(self, triggers: list[Trigger], spread_s: int) -> None:
        for place, trigger in enumerate(triggers):
            self.put(NAMES[place], trigger, spread_s)
        for event in (Started(TERM), self.handlers, RunsRecovered()):
            self.give(event)

    def put(self, name: str, trigger: Trigger, spread_s: int, state: ScheduleState = ScheduleState.ACTIVE) -> Schedule:
        """The catalog has stored a schedule."""
        method = "n" if name == "e" else "m"
        definition = Definition(name, "h", method, trigger, spread_us=spread_s * SECOND_US)
        rev = self.stored[name].rev + 1 if name in self.stored else 1
        where = (T0_US, T0_US + SECOND_US, T0_US, T0_US, state)
        schedule = Schedule(name, definition, definition_hash(definition), "config", rev, *where)
        self.stored[name] = schedule
        return schedule

    # --- driving ----------------------------------------------------------------------------------------------

    def give(self, event: Event) -> None:
        """Hand over one fact, file the orders, take what the machine has to tell."""
        self.file(self.machine.handle(event, self.now))
        told = list(self.machine.outbox)
        self.machine.outbox.clear()
        for notice in told:
            match notice:
                case FiringsDecided():
                    self.judge(notice)
                    self.slices.append(notice)
                    self.decided_in = self.phase
                    assert len(self.slices) == 1, "one slice at a time is on its way"
                case ParkWanted(schedule_ids=ids):
                    assert not self.now.trusted
                    assert all(self.stored[name].definition.method == "n" for name in ids)
                    assert self.handlers is PARTLY, "nothing is parked whose method is here"
                case SchedulesStored(schedules=schedules):
                    assert all(schedule.next_due_us == UNSETTLED_US for schedule in schedules), "MONO-3"
        wakeup = self.machine.next_wakeup(self.now)
        if wakeup is not None and wakeup.reason is not WakeReason.BACKLOG:
            assert wakeup.at_us > self.now.mono_us, "KERNEL-4: a wake-up lies in the future"

    def file(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Read):
                assert not self.stopped
                assert not self.now.trusted, "MONO-1: whoever knows the time needs no list"
                self.reads.append(effect)

    def backlog(self) -> bool:
        wakeup = self.machine.next_wakeup(self.now)
        return wakeup is not None and wakeup.reason is WakeReason.BACKLOG

    def wake(self, most: int) -> None:
        """Let the machine work off what it says is a backlog."""
        for _ in range(most):
            if not self.backlog():
                return
            before = (len(self.reads), len(self.slices), self.machine.state)
            self.give(Woke())
            assert before != (len(self.reads), len(self.slices), self.machine.state) or not self.backlog(), "KERNEL-4"

    # --- what is decided --------------------------------------------------------------------------------------

    def judge(self, decided: FiringsDecided) -> None:
        """MONO-1: what may fire; MONO-3: and moves nothing."""
        assert decided.monotonic
        assert not self.now.trusted, "MONO-1: only while the time is not trusted"
        assert not self.stopped
        names = [firing.schedule.id for firing in decided.firings]
        assert len(set(names)) == len(names) <= SMALL.slice_instants
        for firing in decided.firings:
            trigger = firing.schedule.definition.trigger
            assert isinstance(trigger, Interval)
            assert trigger != BOUNDED, "MONO-1: plain intervals only"
            assert firing.schedule.state is ScheduleState.ACTIVE
            assert firing.from_us == firing.cursor_us == firing.schedule.cursor_us, "MONO-3: the cursor stays"
            assert firing.next_due_us == UNSETTLED_US, "MONO-3: and what passes is to be settled"
            newest = firing.verdicts[-1]
            assert newest.outcome is None
            assert all(verdict.outcome is Outcome.SKIPPED for verdict in firing.verdicts[:-1])
            due_us = self.instant_us(newest) + spread_offset(firing.schedule.uid, firing.schedule.definition.spread_us)
            assert due_us <= self.now.mono_us < due_us + trigger.period_us, "MONO-2: the newest period that has come"

    def instant_us(self, verdict: Verdict) -> int:
        """When, on the monotonic clock, the period was up that a verdict speaks of first."""
        return self.now.mono_us - (self.now.utc_us - verdict.fire_us)

    def account(self, firing: Firing) -> None:
        """MONO-2: each instant has one row and a name of its own; none is left out as long as nobody knows the time."""
        trigger = firing.schedule.definition.trigger
        assert isinstance(trigger, Interval)
        period_us = trigger.period_us
        for verdict in firing.verdicts:
            place = (firing.schedule.uid, verdict.nominal)
            assert place not in self.rows, f"MONO-2: a second row for {place}"
            self.rows[place] = None
        if self.decided_in != self.phase:
            return
        newest_us = int(firing.verdicts[-1].nominal.partition("/")[2])
        first_us = newest_us - sum(verdict.count for verdict in firing.verdicts[:-1]) * period_us
        served = self.served.get(firing.schedule.id)
        if served is not None and served.period_us == period_us:
            assert first_us == served.until_us + period_us, "MONO-2: periods follow each other"
        self.served[firing.schedule.id] = Served(period_us, newest_us)

    # --- what store and execution do --------------------------------------------------------------------------

    @precondition(lambda self: self.reads)
    @rule(fails=st.booleans())
    def read(self, fails: bool) -> None:
        """The answers come in order; some to questions of before, that nobody waits for any more."""
        asked = self.reads.pop(0)
        assert isinstance(asked.query, SchedulesPage)
        if fails:
            self.give(ReadFailed(asked.op, FailReason.UNAVAILABLE))
            return
        names = sorted(name for name in self.stored if name > asked.query.after_id)
        rows = [self.stored[name] for name in names if self.stored[name].state in (asked.query.states or ())]
        self.give(ReadDone(asked.op, tuple(rows[: asked.query.limit])))

    @precondition(lambda self: self.slices)
    @rule(fate=st.sampled_from(["settled", "settled", "undone", "unavailable"]))
    def answer(self, fate: str) -> None:
        """Execution tells what became of the slice. An edit that came between refuses it."""
        decided = self.slices.pop()
        fresh = all(self.stored[f.schedule.id].rev == f.schedule.rev for f in decided.firings)
        if fate == "settled" and fresh:
            for firing in decided.firings:
                self.account(firing)
                name = firing.schedule.id
                self.stored[name] = evolve(self.stored[name], next_due_us=UNSETTLED_US)
            self.give(FiringsSettled(monotonic=True))
            return
        ids = tuple(firing.schedule.id for firing in decided.firings)
        self.give(FiringsUndone(ids, unavailable=fate == "unavailable", monotonic=True))

    # --- what happens outside ---------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 2, 9, 31, 200]), wakes=st.integers(0, 12))
    def time_passes(self, seconds: float, wakes: int) -> None:
        us = round(seconds * SECOND_US)
        self.now = evolve(self.now, mono_us=self.now.mono_us + us, utc_us=self.now.utc_us + us)
        self.give(Woke())
        self.wake(wakes)

    @rule(trusted=st.booleans())
    def trust(self, trusted: bool) -> None:
        """The time becomes known, or nobody knows it any more. What passed is settled by others, for good."""
        if trusted != self.now.trusted:
            self.phase += 1
            self.served.clear()
        self.now = evolve(self.now, trusted=trusted)
        self.give(Woke())

    @rule(
        name=st.sampled_from(NAMES),
        trigger=st.sampled_from(TRIGGERS),
        spread_s=st.sampled_from([0, 7]),
        state=st.sampled_from([ScheduleState.ACTIVE, ScheduleState.ACTIVE, ScheduleState.PAUSED, ScheduleState.PARKED]),
    )
    def edit(self, name: str, trigger: Trigger, spread_s: int, state: ScheduleState) -> None:
        schedule = self.put(name, trigger, spread_s, state)
        self.served.pop(name, None)
        self.give(SchedulesStored((schedule,)))

    @rule(there=st.booleans())
    def handlers_change(self, there: bool) -> None:
        """A schedule that was parked meanwhile is taken up by the catalog again."""
        self.handlers = THERE if there else PARTLY
        self.served.pop("e", None)
        self.give(self.handlers)
        if there and "e" in self.stored:
            self.give(SchedulesStored((self.stored["e"],)))

    # --- the end ----------------------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """The store answers everything, and the machine has nothing left to do at this moment."""
        for _ in range(200):
            if self.reads:
                self.read(False)
            elif self.slices:
                self.answer("settled")
            elif self.backlog():
                self.give(Woke())
            else:
                return
        raise AssertionError("KERNEL-4: the backlog does not shrink")

    def teardown(self) -> None:
        """On a device that still does not know the time everything plain goes on; a stopped machine does nothing."""
        if self.machine.state is MonotonicState.IDLE:
            return
        self.trust(False)
        self.handlers_change(True)
        for seconds in (0, 6, 200):  # A store that failed is asked again after a while.
            self.time_passes(seconds, 0)
            self.calm_down()
        for name, schedule in self.stored.items():
            trigger = schedule.definition.trigger
            plain = isinstance(trigger, Interval) and trigger != BOUNDED and schedule.state is ScheduleState.ACTIVE
            assert (name in self.machine.ticking) is plain
            if plain:
                assert isinstance(trigger, Interval)
                late_us = self.now.mono_us - self.served[name].until_us
                assert late_us < trigger.period_us + schedule.definition.spread_us, f"{name} was left behind"
        self.stopped = True
        self.give(StopRequested(0))
        self.time_passes(60, 3)


Boot.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestBoot: Callable[..., None] = Boot.TestCase  # type: ignore[assignment]


def ticking_device(trigger: Trigger) -> Boot:
    """A device that does not know the time, with one schedule."""
    boot = Boot()
    boot.begin([trigger], 0)
    boot.trust(False)
    boot.calm_down()
    return boot


def test_mono_2_an_edit_while_a_slice_is_on_its_way_is_not_counted_in_periods_of_before() -> None:
    boot = ticking_device(Interval(2 * SECOND_US))
    boot.time_passes(2, 1)
    assert boot.slices
    boot.edit("a", Interval(10 * SECOND_US), 0, ScheduleState.ACTIVE)
    boot.answer("undone")
    boot.calm_down()
    boot.time_passes(9, 1)
    assert boot.slices, "the 500th period of two seconds is not the 500th of ten"


def test_mono_2_a_slice_that_failed_is_not_decided_again_once_the_time_was_known_in_between() -> None:
    boot = ticking_device(Interval(2 * SECOND_US))
    boot.time_passes(9, 1)
    boot.trust(True)
    boot.trust(False)
    boot.read(False)
    boot.answer("undone")
    boot.calm_down()
    assert not boot.rows, "the wall clock has settled those periods"


def test_mono_2_an_edit_of_the_period_swallows_no_fire() -> None:
    bench = Bench(now=evolve(at(0, boot_s=5), trusted=False)).start()
    for seconds, until_s in ((10, 31), (30, 40)):
        bench.ask(Apply((every(seconds),)))
        bench.advance(until_s, auto=Outcome.SUCCEEDED)
    began_s = [(run.fire_us - T0_US) / SECOND_US + 5 for run in bench.started]
    assert began_s == [10, 20, 30, 60], "the second period of thirty seconds is not the second of ten"
