"""Execution alone, against the model store: slices that anybody may decide, people who want runs and runs stopped,
handlers in this process and at a worker, a store with every kind of answer, lives that end. RUN-1 to RUN-9, PLACE-1,
PLACE-2; and at the end of all nothing is kept of runs that are over.

The policies are drawn by the strategies of `sz_runtime.simulation.strategies`, which are there for your properties too.
"""

from collections import deque
from collections.abc import Callable
from itertools import cycle
from random import Random
from typing import Any

from attrs import Factory, define, evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sz_protocol.commands import Cancel, Done
from sz_protocol.definition import Definition, Semantics
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.effects import CancelRun, Effect, Publish, Read, Reply, StartRun, StartRuns, Stop, Write
from sz_protocol.kernel.events import (
    Commanded,
    Event,
    FailReason,
    Firing,
    FiringsDecided,
    FiringsSettled,
    FiringsUndone,
    HandlersChanged,
    MethodInfo,
    ReadDone,
    ReadFailed,
    ResultsSettled,
    RunResult,
    RunsFinished,
    RunsFound,
    RunsLeftBehind,
    RunsRecovered,
    RunsReturned,
    RunsVanished,
    RunWanted,
    StopRequested,
    Woke,
    WriteFailed,
)
from sz_protocol.kernel.now import SECOND_US, Now, WakeReason
from sz_protocol.machines.execution import Execution, ExecutionState
from sz_protocol.machines.run_writer import RunWriter
from sz_protocol.notices import RunUnresponsive
from sz_protocol.ops import Ops
from sz_protocol.policy import Verdict, lane_width
from sz_protocol.queries import UnfinishedRuns
from sz_protocol.records import Outcome, Reason, Run, RunKind, RunState, Schedule, run_key
from sz_protocol.routing import worker_pool
from sz_protocol.settings import Settings
from sz_protocol.triggers import Interval
from sz_runtime.simulation.strategies import durations, overlaps, retries
from tests.protocol.harness import T0_US, ModelStore, at

ODD = Settings(slice_instants=3, loss_limit=3, cancel_grace_us=2 * SECOND_US, remote=True)
PERIOD_US = 10 * SECOND_US
METHODS = ("m", "n", "far")
"""The first may execute twice at once, the third only at a worker."""
LOCAL = (MethodInfo("h", "m", "pool", concurrency=2), MethodInfo("h", "n", "pool"))
FAR = MethodInfo("h", "far", worker_pool("w"), worker="w")
FATES = ("true", "true", "true", "away", "done unknown", "lost unknown")
"""How the store answers."""
ALL_THERE = HandlersChanged((*LOCAL, FAR), (("pool", 3), (FAR.pool, 2)))
SOME_GONE = HandlersChanged((LOCAL[0], FAR), (("pool", 3), (FAR.pool, 0)), expecting=True)


def definitions(name: str) -> st.SearchStrategy[Definition]:
    """A schedule of any temper. The rig decides its instants: the trigger only names them."""
    return st.builds(
        Definition,
        st.just(name),
        st.just("h"),
        st.sampled_from(METHODS),
        st.just(Interval(PERIOD_US)),
        overlap=overlaps(),
        retry=retries(),
        timeout_us=st.none() | durations(SECOND_US, 8 * SECOND_US),
        deadline_us=st.none() | durations(5 * SECOND_US, 60 * SECOND_US),
        semantics=st.sampled_from(Semantics),
    )


@define
class Ledger(ModelStore):
    """Judges each row that it takes, and every execution on the strength of it."""

    reported: dict[tuple[int, int, Outcome], None] = Factory(dict)
    begun: dict[int, list[StartRun]] = Factory(dict)

    def write(self, write: Write) -> Any:
        """RUN-1, RUN-2, RUN-3."""
        before = dict(self.runs)
        answer = super().write(write)
        if not isinstance(answer, WriteFailed):
            for row, run in self.runs.items():
                if before.get(row) is not run:
                    self.judge(before.get(row), run)
        return answer

    def judge(self, old: Run | None, new: Run) -> None:
        """One row, as it was and is."""
        definition = self.schedules[new.schedule_id].definition if new.schedule_id else None
        if old is not None:
            assert old.state is not RunState.DONE, "RUN-1: a run ends once"
            assert new.fence >= old.fence
        if new.state is RunState.LEASED and old is not None:
            assert new.attempt == old.attempt + 1
            assert new.fence > old.fence
        if new.outcome is Outcome.SUCCEEDED:
            assert (new.row, new.attempt, Outcome.SUCCEEDED) in self.reported, "RUN-2: a success that nobody reported"
        if definition is not None and new.outcome is Outcome.FAILED and new.reason == Reason.ERROR:
            assert new.failures >= definition.retry.attempts, "RUN-3: given up too early"
        if definition is not None and new.outcome is Outcome.LOST:
            limit = 1 if definition.semantics is Semantics.AT_MOST_ONCE else ODD.loss_limit
            assert new.losses >= limit, "POLICY-5: given up too early"

    def begin(self, start: StartRun) -> None:
        """RUN-3, RUN-4: an execution begins; may it?"""
        run, earlier = self.runs[start.row], self.begun.setdefault(start.row, [])
        truth = (run.state, run.attempt, run.fence)
        assert truth == (RunState.LEASED, start.attempt, start.fence), f"RUN-4: {start} was started on {truth}"
        assert all(start.fence > other.fence for other in earlier), "the fence grows"
        earlier.append(start)
        if start.schedule_id:
            definition = self.schedules[start.schedule_id].definition
            assert run.failures < definition.retry.attempts, "RUN-3: no more attempts than the policy wants"
            assert run.losses < (1 if definition.semantics is Semantics.AT_MOST_ONCE else ODD.loss_limit)


class Labour(RuleBasedStateMachine):
    """Plays everybody round execution. Answers of the store come in order; anything else whenever it likes."""

    @initialize(jobs=st.tuples(*(definitions(name) for name in "abc")))
    def begin(self, jobs: tuple[Definition, ...]) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.store = Ledger()
        for job in jobs:
            where = (definition_hash(job), "config", 1, T0_US, T0_US + PERIOD_US, T0_US, T0_US)
            self.store.schedules[job.id] = Schedule(job.id, job, *where)
        self.now = at(0)
        self.requests = 0
        self.keys = 0
        self.live()

    def live(self) -> None:
        """The next life. What workers execute goes on, what was executed in this process is gone."""
        self.machine = Execution(ODD, Random(0), RunWriter(ODD, Ops()))
        self.waiting: deque[Write | Read] = deque()
        self.running: dict[tuple[int, int], StartRun] = {}
        self.given_up: dict[tuple[int, int], None] = {}
        self.succeeded: list[int] = []
        """Rows of which this life was told that they have succeeded, in time."""
        self.undelivered: list[tuple[int, int]] = []
        """Claimed for the worker by a life that ended before it could say so."""
        self.open: dict[int, bytes] = {}
        """Requests that nobody has answered yet, and the run that each is about."""
        self.slices = 0
        self.unread: dict[str, None] = {}
        """Schedules whose place is to be read from the store again, once nothing of them is under way."""
        self.cursors = {name: schedule.cursor_us for name, schedule in self.store.schedules.items()}
        self.stopped = self.draining = False
        self.handlers = ALL_THERE
        unfinished = self.store.read(UnfinishedRuns())
        schedules = tuple(self.store.schedules.get(run.schedule_id) for run in unfinished)
        started = self.store.open()
        for event in (started, self.handlers, RunsFound(unfinished, schedules), RunsRecovered()):
            self.give(event)

    # --- driving ----------------------------------------------------------------------------------------------

    def give(self, event: Event) -> None:
        """Hand over one fact, file the orders, take what the machine has to tell."""
        effects = self.machine.handle(event, self.now)
        assert not (self.stopped and effects), "nothing is ordered after Stop"
        for effect in effects:
            self.file(effect)
        told = list(self.machine.outbox)
        self.machine.outbox.clear()
        for notice in told:
            self.hear(notice)
        wakeup = self.machine.next_wakeup(self.now)
        if wakeup is not None and wakeup.reason is not WakeReason.BACKLOG:
            assert wakeup.at_us > self.now.mono_us, "KERNEL-4: a wake-up lies in the future"

    def file(self, effect: Effect) -> None:
        match effect:
            case Write() | Read():
                self.waiting.append(effect)
                self.one_write_per_run()
            case StartRuns(runs=runs, worker=worker):
                for run in runs:
                    assert worker == ("w" if run.method == "far" else "")
                    self.start(run)
            case Reply(request_id=request_id, answer=answer):
                key = self.open.pop(request_id)  # RUN-8: each is answered once
                if isinstance(answer, Done) and key.startswith(b"?"):
                    ended = [run for run in self.store.runs.values() if run.run_key == key[1:]]
                    assert [run.outcome for run in ended] == [Outcome.CANCELLED], "RUN-8: its end is durable"
            case Publish(notice=RunUnresponsive(row=row, attempt=attempt)):
                self.given_up[row, attempt] = None
            case Publish() | CancelRun():
                pass
            case Stop():
                self.stopped = True
            case _:
                raise AssertionError(f"no order of execution's: {effect}")

    def hear(self, notice: object) -> None:
        match notice:
            case FiringsSettled():
                self.slices -= 1
            case FiringsUndone(schedule_ids=ids):
                self.slices -= 1
                self.unread.update(dict.fromkeys(ids))
            case RunsLeftBehind(runs=left):
                for lease in left:
                    begun = self.store.begun.get(lease.row, [])
                    if begun and begun[-1].fence == lease.fence:
                        self.running[lease.row, lease.attempt] = begun[-1]
                    else:
                        self.undelivered.append((lease.row, lease.attempt))
            case ResultsSettled(runs=settled):
                for row, attempt in settled:
                    run = self.store.runs.get(row)
                    awaited = run is not None and run.state is RunState.LEASED and run.attempt == attempt
                    assert not awaited or (row, attempt) not in self.running, "a worker may not forget what is awaited"
            case _:
                raise AssertionError(f"nothing that execution tells: {notice}")
        assert self.slices >= 0, "a slice is answered once"

    def start(self, run: StartRun) -> None:
        """PLACE-1, PLACE-2. What did not stop when it was given up holds its places too."""
        assert (run.row, run.attempt) not in self.running, "one execution for each attempt"
        self.store.begin(run)
        self.running[run.row, run.attempt] = run
        executing = list(self.running.values())
        lane = [other for other in executing if other.schedule_id == run.schedule_id]
        if run.schedule_id:
            assert len(lane) <= lane_width(self.jobs[run.schedule_id].overlap), "PLACE-1"
        here = [other for other in executing if other.method != "far"]
        assert len(here) <= 3, "PLACE-2: a pool is never over its size"
        assert len(executing) - len(here) <= 2, "PLACE-2: nor is a worker's"
        assert len([other for other in executing if other.method == "m"]) <= 2, "PLACE-2: nor is a method"

    def one_write_per_run(self) -> None:
        """RUN-7."""
        rows: list[int] = []
        for operation in self.waiting:
            for change in operation.changes if isinstance(operation, Write) else ():
                rows += [run.row for run in getattr(change, "runs", ())]
        assert len(rows) == len(set(rows)), "RUN-7: of one run at most one write is under way"

    # --- what is decided and asked ----------------------------------------------------------------------------

    @precondition(lambda self: self.machine.state is ExecutionState.RUNNING)
    @rule(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True), late=st.sampled_from([0, 0, 2]))
    def decide(self, names: list[str], late: int) -> None:
        """Scheduling has decided what is due; `late` instants before the last one were skipped."""
        firings: list[Firing] = []
        for name in names:
            if name in self.unread and not self.slices:
                self.cursors[name] = self.store.schedules[name].cursor_us
                del self.unread[name]
            if name in self.unread:
                continue
            from_us = self.cursors[name]
            instants = [(from_us // PERIOD_US + number + 1) * PERIOD_US for number in range(late + 1)]
            skipped = [Verdict(us, Outcome.SKIPPED, Reason.COALESCED) for us in instants[:-1]]
            verdicts = (*skipped, Verdict(instants[-1], reason=Reason.CATCH_UP if late else ""))
            schedule = self.store.schedules[name]
            firings.append(Firing(schedule, verdicts, from_us, instants[-1], instants[-1] + PERIOD_US))
            self.cursors[name] = instants[-1]
        if firings:
            self.slices += 1
            self.give(FiringsDecided(tuple(firings)))

    @precondition(lambda self: not self.stopped)
    @rule(name=st.sampled_from("abc"), key=st.integers(0, 3), bare=st.booleans())
    def want(self, name: str, key: int, bare: bool) -> None:
        """Somebody wants a run; the same key again is the same run."""
        schedule = None if bare else self.store.schedules[name]
        method = "n" if bare else self.jobs[name].method
        uid = "" if bare else name
        where = (T0_US, "h", method, RunState.PENDING, self.now.utc_us, RunKind.MANUAL)
        run = Run(0, run_key(uid or "h", f"k{key}", RunKind.MANUAL), uid, *where, reason=Reason.MANUAL)
        self.requests += 1
        self.open[self.requests] = run.run_key
        self.give(RunWanted(self.requests, run, schedule))

    @precondition(lambda self: not self.stopped and self.store.runs)
    @rule(which=st.integers(0, 5))
    def cancel(self, which: int) -> None:
        runs = list(self.store.runs.values())
        run = runs[-1 - which % len(runs)]
        self.requests += 1
        self.open[self.requests] = b"?" + run.run_key
        self.give(Commanded(self.requests, Cancel(run.run_id)))

    # --- what store and executors do --------------------------------------------------------------------------

    @rule(
        fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=4),
        outcomes=st.lists(st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED, None]), min_size=1, max_size=4),
        steps=st.integers(1, 30),
        seconds=st.sampled_from([0, 2, 20]),
    )
    def work(self, fates: list[str], outcomes: list[Outcome | None], steps: int, seconds: int) -> None:
        """Everybody goes on for a while; executions of outcome None hang."""
        fate, outcome = cycle(fates), cycle(outcomes)
        until_us = self.now.mono_us + seconds * SECOND_US
        for _ in range(steps):
            if self.waiting:
                self.answer(next(fate))
                continue
            for start in list(self.running.values()):
                ending = next(outcome)
                if ending is not None:
                    self.end(start, ending)
            wakeup = self.machine.next_wakeup(self.now)
            if not self.waiting and (wakeup is None or wakeup.at_us > until_us):
                return
            self.pass_until(self.now.mono_us if wakeup is None else min(wakeup.at_us, until_us))
            self.give(Woke())

    @precondition(lambda self: self.waiting)
    @rule(fate=st.sampled_from(FATES))
    def answers(self, fate: str) -> None:
        self.answer(fate)

    def answer(self, fate: str) -> None:
        """One answer of the store."""
        operation = self.waiting.popleft()
        if isinstance(operation, Read):
            failed = ReadFailed(operation.op, FailReason.UNAVAILABLE)
            self.give(failed if fate == "away" else ReadDone(operation.op, self.store.read(operation.query)))
            return
        answer: Event = self.store.write(operation) if fate in ("true", "done unknown") else Woke()
        if fate == "true" or isinstance(answer, WriteFailed):
            self.give(answer)
            return
        reason = FailReason.UNAVAILABLE if fate == "away" else FailReason.UNKNOWN
        self.give(self.store.fail(operation, reason))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 9), outcome=st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED]))
    def finish(self, which: int, outcome: Outcome) -> None:
        self.end(list(self.running.values())[which % len(self.running)], outcome)

    def end(self, start: StartRun, outcome: Outcome) -> None:
        """One execution ends."""
        if outcome is Outcome.SUCCEEDED and (start.row, start.attempt) not in self.given_up:
            self.succeeded.append(start.row)
        del self.running[start.row, start.attempt]
        self.store.reported[start.row, start.attempt, outcome] = None
        reason = "" if outcome is Outcome.SUCCEEDED else "error"
        self.give(RunsFinished((self.result(start, start.attempt, outcome, reason),)))

    def result(self, start: StartRun, attempt: int, outcome: Outcome, reason: str = "") -> RunResult:
        return RunResult(start.row, attempt, outcome, reason, self.now.utc_us, self.now.utc_us)

    @precondition(lambda self: any(run.method == "far" for run in self.running.values()))
    @rule(which=st.integers(0, 3), gone=st.booleans())
    def worker_loses(self, which: int, gone: bool) -> None:
        """A worker is lost with what it executed, or gives back what it has not begun."""
        keys = [key for key, run in self.running.items() if run.method == "far"]
        key = keys[which % len(keys)]
        del self.running[key]
        self.give(RunsVanished((key,), "the worker is lost") if gone else RunsReturned((key,), "busy"))

    @precondition(lambda self: self.undelivered)
    @rule()
    def worker_is_asked(self) -> None:
        """It knows nothing of these."""
        runs, self.undelivered = tuple(self.undelivered), []
        self.give(RunsReturned(runs, "never heard of it"))

    @precondition(lambda self: self.store.begun)
    @rule(which=st.integers(0, 99), ahead=st.sampled_from([-1, 0, 1]))
    def replay(self, which: int, ahead: int) -> None:
        """RUN-2: what comes twice, or of another attempt, changes nothing."""
        begun = [start for starts in self.store.begun.values() for start in starts]
        start = begun[which % len(begun)]
        attempt = start.attempt + ahead
        if (start.row, attempt) not in self.running:
            self.give(RunsFinished((self.result(start, attempt, Outcome.SUCCEEDED),)))

    @rule(there=st.booleans())
    def handlers_change(self, there: bool) -> None:
        self.handlers = ALL_THERE if there else SOME_GONE
        self.give(self.handlers)

    # --- time, and ends ---------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1, 3, 9, 60]))
    def time_passes(self, seconds: float) -> None:
        """As the driver lets it: the machine is woken wherever it asked for it."""
        until_us = self.now.mono_us + round(seconds * SECOND_US)
        for _ in range(500):
            wakeup = self.machine.next_wakeup(self.now)
            if wakeup is None or wakeup.at_us > until_us:
                self.pass_until(until_us)
                self.give(Woke())
                return
            self.pass_until(wakeup.at_us)
            self.give(Woke())
        raise AssertionError("KERNEL-4: the backlog does not shrink")

    def pass_until(self, mono_us: int) -> None:
        ahead_us = max(mono_us - self.now.mono_us, 0)
        self.now = Now(self.now.mono_us + ahead_us, self.now.utc_us + ahead_us)

    @rule(seconds=st.sampled_from([-600, 600]))
    def clock_steps(self, seconds: int) -> None:
        self.now = evolve(self.now, utc_us=self.now.utc_us + seconds * SECOND_US)

    @rule(durable=st.integers(0, 5))
    def crash(self, durable: int) -> None:
        """Some of what was under way became durable."""
        for operation in list(self.waiting)[:durable]:
            if isinstance(operation, Write):
                self.store.write(operation)
        self.live()

    @rule(grace_s=st.sampled_from([0, 3]), tell=st.booleans())
    def drain(self, grace_s: int, tell: bool) -> None:
        """RUN-9: whatever handlers do, it ends in time; with a store that answers, nothing is kept back."""
        self.give(StopRequested(grace_s * SECOND_US))
        bound_us = ODD.drain_cancel_us + ODD.drain_write_us
        for _ in range(int((grace_s * SECOND_US + bound_us) / SECOND_US) + 2):
            while tell and self.waiting:
                self.answer("true")
            self.time_passes(1)
        assert self.stopped, "RUN-9: a drain ends"
        if tell:
            self.results_are_kept()
        self.live()

    def results_are_kept(self) -> None:
        """RUN-5."""
        outcomes = [self.store.runs[row].outcome for row in self.succeeded]
        assert outcomes == [Outcome.SUCCEEDED] * len(outcomes), "RUN-5: a result was lost"

    def calm_down(self) -> None:
        """The store answers, every execution ends, time passes."""
        for _ in range(400):
            if self.waiting:
                self.answer("true")
            elif self.undelivered:
                self.worker_is_asked()
            elif self.running:
                self.finish(0, Outcome.SUCCEEDED)
            elif not self.machine.table.runs and self.machine.writer.idle:
                return
            else:
                self.time_passes(9)
        raise AssertionError(f"never over: {list(self.machine.table.runs.values())}")

    def teardown(self) -> None:
        """Heal everything: then every run is over, everybody answered, and nothing kept."""
        if not hasattr(self, "machine"):
            return
        self.handlers_change(True)
        self.calm_down()
        table = self.machine.table
        assert all(run.state is RunState.DONE for run in self.store.runs.values())
        self.results_are_kept()
        assert self.slices == 0, "each slice is settled or undone"
        assert not self.open, "RUN-8: each request is answered"
        kept = (table.executing, table.remote, table.stranded, table.unsettled, table.doomed, table.definitions)
        assert not any(kept), "what is over is forgotten"
        placement = table.placement
        assert not any((placement.lanes, placement.widths, placement.filed, placement.slots, placement.ready))
        assert all(pool.used == 0 for pool in placement.pools.all.values()), "PLACE-2: every slot was given back"


Labour.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestLabour: Callable[..., None] = Labour.TestCase  # type: ignore[assignment]
