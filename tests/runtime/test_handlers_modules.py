"""Importing handler modules: a module that fails is reported with file and line, and the others go on."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sz_runtime.handler_modules import ModuleProblem, import_handler_modules
from sz_runtime.handlers import DEFAULT_REGISTRY, LocalHandlerRegistry

GOOD = """from sz_runtime.handlers import register_local

@register_local("{id}")
def job():
    return "{id}"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    modules, handlers = set(sys.modules), {entry.key for entry in DEFAULT_REGISTRY.entries()}
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    for entry in DEFAULT_REGISTRY.entries():
        if entry.key not in handlers:
            DEFAULT_REGISTRY.unregister(*entry.key)
    importlib.invalidate_caches()


def problem_of(name: str) -> ModuleProblem:
    (problem,) = import_handler_modules([name])
    assert problem.module == name
    return problem


def test_modules_of_the_current_directory_are_found(folder: Path) -> None:
    (folder / "sz_good.py").write_text(GOOD.format(id="good"))
    (folder / "sz_pack").mkdir()
    (folder / "sz_pack" / "tasks.py").write_text(GOOD.format(id="packed"))
    assert import_handler_modules(["sz_good", "sz_pack.tasks"]) == []
    assert DEFAULT_REGISTRY.get("good", "job") is not None
    assert DEFAULT_REGISTRY.get("packed", "job") is not None
    assert sys.path.count(os.getcwd()) == 1


def test_a_syntax_error_is_located_and_the_others_go_on(folder: Path) -> None:
    (folder / "sz_broken.py").write_text("x = 1\n\ndef job(:\n    pass\n")
    (folder / "sz_good.py").write_text(GOOD.format(id="good"))
    (problem,) = import_handler_modules(["sz_broken", "sz_good"])
    assert (problem.file, problem.line) == (str(folder / "sz_broken.py"), 3)
    assert problem.message.startswith("SyntaxError: ")
    assert str(problem).startswith(f"{folder / 'sz_broken.py'}:3: handler module sz_broken: SyntaxError: ")
    assert DEFAULT_REGISTRY.get("good", "job") is not None


def test_a_failing_import_inside_is_located_at_its_line(folder: Path) -> None:
    (folder / "sz_needs.py").write_text("import os\n\nimport sz_no_such_library\n")
    problem = problem_of("sz_needs")
    assert (problem.file, problem.line) == (str(folder / "sz_needs.py"), 3)
    assert problem.message == "ModuleNotFoundError: No module named 'sz_no_such_library'"


def test_an_exception_at_import_is_located_in_the_innermost_frame_of_the_module(folder: Path) -> None:
    (folder / "sz_raises.py").write_text("def divide():\n    return 1 / 0\n\nRATIO = divide()\n")
    problem = problem_of("sz_raises")
    assert (problem.file, problem.line) == (str(folder / "sz_raises.py"), 2)
    assert problem.message == "ZeroDivisionError: division by zero"


def test_an_exception_in_another_module_names_both_places(folder: Path) -> None:
    (folder / "sz_below.py").write_text("\n\nraise ValueError('no settings')\n")
    (folder / "sz_above.py").write_text("import sz_below\n")
    problem = problem_of("sz_above")
    assert (problem.file, problem.line) == (str(folder / "sz_above.py"), 1)
    assert problem.message == f"ValueError: no settings (raised at {folder / 'sz_below.py'}:3)"


def test_a_package_that_fails_is_located(folder: Path) -> None:
    (folder / "sz_pack").mkdir()
    (folder / "sz_pack" / "__init__.py").write_text("raise RuntimeError('not today')\n")
    (folder / "sz_pack" / "tasks.py").write_text(GOOD.format(id="never"))
    problem = problem_of("sz_pack.tasks")
    assert (problem.file, problem.line) == (str(folder / "sz_pack" / "__init__.py"), 1)
    assert problem.message == "RuntimeError: not today"


@pytest.mark.parametrize("call", ["import sys; sys.exit(3)", "raise SystemExit('bye')"])
def test_a_module_that_exits_is_a_problem_not_the_end(folder: Path, call: str) -> None:
    (folder / "sz_exits.py").write_text(f"{call}\n")
    problem = problem_of("sz_exits")
    assert (problem.file, problem.line) == (str(folder / "sz_exits.py"), 1)
    assert problem.message.startswith("SystemExit: ")


@pytest.mark.parametrize("name", ["sz_nowhere", "sz_nowhere.tasks"])
def test_a_module_that_is_not_there(name: str) -> None:
    problem = problem_of(name)
    assert problem.file is None
    assert problem.message == "there is no module 'sz_nowhere' in the current directory or on sys.path"
    assert str(problem) == f"handler module {name}: {problem.message}"


@pytest.mark.parametrize("name", ["", "my module", "handlers/tasks.py", ".tasks", "a..b", "tasks-1"])
def test_what_is_no_module_name(name: str) -> None:
    assert "this is not a module name" in problem_of(name).message


def test_a_module_that_fails_half_way_leaves_no_handlers_behind(folder: Path) -> None:
    (folder / "sz_helper.py").write_text(GOOD.format(id="helper"))
    (folder / "sz_half.py").write_text("import sz_helper\n" + GOOD.format(id="half") + "\n1 / 0\n")
    problem_of("sz_half")
    assert DEFAULT_REGISTRY.get("half", "job") is None
    assert DEFAULT_REGISTRY.get("helper", "job") is not None, "its module was imported whole"


def test_a_name_that_is_taken_is_a_problem_of_the_second_module(folder: Path) -> None:
    for name in ("sz_one", "sz_two"):
        (folder / f"{name}.py").write_text(GOOD.format(id="same"))
    (problem,) = import_handler_modules(["sz_one", "sz_two"])
    assert (problem.module, problem.file, problem.line) == ("sz_two", str(folder / "sz_two.py"), 3)
    assert "same.job is registered twice" in problem.message
    assert str(folder / "sz_one.py") in problem.message


def test_an_own_registry_adopts_the_modules_handlers_also_when_they_were_imported_before(folder: Path) -> None:
    (folder / "sz_mine.py").write_text(GOOD.format(id="mine"))
    (folder / "sz_other.py").write_text(GOOD.format(id="other"))
    (folder / "sz_pack").mkdir()
    (folder / "sz_pack" / "__init__.py").write_text("from sz_pack import tasks\n")
    (folder / "sz_pack" / "tasks.py").write_text(GOOD.format(id="packed"))
    assert import_handler_modules(["sz_other"]) == []
    for _ in range(2):
        registry = LocalHandlerRegistry()
        assert import_handler_modules(["sz_mine", "sz_pack"], registry) == []
        assert [entry.key for entry in registry.entries()] == [("mine", "job"), ("packed", "job")]


def test_an_own_registry_that_holds_the_name_already_says_so(folder: Path) -> None:
    (folder / "sz_mine.py").write_text(GOOD.format(id="mine"))
    registry = LocalHandlerRegistry()
    registry.register("mine", lambda: None, ["job"])
    (problem,) = import_handler_modules(["sz_mine"], registry)
    assert "mine.job is registered twice" in problem.message
