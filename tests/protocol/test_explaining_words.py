"""Every outcome and every reason that a row can have is put into words of its own. Pure: rows made by hand."""

import pytest
from attrs import evolve

from sz_protocol.definition import Definition, Misfire, MisfirePolicy, Overlap, OverlapPolicy, Semantics
from sz_protocol.evidence import Evidence, Question
from sz_protocol.explaining import Explanation, explain
from sz_protocol.kernel.now import HOUR_US, MINUTE_US, SECOND_US
from sz_protocol.records import Attempt, Outcome, Reason, Run, RunKind, RunState, Schedule
from sz_protocol.triggers import Cron
from tests.protocol.explaining_rig import utc

FIRE_US = utc("2026-03-01T10:00")
DEFINITION = Definition("job", "h", "m", Cron("0 * * * *"), timeout_us=MINUTE_US, deadline_us=HOUR_US)
SCHEDULE = Schedule(
    "job", DEFINITION, b"", "config", 1, FIRE_US, FIRE_US + HOUR_US, utc("2026-01-01"), utc("2026-01-01")
)
How, R = Outcome, Reason

WORDS = {
    (How.SUCCEEDED, R.ON_TIME): "It ran on time, and succeeded: it started 20ms after it was due and took 2s.",
    (How.SUCCEEDED, R.LATE): "It ran late, and succeeded",
    (How.SUCCEEDED, R.CATCH_UP): "It was run to catch up, and succeeded",
    (How.SUCCEEDED, R.RETRIED): "It succeeded at attempt 2",
    (How.SUCCEEDED, R.MANUAL): "A person asked for this run",
    (How.SUCCEEDED, R.BACKFILL): "A backfill asked for this run",
    (How.FAILED, R.ERROR): "h.m raised an error: ValueError: no.",
    (How.FAILED, R.TIMEOUT): "it ran longer than its timeout of 1m and was stopped",
    (How.FAILED, R.DEADLINE): "the deadline of 1h for all its attempts passed",
    (How.FAILED, R.UNSTORABLE): "what h.m returned cannot be stored: ValueError: no.",
    (How.FAILED, R.UNKNOWN_METHOD): "there was no method h.m where it was to be executed",
    (How.FAILED, R.INVALID_PARAMS): "h.m does not take these params",
    (How.CANCELLED, R.REQUESTED): "because somebody asked for it",
    (How.CANCELLED, R.SUPERSEDED): "a later run took its place (overlap: cancel_running)",
    (How.CANCELLED, R.SHUTDOWN): "because the server stopped; semantics at_most_once forbids to repeat it",
    (How.CANCELLED, R.CUT_OFF): "its handler heard nothing of the server and the run is exclusive",
    (How.SKIPPED, R.OVERLAP): "an earlier run of the schedule was still active, and overlap: skip",
    (How.SKIPPED, R.QUEUE_FULL): "lets no more of them wait",
    (How.SKIPPED, R.COALESCED): "a later run stands for it (misfire: latest)",
    (How.SKIPPED, R.MISFIRE): "of what was missed, misfire: latest runs only the newest",
    (How.SKIPPED, R.LIMIT): "misfire: all runs the latest 100 of what was missed",
    (How.SKIPPED, R.PAUSED): "the schedule was paused, and was resumed without making up for what it missed",
    (How.SKIPPED, R.RETIRED): "the schedule was not in its source (config) at that time",
    (How.SKIPPED, R.SUPERSEDED): "the trigger was changed at 2026-03-01T10:00:00+00:00, before this was decided",
    (How.SKIPPED, R.UNTRUSTED_TIME): "it passed before this node knew what time it was",
    (How.SKIPPED, R.HANDLER_AWAY): "nobody who has 'm' was connected, and away: skip",
    (How.MISSED, R.WINDOW): "older than the catch-up window of 1d",
    (How.MISSED, R.LIMIT): "so many fire times had passed that only the latest were decided one by one",
    (How.MISSED, R.PAST_AT_CREATION): "the schedule was stored only at 2026-03-01T10:00:00+00:00, after this date",
    (How.LOST, R.CRASHED): "its server died during attempt 1, and that happened once",
}
EXECUTED = (How.SUCCEEDED, How.FAILED, How.LOST)


def row(outcome: Outcome, reason: Reason) -> Run:
    run = Run(7, b"k" * 16, "job", FIRE_US, "h", "m", RunState.DONE, FIRE_US, outcome=outcome, reason=reason)
    run = evolve(run, finished_us=FIRE_US + 2 * SECOND_US + 20_000)
    if outcome in EXECUTED or reason in (R.REQUESTED, R.SHUTDOWN, R.CUT_OFF):
        run = evolve(run, attempt=1, started_us=FIRE_US + 20_000, losses=int(outcome is How.LOST))
    if outcome is How.FAILED:
        run = evolve(run, error="ValueError: no\n  handlers.py:3", failures=1)
    if reason is R.RETRIED:
        run = evolve(run, attempt=2, failures=1)
    if reason in (R.MANUAL, R.BACKFILL):
        run = evolve(run, kind=RunKind.MANUAL if reason is R.MANUAL else RunKind.BACKFILL)
    return run


def told(run: Run, definition: Definition = DEFINITION, attempts: tuple[Attempt, ...] = ()) -> Explanation:
    question = Question("job", FIRE_US + HOUR_US)
    schedule = evolve(SCHEDULE, definition=definition)
    return explain(Evidence(question, schedule, FIRE_US, FIRE_US, run=run, attempts=attempts))


@pytest.mark.parametrize(("outcome", "reason"), list(WORDS))
def test_pain_25_every_outcome_and_reason_has_words_of_its_own(outcome: Outcome, reason: Reason) -> None:
    answer = told(row(outcome, reason))
    assert (answer.verdict, answer.reason) == (outcome, reason)
    assert WORDS[outcome, reason] in answer.text
    assert answer.steps[0].what == "fire time"
    assert any(f"{outcome} ({reason})" in step.what for step in answer.steps)


def test_no_outcome_and_no_reason_is_forgotten() -> None:
    assert {outcome for outcome, _ in WORDS} == set(Outcome)
    assert {reason for _, reason in WORDS} == set(Reason)
    texts = [told(row(*pair)).text for pair in WORDS]
    assert len(set(texts)) == len(texts)


def test_cancelled_says_at_which_point() -> None:
    executing = row(How.CANCELLED, R.REQUESTED)
    assert "cancelled while it executed" in told(executing).text
    waiting = evolve(executing, attempt=0, started_us=None)
    answer = told(waiting)
    assert "cancelled before it was executed" in answer.text
    assert answer.steps[-1].what == "cancelled (requested), before it was executed"
    first = Attempt(7, 1, How.FAILED, R.ERROR, FIRE_US, FIRE_US + SECOND_US, "ValueError: no")
    between = told(executing, attempts=(first,))
    assert "cancelled between two attempts" in between.text
    assert between.steps[-1].what == "cancelled (requested), before its next attempt"


def test_the_policies_of_the_schedule_are_quoted() -> None:
    allow = evolve(DEFINITION, overlap=Overlap(OverlapPolicy.ALLOW, 3))
    assert "overlap: allow(3) lets no more run at once" in told(row(How.SKIPPED, R.OVERLAP), allow).text
    queue = evolve(DEFINITION, overlap=Overlap(OverlapPolicy.QUEUE, 2))
    assert "overlap: queue(2) lets no more of them wait" in told(row(How.SKIPPED, R.QUEUE_FULL), queue).text
    once = evolve(DEFINITION, semantics=Semantics.AT_MOST_ONCE)
    assert "semantics at_most_once forbids to repeat it" in told(row(How.LOST, R.CRASHED), once).text
    skip = evolve(DEFINITION, misfire=Misfire(MisfirePolicy.SKIP))
    late = evolve(row(How.SKIPPED, R.MISFIRE), decided_us=FIRE_US + 5 * MINUTE_US)
    assert "decided only 5m late, and its grace is 1m" in told(late, skip).text


def test_an_error_of_many_lines_and_great_length_is_cut() -> None:
    long = evolve(row(How.FAILED, R.ERROR), error="x" * 5000 + "\nmore")
    answer = told(long)
    assert len(answer.text) < 600
    assert "more" not in answer.text
