"""Runs: how due instants become executions, and executions outcomes.

Rules: specs/execution.md. RUN-1 a run ends once. RUN-2 a completion matches row and attempt. RUN-3 retries stay within
policy. RUN-4 nothing starts before its claim is durable. RUN-5 a result is kept until it is durable. RUN-6 the running
set is reconciled before anything new starts. RUN-9 a drain ends in bounded time, and what it could not wait for is
recorded.
"""

from enum import Enum, auto
from random import Random
from typing import Final

from attrs import Factory, define, evolve

from sz_protocol.commands import Cancel, Done, Refusal, RefusalCode
from sz_protocol.kernel.effects import CancelReason, CancelRun, Effect, Publish, Reply, StartRun, StartRuns, Stop
from sz_protocol.kernel.events import (
    Commanded,
    Event,
    FailReason,
    FiringsDecided,
    FiringsSettled,
    FiringsUndone,
    HandlersChanged,
    LeasedRun,
    ParkWanted,
    ReadDone,
    ResultsSettled,
    RunResult,
    RunsFinished,
    RunsFound,
    RunsLeftBehind,
    RunsProgressed,
    RunsRecovered,
    RunsReturned,
    RunsVanished,
    RunWanted,
    Started,
    StopRequested,
    Woke,
    WriteDone,
)
from sz_protocol.kernel.moves import Moves, move
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.kernel.record import record
from sz_protocol.machines.admission import Admission
from sz_protocol.machines.completion import Completion, decide_completion, decide_loss, decide_revoke, decide_stop
from sz_protocol.machines.run_table import FEW_DEADLINES, RunTable
from sz_protocol.machines.run_writer import (
    Claim,
    ClaimsRead,
    Durable,
    Entry,
    Fenced,
    Overtaken,
    RunWriter,
    Save,
    Slice,
    Undone,
    Verdict,
    Wanted,
)
from sz_protocol.machines.stopping import Stopping
from sz_protocol.notices import AttemptFailed, Ignored, RunProgressed, RunsRecorded, SteppedDown
from sz_protocol.records import Outcome, Run, RunState, Schedule, ScheduleState, bare_definition
from sz_protocol.settings import Settings
from sz_protocol.triggers import Unreadable

# Bound once, as in records.py.
_PENDING: Final = RunState.PENDING
_LEASED: Final = RunState.LEASED
_DONE: Final = RunState.DONE
_BACKLOG: Final = WakeReason.BACKLOG
_DEADLINE: Final = WakeReason.DEADLINE


class ExecutionState(Enum):
    """IDLE before the start; RECOVERING until the last life's runs are known; RUNNING; DRAINING starts nothing new;
    STOPPED orders nothing more."""

    IDLE = auto()
    RECOVERING = auto()
    RUNNING = auto()
    DRAINING = auto()
    STOPPED = auto()


# Bound once, as in records.py: looked at with every event.
_RUNNING: Final = ExecutionState.RUNNING
_DRAINING: Final = ExecutionState.DRAINING
_STOPPED: Final = ExecutionState.STOPPED


@record
class Drained:
    """Verdict: nothing executes and nothing waits for the store any more."""


MOVES: Moves[ExecutionState] = {
    (ExecutionState.IDLE, Started): ExecutionState.RECOVERING,
    (ExecutionState.RECOVERING, RunsRecovered): ExecutionState.RUNNING,
    (ExecutionState.IDLE, StopRequested): ExecutionState.DRAINING,
    (ExecutionState.RECOVERING, StopRequested): ExecutionState.DRAINING,
    (ExecutionState.RUNNING, StopRequested): ExecutionState.DRAINING,
    (ExecutionState.DRAINING, StopRequested): ExecutionState.DRAINING,
    (ExecutionState.DRAINING, RunsRecovered): ExecutionState.DRAINING,
    (ExecutionState.DRAINING, Drained): ExecutionState.STOPPED,
    (ExecutionState.RECOVERING, SteppedDown): ExecutionState.STOPPED,
    (ExecutionState.RUNNING, SteppedDown): ExecutionState.STOPPED,
    (ExecutionState.DRAINING, SteppedDown): ExecutionState.STOPPED,
}


@define
class Execution:
    """Decides what becomes of due instants, results and time-outs. What it asks of the store goes through `writer`,
    what it knows of live runs stands in `table`."""

    settings: Settings
    rng: Random
    writer: RunWriter
    state: ExecutionState = ExecutionState.IDLE
    table: RunTable = Factory(lambda self: RunTable(return_pause_us=self.settings.return_pause_us), takes_self=True)
    admission: Admission = Factory(lambda self: Admission(self.writer.ops, self.table), takes_self=True)
    stopping: Stopping = Factory(
        lambda self: Stopping(self.settings, self.rng, self.writer, self.table), takes_self=True
    )
    drain_until_us: int | None = None
    cancelled_all: bool = False
    gave_up: bool = False
    outbox: list[FiringsSettled | FiringsUndone | ParkWanted | RunsLeftBehind | ResultsSettled] = Factory(list)

    # --- the interface ----------------------------------------------------------------------------------------

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Expire what is over, take one fact, then claim what can have a slot."""
        if self.state is _STOPPED:
            return []
        # Expire first: a late result must not win against a deadline that has passed.
        effects = self._expire(now)
        for verdict in self.writer.handle(event, now):
            effects += self._on_verdict(verdict, now)
        effects += self._on_event(event, now)
        if self.state is _RUNNING:
            self._claim_ready()
        if self.writer.effects:
            effects += self._take_writes()
        if self.state is _DRAINING:
            effects += self._finish_drain(now)
        return effects

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The first deadline, back-off or retry; BACKLOG while runs that hold a slot wait for their claim."""
        if self.state is _STOPPED:
            return None
        retry_at_us = self.writer.retry_at_us
        placement = self.table.placement
        if placement.ready and self.state is _RUNNING and retry_at_us is None:
            return Wakeup(now.mono_us, _BACKLOG)
        at_us = self.table.first_deadline()
        if placement.delayed and (at_us is None or placement.delayed[0][0] < at_us):
            at_us = placement.delayed[0][0]
        for other_us in (retry_at_us, self.drain_until_us):
            if other_us is not None and (at_us is None or other_us < at_us):
                at_us = other_us
        return None if at_us is None else Wakeup(max(at_us, now.mono_us + 1), _DEADLINE)

    def _on_event(self, event: Event, now: Now) -> list[Effect]:
        match event:
            case Woke() | WriteDone() | ReadDone():
                # The most frequent ones: time and the store's answers have been dealt with.
                pass
            case RunsFinished(results=results):
                return self._on_results(results, now)
            case RunsProgressed(progress=progress):
                return [Publish(RunProgressed(p.row, p.attempt, p.note, p.percent)) for p in progress]
            case FiringsDecided():
                self.writer.put(self.admission.admit(event, now))
            case RunWanted(request_id=request_id, run=run, schedule=schedule):
                return self._on_wanted(request_id, run, schedule, now)
            case Commanded(request_id=request_id, command=Cancel(run_id=run_id)):
                return self._on_cancel(request_id, run_id, now)
            case RunsFound(runs=runs, schedules=schedules):
                self._on_found(runs, schedules, now)
            case HandlersChanged():
                self.table.placement.pools.learn(event)
            case RunsVanished(runs=runs, reason=reason):
                self._on_vanished(runs, reason, now)
            case RunsReturned(runs=runs):
                self._on_returned(runs, now)
            case Started() | RunsRecovered() | StopRequested():
                self._on_life(event, now)
            case _:
                pass
        return []

    def _on_life(self, event: Started | RunsRecovered | StopRequested, now: Now) -> None:
        self.state = move(MOVES, self.state, event)
        match event:
            case Started(term=term):
                self.writer.ops.term = term
            case StopRequested(grace_us=grace_us):
                self.table.open = False
                until_us = now.mono_us + grace_us
                self.drain_until_us = until_us if self.drain_until_us is None else min(self.drain_until_us, until_us)
            case RunsRecovered() if self.state is ExecutionState.RUNNING:
                # RUN-6: only now does anything move forward, in the order in which it was decided.
                self.table.open = True
                for row in list(self.table.runs):
                    self.table.place(row, now)

    def _take_writes(self) -> list[Effect]:
        effects, self.writer.effects = self.writer.effects, []
        return effects

    def _claim_ready(self) -> None:
        """Claim, in one write, runs whose turn has come (RUN-4)."""
        placement = self.table.placement
        ready = placement.ready
        if self.writer.retry_at_us is not None or not (ready or placement.pools.awake):
            return
        limit = self.settings.slice_instants
        claimed: list[Run] = []
        expected: list[int] = []
        while len(claimed) < limit:
            if not ready:
                self.table.take_queued(limit - len(claimed))
            if not ready:
                break
            row = ready.popleft()
            run = self.table.runs.get(row)
            if run is None or run.state is not _PENDING:
                continue
            expected.append(run.attempt)
            worker = self.table.placement.worker_of(row)
            run = run.leased(run.attempt + 1, self.writer.ops.next_claim(), worker)
            self.table.runs[row] = run
            claimed.append(run)
        if claimed:
            self.writer.put(Claim(tuple(claimed), tuple(expected)))

    # --- what the store said ----------------------------------------------------------------------------------

    def _on_verdict(self, verdict: Verdict, now: Now) -> list[Effect]:
        match verdict:
            case Durable(entry=entry):
                return self._on_durable(entry, now)
            case Undone():
                return self._on_undone(verdict, now)
            case ClaimsRead(claim=claim, stored=stored):
                return self._on_claims_read(claim, stored, now)
            case Overtaken(runs=runs):
                # Nothing will ever come of these results: their workers need not keep them.
                self.outbox.append(ResultsSettled(tuple((run.row, run.attempt) for run in runs)))
                return [effect for run in runs for effect in self._void(run, "result", now)]
            case Fenced():
                return self._step_down()

    def _on_durable(self, entry: Entry, now: Now) -> list[Effect]:
        match entry:
            case Slice(runs=runs, superseded=superseded, monotonic=monotonic):
                self.outbox.append(FiringsSettled(monotonic))
                effects = self.stopping.stop(superseded, CancelReason.SUPERSEDED, now)
                live, definitions = self.table.runs, self.table.definitions
                for run in runs:
                    if run.outcome is None and run.row in live:
                        if definitions[run.row].deadline_us is not None:
                            self.table.bound(run, now)
                        if run.state is _PENDING:
                            self.stopping.settle(run.row, now)
                effects += self._start(runs, now)
                return [*effects, Publish(RunsRecorded(runs))]
            case Claim(runs=runs):
                return self._start(runs, now)
            case Wanted(request_id=request_id, run=run):
                self.table.bound(run, now)
                if run.state is RunState.PENDING:
                    self.stopping.settle(run.row, now)
                return [*self._start((run,), now), Publish(RunsRecorded((run,))), Reply(request_id, Done(run.run_id))]
            case Save(completions=completions):
                saved = tuple([completion.run for completion in completions])
                effects = [Publish(RunsRecorded(saved))]
                settled = [(c.run.row, c.expected) for c in completions if c.run.worker]
                if settled:
                    self.outbox.append(ResultsSettled(tuple(settled)))
                stopping, asked = self.stopping, self.stopping.asked
                for run in saved:
                    if run.state is _DONE:
                        if asked:
                            effects += stopping.told(run)
                    elif run.row in self.table.runs:
                        stopping.settle(run.row, now)
                return effects

    def _start(self, runs: tuple[Run, ...], now: Now) -> list[Effect]:
        """Hand over what is claimed durably. Time has passed since the decision: each run is checked alone."""
        table, running = self.table, self.state is ExecutionState.RUNNING
        live, doomed = table.runs, table.doomed
        starts: dict[str, list[StartRun]] = {}
        revoked: list[Completion] = []
        for claimed in runs:
            if live.get(claimed.row) is not claimed or claimed.state is not _LEASED:
                continue
            if claimed.row in doomed:
                self.stopping.settle(claimed.row, now)
            elif running:
                there = starts.get(claimed.worker)
                if there is None:
                    there = starts[claimed.worker] = []
                there.append(table.begin(claimed, now))
            else:
                revoked.append(decide_revoke(claimed))
        if revoked:
            self._save(revoked, now)
        return [StartRuns(tuple(runs), worker) for worker, runs in starts.items()]

    def _on_undone(self, undone: Undone, now: Now) -> list[Effect]:
        match undone.entry:
            case Slice():
                return self._on_slice_undone(undone.entry, undone, now)
            case Claim(runs=runs):
                for run in runs:
                    self._unclaim(evolve(run, state=RunState.PENDING, attempt=run.attempt - 1), now)
            case Wanted(request_id=request_id, run=run):
                self.table.drop(run, now)
                effects = self.stopping.void(run)
                if undone.reason is FailReason.REFUSED:
                    # The same idempotency key came before: that run is the answer.
                    return [*effects, Reply(request_id, Done(run.run_id))]
                message = f"the store could not take the run: {undone.detail or undone.reason}"
                return [*effects, Reply(request_id, Refusal(RefusalCode.UNAVAILABLE, message))]
        return []

    def _on_slice_undone(self, slice_: Slice, undone: Undone, now: Now) -> list[Effect]:
        """Its schedules are decided anew. One whose rows the store cannot hold must not stand in the way of others."""
        refused = undone.refused if undone.reason is FailReason.REFUSED else ()
        self.admission.undo(slice_, refused, now)
        unavailable = undone.reason not in (FailReason.REFUSED, FailReason.PREVIOUS)
        ids = tuple(move.schedule_id for move in slice_.moves)
        self.outbox.append(FiringsUndone(ids, unavailable, slice_.monotonic))
        if undone.reason is FailReason.INVALID:
            bad = dict.fromkeys(undone.refused)
            stuck = dict.fromkeys(run.schedule_id for run in slice_.runs if run.row in bad)
            if stuck:
                reason = f"the store cannot hold its rows: {undone.detail}"
                self.outbox.append(ParkWanted(tuple(stuck), ScheduleState.QUARANTINED, reason))
        return [effect for run in slice_.runs for effect in self.stopping.void(run)]

    def _on_claims_read(self, claim: Claim, stored: tuple[Run, ...], now: Now) -> list[Effect]:
        truths = {run.row: run for run in stored}
        mine: list[Run] = []
        effects: list[Effect] = []
        for run in claim.runs:
            truth = truths.get(run.row)
            if truth is not None and truth.state is RunState.LEASED and truth.fence == run.fence:
                mine.append(run)
            elif truth is not None and truth.state is RunState.PENDING:
                self._unclaim(truth, now)
            else:
                effects += self._void(run, "claim", now)
        return effects + self._start(tuple(mine), now)

    def _unclaim(self, run: Run, now: Now) -> None:
        """The run is PENDING again and keeps its slot for the next try."""
        self.table.runs[run.row] = run
        self.stopping.settle(run.row, now)

    def _void(self, run: Run, what: str, now: Now) -> list[Effect]:
        """The store has a later truth about a run."""
        self.table.drop(run, now)
        notice = Ignored(f"{what} of run {run.run_id}", "the store has a later one, or none")
        return [Publish(notice), *self.stopping.void(run)]

    def _step_down(self) -> list[Effect]:
        notice = SteppedDown(self.writer.ops.term)
        self.state = move(MOVES, self.state, notice)
        # What workers execute goes on: whoever decides now finds it with them.
        here = [self.table.runs[row] for row in self.table.executing if row not in self.table.remote]
        stops = [CancelRun(run.row, run.attempt, CancelReason.SHUTDOWN) for run in here]
        return [Publish(notice), *stops, Stop()]

    # --- from results to outcomes -----------------------------------------------------------------------------

    def _on_results(self, results: tuple[RunResult, ...], now: Now) -> list[Effect]:
        completions: list[Completion] = []
        effects: list[Effect] = []
        runs, executing, definitions = self.table.runs, self.table.executing, self.table.definitions
        for result in results:
            row = result.row
            run = runs.get(row)
            if run is None or run.attempt != result.attempt or row not in executing:
                effects.append(self._ignore(result, now))
                continue
            completion = decide_completion(
                run, definitions[row], result, executing[row], self.settings, self.rng, now.utc_us
            )
            completions.append(completion)
            if completion.attempt is not None:
                effects.append(_attempt_notice(completion))
        if completions:
            self._save(completions, now)
        return effects

    def _ignore(self, result: RunResult, now: Now) -> Effect:
        """RUN-2: not the current attempt. Its worker may forget it once what was decided instead is durable."""
        if not self.writer.is_saving(result.row):
            self.outbox.append(ResultsSettled(((result.row, result.attempt),)))
        if self.table.ended_at_last(result.row, result.attempt, now):
            return Publish(Ignored(f"result of row {result.row}", "its outcome was recorded when it did not stop"))
        return Publish(Ignored(f"result of row {result.row}", f"attempt {result.attempt} is not executing here"))

    def _save(self, completions: list[Completion], now: Now) -> None:
        """Keep what runs came to, in memory and, until it is durable, on its way to the store (RUN-5)."""
        self.table.apply(completions, now)
        self.writer.put(Save(tuple(completions)))

    # --- recovery, commands -----------------------------------------------------------------------------------

    def _on_found(self, runs: tuple[Run, ...], schedules: tuple[Schedule | None, ...], now: Now) -> None:
        """RUN-6: runs of the previous life. Those that may have been executing lost their executor with it."""
        lost: list[Completion] = []
        left: list[LeasedRun] = []
        for run, schedule in zip(runs, schedules, strict=True):
            definition = schedule.definition if schedule is not None else bare_definition(run)
            if isinstance(definition.trigger, Unreadable) and not (run.worker and self.settings.remote):
                continue  # Nobody can say how it is to be executed: it stays as it is until somebody can.
            self.table.enter(run, definition)
            self.table.bound(run, now)
            if run.state is not RunState.LEASED:
                continue
            if run.worker and self.settings.remote:
                self.table.resume(run, now)
                left.append(LeasedRun(run.worker, run.row, run.attempt, run.fence, definition.exclusive, run.run_id))
            else:
                lost.append(decide_loss(run, definition, self.settings, self.rng, now.utc_us))
        if left:
            self.outbox.append(RunsLeftBehind(tuple(left)))
        if lost:
            self._save(lost, now)

    # --- workers ----------------------------------------------------------------------------------------------

    def _current(self, runs: tuple[tuple[int, int], ...]) -> list[Run]:
        """Those that are still the executing attempt."""
        found = [self.table.runs.get(row) for row, attempt in runs if row in self.table.executing]
        attempts = dict(runs)
        return [run for run in found if run is not None and run.attempt == attempts[run.row]]

    def _on_vanished(self, runs: tuple[tuple[int, int], ...], reason: str, now: Now) -> None:
        """The executors of these runs are gone (POLICY-5). One that was to be stopped has stopped."""
        completions: list[Completion] = []
        for run in self._current(runs):
            definition = self.table.definitions[run.row]
            asked = self.table.executing[run.row]
            if isinstance(definition.trigger, Unreadable):
                # Whether it may be repeated stands where this version cannot read it: as in `_on_found`.
                self.table.drop(run, now)
            elif asked in (None, CancelReason.SHUTDOWN, CancelReason.TIMEOUT):
                completions.append(decide_loss(run, definition, self.settings, self.rng, now.utc_us, reason))
            else:
                gone = RunResult(
                    run.row, run.attempt, Outcome.CANCELLED, asked.value, run.decided_us, now.utc_us, error=reason
                )
                completions.append(decide_completion(run, definition, gone, asked, self.settings, self.rng, now.utc_us))
        for row, attempt in runs:
            self.table.ended_at_last(row, attempt, now)
        if completions:
            self._save(completions, now)

    def _on_returned(self, runs: tuple[tuple[int, int], ...], now: Now) -> None:
        """Claimed and not begun. A run that was to be stopped meanwhile is; the others are placed again, after a pause
        that keeps a worker that refuses everything from being asked all the time."""
        returned: list[Completion] = []
        for run in self._current(runs):
            asked = self.table.executing[run.row]
            if asked in (None, CancelReason.SHUTDOWN, CancelReason.TIMEOUT):
                returned.append(decide_revoke(run, now.utc_us + self.settings.return_pause_us))
            else:
                returned.append(decide_stop(run, asked, now.utc_us))
        for row, attempt in runs:
            self.table.ended_at_last(row, attempt, now)
        if returned:
            self._save(returned, now)

    def _on_wanted(self, request_id: int, run: Run, schedule: Schedule | None, now: Now) -> list[Effect]:
        if self.state not in (ExecutionState.RECOVERING, ExecutionState.RUNNING):
            return [Reply(request_id, Refusal(RefusalCode.STOPPING, "the node is stopping"))]
        run = evolve(run, row=self.writer.ops.next_claim())
        definition = schedule.definition if schedule is not None else bare_definition(run)
        self.table.widen(definition, now)
        self.table.enter(run, definition)
        run = self.table.claim_or_place(run, now)
        self.writer.put(Wanted(request_id, run))
        return []

    def _on_cancel(self, request_id: int, run_id: str, now: Now) -> list[Effect]:
        if self.state is ExecutionState.RECOVERING:
            message = "the runs of the last life are still being read"
            return [Reply(request_id, Refusal(RefusalCode.UNAVAILABLE, message))]
        return self.stopping.cancel(request_id, run_id, now)

    # --- time, and the end ------------------------------------------------------------------------------------

    def _expire(self, now: Now) -> list[Effect]:
        deadlines, delayed = self.table.deadlines, self.table.placement.delayed
        effects: list[Effect] = []
        if deadlines and (deadlines[0][0] <= now.mono_us or len(deadlines) > FEW_DEADLINES):
            effects += self.stopping.expire(now)
        if delayed and delayed[0][0] <= now.mono_us:
            for row in self.table.placement.pop_delayed(now):
                self.table.place(row, now, waited=True)
        if self.drain_until_us is not None and now.mono_us >= self.drain_until_us:
            effects += self._drain_on(now)
        return effects

    def _drain_on(self, now: Now) -> list[Effect]:
        """RUN-9: the grace is over, and what executes is cancelled; or that is over too, and it is recorded without."""
        here = tuple(row for row in self.table.executing if row not in self.table.remote)
        if not self.cancelled_all:
            self.cancelled_all = True
            self.drain_until_us = now.mono_us + self.settings.drain_cancel_us
            return self.stopping.stop(here, CancelReason.SHUTDOWN, now)
        if not self.gave_up:
            self.gave_up = True
            self.drain_until_us = now.mono_us + self.settings.drain_write_us
            return self.stopping.give_up(here, now)
        return []

    def _finish_drain(self, now: Now) -> list[Effect]:
        """STOPPED once nothing executes and nothing waits for the store, or when every bound has passed."""
        over = self.gave_up and self.drain_until_us is not None and now.mono_us >= self.drain_until_us
        if not over and (self.table.executes_here or not self.writer.idle or self.writer.ops.edits):
            return []
        self.state = move(MOVES, self.state, Drained())
        return [Stop()]


def _attempt_notice(completion: Completion) -> Effect:
    run, attempt = completion.run, completion.attempt
    assert attempt is not None, "RUN-3: only an attempt that is followed by another one is told"
    return Publish(
        AttemptFailed(
            run.row, run.schedule_id, attempt.attempt, attempt.outcome, attempt.reason, run.not_before_us, attempt.error
        )
    )
