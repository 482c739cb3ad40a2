"""Overlaps foreseen: which fire times may find an earlier run of their schedule still active, and what the overlap
policy would make of them. Pure; part of planning.

The longest that a run may stay active is taken from its time-outs, or from what past runs took.
"""

from collections import deque
from collections.abc import Iterable

from attrs import Factory, define, frozen

from sz_protocol.definition import Definition, Overlap, OverlapPolicy, Retry
from sz_protocol.durations import format_duration
from sz_protocol.kernel.now import DAY_US
from sz_protocol.moments import show_span
from sz_protocol.policy import OverlapVerdict, decide_overlap, lane_width
from sz_protocol.records import Run, RunState
from sz_protocol.triggers import missed

MOST_EARLIER = 256
"""So many fire times before the planned stretch are looked at, for runs that reach into it."""


@frozen
class Past:
    """What past runs of a schedule took: how many were looked at, and the longest."""

    runs: int
    longest_us: int


@frozen
class Hold:
    """How long a run may stay active at the most, retries included, and how that is known."""

    us: int
    why: str


def past_of(runs: Iterable[Run]) -> Past | None:
    """What the executed ones among `runs` took; None when none of them ended."""
    taken = [taken_us for run in runs if (taken_us := _taken(run)) is not None]
    return Past(len(taken), max(taken)) if taken else None


def _taken(run: Run) -> int | None:
    if run.state is not RunState.DONE or run.started_us is None or run.finished_us is None:
        return None
    # `started_us` is that of the last attempt; a run that was retried has been active since it was decided.
    return run.finished_us - (run.started_us if run.attempt == 1 else run.decided_us)


def hold_of(definition: Definition, past: Past | None = None) -> Hold | None:
    """How long a run of this schedule may stay active; None where neither time-outs nor past runs tell."""
    if past is not None:
        noun = "past run took" if past.runs == 1 else f"{past.runs} past runs took up to"
        return Hold(past.longest_us, f"{noun} {show_span(past.longest_us)}")
    timeout_us, deadline_us, retry = definition.timeout_us, definition.deadline_us, definition.retry
    if timeout_us is None:
        return None if deadline_us is None else Hold(deadline_us, f"deadline {format_duration(deadline_us)}")
    total_us = retry.attempts * timeout_us + _longest_backoffs(retry)
    if deadline_us is not None and deadline_us < total_us:
        return Hold(deadline_us, f"deadline {format_duration(deadline_us)}")
    if retry.attempts == 1:
        return Hold(total_us, f"timeout {format_duration(timeout_us)}")
    tries = f"{retry.attempts} attempts of timeout {format_duration(timeout_us)} with back-off"
    return Hold(total_us, f"{tries}, {show_span(total_us)} in all,")


def _longest_backoffs(retry: Retry) -> int:
    total_us = 0
    for failures in range(1, retry.attempts):
        wait_us = min(retry.max_us, retry.base_us << min(failures - 1, 32))
        if wait_us == retry.max_us:
            return total_us + wait_us * (retry.attempts - failures)
        total_us += wait_us
    return total_us


@define
class Foresight:
    """Walks along the fire times of one schedule and bounds what may be active: whatever runs really take, up to the
    hold, a fire time that meets one of them has a note.

    `ends` holds when the latest runs may be over at last, as many as can be active at once.
    """

    overlap: Overlap
    hold: Hold
    ends: deque[int] = Factory(deque)
    last_us: int | None = None

    @property
    def capacity(self) -> int:
        """How many runs may execute or wait at once."""
        return self.overlap.limit + 1 if self.overlap.policy is OverlapPolicy.QUEUE else lane_width(self.overlap)

    def meet(self, at_us: int) -> str:
        """What the fire time `at_us`, later than all before, may meet; empty when nothing."""
        while self.ends and self.ends[0] < at_us:
            self.ends.popleft()
        active = len(self.ends)
        note = self._note(at_us, active, decide_overlap(self.overlap, active, queued=False)) if active else ""
        end_us = at_us + self.hold.us
        if self.overlap.policy is OverlapPolicy.QUEUE and active:
            # Behind all that may be before it, of which there are never more than may wait.
            end_us = min(self.ends[-1] + self.hold.us, at_us + self.hold.us * self.capacity)
        self.ends.append(end_us)
        if len(self.ends) > self.capacity:
            # This one may be skipped, or run because an earlier one was quick: the next one has to fear both.
            self.ends.popleft()
        self.last_us = at_us
        return note

    def _note(self, at_us: int, active: int, verdict: OverlapVerdict) -> str:
        gap_us = at_us - (at_us if self.last_us is None else self.last_us)
        cause = f"{self.hold.why} {'>' if self.hold.us > gap_us else '='} {show_span(gap_us)} gap"
        if self.hold.us < gap_us:
            cause = f"{self.hold.why} each, one after the other"
        whom = "the run before it" if active == 1 else f"the {active} runs before it"
        limit = f"({self.overlap.limit})" if self.overlap.policy in (OverlapPolicy.QUEUE, OverlapPolicy.ALLOW) else ""
        match verdict:
            case OverlapVerdict.RUN:
                would = "would run it beside"
            case OverlapVerdict.WAIT:
                would = f"would let it wait up to {show_span(self.ends[-1] - at_us)}"
            case OverlapVerdict.FULL:
                would = "may be full and skip it"
            case OverlapVerdict.CANCEL:
                would = "would cancel that run for it"
            case OverlapVerdict.SKIP:
                would = "would skip it"
        return f"may overlap {whom}: {cause}; policy {self.overlap.policy}{limit} {would}"


def foresee(definition: Definition, from_us: int, past: Past | None = None) -> Foresight | None:
    """Foresight for the fire times from `from_us` on, with the runs from before that may reach into that time.
    Raises CannotAdvance."""
    hold = hold_of(definition, past)
    if hold is None:
        return None
    foresight = Foresight(definition.overlap, hold)
    reach_us = min(hold.us * (definition.overlap.limit + 1), max(hold.us, DAY_US))
    for at_us in missed(definition.trigger, from_us - 1 - reach_us, from_us - 1, MOST_EARLIER).kept:
        foresight.meet(at_us)
    return foresight
