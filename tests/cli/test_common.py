"""What every command shares: each that loads a configuration takes `--set`."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sz_shells.cli.common import print_table, visible
from sz_shells.cli.main import COMMANDS, build_app

WITHOUT_CONFIGURATION = {"demo", "init", "worker"}
ARGUMENTS = {"pause": ["s"], "resume": ["s"], "trigger": ["s"], "run-now": ["h", "m"], "cancel": ["00"], "why": ["s"]}


def function(name: str) -> Callable[..., Any]:
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    return found if inspect.isfunction(found) else found.default_command


def configured() -> list[str]:
    return [name for name in COMMANDS if name not in WITHOUT_CONFIGURATION]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schedulezero.yaml").write_text("deployment: {mode: autonomous}\n")
    return tmp_path


def test_these_commands_take_a_configuration_and_those_do_not() -> None:
    for name in COMMANDS:
        taken = set(inspect.signature(function(name)).parameters)
        assert ("config" in taken, "settings" in taken) == ((name not in WITHOUT_CONFIGURATION,) * 2), name


@pytest.mark.parametrize("name", configured())
def test_every_command_that_loads_a_configuration_lets_flags_change_it(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ("--set", "scheduler.thread=3")
    words = [name, *ARGUMENTS.get(name, []), "schedulezero.yaml", *wrong]
    with pytest.raises(SystemExit) as ended:
        build_app()(words, exit_on_error=False, result_action="return_value")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == 'flag: scheduler.thread: there is no such key; did you mean "threads"?'


def test_a_flag_leads_a_command_to_another_ledger(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for named in ("one", "other"):
        with pytest.raises(SystemExit):
            build_app()(
                ["runs", "--set", f"scheduler.datastore.path={named}.db"],
                exit_on_error=False,
                result_action="return_value",
            )
        assert capsys.readouterr().err.startswith(f"{named}.db: no ledger yet")


def test_simulate_has_no_use_for_flags_without_a_configuration(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build_app()(["simulate", "--set", "tornado.port=1"], exit_on_error=False, result_action="return_value")
    assert capsys.readouterr().err == "--set changes a configuration: name one\n"


def test_what_others_wrote_cannot_steer_a_terminal_nor_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert visible("Grüße, ☃") == "Grüße, ☃"
    assert visible("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"
    assert visible("a\nb\r", "\n") == "a\nb\\r"
    print_table("", ("handler", "state"), [("evil\nroof present", "\x1b]0;title\x07")])
    told = capsys.readouterr().out
    assert "\x1b]" not in told
    assert len(told.splitlines()) == 2
