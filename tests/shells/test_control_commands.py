"""The commands that talk to a running server, and the one that begins a deployment."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sz_protocol.commands import Done
from sz_protocol.queries import RunsPage
from sz_protocol.records import Outcome, Run
from sz_runtime.config import load_config
from sz_shells.cli.control import cancel, pause, reload, resume, run_now, trigger
from sz_shells.cli.handlers import handlers
from sz_shells.cli.init import init
from sz_shells.cli.status import status
from sz_shells.stores.sqlite import SqliteStore
from tests.faults.server import ROOT, Server

YEARLY = "{id: yearly, handler_id: h, method: tick, trigger: {type: cron, expression: '0 0 1 1 *'}}"
HANDLERS = """
import anyio
from sz_runtime.handlers import register_local

@register_local("h")
async def tick():
    return "tick"

@register_local("h")
async def nap(seconds):
    await anyio.sleep(seconds)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    made.write(YEARLY, h=HANDLERS)
    made.start()
    made.wait_for((made.folder / "control.sock").exists)
    yield made
    made.kill()


@pytest.fixture
def config(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(server.folder)
    return str(server.config)


def failing(command: Callable[..., int], *args: Any, **options: Any) -> int:
    """The exit code of a command that ends with one."""
    with pytest.raises(SystemExit) as end:
        command(*args, **options)
    assert isinstance(end.value.code, int)
    return end.value.code


def the_run(server: Server, run_id: str) -> Run | None:
    return next((run for run in server.runs() if run.run_id == run_id), None)


def succeeded(server: Server, run_id: str) -> bool:
    run = the_run(server, run_id)
    return run is not None and run.outcome is Outcome.SUCCEEDED


def test_pause_and_resume(server: Server, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pause("yearly", config, reason="the database moves") == 0
    assert server.schedules()["yearly"].reason == "the database moves"
    assert resume("yearly", config, missed="all", output="json") == 0
    out = capsys.readouterr().out
    assert out.startswith("yearly: paused\n")
    assert json.loads(out.removeprefix("yearly: paused\n")) == {"ok": True}
    assert resume("yearly", config) == 1
    assert "yearly' is active, not paused" in capsys.readouterr().err


def test_errors_in_schedules_do_not_keep_anybody_from_pausing_one(
    server: Server, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = server.config.read_text()
    try:
        server.config.write_text(f"{before}  - {{id: half}}\n")
        assert pause("yearly", config) == 0
        out, err = capsys.readouterr()
        assert out == "yearly: paused\n"
        assert err == f"{config}: 3 errors below schedules: `schedulezero check` tells\n"
        assert resume("yearly", config) == 0
        assert status(config) == 0
        server.config.write_text(before.replace("mode: minimal", "mode: minimall"))
        assert failing(pause, "yearly", config) == 2
    finally:
        server.config.write_text(before)


def test_resume_says_what_all_leaves_out(
    server: Server, config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [Done("7 of 12 missed"), Done("7 of 12 missed"), Done(), Done("r{1}")]
    monkeypatch.setattr("sz_shells.links.control_client.ControlClient.ask", lambda self, request: answers.pop(0))
    assert resume("a{b}", config, missed="all") == 0
    assert resume("a{b}", config, missed="all", output="json") == 0
    out = capsys.readouterr().out
    assert out.startswith("a{b}: resumed; 7 of 12 missed\n")
    assert json.loads(out.split("\n", 1)[1]) == {"ok": True, "left_out": "7 of 12 missed"}
    assert resume("a{b}", config, missed="all") == 0
    assert trigger("a{b}", config) == 0
    assert capsys.readouterr().out == "a{b}: resumed\na{b}: run r{1}\n"


def test_status_says_which_schedules_do_not_fire_and_why(
    server: Server, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pause("yearly", config, reason="the database moves") == 0
    try:
        capsys.readouterr()
        assert status(config, output="json") == 0
        (held,) = json.loads(capsys.readouterr().out)["held"]
        assert datetime.now(UTC) - datetime.fromisoformat(held.pop("since")) < timedelta(minutes=1)
        assert held == {"schedule_id": "yearly", "state": "paused", "reason": "the database moves"}
        assert status(config) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("yearly"))
        assert line.split(maxsplit=3)[:2] == ["yearly", "paused"]
        assert line.endswith("the database moves")
    finally:
        resume("yearly", config)
    capsys.readouterr()
    assert status(config, output="json") == 0
    assert json.loads(capsys.readouterr().out)["held"] == []


def test_trigger_and_run_now_print_the_run_and_one_key_runs_once(
    server: Server, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trigger("yearly", config, key="order-7", output="json") == 0
    assert trigger("yearly", config, key="order-7", output="json") == 0
    first, second = (json.loads(part + "}") for part in capsys.readouterr().out.split("}")[:2])
    assert first == second
    server.wait_for(lambda: succeeded(server, first["run_id"]))
    assert run_now("h", "nap", config, params='{"seconds": 0}') == 0
    said = capsys.readouterr().out
    assert said.startswith("h.nap: run ")
    server.wait_for(lambda: succeeded(server, said.split()[-1]))


def test_cancel_stops_a_run(server: Server, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_now("h", "nap", config, params='{"seconds": 60}', output="json") == 0
    run_id = json.loads(capsys.readouterr().out)["run_id"]
    assert cancel(run_id, config) == 0

    def is_cancelled() -> bool:
        run = the_run(server, run_id)
        return run is not None and run.outcome is Outcome.CANCELLED

    server.wait_for(is_cancelled)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (lambda config: pause("nobody", config), "no schedule 'nobody'"),
        (lambda config: trigger("nobody", config), "no schedule 'nobody'"),
        (lambda config: cancel("nothing", config), "no run nothing"),
        (lambda config: run_now("h", "nothing", config), "handler 'h' has no method 'nothing' here"),
    ],
)
def test_what_the_node_refuses_is_code_1_and_one_line(
    config: str, command: Callable[[str], int], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(config) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("params", ["{", "[1]", '{"a": NaN}', "7"])
def test_parameters_that_are_none_are_a_usage_error(
    config: str, params: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(run_now, "h", "tick", config, params=params) == 2
    assert "--params" in capsys.readouterr().err


def test_a_refusal_in_json_has_its_code_for_programs(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pause("nobody", config, output="json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"ok": False, "code": "unknown_schedule", "message": "no schedule 'nobody'"}


def test_status_of_a_running_server(server: Server, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(config, output="json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert server.process is not None
    assert shown["pid"] == server.process.pid
    assert {c["name"]: c["state"] for c in shown["components"]} == dict.fromkeys(
        ("handlers", "scheduler", "control"), "running"
    )
    assert shown["schedules"] == {"active": 1}
    assert shown["next_fires"][0]["schedule_id"] == "yearly"
    assert status(config) == 0
    table = capsys.readouterr().out
    assert "schedules: 1 active" in table
    assert "\x1b" not in table, "no colours outside of a terminal"


def test_reload_says_what_changed(server: Server, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = server.config.read_text()
    try:
        server.config.write_text(
            f"{before}  - {YEARLY.replace('yearly', 'second')}\n".replace("grace: 10s", "grace: 9s")
        )
        assert reload(config) == 0
        assert capsys.readouterr().out.splitlines() == [
            "schedules: 1 added",
            "components.scheduler.drain_grace: 10 -> 9: needs a restart",
        ]
        assert reload(config, output="json") == 0
        assert json.loads(capsys.readouterr().out)["changes"] == [
            "components.scheduler.drain_grace: 10 -> 9: needs a restart"
        ]
        server.config.write_text(f"{before}  - {{id: half}}\n")
        assert failing(reload, config) == 2
        assert f"{server.config}:" in capsys.readouterr().err
    finally:
        server.config.write_text(before)
    assert reload(config) == 0
    assert reload(config) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing has changed"


# --- without a server ------------------------------------------------------------------------------------------------


def test_without_a_server_commands_say_so_with_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Server(tmp_path)
    made.write(YEARLY, h=HANDLERS)
    for command in (lambda: pause("yearly", str(made.config)), lambda: reload(str(made.config))):
        assert failing(command) == 1
        assert f"no server runs here: there is no {tmp_path}/control.sock" in capsys.readouterr().err


def test_status_without_a_server_reads_the_store_with_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Server(tmp_path)
    made.write(YEARLY, h=HANDLERS)
    assert status(str(made.config), output="json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown.keys() == {"running", "reason", "deployment"}
    made.start()
    made.wait_for(lambda: "component_running component=control" in made.tail())
    made.process.kill()  # type: ignore[union-attr]
    made.process.wait()  # type: ignore[union-attr]
    assert status(str(made.config)) == 1
    out, err = capsys.readouterr()
    assert "is gone" in err
    assert "schedules: 1 active" in out


def test_a_deployment_on_memory_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "schedulezero.yaml"
    file.write_text("deployment: {mode: autonomous}\ncomponents: {scheduler: {datastore: {type: memory}}}\n")
    assert status(str(file)) == 1
    assert "no server runs here" in capsys.readouterr().err


# --- init ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "minimal", "autonomous", "distributed"])
def test_init_writes_what_checks_cleanly_and_runs_at_once(
    mode: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my deployment"
    assert init(folder, mode=mode) == 0
    assert "schedulezero run" in capsys.readouterr().out
    monkeypatch.chdir(folder)
    config = load_config("schedulezero.yaml", environ={})
    assert (config.deployment.name, config.deployment.mode) == ("my-deployment", mode)
    assert config.warnings == ()
    text = (folder / "schedulezero.yaml").read_text().replace("seconds: 10}", "seconds: 0.2}")
    (folder / "schedulezero.yaml").write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-m", "sz_shells.cli.main", "run"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 20
        while not _has_greeted(folder):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        assert status(output="json") == 0
        assert json.loads(capsys.readouterr().out)["warnings"] == []
    finally:
        process.terminate()
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "level=warning" not in log
    assert "level=error" not in log


def _has_greeted(folder: Path) -> bool:
    database = folder / "schedulezero_jobs.db"
    if not (folder / "control.sock").exists():
        return False
    return bool(SqliteStore(database).query(RunsPage(outcome=Outcome.SUCCEEDED)))


def test_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my_handlers.py").write_text("mine")
    assert failing(init, tmp_path) == 2
    assert "my_handlers.py: is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["my_handlers.py"]
    assert (tmp_path / "my_handlers.py").read_text() == "mine"


def test_init_leaves_no_half_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert failing(init, tmp_path / "file" / "below") == 1
    assert "cannot be written" in capsys.readouterr().err
    opened = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        if path.name == "my_handlers.py":
            raise OSError(28, "No space left on device", str(path))
        return opened(path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    assert failing(init, tmp_path / "new") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


def test_handlers_says_where_nobody_can_register(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert handlers(config, output="json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert handlers(config) == 0
    assert "handlers.remote.enabled" in capsys.readouterr().out
