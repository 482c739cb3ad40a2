"""`schedulezero worker`: what cannot work ends at once, with one clear message and the right code."""

import sys
from pathlib import Path

import pytest
from cyclopts import App, CycloptsError

from sz_protocol.attaching import Keep
from sz_shells.cli.main import build_app
from sz_shells.cli.options import Seconds
from sz_shells.cli.worker import outbox_of
from sz_shells.outboxes.sqlite import SqliteOutbox
from tests.contracts.outboxes import a_report

HANDLERS = "from sz_runtime.handlers import register_local\n\n@register_local\ndef work():\n    return 1\n"
SERVER = ("--server", "tcp://127.0.0.1:9")
GOOD = ("--handler-id", "edge-1", "--modules", "cw_good")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    # structlog is configured once a process, and what it has of this test's streams would outlive them.
    monkeypatch.setattr("sz_shells.cli.worker.set_up_logging", lambda verbose, hide: None)
    (tmp_path / "cw_good.py").write_text(HANDLERS)
    (tmp_path / "cw_broken.py").write_text("import os\n\nos.nothing\n")
    (tmp_path / "cw_empty.py").write_text("")
    return tmp_path


def refused(*words: str) -> int:
    """Run a command that has to end with a code."""
    with pytest.raises(SystemExit) as ended:
        build_app()(["worker", *words], exit_on_error=False, result_action="return_value")
    return int(str(ended.value.code))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*SERVER, "--handler-id", "edge-1", "--modules", "cw_broken"), "cw_broken.py:3: handler module cw_broken:"),
        ((*SERVER, "--handler-id", "edge-1", "--modules", "cw_empty"), "worker edge-1 has no handler to offer"),
        (("--server", "127.0.0.1:5556", *GOOD), "one is written as tcp://HOST:5556"),
        (("--server", "tcp://host:99999", *GOOD), "(ports up to 65535)"),
        (("--server", "tcp://host:0", *GOOD), "(ports up to 65535)"),
        ((*SERVER, *GOOD, "--tag", "zone"), "--tag zone: write KEY=VALUE, as in --tag zone=eu"),
        ((*SERVER, "--handler-id", "*", "--modules", "cw_good"), "no handler is called *"),
        ((*SERVER, *GOOD, *(f"--tag=t{n}=v" for n in range(51))), "has 51 tags, 50 are the limit"),
        ((*SERVER, *GOOD, "--concurrency", "0"), "concurrency has to be from 1 to 10000"),
        ((*SERVER, *GOOD, "--server-key", "k" * 40), "a secret key of its own is missing"),
        ((*SERVER, *GOOD, "--secret-key", "no.secret", "--server-key", "k" * 40), "no.secret: cannot be read"),
        ((*SERVER, *GOOD, "--server-key", "no.pub", "--secret-key", "no.secret"), "no.pub: is neither a public key"),
    ],
    ids=lambda value: value[-2] if isinstance(value, tuple) else "",
)
def test_what_cannot_work_is_said_and_ends_with_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert refused(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_an_outbox_that_cannot_be_had_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "text.db").write_text("no database " * 200)
    assert refused(*SERVER, *GOOD, "--outbox", "text.db") == 1
    assert "text.db: the file is not a SQLite database" in capsys.readouterr().err
    held = SqliteOutbox("held.db", "edge-1")
    held.open(lambda answers: None)
    assert refused(*SERVER, *GOOD, "--outbox", "held.db") == 1
    assert "held.db is in use by another worker (process " in capsys.readouterr().err
    held.submit(Keep(1, (a_report(1),)))
    held.close()


def test_where_the_outbox_lies_unless_it_is_said() -> None:
    assert outbox_of(None, "edge-1") == "deployments/edge-1/outbox.db"
    assert outbox_of(None, "../edge") == "deployments/..%2Fedge/outbox.db"
    assert outbox_of(None, "..") == "deployments/%2E%2E/outbox.db"
    assert outbox_of("here.db", "edge-1") == "here.db"
    assert outbox_of("memory", "edge-1") is None


@pytest.mark.parametrize(("text", "seconds"), [("2", 2), ("0.5", 0.5), ("250ms", 0.25), ("1m30s", 90)])
def test_durations_are_written_as_in_a_configuration(text: str, seconds: float) -> None:
    app = App()
    app.default(_kept)
    assert app(["--wait", text], result_action="return_value") == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "1 m", ""])
def test_what_is_no_duration_is_a_usage_error(text: str) -> None:
    app = App()
    app.default(_kept)
    with pytest.raises(CycloptsError):
        app([f"--wait={text}"], exit_on_error=False, print_error=False)


def _kept(*, wait: Seconds) -> float:
    return wait
