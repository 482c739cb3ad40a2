"""Pure means pure: nothing in sz_protocol touches the world. import-linter cannot see attribute calls; this can."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sz_protocol

ROOT = Path(sz_protocol.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
BANNED_MODULES = {
    "anyio", "asyncio", "io", "logging", "multiprocessing", "os", "pathlib", "secrets", "select", "signal", "socket",
    "sqlite3", "ssl", "structlog", "subprocess", "sys", "tempfile", "threading", "time", "trio", "uuid", "zmq",
    "sz_runtime", "sz_shells",
}  # fmt: skip
BANNED_CALLS = {"now", "utcnow", "today", "fromtimestamp", "open", "print", "input", "getenv"}
CLOCKED = {"datetime", "date"}


def violations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every import and call that would let the world in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in BANNED_MODULES or alias.name == "random":
                    yield node.lineno, f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            names = {alias.name for alias in node.names}
            if module in BANNED_MODULES or (module == "random" and names != {"Random"}):
                yield node.lineno, f"from {node.module} import {', '.join(sorted(names))}"
        elif isinstance(node, ast.Call):
            yield from _call_violations(node)
        elif isinstance(node, (ast.Set, ast.SetComp)):
            # A set is fine to ask, never to iterate: the order of strings differs from process to process.
            continue
        elif isinstance(node, (ast.For, ast.comprehension)) and _is_set(node.iter):
            yield node.iter.lineno, "iterates a set"


def _call_violations(node: ast.Call) -> Iterator[tuple[int, str]]:
    match node.func:
        case ast.Name(id=name) if name in {"open", "print", "input"}:
            yield node.lineno, f"{name}()"
        case ast.Attribute(value=ast.Name(id=owner), attr=attr) if owner in CLOCKED and attr in BANNED_CALLS:
            yield node.lineno, f"{owner}.{attr}()"


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"set", "frozenset"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_touches_nothing(path: Path) -> None:
    found = list(violations(ast.parse(path.read_text())))
    assert not found, "\n".join(f"{path}:{line}: {what}" for line, what in found)


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "from os import environ",
        "import random",
        "from random import randint",
        "datetime.now()",
        "open('x')",
        "for x in {1, 2}: pass",
        "y = [x for x in set(z)]",
    ],
)
def test_the_check_itself_sees_what_it_should(code: str) -> None:
    assert list(violations(ast.parse(code)))


def test_every_package_ships_its_type_marker() -> None:
    for package in ("sz_protocol", "sz_runtime", "sz_shells"):
        assert (ROOT.parent / package / "py.typed").is_file()
