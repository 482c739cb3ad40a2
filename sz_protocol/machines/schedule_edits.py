"""What an edit makes of one schedule: pure decisions, with the ledger rows for the instants that it takes away.

CAT-1 an edit keeps the cursor; only a changed trigger moves it to the present, and what was due under the old one
and undecided is recorded as superseded. CAT-4 nothing that was due disappears without a row. CAT-7 what needs a present
that nobody knows is settled when the time is known (TIME-5). CAT-8 a due time that was stored under other zone data is
computed anew. CAT-9 an edit visits a bounded number of instants: what passed before them is accounted for in steps.
CAT-10 a pause outlasts the absence of its schedule.
"""

from collections.abc import Callable

from attrs import evolve

from sz_protocol.commands import Refusal, RefusalCode
from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.now import Now
from sz_protocol.kernel.record import record
from sz_protocol.policy import no_such_method, spread_offset
from sz_protocol.records import UNSETTLED_US, Outcome, Reason, Run, RunState, Schedule, ScheduleState, run_key
from sz_protocol.routing import Routes
from sz_protocol.triggers import (
    CannotAdvance,
    Date,
    Missed,
    is_quick,
    missed,
    missed_in_part,
    next_fire,
    nominal_key,
)


@record
class Edit:
    """A schedule as it is to be stored, the cursor that the stored one must have, and rows for the ledger. `partial`:
    it accounts for the oldest of what passed and changes nothing else; the edit that was wanted is still to be made."""

    schedule: Schedule
    expected_us: int | None
    runs: tuple[Run, ...] = ()
    partial: bool = False


@record
class Context:
    """What every edit needs to know: the time, who can execute what (None: not known yet), where row numbers come
    from, and how many instants get rows of their own."""

    now: Now
    routes: Routes | None
    next_claim: Callable[[], int]
    enumerate_instants: int


def standing(schedule: Schedule, context: Context) -> Schedule:
    """The schedule ready to fire after its cursor: ACTIVE with its next due time, or the state that keeps it from
    that, with the reason."""
    definition = schedule.definition
    since_us = context.now.utc_us
    try:
        following = next_fire(definition.trigger, schedule.cursor_us)
    except CannotAdvance as stuck:
        return schedule.standing(ScheduleState.QUARANTINED, str(stuck), since_us, None)
    if following is None:
        return schedule.standing(ScheduleState.FINISHED, "no fire time is left", since_us, None)
    due_us = following + spread_offset(schedule.uid, definition.spread_us)
    if context.routes is not None and not context.routes.lets_fire(definition):
        return schedule.standing(ScheduleState.PARKED, no_such_method(definition), since_us, due_us)
    return schedule.standing(ScheduleState.ACTIVE, "", since_us, due_us)


# --- edits -----------------------------------------------------------------------------------------------------


def edit_apply(existing: Schedule | None, definition: Definition, source: str, context: Context) -> Edit | str | None:
    """Reconcile one definition: an edit, None when nothing differs, or why it is refused."""
    hash_ = definition_hash(definition)
    if existing is None:
        return _create(definition, hash_, source, context)
    if existing.source != source:
        return f"schedule {definition.id!r} belongs to {existing.source!r}"
    if existing.hash == hash_ and existing.state is ScheduleState.QUARANTINED:
        return _try_again(existing, context)
    if existing.hash == hash_ and existing.state is not ScheduleState.RETIRED:
        return _edit_due(existing, context)
    edited = evolve(existing, definition=definition, hash=hash_, rev=existing.rev + 1)
    if existing.state is ScheduleState.RETIRED:
        return _come_back(existing, edited, context)
    reason = None if existing.definition.trigger == definition.trigger else Reason.SUPERSEDED
    edit = _go_on(existing, edited, reason, context)
    if existing.state is not ScheduleState.PAUSED:
        return edit
    # It stays paused, with the next due time of its new trigger: what passes it until then is accounted for.
    paused = evolve(edit.schedule, state=ScheduleState.PAUSED, reason=existing.reason, since_us=existing.since_us)
    return evolve(edit, schedule=paused)


def _come_back(existing: Schedule, edited: Schedule, context: Context) -> Edit:
    """CAT-10: as it left. What passed meanwhile is accounted for."""
    edit = _go_on(existing, evolve(edited, paused_us=None, paused_reason=""), Reason.RETIRED, context)
    if existing.paused_us is None or edit.partial:
        return edit
    since_us, reason = existing.paused_us, existing.paused_reason
    return evolve(edit, schedule=evolve(edit.schedule, state=ScheduleState.PAUSED, reason=reason, since_us=since_us))


def _try_again(existing: Schedule, context: Context) -> Edit | None:
    """What it was quarantined for may be over: other zone data, a version that can read it. None where it is not."""
    edit = _go_on(existing, evolve(existing, rev=existing.rev + 1), None, context)
    return None if edit.schedule.state is ScheduleState.QUARANTINED and not edit.partial else edit


def _create(definition: Definition, hash_: bytes, source: str, context: Context) -> Edit:
    now = context.now
    present_us = now.utc_us if now.trusted else 0
    schedule = Schedule(definition.id, definition, hash_, source, 1, present_us, None, present_us, present_us)
    if now.trusted:
        return Edit(standing(schedule, context), None, _past_date(schedule, context))
    return evolve(_go_on(schedule, schedule, None, context), expected_us=None)


def edit_retire(existing: Schedule, context: Context) -> Edit | None:
    """CAT-2: out of its source, not out of the store. What was due and undecided is accounted for now: the schedule
    may never come back."""
    if existing.state is ScheduleState.RETIRED:
        return None
    step = _step(existing, existing, Reason.RETIRED, context)
    if step is not None:
        return step
    reason = f"no longer in {existing.source}"
    retired = _stand_still(existing, ScheduleState.RETIRED, reason, context)
    if existing.state is ScheduleState.PAUSED:
        retired = evolve(retired, paused_us=existing.since_us, paused_reason=existing.reason)
    retired, runs = _carry_on(existing, retired, Reason.RETIRED, context)
    return Edit(retired, existing.cursor_us, runs)


def edit_pause(existing: Schedule, reason: str, context: Context) -> Edit | Refusal:
    """Stand still until somebody resumes it."""
    if existing.state in (ScheduleState.RETIRED, ScheduleState.FINISHED):
        return Refusal(RefusalCode.WRONG_STATE, f"schedule {existing.id!r} is {existing.state}: nothing to pause")
    if existing.state is ScheduleState.PAUSED:
        return Edit(evolve(existing, rev=existing.rev + 1, reason=reason), existing.cursor_us)
    return Edit(_stand_still(existing, ScheduleState.PAUSED, reason, context), existing.cursor_us)


def edit_resume(existing: Schedule, policy: MisfirePolicy, context: Context) -> Edit | Refusal:
    """Fire again. SKIP records what was missed as such; the others leave it to scheduling under that policy. Of one
    that is RETIRED only the pause ends, with which it would have come back."""
    if existing.state is ScheduleState.RETIRED and existing.paused_us is not None:
        return Edit(evolve(existing, rev=existing.rev + 1, paused_us=None, paused_reason=""), existing.cursor_us)
    if existing.state is not ScheduleState.PAUSED:
        return Refusal(RefusalCode.WRONG_STATE, f"schedule {existing.id!r} is {existing.state}, not paused")
    edited = evolve(existing, rev=existing.rev + 1, catch_up=None, catch_up_until_us=0)
    if policy is MisfirePolicy.SKIP:
        return _go_on(existing, edited, Reason.PAUSED, context)
    edited = evolve(edited, catch_up=policy, catch_up_until_us=context.now.utc_us)
    return _go_on(existing, edited, None, context)


def edit_park(existing: Schedule, state: ScheduleState, reason: str, context: Context) -> Edit | None:
    """Stand still until the handler is back (PARKED) or the trigger is mended (QUARANTINED)."""
    if existing.state is not ScheduleState.ACTIVE:
        return None
    definition = existing.definition
    known = context.routes is not None and context.routes.lets_fire(definition)
    if state is ScheduleState.PARKED and known:
        return None
    return Edit(_stand_still(existing, state, reason, context), existing.cursor_us)


def edit_unpark(existing: Schedule, context: Context) -> Edit | None:
    """Its method is here: go on from the cursor; what was missed follows the misfire policy."""
    if existing.state is not ScheduleState.PARKED:
        return None
    edit = _go_on(existing, evolve(existing, rev=existing.rev + 1), None, context)
    return None if edit.schedule.state is ScheduleState.PARKED and not edit.partial else edit


def edit_settle(existing: Schedule, context: Context) -> Edit | None:
    """The time is known: bring the schedule to the present, with one row for what passed meanwhile (CAT-7)."""
    if existing.state is not ScheduleState.ACTIVE or not context.now.trusted:
        return None
    if existing.next_due_us != UNSETTLED_US:
        return _edit_due(existing, context)
    return _go_on(existing, evolve(existing, rev=existing.rev + 1), None, context)


def _edit_due(existing: Schedule, context: Context) -> Edit | None:
    """CAT-8: the next due time as the trigger says it now; None where it is what is stored. Zone data change, and a
    fire time that they moved must neither come at its old time nor come twice. The cursor stays."""
    if existing.next_due_us == UNSETTLED_US or existing.state is ScheduleState.RETIRED:
        return None
    now_stands = standing(existing, context)
    if now_stands.next_due_us == existing.next_due_us:
        return None
    stays = existing.state in (ScheduleState.PAUSED, ScheduleState.PARKED, now_stands.state)
    edited = evolve(existing, next_due_us=now_stands.next_due_us) if stays else now_stands
    return Edit(evolve(edited, rev=existing.rev + 1), existing.cursor_us)


# --- the present -----------------------------------------------------------------------------------------------


def _stand_still(existing: Schedule, state: ScheduleState, reason: str, context: Context) -> Schedule:
    return evolve(existing, rev=existing.rev + 1, state=state, reason=reason, since_us=context.now.utc_us)


def _go_on(existing: Schedule, edited: Schedule, reason: Reason | None, context: Context) -> Edit:
    """Ready to fire from its cursor on, which `reason` brings to the present. What needs a present that nobody knows
    leaves the schedule unsettled (CAT-7)."""
    now = context.now
    runs: tuple[Run, ...] = ()
    unsettled = existing.next_due_us == UNSETTLED_US or not existing.created_us
    if reason is not None or (unsettled and now.trusted):
        step = _step(existing, edited, reason or Reason.UNTRUSTED_TIME, context)
        if step is not None:
            return step
    if not now.trusted and (unsettled or reason is not None):
        if reason is not None:
            edited, runs = _carry_on(existing, edited, reason, context)
        edited = standing(edited, context)
        due_us = None if edited.next_due_us is None else UNSETTLED_US
        return Edit(evolve(edited, next_due_us=due_us), existing.cursor_us, runs)
    if not existing.created_us:
        edited = evolve(edited, cursor_us=now.utc_us, created_us=now.utc_us)
        runs = _past_date(edited, context)
    elif reason is not None or unsettled:
        edited, runs = _carry_on(existing, edited, reason or Reason.UNTRUSTED_TIME, context)
        if existing.definition.trigger != edited.definition.trigger:
            named = dict.fromkeys(run.run_key for run in runs)
            runs += tuple(run for run in _past_date(edited, context) if run.run_key not in named)
    return Edit(standing(edited, context), existing.cursor_us, runs)


def _past_date(schedule: Schedule, context: Context) -> tuple[Run, ...]:
    """A date that had passed when it was written down: nothing else would ever account for it."""
    trigger = schedule.definition.trigger
    if not isinstance(trigger, Date) or trigger.at_us > context.now.utc_us:
        return ()
    return (_row(schedule, trigger.at_us, Outcome.MISSED, Reason.PAST_AT_CREATION, context),)


def _present_us(existing: Schedule, edited: Schedule, context: Context) -> int:
    """Where an edit that brings the cursor to the present takes it. The same trigger keeps what is not due yet for
    want of its spread."""
    same = existing.definition.trigger == edited.definition.trigger
    spread_us = spread_offset(existing.uid, edited.definition.spread_us) if same else 0
    return max(existing.cursor_us, context.now.utc_us - spread_us)


def _carry_on(
    existing: Schedule, edited: Schedule, reason: Reason, context: Context
) -> tuple[Schedule, tuple[Run, ...]]:
    """The cursor brought to the present, and rows for what it passes on the way."""
    if not existing.created_us:
        return edited, ()
    cursor_us = _present_us(existing, edited, context)
    if existing.next_due_us is None or cursor_us <= existing.cursor_us:
        return evolve(edited, cursor_us=cursor_us), ()
    try:
        passed = missed(existing.definition.trigger, existing.cursor_us, cursor_us, _most_rows(reason, context))
    except CannotAdvance:
        return evolve(edited, cursor_us=cursor_us), ()
    return evolve(edited, cursor_us=cursor_us), _rows(existing, passed, reason, context)


def _step(existing: Schedule, edited: Schedule, reason: Reason, context: Context) -> Edit | None:
    """CAT-9: one row for the oldest of what passed, where it is too much for one edit; None where it is not."""
    if not existing.created_us or existing.next_due_us is None:
        return None
    trigger, until_us = existing.definition.trigger, _present_us(existing, edited, context)
    if is_quick(trigger, existing.cursor_us, until_us):
        return None
    try:
        passed, reach_us = missed_in_part(trigger, existing.cursor_us, until_us, _most_rows(reason, context))
        if reach_us >= until_us:
            return None
        following = next_fire(trigger, reach_us)
    except CannotAdvance:
        return None
    next_due_us = existing.next_due_us
    if following is not None and next_due_us != UNSETTLED_US:
        next_due_us = following + spread_offset(existing.uid, existing.definition.spread_us)
    moved = evolve(existing, rev=existing.rev + 1, cursor_us=reach_us, next_due_us=next_due_us)
    return Edit(moved, existing.cursor_us, _rows(existing, passed, reason, context), partial=True)


def _most_rows(reason: Reason, context: Context) -> int:
    return 0 if reason is Reason.UNTRUSTED_TIME else context.enumerate_instants


def _rows(schedule: Schedule, passed: Missed, reason: Reason, context: Context) -> tuple[Run, ...]:
    """Rows for instants that nothing else will account for."""
    rows = [_row(schedule, at_us, Outcome.SKIPPED, reason, context) for at_us in passed.kept]
    if passed.dropped and passed.first_dropped_us is not None:
        folded = _row(schedule, passed.first_dropped_us, Outcome.SKIPPED, reason, context)
        until = passed.last_dropped_us if passed.dropped > 1 else None
        rows.insert(0, evolve(folded, count=passed.dropped, until_us=until))
    return tuple(rows)


def _row(schedule: Schedule, fire_us: int, outcome: Outcome, reason: Reason, context: Context) -> Run:
    definition = schedule.definition
    now_us = context.now.utc_us
    return Run(
        context.next_claim(),
        run_key(schedule.uid, nominal_key(definition.trigger, fire_us)),
        definition.id,
        fire_us,
        definition.handler_id,
        definition.method,
        RunState.DONE,
        now_us,
        outcome=outcome,
        reason=reason,
        finished_us=now_us,
    )
