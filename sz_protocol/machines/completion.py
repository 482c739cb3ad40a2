"""What an ended execution makes of its run: an outcome, or another attempt. Pure decisions.

Table: specs/execution.md. RUN-1 a run ends once. RUN-3 retries stay within policy.
"""

from random import Random
from typing import Final

from attrs import evolve

from sz_protocol.definition import Definition, OverlapPolicy, Semantics
from sz_protocol.kernel.effects import CancelReason
from sz_protocol.kernel.events import RunResult
from sz_protocol.kernel.record import record
from sz_protocol.policy import backoff_us, may_restart, may_retry, success_reason
from sz_protocol.records import Attempt, Outcome, Reason, Run, RunState
from sz_protocol.settings import Settings

# Bound once, as in records.py.
_CANCELLED: Final = Outcome.CANCELLED
_SUCCEEDED: Final = Outcome.SUCCEEDED

STRENGTH = {
    None: 0,
    CancelReason.SHUTDOWN: 1,
    CancelReason.CUT_OFF: 1,
    CancelReason.TIMEOUT: 1,
    CancelReason.DEADLINE: 2,
    CancelReason.SUPERSEDED: 3,
    CancelReason.REQUESTED: 4,
}
"""A stronger reason replaces a weaker one: after those of strength 1 another attempt may follow, after the others
none."""


def stronger(before: CancelReason | None, reason: CancelReason | None) -> CancelReason | None:
    """Which of two reasons to stop a run counts: the first one, unless the other is stronger."""
    return reason if STRENGTH[reason] > STRENGTH[before] else before


@record
class Completion:
    """The run as it stands now, the attempt that its stored row must have for that, and the history row of the
    attempt when another one follows."""

    run: Run
    expected: int
    attempt: Attempt | None = None


def decide_completion(
    run: Run,
    definition: Definition,
    result: RunResult,
    cancelled: CancelReason | None,
    settings: Settings,
    rng: Random,
    now_us: int,
) -> Completion:
    """A result of the current attempt. What was asked to stop and succeeded all the same has succeeded. What was not
    asked in this life may have been asked all the same: by an earlier life of the node, or by its worker, which stops a
    run of its own accord when it drains, or an exclusive one when it hears nothing of its server (ATT-7, ATT-8). The
    result says it."""
    if result.outcome is _CANCELLED:
        cancelled = stronger(cancelled, _asked_elsewhere(definition, result))
    if result.outcome is _SUCCEEDED:
        began_us, ended_us = result.started_us, result.finished_us
        reason = success_reason(
            run, ended_us if began_us is None else began_us, settings.late_us + definition.spread_us
        )
        return Completion(run.done(_SUCCEEDED, reason, began_us, ended_us, result.result, result.error), run.attempt)
    match cancelled:
        case CancelReason.REQUESTED | CancelReason.SUPERSEDED:
            return Completion(_done(run, result, Outcome.CANCELLED, cancelled.value), run.attempt)
        case CancelReason.DEADLINE:
            return Completion(_done(run, result, Outcome.FAILED, Reason.DEADLINE), run.attempt)
        case CancelReason.SHUTDOWN | CancelReason.CUT_OFF:
            return _interrupted(run, definition, result, Reason(cancelled.value), now_us)
        case CancelReason.TIMEOUT:
            reason = Reason.TIMEOUT
        case None:
            reason = Reason(result.reason) if result.reason in _FAILURES else Reason.ERROR
    failures = run.failures + 1
    if not may_retry(definition.retry, failures, result.retryable):
        return Completion(_done(evolve(run, failures=failures), result, Outcome.FAILED, reason), run.attempt)
    wait_us = backoff_us(definition.retry, failures, rng)
    again = evolve(
        run, state=RunState.PENDING, failures=failures, not_before_us=now_us + wait_us, started_us=result.started_us
    )
    return Completion(again, run.attempt, _history(run, Outcome.FAILED, reason, result))


def decide_loss(
    run: Run, definition: Definition, settings: Settings, rng: Random, now_us: int, error: str | None = None
) -> Completion:
    """A run whose executor vanished (POLICY-5)."""
    losses = run.losses + 1
    if not may_restart(definition.semantics, losses, settings.loss_limit):
        lost = evolve(
            run,
            state=RunState.DONE,
            outcome=Outcome.LOST,
            reason=Reason.CRASHED,
            losses=losses,
            finished_us=now_us,
            error=error,
        )
        return Completion(lost, run.attempt)
    # The first loss restarts at once; one that keeps losing its executor waits longer each time.
    wait_us = backoff_us(definition.retry, losses - 1, rng) if losses > 1 else 0
    again = evolve(run, state=RunState.PENDING, losses=losses, not_before_us=now_us + wait_us)
    gone = Attempt(run.row, run.attempt, Outcome.LOST, Reason.CRASHED, run.started_us, now_us, error)
    return Completion(again, run.attempt, gone)


def without_data(completion: Completion) -> Completion:
    """The same outcome without what the handler left, for a store that cannot hold it."""
    note = "what the handler left could not be stored"
    attempt = None if completion.attempt is None else evolve(completion.attempt, error=note)
    return Completion(evolve(completion.run, result=None, error=note), completion.expected, attempt)


def decide_stop(run: Run, reason: CancelReason, now_us: int) -> Completion:
    """A run that was stopped before its attempt began."""
    outcome = Outcome.FAILED if reason is CancelReason.DEADLINE else Outcome.CANCELLED
    done = evolve(run, state=RunState.DONE, outcome=outcome, reason=reason.value, finished_us=now_us)
    return Completion(done, run.attempt)


def decide_revoke(run: Run, not_before_us: int | None = None) -> Completion:
    """Claimed but never started: as if the claim had not been."""
    again = evolve(run, state=RunState.PENDING, attempt=run.attempt - 1, worker="")
    return Completion(again if not_before_us is None else evolve(again, not_before_us=not_before_us), run.attempt)


_FAILURES = frozenset(
    {Reason.ERROR, Reason.UNSTORABLE, Reason.UNKNOWN_METHOD, Reason.INVALID_PARAMS, Reason.TIMEOUT, Reason.DEADLINE}
)
_ASKED: Final[dict[str, CancelReason]] = {reason.value: reason for reason in CancelReason}


def _asked_elsewhere(definition: Definition, result: RunResult) -> CancelReason | None:
    """Why it was stopped, as the result has it. A server that does not know a run says `superseded` too; only where a
    newer run takes the place of an older one does that end a run for good."""
    reason = _ASKED.get(result.reason)
    if reason is CancelReason.SUPERSEDED and definition.overlap.policy is not OverlapPolicy.CANCEL_RUNNING:
        return CancelReason.CUT_OFF
    return reason


def _interrupted(run: Run, definition: Definition, result: RunResult, reason: Reason, now_us: int) -> Completion:
    """Stopped by a shutdown, or because its worker was cut off: done for good when at most once is promised, else to be
    repeated."""
    if definition.semantics is Semantics.AT_MOST_ONCE:
        return Completion(_done(run, result, Outcome.CANCELLED, reason), run.attempt)
    again = evolve(run, state=RunState.PENDING, not_before_us=now_us)
    return Completion(again, run.attempt, _history(run, Outcome.CANCELLED, reason, result))


def _done(run: Run, result: RunResult, outcome: Outcome, reason: str) -> Run:
    return run.done(outcome, reason, result.started_us, result.finished_us, result.result, result.error)


def _history(run: Run, outcome: Outcome, reason: str, result: RunResult) -> Attempt:
    return Attempt(run.row, run.attempt, outcome, reason, result.started_us, result.finished_us, result.error)
