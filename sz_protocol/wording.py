"""Plain words for every way in which an instant can end, and for the delays before that. Part of explaining."""

from sz_protocol.definition import Definition, OverlapPolicy, Semantics
from sz_protocol.durations import format_duration
from sz_protocol.evidence import Evidence, spread_of
from sz_protocol.moments import show_span, show_time
from sz_protocol.policy import grace_of, policy_at
from sz_protocol.records import Outcome, Reason, Run, RunKind, RunState

ERROR_LENGTH = 300


def account_of(evidence: Evidence, run: Run) -> list[str]:
    """What became of the instant, and why, in sentences."""
    told = _unfinished(evidence, run) if run.outcome is None else [OUTCOMES[run.outcome](evidence, run)]
    if run.count > 1 and run.until_us is not None:
        stretch = f"from {show_time(run.fire_us, evidence.zone)} to {show_time(run.until_us, evidence.zone)}"
        told.append(f"One row accounts for {run.count} fire times, {stretch}.")
    if run.covers:
        first = show_time(run.covers[0], evidence.zone)
        told.append(f"It stands for {_fire_times(len(run.covers))} before it too, from {first} on.")
    return told + _delays(evidence, run)


# --- outcomes --------------------------------------------------------------------------------------------------


def _succeeded(evidence: Evidence, run: Run) -> str:
    took = f"started {_lateness(evidence, run)} and took {_took(run)}"
    match run.reason:
        case Reason.LATE:
            return f"It ran late, and succeeded: it {took}."
        case Reason.CATCH_UP:
            return f"It was run to catch up, and succeeded: it {took}."
        case Reason.RETRIED:
            return f"It succeeded at attempt {run.attempt}, which {took}; {_tries_before(run)}."
        case Reason.MANUAL:
            return (
                f"A person asked for this run; it is no fire time of the schedule. It succeeded and took {_took(run)}."
            )
        case Reason.BACKFILL:
            return f"A backfill asked for this run. It succeeded and took {_took(run)}."
        case _:
            return f"It ran on time, and succeeded: it {took}."


def _failed(evidence: Evidence, run: Run) -> str:
    definition = evidence.schedule.definition
    called = f"{run.handler_id}.{run.method}"
    more = _failed_at(evidence, run)
    more += " It did not stop when it was asked to." if _would_not_stop(run) else ""
    match run.reason:
        case Reason.TIMEOUT:
            limit = f" of {format_duration(definition.timeout_us)}" if definition.timeout_us is not None else ""
            return f"It failed: it ran longer than its timeout{limit} and was stopped.{more}"
        case Reason.DEADLINE:
            limit = f" of {format_duration(definition.deadline_us)}" if definition.deadline_us is not None else ""
            return f"It failed: the deadline{limit} for all its attempts passed before it had ended.{more}"
        case Reason.UNSTORABLE:
            return f"It was executed, but what {called} returned cannot be stored: {_error(run)}{more}"
        case Reason.UNKNOWN_METHOD:
            return f"It failed: there was no method {called} where it was to be executed; that is not retried."
        case Reason.INVALID_PARAMS:
            return f"It failed: {called} does not take these params; that is not retried: {_error(run)}"
        case _:
            return f"It failed: {called} raised an error: {_error(run)}{more}"


def _failed_at(evidence: Evidence, run: Run) -> str:
    """Which attempt ended it, and what became of those before."""
    if any(attempt.attempt == run.attempt for attempt in evidence.attempts):
        return f" It waited for another attempt; {_tries_before(run)}."
    if run.attempt <= 1:
        return ""
    # A deadline ends the run without counting as a failure of its last attempt.
    return f" That was attempt {run.attempt}; {_tries_before(run, last=run.reason != Reason.DEADLINE)}."


def _cancelled(evidence: Evidence, run: Run) -> str:
    when = "while it executed" if run.attempt and run.started_us is not None else "before it was executed"
    if any(attempt.attempt == run.attempt for attempt in evidence.attempts):
        when = "between two attempts"
    match run.reason:
        case Reason.SUPERSEDED:
            other = evidence.replaced_by
            by = f"the run of {show_time(other.fire_us, evidence.zone)}" if other is not None else "a later run"
            return f"It was cancelled {when}: {by} took its place (overlap: cancel_running)."
        case Reason.CUT_OFF:
            return (
                f"It was stopped {when}, because its handler heard nothing of the server and the run is exclusive; "
                "semantics at_most_once forbids to repeat it."
            )
        case Reason.SHUTDOWN:
            return f"It was stopped {when}, because the server stopped; semantics at_most_once forbids to repeat it."
        case _:
            return f"It was cancelled {when}, because somebody asked for it."


def _skipped(evidence: Evidence, run: Run) -> str:
    definition = evidence.schedule.definition
    misfire = definition.misfire
    match run.reason:
        case Reason.OVERLAP | Reason.QUEUE_FULL:
            active = _who_was_active(evidence.zone, evidence.active) if evidence.active else _who_lingered(evidence)
            return f"It was not run: {active}, and {_overlap_rule(definition, run.reason)}."
        case Reason.COALESCED:
            return f"It was not run by itself: {_fate_of_cover(evidence)}. It had been missed together with later ones."
        case Reason.MISFIRE:
            return f"It was not run: {_misfire_rule(evidence, run)}."
        case Reason.LIMIT:
            return f"It was not run: misfire: all runs the latest {misfire.max} of what was missed, this one was older."
        case Reason.PAUSED:
            return "It was not run: the schedule was paused, and was resumed without making up for what it missed."
        case Reason.RETIRED:
            return f"It was not run: the schedule was not in its source ({evidence.schedule.source}) at that time."
        case Reason.SUPERSEDED:
            return f"It was not run: the trigger was changed at {_decided(evidence, run)}, before this was decided."
        case Reason.HANDLER_AWAY:
            return f"It was not run: nobody who has {definition.method!r} was connected, and away: skip."
        case Reason.UNTRUSTED_TIME:
            return (
                "It was not run: it passed before this node knew what time it was. Interval schedules are fired by "
                "monotonic time meanwhile, all others wait."
            )
        case _:
            return f"It was not run: {run.reason}."


def _missed(evidence: Evidence, run: Run) -> str:
    window = format_duration(evidence.schedule.definition.misfire.window_us)
    match run.reason:
        case Reason.WINDOW:
            return f"It was missed: when it could be decided it was older than the catch-up window of {window}."
        case Reason.LIMIT:
            return "It was missed: so many fire times had passed that only the latest were decided one by one."
        case Reason.PAST_AT_CREATION:
            return f"It was missed: the schedule was stored only at {_decided(evidence, run)}, after this date."
        case _:
            return f"It was missed: {run.reason}."


def _lost(evidence: Evidence, run: Run) -> str:
    if evidence.schedule.definition.semantics is Semantics.AT_MOST_ONCE:
        rule = "semantics at_most_once forbids to repeat it"
    else:
        times = "once" if run.losses == 1 else f"{run.losses} times"
        rule = f"that happened {times}, so it is not repeated any more"
    return (
        f"It was lost: its server died during attempt {run.attempt}, and {rule}. It may or may not have been executed."
    )


OUTCOMES = {
    Outcome.SUCCEEDED: _succeeded,
    Outcome.FAILED: _failed,
    Outcome.CANCELLED: _cancelled,
    Outcome.SKIPPED: _skipped,
    Outcome.MISSED: _missed,
    Outcome.LOST: _lost,
}


# --- not over yet ----------------------------------------------------------------------------------------------


def _unfinished(evidence: Evidence, run: Run) -> list[str]:
    now_us, zone = evidence.question.now_us, evidence.zone
    if run.state is RunState.LEASED:
        told = [f"It is executing, attempt {run.attempt}: decided {_ago(evidence, run.decided_us)}."]
        return [*told, *_silence(evidence)]
    if run.not_before_us > now_us:
        until = f"It waits until {show_time(run.not_before_us, zone)}"
        if run.attempt:
            return [f"{until} to make attempt {run.attempt + 1}; {_tries_before(run)}."]
        return [f"{until}: catch-up runs are started at a limited rate."]
    ahead = tuple(other for other in evidence.active if other.outcome is None)
    if ahead:
        return [f"It waits: {_who_was_active(evidence.zone, ahead, 'is')} ahead of it.", *_silence(evidence)]
    waits = f"It waits for a free slot, or for a handler that has {run.handler_id}.{run.method}"
    return [f"{waits}: decided {_ago(evidence, run.decided_us)}.", *_silence(evidence)]


def _silence(evidence: Evidence) -> list[str]:
    last_us = evidence.last_us
    if last_us is None or evidence.question.now_us - last_us <= 60 * evidence.question.late_us:
        return []
    told = f"The last entry of the whole ledger was made {_ago(evidence, last_us)}"
    return [f"{told}; if no server is running, the next one to start decides what becomes of it."]


def _ago(evidence: Evidence, at_us: int) -> str:
    return f"{show_span(evidence.question.now_us - at_us)} ago, at {show_time(at_us, evidence.zone)}"


# --- delays ----------------------------------------------------------------------------------------------------


def _delays(evidence: Evidence, run: Run) -> list[str]:
    """Why it was decided late, and why it was then started late."""
    if run.kind is not RunKind.SCHEDULED:
        return []
    told: list[str] = []
    late_us = evidence.question.late_us
    if run.decided_us - evidence.due_us > late_us:
        told.append(_why_decided_late(evidence, run))
    started_us = first_started(evidence, run)
    if started_us is not None and started_us - run.decided_us > late_us:
        told.append(_why_started_late(evidence, run, started_us))
    return told


def _why_decided_late(evidence: Evidence, run: Run) -> str:
    schedule, zone = evidence.schedule, evidence.zone
    late = f"It was decided {show_span(run.decided_us - evidence.due_us)} after it was due"
    if schedule.catch_up is not None and evidence.due_us <= schedule.catch_up_until_us:
        return f"{late}: the schedule was paused until {show_time(schedule.catch_up_until_us, zone)}."
    if run.reason in (Reason.PAUSED, Reason.RETIRED, Reason.SUPERSEDED, Reason.PAST_AT_CREATION):
        return f"{late}, at {show_time(run.decided_us, zone)}."
    if evidence.due_us < schedule.since_us <= run.decided_us:
        return f"{late}: the schedule stood still, or was edited, until {show_time(schedule.since_us, zone)}."
    if evidence.busy:
        return (
            f"{late}, while other fire times were decided: this schedule alone was held up, by parking or by the store."
        )
    before = ""
    if evidence.earlier is not None:
        before = f" The last decision for this schedule before that: {show_time(evidence.earlier.decided_us, zone)}."
    why = "the server was down, suspended, overloaded, or did not trust its clock"
    return f"{late}, and the ledger has no decision from the time between: {why}.{before}"


def _why_started_late(evidence: Evidence, run: Run, started_us: int) -> str:
    waited = f"It then waited {show_span(started_us - run.decided_us)} to be started"
    ends = [other.finished_us for other in evidence.active if other.finished_us is not None]
    if run.attempt == 1 and run.not_before_us > max([run.decided_us, *ends]):
        return f"{waited}: catch-up runs are started at a limited rate."
    if evidence.active:
        return f"{waited}: {_who_was_active(evidence.zone, evidence.active)}."
    return f"{waited}: no slot was free for {run.handler_id}.{run.method}, or the store was slow."


def first_started(evidence: Evidence, run: Run) -> int | None:
    """When the first attempt began; None where that is not known."""
    return evidence.attempts[0].started_us if evidence.attempts else run.started_us


# --- pieces ----------------------------------------------------------------------------------------------------


def _lateness(evidence: Evidence, run: Run) -> str:
    if run.started_us is None:
        return "at a time that is not known"
    late_us = run.started_us - evidence.fire_us if evidence.fire_us is not None else 0
    late_us -= spread_of(evidence.schedule)
    return f"{show_span(late_us)} after it was due" if late_us >= 0 else f"{show_span(late_us)} before it was due"


def _took(run: Run) -> str:
    if run.started_us is None or run.finished_us is None:
        return "a time that is not known"
    return show_span(run.finished_us - run.started_us)


def _tries_before(run: Run, *, last: bool = False) -> str:
    """What became of the attempts before this one; with `last`, this one is among those that failed."""
    counts = [(run.failures - last, "failed"), (run.losses, "died with the server")]
    told = " and ".join(f"{count} {what}" for count, what in counts if count > 0)
    return f"of the attempts before it, {told}" if told else "the attempt before it was interrupted"


def _error(run: Run) -> str:
    if not run.error:
        return "(no text was left)."
    line = run.error.partition("\n")[0].strip()
    return f"{line[:ERROR_LENGTH].rstrip('.')}."


def _decided(evidence: Evidence, run: Run) -> str:
    return show_time(run.decided_us, evidence.zone)


def _fire_times(count: int) -> str:
    return "the fire time" if count == 1 else f"{count} fire times"


def _who_was_active(zone: str, runs: tuple[Run, ...], verb: str = "was") -> str:
    oldest = runs[0]
    name = f"the run of {show_time(oldest.fire_us, zone)}"
    end = f" until {show_time(oldest.finished_us, zone)}" if oldest.finished_us is not None else ""
    if len(runs) == 1:
        return f"{name} {verb} still active{end}"
    verb = "are" if verb == "is" else "were"
    return f"{name}{f' (active{end})' if end else ''} and {len(runs) - 1} more {verb} still active"


def _who_lingered(evidence: Evidence) -> str:
    """What was in the way although its row says that it was over."""
    run = evidence.executed
    if run is None or run.finished_us is None:
        return "an earlier run of the schedule was still active"
    held = f"the run of {show_time(run.fire_us, evidence.zone)} still held its place"
    over = f"its row was closed at {show_time(run.finished_us, evidence.zone)}"
    if _would_not_stop(run):
        return f"{held} ({over}, but it went on executing and did not stop when it was asked to)"
    return f"{held} ({over}, which was not written yet)"


def _would_not_stop(run: Run) -> bool:
    return run.error is not None and "did not stop" in run.error


def _overlap_rule(definition: Definition, reason: str) -> str:
    if reason == Reason.QUEUE_FULL:
        return f"overlap: queue({definition.overlap.limit}) lets no more of them wait"
    if definition.overlap.policy is OverlapPolicy.ALLOW:
        return f"overlap: allow({definition.overlap.limit}) lets no more run at once"
    return "overlap: skip does not run two at once"


def _fate_of_cover(evidence: Evidence) -> str:
    cover = evidence.covered_by
    if cover is None:
        return "a later run stands for it (misfire: latest)"
    match cover.outcome:
        case None:
            fate = "which is not over yet"
        case Outcome.SUCCEEDED | Outcome.FAILED:
            fate = f"which {cover.outcome}"
        case _:
            fate = f"which was {cover.outcome} itself ({cover.reason})"
    return f"the run of {show_time(cover.fire_us, evidence.zone)} stands for it (misfire: latest), {fate}"


def _misfire_rule(evidence: Evidence, run: Run) -> str:
    schedule = evidence.schedule
    in_catch_up = schedule.catch_up is not None and evidence.due_us <= schedule.catch_up_until_us
    policy = policy_at(schedule.definition, schedule.catch_up if in_catch_up else None)
    grace_us = grace_of(schedule.definition.misfire, policy)
    late_us = run.decided_us - evidence.due_us
    if grace_us is not None and late_us > grace_us:
        return f"it could be decided only {show_span(late_us)} late, and its grace is {format_duration(grace_us)}"
    return f"of what was missed, misfire: {policy} runs only the newest"
