"""The trace of one instant: what happened, step by step, in the order of time. Part of explaining."""

from attrs import frozen

from sz_protocol.evidence import Evidence
from sz_protocol.moments import show_span, show_time
from sz_protocol.records import Attempt, Outcome, Run, RunState
from sz_protocol.triggers import describe_dst

ERROR_LENGTH = 200


@frozen
class Step:
    """One line of a trace; `at_us` is None where the time is not known."""

    at_us: int | None
    what: str


def trace_of(evidence: Evidence) -> tuple[Step, ...]:
    """The steps, by time; one whose time is not known stays behind the one that it follows."""
    steps: list[Step] = []
    schedule, fire_us, run = evidence.schedule, evidence.fire_us, evidence.run
    if fire_us is not None:
        dst = describe_dst(schedule.definition.trigger, fire_us)
        steps.append(Step(fire_us, f"fire time ({dst})" if dst else "fire time"))
        if evidence.due_us != fire_us:
            steps.append(Step(evidence.due_us, f"due, {show_span(evidence.due_us - fire_us)} later by its spread"))
    if run is not None:
        for other in evidence.active:
            steps.append(Step(other.decided_us, f"{_name(evidence, other)} was decided; it was active meanwhile"))
        steps.append(Step(run.decided_us, _decision(run)))
        for attempt in evidence.attempts:
            steps += _attempt(attempt)
        steps += _last_attempt(run, evidence.attempts)
        for later in (evidence.covered_by, evidence.replaced_by):
            if later is not None:
                at_us = later.started_us or later.decided_us
                steps.append(Step(at_us, f"{_name(evidence, later)} took its place: {_state(later)}"))
    return _by_time(steps)


def _by_time(steps: list[Step]) -> tuple[Step, ...]:
    place_us = 0
    placed: list[tuple[int, Step]] = []
    for step in steps:
        place_us = step.at_us if step.at_us is not None else place_us
        placed.append((place_us, step))
    return tuple(step for _, step in sorted(placed, key=lambda item: item[0]))


def _name(evidence: Evidence, run: Run) -> str:
    return f"the run of {show_time(run.fire_us, evidence.zone)}"


def _state(run: Run) -> str:
    if run.outcome is None:
        return "is executing" if run.state is RunState.LEASED else "is waiting"
    return f"{run.outcome} ({run.reason})"


def _decision(run: Run) -> str:
    executed = run.attempt > 0 or run.state is not RunState.DONE
    range_ = f", in one row for {run.count} fire times" if run.count > 1 else ""
    covers = f", for {len(run.covers)} earlier fire times too" if run.covers else ""
    if executed or run.outcome is None:
        return f"decided: to be run{covers}"
    return f"decided: {_state(run)}{range_}"


def _attempt(attempt: Attempt) -> list[Step]:
    begin = Step(attempt.started_us, f"attempt {attempt.attempt} started")
    if attempt.started_us is None:
        begin = Step(None, f"attempt {attempt.attempt} was claimed; when it started is not known")
    return [begin, _end(attempt.attempt, attempt.outcome, attempt.reason, attempt.finished_us, attempt.error)]


def _last_attempt(run: Run, before: tuple[Attempt, ...]) -> list[Step]:
    """The attempt that the row itself tells of, unless it is in the history already and the next one has not begun."""
    if run.state is RunState.PENDING:
        waits = f"attempt {run.attempt + 1} may start" if run.not_before_us else "waiting for its turn"
        return [Step(run.not_before_us or None, waits)]
    if not run.attempt:
        # Waited and was ended before it was executed; what was decided at once has nothing more to tell.
        waited = run.outcome in (Outcome.CANCELLED, Outcome.FAILED)
        return [Step(run.finished_us, f"{_state(run)}, before it was executed")] if waited else []
    if run.outcome is None:
        return [Step(None, f"attempt {run.attempt} is executing")]
    if any(attempt.attempt == run.attempt for attempt in before):
        return [Step(run.finished_us, f"{_state(run)}, before its next attempt")]
    begin = Step(run.started_us, f"attempt {run.attempt} started")
    if run.started_us is None:
        begin = Step(None, f"attempt {run.attempt} was claimed; when it started is not known")
    return [begin, _end(run.attempt, run.outcome, run.reason, run.finished_us, run.error)]


def _end(number: int, outcome: Outcome, reason: str, at_us: int | None, error: str | None) -> Step:
    line = (error or "").partition("\n")[0].strip()
    told = f"attempt {number} {outcome} ({reason})"
    return Step(at_us, f"{told}: {line[:ERROR_LENGTH]}" if line else told)
