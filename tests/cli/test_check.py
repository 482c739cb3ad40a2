"""`schedulezero check` and `--set` as the command line calls them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sz_runtime.config import json_schema
from sz_shells.cli.main import build_app
from tests.runtime.odd_components import install

DOCUMENT = Path(__file__).parent.parent / "runtime" / "config" / "document"
PLAIN = """\
deployment: {name: shop, mode: autonomous}
components:
  scheduler: {threads: 2, datastore: {type: memory}}
presets:
  autonomous: {components: {scheduler.threads: 3, scheduler.concurrency: 7}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.yaml").write_text(PLAIN)
    return tmp_path


def check(*tokens: str) -> int:
    """The command as the command line calls it; its exit code."""
    try:
        result = build_app()(["check", *tokens], print_error=True, exit_on_error=False, result_action="return_value")
    except SystemExit as ended:
        return int(str(ended.code))
    assert isinstance(result, int)
    return result


def effective(capsys: pytest.CaptureFixture[str], *tokens: str) -> dict[str, tuple[Any, str]]:
    assert check("plain.yaml", "--effective", "-o", "json", *tokens) == 0
    rows = json.loads(capsys.readouterr().out)["effective"]
    return {row["key"].removeprefix("components."): (row["value"], row["from"]) for row in rows}


def test_the_documents_edge_device_lacks_nothing_but_its_modules(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(str(DOCUMENT / "edge-device.yaml")) == 0
    said = capsys.readouterr()
    assert said.out.endswith(": ok: mode autonomous, 0 schedules, 1 warning\n")
    assert '"edge_device.handlers" cannot be found' in said.err


@pytest.mark.parametrize("name", ["schema", "distributed"])
def test_the_documents_configurations_pass_and_what_run_would_refuse_is_a_warning(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(str(DOCUMENT / f"{name}.yaml")) == 0
    said = capsys.readouterr()
    assert ": ok: mode " in said.out
    assert "is not part of this version" in said.err
    assert "(`run` would refuse this)" in said.err
    assert check(str(DOCUMENT / f"{name}.yaml"), "--strict") == 1


def test_a_component_that_only_a_preset_wants_is_a_warning_of_another_kind(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "full.yaml").write_text("deployment: {mode: minimal}\n")
    assert check("full.yaml") == 0
    said = capsys.readouterr()
    assert said.err.startswith("preset minimal (built in): components.tornado.enabled: ")
    assert "would refuse" not in said.err
    assert said.out == "full.yaml: ok: mode minimal, 0 schedules, 1 warning\n"


def test_flag_over_environment_over_file_over_preset_over_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert effective(capsys)["scheduler.threads"] == (2, "plain.yaml:3")
    assert effective(capsys)["scheduler.concurrency"] == (7, "preset autonomous (plain.yaml:5)")
    assert effective(capsys)["tornado.enabled"] == (False, "preset autonomous (built in)")
    assert effective(capsys)["scheduler.horizon"][1] == "default"
    monkeypatch.setenv("SCHEDULEZERO__SCHEDULER__THREADS", "4")
    assert effective(capsys)["scheduler.threads"] == (4, "environment SCHEDULEZERO__SCHEDULER__THREADS")
    flags = ("--set", "scheduler.threads=5", "--set", "handlers.local.modules=json,csv")
    rows = effective(capsys, *flags)
    assert rows["scheduler.threads"] == (5, "flag")
    assert rows["handlers.local.modules"] == (["json", "csv"], "flag")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("scheduler.threads", "--set scheduler.threads: write KEY=VALUE"),
        ("=3", "--set =3: write KEY=VALUE"),
        ("scheduler.thread=3", 'flag: scheduler.thread: there is no such key; did you mean "threads"?'),
        ("scheduler.threads=many", "flag: components.scheduler.threads: is the text"),
    ],
)
def test_flags_that_are_wrong_are_code_2_and_one_line(
    setting: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("plain.yaml", "--set", setting) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_a_flag_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("plain.yaml", "--set", "tornado.port=1", "--set", "tornado.port=2") == 2
    assert capsys.readouterr().err == "--set tornado.port: is given twice\n"


def test_run_takes_flags_too_and_refuses_what_they_enable(folder: Path) -> None:
    command = [sys.executable, "-m", "sz_shells.cli.main", "run", "plain.yaml", "--set", "tornado.enabled=true"]
    environ = {"PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("flag: components.tornado.enabled: the component tornado is not part of this")


def test_modules_that_cannot_be_found_are_said_in_the_same_pass_as_errors(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "components:\n  handlers: {local: {modules: [not_there]}}\n  tornadoo: {}\n  scheduler: {threads: x}\n"
    (folder / "bad.yaml").write_text(text)
    assert check("bad.yaml") == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line[: line.index(": ")] for line in lines] == ["bad.yaml:2", "bad.yaml:3", "bad.yaml:4"]
    assert '"not_there" cannot be found' in lines[0]


def test_without_imports_modules_are_looked_up_all_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "loud.py").write_text("raise RuntimeError('imported')\n")
    (folder / "m.yaml").write_text("components:\n  handlers: {local: {modules: [not_there, loud]}}\n")
    assert (
        check("m.yaml", "--no-imports", "--set", "tornado.enabled=false", "--set", "handlers.remote.enabled=false") == 0
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert '"not_there" cannot be found' in line
    assert check("m.yaml") == 0
    assert "imported" in capsys.readouterr().err


def test_the_table_writes_values_as_yaml_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("plain.yaml", "--effective") == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if "tornado.enabled" in line]
    assert row == ["components.tornado.enabled", "false", "preset", "autonomous", "(built", "in)"]


def test_the_schema_is_printed_without_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--schema") == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


def test_a_component_that_quotes_a_secret_in_its_error_does_not_get_it_into_the_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "dist").mkdir()
    install(folder / "dist", monkeypatch)
    (folder / "s.yaml").write_text(
        "deployment: {mode: autonomous}\n"
        "components: {scheduler: {datastore: {type: memory}}, odd: {start: blab, token: 'Bearer ${TOKEN}'}}\n"
    )
    command = [sys.executable, "-m", "sz_shells.cli.main", "run", "s.yaml", "--verbose"]
    environ = {"TOKEN": "hunter2", "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "cannot log in with Bearer ***" in ended.stderr
    assert "hunter2" not in ended.stderr


def test_secrets_show_as_references_and_lines_do_not_wrap_in_a_pipe(folder: Path) -> None:
    url = "postgresql://shop:${DB_PASSWORD}@" + "a-very-long-name-of-a-host." * 12 + "internal/schedules"
    (folder / "s.yaml").write_text(
        f"components:\n  scheduler: {{datastore: {{type: postgresql, url: '{url}'}}, thread: 1}}\n"
    )
    command = [sys.executable, "-m", "sz_shells.cli.main", "check", "s.yaml", "--effective"]
    environ = {"DB_PASSWORD": "hunter2", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "40"}
    wrong = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
    (folder / "s.yaml").write_text((folder / "s.yaml").read_text().replace(", thread: 1", ""))
    right = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert right.returncode == 0
    assert "hunter2" not in right.stdout + right.stderr
    assert "***" in right.stdout
