"""One life of one simulated node: what the driver does in production, done without an event loop.

Take an event, let the machine handle it, perform the effects in list order, arm the next wake-up. Completions come
back through the agenda, never re-entrantly. Between any two of these the node can be struck: killed, or held up.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from attrs import Factory, define

from sz_protocol.attaching import Keep
from sz_protocol.kernel.effects import CancelRun, Publish, Read, Reply, Send, StartRuns, Stop, Write
from sz_protocol.kernel.events import RunsFinished, Woke
from sz_protocol.kernel.now import SECOND_US, Now, WakeReason, Wakeup
from sz_protocol.notices import RunsRecorded, SteppedDown
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.clock import SimClock
from sz_runtime.simulation.executor import HostedExecutor
from sz_runtime.simulation.facts import Answered, BacklogEnded, NodeRaised, Spun, WakeupStale
from sz_runtime.simulation.steps import Point
from sz_runtime.simulation.telling import told
from sz_runtime.simulation.trace import Trace

TURN_US = 20
"""What one turn of the driver takes while a backlog lasts."""
LONGEST_SLEEP_US = 30 * SECOND_US
ENDLESS_WAKES = 5_000
SPIN_WAKES = 200
SPIN_US = 1000

_BACKLOG: Final = WakeReason.BACKLOG
_WOKEN: Final = (Woke(),)

POINT_OF: dict[type[Any], Point] = {
    Write: Point.WRITE,
    Read: Point.READ,
    StartRuns: Point.START,
    CancelRun: Point.CANCEL,
    Keep: Point.KEEP,
    Send: Point.SEND,
}


Outlets = Mapping[type[Any], Callable[[Any], None]]
"""Where effects go that leave the process: to the store, over a link."""


class Living(Protocol):
    """The machine of a node, or of a worker: what they are told and order differs, how they are driven does not."""

    def handle(self, event: Any, now: Now) -> list[Any]:
        """Take one fact."""
        ...

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """When it wants to be woken."""
        ...


class Owner(Protocol):
    """Who keeps the life: its host. `armed`: what is planned for points."""

    armed: list[Any]

    def struck(self, point: Point) -> bool:
        """Whether something was planned for this point; it has been done now."""
        ...

    def raised(self) -> None:
        """A machine raised: the process is gone."""
        ...

    def ended(self) -> None:
        """The node has ordered its own stop."""
        ...


@define(eq=False)
class Life:
    """A node between its start and its end. `over`: nothing reaches it any more."""

    owner: Owner
    name: str
    agenda: Agenda
    trace: Trace
    clock: SimClock
    machine: Living
    executor: HostedExecutor
    outlets: Outlets
    over: bool = False
    frozen_until_us: int = 0
    replaced: bool = False
    """Whether it knows that another node has taken its store."""
    steps: int = 0
    inbox: deque[Any] = Factory(deque)
    held: list[Any] = Factory(list)
    """Effects that a stall keeps from being performed."""
    _armed_at_us: int | None = None
    _armed: int = 0
    _streak: int = 0
    _idle_wakes: int = 0
    _last_step_us: int = 0
    _perform_by: dict[type[Any], Callable[[Any], None]] = Factory(dict)

    def __attrs_post_init__(self) -> None:
        submit = self.executor.submit
        self._perform_by = {
            **self.outlets,
            StartRuns: submit,
            CancelRun: submit,
            Publish: self._tell,
            Reply: self._reply,
            Stop: self._stop,
        }

    # --- events in --------------------------------------------------------------------------------------------

    def take(self, events: Sequence[Any]) -> None:
        """Handle these, now or when the node stands still no more."""
        if self.over:
            return
        self.inbox.extend(events)
        self._drain()

    def _drain(self) -> None:
        inbox, agenda = self.inbox, self.agenda
        while inbox and not self.over and agenda.now_us >= self.frozen_until_us:
            self._step(inbox.popleft())

    @property
    def is_frozen(self) -> bool:
        """Whether the node stands still at this moment."""
        return self.agenda.now_us < self.frozen_until_us

    def freeze(self, until_us: int) -> None:
        """Stand still until then."""
        self.frozen_until_us = max(self.frozen_until_us, until_us)
        self.agenda.at(self.frozen_until_us, self._thaw)

    def _thaw(self) -> None:
        if self.over or self.is_frozen:
            return
        effects, self.held = self.held, []
        self._perform(effects, self.clock.now(self.agenda.now_us))
        self._drain()

    # --- one step ---------------------------------------------------------------------------------------------

    def _step(self, event: Any) -> None:
        kind = type(event)
        if kind is RunsFinished and self.owner.armed and self.owner.struck(Point.RESULT):
            if not self.over:
                self.inbox.appendleft(event)
            return
        self.steps += 1
        now_us = self.agenda.now_us
        now = self.clock.now(now_us)
        try:
            effects = self.machine.handle(event, now)
        except Exception as error:
            self._raised(kind.__name__, error)
            return
        since_us, self._last_step_us = self._last_step_us, now_us
        if effects or kind is not Woke or now_us - since_us >= SPIN_US:
            self._idle_wakes = 0
        else:
            self._watch_spin()
            if self.over:
                return
        if effects:
            self._perform(effects, now)
        else:
            self._arm(now)

    def _watch_spin(self) -> None:
        """A node that is woken again and again, at once, without anything to do, burns its machine."""
        self._idle_wakes += 1
        if self._idle_wakes > SPIN_WAKES:
            self.trace.add(Spun(self.agenda.now_us, self.name, self._idle_wakes))
            self.owner.raised()

    def _perform(self, effects: list[Any], now: Now) -> None:
        armed = self.owner.armed
        for place, effect in enumerate(effects):
            kind = type(effect)
            point = POINT_OF.get(kind)
            if point is not None and armed and self.owner.struck(point):
                self.held = effects[place:]
                return
            self._perform_by[kind](effect)
            if self.over:
                return
        self._arm(now)

    def _tell(self, effect: Publish) -> None:
        notice = effect.notice
        if isinstance(notice, RunsRecorded):
            return  # The store's own records say more.
        self.replaced = self.replaced or isinstance(notice, SteppedDown)
        self.trace.add(told(self.agenda.now_us, self.name, notice))

    def _reply(self, effect: Reply) -> None:
        reply = effect.answer
        detail = str(getattr(reply, "code", getattr(reply, "detail", "")))
        self.trace.add(Answered(self.agenda.now_us, self.name, effect.request_id, type(reply).__name__, detail))

    def _stop(self, effect: Stop) -> None:
        self.owner.ended()

    def _raised(self, event: str, error: Exception) -> None:
        self.trace.add(NodeRaised(self.agenda.now_us, self.name, event, f"{type(error).__name__}: {error}"))
        self.owner.raised()

    # --- wake-ups ---------------------------------------------------------------------------------------------

    def _arm(self, now: Now) -> None:
        """Plan the next `Woke`, as the driver does: soon for a backlog, at the latest after 30 s."""
        try:
            wakeup = self.machine.next_wakeup(now)
        except Exception as error:
            self._raised("next_wakeup", error)
            return
        if wakeup is not None and wakeup.reason is _BACKLOG:
            self._arm_at(self.agenda.now_us + TURN_US, self._wake_for_backlog)
            return
        if self._streak:
            self.trace.add(BacklogEnded(self.agenda.now_us, self.name, self._streak, False))
            self._streak = 0
        at_us = now.mono_us + LONGEST_SLEEP_US
        if wakeup is not None and wakeup.at_us < at_us:
            at_us = wakeup.at_us
            if at_us <= now.mono_us:
                self.trace.add(WakeupStale(self.agenda.now_us, self.name, wakeup.reason, now.mono_us - at_us))
                self._arm_at(self.agenda.now_us + TURN_US, self._wake)
                return
        self._arm_at(self.clock.true_at(at_us), self._wake)

    def _arm_at(self, at_us: int, action: Callable[[int], None]) -> None:
        if self._armed_at_us == at_us:
            return
        self._armed_at_us = at_us
        self._armed += 1
        self.agenda.at(at_us, action, self._armed)

    def rearm(self) -> None:
        """The clocks have changed under the node: its timer fires at another true time."""
        if not self.over and not self.is_frozen and not self.held:
            self._armed_at_us = None
            self._arm(self.clock.now(self.agenda.now_us))

    def _wake(self, number: int) -> None:
        if number == self._armed and not self.over:
            self._armed_at_us = None
            # Whoever stands still is woken behind what has come meanwhile, as by the driver: when he goes on, he arms.
            if not self.is_frozen:
                self.take(_WOKEN)

    def _wake_for_backlog(self, number: int) -> None:
        if number != self._armed or self.over:
            return
        self._streak += 1
        if self._streak > ENDLESS_WAKES:
            self.trace.add(BacklogEnded(self.agenda.now_us, self.name, self._streak, True))
            self.owner.raised()
            return
        self._wake(number)
