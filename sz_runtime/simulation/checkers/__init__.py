"""Checkers: one file for each family of invariants. They read the trace alone, never a machine's fields."""

from attrs import Factory, define

from sz_runtime.simulation.checkers.allowing import Allowing
from sz_runtime.simulation.checkers.attached import Attached
from sz_runtime.simulation.checkers.base import Checker, Oracle, Report, Violation
from sz_runtime.simulation.checkers.calm import Calm
from sz_runtime.simulation.checkers.cancelling import Cancelling
from sz_runtime.simulation.checkers.carrying import Carrying
from sz_runtime.simulation.checkers.dispatching import Dispatching
from sz_runtime.simulation.checkers.fencing import Fencing
from sz_runtime.simulation.checkers.firing import Firing
from sz_runtime.simulation.checkers.health import Health
from sz_runtime.simulation.checkers.lanes import Lanes
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.checkers.liveness import Liveness
from sz_runtime.simulation.checkers.policies import Policies
from sz_runtime.simulation.checkers.rejoining import Rejoining
from sz_runtime.simulation.checkers.running import Running
from sz_runtime.simulation.checkers.sometimes import Sometimes
from sz_runtime.simulation.checkers.timing import Timing
from sz_runtime.simulation.facts import Phase
from sz_runtime.simulation.plan import Plan
from sz_runtime.simulation.trace import Trace

__all__ = ["FAMILIES", "Checker", "Violation", "Watch"]

FAMILIES: tuple[type[Checker], ...] = (
    Firing,
    Timing,
    Policies,
    Running,
    Cancelling,
    Lanes,
    Fencing,
    Health,
    Dispatching,
    Carrying,
    Attached,
    Allowing,
    Liveness,
    Rejoining,
    Calm,
    Sometimes,
)


@define
class Watch:
    """The families, all at once, listening to one trace."""

    plan: Plan
    trace: Trace
    report: Report = Factory(Report)
    families: tuple[type[Checker], ...] = FAMILIES
    checkers: list[Checker] = Factory(list)

    def __attrs_post_init__(self) -> None:
        oracle = Oracle(self.plan)
        if self.plan.workers and self.families:
            # Before all others: they ask it, and nobody else does.
            self._listen(oracle.fleet.routes())
        for family in self.families:
            checker = family(self.report, oracle)
            self.checkers.append(checker)
            self._listen(checker.routes())

    def _listen(self, routes: Routes) -> None:
        for kind, listener in routes.items():
            self.trace.listen(kind, listener)

    def finish(self) -> None:
        """The trace has ended: what was promised for the end is due."""
        for checker in self.checkers:
            checker.finish(Phase(self.trace.last_us, "", "end"))

    @property
    def violations(self) -> list[Violation]:
        """What was broken, in the order of seeing it."""
        return self.report.violations

    def stats(self) -> dict[str, int]:
        """What was seen, by name."""
        return dict(sorted(self.report.counts.items()))
