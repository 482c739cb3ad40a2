"""Components in virtual time, as well and as badly behaved as a test wants, under a Lifecycle; checks its rules."""

import heapq
from collections.abc import Callable, Sequence
from random import Random

from attrs import define, frozen

from sz_protocol.components import (
    CancelComponent,
    ComponentEnded,
    ComponentSpec,
    ComponentStarted,
    ComponentState,
    Event,
    Settled,
    StartAsked,
    StartComponent,
    StopAsked,
    StopComponent,
)
from sz_protocol.kernel.effects import Publish, Reply
from sz_protocol.kernel.events import Woke
from sz_protocol.kernel.now import SECOND_US, Now
from sz_protocol.machines.lifecycle import ALIVE, Lifecycle
from sz_protocol.notices import Notice

NEVER = None


@frozen
class Behaviour:
    """How one life goes, in microseconds. `start_us` None: it hangs; `fails`: its start ends in an error. `dies_us`:
    how long after its start it dies (None: it does not). `stop_us`, `leave_us`: how long it takes to obey (None: it
    never does)."""

    start_us: int | None = 1000
    fails: bool = False
    dies_us: int | None = NEVER
    stop_us: int | None = 1000
    leave_us: int | None = 1000
    permanent: bool = False


@define
class Life:
    """One life under way."""

    behaviour: Behaviour
    running: bool = False


class Rig:
    """Performs the machine's orders on simulated components; every order is checked as it comes."""

    def __init__(
        self,
        specs: Sequence[ComponentSpec],
        behave: Callable[[str, int], Behaviour] = lambda name, life: Behaviour(),
        seed: int = 0,
    ) -> None:
        self.machine = Lifecycle(specs, Random(seed))
        self.specs = {spec.name: spec for spec in specs}
        self.behave = behave
        self.now_us = 1_000_000
        self.agenda: list[tuple[int, int, Event]] = []
        self.lives: dict[tuple[str, int], Life] = {}
        self.log: list[str] = []
        self.notices: list[Notice] = []
        self.answers: dict[int, str] = {}
        self._seq = 0
        self._requests = 0

    # --- what a test does --------------------------------------------------------------------------------------

    def start(self, *names: str) -> int:
        """Ask for a start; the answer will be in `answers`."""
        self._requests += 1
        self.take(StartAsked(self._requests, names))
        return self._requests

    def stop(self, *names: str) -> int:
        """Ask for a stop."""
        self._requests += 1
        self.take(StopAsked(self._requests, names))
        return self._requests

    def kill(self, name: str, *, permanent: bool = False) -> None:
        """The component's present life dies, if it runs."""
        for (owner, life), found in list(self.lives.items()):
            if owner == name and found.running:
                self._end(name, life, "killed", permanent)

    def pass_time(self, us: int) -> None:
        """Let everything happen that is due within this time."""
        until_us = self.now_us + us
        while True:
            wakeup = self.machine.next_wakeup(self.now)
            at_us = min(self.agenda[0][0] if self.agenda else until_us + 1, wakeup.at_us if wakeup else until_us + 1)
            if at_us > until_us:
                break
            self.now_us = max(self.now_us, at_us)
            if self.agenda and self.agenda[0][0] <= self.now_us:
                self._happen(heapq.heappop(self.agenda)[2])
            else:
                self.take(Woke())
        self.now_us = until_us

    def states(self) -> dict[str, str]:
        """The state of each component."""
        return {name: str(self.machine.standings[name].state) for name in self.specs}

    def alive(self) -> list[str]:
        """The components that have a life, as the world sees it."""
        return sorted({name for name, _ in self.lives})

    @property
    def now(self) -> Now:
        """The present."""
        return Now(self.now_us, 0)

    # --- what the shell does -----------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Hand in a fact, perform what follows."""
        for effect in self.machine.handle(event, self.now):
            match effect:
                case StartComponent(name=name, life=life):
                    self._on_start(name, life)
                case StopComponent(name=name, life=life):
                    self._on_stop(name, life)
                case CancelComponent(name=name, life=life):
                    self._on_cancel(name, life)
                case Reply(request_id=request_id, answer=Settled(failure=failure)):
                    assert request_id not in self.answers, "LIFE-7: answered twice"
                    self.answers[request_id] = failure
                case Publish(notice=notice):
                    self.notices.append(notice)
        wakeup = self.machine.next_wakeup(self.now)
        assert wakeup is None or wakeup.at_us > self.now_us, "a wake-up lies in the future"

    def _on_start(self, name: str, life: int) -> None:
        self.log.append(f"start {name}")
        assert not any(owner == name for owner, _ in self.lives), "LIFE-5: two lives at once"
        for need in self.specs[name].needs:
            assert any(owner == need and found.running for (owner, _), found in self.lives.items()), "LIFE-1"
        assert not any(owner in self._users(name) for owner, _ in self.lives), "LIFE-1: built on the life before"
        behaviour = self.behave(name, life)
        self.lives[name, life] = Life(behaviour)
        event = ComponentStarted(name, life)
        if behaviour.fails:
            self._later(behaviour.start_us, ComponentEnded(name, life, "cannot start", behaviour.permanent))
        else:
            self._later(behaviour.start_us, event)
            if behaviour.start_us is not None and behaviour.dies_us is not None:
                end = ComponentEnded(name, life, "died", behaviour.permanent)
                self._later(behaviour.start_us + behaviour.dies_us, end)

    def _on_stop(self, name: str, life: int) -> None:
        self.log.append(f"stop {name}")
        assert (name, life) in self.lives, "LIFE-5: an order to a life that is over"
        assert not any(owner in self._users(name) for owner, _ in self.lives), "LIFE-2: somebody still stands on it"
        self._later(self.lives[name, life].behaviour.stop_us, ComponentEnded(name, life))

    def _on_cancel(self, name: str, life: int) -> None:
        self.log.append(f"cancel {name}")
        assert (name, life) in self.lives, "LIFE-5: an order to a life that is over"
        self._later(self.lives[name, life].behaviour.leave_us, ComponentEnded(name, life))

    def _users(self, name: str) -> list[str]:
        stuck = {n for n in self.specs if self.machine.standings[n].state is ComponentState.STUCK}
        return [n for n, spec in self.specs.items() if name in spec.needs and n not in stuck]

    def _later(self, after_us: int | None, event: Event) -> None:
        if after_us is not None:
            self._seq += 1
            heapq.heappush(self.agenda, (self.now_us + after_us, self._seq, event))

    def _happen(self, event: Event) -> None:
        match event:
            case ComponentStarted(name=name, life=life):
                if (name, life) in self.lives:
                    self.lives[name, life].running = True
                    self.take(event)
            case ComponentEnded(name=name, life=life, error=error, permanent=permanent):
                if (name, life) in self.lives:
                    self._end(name, life, error, permanent)

    def _end(self, name: str, life: int, error: str, permanent: bool) -> None:
        del self.lives[name, life]
        self.take(ComponentEnded(name, life, error, permanent))


def bound_us(specs: Sequence[ComponentSpec]) -> int:
    """LIFE-3: the longest that any one request may take: every component starts, and every one of them is undone."""
    return sum(2 * s.start_timeout_us + s.stop_timeout_us + 4 * s.cancel_timeout_us for s in specs) + SECOND_US


def nothing_half_alive(rig: Rig) -> bool:
    """Nothing has a life but what is stuck."""
    stuck = {n for n, standing in rig.machine.standings.items() if standing.state is ComponentState.STUCK}
    return all(n in stuck for n in rig.alive()) and not any(s.state in ALIVE for s in rig.machine.standings.values())
