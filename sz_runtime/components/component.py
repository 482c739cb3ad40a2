"""What a component is to the manager, and what the manager is to a component."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
from attrs import Factory, define, frozen

from sz_protocol.components import Restart
from sz_protocol.kernel.now import SECOND_US

if TYPE_CHECKING:
    from sz_runtime.components.manager import ComponentManager
    from sz_runtime.config import Config


class ComponentFailed(Exception):
    """A component that the node needs did not start, or was given up. The message names it and says why; the cause, if
    there is one, is the error that it ended with."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.component = reason.partition(":")[0]


class StoppedEarly(ComponentFailed):
    """The program itself stopped the node while it was starting."""


class CannotRun(Exception):
    """Raised by a component when another attempt would end the same way: it is given up at once."""


class ReloadRefused(Exception):
    """A changed configuration was not applied; the node goes on with what it had."""


@frozen
class Limits:
    """How long the start, the orderly stop and, once it is cancelled, the leave of a component may take."""

    start_us: int = 30 * SECOND_US
    stop_us: int = 30 * SECOND_US
    cancel_us: int = 5 * SECOND_US


_RESTART = Restart()


def _default_limits(config: "Config") -> Limits:
    return Limits()


def _can_run(config: "Config") -> str:
    return ""


@frozen
class Component:
    """What the entry point of a component holds (group `schedulezero.components`, under the component's name).

    `serve(context)` is one life of it: it makes itself ready, calls `context.started(value)`, and returns soon after
    `context.stopping` is set. An exception, or a return that nobody asked for, is its death. `needs` have to be running
    before it starts and are there until it has ended; `after` only orders. Where it is not `required`, the node lives
    without it. `refuses` says why it cannot run a configuration ("" if it can).
    """

    serve: "Callable[[ComponentContext], Awaitable[None]]"
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    required: bool = True
    limits: "Callable[[Config], Limits]" = _default_limits
    restart: Restart = _RESTART
    refuses: "Callable[[Config], str]" = _can_run


@define(eq=False)
class ComponentContext:
    """One life of a component, as the component sees it."""

    name: str
    manager: "ComponentManager"
    _on_started: "Callable[[Any], None]"
    stopping: anyio.Event = Factory(anyio.Event)
    """Set when it shall end in good order."""

    @property
    def config(self) -> "Config":
        """The configuration that runs now."""
        return self.manager.config

    def started(self, value: Any = None) -> None:
        """Say that it does its work from now on. `value` is what other components and the program see of it."""
        self._on_started(value)

    def value(self, name: str) -> Any:
        """What another component offers; None while it does not run."""
        return self.manager.components.get(name)
