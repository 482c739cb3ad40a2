"""`schedulezero why`: the account of one fire time, of a moment at which nothing fired, or of a schedule."""

import sys
import time
from typing import TYPE_CHECKING, Any

from sz_shells.cli.common import FAILED, OK, USAGE, console, emit_json, fail, iso, ledger_of, load_or_exit, visible
from sz_shells.cli.options import OutputOption, SetOption

if TYPE_CHECKING:
    from sz_protocol.evidence import Question
    from sz_protocol.explaining import Explanation
    from sz_protocol.records import Attempt, Schedule
    from sz_runtime.config import Config
    from sz_runtime.ports import Store


def why(
    target: str, config: str | None = None, /, *, settings: SetOption = None, output: OutputOption = "table"
) -> int:
    """Tell why a schedule fired at a time, or did not, and what became of it.

    Reads the ledger, beside a running server or without one. A time without an offset is read in the schedule's own
    zone. Code 1: no such schedule or run, or no ledger.

    Parameters
    ----------
    target
        SCHEDULE for how it stands, SCHEDULE@TIME for one fire time, RUN_ID for one run. TIME is a date, a minute or
        more exact, on the wall of the schedule's zone or with an offset: nightly@2026-03-29, nightly@2026-03-29T02:30,
        nightly@2026-03-29T00:30:00Z.
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_runtime.ports import StoreError

    loaded = load_or_exit(config, settings)
    question = _question(target, loaded)
    try:
        explanation = ask(ledger_of(loaded), question)
    except StoreError as broken:
        fail(str(broken))
    if output == "json":
        emit_json(as_object(explanation))
    else:
        _print(explanation)
    return FAILED if explanation.schedule is None and explanation.run is None else OK


def _question(target: str, config: "Config") -> "Question":
    from sz_protocol.evidence import Question
    from sz_protocol.kernel.now import SECOND_US
    from sz_protocol.moments import EXAMPLES, read_moment

    schedule_id, at, text = target.partition("@")
    if not schedule_id or (at and not text):
        fail(f"{target!r}: name a schedule, or SCHEDULE@TIME with a time such as {EXAMPLES}", USAGE)
    try:
        moment = read_moment(text) if at else None
    except ValueError as wrong:
        fail(str(wrong), USAGE)
    return Question(
        schedule_id,
        time.time_ns() // 1000,
        moment,
        next((definition for definition in config.schedules if definition.id == schedule_id), None),
        config.components.scheduler.retention_us,
        SECOND_US,
    )


def ask(store: "Store", question: "Question") -> "Explanation":
    """Drive the investigation over a store. Raises StoreError."""
    from sz_protocol.explaining import investigate

    steps = investigate(question)
    query = next(steps)
    while True:
        try:
            query = steps.send(store.query(query))
        except StopIteration as done:
            explanation: Explanation = done.value
            return explanation


def as_object(explanation: "Explanation") -> dict[str, Any]:
    """An explanation as plain data; every key is always there."""
    from sz_protocol.moments import zone_of
    from sz_protocol.triggers import local_time
    from sz_shells.cli.runs import as_row

    schedule, fire_us, run = explanation.schedule, explanation.fire_us, explanation.run
    trigger = None if schedule is None else schedule.definition.trigger
    return {
        "schedule_id": explanation.schedule_id,
        "fire_time": iso(fire_us),
        "local_time": None if trigger is None or fire_us is None else local_time(trigger, fire_us),
        "timezone": None if trigger is None else zone_of(trigger),
        "verdict": explanation.verdict,
        "reason": explanation.reason,
        "explanation": explanation.text,
        "trace": [{"at": iso(step.at_us), "what": step.what} for step in explanation.steps],
        "run": None if run is None else as_row(run),
        "attempts": [_attempt(attempt) for attempt in explanation.attempts],
        "other_matches": [iso(at_us) for at_us in explanation.others],
        "fires_around": {"before": iso(explanation.before_us), "after": iso(explanation.after_us)},
        "schedule": None if schedule is None else _schedule(schedule),
        "next_fires": [iso(at_us) for at_us in explanation.upcoming],
        "latest_runs": [as_row(row) for row in explanation.recent],
        "did_you_mean": list(explanation.near),
    }


def _attempt(attempt: "Attempt") -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "outcome": str(attempt.outcome),
        "reason": str(attempt.reason),
        "started_at": iso(attempt.started_us),
        "finished_at": iso(attempt.finished_us),
        "error": attempt.error,
    }


def _schedule(schedule: "Schedule") -> dict[str, Any]:
    return {
        "state": str(schedule.state),
        "reason": schedule.reason,
        "since": iso(schedule.since_us),
        "revision": schedule.rev,
        "created_at": iso(schedule.created_us),
        "decided_until": iso(schedule.cursor_us),
        "next_due": iso(schedule.next_due_us),
    }


NEWLINE = "\n"
COLOURS = {"succeeded": "green", "active": "green", "failed": "red", "lost": "red", "unaccounted": "red"}


def _print(explanation: "Explanation") -> None:
    from sz_protocol.moments import show_time, zone_of

    out = console()
    schedule = explanation.schedule
    name = explanation.schedule_id
    if schedule is not None and explanation.fire_us is not None:
        zone = zone_of(schedule.definition.trigger)
        utc = "" if zone == "UTC" else f"; {iso(explanation.fire_us)}"
        name += f" at {show_time(explanation.fire_us, zone)} ({zone}{utc})"
    verdict = explanation.verdict.replace("_", " ")
    reason = explanation.reason.replace("_", " ")
    out.print(f"{name}: ", end="", markup=False)
    out.print(verdict, style=COLOURS.get(explanation.verdict, "yellow"), end="", markup=False)
    out.print(f" ({reason})" if reason and explanation.reason != explanation.verdict else "", markup=False)
    for sentence in explanation.sentences:
        out.print(f"  {visible(sentence, NEWLINE)}", markup=False)
    if explanation.steps:
        sys.stdout.write("\n")
        for step in explanation.steps:
            out.print(f"  {iso(step.at_us) or '':<32}  {visible(step.what, NEWLINE)}", markup=False)
    if explanation.upcoming and schedule is not None:
        zone = zone_of(schedule.definition.trigger)
        sys.stdout.write("\n")
        out.print(f"  next: {', '.join(show_time(at_us, zone) for at_us in explanation.upcoming)}", markup=False)
