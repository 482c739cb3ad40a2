"""Who can execute a method: the handlers in this process, and those that registered from elsewhere. Pure look-ups.

ROUTE-1 whoever executes a run has its method, and every tag that its definition asks for. ROUTE-2 a schedule that names
a handler goes to that handler; with `away: elsewhere`, to another one with the method while that handler is away.
ROUTE-3 nothing is parked while handlers may still register, and never where instants are to be skipped meanwhile.
"""

from collections.abc import Iterable
from typing import Final

from attrs import Factory, define

from sz_protocol.definition import AwayPolicy, Definition
from sz_protocol.kernel.events import HandlersChanged, MethodInfo

_ELSEWHERE: Final = AwayPolicy.ELSEWHERE  # bound once, as in records.py

ANY_HANDLER = "*"
"""The handler id of a schedule that any handler with its method may execute."""

Tags = tuple[tuple[str, str], ...]
Route = tuple[str, str, Tags, bool]
"""(handler id, method, tags, whether another handler will do): what a run asks of its executor."""


def worker_pool(worker: str) -> str:
    """The name of the pool that holds the slots of a remote handler."""
    return f"worker:{worker}"


def route_of(definition: Definition) -> Route:
    """What the runs of a definition ask for."""
    tags: Tags = tuple(sorted(definition.tags.items())) if definition.tags else ()
    return definition.handler_id, definition.method, tags, definition.away is _ELSEWHERE


@define(eq=False)
class Routes:
    """One state of what can be executed. Look-ups are remembered: there are few routes and many runs."""

    change: HandlersChanged
    _named: dict[tuple[str, str], list[MethodInfo]] = Factory(dict)
    _able: dict[str, list[MethodInfo]] = Factory(dict)
    _sizes: dict[str, int] = Factory(dict)
    _known: dict[Route, tuple[MethodInfo, ...]] = Factory(dict)

    def __attrs_post_init__(self) -> None:
        self._sizes = dict(self.change.pools)
        if self._named:
            return
        for info in self.change.methods:
            self._named.setdefault((info.handler_id, info.method), []).append(info)
            self._able.setdefault(info.method, []).append(info)

    def after(self, change: HandlersChanged) -> "Routes":
        """The routes from here on. Handlers fall silent and are heard again, and offer the same all the while: what is
        the same is not indexed anew."""
        if change.methods == self.change.methods:
            return Routes(change, self._named, self._able)
        return Routes(change)

    def candidates(self, route: Route) -> tuple[MethodInfo, ...]:
        """Who may execute a run of this route, whether there is room or not; empty where nobody is known."""
        found = self._known.get(route)
        if found is None:
            found = self._known[route] = self._look_up(route)
        return found

    def is_present(self, route: Route) -> bool:
        """Whether somebody is here to execute it: a handler that is away for the moment has no slots."""
        return any(self._sizes[info.pool] > 0 for info in self.candidates(route))

    def lets_fire(self, definition: Definition) -> bool:
        """Whether a schedule may fire. If not, it has to be parked (ROUTE-3)."""
        if (definition.handler_id, definition.method) in self._named and not definition.tags:
            return True
        if self.change.expecting or definition.away is AwayPolicy.SKIP:
            return True
        return bool(self.candidates(route_of(definition)))

    def has(self, definition: Definition) -> bool:
        """Whether somebody who can execute its method is known, here or away for the moment."""
        return bool(self.candidates(route_of(definition)))

    def lets_the_same_fire_as(self, other: "Routes") -> bool:
        """Whether the same may fire, be there room for it now or not."""
        mine, theirs = self.change, other.change
        return mine.expecting is theirs.expecting and mine.methods == theirs.methods

    def _look_up(self, route: Route) -> tuple[MethodInfo, ...]:
        handler_id, method, tags, elsewhere = route
        if handler_id == ANY_HANDLER:
            return _tagged(self._able.get(method, ()), tags)
        own = _tagged(self._named.get((handler_id, method), ()), tags)
        if not elsewhere or any(self._sizes[info.pool] > 0 for info in own):
            return own
        others = _tagged(self._able.get(method, ()), tags)
        return others or own


def _tagged(infos: Iterable[MethodInfo], tags: Tags) -> tuple[MethodInfo, ...]:
    wanted = dict(tags)
    return tuple(info for info in infos if not wanted or wanted.items() <= dict(info.tags).items())
