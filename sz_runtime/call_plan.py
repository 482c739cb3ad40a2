"""How a handler function is called, found out once, when it is registered."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

from attrs import frozen

from sz_runtime.run_context import RunContext

ASYNC_POOL = "async"
THREAD_POOL = "thread"
_SHOWN = 5
_MENTIONS_CONTEXT = re.compile(r"\bRunContext\b")


class HandlerError(ValueError):
    """A function cannot be a handler, or not under this name; the message is for a person."""


@frozen(eq=False)
class CallPlan:
    """What a call needs. `accepted` is None where any keyword is welcome; `run_parameter` is the name under which the
    function wants its RunContext."""

    pool: str
    required: frozenset[str]
    accepted: frozenset[str] | None
    run_parameter: str | None

    def problem(self, params: Mapping[str, Any]) -> str | None:
        """Why the function cannot be called with these parameters; None when it can."""
        if not params and not self.required:
            return None
        given = params.keys()
        if self.accepted is not None:
            unknown = [name for name in given if name not in self.accepted]
        else:
            unknown = [name for name in given if not isinstance(name, str) or name == self.run_parameter]
        if unknown:
            return f"unknown parameter {_listed(unknown)}" + self._known()
        missing = self.required - given
        if missing:
            return f"missing parameter {_listed(sorted(missing))}"
        return None

    def _known(self) -> str:
        return f" (it takes {_listed(sorted(self.accepted))})" if self.accepted else ""


def plan_call(func: Callable[..., Any]) -> CallPlan:
    """Look at the signature. Raises HandlerError for what could never run."""
    _refuse_impossible(func)
    pool = ASYNC_POOL if _is_async(func) else THREAD_POOL
    try:
        parameters = inspect.signature(func).parameters.values()
    except ValueError:  # some C functions do not tell
        return CallPlan(pool=pool, required=frozenset(), accepted=None, run_parameter=None)
    named, run_parameter, anything = [], None, False
    for parameter in parameters:
        match parameter.kind:
            case inspect.Parameter.VAR_KEYWORD:
                anything = True
            case inspect.Parameter.VAR_POSITIONAL:
                pass
            case inspect.Parameter.POSITIONAL_ONLY:
                if parameter.default is inspect.Parameter.empty:
                    raise HandlerError(
                        f"{where(func)}: parameter {parameter.name!r} is positional-only; "
                        "handlers are called with keywords"
                    )
            case _ if run_parameter is None and _wants_run(parameter):
                run_parameter = parameter.name
            case _:
                named.append(parameter)
    return CallPlan(
        pool=pool,
        required=frozenset(p.name for p in named if p.default is inspect.Parameter.empty),
        accepted=None if anything else frozenset(p.name for p in named),
        run_parameter=run_parameter,
    )


def where(func: Callable[..., Any]) -> str:
    """`file:line` of the definition, or the best name there is."""
    code = _code(func)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(func)


def innermost(func: Any) -> Any:
    """The function at the bottom of decorators and partials."""
    while True:
        inner = inspect.unwrap(func)
        if isinstance(inner, functools.partial):
            inner = inner.func
        if inner is func:
            return inner
        func = inner


def _code(func: Callable[..., Any]) -> CodeType | None:
    inner = innermost(func)
    code = getattr(inner, "__code__", None) or getattr(inner.__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _refuse_impossible(func: Callable[..., Any]) -> None:
    if inspect.isclass(func):
        raise HandlerError(
            f"{func.__name__} is a class; register functions, or mark its methods with @register_handler"
        )
    if not callable(func):
        raise HandlerError(f"{func!r} cannot be called")
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise HandlerError(f"{where(func)}: {_name(func)} is a generator (it has a yield): called, it would do nothing")
    inner = innermost(func)
    names = getattr(inner, "__qualname__", "").split(".")
    in_a_class = len(names) > 1 and names[-2] != "<locals>" and not inspect.ismethod(inner)
    code = _code(func)
    if in_a_class and code is not None and code.co_varnames[:1] == ("self",):
        raise HandlerError(
            f"{where(func)}: {_name(func)} is a method without its object; mark it with @register_handler "
            "and register the object"
        )


def _is_async(func: Any) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(func.__call__)


def _wants_run(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return parameter.name == "run"
    if annotation is RunContext:
        return True
    # Written as a string, or with None beside it.
    return _MENTIONS_CONTEXT.search(annotation if isinstance(annotation, str) else str(annotation)) is not None


def _name(func: Callable[..., Any]) -> str:
    return str(getattr(func, "__qualname__", repr(func)))


def _listed(names: list[Any]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
