"""What becomes of the instants of one schedule that passed undecided: pure decisions. Part of scheduling.

SCHED-7 what a person decided about a pause holds for the instants that passed in it, and for no others. LEDGER-1 each
instant gets exactly one verdict, those that nobody enumerates by ranges.
"""

from collections.abc import Iterator

from attrs import evolve

from sz_protocol.definition import Definition, Misfire, MisfirePolicy
from sz_protocol.kernel.record import record
from sz_protocol.policy import Passed, Verdict, decide_misfire, policy_at
from sz_protocol.records import Schedule
from sz_protocol.triggers import CannotAdvance, missed_in_part, next_fire


@record
class Stretch:
    """Time after `after_us` and up to `until_us` whose instants are judged by one policy. What lies at or before
    `window_us` is too old to serve."""

    after_us: int
    until_us: int
    window_us: int
    misfire: Misfire
    policy: MisfirePolicy


@record
class Decided:
    """Verdicts on the oldest undecided instants, up to and with `newest_us`, and the fire time that follows that."""

    verdicts: tuple[Verdict, ...]
    newest_us: int
    following_us: int | None


def rules_at(schedule: Schedule, fire_us: int) -> tuple[Misfire, MisfirePolicy]:
    """SCHED-7: whoever resumes a schedule knows that its instants are late: no grace applies to them."""
    misfire = schedule.definition.misfire
    if schedule.catch_up is None or fire_us > schedule.catch_up_until_us:
        return misfire, misfire.policy
    return evolve(misfire, grace_us=None), policy_at(schedule.definition, schedule.catch_up)


def stretches(schedule: Schedule, cursor_us: int, until_us: int) -> Iterator[Stretch]:
    """What passed in a pause that a person ended, to which no window applies either, and what passed after that."""
    misfire = schedule.definition.misfire
    pause_us = min(schedule.catch_up_until_us, until_us) if schedule.catch_up is not None else cursor_us
    if pause_us > cursor_us:
        yield Stretch(cursor_us, pause_us, cursor_us, *rules_at(schedule, pause_us))
    if pause_us < until_us:
        yield Stretch(max(pause_us, cursor_us), until_us, until_us - misfire.window_us, misfire, misfire.policy)


def decide_backlog(schedule: Schedule, cursor_us: int, until_us: int, cap: int, now_us: int, spread_us: int) -> Decided:
    """Judge the instants after the cursor and up to `until_us`: the latest one by one, the others in ranges. Where
    there are very many, only the oldest are judged. Raises CannotAdvance."""
    trigger = schedule.definition.trigger
    verdicts: list[Verdict] = []
    newest_us, following_us = cursor_us, next_fire(trigger, cursor_us)
    for stretch in stretches(schedule, cursor_us, until_us):
        passed = enumerate_passed(schedule.definition, stretch, cap)
        if not (passed.instants or passed.folded or passed.expired):
            continue
        verdicts += decide_misfire(stretch.misfire, stretch.policy, passed, now_us, spread_us)
        newest_us = passed.instants[-1] if passed.instants else max(passed.folded_until_us, passed.expired_until_us)
        following_us = next_fire(trigger, newest_us)
        if following_us is not None and following_us <= stretch.until_us:
            assert not passed.instants, "SCHED-1: the backlog was not exhausted"
            break
    return Decided(tuple(verdicts), newest_us, following_us)


def enumerate_passed(definition: Definition, stretch: Stretch, cap: int) -> Passed:
    """The instants of a stretch: the latest one by one, those beyond `cap` and those before the window counted. Of a
    trigger that has to be walked through only the oldest ones, where there are very many. Raises CannotAdvance."""
    trigger, after_us = definition.trigger, stretch.after_us
    passed = Passed(())
    if after_us < stretch.window_us:
        expired, after_us = missed_in_part(trigger, after_us, stretch.window_us, 0)
        passed = evolve(
            passed,
            expired=expired.dropped,
            expired_from_us=expired.first_dropped_us or 0,
            expired_until_us=expired.last_dropped_us or 0,
        )
        if after_us < stretch.window_us:
            return passed
    recent, _ = missed_in_part(trigger, after_us, stretch.until_us, max(cap, definition.misfire.max))
    return evolve(
        passed,
        instants=recent.kept,
        folded=recent.dropped,
        folded_from_us=recent.first_dropped_us or 0,
        folded_until_us=recent.last_dropped_us or 0,
    )


def left_out(schedule: Schedule, until_us: int) -> str:
    """What stays undone of a pause when somebody asks for all of it, for a person; empty where nothing does."""
    most = schedule.definition.misfire.max
    if until_us <= schedule.cursor_us:
        return ""
    try:
        passed, reach_us = missed_in_part(schedule.definition.trigger, schedule.cursor_us, until_us, 0)
    except CannotAdvance:
        return ""
    if passed.dropped <= most:
        return ""
    kept = f"missed fire times are not run: misfire.max is {most}, which keeps the newest"
    if reach_us < until_us:
        return f"more than {passed.dropped - most} {kept}"
    return f"{passed.dropped - most} of {passed.dropped} {kept}"
