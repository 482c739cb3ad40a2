"""A server in the foreground. Nothing here needs the parser of commands: `plain_run` reads the usual command line
itself, so that a server which runs for months does not carry 2.3 MB of it along.
"""

import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from sz_shells.cli.common import FAILED, OK, USAGE, fail, find_config, innermost, load_or_exit, read_settings, visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict

    from sz_runtime.components import ComponentManager
    from sz_runtime.config import Config

Backend = Literal["asyncio", "trio"]
BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")


@frozen
class Serving:
    """What `run` was asked for."""

    config: str | None = None
    backend: Backend = "asyncio"
    verbose: bool = False
    settings: tuple[str, ...] = ()


def plain_run(words: list[str]) -> Serving | None:
    """`run [CONFIG] [--backend NAME] [-v] [--set KEY=VALUE ...]`; None for whatever the parser of commands should look
    at: other commands, other spellings, mistakes, `--help`."""
    if words[:1] != ["run"]:
        return None
    config: str | None = None
    backend: Backend | None = None
    verbose, settings = False, list[str]()
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "--backend":
                named = next(rest, "")
                found = next((known for known in BACKENDS if known == named), None)
                if backend is not None or found is None:
                    return None
                backend = found
            case "--verbose" | "-v" if not verbose:
                verbose = True
            case "--set":
                settings.append(next(rest, "-"))
                if settings[-1].startswith("-"):
                    return None
            case _ if config is not None or not word or word.startswith("-"):
                return None
            case _:
                config = word
    return Serving(config, backend or "asyncio", verbose, tuple(settings))


def serve(asked: Serving) -> int:
    """Run the schedules of a configuration until it is told to go."""
    import_structlog()
    import anyio

    from sz_runtime.components import ComponentFailed, StoppedEarly
    from sz_runtime.config import ConfigError, load_config
    from sz_runtime.interpreter import tune_interpreter

    path = find_config(asked.config)
    loaded = load_or_exit(path, asked.settings)
    if asked.backend == "trio" and not has_trio():
        fail("--backend trio needs the package trio: pip install 'schedulezero[trio]'", USAGE)
    overrides = read_settings(asked.settings)
    set_up_logging(asked.verbose, loaded.hider())
    tune_interpreter()
    try:
        return anyio.run(_serve, loaded, lambda: load_config(path, overrides=overrides), backend=asked.backend)
    except (ConfigError, ComponentFailed, BaseExceptionGroup) as error:
        broken = innermost(error)
        if isinstance(broken, StoppedEarly):
            return OK  # A signal came while it started: it was told to go, and went.
        if isinstance(broken, ConfigError):
            fail(str(broken), USAGE)
        if isinstance(broken, ComponentFailed):
            fail(str(broken))
        raise


def import_structlog() -> None:
    """Import it as if rich were not installed: for tracebacks that a server does not print, rich would take 8 MB of
    memory for as long as it runs."""
    if "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]
        try:
            import structlog  # noqa: F401
        finally:
            del sys.modules["rich"]


async def _serve(config: "Config", loader: "Callable[[], Config]") -> int:
    import anyio
    import structlog

    from sz_runtime.components import ComponentManager
    from sz_runtime.interpreter import keep_what_is
    from sz_runtime.observing import LogObserver
    from sz_runtime.signals import obey_signals

    for warning in config.warnings:
        structlog.get_logger("schedulezero").warning("configuration", problem=str(warning))
    manager = ComponentManager(config, observers=[LogObserver()], loader=loader)
    async with anyio.create_task_group() as tasks:
        # Before the start: a signal that comes while the components start must stop them in good order too.
        reload = {signal.SIGHUP: partial(_reload, manager)}
        await tasks.start(obey_signals, manager.stop, partial(manager.stop, grace_s=0), reload)
        async with manager:
            keep_what_is()
            await manager.wait()
        tasks.cancel_scope.cancel()
    if manager.failed:
        sys.stderr.write(f"{manager.failed}\n")
    if manager.stuck:
        # What ignores its cancellation would hold the event loop for ever; the ledger is closed by now.
        sys.stderr.write(f"would not stop: {', '.join(manager.stuck)}\n")
        sys.stderr.flush()
        os._exit(FAILED)
    return FAILED if manager.failed else OK


async def _reload(manager: "ComponentManager") -> None:
    import structlog

    from sz_runtime.components import ReloadRefused
    from sz_runtime.config import ConfigError

    log = structlog.get_logger("schedulezero")
    try:
        for line in await manager.reload():
            log.info("reloaded", what=line)
    except (ConfigError, ReloadRefused) as wrong:
        # A broken file must not harm a running server: it goes on with what it has.
        log.error("reload_refused", problems=str(wrong))


def has_trio() -> bool:
    """Whether that event loop is installed."""
    from importlib.util import find_spec

    return find_spec("trio") is not None


def set_up_logging(verbose: bool, hide: "Callable[[str], str]") -> None:
    """structlog to standard error: coloured for a person, plain key=value lines for a file. `hide` takes secrets out
    of every text, whoever wrote it."""
    import logging

    import structlog

    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    renderer: structlog.typing.Processor
    if colours:
        renderer = structlog.dev.ConsoleRenderer()
    else:
        renderer = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])

    def redact(_logger: object, _name: str, event: "EventDict") -> "EventDict":
        for key, value in event.items():
            if not isinstance(value, (int, float, bool, type(None))):
                # Handlers and peers write some of it: none of that moves the cursor of whoever reads the log.
                event[key] = visible(hide(str(value)), "\n\t" if key == "exception" else "")
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
