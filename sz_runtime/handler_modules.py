"""Importing the modules that hold the handlers: what fails is reported, with file and line, and the others go on."""

import importlib
import os
import sys
from collections.abc import Iterable
from traceback import walk_tb

from attrs import frozen

from sz_runtime.handlers import DEFAULT_REGISTRY, HandlerExists, LocalHandlerRegistry, Method

_MESSAGE_LIMIT = 500


@frozen
class ModuleProblem:
    """A handler module that could not be used. `file` and `line` say where it failed, if that is known."""

    module: str
    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}:{self.line}: "
        return f"{place}handler module {self.module}: {self.message}"


def import_handler_modules(names: Iterable[str], registry: LocalHandlerRegistry | None = None) -> list[ModuleProblem]:
    """Import each module in turn; the current directory is searched first.

    @register_local registers in the default registry while a module is imported. With another `registry`, the
    handlers defined in the named modules, and in packages below them, are then adopted by it, also when a module had
    been imported before. A module that fails leaves no handlers behind.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    problems: list[ModuleProblem] = []
    for name in names:
        problem = _import(name)
        if problem is None and registry is not None and registry is not DEFAULT_REGISTRY:
            problem = _adopt(name, registry)
        if problem is not None:
            problems.append(problem)
    return problems


def _import(name: str) -> ModuleProblem | None:
    if not isinstance(name, str) or not name or not all(part.isidentifier() for part in name.split(".")):
        return ModuleProblem(str(name), "this is not a module name; write it as in an import: my_app.handlers.tasks")
    before = set(DEFAULT_REGISTRY.entries())
    try:
        importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may even call sys.exit()
        for entry in DEFAULT_REGISTRY.entries():
            if entry not in before and _module_of(entry) not in sys.modules:
                DEFAULT_REGISTRY.unregister(entry.handler_id, entry.method)
        return _problem(name, error)
    return None


def _adopt(name: str, registry: LocalHandlerRegistry) -> ModuleProblem | None:
    inside = [e for e in DEFAULT_REGISTRY.entries() if f"{_module_of(e)}.".startswith(f"{name}.")]
    try:
        registry.adopt(inside)
    except HandlerExists as error:
        return ModuleProblem(name, str(error), getattr(sys.modules[name], "__file__", None), 1)
    return None


def _module_of(entry: Method) -> str:
    return str(getattr(entry.func, "__module__", ""))


def _problem(name: str, error: BaseException) -> ModuleProblem:
    if isinstance(error, SyntaxError):
        return ModuleProblem(name, f"{type(error).__name__}: {error.msg}", error.filename, error.lineno)
    frames = [
        (frame.f_globals.get("__name__"), frame.f_code.co_filename, line)
        for frame, line in walk_tb(error.__traceback__)
        if not str(frame.f_globals.get("__name__")).startswith(("importlib", __name__))
    ]
    if isinstance(error, ModuleNotFoundError) and not frames and error.name is not None:
        return ModuleProblem(name, f"there is no module {error.name!r} in the current directory or on sys.path")
    message = f"{type(error).__name__}: {error}"[:_MESSAGE_LIMIT]
    if not frames:
        return ModuleProblem(name, message)
    own = [frame for frame in frames if frame[0] == name] or frames
    _, file, line = own[-1]
    if frames[-1] != own[-1]:
        message += f" (raised at {frames[-1][1]}:{frames[-1][2]})"
    return ModuleProblem(name, message, file, line)
