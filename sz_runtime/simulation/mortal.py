"""A process on a simulated machine: it begins, is struck, stands still, dies, and begins again with the next
incarnation. What it is (a node, a worker) is said by those who build on this."""

from collections.abc import Sequence
from typing import Any

from attrs import Factory, define, evolve

from sz_protocol.kernel.events import StopRequested
from sz_protocol.kernel.now import SECOND_US
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.clock import SimClock
from sz_runtime.simulation.facts import Stalled
from sz_runtime.simulation.life import Life
from sz_runtime.simulation.steps import Crash, Point, Stall, StallKind
from sz_runtime.simulation.trace import Trace

START_AGAIN_US = SECOND_US
"""How soon a start that failed is tried again, and a process that died of itself is started again."""
MOST_RAISED = 5


@define(eq=False, kw_only=True)
class Mortal:
    """One machine, its clocks, and the process that lives on it, if it lives."""

    name: str
    agenda: Agenda
    trace: Trace
    clock: SimClock
    life: Life | None = None
    incarnation: int = 0
    armed: list[Crash | Stall] = Factory(list)
    """Crashes and stalls that wait for the process to reach their point."""
    without: tuple[str, ...] = ()
    """Schedules whose methods are not here now."""
    restart_us: int | None = None
    """How long after its own stop the process is started again."""
    tame: bool = False
    """Handlers do nothing wicked any more."""
    past_steps: int = 0
    _raised: int = 0
    _start_planned: bool = False

    # --- what those who build on this say -----------------------------------------------------------------------

    def _begin(self, by_force: bool) -> None:
        """Begin a life."""
        raise NotImplementedError

    def _vanish(self, life: Life, point: str) -> None:
        """The process is gone, without a word; say so, and let go of what it held."""
        raise NotImplementedError

    def _leave(self, life: Life) -> None:
        """The process ended in order; say so, and let go of what it held."""
        raise NotImplementedError

    def set_methods(self, without: tuple[str, ...]) -> None:
        """The methods of these schedules are gone; all others are here."""
        raise NotImplementedError

    # --- life -------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """How many events have been handled, in all lives."""
        return self.past_steps + (self.life.steps if self.life is not None else 0)

    def start(self, by_force: bool = False) -> None:
        """Begin a life, unless one is under way."""
        self._start_planned = False
        if self.life is None:
            self._begin(by_force)

    def plan_start(self, after_us: int) -> None:
        """Start later; one plan at a time."""
        if not self._start_planned:
            self._start_planned = True
            self.agenda.after(after_us, self.start)

    def give(self, events: Sequence[Any]) -> None:
        """Hand events to the process, if it lives."""
        if self.life is not None:
            self.life.take(events)

    def let_go(self) -> None:
        """Nothing holds anything up any more, and handlers that hang come back."""
        self.tame = True
        if self.life is not None:
            self.life.executor.let_go()

    def drain(self, grace_us: int, restart_us: int | None) -> None:
        """Ask the process to stop in order."""
        self.restart_us = restart_us
        self.give((StopRequested(grace_us),))

    # --- death ------------------------------------------------------------------------------------------------

    def crash(self, restart_us: int | None, point: str = "any", power: bool = False) -> None:
        """The process vanishes; so does everything that it had not made durable."""
        if self.life is not None:
            self._vanish(self._bury(self.life), point)
        if power:
            self.clock.reboot(self.agenda.now_us)
        if restart_us is not None:
            self.plan_start(restart_us)

    def _bury(self, life: Life) -> Life:
        life.over = True
        self.life = None
        self.past_steps += life.steps
        life.executor.close(0)
        return life

    def die(self, why: str) -> None:
        """The process kills itself; whoever looks after it starts it again."""
        self.crash(START_AGAIN_US, why)

    def raised(self) -> None:
        """A machine raised: in production the process ends and is started again, and given up when that is no use."""
        self._raised += 1
        self.crash(START_AGAIN_US if self._raised <= MOST_RAISED else None, "raised")

    def ended(self) -> None:
        """The process has drained, or may not go on: it ends in order."""
        if self.life is None:
            return
        self._leave(self._bury(self.life))
        if self.restart_us is not None:
            self.plan_start(self.restart_us)
            self.restart_us = None

    # --- trouble ----------------------------------------------------------------------------------------------

    def strike(self, trouble: Crash | Stall) -> None:
        """Do it now."""
        match trouble:
            case Crash(restart_us=restart_us, point=point, power=power):
                self.crash(restart_us, point or "any", power)
            case Stall(kind=kind, us=us):
                self.stall(kind, us)

    def stall(self, kind: StallKind, us: int) -> None:
        """Stand still for a while."""
        if self.life is None:
            return
        until_us = self.agenda.now_us + us
        self.trace.add(Stalled(self.agenda.now_us, self.name, kind, until_us))
        self.life.freeze(until_us)
        if kind is not StallKind.STALL:
            self.life.executor.freeze(until_us)

    def struck(self, point: Point) -> bool:
        """Whether trouble was planned for this point; it happens now."""
        for place, trouble in enumerate(self.armed):
            if trouble.point is point:
                del self.armed[place]
                self.strike(trouble)
                return True
        return False

    def arm(self, trouble: Crash | Stall) -> None:
        """Plan trouble for the next time that the process reaches its point; one of a kind at a time."""
        self.armed = [other for other in self.armed if other.point is not trouble.point]
        self.armed.append(evolve(trouble))
