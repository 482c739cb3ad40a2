"""The life of a node's components: which may start, which must stop, what becomes of one that fails, hangs or dies.

Rules: specs/components.md.
LIFE-1 a component starts only while everything that it needs is running.
LIFE-2 it stops only after everything that stands on it has stopped.
LIFE-3 every start and every stop ends in bounded time, whatever the component does.
LIFE-4 a start that fails leaves nothing running that it brought.
LIFE-5 a component has at most one life; one that would not leave bars the next; no order goes to a life that is over.
LIFE-6 a component that dies starts again after a back-off with full jitter, unless it is given up.
LIFE-7 every request is answered exactly once.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from attrs import Factory, define, evolve

from sz_protocol.components import (
    CancelComponent,
    ComponentEnded,
    ComponentSpec,
    ComponentStarted,
    ComponentState,
    Effect,
    Event,
    Settled,
    StartAsked,
    StartComponent,
    StopAsked,
    StopComponent,
    in_order,
)
from sz_protocol.definition import Retry
from sz_protocol.durations import format_duration
from sz_protocol.kernel.effects import Publish, Reply
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import Woke
from sz_protocol.kernel.moves import Moves, move
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.kernel.record import record
from sz_protocol.notices import ComponentChanged, Ignored, NodeFailed
from sz_protocol.policy import backoff_us


@record
class Want:
    """Verdict: it shall run, once it may."""


@record
class Begin:
    """Verdict: what it waited for is there."""


@record
class Quit:
    """Verdict: it shall not run, or not now."""


@record
class Overdue:
    """Verdict: the time that its start, stop or leave may take is over."""


@record
class Rest:
    """Verdict: it ended, and nobody wants it."""


@record
class TryAgain:
    """Verdict: it failed or died, and shall start again after a back-off."""


@record
class GiveUp:
    """Verdict: it failed or died, and stays so until somebody asks for it."""


S = ComponentState
ALIVE = (S.STARTING, S.RUNNING, S.STOPPING, S.CANCELLING)
TROUBLED = (S.BACKING_OFF, S.FAILED, S.STUCK)

MOVES: Moves[ComponentState] = {
    (S.STOPPED, Want): S.WAITING,
    (S.FAILED, Want): S.WAITING,
    (S.FAILED, Quit): S.STOPPED,
    (S.WAITING, Begin): S.STARTING,
    (S.WAITING, Quit): S.STOPPED,
    (S.STARTING, ComponentStarted): S.RUNNING,
    (S.STARTING, Quit): S.CANCELLING,
    (S.STARTING, Overdue): S.CANCELLING,
    (S.STARTING, TryAgain): S.BACKING_OFF,
    (S.STARTING, GiveUp): S.FAILED,
    (S.RUNNING, Quit): S.STOPPING,
    (S.RUNNING, Rest): S.STOPPED,
    (S.RUNNING, TryAgain): S.BACKING_OFF,
    (S.RUNNING, GiveUp): S.FAILED,
    (S.BACKING_OFF, Want): S.WAITING,
    (S.BACKING_OFF, Quit): S.STOPPED,
    (S.STOPPING, Overdue): S.CANCELLING,
    (S.STOPPING, Want): S.WAITING,
    (S.STOPPING, Rest): S.STOPPED,
    (S.CANCELLING, Overdue): S.STUCK,
    (S.CANCELLING, Want): S.WAITING,
    (S.CANCELLING, Rest): S.STOPPED,
    (S.CANCELLING, TryAgain): S.BACKING_OFF,
    (S.CANCELLING, GiveUp): S.FAILED,
    (S.STUCK, Want): S.WAITING,
    (S.STUCK, Rest): S.STOPPED,
    (S.STUCK, TryAgain): S.BACKING_OFF,
    (S.STUCK, GiveUp): S.FAILED,
}


@record
class Standing:
    """Where one component stands. `life` counts its lives, `deaths` those in a row that ended badly; `blame` says why
    its present life is being cancelled where that is its own fault. `since_us` and `deadline_us` are monotonic."""

    spec: ComponentSpec
    state: ComponentState = S.STOPPED
    wanted: bool = False
    life: int = 0
    deaths: int = 0
    since_us: int = 0
    deadline_us: int | None = None
    reason: str = ""
    blame: str = ""


@define
class Request:
    """A start or a stop that is not answered yet. `fresh` are the components that only this start wanted; they are
    undone once it has a `failure`."""

    starts: bool
    names: tuple[str, ...]
    fresh: dict[str, None] = Factory(dict)
    failure: str = ""


@define(init=False)
class Lifecycle:
    """Decides; whoever runs the components performs its orders and hands the facts back. `rng` draws the jitter."""

    rng: Random
    standings: dict[str, Standing]
    requests: dict[int, Request]
    _users: dict[str, tuple[str, ...]]

    def __init__(self, specs: Iterable[ComponentSpec], rng: Random) -> None:
        """Raises LocalProtocolError when the specs contradict each other."""
        self.rng = rng
        self.standings = {spec.name: Standing(spec) for spec in in_order(list(specs))}
        self.requests = {}
        self._users = {name: tuple(u for u, s in self.standings.items() if name in s.spec.needs) for name in self.order}

    @property
    def order(self) -> tuple[str, ...]:
        """Every component after those that it stands on."""
        return tuple(self.standings)

    @property
    def at_rest(self) -> bool:
        """Whether nothing runs and nothing is meant to."""
        return not any(standing.wanted or standing.state in ALIVE for standing in self.standings.values())

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact."""
        effects: list[Effect] = []
        self._expire(now, effects)
        match event:
            case StartAsked() | StopAsked() if event.request_id in self.requests:
                raise LocalProtocolError(f"request {event.request_id} is already open")
            case StartAsked():
                self._on_start_asked(event, now, effects)
            case StopAsked():
                self._on_stop_asked(event, now, effects)
            case ComponentStarted():
                self._on_started(event, now, effects)
            case ComponentEnded():
                self._on_ended(event, now, effects)
            case Woke():
                pass
        self._undo_failed()
        self._stop_some(now, effects)
        self._start_some(now, effects)
        self._answer(effects)
        return effects

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The first time-out, or the first end of a back-off."""
        deadlines = [(s.deadline_us, s.state) for s in self.standings.values() if s.deadline_us is not None]
        if not deadlines:
            return None
        at_us, state = min(deadlines)
        reason = WakeReason.RETRY if state is S.BACKING_OFF else WakeReason.DEADLINE
        return Wakeup(max(at_us, now.mono_us + 1), reason)

    # --- facts ------------------------------------------------------------------------------------------------

    def _on_start_asked(self, asked: StartAsked, now: Now, effects: list[Effect]) -> None:
        names = self._closure(asked.names, lambda name: self.standings[name].spec.needs)
        fresh = {name: None for name in names if not self.standings[name].wanted}
        self.requests[asked.request_id] = Request(starts=True, names=names, fresh=fresh)
        for name in names:
            # What a component is to blame for belongs to its past: it is asked for anew.
            standing = self._change(name, wanted=True, deaths=0, blame="")
            if standing.state in (S.STOPPED, S.FAILED, S.BACKING_OFF):
                self._turn(name, Want(), now, effects)

    def _on_stop_asked(self, asked: StopAsked, now: Now, effects: list[Effect]) -> None:
        names = self._closure(asked.names, lambda name: self._users[name])
        self.requests[asked.request_id] = Request(starts=False, names=names)
        for name in names:
            standing = self._change(name, wanted=False)
            if standing.state is S.FAILED:
                self._turn(name, Quit(), now, effects)

    def _on_started(self, event: ComponentStarted, now: Now, effects: list[Effect]) -> None:
        standing = self.standings.get(event.name)
        if standing is None or standing.life != event.life or standing.state is not S.STARTING:
            effects.append(_ignored(event, standing))
            return
        self._turn(event.name, event, now, effects)

    def _on_ended(self, event: ComponentEnded, now: Now, effects: list[Effect]) -> None:
        standing = self.standings.get(event.name)
        alive = standing is not None and (standing.state in ALIVE or standing.state is S.STUCK)
        if standing is None or standing.life != event.life or not alive:
            effects.append(_ignored(event, standing))
            return
        # LIFE-5. The end came at the very time-out, and the expiry before it has just ordered to cancel this life.
        effects[:] = [effect for effect in effects if effect != CancelComponent(event.name, event.life)]
        if not standing.wanted:
            self._turn(event.name, Rest(), now, effects, reason=event.error)
        elif standing.state in (S.STARTING, S.RUNNING) or standing.blame:
            reason = standing.blame or event.error or "it ended by itself"
            self._on_failure(standing, reason, event.permanent, now, effects)
        else:
            # We stopped it because of what it needs; it waits until that is back.
            self._turn(event.name, Want(), now, effects)

    def _on_failure(self, standing: Standing, reason: str, permanent: bool, now: Now, effects: list[Effect]) -> None:
        """LIFE-6: again after a back-off, or never."""
        spec = standing.spec
        stable = standing.state is S.RUNNING and now.mono_us - standing.since_us >= spec.restart.stable_us
        deaths = 1 if stable else standing.deaths + 1
        self._change(spec.name, deaths=deaths)
        half_started = spec.required and self._is_fresh(spec.name)
        exhausted = spec.restart.limit is not None and deaths > spec.restart.limit
        if permanent or exhausted or half_started:
            self._change(spec.name, wanted=False)
            self._turn(spec.name, GiveUp(), now, effects, reason=reason)
            if spec.required and not half_started:
                self._fail_node(spec.name, reason, effects)
            return
        wait_us = backoff_us(Retry(base_us=spec.restart.base_us, max_us=spec.restart.max_us), deaths, self.rng)
        self._turn(spec.name, TryAgain(), now, effects, reason=reason, deadline_us=now.mono_us + wait_us)

    # --- deadlines --------------------------------------------------------------------------------------------

    def _expire(self, now: Now, effects: list[Effect]) -> None:
        """LIFE-3. Expire first: a start that comes too late must not win."""
        for name in self.order:
            standing = self.standings[name]
            if standing.deadline_us is None or now.mono_us < standing.deadline_us:
                continue
            spec = standing.spec
            match standing.state:
                case S.BACKING_OFF:
                    self._turn(name, Want(), now, effects)
                case S.STARTING:
                    blame = f"it did not start within {format_duration(spec.start_timeout_us)}"
                    self._change(name, blame=blame)
                    self._cancel(name, Overdue(), blame, now, effects)
                case S.STOPPING:
                    reason = f"it did not stop within {format_duration(spec.stop_timeout_us)}"
                    self._cancel(name, Overdue(), reason, now, effects)
                case _:
                    self._fire_stuck(standing, now, effects)

    def _fire_stuck(self, standing: Standing, now: Now, effects: list[Effect]) -> None:
        spec = standing.spec
        left = f"it did not leave within {format_duration(spec.cancel_timeout_us)} of being cancelled"
        reason = f"{standing.reason}, and {left}" if standing.reason else left
        self._turn(spec.name, Overdue(), now, effects, reason=reason)
        if spec.required and standing.wanted and not self._is_fresh(spec.name):
            self._fail_node(spec.name, reason, effects)

    # --- what follows -----------------------------------------------------------------------------------------

    def _undo_failed(self) -> None:
        """LIFE-4: a start that cannot succeed any more wants nothing any more."""
        for request in self.requests.values():
            if request.starts and not request.failure:
                request.failure = next(filter(None, map(self._hindrance, request.names)), "")
                if request.failure:
                    for name in request.fresh:
                        self._change(name, wanted=False)

    def _hindrance(self, name: str) -> str:
        """Why a start that includes this component has failed; empty while it has not."""
        standing = self.standings[name]
        if not standing.spec.required:
            return ""
        if standing.state in TROUBLED:
            return f"{name}: {standing.reason}"
        return "" if standing.wanted else f"{name}: it was stopped before it ran"

    def _stop_some(self, now: Now, effects: list[Effect]) -> None:
        """LIFE-2: whatever must go and carries nobody any more."""
        for name in reversed(self.order):
            standing = self.standings[name]
            if standing.wanted and all(self.standings[need].state is S.RUNNING for need in standing.spec.needs):
                continue
            match standing.state:
                case S.WAITING | S.BACKING_OFF if not standing.wanted:
                    self._turn(name, Quit(), now, effects)
                case S.STARTING:
                    self._cancel(name, Quit(), "", now, effects)
                case S.RUNNING if not self._carries(name):
                    deadline_us = now.mono_us + standing.spec.stop_timeout_us
                    self._turn(name, Quit(), now, effects, deadline_us=deadline_us)
                    effects.append(StopComponent(name, standing.life))
                case _:
                    pass

    def _carries(self, name: str) -> bool:
        """Whether somebody alive stands on it who has to be gone first."""
        return any(
            user.state in ALIVE and (name in user.spec.needs or (name in user.spec.after and not user.wanted))
            for user in self.standings.values()
        )

    def _start_some(self, now: Now, effects: list[Effect]) -> None:
        """LIFE-1: whatever waits for nothing any more."""
        for name in self.order:
            standing = self.standings[name]
            if standing.state is S.WAITING and self._may_begin(standing):
                deadline_us = now.mono_us + standing.spec.start_timeout_us
                self._change(name, life=standing.life + 1, blame="")
                self._turn(name, Begin(), now, effects, deadline_us=deadline_us)
                effects.append(StartComponent(name, standing.life + 1))

    def _may_begin(self, standing: Standing) -> bool:
        spec, standings = standing.spec, self.standings
        return (
            all(standings[need].state is S.RUNNING for need in spec.needs)
            and not any(self._is_coming(other) for other in spec.after if other in standings)
            # Those who stood on the life before this one have to be gone.
            and not any(standings[user].state in ALIVE for user in self._users[spec.name])
        )

    def _is_coming(self, name: str) -> bool:
        """Whether it is on its way to run, with nothing but its own start before it."""
        standing = self.standings[name]
        if standing.state is S.WAITING and standing.wanted:
            return all(self.standings[n].state is S.RUNNING or self._is_coming(n) for n in standing.spec.needs)
        return standing.state is S.STARTING

    def _answer(self, effects: list[Effect]) -> None:
        """LIFE-7."""
        for request_id, request in list(self.requests.items()):
            if request.starts and not request.failure:
                done = all(map(self._has_arrived, request.names))
            else:
                gone = request.fresh if request.starts else request.names
                done = all(self._has_gone(name) for name in gone)
            if done:
                del self.requests[request_id]
                failure = request.failure if request.starts else "; ".join(filter(None, map(self._rest, request.names)))
                effects.append(Reply(request_id, Settled(failure)))

    def _has_arrived(self, name: str) -> bool:
        """Running; or an optional one that is not coming now (a required one would have been a hindrance)."""
        state = self.standings[name].state
        return state is S.RUNNING or (state not in ALIVE and not self._is_coming(name))

    def _has_gone(self, name: str) -> bool:
        """Gone, or wanted again by somebody else."""
        standing = self.standings[name]
        return standing.wanted or standing.state not in ALIVE

    def _rest(self, name: str) -> str:
        """What a stop did not achieve."""
        standing = self.standings[name]
        if standing.wanted:
            return f"{name}: it was started again"
        return f"{name}: {standing.reason}" if standing.state is S.STUCK else ""

    # --- the table --------------------------------------------------------------------------------------------

    def _turn(
        self,
        name: str,
        verdict: object,
        now: Now,
        effects: list[Effect],
        reason: str = "",
        deadline_us: int | None = None,
    ) -> None:
        """One move of the table, published."""
        state = move(MOVES, self.standings[name].state, verdict)
        self._change(name, state=state, since_us=now.mono_us, deadline_us=deadline_us, reason=reason)
        effects.append(Publish(ComponentChanged(name, state, reason)))

    def _cancel(self, name: str, verdict: Quit | Overdue, reason: str, now: Now, effects: list[Effect]) -> None:
        standing = self.standings[name]
        deadline_us = now.mono_us + standing.spec.cancel_timeout_us
        self._turn(name, verdict, now, effects, reason=reason, deadline_us=deadline_us)
        effects.append(CancelComponent(name, standing.life))

    def _change(self, name: str, **changes: Any) -> Standing:
        self.standings[name] = standing = evolve(self.standings[name], **changes)
        return standing

    def _is_fresh(self, name: str) -> bool:
        """Whether an open start brought it, so that its failure is that start's failure."""
        return any(name in request.fresh for request in self.requests.values() if not request.failure)

    def _fail_node(self, name: str, reason: str, effects: list[Effect]) -> None:
        """The node cannot go on: everything is stopped."""
        effects.append(Publish(NodeFailed(name, reason)))
        for other in self.order:
            self._change(other, wanted=False)

    def _closure(self, names: Iterable[str], onward: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
        """These components and all that `onward` leads to, in order."""
        found: dict[str, None] = {}
        work = list(names)
        while work:
            name = work.pop()
            if name not in self.standings:
                raise LocalProtocolError(f"there is no component {name!r}")
            if name not in found:
                found[name] = None
                work += onward(name)
        return tuple(name for name in self.order if name in found)


def _ignored(event: ComponentStarted | ComponentEnded, standing: Standing | None) -> Publish:
    if standing is None:
        why = "there is no such component"
    elif standing.life != event.life:
        why = f"life {event.life} is over, this is life {standing.life}"
    else:
        why = f"it is {standing.state}"
    return Publish(Ignored(type(event).__name__, f"{event.name}: {why}"))
