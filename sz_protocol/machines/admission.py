"""From due instants to rows of the ledger: what overlap makes of each, its place in the lane, and its claim where it
need not wait. Part of execution.

SCHED-2 rows and cursors are one write. FIRE-1 an instant has one run key, and one row.
"""

from attrs import Factory, define

from sz_protocol.changes import CursorMove
from sz_protocol.definition import AwayPolicy
from sz_protocol.kernel.events import FiringsDecided
from sz_protocol.kernel.now import Now
from sz_protocol.machines.run_table import RunTable
from sz_protocol.machines.run_writer import Slice
from sz_protocol.ops import Ops
from sz_protocol.policy import OverlapVerdict, Verdict, decide_overlap, lane_width
from sz_protocol.records import Outcome, Reason, Run, RunKind, RunState, Schedule, run_key
from sz_protocol.routing import route_of
from sz_protocol.triggers import nominal_key


@define
class Admission:
    """Turns decided slices into rows; enters those to be executed into `table`."""

    ops: Ops
    table: RunTable
    recorded: dict[bytes, None] = Factory(dict)
    """Run keys of which the store said that it has them already."""

    def admit(self, decided: FiringsDecided, now: Now) -> Slice:
        """The rows and cursor moves of a slice; what need not wait is claimed in it."""
        runs: list[Run] = []
        superseded: list[int] = []
        moves: list[CursorMove] = []
        for firing in decided.firings:
            schedule = firing.schedule
            for verdict in firing.verdicts:
                self._admit(schedule, verdict, now, runs, superseded)
            moves.append(CursorMove(schedule.id, schedule.rev, firing.from_us, firing.cursor_us, firing.next_due_us))
        return Slice(tuple(runs), tuple(moves), tuple(superseded), self.ops.stream, decided.monotonic)

    def undo(self, slice_: Slice, refused: tuple[str | int, ...], now: Now) -> None:
        """Nothing of a slice is durable. Rows that were refused exist already: they are left out next time."""
        rows = dict.fromkeys(refused)
        for run in reversed(slice_.runs):
            if run.row in rows:
                self.recorded[run.run_key] = None
            self.table.drop(run, now)

    def _admit(self, schedule: Schedule, verdict: Verdict, now: Now, runs: list[Run], superseded: list[int]) -> None:
        definition = schedule.definition
        if verdict.nominal:
            kind, key = RunKind.MONOTONIC, run_key(schedule.uid, verdict.nominal, RunKind.MONOTONIC)
        else:
            kind, key = RunKind.SCHEDULED, run_key(schedule.uid, nominal_key(definition.trigger, verdict.fire_us))
        if key in self.recorded:
            return
        active = self.table.placement.active(definition.id)
        overlap = decide_overlap(definition.overlap, active, verdict.queued) if active else OverlapVerdict.RUN
        outcome, reason = verdict.outcome, verdict.reason
        if outcome is None and overlap in (OverlapVerdict.SKIP, OverlapVerdict.FULL):
            outcome = Outcome.SKIPPED
            reason = Reason.OVERLAP if overlap is OverlapVerdict.SKIP else Reason.QUEUE_FULL
        route = route_of(definition)
        if outcome is None and definition.away is AwayPolicy.SKIP and not self.table.placement.routes.is_present(route):
            outcome, reason = Outcome.SKIPPED, Reason.HANDLER_AWAY
        row = self.ops.next_claim()
        # What need not wait is claimed at once, and the row's own number is its first claim: one write, not two.
        claimed = (
            outcome is None
            and self.table.open
            and active < lane_width(definition.overlap)
            and (definition.misfire.rate_per_s is None or reason != Reason.CATCH_UP)
            and self.table.placement.take_slot(row, route)
        )
        run = Run(
            row,
            key,
            definition.id,
            verdict.fire_us,
            definition.handler_id,
            definition.method,
            RunState.DONE if outcome is not None else RunState.LEASED if claimed else RunState.PENDING,
            now.utc_us,
            kind,
            outcome,
            reason,
            attempt=1 if claimed else 0,
            fence=row if claimed else 0,
            not_before_us=verdict.not_before_us,
            finished_us=None if outcome is None else now.utc_us,
            count=verdict.count,
            until_us=verdict.until_us,
            covers=verdict.covers,
            worker=self.table.placement.worker_of(row) if claimed else "",
        )
        runs.append(run)
        if outcome is not None:
            return
        if overlap is OverlapVerdict.CANCEL:
            superseded.extend(self.table.placement.lanes[definition.id])
        self.table.enter(run, definition)
        if not claimed:
            self.table.unsettled[row] = None
            self.table.place(row, now)
