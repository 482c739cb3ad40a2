"""ComponentManager: the running node of a configuration."""

import time
from collections.abc import Callable, Sequence
from random import Random, SystemRandom
from types import TracebackType
from typing import Any, Self

import anyio
import structlog
from attrs import frozen

from sz_protocol.components import ComponentState, StartAsked, StopAsked
from sz_protocol.notices import ComponentChanged, NodeFailed, Notice
from sz_runtime.components.choosing import choose
from sz_runtime.components.component import ComponentContext, ComponentFailed, StoppedEarly
from sz_runtime.components.reloading import reload
from sz_runtime.components.spawning import backend_here
from sz_runtime.components.supervisor import Supervisor
from sz_runtime.config.loaded import Config
from sz_runtime.handlers import DEFAULT_REGISTRY, LocalHandlerRegistry
from sz_runtime.machine_loop import Observer
from sz_runtime.ports import Clock

_log = structlog.get_logger("schedulezero.components")


@frozen
class ComponentStanding:
    """Where one component stands. `since_us` is UTC; `lives` counts how often it was started."""

    name: str
    state: ComponentState
    reason: str
    since_us: int
    lives: int


class ComponentManager:
    """Runs the components that a configuration enables, for the time of an `async with` block:

        async with ComponentManager(load_config("config.yaml")) as manager:
            await manager.wait()

    Works in any program of anyio, asyncio or trio; nothing outlives the block. `backend` is where handlers run
    (default: the loop that is here). `registry` holds the handlers (default: where @register_local puts them).
    `loader` reads the configuration again when somebody asks for a reload (default: the same file). `observers` are
    told every notice of the node, in its event loop. Raises ConfigError for components that cannot run here.
    """

    def __init__(
        self,
        config: Config,
        *,
        backend: str | None = None,
        observers: Sequence[Observer] = (),
        registry: LocalHandlerRegistry | None = None,
        loader: Callable[[], Config] | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        choice = choose(config)
        self.config = config
        self.backend = backend
        self.registry = DEFAULT_REGISTRY if registry is None else registry
        self.loader = loader
        self.clock = clock
        self.rng = rng or Random(SystemRandom().getrandbits(64))
        self.started_us = 0
        self.failed = ""
        """Why the node went down by itself; empty while it has not."""
        self.grace_s: float | None = None
        """How long running handlers may still take, once `stop` said so."""
        self._stopping = False
        self.warnings = [*map(str, choice.warnings)]
        """What is odd, for a person: components that only a preset wants and that cannot run, and what they said."""
        self._observers = tuple(observers)
        self._failing_observers: list[Observer] = []
        self._since_us: dict[str, int] = {}
        self._reloading = anyio.Lock()
        if not choice.components:
            self.warnings.append("no component is enabled: there is nothing to run")
        self._names = tuple(choice.components)
        rng = Random(self.rng.getrandbits(64))
        self._supervisor = Supervisor(choice.components, choice.specs, self._context, self.observe, rng)

    # --- start and stop ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_all()

    async def start_all(self) -> None:
        """Start every enabled component, in the order of their dependencies. Raises ComponentFailed when one that the
        node needs does not start (StoppedEarly: because of `stop`); what had been started is stopped by then."""
        for warning in self.warnings:
            _log.warning("component_not_started", problem=warning)
        await self._start(self._names)

    async def stop_all(self) -> None:
        """Stop every component, in reverse order. Returns in bounded time, also while this task is being cancelled;
        what would not leave is named in `stuck`."""
        with anyio.CancelScope(shield=True):
            failure = await self._supervisor.ask(StopAsked, self._names)
        if failure:
            _log.error("components_stuck", problem=failure)

    async def start(self, name: str) -> Any:
        """Start one component and what it needs; what it offers, or None when it is not enabled or (an optional one)
        could not be started yet. Raises ComponentFailed."""
        if name not in self._names:
            return None
        await self._start((name,))
        return self.components.get(name)

    async def stop_component(self, name: str) -> None:
        """Stop one component and those that need it."""
        if name in self._names:
            await self._supervisor.ask(StopAsked, (name,))

    async def start_scheduler(self) -> Any:
        """Start the scheduler; None when it is not enabled."""
        return await self.start("scheduler")

    async def start_handlers(self) -> Any:
        """Import the handler modules; None when local handlers are not enabled."""
        return await self.start("handlers")

    async def start_event_broker(self) -> Any:
        """Start the event broker; None when it is not enabled."""
        return await self.start("event_broker")

    async def start_tornado(self) -> Any:
        """Start the web server; None when it is not enabled, or only by a preset and not part of this version."""
        return await self.start("tornado")

    async def start_registration_server(self) -> Any:
        """Start the server where remote handlers register; None as for `start_tornado`."""
        return await self.start("registration_server")

    async def start_zmq_client(self) -> Any:
        """Start the link to a central server; None as for `start_tornado`."""
        return await self.start("zmq_client")

    async def start_control(self) -> Any:
        """Start the local control link; None when it is switched off."""
        return await self.start("control")

    def stop(self, grace_s: float | None = None) -> None:
        """Ask everything to stop, without waiting: `wait` returns when it has. With `grace_s`, running handlers get no
        more than that, instead of what the configuration says; a second call shortens a stop that is under way."""
        self.grace_s = grace_s
        self._stopping = True
        for name, value in self.components.items():
            # Whose stop has not begun reads the grace when it does.
            if grace_s is not None and hasattr(value, "hurry") and self._supervisor.is_stopping(name):
                value.hurry(grace_s)
        self._supervisor.order(StopAsked, self._names)

    async def wait(self) -> None:
        """Return when the node is down: because of `stop`, or by itself; then `failed` says why."""
        while not self._supervisor.machine.at_rest:
            await self._supervisor.changed.wait()

    async def _start(self, names: tuple[str, ...]) -> None:
        if self._supervisor.machine.at_rest:
            self.backend = self.backend or backend_here()
            self.started_us, self.failed, self.grace_s, self._stopping = _utc_us(), "", None, False
        try:
            failure = await self._supervisor.ask(StartAsked, names)
        except BaseException:
            # Whoever gives up waiting for a start wants no half of it.
            with anyio.CancelScope(shield=True):
                await self._supervisor.ask(StopAsked, names)
            raise
        if failure and self._stopping:
            raise StoppedEarly(failure)
        if failure:
            failed = ComponentFailed(failure)
            raise failed from self._supervisor.errors.get(failed.component)

    # --- what there is -----------------------------------------------------------------------------------------

    @property
    def components(self) -> dict[str, Any]:
        """What each running component offers, by name."""
        standings = self._supervisor.machine.standings
        return {n: v for n, v in self._supervisor.values.items() if standings[n].state in _AT_WORK}

    @property
    def scheduler(self) -> Any:
        """The running scheduler (`ask`, `query`, `driver`), or None."""
        return self.components.get("scheduler")

    @property
    def event_broker(self) -> Any:
        """The running event broker, or None."""
        return self.components.get("event_broker")

    @property
    def states(self) -> tuple[ComponentStanding, ...]:
        """Where every component stands, in the order of their start."""
        return tuple(
            ComponentStanding(name, s.state, s.reason, self._since_us.get(name, 0), s.life)
            for name, s in self._supervisor.machine.standings.items()
        )

    @property
    def stuck(self) -> tuple[str, ...]:
        """Components that would not leave: only the end of the process frees what they hold."""
        standings = self._supervisor.machine.standings
        return tuple(name for name, s in standings.items() if s.state is ComponentState.STUCK)

    # --- changes -----------------------------------------------------------------------------------------------

    async def reload(self, config: Config | None = None) -> list[str]:
        """Apply a changed configuration (None: read it again). Returns a line for each thing that changed or
        that needs a restart to change. Raises ConfigError or ReloadRefused; then the schedules stand as they did."""
        async with self._reloading:
            return await reload(self, config)

    def warn(self, warning: str) -> None:
        """A component says what is odd but does not keep it from working."""
        warning = self.config.hider()(warning)  # it may quote what a module of the user raised
        if warning not in self.warnings:
            self.warnings.append(warning)
        _log.warning("component_warning", problem=warning)

    def observe(self, notice: Notice) -> None:
        """Pass a notice to the observers. One that raises is reported, once, and harms nobody else."""
        match notice:
            case ComponentChanged(name=name):
                self._since_us[name] = _utc_us()
            case NodeFailed(component=component, reason=reason):
                self.failed = f"{component}: {reason}"
            case _:
                pass
        broker = self.event_broker
        for observer in (*self._observers, *([broker.publish] if broker is not None else [])):
            try:
                observer(notice)
            except Exception as error:
                if observer not in self._failing_observers:
                    self._failing_observers.append(observer)
                    _log.error("observer_failed", observer=repr(observer), error=repr(error))

    def _context(self, name: str, on_started: Callable[[Any], None]) -> ComponentContext:
        return ComponentContext(name, self, on_started)


_AT_WORK = (ComponentState.RUNNING, ComponentState.STOPPING)


def _utc_us() -> int:
    return time.time_ns() // 1000
