"""Handlers in a process of their own, which execute what a server sends.

from sz_runtime.worker import Worker

worker = Worker("tcp://server:5556", "edge-1", modules=["my_app.handlers"], outbox="outbox.db")
worker.run_forever()
"""

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random, SystemRandom
from types import TracebackType
from typing import Any, Self

import anyio
import structlog
from attrs import evolve

from sz_protocol.attaching import AttachmentSettings, Identity, offer_of
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.attachment import Attachment
from sz_protocol.machines.registration import MOST_METHODS, MOST_SLOTS, MOST_TAGS
from sz_protocol.routing import ANY_HANDLER
from sz_protocol.wire_values import Problems, read_name
from sz_runtime.attached import AttachedDriver, running_attachment
from sz_runtime.components.spawning import backend_here
from sz_runtime.executor import HandlerExecutor
from sz_runtime.handler_modules import import_handler_modules
from sz_runtime.handlers import DEFAULT_REGISTRY, LocalHandlerRegistry
from sz_runtime.machine_loop import Observer
from sz_runtime.observing import LogObserver
from sz_runtime.plugins import UnknownPlugin, load_plugin
from sz_runtime.ports import Clock, Link, LinkError, Outbox, StoreError
from sz_runtime.signals import obey_signals

_log = structlog.get_logger("schedulezero.worker")
THREADS = 40
SLOTS = 16


class WorkerError(Exception):
    """A worker cannot work like this; the message is for a person."""


class Worker:
    """One handler, by its id, of one server. It connects, and connects again, until it is stopped.

    Methods are those of `registry`, or of the `modules`, or where neither is given of everything that `@register_local`
    has registered in this process. What is registered under `handler_id` itself is offered, and nothing else; where
    nothing is, everything is. At most `concurrency` runs execute at once, plain functions in at most `threads` threads.

    `outbox` is the path of a file that keeps results which the server has not acknowledged yet, so that they survive
    this process; without it they are in memory only, and a run whose result is lost is executed again, or counts as
    lost where it must not be. `server_key` and `secret_key` (the texts of keys, or paths of their files) encrypt the
    link. Raises WorkerError.
    """

    def __init__(
        self,
        server: str,
        handler_id: str,
        *,
        modules: Iterable[str] = (),
        registry: LocalHandlerRegistry | None = None,
        tags: Mapping[str, str] | None = None,
        concurrency: int = SLOTS,
        threads: int = THREADS,
        outbox: str | os.PathLike[str] | Outbox | None = None,
        server_key: str | os.PathLike[str] | None = None,
        secret_key: str | os.PathLike[str] | None = None,
        reconnect_s: float = 30.0,
        grace_s: float = 10.0,
        observers: Sequence[Observer] | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        self.handler_id = handler_id
        self.grace_s = grace_s
        self._registry = _registry(registry, tuple(modules))
        for name, number in (("concurrency", concurrency), ("threads", threads)):
            if type(number) is not int or not 1 <= number <= MOST_SLOTS:
                raise WorkerError(f"{name} has to be from 1 to {MOST_SLOTS}, not {number!r}")
        self._identity = _identity(handler_id, concurrency, dict(tags or {}))
        self._threads = min(threads, concurrency)
        self._link = partial(_link, server, server_key, secret_key, reconnect_s)
        self._link()  # what is wrong with it is said now
        self._outbox = outbox
        self._observers = (LogObserver(),) if observers is None else tuple(observers)
        self._clock = clock
        self._rng = rng or SystemRandom()
        self._settings = AttachmentSettings(pause_max_us=max(1, int(reconnect_s * SECOND_US)))
        self._driver: AttachedDriver | None = None
        self._entered: AbstractAsyncContextManager[None] | None = None
        self._stop_asked_s: float | None = None
        self._check_offer()

    @property
    def attached(self) -> bool:
        """Whether a server has registered it."""
        return self._driver is not None and self._driver.attachment.session is not None

    async def run(self) -> None:
        """Work until `stop`, on asyncio or trio. Raises WorkerError, StoreError, LinkError."""
        with _bare():
            async with self._running() as driver:
                await driver.ended.wait()

    def run_forever(self, backend: str = "asyncio") -> None:
        """Work, in the main thread of a program that does nothing else, until SIGTERM or Ctrl-C, which drain: nothing
        new is taken, running handlers may end, results are reported. A second signal hurries. Raises as `run`."""
        with _bare():
            anyio.run(self._run_with_signals, backend=backend)

    def stop(self, grace_s: float | None = None) -> None:
        """Drain: running handlers may end within the grace. `run` returns afterwards. From any thread; again, with a
        shorter grace, to hurry."""
        self._stop_asked_s = self.grace_s if grace_s is None else grace_s
        if self._driver is not None:
            self._driver.stop(int(self._stop_asked_s * SECOND_US))

    async def __aenter__(self) -> Self:
        """Work in the background for the time of the block."""
        self._entered = self._background()
        await self._entered.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain."""
        assert self._entered is not None, "it was entered"
        entered, self._entered = self._entered, None
        await entered.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        async with self._running():
            yield

    async def _run_with_signals(self) -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(obey_signals, self.stop, partial(self.stop, 0))
            await self.run()
            _log.info("stopped")
            tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[AttachedDriver]:
        if self._driver is not None:
            raise WorkerError(f"worker {self.handler_id} runs already")
        clock = self._clock or load_plugin("clocks", "boot")()
        executor = HandlerExecutor(
            self._registry, clock, backend_here(), slots=self._identity.slots, threads=self._threads
        )
        outbox = self._open_outbox()
        identity = self._identity_of_this_life(outbox)
        attachment = Attachment(identity, Random(self._rng.getrandbits(64)), self._settings)
        try:
            async with running_attachment(
                attachment, self._link(), outbox, executor, clock, observers=self._observers, grace_s=self.grace_s
            ) as driver:
                self._driver = driver
                if self._stop_asked_s is not None:
                    self.stop(self._stop_asked_s)
                yield driver
        finally:
            self._driver = None
            self._stop_asked_s = None

    def _open_outbox(self) -> Outbox:
        if self._outbox is None:
            return _plugin("outboxes", "memory")()  # type: ignore[no-any-return]
        if isinstance(self._outbox, str | os.PathLike):
            return _plugin("outboxes", "sqlite")(Path(self._outbox), self.handler_id)  # type: ignore[no-any-return]
        return self._outbox

    def _identity_of_this_life(self, outbox: Outbox) -> Identity:
        return evolve(self._identity, incarnation=self._rng.getrandbits(63) or 1, durable=outbox.durable)

    def _check_offer(self) -> None:
        offer, twice = offer_of(self._registry.methods(), self.handler_id)
        if not offer:
            raise WorkerError(
                f"worker {self.handler_id} has no handler to offer: decorate a function with @register_local in one of "
                "its modules"
            )
        if len(offer) > MOST_METHODS:
            raise WorkerError(f"worker {self.handler_id} has {len(offer)} methods, {MOST_METHODS} are the limit")
        for method in twice:
            entries = [entry for entry in self._registry.entries() if entry.method == method]
            where = " and ".join(f"{entry.handler_id}.{method} at {entry.where}" for entry in entries)
            raise WorkerError(
                f"worker {self.handler_id} would offer {method!r} twice: {where}; register one under another name"
            )


@contextmanager
def _bare() -> Iterator[None]:
    """What cannot be had is raised as itself, out of the groups that tasks wrap it in."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, WorkerError | StoreError | LinkError):
            raise error from None
        raise


def _registry(registry: LocalHandlerRegistry | None, modules: tuple[str, ...]) -> LocalHandlerRegistry:
    if registry is None and not modules:
        return DEFAULT_REGISTRY
    registry = LocalHandlerRegistry() if registry is None else registry
    problems = import_handler_modules(modules, registry)
    if problems:
        raise WorkerError("\n".join(map(str, problems)))
    return registry


def _identity(handler_id: str, concurrency: int, tags: dict[str, str]) -> Identity:
    problems: Problems = []
    read_name(handler_id, ("handler id",), problems)
    for key, value in tags.items():
        read_name(key, ("tag",), problems)
        read_name(value, (f"tag {key}",), problems)
    if problems:
        path, message = problems[0]
        raise WorkerError(f"{path[0]} {message}")
    if handler_id == ANY_HANDLER:
        raise WorkerError(f"no handler is called {ANY_HANDLER}: it stands for any handler")
    if len(tags) > MOST_TAGS:
        raise WorkerError(f"worker {handler_id} has {len(tags)} tags, {MOST_TAGS} are the limit")
    return Identity(handler_id, 0, concurrency, tags, software())


def _link(
    server: str,
    server_key: str | os.PathLike[str] | None,
    secret_key: str | os.PathLike[str] | None,
    reconnect_s: float,
) -> Link:
    scheme, found, _ = server.partition("://")
    if not found:
        raise WorkerError(f"{server!r} is no address of a server; one is written as tcp://HOST:5556")
    try:
        made: Link = _plugin("links", scheme)(
            server, server_key=server_key, secret_key=secret_key, reconnect_s=reconnect_s
        )
    except LinkError as error:
        raise WorkerError(str(error)) from error
    return made


def software() -> str:
    """What a handler of this version calls itself."""
    return f"schedulezero {version('schedulezero')}"


def _plugin(group: str, name: str) -> Any:
    try:
        return load_plugin(group, name)
    except UnknownPlugin as unknown:
        raise WorkerError(str(unknown)) from unknown
