"""After healing: AllRunsTerminal, NodeLives, HandlersIdle."""

from attrs import Factory, define, evolve

from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    ExecutionEnded,
    ExecutionStarted,
    NodeCrashed,
    NodeStarted,
    NodeStopped,
    Noted,
    RunKept,
    RunWritten,
)


@define
class Liveness(Checker):
    """Remembers when each row was inserted, and looks at the end at what is not over."""

    inserted_at: dict[tuple[str, int], int] = Factory(dict)
    unfinished: list[RunKept] = Factory(list)
    alive: dict[str, None] = Factory(dict)
    executing: dict[tuple[str, int, int], int] = Factory(dict)

    def routes(self) -> Routes:
        """Rows and lives."""
        return {
            RunWritten: self.on_run,
            RunKept: self.on_kept,
            NodeStarted: self.on_node,
            NodeCrashed: self.on_gone,
            NodeStopped: self.on_gone,
            ExecutionStarted: self.on_started,
            ExecutionEnded: self.on_ended,
        }

    def on_run(self, record: RunWritten) -> None:
        """A row, first seen."""
        self.inserted_at.setdefault((record.node, record.row), record.at_us)

    def on_kept(self, record: RunKept) -> None:
        """A row at the end (or of a restored store: then it is told again at the end)."""
        self.unfinished = [other for other in self.unfinished if other.at_us == record.at_us]
        if record.state != "done":
            self.unfinished.append(record)

    def on_node(self, record: NodeStarted) -> None:
        """A life."""
        self.alive[record.node] = None

    def on_gone(self, record: NodeCrashed | NodeStopped) -> None:
        """No life any more."""
        self.alive.pop(record.node, None)

    def on_started(self, record: ExecutionStarted) -> None:
        """At work."""
        self.executing[record.node, record.row, record.attempt] = record.at_us

    def on_ended(self, record: ExecutionEnded) -> None:
        """Done."""
        self.executing.pop((record.node, record.row, record.attempt), None)

    def finish(self, end: Noted) -> None:
        """Every due run has ended, every store has a node."""
        utc_us = self.oracle.utc_us(end.at_us)
        unfinished = [row for row in self.unfinished if row.at_us == end.at_us]
        delayed = {(row.node, row.schedule_id): None for row in unfinished if row.not_before_us > utc_us}
        for row in unfinished:
            age_us = end.at_us - self.inserted_at.get((row.node, row.row), 0)
            if age_us > self.oracle.plan.patience_us and (row.node, row.schedule_id) not in delayed:
                what = f"row {row.row} of {row.schedule_id} is {row.state} after {age_us / 1e6:.0f} s"
                self.report.add("AllRunsTerminal", evolve(end, node=row.node), what)
        for store in dict.fromkeys(node.store for node in self.oracle.plan.nodes):
            if not any(node.name in self.alive for node in self.oracle.plan.nodes if node.store == store):
                self.report.add("NodeLives", evolve(end, node=store), f"no node lives on store {store}")
