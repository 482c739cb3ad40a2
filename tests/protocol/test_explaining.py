"""`why` over what real machines decided: for every kind of fire and non-fire the verdict, the reason and the words."""

from typing import Any

import pytest

from sz_protocol.commands import Cancel, Done, Trigger
from sz_protocol.definition import Definition, Misfire, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.kernel.now import HOUR_US, MINUTE_US, SECOND_US
from sz_protocol.records import Reason
from sz_protocol.triggers import Interval
from tests.protocol.explaining_rig import (
    FIVE,
    HOURLY,
    Ending,
    Handler,
    World,
    fails,
    found,
    job,
    steps,
    takes,
    utc,
    world_of,
)

# --- what ran --------------------------------------------------------------------------------------------------


def test_a_run_on_time() -> None:
    now = world_of(job(HOURLY))
    now.until("2026-03-01T10:30")
    answer = now.why("job@2026-03-01T10:00")
    assert found(answer) == ("succeeded", "on_time")
    assert answer.fire_us == utc("2026-03-01T09:00"), "a naive time is read in the schedule's zone"
    assert "ran on time" in answer.text
    assert steps(answer) == ["fire time", "decided: to be run", "attempt 1 started", "attempt 1 succeeded (on_time)"]


def test_a_late_run_says_that_no_server_decided_anything_meanwhile() -> None:
    now = world_of(job(HOURLY))
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
    now = world_of(job(overlap=Overlap(OverlapPolicy.QUEUE, 1)), handler=takes(7))
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
    now = world_of(first, job(), handler=takes(2), slots=1)
    now.until("2026-03-01T08:06")
    waiting = now.why("job@2026-03-01T08:05")
    assert found(waiting) == ("waiting", "waiting")
    assert "waits for a free slot" in waiting.text
    now.until("2026-03-01T08:10")
    answer = now.why("job@2026-03-01T08:05")
    assert found(answer) == ("succeeded", "late")
    assert "no slot was free for h.m" in answer.text


def test_retries_are_steps_of_the_trace() -> None:
    now = world_of(job(retry=Retry(3, 10 * SECOND_US, MINUTE_US)), handler=fails(until_attempt=3))
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
    now = world_of(job(HOURLY))
    now.until("2026-03-01T08:30")
    assert isinstance(now.ask(Trigger("job", "key")), Done)
    now.until("2026-03-01T08:31")
    answer = now.why("job@2026-03-01T09:30")
    assert found(answer) == ("succeeded", "manual")
    assert "A person asked for this run" in answer.text


TWO_TRIES_AND_A_DEADLINE = {"retry": Retry(5, 1), "timeout_us": MINUTE_US, "deadline_us": MINUTE_US * 3 // 2}
A_LONG_WAIT = {"retry": Retry(5, HOUR_US, HOUR_US), "deadline_us": MINUTE_US}


@pytest.mark.parametrize(
    ("handler", "policies", "reason", "words"),
    [
        (fails(), {}, "error", "h.m raised an error: ValueError: no luck at attempt 1."),
        (fails(), {"retry": Retry(3, 1)}, "error", "That was attempt 3; of the attempts before it, 2 failed."),
        (takes(5), {"timeout_us": MINUTE_US}, "timeout", "ran longer than its timeout of 1m"),
        (lambda start: None, {"timeout_us": MINUTE_US}, "timeout", "did not stop when it was asked to"),
        (takes(5), {"deadline_us": MINUTE_US}, "deadline", "the deadline of 1m for all its attempts passed"),
        (takes(5), TWO_TRIES_AND_A_DEADLINE, "deadline", "That was attempt 2; of the attempts before it, 1 failed."),
        (fails(), A_LONG_WAIT, "deadline", "It waited for another attempt; of the attempts before it, 1 failed."),
        (fails(Reason.UNSTORABLE, retryable=False), {}, "unstorable_result", "cannot be stored"),
        (fails(Reason.UNKNOWN_METHOD, retryable=False), {}, "unknown_method", "no method h.m"),
        (fails(Reason.INVALID_PARAMS, retryable=False), {}, "invalid_params", "does not take these params"),
    ],
)
def test_failures_say_what_failed(handler: Handler, policies: dict[str, Any], reason: str, words: str) -> None:
    now = world_of(job(**policies), handler=handler)
    now.until("2026-03-01T08:09")
    answer = now.why("job@2026-03-01T08:05")
    assert found(answer) == ("failed", reason)
    assert words in answer.text


# --- what a crash did ------------------------------------------------------------------------------------------


def test_a_run_lost_with_its_server() -> None:
    now = world_of(job(semantics=Semantics.AT_MOST_ONCE), handler=takes(3))
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
    now = world_of(job(), handler=takes(3))
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
    now = world_of(job(semantics=Semantics.AT_MOST_ONCE), handler=takes(3))
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
    now = world_of(job(overlap=overlap), handler=takes(12))
    now.until("2026-03-01T08:40")
    answer = now.why(f"job@2026-03-01T{at}")
    assert found(answer) == ("skipped", reason)
    assert words in answer.text


def test_overlap_finds_the_run_behind_a_thousand_that_gave_way_to_it() -> None:
    now = world_of(job(Interval(SECOND_US)), handler=lambda start: Ending(30 * MINUTE_US))
    now.until("2026-03-01T08:20")
    answer = now.why("job@2026-03-01T08:19:59")
    assert found(answer) == ("skipped", "overlap")
    assert "the run of 2026-03-01T08:01:01+00:00 was still active" in answer.text


def test_pain_7_a_run_that_would_not_stop_is_named_as_what_is_in_the_way() -> None:
    now = world_of(job(timeout_us=MINUTE_US), handler=lambda start: None)
    now.until("2026-03-01T08:12")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("skipped", "overlap")
    assert "the run of 2026-03-01T08:05:00+00:00 still held its place (its row was closed at" in answer.text
    assert "it went on executing and did not stop when it was asked to" in answer.text


def test_cancel_running_names_the_run_that_took_over() -> None:
    now = world_of(job(overlap=Overlap(OverlapPolicy.CANCEL_RUNNING)), handler=takes(7))
    now.until("2026-03-01T08:12")
    answer = now.why("job@2026-03-01T08:05")
    assert found(answer) == ("cancelled", "superseded")
    assert "while it executed: the run of 2026-03-01T08:10:00+00:00 took its place" in answer.text


def down_for(definition: Definition, until: str) -> World:
    """The schedule's server was away from 08:07 on."""
    now = world_of(definition)
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


def test_coalesced_into_a_run_that_waits_for_the_one_that_the_crash_cut_short() -> None:
    now = world_of(job(), handler=takes(30))
    now.until("2026-03-01T08:07")
    now.kill()
    now.away_until("2026-03-01T08:33")
    now.start()
    now.until("2026-03-01T08:34")
    answer = now.why("job@2026-03-01T08:15")
    assert found(answer) == ("skipped", "coalesced")
    assert "the run of 2026-03-01T08:30:00+00:00 stands for it (misfire: latest), which is not over yet" in (
        answer.text
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
    now = world_of(job(misfire=Misfire(MisfirePolicy.ALL, rate_per_s=1 / 60)))
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
