"""`why` for what did not fire: paused, parked, retired, not due, not yet, not any more; and for a schedule."""

from pathlib import Path

from sz_protocol.commands import Pause, Resume, RunNow
from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.evidence import Evidence, Question, spread_of
from sz_protocol.explaining import VERDICTS, explain
from sz_protocol.kernel.now import DAY_US, MINUTE_US, SECOND_US
from sz_protocol.queries import RunsPage, SchedulesById
from sz_protocol.records import RunState
from sz_protocol.triggers import AllOf, Cron, Date, Interval
from tests.protocol.explaining_rig import (
    FIVE,
    HOURLY,
    fails,
    found,
    job,
    steps,
    utc,
    world_of,
)

# --- what stood still ------------------------------------------------------------------------------------------


def test_paused_while_it_is_and_after_it_was() -> None:
    now = world_of(job())
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
    now = world_of(job())
    now.until("2026-03-01T08:07")
    now.ask(Pause("job"))
    now.until("2026-03-01T08:12")
    now.ask(Resume("job", MisfirePolicy.LATEST))
    now.until("2026-03-01T08:13")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("succeeded", "late")
    assert "the schedule was paused until 2026-03-01T08:12:00+00:00" in answer.text


def test_parked_while_it_is_and_after_it_was() -> None:
    now = world_of(job(method="absent"))
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
    now = world_of(job(never))
    answer = now.why("job")
    assert answer.verdict == "quarantined"
    assert "the triggers of all did not coincide" in answer.text
    at_a_time = now.why("job@2026-03-01T08:10")
    assert found(at_a_time) == ("quarantined", "quarantined")
    assert "the triggers of all did not coincide" in at_a_time.text


def test_retired_and_back_again() -> None:
    now = world_of(job())
    now.until("2026-03-01T08:07")
    now.apply(prune=True)
    now.until("2026-03-01T08:12")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("retired", "retired")
    assert found(now.why("job")) == ("retired", "no longer in config")
    now.apply(job())
    assert found(now.why("job@2026-03-01T08:10")) == ("skipped", "retired")


def test_a_changed_trigger_takes_what_was_undecided_with_it() -> None:
    now = world_of(job())
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
    now = world_of(job(HOURLY))
    now.until("2026-03-01T08:30")
    answer = now.why("job@2026-03-01T09:30")
    assert found(answer) == ("not_due", "no_fire_time")
    assert answer.fire_us is None
    assert (answer.before_us, answer.after_us) == (utc("2026-03-01T08:00"), utc("2026-03-01T09:00"))
    assert (
        "2026-03-01T09:00:00+01:00, the next one after it 2026-03-01T10:00:00+01:00 (zone Europe/Berlin)" in answer.text
    )


def test_not_yet_due() -> None:
    now = world_of(job(HOURLY, spread_us=10 * MINUTE_US))
    answer = now.why("job@2026-03-01T12:00")
    assert found(answer) == ("not_yet_due", "future")
    assert steps(answer)[1].endswith("by its spread")


def test_the_due_time_finds_the_fire_time() -> None:
    now = world_of(job(HOURLY, spread_us=10 * MINUTE_US))
    now.until("2026-03-01T09:30")
    by_fire = now.why("job@2026-03-01T10:00")
    assert by_fire.schedule is not None
    minutes = spread_of(by_fire.schedule) // MINUTE_US
    assert minutes > 0, "this id has a place of its own in the window"
    by_due = now.why(f"job@2026-03-01T10:{minutes:02}")
    assert (found(by_due), by_due.fire_us) == (("succeeded", "on_time"), by_fire.fire_us)


def test_pain_14_a_gap_and_a_fold_explain_themselves() -> None:
    literal = Definition("job", "h", "m", Cron("30 2 * * *", "Europe/Berlin", dst="literal"))
    now = world_of(literal, Definition("default", "h", "m", Cron("30 2 * * *", "Europe/Berlin")), at="2026-03-28T12:00")
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
    now = world_of(job(HOURLY))
    now.until("2026-03-05T08:00")
    before = now.why("job@2026-02-05T08:00")
    assert found(before) == ("before_creation", "before_creation")
    assert "did not exist yet" in before.text


def test_beyond_retention() -> None:
    now = world_of(job(HOURLY))
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
    now = world_of(job(Date(utc("2026-03-01T07:00"))))
    answer = now.why("job@2026-03-01T07:00")
    assert found(answer) == ("missed", "past_at_creation")
    assert "stored only at 2026-03-01T08:01:00+00:00, after this date" in answer.text
    standing = now.why("job")
    assert standing.verdict == "finished"
    assert found(now.why("job@2026-03-01T07:01")) == ("not_due", "no_fire_time")


def test_due_and_undecided_while_no_server_runs() -> None:
    now = world_of(job())
    now.until("2026-03-01T08:07")
    now.kill()
    now.away_until("2026-03-01T08:13")
    answer = now.why("job@2026-03-01T08:10")
    assert found(answer) == ("undecided", "server_down")
    assert "the ledger has its last entry from 2026-03-01T08:05:00+00:00" in answer.text
    assert "is `schedulezero run` running?" in answer.text
    assert "is a server running?" in now.why("job").text


def test_due_and_undecided_this_very_moment() -> None:
    now = world_of(job())
    now.until("2026-03-01T08:07")
    now.kill()
    now.away_until("2026-03-01T08:10:00")
    assert found(now.why("job@2026-03-01T08:10")) == ("undecided", "just_due")


def test_a_schedule_held_up_while_others_are_decided() -> None:
    now = world_of(job())
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
    now = world_of(job(), Definition("nightly-report", "h", "m", FIVE))
    answer = now.why("nightly_repot")
    assert found(answer) == ("unknown_schedule", "unknown")
    assert answer.near == ("nightly-report",)
    assert "Did you mean nightly-report?" in answer.text
    assert "There are 2 schedules" in now.why("zzz").text
    assert found(now.why("new", definition=job())) == ("unknown_schedule", "not_stored")


def test_the_standing_of_a_schedule() -> None:
    now = world_of(job(HOURLY), handler=fails())
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
    now = world_of(job(Cron("0 */6 * * *")))
    now.until("2026-03-02T20:00")
    answer = now.why("job@2026-03-02")
    assert answer.fire_us == utc("2026-03-02T00:00")
    assert len(answer.others) == 3
    assert "the time given also means" in answer.text


def test_a_run_without_a_schedule_does_not_disturb() -> None:
    now = world_of(job())
    now.ask(RunNow("h", "m", "key"))
    now.until("2026-03-01T08:06")
    assert found(now.why("job@2026-03-01T08:05")) == ("succeeded", "on_time")


def test_every_verdict_of_its_own_is_shown_above() -> None:
    text = Path(__file__).read_text()
    assert all(f'("{verdict}"' in text for verdict in VERDICTS)
