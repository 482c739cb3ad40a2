"""Every run that is not over, with its definition, its place and its deadlines. Part of execution; no effects.

The one place where the dicts about runs are kept in step with each other.
"""

from heapq import heappop, heappush

from attrs import Factory, define, frozen

from sz_protocol.definition import Definition
from sz_protocol.kernel.effects import CancelReason, StartRun
from sz_protocol.kernel.now import Now
from sz_protocol.machines.placement import Placement, Slot
from sz_protocol.policy import lane_width
from sz_protocol.records import Run, RunState
from sz_protocol.triggers import Date


@frozen
class Stranded:
    """An execution that would not stop: its outcome is recorded, its slot and its place in the lane stay taken, for
    it is still running."""

    run: Run
    slot: Slot
    width: int


@define
class RunTable:
    """`runs` holds every run that is not DONE; `executing` those that were handed to the executor, with the reason
    if they were asked to stop; `deadlines` is a heap of (when, row, attempt, why to stop it): no reason means that
    it was asked to stop and its grace is over, attempt 0 means whichever attempt."""

    runs: dict[int, Run] = Factory(dict)
    definitions: dict[int, Definition] = Factory(dict)
    executing: dict[int, CancelReason | None] = Factory(dict)
    stranded: dict[tuple[int, int], Stranded] = Factory(dict)
    doomed: dict[int, CancelReason] = Factory(dict)
    """Runs to be stopped whose claim is on its way to the store: what becomes of it decides which attempt ends."""
    placement: Placement = Factory(Placement)
    deadlines: list[tuple[int, int, int, CancelReason | None]] = Factory(list)

    def enter(self, run: Run, definition: Definition) -> None:
        """A run begins its life here, at the end of its schedule's lane."""
        self.runs[run.row] = run
        self.definitions[run.row] = definition
        self.placement.enter(run)

    def place(self, row: int, now: Now) -> None:
        """Move a PENDING run forward: to where it has to wait, or among those that are ready to be claimed."""
        run = self.runs.get(row)
        if run is None or run.state is not RunState.PENDING:
            return
        if self.placement.place(run, lane_width(self.definitions[row].overlap), now):
            self.placement.ready.append(row)

    def keep(self, run: Run) -> None:
        """Its execution ended, the run did not: it gives its slot back and stays in its lane."""
        self.executing.pop(run.row, None)
        self.placement.free(run.row)
        self.runs[run.row] = run

    def drop(self, run: Run, now: Now) -> None:
        """Forget a run that is over, or never was; who waited behind it moves up."""
        self.executing.pop(run.row, None)
        self.doomed.pop(run.row, None)
        self.placement.free(run.row)
        if self.runs.pop(run.row, None) is not None:
            self._leave(run, lane_width(self.definitions.pop(run.row).overlap), now)

    def strand(self, run: Run) -> None:
        """Its outcome is decided although its execution goes on."""
        width = lane_width(self.definitions.pop(run.row).overlap)
        self.stranded[run.row, run.attempt] = Stranded(run, self.placement.strand(run.row), width)
        del self.executing[run.row], self.runs[run.row]

    def ended_at_last(self, row: int, attempt: int, now: Now) -> bool:
        """A stranded execution ended after all: its slot and its lane are free."""
        stranded = self.stranded.pop((row, attempt), None)
        if stranded is None:
            return False
        self.placement.free_slot(stranded.slot)
        self._leave(stranded.run, stranded.width, now)
        return True

    def _leave(self, run: Run, width: int, now: Now) -> None:
        following = self.placement.leave(run, width)
        if following is not None:
            self.place(following, now)

    def bound(self, run: Run, now: Now) -> None:
        """Set the deadline that all attempts of a run share, counted from when it was decided."""
        deadline_us = self.definitions[run.row].deadline_us
        if deadline_us is not None:
            at_us = now.mono_us + run.decided_us + deadline_us - now.utc_us
            heappush(self.deadlines, (at_us, run.row, 0, CancelReason.DEADLINE))

    def begin(self, run: Run, now: Now) -> StartRun:
        """The order that starts this attempt; its time-out runs from here."""
        definition = self.definitions[run.row]
        deadline_us = None
        if definition.timeout_us is not None:
            deadline_us = now.mono_us + definition.timeout_us
            heappush(self.deadlines, (deadline_us, run.row, run.attempt, CancelReason.TIMEOUT))
        self.executing[run.row] = None
        return StartRun(
            run.row,
            run.run_id,
            run.schedule_id,
            run.kind,
            run.handler_id,
            run.method,
            definition.params if run.params is None else run.params,
            run.fire_us,
            run.attempt,
            run.fence,
            deadline_us,
            definition.labels,
        )

    def ask_to_stop(self, run: Run, reason: CancelReason, grace_us: int, now: Now) -> bool:
        """Note why an execution has to stop, and when it will be given up; False when it was asked before."""
        if self.executing[run.row] is not None:
            return False
        self.executing[run.row] = reason
        heappush(self.deadlines, (now.mono_us + grace_us, run.row, run.attempt, None))
        return True

    def pop_deadlines(self, now: Now) -> list[tuple[Run, CancelReason | None]]:
        """The runs whose deadlines have passed, each with the reason to stop it (None: its grace is over)."""
        passed: list[tuple[Run, CancelReason | None]] = []
        while self.deadlines and self.deadlines[0][0] <= now.mono_us:
            _, row, attempt, reason = heappop(self.deadlines)
            run = self.runs.get(row)
            if run is not None and attempt in (0, run.attempt):
                passed.append((run, reason))
        return passed


def bare_definition(run: Run) -> Definition:
    """The definition of a run that has no schedule: all policies at their defaults."""
    name = run.schedule_id or f"{run.handler_id}.{run.method}"
    return Definition(name, run.handler_id, run.method, Date(run.fire_us), params=run.params or {})
