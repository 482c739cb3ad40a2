"""Handlers by name: the decorators, and the registry that keeps what they find.

A schedule names a handler id and a method; names are what is stored, never code. A second function under a taken name
is an error that names both places: nothing is overwritten silently.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from threading import Lock
from typing import Any, TypeVar, overload

from attrs import evolve, frozen

from sz_protocol.kernel.events import MethodInfo
from sz_runtime.call_plan import CallPlan, HandlerError, innermost, plan_call, where

F = TypeVar("F", bound=Callable[..., Any])
Key = tuple[str, str]
_MARK = "__schedulezero_handler__"
_NAME_LIMIT = 200


class HandlerExists(HandlerError):
    """Another function holds this handler id and method; the message names the file and line of both."""


@frozen(eq=False)
class Method:
    """One registered method. `concurrency` bounds its runs at once (None: only its pool does); `isolate` gives every
    run a task of its own. `alias_of` is the present name where this entry is an old one."""

    handler_id: str
    method: str
    func: Callable[..., Any]
    plan: CallPlan
    where: str
    concurrency: int | None = None
    isolate: bool = False
    alias_of: str | None = None

    @property
    def key(self) -> Key:
        """How schedules name it."""
        return self.handler_id, self.method


@frozen
class _Mark:
    """What @register_handler leaves on a function in a class body."""

    methods: tuple[str, ...] | None
    concurrency: int | None
    isolate: bool
    aliases: tuple[str, ...]


class LocalHandlerRegistry:
    """Handler ids with their methods. Safe to use from several threads."""

    def __init__(self) -> None:
        self._methods: dict[Key, Method] = {}
        self._generations: dict[Key, object] = {}
        self._listeners: dict[object, Callable[[], None]] = {}
        self._lock = Lock()

    def register(
        self,
        handler_id: str,
        func: Callable[..., Any],
        methods: Sequence[str] | None = None,
        *,
        concurrency: int | None = None,
        isolate: bool = False,
        aliases: Sequence[str] = (),
    ) -> tuple[Method, ...]:
        """Let `func` (plain or async) serve `methods` of `handler_id`; without `methods`, one of its own name.

        `aliases` are older names that stored schedules may still use: "old_method", or "old_handler.old_method".
        The same function again, or the same one after its module was reloaded, replaces quietly. All names are taken
        or none. Raises HandlerExists or HandlerError.
        """
        plan = plan_call(func)
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            raise HandlerError(f"{where(func)}: concurrency must be at least 1, not {concurrency!r}")
        names = _names(methods, func)
        entries = [
            Method(handler_id, name, func, plan, where(func), concurrency=concurrency, isolate=isolate)
            for name in names
        ]
        for alias in _strings(aliases, "aliases"):
            old_handler, _, old_method = alias.rpartition(".")
            present = f"{handler_id}.{names[0]}"
            entries.append(
                evolve(entries[0], handler_id=old_handler or handler_id, method=old_method, alias_of=present)
            )
        self._add(entries)
        return tuple(entries)

    def register_instance(self, handler_id: str, instance: object) -> tuple[Method, ...]:
        """Register every method of `instance` that @register_handler marks in its class or a base class."""
        marks: dict[str, _Mark] = {}
        for cls in reversed(type(instance).__mro__):
            for name, value in vars(cls).items():
                mark = getattr(value, _MARK, None)
                if isinstance(mark, _Mark):
                    marks[name] = mark
        added: list[Method] = []
        for name, mark in marks.items():
            added += self.register(
                handler_id,
                getattr(instance, name),
                mark.methods or (name,),
                concurrency=mark.concurrency,
                isolate=mark.isolate,
                aliases=mark.aliases,
            )
        return tuple(added)

    def adopt(self, entries: Iterable[Method]) -> None:
        """Take over entries of another registry. Raises HandlerExists."""
        self._add(list(entries))

    def unregister(self, handler_id: str, method: str) -> bool:
        """Forget one method; False when it was not there. Its schedules will be parked."""
        with self._lock:
            found = self._methods.pop((handler_id, method), None)
            self._generations.pop((handler_id, method), None)
        if found is not None:
            self._tell()
        return found is not None

    def get(self, handler_id: str, method: str) -> Method | None:
        """The method of this name, if there is one."""
        return self._methods.get((handler_id, method))

    def entries(self) -> tuple[Method, ...]:
        """Everything registered, ordered by name."""
        return tuple(sorted(self._methods.copy().values(), key=lambda entry: entry.key))

    def methods(self) -> tuple[MethodInfo, ...]:
        """The same, as the core wants to know it."""
        return tuple(MethodInfo(e.handler_id, e.method, e.plan.pool, e.concurrency) for e in self.entries())

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after every change, in the thread that made it; returns what ends that."""
        ticket = object()
        self._listeners[ticket] = listener

        def unsubscribe() -> None:
            self._listeners.pop(ticket, None)

        return unsubscribe

    def _add(self, entries: list[Method]) -> None:
        for entry in entries:
            _check_name("handler id", entry.handler_id, entry.where)
            _check_name("method", entry.method, entry.where)
        with self._lock:
            for entry in entries:
                self._refuse_another(entry)
            for entry in entries:
                self._methods[entry.key] = entry
                self._generations[entry.key] = _generation(entry.func)
        self._tell()

    def _refuse_another(self, entry: Method) -> None:
        old = self._methods.get(entry.key)
        if old is None or old.func == entry.func:
            return
        reloaded = self._generations[entry.key] is not _generation(entry.func)
        if reloaded and _origin(old.func) == _origin(entry.func):
            return
        name = f"{entry.handler_id}.{entry.method}"
        raise HandlerExists(f"{name} is registered twice: first at {old.where}, again at {entry.where}")

    def _tell(self) -> None:
        for listener in tuple(self._listeners.values()):
            listener()


DEFAULT_REGISTRY = LocalHandlerRegistry()
"""Where @register_local puts what it decorates."""


@overload
def register_local(target: F, /) -> F: ...


@overload
def register_local(
    target: str | None = None,
    /,
    *,
    methods: Sequence[str] | None = None,
    concurrency: int | None = None,
    isolate: bool = False,
    aliases: Sequence[str] = (),
) -> Callable[[F], F]: ...


def register_local(
    target: Callable[..., Any] | str | None = None,
    /,
    *,
    methods: Sequence[str] | None = None,
    concurrency: int | None = None,
    isolate: bool = False,
    aliases: Sequence[str] = (),
) -> Any:
    """Register a function in the default registry and hand it back unchanged.

    Bare, `@register_local`: the handler id is the last part of the module's name, the method is the function's name.
    With a name, `@register_local("reports")`, and with the options of `LocalHandlerRegistry.register`.
    """
    if target is not None and not isinstance(target, str):
        DEFAULT_REGISTRY.register(_module_handler_id(target), target)
        return target

    def decorate(func: F) -> F:
        DEFAULT_REGISTRY.register(
            _module_handler_id(func) if target is None else target,
            func,
            methods,
            concurrency=concurrency,
            isolate=isolate,
            aliases=aliases,
        )
        return func

    return decorate


@overload
def register_handler(target: F, /) -> F: ...


@overload
def register_handler(
    *,
    methods: Sequence[str] | None = None,
    concurrency: int | None = None,
    isolate: bool = False,
    aliases: Sequence[str] = (),
) -> Callable[[F], F]: ...


def register_handler(
    target: Callable[..., Any] | None = None,
    /,
    *,
    methods: Sequence[str] | None = None,
    concurrency: int | None = None,
    isolate: bool = False,
    aliases: Sequence[str] = (),
) -> Any:
    """Mark a method in a class body; `LocalHandlerRegistry.register_instance` registers the marked methods of an
    object. Bare or with options."""

    def mark(func: F) -> F:
        names = None if methods is None else _strings(methods, "methods")
        setattr(func, _MARK, _Mark(names, concurrency, isolate, _strings(aliases, "aliases")))
        return func

    return mark if target is None else mark(target)


def _names(methods: Sequence[str] | None, func: Callable[..., Any]) -> tuple[str, ...]:
    if methods is None:
        return (str(getattr(innermost(func), "__name__", type(func).__name__)),)
    names = _strings(methods, "methods")
    if not names:
        raise HandlerError(f"{where(func)}: methods is empty; leave it out to use the function's name")
    return tuple(dict.fromkeys(names))


def _strings(values: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(values, str):
        raise HandlerError(f"{what} must be a list of names, not the string {values!r}")
    return tuple(values)


def _check_name(what: str, name: str, place: str) -> None:
    if not isinstance(name, str) or not name or len(name) > _NAME_LIMIT or not name.isprintable() or " " in name:
        raise HandlerError(f"{place}: {name!r} is no {what}: a word of 1 to {_NAME_LIMIT} printable characters")
    if what == "method" and "." in name:
        raise HandlerError(f"{place}: {name!r} is no method: dots separate the handler id from the method")


def _module_handler_id(func: Callable[..., Any]) -> str:
    module = str(getattr(innermost(func), "__module__", "")) or "handlers"
    if module == "__main__":  # a script: its file names it
        file = getattr(sys.modules.get("__main__"), "__file__", None)
        return PurePath(file).stem if file else "main"
    return module.rpartition(".")[2]


def _origin(func: Callable[..., Any]) -> object:
    """Which definition in which file this is; unlike any other's for what has no lasting name."""
    inner = innermost(func)
    name = str(getattr(inner, "__qualname__", "<locals>"))
    if "<locals>" in name:  # two closures of one factory look the same and are not
        return object()
    owner = id(inner.__self__) if inspect.ismethod(inner) else None
    return getattr(inner, "__module__", None), name, where(func).rpartition(":")[0], owner


def _generation(func: Callable[..., Any]) -> object:
    """Which execution of its module defined this: importlib gives a module a new spec at every reload."""
    return getattr(innermost(func), "__globals__", {}).get("__spec__")
