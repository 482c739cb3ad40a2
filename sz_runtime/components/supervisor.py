"""Carries out what the lifecycle machine decides: lives become tasks, ends become facts."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

import anyio
import structlog
from attrs import define

from sz_protocol.components import (
    CancelComponent,
    ComponentEnded,
    ComponentSpec,
    ComponentStarted,
    Effect,
    Event,
    Settled,
    StartAsked,
    StartComponent,
    StopAsked,
    StopComponent,
)
from sz_protocol.kernel.effects import Publish, Reply
from sz_protocol.kernel.events import Woke
from sz_protocol.kernel.now import Now
from sz_protocol.machines.lifecycle import Lifecycle
from sz_protocol.notices import Notice
from sz_runtime.components.component import CannotRun, Component, ComponentContext
from sz_runtime.components.spawning import spawn

MAX_SLEEP_S = 30.0
_log = structlog.get_logger("schedulezero.components")
MakeContext = Callable[[str, Callable[[Any], None]], ComponentContext]


@define(eq=False)
class Life:
    """One life under way."""

    context: ComponentContext
    scope: anyio.CancelScope


class Supervisor:
    """Owns a Lifecycle. Everything here happens in one event loop; nothing here waits but the lives themselves."""

    def __init__(
        self,
        components: Mapping[str, Component],
        specs: list[ComponentSpec],
        make_context: MakeContext,
        observe: Callable[[Notice], None],
        rng: Random,
    ) -> None:
        self.machine = Lifecycle(specs, rng)
        self.values: dict[str, Any] = {}
        self.errors: dict[str, Exception] = {}
        """What the last life of a component ended with."""
        self.changed = anyio.Event()
        """Set, and replaced, after every fact."""
        self._components = components
        self._make_context = make_context
        self._observe = observe
        self._lives: dict[tuple[str, int], Life] = {}
        self._awaited: dict[int, Settled | None] = {}
        self._queue: deque[Event] = deque()
        self._busy = False
        self._alarm: anyio.Event | None = None
        self._requests = 0

    async def ask(self, kind: type[StartAsked] | type[StopAsked], names: tuple[str, ...]) -> str:
        """Start or stop components, and wait until that has settled; says what failed, if anything did."""
        self._requests += 1
        request_id = self._requests
        self._awaited[request_id] = None
        try:
            self._take(kind(request_id, names))
            while (answer := self._awaited[request_id]) is None:
                await self.changed.wait()
        finally:
            del self._awaited[request_id]
        return answer.failure

    def order(self, kind: type[StartAsked] | type[StopAsked], names: tuple[str, ...]) -> None:
        """The same without waiting for the answer."""
        self._requests += 1
        self._take(kind(self._requests, names))

    def is_stopping(self, name: str) -> bool:
        """Whether its present life has been asked to end."""
        return any(life.context.stopping.is_set() for (other, _), life in self._lives.items() if other == name)

    def _take(self, event: Event) -> None:
        """Hand in a fact. What follows from it may bring more facts at once: those wait their turn."""
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                for effect in self.machine.handle(self._queue.popleft(), _now()):
                    self._perform(effect)
        finally:
            self._busy = False
        changed, self.changed = self.changed, anyio.Event()
        changed.set()
        self._set_alarm()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StartComponent(name=name, life=number):
                self._begin(name, number)
            case StopComponent(name=name, life=number):
                self._lives[name, number].context.stopping.set()
            case CancelComponent(name=name, life=number):
                self._lives[name, number].scope.cancel()
            case Reply(request_id=request_id, answer=Settled() as answer):
                if request_id in self._awaited:
                    self._awaited[request_id] = answer
            case Publish(notice=notice):
                self._observe(notice)
            case _:
                raise AssertionError(f"the lifecycle machine has no order {effect}")

    def _begin(self, name: str, number: int) -> None:
        context = self._make_context(name, partial(self._on_started, name, number))
        life = self._lives[name, number] = Life(context, anyio.CancelScope())
        spawn(partial(self._live, name, number, life), f"component {name}")

    def _on_started(self, name: str, number: int, value: Any) -> None:
        if (name, number) in self._lives:
            self.values[name] = value
            self._take(ComponentStarted(name, number))

    async def _live(self, name: str, number: int, life: Life) -> None:
        """One life from its first step to the fact that it is over."""
        ended = None  # stays so when the event loop itself ends: nothing can be carried out any more
        self.errors.pop(name, None)
        try:
            with life.scope:
                await self._components[name].serve(life.context)
            ended = ComponentEnded(name, number)
        except Exception as error:
            self.errors[name] = plain_error(error)
            _log.debug("component_error", component=name, exc_info=error)
            words = life.context.config.hider()(in_words(error))  # a driver quotes the URL that it was given
            ended = ComponentEnded(name, number, words, isinstance(self.errors[name], CannotRun))
        finally:
            self.values.pop(name, None)
            del self._lives[name, number]
            if ended is not None:
                self._take(ended)

    def _set_alarm(self) -> None:
        """See to it that the machine is woken when it asked to be."""
        if self._alarm is not None:
            self._alarm.set()
        elif self.machine.next_wakeup(_now()) is not None:
            self._alarm = anyio.Event()
            spawn(self._keep_time, "component time-outs")

    async def _keep_time(self) -> None:
        """Lives only as long as something has a deadline."""
        try:
            while (wakeup := self.machine.next_wakeup(now := _now())) is not None:
                self._alarm = anyio.Event()
                with anyio.move_on_after(min((wakeup.at_us - now.mono_us) / 1e6, MAX_SLEEP_S)):
                    await self._alarm.wait()
                    continue
                self._take(Woke())
        finally:
            self._alarm = None


def plain_error(error: Exception) -> Exception:
    """The one error inside a group that holds only one, else the group."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def in_words(error: Exception) -> str:
    """An error for a person: errors of ours speak for themselves, others say what they are."""
    error = plain_error(error)
    if isinstance(error, ExceptionGroup):
        return "; ".join(in_words(inner) for inner in error.exceptions)
    text = str(error).strip()
    ours = type(error).__module__.startswith(("sz_protocol", "sz_runtime", "sz_shells"))
    return text if ours and text else f"{type(error).__name__}: {text}" if text else type(error).__name__


def _now() -> Now:
    return Now(time.monotonic_ns() // 1000, time.time_ns() // 1000)
