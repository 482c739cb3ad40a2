"""The tables of a simulated store: schedules, runs, attempts, with every change undoable.

A crash undoes the transactions that were applied and not yet synced; a rewind undoes those made since the copy was
taken. The rules of each change are those of `sz_protocol.changes`; the contract suite of the stores holds this one to
them as it holds SQLite.
"""

from bisect import bisect_left, insort
from operator import attrgetter
from typing import Final

from attrs import Factory, define

from sz_protocol.changes import (
    Change,
    DropRuns,
    InsertAttempts,
    InsertRuns,
    MoveCursors,
    PutSchedules,
    UpdateRuns,
)
from sz_protocol.kernel.record import record
from sz_protocol.records import INBORN, Attempt, Run, RunState, Schedule, ScheduleState

Identity = str | int
AttemptKey = tuple[int, int]
_ACTIVE: Final = ScheduleState.ACTIVE
_DONE: Final = RunState.DONE
_WITH_RUNS: Final = (InsertRuns, UpdateRuns)


@record
class ScheduleStep:
    """A schedule as it was (None: absent) and is after a change."""

    before: Schedule | None
    after: Schedule | None


@record
class RunStep:
    """A run as it was (None: absent) and is (None: dropped) after a change."""

    before: Run | None
    after: Run | None


@record
class AttemptStep:
    """An attempt that was added (or dropped with its run)."""

    before: Attempt | None
    after: Attempt | None


@record
class WallStep:
    """The latest wall time in the tables rose."""

    before: int
    after: int


Step = ScheduleStep | RunStep | AttemptStep | WallStep


_inborn = attrgetter(*INBORN)


@define
class Tables:
    """All rows of one store. `apply` takes the changes of one transaction, or none of them."""

    schedules: dict[str, Schedule] = Factory(dict)
    runs: dict[int, Run] = Factory(dict)
    attempts: dict[AttemptKey, Attempt] = Factory(dict)
    rows_by_key: dict[bytes, int] = Factory(dict)
    unfinished: dict[int, None] = Factory(dict)
    due: list[tuple[int, str]] = Factory(list)
    """(next_due_us, id) of ACTIVE schedules, in order."""
    wall_high_us: int = 0
    """The latest wall time that any change has recorded."""

    def apply(self, changes: tuple[Change, ...]) -> tuple[list[Step], tuple[Identity, ...]]:
        """The steps that were taken and nothing, or no step and the identities that were refused."""
        steps: list[Step] = []
        refused: list[Identity] = []
        for change in changes:
            refused += self._apply_one(change, steps)
        if refused:
            self.undo(steps)
            return [], tuple(dict.fromkeys(refused))
        wall_us = max(map(latest_us, changes), default=0)
        if wall_us > self.wall_high_us:
            self._take(WallStep(self.wall_high_us, wall_us), steps)
        return steps, ()

    def undo(self, steps: list[Step]) -> None:
        """Take back `steps`, the last first."""
        for step in reversed(steps):
            match step:
                case ScheduleStep(before, after):
                    self._set_schedule(after, before)
                case RunStep(before, after):
                    self._set_run(after, before)
                case AttemptStep(before, after):
                    self._set_attempt(after, before)
                case WallStep(before, _):
                    self.wall_high_us = before

    # --- changes ----------------------------------------------------------------------------------------------

    def _apply_one(self, change: Change, steps: list[Step]) -> list[Identity]:
        match change:
            case UpdateRuns():
                return self._update_runs(change, steps)
            case InsertRuns():
                return self._insert_runs(change, steps)
            case MoveCursors():
                return self._move_cursors(change, steps)
            case PutSchedules():
                return self._put_schedules(change, steps)
            case InsertAttempts():
                for attempt in change.attempts:
                    if (attempt.row, attempt.attempt) not in self.attempts:
                        self._take(AttemptStep(None, attempt), steps)
            case DropRuns():
                self._drop_runs(change, steps)
        return []

    def _put_schedules(self, change: PutSchedules, steps: list[Step]) -> list[Identity]:
        refused: list[Identity] = []
        for schedule, expected_us in zip(change.schedules, change.expected_cursors_us, strict=True):
            stored = self.schedules.get(schedule.id)
            if stored is None:
                allowed = schedule.rev == 1 and expected_us is None
            else:
                allowed = stored.rev == schedule.rev - 1 and stored.cursor_us == expected_us
            if allowed:
                self._take(ScheduleStep(stored, schedule), steps)
            else:
                refused.append(schedule.id)
        return refused

    def _move_cursors(self, change: MoveCursors, steps: list[Step]) -> list[Identity]:
        refused: list[Identity] = []
        for move in change.moves:
            stored = self.schedules.get(move.schedule_id)
            if (
                stored is None
                or stored.rev != move.rev
                or stored.cursor_us != move.expected_us
                or stored.state is not _ACTIVE
            ):
                refused.append(move.schedule_id)
                continue
            state = ScheduleState.FINISHED if move.next_due_us is None else stored.state
            self._take(ScheduleStep(stored, _moved(stored, move.cursor_us, move.next_due_us, state)), steps)
        return refused

    def _insert_runs(self, change: InsertRuns, steps: list[Step]) -> list[Identity]:
        refused: list[Identity] = []
        for run in change.runs:
            if run.run_key in self.rows_by_key or run.row in self.runs:
                refused.append(run.row)
            else:
                self._take(RunStep(None, run), steps)
        return refused

    def _update_runs(self, change: UpdateRuns, steps: list[Step]) -> list[Identity]:
        refused: list[Identity] = []
        for run, expected in zip(change.runs, change.expected_attempts, strict=True):
            stored = self.runs.get(run.row)
            if stored is None or stored.state is _DONE or stored.attempt != expected:
                refused.append(run.row)
            else:
                assert _inborn(stored) == _inborn(run), f"STORE-14: row {run.row} has become another run"
                self._take(RunStep(stored, run), steps)
        return refused

    def _drop_runs(self, change: DropRuns, steps: list[Step]) -> None:
        old = [run for run in self.runs.values() if run.state is RunState.DONE and ended_us(run) < change.before_us]
        old.sort(key=lambda run: (ended_us(run), run.row))
        for run in old[: change.limit]:
            for attempt in self.attempts_of(run.row):
                self._take(AttemptStep(attempt, None), steps)
            self._take(RunStep(run, None), steps)

    def attempts_of(self, row: int) -> list[Attempt]:
        """The kept attempts of one run, in order."""
        found = (self.attempts.get((row, number)) for number in range(1, self.runs[row].attempt + 1))
        return [attempt for attempt in found if attempt is not None]

    # --- rows and their indexes -------------------------------------------------------------------------------

    def _take(self, step: Step, steps: list[Step]) -> None:
        if isinstance(step, RunStep):
            self._set_run(step.before, step.after)
        elif isinstance(step, ScheduleStep):
            self._set_schedule(step.before, step.after)
        elif isinstance(step, AttemptStep):
            self._set_attempt(step.before, step.after)
        else:
            self.wall_high_us = step.after
        steps.append(step)

    def _set_schedule(self, before: Schedule | None, after: Schedule | None) -> None:
        if before is not None:
            del self.schedules[before.id]
            if is_due(before):
                del self.due[bisect_left(self.due, (before.next_due_us, before.id))]
        if after is not None:
            self.schedules[after.id] = after
            if is_due(after):
                insort(self.due, due_key(after))

    def _set_run(self, before: Run | None, after: Run | None) -> None:
        if before is not None and (after is None or after.run_key != before.run_key):
            del self.rows_by_key[before.run_key]
        if after is None:
            assert before is not None, "a step leads from something or to something"
            del self.runs[before.row]
            self.unfinished.pop(before.row, None)
            return
        self.runs[after.row] = after
        self.rows_by_key[after.run_key] = after.row
        if after.state is _DONE:
            self.unfinished.pop(after.row, None)
        else:
            self.unfinished[after.row] = None

    def _set_attempt(self, before: Attempt | None, after: Attempt | None) -> None:
        if before is not None:
            del self.attempts[before.row, before.attempt]
        if after is not None:
            self.attempts[after.row, after.attempt] = after


def _moved(schedule: Schedule, cursor_us: int, next_due_us: int | None, state: ScheduleState) -> Schedule:
    """The same schedule behind a move of its cursor. (`evolve` by hand, at half of its time: each fire moves one.)"""
    return Schedule(
        schedule.uid,
        schedule.definition,
        schedule.hash,
        schedule.source,
        schedule.rev,
        cursor_us,
        next_due_us,
        schedule.created_us,
        schedule.since_us,
        state,
        schedule.reason,
        schedule.catch_up,
        schedule.catch_up_until_us,
        schedule.paused_us,
        schedule.paused_reason,
    )


def is_due(schedule: Schedule) -> bool:
    """Whether the index of due times holds this schedule."""
    return schedule.state is _ACTIVE and schedule.next_due_us is not None


def due_key(schedule: Schedule) -> tuple[int, str]:
    """Where the index of due times holds this schedule."""
    assert schedule.next_due_us is not None
    return schedule.next_due_us, schedule.id


def latest_us(change: Change) -> int:
    """The latest wall time that a change records; a `next_due_us` lies ahead and does not count."""
    match change:
        case InsertRuns():
            times = [run.decided_us for run in change.runs]
        case UpdateRuns():
            times = [run.finished_us or 0 for run in change.runs]
        case MoveCursors():
            times = [move.cursor_us for move in change.moves]
        case PutSchedules():
            times = [max(schedule.since_us, schedule.created_us) for schedule in change.schedules]
        case InsertAttempts():
            times = [attempt.finished_us for attempt in change.attempts]
        case DropRuns():
            times = []
    return max(times, default=0)


def ended_us(run: Run) -> int:
    """When a DONE row was finished: by its handler, or by the decision that it would not be executed."""
    return run.decided_us if run.finished_us is None else run.finished_us


def cannot_hold(changes: tuple[Change, ...]) -> tuple[Identity, ...]:
    """Rows that no database takes: text that is not Unicode (a lone surrogate), a time beyond 64 bits."""
    bad: list[Identity] = []
    for change in changes:
        if isinstance(change, _WITH_RUNS):
            bad += [run.row for run in change.runs if not (_is_text(run.error) and _is_text(run.result))]
            bad += [run.row for run in change.runs if not -(1 << 63) <= run.fire_us < 1 << 63]
        elif isinstance(change, InsertAttempts):
            bad += [attempt.row for attempt in change.attempts if not _is_text(attempt.error)]
    return tuple(bad)


def _is_text(value: str | None) -> bool:
    if value is None or value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
