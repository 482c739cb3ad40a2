"""A whole node against the model store, with faults of every kind, crashes and restarts, judged transaction by
transaction: LEDGER-1, FIRE-1, SCHED-1, SCHED-2, RUN-1, RUN-2, RUN-4 (in the bench), RUN-7, CAT-4, PLACE-1, PLACE-2.
"""

from collections.abc import Callable
from enum import Enum, auto
from itertools import cycle
from typing import Any

from attrs import Factory, define, evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sz_protocol.changes import InsertRuns, MoveCursors, PutSchedules, UpdateRuns
from sz_protocol.commands import Apply, Cancel, Pause, Resume, Trigger
from sz_protocol.definition import Definition, Misfire, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.kernel.effects import Read, StartRun, Write
from sz_protocol.kernel.events import (
    FailReason,
    HandlersChanged,
    MethodInfo,
    ReadFailed,
    RunResult,
    RunsFinished,
    Woke,
    WriteFailed,
)
from sz_protocol.kernel.now import SECOND_US, Now
from sz_protocol.notices import RunUnresponsive
from sz_protocol.policy import grace_of, spread_offset
from sz_protocol.records import (
    UNSETTLED_US,
    Outcome,
    Reason,
    Run,
    RunKind,
    RunState,
    Schedule,
    ScheduleState,
    run_key,
)
from sz_protocol.settings import Settings
from sz_protocol.triggers import Cron, Date, fires_between, next_fire, nominal_key
from tests.protocol.harness import T0_US, Bench, ModelStore, at, every

ODD = Settings(
    slice_instants=4,
    horizon_us=20 * SECOND_US,
    page_rows=2,
    crowd_schedules=3,
    writes_in_flight=3,
    loss_limit=3,
    cancel_grace_us=2 * SECOND_US,
    clock_settle_us=15 * SECOND_US,
    enumerate_instants=3,
)
METHODS = (MethodInfo("h", "m", "pool", concurrency=2), MethodInfo("h", "n", "pool"))
POOLS = (("pool", 3),)
ALL_THERE = HandlersChanged(METHODS, POOLS)
ONE_GONE = HandlersChanged(METHODS[:1], POOLS)


Ended = tuple[int, int, Outcome]


@define
class Judge(ModelStore):
    """A store that judges each transaction that it takes, and what was ever executed on the strength of it."""

    keys: dict[bytes, int] = Factory(dict)
    reported: dict[Ended, None] = Factory(dict)
    """(row, attempt, outcome) of every execution that ended and said so."""
    begun: dict[int, int] = Factory(dict)
    """Row -> how many executions of it ever began."""

    def write(self, write: Write) -> Any:
        """Rows and cursors of one transaction have to account for each other."""
        before, runs_before = dict(self.schedules), dict(self.runs)
        answer = super().write(write)
        if isinstance(answer, WriteFailed):
            return answer
        inserted: list[Run] = []
        for change in write.changes:
            match change:
                case InsertRuns(runs=runs):
                    inserted += runs
                case UpdateRuns(runs=runs):
                    for run in runs:
                        self._judge_update(runs_before[run.row], run)
        for run in inserted:
            assert self.keys.setdefault(run.run_key, run.row) == run.row, "FIRE-1: one row for each run key, ever"
            self._judge_fire(run)
        for change in write.changes:
            if isinstance(change, MoveCursors | PutSchedules):
                for name in _names(change):
                    self._judge_cursor(before.get(name), self.schedules[name], inserted)
        return answer

    def _judge_fire(self, run: Run) -> None:
        """SCHED-3, POLICY-2, FIRE-1."""
        if run.kind is not RunKind.SCHEDULED:
            return
        schedule = self.schedules[run.schedule_id]
        definition = schedule.definition
        if run.outcome is None:
            nominal = nominal_key(definition.trigger, run.fire_us)
            assert run.run_key == run_key(schedule.uid, nominal), "FIRE-1: the run key follows from the fire time"
            late_us = run.decided_us - run.fire_us - spread_offset(schedule.uid, definition.spread_us)
            assert late_us >= 0, "SCHED-3: nothing fires before its time and its spread"
            if schedule.catch_up is None or run.fire_us > schedule.catch_up_until_us:
                assert late_us <= definition.misfire.window_us, "older than the window"
                grace_us = grace_of(definition.misfire, definition.misfire.policy)
                assert grace_us is None or late_us <= grace_us, "POLICY-2: past its grace"

    def _judge_update(self, old: Run, new: Run) -> None:
        assert old.state is not RunState.DONE, "RUN-1: a run ends once"
        assert new.run_key == old.run_key
        assert new.fence >= old.fence, "the fence grows"
        if new.state is RunState.LEASED:
            assert new.attempt == old.attempt + 1
            assert new.fence > old.fence
        if new.outcome is Outcome.SUCCEEDED or new.reason == Reason.ERROR:
            assert new.outcome is not None
            assert (new.row, new.attempt, new.outcome) in self.reported, "RUN-2: an outcome that nobody reported"
        if new.outcome is Outcome.LOST:
            limit = 1 if new.schedule_id == "careful" else ODD.loss_limit
            assert new.losses >= limit, "POLICY-5: given up too early"

    def begin(self, start: StartRun) -> None:
        """An execution begins: may it?"""
        self.begun[start.row] = self.begun.get(start.row, 0) + 1
        run = self.runs[start.row]
        if start.schedule_id == "careful":
            assert self.begun[start.row] == 1, "POLICY-5: at most once"
        assert run.failures < 2, "RUN-3: no policy here wants a third attempt"
        assert run.losses < ODD.loss_limit

    def _judge_cursor(self, old: Schedule | None, new: Schedule, inserted: list[Run]) -> None:
        rows = [run for run in inserted if run.schedule_id == new.id and run.kind is RunKind.SCHEDULED]
        rows = [run for run in rows if run.reason != Reason.PAST_AT_CREATION]
        if old is None or not old.created_us:
            assert not rows, "a schedule that had no place in time has missed nothing"
            return
        assert new.cursor_us >= old.cursor_us, "SCHED-1: a cursor never regresses"
        due = list(fires_between(old.definition.trigger, old.cursor_us + 1, new.cursor_us + 1))
        told: list[int] = []
        for run in rows:
            until_us = run.fire_us if run.until_us is None else run.until_us
            covered = [at for at in due if run.fire_us <= at <= until_us]
            assert len(covered) == run.count, f"LEDGER-1: {run} counts {run.count}, the trigger {len(covered)}"
            told += covered
        assert sorted(told) == due, "LEDGER-1: each instant that the cursor passes has exactly one row"


def _names(change: MoveCursors | PutSchedules) -> list[str]:
    if isinstance(change, MoveCursors):
        return [move.schedule_id for move in change.moves]
    return [schedule.id for schedule in change.schedules]


WIDTHS = {"ticker": 1, "cron": 1, "careful": 2, "once": 1}


def definitions(variant: int) -> tuple[Definition, ...]:
    """Four schedules of different temper; `variant` changes triggers and policies as an edited file does."""
    width_one = [OverlapPolicy.SKIP, OverlapPolicy.QUEUE, OverlapPolicy.CANCEL_RUNNING]
    return (
        every(
            10 if variant % 2 else 7,
            id="ticker",
            overlap=Overlap(width_one[variant % 3], 2),
            retry=Retry(attempts=2, base_us=SECOND_US, max_us=4 * SECOND_US),
            timeout_us=8 * SECOND_US,
        ),
        Definition(
            "cron",
            "h",
            "n",
            Cron("* * * * *", "Europe/Berlin"),
            misfire=Misfire(MisfirePolicy.ALL, max=4, rate_per_s=0.5 if variant % 3 else None),
            spread_us=9 * SECOND_US,
            deadline_us=40 * SECOND_US,
        ),
        every(
            5,
            id="careful",
            semantics=Semantics.AT_MOST_ONCE,
            misfire=Misfire(MisfirePolicy.SKIP, window_us=300 * SECOND_US),
            overlap=Overlap(OverlapPolicy.ALLOW, 2),
        ),
        Definition("once", "h", "m", Date(T0_US + (40 + 30 * (variant % 2)) * SECOND_US)),
    )[: 4 if variant % 5 else 3]


class Fate(Enum):
    """How the store answers."""

    TRUE = auto()
    AWAY = auto()
    DONE_UNKNOWN = auto()
    LOST_UNKNOWN = auto()


class Ending(Enum):
    """How an execution goes on."""

    SUCCEEDS = auto()
    FAILS = auto()
    HANGS = auto()
    OBEYS = auto()
    """It fails once it is asked to stop."""


mostly_true = st.lists(st.sampled_from([Fate.TRUE, Fate.TRUE, *Fate]), min_size=1, max_size=5)


class Torment(RuleBasedStateMachine):
    """What can happen to a node. Store answers come in order; anything else comes whenever it likes."""

    @initialize(variant=st.integers(0, 9))
    def begin(self, variant: int) -> None:
        self.store = Judge()
        self.trusted = True
        self.bench = self.live(at(0))
        self.bench.command(Apply(definitions(variant), prune=True))

    def live(self, now: Now) -> Bench:
        """The next life of the node."""
        bench = Bench(self.store, ODD, ALL_THERE, now)
        bench.on_start = self.on_start
        bench.give(self.store.open())
        bench.give(ALL_THERE)
        return bench

    def on_start(self, start: StartRun) -> None:
        """PLACE-1, PLACE-2, and what the store has to say."""
        self.store.begin(start)
        running = list(self.bench.running.values())
        lane = [run for run in running if run.schedule_id == start.schedule_id]
        assert len(lane) <= WIDTHS[start.schedule_id], "PLACE-1: a lane executes at most its width"
        assert len(running) <= 3, "PLACE-2: a pool is never over its size"
        assert len([run for run in running if run.method == "m"]) <= 2, "PLACE-2: nor is a method"

    # --- what store and handlers do ---------------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([0.0, 0.2, 1.0, 6.0, 20.0, 70.0]),
        fates=mostly_true,
        endings=st.lists(st.sampled_from(Ending), min_size=1, max_size=5),
        steps=st.integers(5, 60),
    )
    def go_on(self, seconds: float, fates: list[Fate], endings: list[Ending], steps: int) -> None:
        """The node works, for a while or a number of steps."""
        bench = self.bench
        fate, ending = cycle(fates), cycle(endings)
        until_us = bench.now.mono_us + round(seconds * SECOND_US)
        for _ in range(steps):
            self.one_write_per_run()
            if bench.waiting:
                self.answer(next(fate))
                continue
            for run in list(bench.running.values()):
                self.execute(run, next(ending))
            wakeup = bench.node.next_wakeup(bench.now)
            if wakeup is None or wakeup.at_us > until_us:
                bench.pass_us(max(until_us - bench.now.mono_us, 0))
                bench.give(Woke())
                return
            bench.pass_us(max(wakeup.at_us - bench.now.mono_us, 0))
            bench.give(Woke())

    def answer(self, fate: Fate) -> None:
        """One answer of the store."""
        operation = self.bench.waiting[0]
        if fate is Fate.TRUE or (isinstance(operation, Read) and fate is not Fate.AWAY):
            self.bench.answer()
            return
        if isinstance(operation, Read):
            self.bench.answer(lambda op: ReadFailed(op.op, FailReason.UNAVAILABLE))
            return
        if fate is Fate.DONE_UNKNOWN:
            answer = self.store.write(operation)
            if isinstance(answer, WriteFailed):
                self.bench.answer(lambda op: answer)
                return
        reason = FailReason.UNAVAILABLE if fate is Fate.AWAY else FailReason.UNKNOWN
        self.store.broken_stream = max(self.store.broken_stream, operation.stream)
        self.bench.answer(lambda op: WriteFailed(op.op, reason))

    def execute(self, run: StartRun, ending: Ending) -> None:
        """One execution goes on, or ends."""
        asked = any(cancel.row == run.row and cancel.attempt == run.attempt for cancel in self.bench.cancels)
        if ending is Ending.HANGS or (ending is Ending.OBEYS and not asked):
            return
        outcome = Outcome.SUCCEEDED if ending is Ending.SUCCEEDS else Outcome.FAILED
        self.store.reported[run.row, run.attempt, outcome] = None
        self.bench.finish(run, outcome, "error")

    @precondition(lambda self: self.bench.started)
    @rule(which=st.integers(0, 99), ahead=st.sampled_from([-1, 0, 1]))
    def replay(self, which: int, ahead: int) -> None:
        """RUN-2: a result of another attempt, or one that came before, changes nothing."""
        started = self.bench.started[which % len(self.bench.started)]
        if (started.row, started.attempt + ahead) in self.bench.running:
            return
        result = RunResult(started.row, started.attempt + ahead, Outcome.SUCCEEDED, "", T0_US, T0_US)
        self.bench.give(RunsFinished((result,)))

    @rule(there=st.booleans())
    def handlers(self, there: bool) -> None:
        self.bench.give(ALL_THERE if there else ONE_GONE)

    # --- what people do ---------------------------------------------------------------------------------------

    @rule(variant=st.integers(0, 9))
    def apply(self, variant: int) -> None:
        self.bench.command(Apply(definitions(variant), prune=True))

    @rule(
        name=st.sampled_from(["ticker", "cron", "careful"]), policy=st.sampled_from(MisfirePolicy), stop=st.booleans()
    )
    def pause(self, name: str, policy: MisfirePolicy, stop: bool) -> None:
        self.bench.command(Pause(name) if stop else Resume(name, policy))

    @rule(name=st.sampled_from(["ticker", "careful"]), key=st.sampled_from("abc"))
    def trigger(self, name: str, key: str) -> None:
        self.bench.command(Trigger(name, key))

    @precondition(lambda self: self.store.runs)
    @rule(which=st.integers(0, 4))
    def cancel(self, which: int) -> None:
        runs = list(self.store.runs.values())
        self.bench.command(Cancel(runs[-1 - which % len(runs)].run_id))

    # --- what time does ---------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([-600, -30, 30, 600]))
    def step(self, seconds: int) -> None:
        self.bench.now = evolve(self.bench.now, utc_us=self.bench.now.utc_us + seconds * SECOND_US)

    @rule(trusted=st.booleans())
    def trust(self, trusted: bool) -> None:
        self.bench.now = evolve(self.bench.now, trusted=trusted)

    # --- what processes do ------------------------------------------------------------------------------------

    @rule(durable=st.integers(0, 5), down_s=st.sampled_from([0.1, 5.0, 130.0]))
    def crash(self, durable: int, down_s: float) -> None:
        """Some of what was under way was durable, the rest was not; executions are gone."""
        for operation in list(self.bench.waiting)[:durable]:
            if isinstance(operation, Write):
                self.store.write(operation)
        self.bench.pass_us(round(down_s * SECOND_US))
        self.bench = self.live(self.bench.now)

    @rule(grace_s=st.sampled_from([0.0, 3.0]))
    def drain(self, grace_s: float) -> None:
        """A healthy store: nothing that was reported is lost, and everything ends within the two graces."""
        self.bench.stop(grace_s)
        for _ in range(40):
            self.bench.advance(0.5)
            if self.bench.stopped:
                break
        assert self.bench.stopped, "a drain ends within its two graces"
        self.reports_are_kept()
        self.bench = self.live(self.bench.now)

    # --- what must hold ---------------------------------------------------------------------------------------

    def one_write_per_run(self) -> None:
        """RUN-7."""
        rows: list[int] = []
        for operation in self.bench.waiting:
            if isinstance(operation, Write):
                for change in operation.changes:
                    if isinstance(change, InsertRuns | UpdateRuns):
                        rows += [run.row for run in change.runs]
        assert len(rows) == len(set(rows)), "RUN-7: of one run at most one write is under way"

    def reports_are_kept(self) -> None:
        """RUN-5: what was reported in this life is in the ledger, unless it came after its outcome was decided."""
        given_up = [(notice.row, notice.attempt) for notice in self.bench.seen(RunUnresponsive)]
        for row, attempt, outcome in self.bench.ended:
            if outcome is Outcome.SUCCEEDED and (row, attempt) not in given_up:
                assert self.store.runs[row].outcome is Outcome.SUCCEEDED, "RUN-5: a success was lost"

    def teardown(self) -> None:
        """Heal everything: then nothing is left undecided, unfinished or unanswered."""
        bench = self.bench
        last_us = max([T0_US, bench.now.utc_us, *(schedule.cursor_us for schedule in self.store.schedules.values())])
        bench.now = evolve(bench.now, trusted=True, utc_us=last_us)
        bench.give(ALL_THERE)
        bench.give(Woke())
        self.store.reported.update(
            {(run.row, attempt, Outcome.SUCCEEDED): None for run in self.store.runs.values() for attempt in range(9)}
        )
        bench.on_start = lambda start: self.store.reported.update({(start.row, start.attempt, Outcome.SUCCEEDED): None})
        # As long as deadlines, rates and back-offs of these definitions can hold anything back.
        bench.advance(160, auto=Outcome.SUCCEEDED)
        now_us = bench.now.utc_us
        assert bench.requests == len(bench.replies), "each command is answered once"
        for schedule in self.store.schedules.values():
            assert schedule.state is not ScheduleState.PARKED, "its handler is here"
            if schedule.state is ScheduleState.ACTIVE:
                assert schedule.next_due_us != UNSETTLED_US, "CAT-7: the time is known"
                following = next_fire(schedule.definition.trigger, schedule.cursor_us)
                late_us = now_us - schedule.definition.spread_us - 2 * SECOND_US
                assert following is None or following > late_us, f"{schedule.id} was left behind at {following}"
        open_runs = [run for run in self.store.runs.values() if run.state is not RunState.DONE]
        assert all(now_us - run.decided_us < 20 * SECOND_US for run in open_runs), f"never ended: {open_runs}"
        self.reports_are_kept()


Torment.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestTorment: Callable[..., None] = Torment.TestCase  # type: ignore[assignment]
