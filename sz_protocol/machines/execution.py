"""Runs: how due instants become executions, and executions outcomes.

Rules: specs/execution.md. RUN-1 a run ends once. RUN-2 a completion matches row and attempt. RUN-3 retries stay within
policy. RUN-4 nothing starts before its claim is durable. RUN-5 a result is kept until it is durable. RUN-6 the running
set is reconciled before anything new starts.
"""

from enum import Enum, auto
from random import Random

from attrs import Factory, define, evolve, frozen

from sz_protocol.changes import CursorMove
from sz_protocol.commands import Cancel, Done, Refusal, RefusalCode
from sz_protocol.definition import Definition
from sz_protocol.kernel.effects import CancelReason, CancelRun, Effect, Publish, Reply, StartRun, StartRuns, Stop
from sz_protocol.kernel.events import (
    Commanded,
    Event,
    FailReason,
    Firing,
    FiringsDecided,
    FiringsSettled,
    FiringsUndone,
    HandlersChanged,
    RunResult,
    RunsFinished,
    RunsFound,
    RunWanted,
    Started,
    StopRequested,
)
from sz_protocol.kernel.moves import Moves, move
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.machines.completion import Completion, decide_completion, decide_loss, decide_stop
from sz_protocol.machines.run_table import RunTable, bare_definition
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
from sz_protocol.notices import AttemptFailed, Ignored, RunsRecorded, RunUnresponsive, SteppedDown
from sz_protocol.policy import OverlapVerdict, decide_overlap, lane_width
from sz_protocol.records import Outcome, Reason, Run, RunState, Schedule, run_key
from sz_protocol.settings import Settings
from sz_protocol.triggers import nominal_key


class ExecutionState(Enum):
    """IDLE before the start; RUNNING; DRAINING starts nothing new; STOPPED orders nothing more."""

    IDLE = auto()
    RUNNING = auto()
    DRAINING = auto()
    STOPPED = auto()


@frozen
class Drained:
    """Verdict: nothing executes and nothing waits for the store any more."""


MOVES: Moves[ExecutionState] = {
    (ExecutionState.IDLE, Started): ExecutionState.RUNNING,
    (ExecutionState.IDLE, StopRequested): ExecutionState.DRAINING,
    (ExecutionState.RUNNING, StopRequested): ExecutionState.DRAINING,
    (ExecutionState.DRAINING, StopRequested): ExecutionState.DRAINING,
    (ExecutionState.DRAINING, Drained): ExecutionState.STOPPED,
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
    table: RunTable = Factory(RunTable)
    recorded: dict[bytes, None] = Factory(dict)
    """Run keys of which the store said that it has them already."""
    drain_until_us: int | None = None
    cancelled_all: bool = False
    outbox: list[FiringsSettled | FiringsUndone] = Factory(list)

    # --- the interface ----------------------------------------------------------------------------------------

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Expire what is over, take one fact, then claim what can have a slot."""
        if self.state is ExecutionState.STOPPED:
            return []
        # Expire first: a late result must not win against a deadline that has passed.
        effects = self._expire(now)
        for verdict in self.writer.handle(event, now):
            effects += self._on_verdict(verdict, now)
        effects += self._on_event(event, now)
        if self.state is ExecutionState.RUNNING:
            self._claim_ready()
        effects += self._take_writes()
        if self.state is ExecutionState.DRAINING:
            effects += self._finish_drain(now)
        return effects

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The first deadline, back-off or retry; BACKLOG while runs that hold a slot wait for their claim."""
        if self.state is ExecutionState.STOPPED:
            return None
        retry_at_us = self.writer.retry_at_us
        if self.table.placement.ready and self.state is ExecutionState.RUNNING and retry_at_us is None:
            return Wakeup(now.mono_us, WakeReason.BACKLOG)
        at_us = [heap[0][0] for heap in (self.table.deadlines, self.table.placement.delayed) if heap]
        at_us += [at for at in (retry_at_us, self.drain_until_us) if at is not None]
        return Wakeup(max(min(at_us), now.mono_us + 1), WakeReason.DEADLINE) if at_us else None

    def _on_event(self, event: Event, now: Now) -> list[Effect]:
        match event:
            case RunsFinished(results=results):
                return self._on_results(results, now)
            case FiringsDecided(firings=firings):
                self._on_firings(firings, now)
            case RunWanted(request_id=request_id, run=run, schedule=schedule):
                return self._on_wanted(request_id, run, schedule)
            case Commanded(request_id=request_id, command=Cancel(run_id=run_id)):
                return self._on_cancel(request_id, run_id, now)
            case RunsFound(runs=runs, schedules=schedules):
                self._on_found(runs, schedules, now)
            case HandlersChanged(methods=methods, pools=pools):
                for row in self.table.placement.learn(methods, pools):
                    self.table.place(row, now)
            case Started(term=term):
                self.state = move(MOVES, self.state, event)
                self.writer.ops.term = term
            case StopRequested(grace_us=grace_us):
                self.state = move(MOVES, self.state, event)
                self.drain_until_us = now.mono_us + grace_us
            case _:
                pass
        return []

    def _take_writes(self) -> list[Effect]:
        effects, self.writer.effects = self.writer.effects, []
        return effects

    # --- from instants to claims ------------------------------------------------------------------------------

    def _on_firings(self, firings: tuple[Firing, ...], now: Now) -> None:
        """Write a slice: its ledger rows and its cursors, together (SCHED-2)."""
        runs: list[Run] = []
        superseded: list[int] = []
        moves: list[CursorMove] = []
        for firing in firings:
            self._decide_rows(firing, now, runs, superseded)
            schedule = firing.schedule
            moves.append(CursorMove(schedule.id, schedule.rev, firing.from_us, firing.cursor_us, firing.next_due_us))
        self.writer.put(Slice(tuple(runs), tuple(moves), tuple(superseded), self.writer.ops.stream))

    def _decide_rows(self, firing: Firing, now: Now, runs: list[Run], superseded: list[int]) -> None:
        schedule, definition = firing.schedule, firing.schedule.definition
        for verdict in firing.verdicts:
            key = run_key(schedule.uid, nominal_key(definition.trigger, verdict.fire_us))
            if key in self.recorded:
                continue
            active = self.table.placement.active(definition.id)
            overlap = decide_overlap(definition.overlap, active, verdict.queued) if active else OverlapVerdict.RUN
            outcome, reason = verdict.outcome, verdict.reason
            if outcome is None and overlap in (OverlapVerdict.SKIP, OverlapVerdict.FULL):
                outcome = Outcome.SKIPPED
                reason = Reason.OVERLAP if overlap is OverlapVerdict.SKIP else Reason.QUEUE_FULL
            row = self.writer.ops.next_claim()
            # What need not wait is claimed at once, and the row's own number is its first claim: one write, not two.
            claimed = outcome is None and not verdict.not_before_us and self._has_slot(row, definition, active)
            state = RunState.DONE if outcome is not None else RunState.LEASED if claimed else RunState.PENDING
            run = Run(
                row,
                key,
                definition.id,
                verdict.fire_us,
                definition.handler_id,
                definition.method,
                state,
                now.utc_us,
                outcome=outcome,
                reason=reason,
                attempt=1 if claimed else 0,
                fence=row if claimed else 0,
                not_before_us=verdict.not_before_us,
                finished_us=None if outcome is None else now.utc_us,
                count=verdict.count,
                until_us=verdict.until_us,
                covers=verdict.covers,
            )
            runs.append(run)
            if outcome is not None:
                continue
            if overlap is OverlapVerdict.CANCEL:
                superseded.extend(self.table.placement.lanes[definition.id])
            self.table.enter(run, definition)
            if not claimed:
                self.table.place(row, now)

    def _has_slot(self, row: int, definition: Definition, active: int) -> bool:
        """Take a slot for a run that is first in its lane."""
        if self.state is not ExecutionState.RUNNING or active >= lane_width(definition.overlap):
            return False
        return self.table.placement.take_slot(row, (definition.handler_id, definition.method))

    def _claim_ready(self) -> None:
        """Claim, in one write, runs whose turn has come (RUN-4)."""
        placement = self.table.placement
        limit = self.settings.slice_instants
        placement.ready.extend(placement.take_queued(self.table.runs, limit))
        if not placement.ready or self.writer.retry_at_us is not None:
            return
        claimed: list[Run] = []
        expected: list[int] = []
        while placement.ready and len(claimed) < limit:
            row = placement.ready.popleft()
            run = self.table.runs.get(row)
            if run is None or run.state is not RunState.PENDING:
                placement.free(row)
                continue
            expected.append(run.attempt)
            run = run.leased(run.attempt + 1, self.writer.ops.next_claim())
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
                for run in runs:
                    self.table.drop(run, now)
                return [Publish(Ignored(f"result of run {run.run_id}", "the store has a later one")) for run in runs]
            case Fenced():
                return self._step_down()

    def _on_durable(self, entry: Entry, now: Now) -> list[Effect]:
        match entry:
            case Slice(runs=runs, superseded=superseded):
                self.outbox.append(FiringsSettled())
                effects = self._stop_rows(superseded, CancelReason.SUPERSEDED, now)
                for run in runs:
                    if run.outcome is None and run.row in self.table.runs:
                        self.table.bound(run, now)
                effects += self._start(runs, now)
                return [*effects, Publish(RunsRecorded(runs))]
            case Claim(runs=runs):
                return self._start(runs, now)
            case Wanted(request_id=request_id, run=run):
                self.table.bound(run, now)
                self.table.place(run.row, now)
                return [Publish(RunsRecorded((run,))), Reply(request_id, Done(run.run_id))]
            case Save(completions=completions):
                for completion in completions:
                    # Another attempt is placed only now: its claim stands on the durable end of the last one.
                    if completion.run.state is RunState.PENDING:
                        self.table.place(completion.run.row, now)
                return [Publish(RunsRecorded(tuple(completion.run for completion in completions)))]

    def _start(self, runs: tuple[Run, ...], now: Now) -> list[Effect]:
        """Hand over what is claimed durably. Time has passed since the decision: each run is checked alone."""
        table = self.table
        starts: list[StartRun] = []
        revoked: list[Completion] = []
        for claimed in runs:
            if table.runs.get(claimed.row) is not claimed or claimed.state is not RunState.LEASED:
                continue
            if claimed.row in table.doomed:
                self._end_waiting((claimed,), table.doomed[claimed.row], now)
                continue
            if self.state is not ExecutionState.RUNNING:
                # Claimed but never started: as if the claim had not been.
                revoked.append(Completion(evolve(claimed, state=RunState.PENDING, attempt=claimed.attempt - 1)))
                continue
            starts.append(table.begin(claimed, now))
        if revoked:
            self._save(revoked, [completion.run.attempt + 1 for completion in revoked], now)
        return [StartRuns(tuple(starts))] if starts else []

    def _on_undone(self, undone: Undone, now: Now) -> list[Effect]:
        match undone.entry:
            case Slice(runs=runs, moves=moves):
                refused = dict.fromkeys(undone.refused) if undone.reason is FailReason.REFUSED else {}
                for run in reversed(runs):
                    if run.row in refused:
                        self.recorded[run.run_key] = None
                    self.table.drop(run, now)
                unavailable = undone.reason not in (FailReason.REFUSED, FailReason.PREVIOUS)
                self.outbox.append(FiringsUndone(tuple(m.schedule_id for m in moves), unavailable))
            case Claim(runs=runs):
                for run in runs:
                    if self.table.runs.get(run.row) is run:
                        self._unclaim(evolve(run, state=RunState.PENDING, attempt=run.attempt - 1), now)
            case Wanted(request_id=request_id, run=run):
                self.table.drop(run, now)
                if undone.reason is FailReason.REFUSED:
                    # The same idempotency key came before: that run is the answer.
                    return [Reply(request_id, Done(run.run_id))]
                message = f"the store could not take the run: {undone.detail or undone.reason}"
                return [Reply(request_id, Refusal(RefusalCode.UNAVAILABLE, message))]
        return []

    def _on_claims_read(self, claim: Claim, stored: tuple[Run, ...], now: Now) -> list[Effect]:
        truths = {run.row: run for run in stored}
        mine: list[Run] = []
        effects: list[Effect] = []
        for run in claim.runs:
            if self.table.runs.get(run.row) is not run:
                continue
            truth = truths.get(run.row)
            if truth is not None and truth.state is RunState.LEASED and truth.fence == run.fence:
                mine.append(run)
            elif truth is not None and truth.state is RunState.PENDING:
                self._unclaim(truth, now)
            else:
                self.table.drop(run, now)
                effects.append(Publish(Ignored(f"claim of run {run.run_id}", "the store says that it is over")))
        return effects + self._start(tuple(mine), now)

    def _unclaim(self, run: Run, now: Now) -> None:
        """The run is PENDING again and keeps its slot for the next try."""
        self.table.runs[run.row] = run
        if run.row in self.table.doomed:
            self._end_waiting((run,), self.table.doomed[run.row], now)
        else:
            self.table.placement.ready.append(run.row)

    def _step_down(self) -> list[Effect]:
        notice = SteppedDown(self.writer.ops.term)
        self.state = move(MOVES, self.state, notice)
        stops = [CancelRun(row, self.table.runs[row].attempt, CancelReason.SHUTDOWN) for row in self.table.executing]
        return [Publish(notice), *stops, Stop()]

    # --- from results to outcomes -----------------------------------------------------------------------------

    def _on_results(self, results: tuple[RunResult, ...], now: Now) -> list[Effect]:
        completions: list[Completion] = []
        expected: list[int] = []
        effects: list[Effect] = []
        for result in results:
            run = self.table.runs.get(result.row)
            if run is None or run.attempt != result.attempt or result.row not in self.table.executing:
                effects.append(self._ignore(result, now))
                continue
            cancelled = self.table.executing[result.row]
            definition = self.table.definitions[result.row]
            completion = decide_completion(run, definition, result, cancelled, self.settings, self.rng, now.utc_us)
            completions.append(completion)
            expected.append(run.attempt)
            if completion.attempt is not None:
                effects.append(_attempt_notice(completion))
        if completions:
            self._save(completions, expected, now)
        return effects

    def _ignore(self, result: RunResult, now: Now) -> Effect:
        """RUN-2: not the current attempt."""
        if self.table.ended_at_last(result.row, result.attempt, now):
            return Publish(Ignored(f"result of row {result.row}", "its outcome was recorded when it did not stop"))
        return Publish(Ignored(f"result of row {result.row}", f"attempt {result.attempt} is not executing here"))

    def _save(self, completions: list[Completion], expected: list[int], now: Now) -> None:
        """Keep what runs came to, in memory and, until it is durable, on its way to the store (RUN-5)."""
        for completion in completions:
            if completion.run.state is RunState.DONE:
                self.table.drop(completion.run, now)
            else:
                self.table.keep(completion.run)
        self.writer.put(Save(tuple(completions), tuple(expected)))

    # --- recovery, commands -----------------------------------------------------------------------------------

    def _on_found(self, runs: tuple[Run, ...], schedules: tuple[Schedule | None, ...], now: Now) -> None:
        """RUN-6: runs of the previous life. Those that may have been executing lost their executor with it."""
        lost: list[Completion] = []
        for run, schedule in zip(runs, schedules, strict=True):
            definition = schedule.definition if schedule is not None else bare_definition(run)
            self.table.enter(run, definition)
            self.table.bound(run, now)
            if run.state is RunState.LEASED:
                lost.append(decide_loss(run, definition, self.settings, self.rng, now.utc_us))
            else:
                self.table.place(run.row, now)
        if lost:
            self._save(lost, [completion.run.attempt for completion in lost], now)

    def _on_wanted(self, request_id: int, run: Run, schedule: Schedule | None) -> list[Effect]:
        if self.state is not ExecutionState.RUNNING:
            return [Reply(request_id, Refusal(RefusalCode.STOPPING, "the node is stopping"))]
        run = evolve(run, row=self.writer.ops.next_claim())
        self.table.enter(run, schedule.definition if schedule is not None else bare_definition(run))
        self.writer.put(Wanted(request_id, run))
        return []

    def _on_cancel(self, request_id: int, run_id: str, now: Now) -> list[Effect]:
        for row, run in self.table.runs.items():
            if run.run_id == run_id:
                effects = self._stop_rows((row,), CancelReason.REQUESTED, now)
                return [*effects, Reply(request_id, Done(run_id))]
        message = f"no run {run_id} is waiting or executing here"
        return [Reply(request_id, Refusal(RefusalCode.UNKNOWN_RUN, message))]

    # --- deadlines, cancellation, drain -----------------------------------------------------------------------

    def _expire(self, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        for run, reason in self.table.pop_deadlines(now):
            effects += self._give_up(run, now) if reason is None else self._stop_rows((run.row,), reason, now)
        for row in self.table.placement.pop_delayed(now):
            self.table.place(row, now)
        if self.drain_until_us is not None and now.mono_us >= self.drain_until_us and not self.cancelled_all:
            self.cancelled_all = True
            self.drain_until_us = now.mono_us + self.settings.cancel_grace_us
            effects += self._stop_rows(tuple(self.table.executing), CancelReason.SHUTDOWN, now)
        return effects

    def _stop_rows(self, rows: tuple[int, ...], reason: CancelReason, now: Now) -> list[Effect]:
        """End runs that wait, ask executing ones to stop. One whose claim is on its way ends when it is known which
        attempt the store holds."""
        effects: list[Effect] = []
        waiting: list[Run] = []
        for row in rows:
            run = self.table.runs.get(row)
            if run is None:
                continue
            if row in self.table.executing:
                if self.table.ask_to_stop(run, reason, self.settings.cancel_grace_us, now):
                    effects.append(CancelRun(row, run.attempt, reason))
            elif run.state is RunState.LEASED:
                self.table.doomed.setdefault(row, reason)
            else:
                waiting.append(run)
        self._end_waiting(tuple(waiting), reason, now)
        return effects

    def _end_waiting(self, runs: tuple[Run, ...], reason: CancelReason, now: Now) -> None:
        if runs:
            self._save([decide_stop(run, reason, now.utc_us) for run in runs], [run.attempt for run in runs], now)

    def _give_up(self, run: Run, now: Now) -> list[Effect]:
        """It was asked to stop and did not: record its outcome without it. No other attempt follows: this one is
        still executing, and holds its slot and its lane until it ends."""
        reason = self.table.executing.get(run.row)
        if reason is None or reason is CancelReason.SHUTDOWN:
            return []
        definition = self.table.definitions[run.row]
        result = RunResult(
            run.row,
            run.attempt,
            Outcome.FAILED,
            reason.value,
            started_us=run.decided_us,
            finished_us=now.utc_us,
            error="the handler did not stop when it was asked to",
            retryable=False,
        )
        completion = decide_completion(run, definition, result, reason, self.settings, self.rng, now.utc_us)
        self.table.strand(run)
        self.writer.put(Save((completion,), (run.attempt,)))
        return [Publish(RunUnresponsive(run.row, run.schedule_id, run.attempt))]

    def _finish_drain(self, now: Now) -> list[Effect]:
        """STOPPED once nothing executes and nothing waits for the store, or when both graces are over."""
        over = self.cancelled_all and self.drain_until_us is not None and now.mono_us >= self.drain_until_us
        if not over and (self.table.executing or not self.writer.idle):
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
