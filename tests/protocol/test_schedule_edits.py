"""schedule_edits: what an edit makes of one schedule, and of what was due (CAT-1 to CAT-10)."""

from itertools import count

import pytest
from attrs import evolve

from sz_protocol.commands import Refusal
from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.events import HandlersChanged
from sz_protocol.kernel.now import MINUTE_US, SECOND_US, Now
from sz_protocol.machines.schedule_edits import (
    Context,
    Edit,
    edit_apply,
    edit_park,
    edit_pause,
    edit_resume,
    edit_retire,
    edit_settle,
    edit_unpark,
)
from sz_protocol.records import UNSETTLED_US, Outcome, Reason, Run, Schedule, ScheduleState
from sz_protocol.routing import Routes
from sz_protocol.triggers import AllOf, Date, Interval, Trigger
from tests.protocol.harness import T0_US, at, every
from tests.protocol.machine_rig import METHODS, row_of, stored, untrusted

S = ScheduleState
NEVER = AllOf((Interval(2 * SECOND_US, 0), Interval(2 * SECOND_US, SECOND_US)))


def context(now: Now, handlers: HandlersChanged = METHODS) -> Context:
    numbers = count(1)
    return Context(now, Routes(handlers), lambda: row_of(next(numbers)), enumerate_instants=3)


def edit(made: Edit | Refusal | str | None) -> Edit:
    assert isinstance(made, Edit), made
    return made


def shown(runs: tuple[Run, ...]) -> list[tuple[float, int, str, str]]:
    """(seconds since T0, count, outcome, reason) of each row."""
    return [((r.fire_us - T0_US) / SECOND_US, r.count, r.outcome or "", r.reason) for r in runs]


def skipped(reason: Reason, *fires: tuple[float, int]) -> list[tuple[float, int, str, str]]:
    return [(at_s, many, Outcome.SKIPPED, reason) for at_s, many in fires]


# --- apply -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "handlers", "state", "due_s"),
    [
        (Interval(60 * SECOND_US, T0_US), METHODS, S.ACTIVE, 120),
        (Interval(60 * SECOND_US, T0_US), HandlersChanged((), ()), S.PARKED, 120),
        (NEVER, METHODS, S.QUARANTINED, None),
        (Interval(60 * SECOND_US, T0_US, end_us=T0_US), METHODS, S.FINISHED, None),
    ],
    ids=["ready", "no method", "cannot advance", "nothing left"],
)
def test_a_new_schedule_begins_at_the_present(
    trigger: Trigger, handlers: HandlersChanged, state: ScheduleState, due_s: int | None
) -> None:
    made = edit(edit_apply(None, Definition("s", "h", "m", trigger), "config", context(at(90), handlers)))
    schedule = made.schedule
    assert (schedule.state, schedule.rev, schedule.cursor_us, made.expected_us) == (state, 1, at(90).utc_us, None)
    assert schedule.next_due_us == (None if due_s is None else T0_US + due_s * SECOND_US)
    assert made.runs == ()


def test_cat_4_a_date_that_had_passed_when_it_was_written_down_is_recorded_as_missed() -> None:
    made = edit(edit_apply(None, Definition("s", "h", "m", Date(T0_US)), "config", context(at(90))))
    assert shown(made.runs) == [(0, 1, Outcome.MISSED, Reason.PAST_AT_CREATION)]
    assert made.schedule.state is S.FINISHED


def test_cat_1_pain_17_what_did_not_change_is_left_alone() -> None:
    assert edit_apply(stored(), every(60), "config", context(at(30))) is None


def test_cat_1_a_changed_anything_else_keeps_the_cursor_and_what_is_due() -> None:
    made = edit(edit_apply(stored(), every(60, timeout_us=5), "config", context(at(150))))
    assert (made.schedule.cursor_us, made.schedule.next_due_us) == (T0_US, T0_US + MINUTE_US)
    assert (made.schedule.rev, made.expected_us, made.runs) == (2, T0_US, ())


def test_cat_1_a_changed_trigger_takes_effect_from_now_and_what_was_due_is_superseded() -> None:
    made = edit(edit_apply(stored(), every(100), "config", context(at(150))))
    assert (made.schedule.cursor_us, made.schedule.next_due_us) == (at(150).utc_us, at(200).utc_us)
    assert shown(made.runs) == skipped(Reason.SUPERSEDED, (60, 1), (120, 1))


def test_cat_4_more_instants_than_get_rows_of_their_own_are_folded_oldest_first() -> None:
    made = edit(edit_apply(stored(), every(100), "config", context(at(600))))
    assert shown(made.runs) == skipped(Reason.SUPERSEDED, (60, 7), (480, 1), (540, 1), (600, 1))
    assert made.runs[0].until_us == at(420).utc_us


def test_a_schedule_of_another_source_is_refused() -> None:
    assert edit_apply(stored(), every(60), "api", context(at(30))) == "schedule 's' belongs to 'config'"


def test_a_changed_trigger_leaves_a_pause_as_it_is() -> None:
    paused = stored(state=S.PAUSED, reason="holiday", since_us=at(10).utc_us)
    made = edit(edit_apply(paused, every(100), "config", context(at(150))))
    assert (made.schedule.state, made.schedule.reason) == (S.PAUSED, "holiday")
    assert (made.schedule.since_us, made.schedule.next_due_us) == (at(10).utc_us, at(200).utc_us)


def test_cat_8_a_due_time_of_other_zone_data_is_computed_anew_without_a_row() -> None:
    made = edit(edit_apply(stored(next_due_us=at(61).utc_us), every(60), "config", context(at(30))))
    assert (made.schedule.next_due_us, made.schedule.rev, made.runs) == (at(60).utc_us, 2, ())


def test_what_was_quarantined_is_tried_again_and_left_when_it_cannot_advance_still() -> None:
    stuck = stored(state=S.QUARANTINED, next_due_us=None, reason="zone data")
    assert edit(edit_apply(stuck, every(60), "config", context(at(30)))).schedule.state is S.ACTIVE
    never = Definition("s", "h", "m", NEVER)
    still = evolve(stuck, definition=never, hash=definition_hash(never))
    assert edit_apply(still, never, "config", context(at(30))) is None


# --- retire, and come back -------------------------------------------------------------------------------------


def test_cat_2_cat_4_retired_not_deleted_and_what_was_due_is_accounted_for() -> None:
    made = edit(edit_retire(stored(), context(at(130))))
    assert (made.schedule.state, made.schedule.reason) == (S.RETIRED, "no longer in config")
    assert shown(made.runs) == skipped(Reason.RETIRED, (60, 1), (120, 1))
    assert edit_retire(made.schedule, context(at(140))) is None


def test_cat_10_what_comes_back_comes_back_as_it_left() -> None:
    paused = stored(state=S.PAUSED, reason="holiday", since_us=at(10).utc_us)
    gone = edit(edit_retire(paused, context(at(30)))).schedule
    back = edit(edit_apply(gone, every(60), "config", context(at(130))))
    assert (back.schedule.state, back.schedule.reason, back.schedule.since_us) == (S.PAUSED, "holiday", at(10).utc_us)
    assert shown(back.runs) == skipped(Reason.RETIRED, (60, 1), (120, 1))


# --- pause, resume ---------------------------------------------------------------------------------------------


def test_a_pause_keeps_the_cursor_and_a_second_one_only_its_reason() -> None:
    first = edit(edit_pause(stored(), "holiday", context(at(30)))).schedule
    again = edit(edit_pause(first, "strike", context(at(40)))).schedule
    assert (first.state, first.reason, first.since_us, first.cursor_us) == (S.PAUSED, "holiday", at(30).utc_us, T0_US)
    assert (again.reason, again.since_us, again.rev) == ("strike", at(30).utc_us, 3)


@pytest.mark.parametrize("state", [S.RETIRED, S.FINISHED])
def test_there_is_nothing_to_pause_where_nothing_fires(state: ScheduleState) -> None:
    assert isinstance(edit_pause(stored(state=state), "", context(at(1))), Refusal)
    assert isinstance(edit_resume(stored(state=state), MisfirePolicy.SKIP, context(at(1))), Refusal)


def test_cat_4_a_resume_records_what_was_missed_as_skipped() -> None:
    made = edit(edit_resume(stored(state=S.PAUSED), MisfirePolicy.SKIP, context(at(150))))
    assert (made.schedule.state, made.schedule.next_due_us) == (S.ACTIVE, at(180).utc_us)
    assert shown(made.runs) == skipped(Reason.PAUSED, (60, 1), (120, 1))


@pytest.mark.parametrize("policy", [MisfirePolicy.LATEST, MisfirePolicy.ALL])
def test_sched_7_or_leaves_it_to_scheduling_under_the_policy_that_was_asked_for(policy: MisfirePolicy) -> None:
    made = edit(edit_resume(stored(state=S.PAUSED), policy, context(at(150))))
    assert (made.schedule.catch_up, made.schedule.catch_up_until_us) == (policy, at(150).utc_us)
    assert (made.schedule.cursor_us, made.schedule.next_due_us, made.runs) == (T0_US, at(60).utc_us, ())


# --- park, unpark ----------------------------------------------------------------------------------------------


def test_pain_16_parked_while_its_method_is_away_and_goes_on_from_its_cursor() -> None:
    nobody = HandlersChanged((), ())
    parked = edit(edit_park(stored(), S.PARKED, "no method", context(at(60), nobody))).schedule
    assert (parked.state, parked.cursor_us) == (S.PARKED, T0_US)
    assert edit_unpark(parked, context(at(70), nobody)) is None
    back = edit(edit_unpark(parked, context(at(130))))
    assert (back.schedule.state, back.schedule.next_due_us, back.runs) == (S.ACTIVE, at(60).utc_us, ())


@pytest.mark.parametrize("schedule", [stored(), stored(state=S.PAUSED)], ids=["its method is here", "not active"])
def test_nothing_is_parked_without_need(schedule: Schedule) -> None:
    assert edit_park(schedule, S.PARKED, "no method", context(at(60))) is None


# --- the time --------------------------------------------------------------------------------------------------


def test_cat_7_pain_24_created_before_the_time_was_known_it_is_settled_when_it_is() -> None:
    made = edit(edit_apply(None, every(60), "config", context(untrusted(0))))
    assert (made.schedule.next_due_us, made.schedule.created_us) == (UNSETTLED_US, 0)
    assert edit_settle(made.schedule, context(untrusted(10))) is None
    settled = edit(edit_settle(made.schedule, context(at(90))))
    assert (settled.schedule.next_due_us, settled.schedule.created_us) == (at(120).utc_us, at(90).utc_us)
    assert settled.runs == (), "nothing was due before it was there"


def test_cat_7_what_passed_while_the_time_was_unknown_gets_one_row() -> None:
    unsettled = stored(next_due_us=UNSETTLED_US)
    settled = edit(edit_settle(unsettled, context(at(200))))
    assert shown(settled.runs) == skipped(Reason.UNTRUSTED_TIME, (60, 3))
    assert (settled.schedule.cursor_us, settled.schedule.next_due_us) == (at(200).utc_us, at(240).utc_us)
