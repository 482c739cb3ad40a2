"""Whether handler modules can be found, without importing anything."""

import os
import sys
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec, PathFinder

from sz_protocol.wire_values import quote
from sz_runtime.config.loaded import Config
from sz_runtime.config.problems import Mark, Problem, in_order, problem_at

KEY = "components.handlers.local.modules"


def check_modules(config: Config) -> list[Problem]:
    """A problem for each handler module that Python cannot find from the current directory or its path. Neither the
    module nor its packages are imported, so that looking has no effects."""
    if not config.is_on("handlers.local"):
        return []
    invalidate_caches()  # a module may have been written a moment ago
    problems = []
    path = tuple(KEY.split("."))
    in_file = config.origins.get(KEY, "").startswith(f"{config.file}:")
    for index, module in enumerate(config.components.handlers.local.modules):
        trouble = missing_module(module)
        if trouble:
            mark = config.marks.get((*path, index), Mark(0, 0)) if in_file else Mark(0, 0)
            file = config.file if in_file else config.origins.get(KEY, "")
            problems.append(problem_at(file, mark, f"{KEY}[{index}]", trouble))
    return in_order(problems)


def missing_module(module: str) -> str:
    """Why a module cannot be found, "" when it can."""
    if module in sys.modules:
        return ""
    places: list[str] | None = None
    found: ModuleSpec | None = None
    done: list[str] = []
    for part in module.split("."):
        if done and places is None:
            return f"{quote(module)} cannot be found: {'.'.join(done)} is a module, not a package"
        name = ".".join((*done, part))
        found = _find(name, places)
        if found is None:
            where = f"there is no {part} in the package {'.'.join(done)}" if done else "it is not installed"
            hint = "" if done else f", and not in the current directory {quote(os.getcwd())}"
            return f"{quote(module)} cannot be found: {where}{hint}"
        places = None if found.submodule_search_locations is None else list(found.submodule_search_locations)
        done.append(part)
    return ""


def _find(name: str, places: list[str] | None) -> ModuleSpec | None:
    """What `import` would find, with the current directory first; the packages above are not imported."""
    for finder in sys.meta_path:
        if finder is PathFinder:
            # By its last name: with the full one, PathFinder wants namespace packages above to be imported.
            spec = PathFinder.find_spec(name.rpartition(".")[2], [os.getcwd(), *sys.path] if places is None else places)
        else:
            spec = finder.find_spec(name, places)
        if spec is not None:
            return spec
    return None
