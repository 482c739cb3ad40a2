"""From due instants to rows of the ledger: what overlap makes of each, its place in the lane, and its claim where it
need not wait. Part of execution.

SCHED-2 rows and cursors are one write. FIRE-1 an instant has one run key, and one row.
"""

from typing import Final

from attrs import Factory, define

from sz_protocol.changes import CursorMove
from sz_protocol.definition import AwayPolicy, Definition
from sz_protocol.kernel.events import FiringsDecided
from sz_protocol.kernel.now import Now
from sz_protocol.machines.pools import Slot
from sz_protocol.machines.run_table import RunTable
from sz_protocol.machines.run_writer import Slice
from sz_protocol.ops import Ops
from sz_protocol.policy import OverlapVerdict, Verdict, decide_overlap, lane_width
from sz_protocol.records import Outcome, Reason, Run, RunKind, RunState, Schedule, run_key
from sz_protocol.routing import route_of
from sz_protocol.triggers import nominal_key

# Bound once, as in records.py.
_RUN: Final = OverlapVerdict.RUN
_LEFT_OUT: Final = (OverlapVerdict.SKIP, OverlapVerdict.FULL)
_CANCEL: Final = OverlapVerdict.CANCEL
_SKIP: Final = AwayPolicy.SKIP
_CATCH_UP: Final = Reason.CATCH_UP
_SCHEDULED: Final = RunKind.SCHEDULED
_PENDING: Final = RunState.PENDING
_LEASED: Final = RunState.LEASED
_DONE: Final = RunState.DONE


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
        table, recorded, lanes = self.table, self.recorded, self.table.placement.lanes
        for firing in decided.firings:
            schedule = firing.schedule
            definition, key = schedule.definition, firing.key
            idle = table.open and definition.id not in lanes
            if key and idle and definition.away is not _SKIP and key not in recorded:
                self._admit_plain(definition, key, firing.cursor_us, now, runs)
            else:
                for verdict in firing.verdicts:
                    self._admit(schedule, verdict, key, now, runs, superseded)
            moves.append(CursorMove(definition.id, schedule.rev, firing.from_us, firing.cursor_us, firing.next_due_us))
        return Slice(tuple(runs), tuple(moves), tuple(superseded), self.ops.stream, decided.monotonic)

    def undo(self, slice_: Slice, refused: tuple[str | int, ...], now: Now) -> None:
        """Nothing of a slice is durable. Rows that were refused exist already: they are left out next time."""
        rows = dict.fromkeys(refused)
        for run in reversed(slice_.runs):
            if run.row in rows:
                self.recorded[run.run_key] = None
            self.table.drop(run, now)

    def _admit_plain(self, definition: Definition, key: bytes, fire_us: int, now: Now, runs: list[Run]) -> None:
        """The hot path of `_admit`: one instant that is simply to be executed; nothing of its schedule is active."""
        table, row = self.table, self.ops.next_claim()
        slot = table.placement.take_slot(row, route_of(definition))
        run = Run(
            row,
            key,
            definition.id,
            fire_us,
            definition.handler_id,
            definition.method,
            _PENDING if slot is None else _LEASED,
            now.utc_us,
            _SCHEDULED,
            None,
            "",
            0 if slot is None else 1,
            0,
            0,
            0 if slot is None else row,
            0,
            None,
            None,
            1,
            None,
            (),
            None,
            None,
            None,
            "" if slot is None else slot[1].worker,
        )
        runs.append(run)
        table.enter(run, definition)
        if slot is None:
            table.unsettled[row] = None
            table.place(row, now)

    def _admit(
        self, schedule: Schedule, verdict: Verdict, key: bytes, now: Now, runs: list[Run], superseded: list[int]
    ) -> None:
        definition = schedule.definition
        fire_us, outcome, reason = verdict.fire_us, verdict.outcome, verdict.reason
        kind = _SCHEDULED
        if verdict.nominal:
            kind, key = RunKind.MONOTONIC, run_key(schedule.uid, verdict.nominal, RunKind.MONOTONIC)
        elif not key:
            key = run_key(schedule.uid, nominal_key(definition.trigger, fire_us))
        if key in self.recorded:
            return
        table = self.table
        placement = table.placement
        active = placement.active(definition.id)
        overlap = decide_overlap(definition.overlap, active, verdict.queued) if active else _RUN
        if outcome is None and overlap in _LEFT_OUT:
            outcome = Outcome.SKIPPED
            reason = Reason.OVERLAP if overlap is OverlapVerdict.SKIP else Reason.QUEUE_FULL
        if active:
            table.widen(definition, now)
        route = route_of(definition)
        if outcome is None and definition.away is _SKIP and not placement.routes.is_present(route):
            outcome, reason = Outcome.SKIPPED, Reason.HANDLER_AWAY
        row = self.ops.next_claim()
        slot: Slot | None = None
        if (
            outcome is None
            and table.open
            and (not active or (active < lane_width(definition.overlap) and not table.is_preceded(definition.id)))
            and (definition.misfire.rate_per_s is None or reason != _CATCH_UP)
        ):
            # What need not wait is claimed at once, and the row's own number is its first claim: one write, not two.
            slot = placement.take_slot(row, route)
        run = Run(
            row,
            key,
            definition.id,
            fire_us,
            definition.handler_id,
            definition.method,
            _DONE if outcome is not None else _PENDING if slot is None else _LEASED,
            now.utc_us,
            kind,
            outcome,
            reason,
            0 if slot is None else 1,
            0,
            0,
            0 if slot is None else row,
            verdict.not_before_us,
            None,
            None if outcome is None else now.utc_us,
            verdict.count,
            verdict.until_us,
            verdict.covers,
            None,
            None,
            None,
            "" if slot is None else slot[1].worker,
        )
        runs.append(run)
        if outcome is not None:
            return
        if overlap is _CANCEL:
            superseded.extend(placement.lanes[definition.id])
        table.enter(run, definition)
        if slot is None:
            table.unsettled[row] = None
            table.place(row, now)
