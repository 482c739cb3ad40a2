"""Runs without faults: CalmOneAttempt, CalmOnTime, CalmNothingMissed."""

from attrs import Factory, define

from sz_protocol.kernel.now import SECOND_US
from sz_runtime.simulation.checkers.base import Checker, spread_of
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import ExecutionStarted, RunWritten, SchedulePut

LATEST_US = SECOND_US // 10
UNUSUAL = ("misfire", "window", "limit", "coalesced", "catch_up", "crashed", "timeout", "paused")


@define
class Calm(Checker):
    """Reads nothing unless the plan is calm."""

    spreads: dict[str, int] = Factory(dict)
    unhindered: dict[int, int] = Factory(dict)
    """Row -> due time, of rows that were claimed at once: nothing made them wait."""

    def routes(self) -> Routes:
        """Rows and executions of calm runs."""
        if not self.oracle.plan.calm:
            return {}
        return {SchedulePut: self.on_put, RunWritten: self.on_run, ExecutionStarted: self.on_started}

    def on_put(self, record: SchedulePut) -> None:
        """The spread that is in force."""
        self.spreads[record.schedule_id] = spread_of(self.oracle.definitions[record.digest])

    def on_run(self, record: RunWritten) -> None:
        """Nothing is missed or made up for."""
        if record.reason in UNUSUAL or (record.outcome in ("missed", "lost") and record.reason != "past_at_creation"):
            what = f"{record.schedule_id}@{record.fire_us}: {record.outcome} ({record.reason})"
            self.report.add("CalmNothingMissed", record, what)
        if record.inserted and record.state == "leased" and record.kind == "scheduled":
            self.unhindered[record.row] = record.fire_us + self.spreads.get(record.schedule_id, 0)

    def on_started(self, record: ExecutionStarted) -> None:
        """One attempt, on time."""
        if record.attempt > 1:
            self.report.add("CalmOneAttempt", record, f"row {record.row} needed attempt {record.attempt}")
        due_us = self.unhindered.pop(record.row, None)
        if due_us is not None and record.utc_us - due_us > LATEST_US:
            late_us = record.utc_us - due_us
            self.report.add("CalmOnTime", record, f"{record.schedule_id}@{record.fire_us} began {late_us} us late")
