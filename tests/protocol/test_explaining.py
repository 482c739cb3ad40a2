"""`why` over what real machines decided: for every kind of fire and non-fire the verdict, the reason and the words."""

from pathlib import Path
from typing import Any

import pytest

from sz_protocol.commands import Cancel, Done, Pause, Resume, RunNow, Trigger
from sz_protocol.definition import Definition, Misfire, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.evidence import Evidence, Question, spread_of
from sz_protocol.explaining import VERDICTS, Explanation, explain
from sz_protocol.kernel.effects import StartRun
from sz_protocol.kernel.now import DAY_US, MINUTE_US, SECOND_US
from sz_protocol.queries import RunsPage, SchedulesById
from sz_protocol.records import Outcome, Reason, RunState
from sz_protocol.triggers import AllOf, Cron, Date, Interval
from sz_protocol.triggers import Trigger as When
from sz_shells.stores.memory import MemoryStore
from tests.protocol.explaining_rig import Ending, Handler, World, utc, works

HOURLY = Cron("0 * * * *", "Europe/Berlin")
FIVE = Cron("*/5 * * * *")


def job(trigger: When = FIVE, method: str = "m", **policies: Any) -> Definition:
    return Definition("job", "h", method, trigger, **policies)


def world(*definitions: Definition, handler: Handler = works, at: str = "2026-03-01T08:01", slots: int = 10) -> World:
    found = World(MemoryStore(), utc(at), handler, slots)
    found.start()
    found.apply(*definitions)
    return found


def takes(minutes: float) -> Handler:
    return lambda start: Ending(int(minutes * MINUTE_US))


def fails(reason: Reason = Reason.ERROR, *, until_attempt: int = 99, retryable: bool = True) -> Handler:
    def handler(start: StartRun) -> Ending:
        if start.attempt >= until_attempt:
            return Ending(SECOND_US)
        error = f"ValueError: no luck at attempt {start.attempt}\n  File handlers.py, line 3"
        return Ending(SECOND_US, Outcome.FAILED, reason, error, retryable)

    return handler


def found(answer: Explanation) -> tuple[str, str]:
    return answer.verdict, answer.reason


def steps(answer: Explanation) -> list[str]:
    return [step.what for step in answer.steps]


# --- what ran --------------------------------------------------------------------------------------------------


def test_a_run_on_time() -> None:
    now = world(job(HOURLY))
    now.until("2026-03-01T10:30")
    answer = now.why("job@2026-03-01T10:00")
    assert found(answer) == ("succeeded", "on_time")
    assert answer.fire_us == utc("2026-03-01T09:00"), "a naive time is read in the schedule's zone"
    assert "ran on time" in answer.text
    assert steps(answer) == ["fire time", "decided: to be run", "attempt 1 started", "attempt 1 succeeded (on_time)"]


def test_a_late_run_says_that_no_server_decided_anything_meanwhile() -> None:
    now = world(job(HOURLY))
    now.until("2026-03-01T09:30")
    now.kill()
    now.away_until("2026-03-01T10:20")
    now.start()
    now.until("2026-03-01T10:30")
    answer = now.why("job@2026-03-01T10:00Z")
    assert found(answer) == ("succeeded", "late")
    assert "started 20m after it was due" in answer.text
    assert "the ledger has no decision from the time between: the server was down" in answer.text
    assert "The last decision for this schedule before that: 2026-03-01T10:00:00+01:00" in answer.text


def test_a_late_run_says_what_it_waited_for_overlap_queue() -> None:
    now = world(job(overlap=Overlap(OverlapPolicy.QUEUE, 1)), handler=takes(7))
    now.until("2026-03-01T08:16")
    waiting = now.why("job@2026-03-01T08:15")
    assert found(waiting) == ("waiting", "waiting")
    assert "the run of 2026-03-01T08:10:00+00:00 is still active ahead of it" in waiting.text
    assert steps(waiting)[-1] == "waiting for its turn"
    now.until("2026-03-01T08:25")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("succeeded", "late")
    assert "waited 2m to be started: the run of 2026-03-01T08:05:00+00:00 was still active until" in answer.text


def test_a_late_run_says_that_no_slot_was_free() -> None:
    first = Definition("first", "h", "m", FIVE)
    now = world(first, job(), handler=takes(2), slots=1)
    now.until("2026-03-01T08:06")
    waiting = now.why("job@2026-03-01T08:05")
    assert found(waiting) == ("waiting", "waiting")
    assert "waits for a free slot" in waiting.text
    now.until("2026-03-01T08:10")
    answer = now.why("job@2026-03-01T08:05")
    assert found(answer) == ("succeeded", "late")
    assert "no slot was free for h.m" in answer.text


def test_retries_are_steps_of_the_trace() -> None:
    now = world(job(retry=Retry(3, 10 * SECOND_US, MINUTE_US)), handler=fails(until_attempt=3))
    now.until(utc("2026-03-01T08:05:01") + 1)
    waiting = now.why("job@2026-03-01T08:05")
    assert found(waiting) == ("waiting", "waiting")
    assert "to make attempt 2; of the attempts before it, 1 failed" in waiting.text
    now.until("2026-03-01T08:09")
    answer = now.why("job@2026-03-01T08:05")
    assert found(answer) == ("succeeded", "retried")
    assert [attempt.attempt for attempt in answer.attempts] == [1, 2]
    assert steps(answer) == [
        "fire time",
        "decided: to be run",
        "attempt 1 started",
        "attempt 1 failed (error): ValueError: no luck at attempt 1",
        "attempt 2 started",
        "attempt 2 failed (error): ValueError: no luck at attempt 2",
        "attempt 3 started",
        "attempt 3 succeeded (retried)",
    ]


def test_a_manual_run_is_no_fire_time() -> None:
    now = world(job(HOURLY))
    now.until("2026-03-01T08:30")
    assert isinstance(now.ask(Trigger("job", "key")), Done)
    now.until("2026-03-01T08:31")
    answer = now.why("job@2026-03-01T09:30")
    assert found(answer) == ("succeeded", "manual")
    assert "A person asked for this run" in answer.text


@pytest.mark.parametrize(
    ("handler", "policies", "reason", "words"),
    [
        (fails(), {}, "error", "h.m raised an error: ValueError: no luck at attempt 1."),
        (fails(), {"retry": Retry(3, 1)}, "error", "That was attempt 3; of the attempts before it, 2 failed."),
        (takes(5), {"timeout_us": MINUTE_US}, "timeout", "ran longer than its timeout of 1m"),
        (lambda start: None, {"timeout_us": MINUTE_US}, "timeout", "did not stop when it was asked to"),
        (takes(5), {"deadline_us": MINUTE_US}, "deadline", "the deadline of 1m for all its attempts passed"),
        (fails(Reason.UNSTORABLE, retryable=False), {}, "unstorable_result", "cannot be stored"),
        (fails(Reason.UNKNOWN_METHOD, retryable=False), {}, "unknown_method", "no method h.m"),
        (fails(Reason.INVALID_PARAMS, retryable=False), {}, "invalid_params", "does not take these params"),
    ],
)
def test_failures_say_what_failed(handler: Handler, policies: dict[str, Any], reason: str, words: str) -> None:
    now = world(job(**policies), handler=handler)
    now.until("2026-03-01T08:09")
    answer = now.why("job@2026-03-01T08:05")
    assert found(answer) == ("failed", reason)
    assert words in answer.text


# --- what a crash did ------------------------------------------------------------------------------------------


def test_a_run_lost_with_its_server() -> None:
    now = world(job(semantics=Semantics.AT_MOST_ONCE), handler=takes(3))
    now.until("2026-03-01T08:06")
    now.kill()
    now.away_until("2026-03-01T08:08")
    orphan = now.why("job@2026-03-01T08:05")
    assert found(orphan) == ("running", "running")
    assert "if no server is running, the next one to start decides" in orphan.text
    now.start()
    now.until("2026-03-01T08:09")
    answer = now.why("job@2026-03-01T08:05")
    assert found(answer) == ("lost", "crashed")
    assert "at_most_once forbids to repeat it. It may or may not have been executed" in answer.text


def test_a_run_repeated_after_a_crash_does_not_invent_when_it_began() -> None:
    now = world(job(), handler=takes(3))
    now.until("2026-03-01T08:06")
    now.kill()
    now.away_until("2026-03-01T08:07")
    now.start()
    now.until("2026-03-01T08:10")
    answer = now.why("job@2026-03-01T08:05")
    assert found(answer) == ("succeeded", "retried")
    assert "of the attempts before it, 1 died with the server" in answer.text
    assert "attempt 1 was claimed; when it started is not known" in steps(answer)
    assert "no slot" not in answer.text


def test_cancelled_by_a_person_and_by_the_servers_own_stop() -> None:
    now = world(job(semantics=Semantics.AT_MOST_ONCE), handler=takes(3))
    now.until("2026-03-01T08:06")
    running = now.why("job@2026-03-01T08:05")
    assert running.run is not None
    now.ask(Cancel(running.run.run_id))
    assert found(now.why("job@2026-03-01T08:05")) == ("cancelled", "requested")
    now.until("2026-03-01T08:11")
    now.stop(grace_us=MINUTE_US // 2)
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("cancelled", "shutdown")
    assert "stopped while it executed, because the server stopped" in answer.text


# --- what the policies decided ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "at", "reason", "words"),
    [
        (Overlap(), "08:10", "overlap", "the run of 2026-03-01T08:05:00+00:00 was still active until"),
        (Overlap(OverlapPolicy.ALLOW, 2), "08:15", "overlap", "and 1 more were still active, and overlap: allow(2)"),
        (Overlap(OverlapPolicy.QUEUE, 1), "08:15", "queue_full", "queue(1) lets no more of them wait"),
    ],
)
def test_overlap_names_the_run_that_was_in_the_way(overlap: Overlap, at: str, reason: str, words: str) -> None:
    now = world(job(overlap=overlap), handler=takes(12))
    now.until("2026-03-01T08:40")
    answer = now.why(f"job@2026-03-01T{at}")
    assert found(answer) == ("skipped", reason)
    assert words in answer.text


def test_overlap_finds_the_run_behind_a_thousand_that_gave_way_to_it() -> None:
    now = world(job(Interval(SECOND_US)), handler=lambda start: Ending(30 * MINUTE_US))
    now.until("2026-03-01T08:20")
    answer = now.why("job@2026-03-01T08:19:59")
    assert found(answer) == ("skipped", "overlap")
    assert "the run of 2026-03-01T08:01:01+00:00 was still active" in answer.text


def test_pain_7_a_run_that_would_not_stop_is_named_as_what_is_in_the_way() -> None:
    now = world(job(timeout_us=MINUTE_US), handler=lambda start: None)
    now.until("2026-03-01T08:12")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("skipped", "overlap")
    assert "the run of 2026-03-01T08:05:00+00:00 still held its place (its row was closed at" in answer.text
    assert "it went on executing and did not stop when it was asked to" in answer.text


def test_cancel_running_names_the_run_that_took_over() -> None:
    now = world(job(overlap=Overlap(OverlapPolicy.CANCEL_RUNNING)), handler=takes(7))
    now.until("2026-03-01T08:12")
    answer = now.why("job@2026-03-01T08:05")
    assert found(answer) == ("cancelled", "superseded")
    assert "while it executed: the run of 2026-03-01T08:10:00+00:00 took its place" in answer.text


def down_for(definition: Definition, until: str) -> World:
    """The schedule's server was away from 08:07 on."""
    now = world(definition)
    now.until("2026-03-01T08:07")
    now.kill()
    now.away_until(until)
    now.start()
    now.until(now.now_us + MINUTE_US)
    return now


def test_coalesced_points_to_the_run_that_stands_for_it() -> None:
    now = down_for(job(), "2026-03-01T08:33")
    answer = now.why("job@2026-03-01T08:15")
    assert found(answer) == ("skipped", "coalesced")
    assert "the run of 2026-03-01T08:30:00+00:00 stands for it (misfire: latest), which succeeded" in answer.text
    cover = now.why("job@2026-03-01T08:30")
    assert found(cover) == ("succeeded", "catch_up")
    assert "It stands for 4 fire times before it too, from 2026-03-01T08:10:00+00:00 on" in cover.text


def test_coalesced_into_a_run_that_had_to_give_way_itself() -> None:
    now = world(job(), handler=takes(30))
    now.until("2026-03-01T08:07")
    now.kill()
    now.away_until("2026-03-01T08:33")
    now.start()
    now.until("2026-03-01T08:34")
    answer = now.why("job@2026-03-01T08:15")
    assert found(answer) == ("skipped", "coalesced")
    assert (
        "the run of 2026-03-01T08:30:00+00:00 stands for it (misfire: latest), which was skipped itself (overlap)"
        in (answer.text)
    )


@pytest.mark.parametrize(
    ("misfire", "words"),
    [
        (Misfire(MisfirePolicy.SKIP), "decided only 18m late, and its grace is 1m"),
        (Misfire(MisfirePolicy.SKIP, grace_us=60 * MINUTE_US), "misfire: skip runs only the newest"),
        (Misfire(MisfirePolicy.LATEST, grace_us=10 * MINUTE_US), "decided only 18m late, and its grace is 10m"),
    ],
)
def test_misfires_tell_grace_from_policy(misfire: Misfire, words: str) -> None:
    answer = down_for(job(misfire=misfire), "2026-03-01T08:33").why("job@2026-03-01T08:15")
    assert found(answer) == ("skipped", "misfire")
    assert words in answer.text


def test_limits_and_windows_account_for_the_rest() -> None:
    many = job(misfire=Misfire(MisfirePolicy.ALL, max=3))
    answer = down_for(many, "2026-03-01T08:33").why("job@2026-03-01T08:15")
    assert found(answer) == ("skipped", "limit")
    assert "misfire: all runs the latest 3" in answer.text
    now = down_for(job(), "2026-03-03T08:33")
    folded = now.why("job@2026-03-02T20:15")
    assert found(folded) == ("missed", "limit")
    assert "so many fire times had passed" in folded.text
    old = now.why("job@2026-03-01T20:15")
    assert found(old) == ("missed", "window")
    assert "older than the catch-up window of 1d" in old.text
    assert old.fire_us == utc("2026-03-01T20:15")
    assert old.run is not None
    assert old.run.fire_us == utc("2026-03-01T08:10"), "the row is that of the whole range"
    assert f"One row accounts for {old.run.count} fire times" in old.text


def test_a_rate_cap_is_said_while_it_holds_and_afterwards() -> None:
    now = world(job(misfire=Misfire(MisfirePolicy.ALL, rate_per_s=1 / 60)))
    now.until("2026-03-01T08:07")
    now.kill()
    now.away_until("2026-03-01T08:22")
    now.start()
    now.until("2026-03-01T08:22:30")
    waiting = now.why("job@2026-03-01T08:20")
    assert "waits until 2026-03-01T08:24:00+00:00: catch-up runs are started at a limited rate" in waiting.text
    now.until("2026-03-01T08:25")
    answer = now.why("job@2026-03-01T08:15")
    assert found(answer) == ("succeeded", "catch_up")
    assert "waited 1m to be started: catch-up runs are started at a limited rate" in answer.text


# --- what stood still ------------------------------------------------------------------------------------------


def test_paused_while_it_is_and_after_it_was() -> None:
    now = world(job())
    now.until("2026-03-01T08:07")
    now.ask(Pause("job", "the disk is being replaced"))
    now.until("2026-03-01T08:12")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("paused", "paused")
    assert "paused since 2026-03-01T08:07:00+00:00: the disk is being replaced" in answer.text
    future = now.why("job@2026-03-01T08:15")
    assert found(future) == ("not_yet_due", "paused")
    standing = now.why("job")
    assert found(standing) == ("paused", "the disk is being replaced")
    assert "One fire time was due and is undecided" in standing.text
    now.ask(Resume("job"))
    assert found(now.why("job@2026-03-01T08:10")) == ("skipped", "paused")


def test_resumed_to_catch_up_says_until_when_it_was_paused() -> None:
    now = world(job())
    now.until("2026-03-01T08:07")
    now.ask(Pause("job"))
    now.until("2026-03-01T08:12")
    now.ask(Resume("job", MisfirePolicy.LATEST))
    now.until("2026-03-01T08:13")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("succeeded", "late")
    assert "the schedule was paused until 2026-03-01T08:12:00+00:00" in answer.text


def test_parked_while_it_is_and_after_it_was() -> None:
    now = world(job(method="absent"))
    now.until("2026-03-01T08:12")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("parked", "parked")
    assert "handler 'h' has no method 'absent' here" in answer.text
    now.handlers("absent")
    now.until("2026-03-01T08:14")
    later = now.why("job@2026-03-01T08:10")
    assert found(later) == ("succeeded", "catch_up")
    assert "the schedule stood still, or was edited, until 2026-03-01T08:12:00+00:00" in later.text


def test_quarantined() -> None:
    never = AllOf((Interval(7 * SECOND_US, anchor_us=0), Interval(7 * SECOND_US, anchor_us=SECOND_US)))
    now = world(job(never))
    answer = now.why("job")
    assert answer.verdict == "quarantined"
    assert "Its trigger finds no next fire time" in answer.text
    assert found(now.why("job@2026-03-01T08:10")) == ("not_due", "no_fire_time")


def test_retired_and_back_again() -> None:
    now = world(job())
    now.until("2026-03-01T08:07")
    now.apply(prune=True)
    now.until("2026-03-01T08:12")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("retired", "retired")
    assert found(now.why("job")) == ("retired", "no longer in config")
    now.apply(job())
    assert found(now.why("job@2026-03-01T08:10")) == ("skipped", "retired")


def test_a_changed_trigger_takes_what_was_undecided_with_it() -> None:
    now = world(job())
    now.until("2026-03-01T08:07")
    now.ask(Pause("job"))
    now.until("2026-03-01T08:12")
    now.apply(job(Cron("7 * * * *")))
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("skipped", "superseded")
    assert "the trigger was changed at 2026-03-01T08:12:00+00:00" in answer.text
    other = now.why("job@2026-03-01T08:07")
    assert found(other) == ("not_due", "edited")
    assert "another trigger must have been in force then" in other.text
    assert "at revision 3" in other.text


# --- what was never to fire ------------------------------------------------------------------------------------


def test_not_due_names_the_fire_times_around_it() -> None:
    now = world(job(HOURLY))
    now.until("2026-03-01T08:30")
    answer = now.why("job@2026-03-01T09:30")
    assert found(answer) == ("not_due", "no_fire_time")
    assert answer.fire_us is None
    assert (answer.before_us, answer.after_us) == (utc("2026-03-01T08:00"), utc("2026-03-01T09:00"))
    assert (
        "2026-03-01T09:00:00+01:00, the next one after it 2026-03-01T10:00:00+01:00 (zone Europe/Berlin)" in answer.text
    )


def test_not_yet_due() -> None:
    now = world(job(HOURLY, spread_us=10 * MINUTE_US))
    answer = now.why("job@2026-03-01T12:00")
    assert found(answer) == ("not_yet_due", "future")
    assert steps(answer)[1].endswith("by its spread")


def test_the_due_time_finds_the_fire_time() -> None:
    now = world(job(HOURLY, spread_us=10 * MINUTE_US))
    now.until("2026-03-01T09:30")
    by_fire = now.why("job@2026-03-01T10:00")
    assert by_fire.schedule is not None
    minutes = spread_of(by_fire.schedule) // MINUTE_US
    assert minutes > 0, "this id has a place of its own in the window"
    by_due = now.why(f"job@2026-03-01T10:{minutes:02}")
    assert (found(by_due), by_due.fire_us) == (("succeeded", "on_time"), by_fire.fire_us)


def test_pain_14_a_gap_and_a_fold_explain_themselves() -> None:
    literal = Definition("job", "h", "m", Cron("30 2 * * *", "Europe/Berlin", dst="literal"))
    now = world(literal, Definition("default", "h", "m", Cron("30 2 * * *", "Europe/Berlin")), at="2026-03-28T12:00")
    now.until("2026-03-29T12:00")
    gap = now.why("job@2026-03-29T02:30")
    assert found(gap) == ("not_due", "dst")
    assert "02:30 does not exist, skipped: dst is literal" in gap.text
    moved = now.why("default@2026-03-29T02:30")
    assert found(moved) == ("succeeded", "on_time")
    assert steps(moved)[0] == "fire time (gap: 02:30 does not exist, moved to 03:00)"
    now.kill()
    now.away_until("2026-10-24T12:00")
    now.start()
    now.until("2026-10-25T12:00")
    both = now.why("job@2026-10-25T02:30")
    assert both.others == (utc("2026-10-25T01:30"),)
    assert "the time given also means 2026-10-25T02:30:00+01:00" in both.text
    second = now.why("default@2026-10-25T02:30:00+01:00")
    assert found(second) == ("not_due", "dst")
    assert "second pass of 02:30, left out" in second.text


def test_before_it_existed_and_after_it_was_forgotten() -> None:
    now = world(job(HOURLY))
    now.until("2026-03-05T08:00")
    before = now.why("job@2026-02-05T08:00")
    assert found(before) == ("before_creation", "before_creation")
    assert "did not exist yet" in before.text


def test_beyond_retention() -> None:
    now = world(job(HOURLY))
    now.until("2026-03-01T09:30")
    now.kill()
    now.away_until("2026-06-10T00:00")
    now.start()
    now.until("2026-06-10T01:00")
    assert now.store.query(RunsPage(limit=1000))[-1].fire_us > utc("2026-03-01T09:00"), (
        "the sweep has dropped the first row"
    )
    answer = now.why("job@2026-03-01T10:00", retention_us=90 * DAY_US)
    assert found(answer) == ("beyond_retention", "retention")
    assert "the ledger keeps rows for 90d" in answer.text
    unsaid = now.why("job@2026-03-01T10:00")
    assert found(unsaid) == ("unaccounted", "unaccounted"), "without a retention, a missing row is a fault and is said"


def test_a_date_that_had_passed_and_one_that_is_over() -> None:
    now = world(job(Date(utc("2026-03-01T07:00"))))
    answer = now.why("job@2026-03-01T07:00")
    assert found(answer) == ("missed", "past_at_creation")
    assert "stored only at 2026-03-01T08:01:00+00:00, after this date" in answer.text
    standing = now.why("job")
    assert standing.verdict == "finished"
    assert found(now.why("job@2026-03-01T07:01")) == ("not_due", "no_fire_time")


def test_due_and_undecided_while_no_server_runs() -> None:
    now = world(job())
    now.until("2026-03-01T08:07")
    now.kill()
    now.away_until("2026-03-01T08:13")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("undecided", "server_down")
    assert "the ledger has its last entry from 2026-03-01T08:05:00+00:00" in answer.text
    assert "is `schedulezero run` running?" in answer.text
    assert "is a server running?" in now.why("job").text


def test_due_and_undecided_this_very_moment() -> None:
    now = world(job())
    now.until("2026-03-01T08:07")
    now.kill()
    now.away_until("2026-03-01T08:10:00")
    assert found(now.why("job@2026-03-01T08:10")) == ("undecided", "just_due")


def test_a_schedule_held_up_while_others_are_decided() -> None:
    now = world(job())
    now.until("2026-03-01T08:07")
    now.kill()
    now.away_until("2026-03-01T08:13")
    schedule = now.store.query(SchedulesById(("job",)))[0]
    due_us = utc("2026-03-01T08:10")
    evidence = Evidence(Question("job", now.now_us), schedule, due_us, due_us, last_us=utc("2026-03-01T08:12"))
    answer = explain(evidence)
    assert found(answer) == ("undecided", "held_up")
    assert "A server has written to the ledger since, last at 2026-03-01T08:12:00+00:00" in answer.text


# --- names, standing, configuration ----------------------------------------------------------------------------


def test_an_unknown_schedule_gets_the_nearest_names() -> None:
    now = world(job(), Definition("nightly-report", "h", "m", FIVE))
    answer = now.why("nightly_repot")
    assert found(answer) == ("unknown_schedule", "unknown")
    assert answer.near == ("nightly-report",)
    assert "Did you mean nightly-report?" in answer.text
    assert "There are 2 schedules" in now.why("zzz").text
    assert found(now.why("new", definition=job())) == ("unknown_schedule", "not_stored")


def test_the_standing_of_a_schedule() -> None:
    now = world(job(HOURLY), handler=fails())
    now.until("2026-03-01T11:30")
    answer = now.why("job", definition=job(HOURLY))
    assert found(answer) == ("active", "")
    assert "Its next fire time is 2026-03-01T13:00:00+01:00, in 30m." in answer.text
    assert "The latest row: 2026-03-01T12:00:00+01:00 failed (error)." in answer.text
    assert "None of the latest 3 rows has succeeded." in answer.text
    assert answer.upcoming[:2] == (utc("2026-03-01T12:00"), utc("2026-03-01T13:00"))
    assert [run.state for run in answer.recent] == [RunState.DONE] * 3
    changed = now.why("job", definition=job(FIVE))
    assert "The configuration now says something else than what is stored" in changed.text


def test_a_day_means_all_its_fire_times() -> None:
    now = world(job(Cron("0 */6 * * *")))
    now.until("2026-03-02T20:00")
    answer = now.why("job@2026-03-02")
    assert answer.fire_us == utc("2026-03-02T00:00")
    assert len(answer.others) == 3
    assert "the time given also means" in answer.text


def test_a_run_without_a_schedule_does_not_disturb() -> None:
    now = world(job())
    now.ask(RunNow("h", "m", "key"))
    now.until("2026-03-01T08:06")
    assert found(now.why("job@2026-03-01T08:05")) == ("succeeded", "on_time")


def test_every_verdict_of_its_own_is_shown_above() -> None:
    text = Path(__file__).read_text()
    assert all(f'("{verdict}"' in text for verdict in VERDICTS)
