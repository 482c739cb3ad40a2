"""What a handler executes, and what it has executed lately: whether a run that is sent is to be begun, adopted,
answered or turned away. Part of attachment; pure bookkeeping, no effects.

ATT-2 an attempt is executed once in a life. ATT-3 a newer attempt waits for the end of the older one.
"""

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush

from attrs import Factory, define, evolve

from sz_protocol.attaching import Key
from sz_protocol.kernel.effects import CancelReason, CancelRun, StartRun
from sz_protocol.kernel.events import MethodInfo, RunResult
from sz_protocol.kernel.now import Now
from sz_protocol.kernel.record import record
from sz_protocol.messages import DispatchedRun, HeldRun, RefuseCode, RunReport

NEVER = 0, ""
"""No attempt of this row was executed here."""


@record
class Execution:
    """A run under way. `fence` and `delivery` are those of its latest hand-over."""

    start: StartRun
    fence: int
    delivery: int
    asked: CancelReason | None = None


@record
class Begin:
    """Verdict: it is new here."""


@record
class Adopt:
    """Verdict: it executes already."""


@record
class Answer:
    """Verdict: it has ended, and its result tells so."""

    key: Key


@record
class Drop:
    """Verdict: an old copy; whoever sent it knows better by now."""

    reason: str


@record
class TurnAway:
    """Verdict: not begun, and it will not be: `stop` is an older attempt that has to end first (ATT-3)."""

    code: RefuseCode
    stop: Key


Verdict = Begin | Adopt | Answer | Drop | TurnAway


@define
class Holding:
    """`executing` by row: two attempts of one run never execute at once. `ended` holds the last attempt of each row
    that was executed, and its run's id, for as long as its result waits and for some time after; `fading` says until
    when."""

    slots: int
    executing: dict[int, Execution] = Factory(dict)
    exclusive: dict[int, None] = Factory(dict)
    busy: dict[str, int] = Factory(dict)
    ended: dict[int, tuple[int, str]] = Factory(dict)
    fading: deque[tuple[int, Key]] = Factory(deque)
    deadlines: list[tuple[int, int, int]] = Factory(list)

    # --- what comes -------------------------------------------------------------------------------------------

    def judge(self, run: DispatchedRun) -> Verdict:
        """What to make of a run that is sent, as far as the past decides it."""
        execution = self.executing.get(run.row)
        if execution is not None:
            return self._judge_beside(execution, run)
        ended, run_id = self.ended.get(run.row, NEVER)
        if run_id and run_id != run.run_id:
            return Begin()  # another run: a new ledger counts anew
        if run.attempt == ended:
            return Answer((run.row, run.attempt))
        if run.attempt < ended:
            return Drop(f"attempt {ended} was executed already")
        return Begin()

    def _judge_beside(self, execution: Execution, run: DispatchedRun) -> Verdict:
        attempt = execution.start.attempt
        if run.attempt > attempt or run.run_id != execution.start.run_id:
            return TurnAway(RefuseCode.BUSY, stop=(run.row, attempt))
        if run.attempt < attempt:
            return Drop(f"attempt {attempt} executes already")
        if (run.fence, run.delivery) < (execution.fence, execution.delivery):
            return Drop(f"delivery {execution.delivery} came already")
        return Adopt()

    def room(self) -> int:
        """How many more may execute."""
        return max(0, self.slots - len(self.executing))

    def is_full(self, info: MethodInfo) -> bool:
        """Whether one more run of this method would be too many."""
        busy = self.busy.get(info.method, 0)
        return not self.room() or (info.concurrency is not None and busy >= info.concurrency)

    # --- what goes on -----------------------------------------------------------------------------------------

    def begin(self, run: DispatchedRun, info: MethodInfo, now: Now) -> StartRun:
        """Take it: from here on it executes."""
        deadline_us = None if run.timeout_us is None else now.mono_us + run.timeout_us
        start = StartRun(
            row=run.row,
            run_id=run.run_id,
            schedule_id=run.schedule_id,
            kind=run.kind,
            handler_id=info.handler_id,
            method=info.method,
            params=run.params,
            fire_us=run.fire_us,
            attempt=run.attempt,
            fence=run.fence,
            deadline_us=deadline_us,
            labels=run.labels,
            at_most_once=run.at_most_once,
            exclusive=run.exclusive,
        )
        assert run.row not in self.executing, "ATT-3: two attempts of one run would execute at once"
        ended, run_id = self.ended.get(run.row, NEVER)
        assert run.attempt > ended or run.run_id != run_id, "ATT-2: this attempt was executed before"
        self.executing[run.row] = Execution(start, run.fence, run.delivery)
        self.busy[info.method] = self.busy.get(info.method, 0) + 1
        if run.exclusive:
            self.exclusive[run.row] = None
        if deadline_us is not None:
            heappush(self.deadlines, (deadline_us, run.row, run.attempt))
        return start

    def adopt(self, run: DispatchedRun) -> None:
        """Note the latest hand-over of what executes."""
        execution = self.executing[run.row]
        self.executing[run.row] = evolve(execution, fence=run.fence, delivery=run.delivery)

    def stop(self, row: int, attempt: int, reason: CancelReason) -> list[CancelRun]:
        """The order to stop this execution; none where it does not execute, or was asked before."""
        execution = self.executing.get(row)
        if execution is None or execution.start.attempt != attempt or execution.asked is not None:
            return []
        self.executing[row] = evolve(execution, asked=reason)
        return [CancelRun(row, attempt, reason)]

    def stop_all(self, rows: Iterable[int], reason: CancelReason) -> list[CancelRun]:
        """The orders to stop these."""
        return [order for row in list(rows) for order in self.stop(row, self.executing[row].start.attempt, reason)]

    def executes(self, key: Key) -> bool:
        """Whether this attempt is under way."""
        execution = self.executing.get(key[0])
        return execution is not None and execution.start.attempt == key[1]

    def pop_overdue(self, now: Now) -> list[Key]:
        """Executions whose time is over."""
        found: list[Key] = []
        while self.deadlines and self.deadlines[0][0] <= now.mono_us:
            _, row, attempt = heappop(self.deadlines)
            if self.executes((row, attempt)):
                found.append((row, attempt))
        return found

    def next_deadline_us(self) -> int | None:
        """When the next execution is overdue; those that have ended are cleared away."""
        while self.deadlines and not self.executes(self.deadlines[0][1:]):
            heappop(self.deadlines)
        return self.deadlines[0][0] if self.deadlines else None

    # --- what ends --------------------------------------------------------------------------------------------

    def end(self, result: RunResult, incarnation: int) -> RunReport | None:
        """The report of an execution; None where it is none of ours."""
        if not self.executes((result.row, result.attempt)):
            return None
        execution = self.executing.pop(result.row)
        method = execution.start.method
        self.busy[method] -= 1
        if not self.busy[method]:
            del self.busy[method]
        self.exclusive.pop(result.row, None)
        self.ended[result.row] = result.attempt, execution.start.run_id
        return RunReport(
            row=result.row,
            attempt=result.attempt,
            delivery=execution.delivery,
            fence=execution.fence,
            incarnation=incarnation,
            outcome=result.outcome,
            reason=result.reason,
            started_us=result.started_us,
            finished_us=result.finished_us,
            result=result.result,
            error=result.error,
            retryable=result.retryable,
            run_id=execution.start.run_id,
        )

    def recall(self, report: RunReport) -> None:
        """An earlier life executed it, and its result waits."""
        self.ended[report.row] = max((report.attempt, report.run_id), self.ended.get(report.row, NEVER))

    def fade(self, key: Key, until_us: int) -> None:
        """Its result is acknowledged: remember it until no copy of its dispatch can be on its way."""
        self.fading.append((until_us, key))

    def forget(self, now: Now) -> None:
        """Let go of what was remembered for long enough."""
        while self.fading and self.fading[0][0] <= now.mono_us:
            row, attempt = self.fading.popleft()[1]
            if self.ended.get(row, NEVER)[0] == attempt:
                del self.ended[row]

    def held(self) -> tuple[HeldRun, ...]:
        """What executes, for a Hello."""
        found = ((e.start, e.delivery, e.fence) for e in self.executing.values())
        return tuple(HeldRun(s.row, s.attempt, delivery, fence, s.run_id) for s, delivery, fence in found)
