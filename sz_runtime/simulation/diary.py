"""What handlers write down, outside of any node: when they began, how they ended. It survives every crash."""

from attrs import define

from sz_protocol.kernel.effects import StartRun
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.facts import CancelAsked, ExecutionEnded, ExecutionStarted
from sz_runtime.simulation.trace import Trace


@define
class Diary:
    """The records of one life's executor."""

    node: str
    incarnation: int
    agenda: Agenda
    trace: Trace

    def began(self, start: StartRun, pool: str, utc_us: int) -> None:
        """A handler was called."""
        now_us, fire_us = self.agenda.now_us, start.fire_us
        where = (now_us, self.node, self.incarnation, start.row, start.attempt, start.schedule_id)
        self.trace.add(ExecutionStarted(*where, start.kind, fire_us, start.fence, utc_us, pool))

    def ended(self, start: StartRun, pool: str, how: str, reason: str = "") -> None:
        """It came back, or vanished (`killed`)."""
        where = (self.agenda.now_us, self.node, self.incarnation, start.row, start.attempt, start.schedule_id)
        self.trace.add(ExecutionEnded(*where, how, reason, pool))

    def asked(self, row: int, attempt: int, reason: str) -> None:
        """It was asked to stop."""
        self.trace.add(CancelAsked(self.agenda.now_us, self.node, row, attempt, reason))
