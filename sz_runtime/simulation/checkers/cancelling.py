"""What a person asked to be stopped: CancelKept."""

from attrs import Factory, define, frozen

from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    Answered,
    Asked,
    ExecutionEnded,
    ExecutionStarted,
    NodeStarted,
    RunWritten,
)

NOT_TAKEN = ("unknown_run", "conflict", "unavailable", "stopping")
"""Refusals after which nothing was asked of the run."""


@frozen
class Mark:
    """A run that this life of a node was asked to cancel; attempts up to `most` may have been on their way then."""

    incarnation: int
    most: int
    request_id: int


@define
class Cancelling(Checker):
    """Follows cancellations at the node that executes the run itself."""

    lives: dict[str, int] = Factory(dict)
    open: dict[tuple[str, str], tuple[int, int]] = Factory(dict)
    """(store, run id) -> row and attempt of a run that is not over."""
    executing: dict[tuple[str, int], int] = Factory(dict)
    marks: dict[tuple[str, int], Mark] = Factory(dict)

    def routes(self) -> Routes:
        """Requests and their answers, rows, executions."""
        return {
            NodeStarted: self.on_life,
            RunWritten: self.on_run,
            Asked: self.on_asked,
            Answered: self.on_answered,
            ExecutionStarted: self.on_started,
            ExecutionEnded: self.on_ended,
        }

    def on_life(self, record: NodeStarted) -> None:
        """Whoever was asked before is gone."""
        self.lives[record.node] = record.incarnation

    def on_run(self, record: RunWritten) -> None:
        """A row became durable."""
        if record.outcome:
            self.open.pop((record.node, record.run_key), None)
        else:
            self.open[record.node, record.run_key] = (record.row, record.attempt)

    def on_asked(self, record: Asked) -> None:
        """A person asked the node for something."""
        found = self.open.get((self.oracle.stores[record.node], record.schedule_id))
        if record.command != "Cancel" or found is None:
            return
        row, attempt = found
        # What executes at this moment is its last attempt; otherwise the claim of the next may be on its way.
        most = attempt if (record.node, row) in self.executing else attempt + 1
        self.marks.setdefault((record.node, row), Mark(self.lives[record.node], most, record.request_id))

    def on_answered(self, record: Answered) -> None:
        """Some requests come to nothing."""
        if record.answer == "Refusal" and record.detail in NOT_TAKEN:
            self.marks = {
                place: mark
                for place, mark in self.marks.items()
                if (place[0], mark.request_id) != (record.node, record.request_id)
            }

    def on_started(self, record: ExecutionStarted) -> None:
        """CancelKept: no attempt follows."""
        place = (record.node, record.row)
        self.executing[place] = record.attempt
        mark = self.marks.get(place)
        if mark is not None and mark.incarnation == record.incarnation and record.attempt > mark.most:
            what = f"row {record.row} of {record.schedule_id} was to be cancelled"
            self.report.add("CancelKept", record, f"{what}, and began attempt {record.attempt}")

    def on_ended(self, record: ExecutionEnded) -> None:
        """An execution is over."""
        self.executing.pop((record.node, record.row), None)
