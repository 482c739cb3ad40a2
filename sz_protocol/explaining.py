"""Why a schedule fired or did not: from the ledger's evidence to a verdict, plain words and a trace. Pure.

`investigate` is a generator of queries: whoever drives it sends the rows back and receives an `Explanation`. Every
fire time gets an answer, and so does every moment at which nothing was to fire.
"""

import re
from collections.abc import Generator
from typing import Any

from attrs import evolve, frozen

from sz_protocol.definition_wire import definition_hash
from sz_protocol.evidence import (
    Evidence,
    Question,
    about_run,
    fires_within,
    gather,
    last_sign,
    nearest_fires,
    spread_of,
)
from sz_protocol.kernel.now import DAY_US
from sz_protocol.moments import show_span, show_time, zone_of
from sz_protocol.queries import Query, RunByKey, RunsPage, SchedulesById, SchedulesPage
from sz_protocol.records import Attempt, Outcome, Run, RunState, Schedule, ScheduleState, bare_definition
from sz_protocol.tracing import Step, trace_of
from sz_protocol.triggers import LAST_US, CannotAdvance, missed
from sz_protocol.wording import account_of

_RUN_ID = re.compile("[0-9a-f]{32}")
RECENT = 10
UPCOMING = 5
IDS_PAGE = 1000

VERDICTS = {
    "not_yet_due": "it is a fire time to come",
    "not_due": "nothing was to fire then",
    "before_creation": "the schedule did not exist yet",
    "beyond_retention": "its row has been dropped from the ledger",
    "undecided": "it was due and nothing has decided it yet",
    "unaccounted": "the ledger should have a row, and has none",
    "unknown_schedule": "the ledger knows no such schedule",
}
"""The verdicts that are neither an outcome, nor the state of a run or of a schedule."""

STILL = {
    ScheduleState.PAUSED: "Whoever resumes it says what becomes of what it misses.",
    ScheduleState.PARKED: "Once its handler is here it goes on by itself, and its misfire policy decides on the rest.",
    ScheduleState.QUARANTINED: "It is tried again when its source is read: at a start, at a reload.",
    ScheduleState.RETIRED: "Its source no longer has it; nothing is deleted.",
    ScheduleState.FINISHED: "It has no fire time left.",
}
"""What a schedule that stands still waits for."""

RUNNING = {RunState.LEASED: "running", RunState.PENDING: "waiting"}


@frozen
class Explanation:
    """An answer. `verdict` is an outcome, the state of a run (running, waiting) or of a schedule, or one of VERDICTS;
    `reason` one word for the cause; `sentences` say both to a person, `steps` are the trace.

    Of an instant: `fire_us` (None where nothing fires), `others` that the moment may have meant, the `run` that
    accounts for it with its `attempts`, and the fires around it. Of a schedule: its `upcoming` fires and `recent`
    rows, newest first. `near` are the names that come closest to one that is not known.
    """

    schedule_id: str
    verdict: str
    reason: str
    sentences: tuple[str, ...]
    schedule: Schedule | None = None
    fire_us: int | None = None
    others: tuple[int, ...] = ()
    run: Run | None = None
    attempts: tuple[Attempt, ...] = ()
    steps: tuple[Step, ...] = ()
    before_us: int | None = None
    after_us: int | None = None
    upcoming: tuple[int, ...] = ()
    recent: tuple[Run, ...] = ()
    near: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The answer in plain words."""
        return " ".join(self.sentences)


Investigation = Generator[Query, tuple[Any, ...], Explanation]


def investigate(question: Question) -> Investigation:
    """Find out: yields queries, is sent their rows, returns the explanation."""
    rows = yield SchedulesById((question.schedule_id,))
    if not rows:
        found = yield from _run_of_id(question)
        return found if found is not None else (yield from _unknown(question))
    schedule: Schedule = rows[0]
    if question.moment is None:
        return (yield from _standing(question, schedule))
    evidence = yield from gather(question, schedule, question.moment)
    return explain(evidence)


def _run_of_id(question: Question) -> Generator[Query, tuple[Any, ...], Explanation | None]:
    """The account of a run that is named by its id, as `run-now` and `trigger` print it; None where it is none."""
    if _RUN_ID.fullmatch(question.schedule_id) is None or question.moment is not None:
        return None
    runs = yield RunByKey(bytes.fromhex(question.schedule_id))
    if not runs:
        return None
    run: Run = runs[0]
    schedules = (yield SchedulesById((run.schedule_id,))) if run.schedule_id else ()
    if schedules:
        return explain((yield from about_run(question, schedules[0], run)))
    bare = bare_definition(run)
    alone = Schedule(bare.id, bare, b"", "", 0, run.fire_us, None, run.decided_us, run.decided_us)
    explanation = explain((yield from about_run(question, alone, run)))
    return evolve(explanation, schedule=None)


def explain(evidence: Evidence) -> Explanation:
    """What the evidence about one moment says."""
    schedule, run = evidence.schedule, evidence.run
    if run is not None:
        verdict, reason = str(run.outcome or RUNNING[run.state]), str(run.reason) or RUNNING.get(run.state, "")
        sentences = account_of(evidence, run)
    elif evidence.fire_us is None:
        verdict, reason, sentences = _not_due(evidence)
    else:
        verdict, reason, sentences = _without_row(evidence, evidence.fire_us)
    at_us = evidence.begin_us if evidence.fire_us is None else evidence.fire_us
    before_us, after_us = nearest_fires(schedule.definition.trigger, at_us)
    return Explanation(
        schedule.id,
        verdict,
        reason,
        (*sentences, *_other_matches(evidence)),
        schedule=schedule,
        fire_us=evidence.fire_us,
        others=evidence.others,
        run=run,
        attempts=evidence.attempts,
        steps=trace_of(evidence),
        before_us=before_us,
        after_us=after_us,
    )


def _other_matches(evidence: Evidence) -> tuple[str, ...]:
    if not evidence.others or evidence.fire_us is None:
        return ()
    first = ", ".join(show_time(at_us, evidence.zone) for at_us in evidence.others[:3])
    more = f" and {len(evidence.others) - 3} more" if len(evidence.others) > 3 else ""
    return (f"This is about {show_time(evidence.fire_us, evidence.zone)}; the time given also means {first}{more}.",)


# --- no row ----------------------------------------------------------------------------------------------------


def _not_due(evidence: Evidence) -> tuple[str, str, list[str]]:
    schedule, zone = evidence.schedule, evidence.zone
    told = [f"Nothing was to fire at {show_time(evidence.begin_us, zone)}."]
    told += [f"{note}." for note in evidence.dst_notes]
    before_us, after_us = nearest_fires(schedule.definition.trigger, evidence.begin_us)
    around = [f"the last one before it is {show_time(before_us, zone)}"] if before_us is not None else []
    around += [f"the next one after it {show_time(after_us, zone)}"] if after_us is not None else []
    if around:
        told.append(f"Of its fire times, {', '.join(around)} (zone {zone}).")
    elif schedule.state is ScheduleState.QUARANTINED:
        return str(schedule.state), str(schedule.state), [*told, *_stands_still(schedule, zone)]
    else:
        told.append("It has no fire times around that.")
    told += _edited_since(evidence, evidence.begin_us)
    return "not_due", "dst" if evidence.dst_notes else "no_fire_time", told


def _edited_since(evidence: Evidence, at_us: int) -> list[str]:
    schedule = evidence.schedule
    if schedule.rev == 1 or at_us > schedule.since_us:
        return []
    since = show_time(schedule.since_us, evidence.zone)
    return [f"That is what its trigger says now: the schedule is at revision {schedule.rev}, last edited at {since}."]


def _without_row(evidence: Evidence, fire_us: int) -> tuple[str, str, list[str]]:
    """A fire time of the present trigger for which the ledger has no row."""
    schedule, question = evidence.schedule, evidence.question
    if evidence.due_us > question.now_us:
        return _to_come(evidence)
    if fire_us > schedule.cursor_us:
        return _undecided(evidence)
    if fire_us <= schedule.created_us:
        since = show_time(schedule.created_us, evidence.zone)
        told = f"The schedule did not exist yet: it was stored at {since}, and nothing before that is made up for."
        return "before_creation", "before_creation", [told]
    retention_us = question.retention_us
    if retention_us is not None and fire_us < question.now_us - retention_us:
        told = f"It was decided, but its row has been dropped: the ledger keeps rows for {show_span(retention_us)}."
        return "beyond_retention", "retention", [told]
    edited = _edited_since(evidence, fire_us)
    if edited:
        told = "Everything up to this moment was decided without it: another trigger must have been in force then."
        return "not_due", "edited", [told, *edited]
    told = "This fire time has been passed over without a row. That must not happen (LEDGER-1): please report it."
    return "unaccounted", "unaccounted", [told]


def _to_come(evidence: Evidence) -> tuple[str, str, list[str]]:
    schedule, wait_us = evidence.schedule, evidence.due_us - evidence.question.now_us
    told = [f"It is not due yet: it will be in {show_span(wait_us)}, at {show_time(evidence.due_us, evidence.zone)}."]
    if schedule.state is ScheduleState.ACTIVE:
        return "not_yet_due", "future", told
    return "not_yet_due", str(schedule.state), [*told, *_stands_still(schedule, evidence.zone)]


def _stands_still(schedule: Schedule, zone: str) -> list[str]:
    since = f"The schedule is {schedule.state} since {show_time(schedule.since_us, zone)}"
    told = [f"{since}: {schedule.reason}." if schedule.reason else f"{since}.", STILL[schedule.state]]
    if schedule.paused_us is not None:
        why = f" ({schedule.paused_reason})" if schedule.paused_reason else ""
        told.append(f"It is paused since {show_time(schedule.paused_us, zone)}{why}, and will be when it comes back.")
    return told


def _undecided(evidence: Evidence) -> tuple[str, str, list[str]]:
    schedule, zone, question = evidence.schedule, evidence.zone, evidence.question
    late_us = question.now_us - evidence.due_us
    told = [f"It was due {show_span(late_us)} ago and has not been decided."]
    if schedule.state is not ScheduleState.ACTIVE:
        told += _stands_still(schedule, zone)
        if evidence.due_us < schedule.since_us:
            told.append("It was due before that already, and no server decided it in time.")
        return str(schedule.state), str(schedule.state), told
    if late_us <= question.late_us:
        return "undecided", "just_due", [*told, "A server that is at work decides it about now."]
    if evidence.last_us is not None and evidence.last_us >= evidence.due_us + question.late_us:
        last = show_time(evidence.last_us, zone)
        told.append(f"A server has written to the ledger since, last at {last}, so this one is held up: ")
        told[-1] += "a backlog, a clock that is not trusted, or a store in trouble; the server's log tells which."
        return "undecided", "held_up", told
    last = "is empty" if evidence.last_us is None else f"has its last entry from {show_time(evidence.last_us, zone)}"
    told.append(f"No server has decided anything since it was due (the ledger {last}): is `schedulezero run` running?")
    told.append("Once one runs, the misfire policy decides what becomes of it.")
    return "undecided", "server_down", told


# --- a schedule's standing, and none ---------------------------------------------------------------------------


def _standing(question: Question, schedule: Schedule) -> Investigation:
    recent: tuple[Run, ...] = yield RunsPage(RECENT, schedule_id=schedule.id)
    newest: tuple[Run, ...] = yield RunsPage(RECENT)
    now_us, zone = question.now_us, zone_of(schedule.definition.trigger)
    since = show_time(schedule.since_us, zone)
    active = schedule.state is ScheduleState.ACTIVE
    told = [f"The schedule is active since {since}."] if active else _stands_still(schedule, zone)
    told += _outstanding(question, schedule, last_sign(newest))
    trigger = schedule.definition.trigger
    upcoming: tuple[int, ...] = ()
    if schedule.state is not ScheduleState.RETIRED:
        upcoming = tuple(fires_within(trigger, max(now_us, schedule.cursor_us) + 1, LAST_US, UPCOMING))
    if upcoming:
        would = "Its next fire time is" if active else "Its next fire time would be"
        told.append(f"{would} {show_time(upcoming[0], zone)}, in {show_span(upcoming[0] - now_us)}.")
    told += _latest(recent, zone) + _configured_otherwise(question, schedule)
    return Explanation(
        schedule.id,
        str(schedule.state),
        schedule.reason,
        tuple(told),
        schedule=schedule,
        steps=tuple(Step(run.fire_us, _in_short(run)) for run in reversed(recent)),
        upcoming=upcoming,
        recent=recent,
    )


def _outstanding(question: Question, schedule: Schedule, last_us: int | None) -> list[str]:
    """What was due and is undecided."""
    until_us = question.now_us - question.late_us - spread_of(schedule)
    low_us = max(schedule.cursor_us, until_us - DAY_US)
    if until_us <= low_us or schedule.state in (ScheduleState.RETIRED, ScheduleState.FINISHED):
        return []
    zone = zone_of(schedule.definition.trigger)
    try:
        overdue = missed(schedule.definition.trigger, low_us, until_us, 1)
    except CannotAdvance:
        return []
    if not overdue.kept:
        return []
    count = overdue.dropped + len(overdue.kept)
    within = " of the last day" if low_us > schedule.cursor_us else ""
    noun = f"One fire time{within} was" if count == 1 else f"{count} fire times{within} were"
    told = f"{noun} due and {'is' if count == 1 else 'are'} undecided, the latest {show_time(overdue.kept[-1], zone)}"
    if schedule.state is not ScheduleState.ACTIVE:
        return [f"{told}."]
    last = "none" if last_us is None else show_time(last_us, zone)
    return [f"{told}: is a server running? (Last entry of the whole ledger: {last}.)"]


def _latest(recent: tuple[Run, ...], zone: str) -> list[str]:
    if not recent:
        return ["The ledger has no row of it yet."]
    told = [f"The latest row: {show_time(recent[0].fire_us, zone)} {_in_short(recent[0])}."]
    over = [run for run in recent if run.outcome is not None]
    if len(over) > 1 and all(run.outcome is not Outcome.SUCCEEDED for run in over):
        told.append(f"None of the latest {len(over)} rows has succeeded.")
    return told


def _in_short(run: Run) -> str:
    many = f", {run.count} fire times" if run.count > 1 else ""
    outcome = run.outcome or RUNNING[run.state]
    return f"{outcome} ({run.reason}{many})" if run.reason else f"{outcome}{many}"


def _configured_otherwise(question: Question, schedule: Schedule) -> list[str]:
    definition = question.definition
    if definition is None:
        told = f"The configuration does not have it (it came from {schedule.source})."
        return [told] if schedule.state is not ScheduleState.RETIRED else []
    if definition_hash(definition) == schedule.hash:
        return []
    return ["The configuration now says something else than what is stored: a restart or a reload applies it."]


def _unknown(question: Question) -> Investigation:
    name = question.schedule_id
    if question.definition is not None:
        told = "The configuration has it, but no server that uses this store has been started with it yet."
        return Explanation(name, "unknown_schedule", "not_stored", (told,))
    ids: list[str] = []
    after = ""
    while True:
        page = yield SchedulesPage(after_id=after, limit=IDS_PAGE)
        ids += [schedule.id for schedule in page]
        if len(page) < IDS_PAGE:
            break
        after = ids[-1]
    by_lower = {known.lower(): known for known in ids}
    from difflib import get_close_matches  # for mistakes only: 140 kB that no server needs

    near = tuple(by_lower[found] for found in get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5))
    hint = f" Did you mean {' or '.join(near)}?" if near else f" There are {len(ids)} schedules."
    return Explanation(name, "unknown_schedule", "unknown", (f"The ledger has no schedule {name!r}.{hint}",), near=near)
