"""Bugs of scheduling, timekeeping and the catalog."""

from typing import Any

from attrs import evolve

from sz_protocol import policy as policy_module
from sz_protocol.kernel.now import Now
from sz_protocol.machines import backlog as backlog_module
from sz_protocol.machines import catalog as catalog_module
from sz_protocol.machines import schedule_edits
from sz_protocol.machines import scheduling as scheduling_module
from sz_protocol.machines.backlog import Stretch
from sz_protocol.machines.catalog import Catalog
from sz_protocol.machines.schedule_edits import Edit
from sz_protocol.machines.scheduling import Paged, Scheduling
from sz_protocol.machines.timekeeping import Timekeeping
from sz_protocol.policy import Passed
from sz_protocol.records import Outcome, Reason
from sz_protocol.triggers import fires_between
from sz_runtime.simulation.mutants.planting import mutant


def _without_reason(*reasons: str) -> Any:
    """decide_misfire whose verdicts of these reasons are dropped."""

    def build(original: Any) -> Any:
        def decide(*arguments: Any, **named: Any) -> Any:
            return [verdict for verdict in original(*arguments, **named) if verdict.reason not in reasons]

        return decide

    return build


def _refire_after_step_back(original: Any) -> Any:
    def on_woke(self: Scheduling, now: Now) -> Any:
        for schedule_id, paged in list(self.paged.items()):
            if paged.cursor_us > now.utc_us:
                trigger = paged.schedule.definition.trigger
                again = next(fires_between(trigger, now.utc_us - 60_000_000, now.utc_us), None)
                if again is not None:
                    self.paged[schedule_id] = Paged(
                        paged.schedule, paged.cursor_us, again + paged.spread_us, paged.spread_us
                    )
                    self.due.push(again + paged.spread_us, schedule_id)
        return original(self, now)

    return on_woke


def _advance_anywhere(self: Scheduling, paged: Paged, firing: Any) -> None:
    self.paged.pop(paged.schedule.id, None)
    self.reload_ids[paged.schedule.id] = None


def _window_ignored(original: Any) -> Any:
    def decide(definition: Any, stretch: Stretch, cap: int) -> Passed:
        passed: Passed = original(definition, evolve(stretch, window_us=stretch.after_us), cap)
        return passed

    return decide


def _no_window_for_one(original: Any) -> Any:
    def decide(self: Scheduling, paged: Paged, now: Now) -> Any:
        misfire = evolve(paged.schedule.definition.misfire, window_us=1 << 60)
        definition = evolve(paged.schedule.definition, misfire=misfire)
        firing = original(self, evolve(paged, schedule=evolve(paged.schedule, definition=definition)), now)
        return None if firing is None else evolve(firing, schedule=paged.schedule)

    return decide


def _grace_ignored(original: Any) -> Any:
    return lambda misfire, policy: None


def _no_spread(original: Any) -> Any:
    return lambda uid, window_us: 0


def _reload_forgotten(original: Any) -> Any:
    def on_undone(self: Scheduling, ids: Any, unavailable: bool, now: Now) -> None:
        original(self, ids, unavailable, now)
        self.reload_ids.clear()

    return on_undone


def _page_overlooks(original: Any) -> Any:
    def within_reach(self: Scheduling, due_us: int, schedule_id: str) -> bool:
        return (due_us, schedule_id) <= self.position

    return within_reach


def _jump_followed(original: Any) -> Any:
    def hold(self: Timekeeping, now: Now, base_us: int, accepted_us: int) -> Now:
        self.base_us = base_us
        return now

    return hold


def _untrusted_believed(original: Any) -> Any:
    return lambda self, now: original(self, evolve(now, trusted=True))


def _miscounted(original: Any) -> Any:
    def folded(count: int, first_us: int, last_us: int, reason: Reason) -> Any:
        verdict = original(count, first_us, last_us, reason)
        return evolve(verdict, count=count + 1) if count > 1 else verdict

    return folded


def _all_executed(original: Any) -> Any:
    def decide(misfire: Any, policy: Any, passed: Passed, *rest: Any) -> Any:
        verdicts = original(misfire, policy, passed, *rest)
        skipped = (Reason.COALESCED, Reason.LIMIT)
        again = [evolve(v, outcome=None) if v.reason in skipped and v.count == 1 else v for v in verdicts]
        return again

    return decide


def _paused_fires(original: Any) -> Any:
    def pause(existing: Any, reason: str, context: Any) -> Any:
        edit = original(existing, reason, context)
        if not isinstance(edit, Edit):
            return edit
        return evolve(edit, schedule=evolve(edit.schedule, state=existing.state))

    return pause


def _resume_swallows(original: Any) -> Any:
    return lambda *arguments: ()


def _edit_resets_cursor(original: Any) -> Any:
    def apply(existing: Any, definition: Any, source: str, context: Any) -> Any:
        edit = original(existing, definition, source, context)
        if existing is None or edit is None or isinstance(edit, str):
            return edit
        moved = evolve(edit.schedule, cursor_us=context.now.utc_us)
        return evolve(edit, schedule=schedule_edits.standing(moved, context), runs=())

    return apply


def _answers_twice(original: Any) -> Any:
    def answer(self: Catalog, job: Any, reply: Any) -> Any:
        return original(self, job, reply) * 2

    return answer


def _park_forgotten(original: Any) -> Any:
    return lambda existing, context: None


def _missed_told_skipped(original: Any) -> Any:
    def folded(count: int, first_us: int, last_us: int, reason: Reason) -> Any:
        verdict = original(count, first_us, last_us, reason)
        return evolve(verdict, outcome=None) if verdict.outcome is Outcome.MISSED else verdict

    return folded


SCHEDULING = (
    mutant(
        "coalesced_not_recorded",
        "fire times that were coalesced into a later one get no row of their own",
        (backlog_module, "decide_misfire", _without_reason(Reason.COALESCED)),
    ),
    mutant(
        "expired_not_recorded",
        "fire times before the catch-up window disappear",
        (backlog_module, "decide_misfire", _without_reason(Reason.WINDOW)),
    ),
    mutant(
        "refire_after_clock_step_back",
        "after the wall clock stepped back the cursor follows it, and what was decided is decided again",
        (Scheduling, "_on_woke", _refire_after_step_back),
        (Scheduling, "_advance", lambda original: _advance_anywhere),
    ),
    mutant(
        "window_ignored",
        "catch-up runs what is older than its window",
        (backlog_module, "enumerate_passed", _window_ignored),
        (Scheduling, "_decide", _no_window_for_one),
    ),
    mutant("grace_ignored", "a misfire past its grace is executed", (policy_module, "grace_of", _grace_ignored)),
    mutant(
        "spread_ignored",
        "every schedule fires at its nominal time, whatever its spread",
        (scheduling_module, "spread_offset", _no_spread),
        (schedule_edits, "spread_offset", _no_spread),
    ),
    mutant(
        "reload_forgotten",
        "a schedule whose slice was refused is not read again",
        (Scheduling, "_on_undone", _reload_forgotten),
    ),
    mutant(
        "page_overlooks_what_was_decided_meanwhile",
        "a schedule that is decided while a page is being read drops out of memory between the two",
        (Scheduling, "_within_reach", _page_overlooks),
    ),
    mutant(
        "clock_jump_followed",
        "a wall clock that jumps ahead is followed at once",
        (Timekeeping, "_hold", _jump_followed),
    ),
    mutant(
        "untrusted_clock_believed",
        "due work follows a wall clock that nobody trusts yet",
        (Timekeeping, "read", _untrusted_believed),
    ),
    mutant(
        "folded_range_miscounted", "a folded range counts one instant too many", (policy_module, "_folded", _miscounted)
    ),
    mutant(
        "catch_up_runs_everything",
        "after a gap every fire time is executed, whatever the policy",
        (scheduling_module, "decide_misfire", _all_executed),
        (backlog_module, "decide_misfire", _all_executed),
    ),
    mutant("paused_schedule_fires", "a pause is answered and not kept", (catalog_module, "edit_pause", _paused_fires)),
    mutant(
        "resume_swallows_what_was_missed",
        "what passed during a pause has no row after the resume",
        (schedule_edits, "_rows", _resume_swallows),
    ),
    mutant(
        "redeploy_resets_cursor",
        "an edited schedule begins anew at the present, and forgets what was due",
        (catalog_module, "edit_apply", _edit_resets_cursor),
    ),
    mutant("command_answered_twice", "a command gets two replies", (Catalog, "_answer", _answers_twice)),
    mutant(
        "parked_for_ever",
        "a handler that comes back does not wake its schedules",
        (catalog_module, "edit_unpark", _park_forgotten),
    ),
    mutant(
        "missed_is_executed",
        "ranges that were too old to serve are executed",
        (policy_module, "_folded", _missed_told_skipped),
    ),
)
