"""`schedulezero keys`: what it writes, what it says, and what it keeps to itself."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from sz_runtime.config import parse_config
from sz_shells.cli.keys import list_, new, revoke
from sz_shells.cli.main import build_app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schedulezero.yaml").write_text("deployment: {name: office}\n")
    return tmp_path


def run(*words: str) -> Any:
    return build_app()(["keys", *words], exit_on_error=False, result_action="return_value")


def secrets(directory: Path) -> list[str]:
    return [path.read_text().strip() for path in directory.glob("*.secret")]


def test_the_keys_of_a_server_and_its_handlers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("new", "server", "--server") == 0
    assert run("new", "edge-1", "--method", "collect", "--method", "alert") == 0
    assert run("new", "edge-2", "--handler-id", "the second edge") == 0
    said = capsys.readouterr().out
    keys = folder / "deployments" / "office" / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.glob("*.secret")} == {0o600}
    assert len(secrets(keys)) == 3
    assert not any(secret in said for secret in secrets(keys))
    assert "deployments/office/keys/edge-1.secret   belongs to the handler's host alone" in said

    assert run("list", "-o", "json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(key["name"], key["role"], key["handler_id"], key["methods"]) for key in listed] == [
        ("edge-1", "handler", "edge-1", ["collect", "alert"]),
        ("edge-2", "handler", "the second edge", None),
        ("server", "server", None, None),
    ]
    assert said.count(f'server_public_key: "{listed[2]["public_key"]}"') == 3
    assert said.count(f"--server-key '{listed[2]['public_key']}' --secret-key edge-") == 2


def test_without_a_key_of_the_server_it_is_said_how_to_make_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("new", "edge-1")
    assert capsys.readouterr().out.endswith("On the server, make its key:\n    schedulezero keys new server --server\n")


def test_on_a_handler_s_host_nobody_is_told_to_make_a_key_of_the_server_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("new", "edge-1", "--dir", "my keys")
    said = capsys.readouterr().out
    assert "On the handler's host that is as it should be: send edge-1.pub to the server" in said
    assert said.endswith("schedulezero keys new server --server --dir 'my keys'\n")


def test_what_is_printed_can_stand_in_a_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("new", "server", "--server")
    capsys.readouterr()
    run("new", "edge", "-o", "json")
    made = json.loads(capsys.readouterr().out)
    text = "\n".join(
        [
            "components:",
            "  zmq_client:",
            "    enabled: true",
            "    server_address: tcp://127.0.0.1:5556",
            f"    server_public_key: {json.dumps(made['server_public_key'])}",
            f"    secret_key: file:{made['secret_file']}",
        ]
    )
    client = parse_config(text).components.zmq_client
    assert client.server_public_key == made["server_public_key"]
    assert client.secret_key == Path(made["secret_file"]).read_text().strip()


def test_a_revoked_key_stays_revoked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new("edge", directory="keys")
    assert revoke("edge", directory="keys") == 0
    first = capsys.readouterr().out.splitlines()[-1]
    assert first.startswith("edge: void since 20")
    assert revoke("edge", directory="keys") == 0
    assert capsys.readouterr().out.splitlines() == [first]
    assert list_(directory="keys", output="json") == 0
    assert json.loads(capsys.readouterr().out)[0]["revoked"] == first.removeprefix("edge: void since ")


def test_a_new_server_key_takes_the_place_of_a_revoked_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new("first", server=True, directory="keys")
    with pytest.raises(SystemExit):
        new("second", server=True, directory="keys")
    assert "has a server key already, first; to replace it, revoke it first" in capsys.readouterr().err
    revoke("first", directory="keys")
    assert "give its\npublic key to every handler, and restart the server" in capsys.readouterr().out
    assert new("second", server=True, directory="keys") == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["new", "edge"], 1, "keys/edge.secret: is there already; a key is never overwritten: choose another name"),
        (["new", "../edge"], 1, "'../edge' cannot name a key: use letters, digits"),
        (["new", "e", "--handler-id", ""], 1, "handler id: is empty text, but has to name something"),
        (["new", "e", "--handler-id", " e"], 1, "handler id: begins or ends with a space; take it away"),
        (["new", "e", "--method", "a\nb"], 1, "method: holds control or other invisible characters"),
        (["new", "e", "--server", "--method", "a"], 2, "it has neither --handler-id nor --method"),
        (["revoke", "egde"], 1, "keys has no key 'egde'; did you mean \"edge\"?"),
        (["revoke", "../keys/edge"], 1, "keys has no key '../keys/edge'"),
    ],
)
def test_what_cannot_be_done_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    new("edge", directory="keys")
    with pytest.raises(SystemExit) as ended:
        run(*words, "--dir", "keys")
    assert ended.value.code == code
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in Path("keys").iterdir()) == ["edge.pub", "edge.secret"]


def test_files_that_hold_no_key_are_named_and_the_others_listed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new("edge", directory="keys")
    Path("keys/odd.pub").write_text("role: handler\npublic_kee: x\n")
    Path("keys/half.pub").write_bytes(b"\xff\xfe")
    capsys.readouterr()
    assert list_(directory="keys") == 1
    found = capsys.readouterr()
    assert found.out.splitlines()[-1].startswith("edge")
    assert found.err.splitlines() == [
        "keys/half.pub:1: is not UTF-8 (this looks like UTF-16); save the file as UTF-8",
        'keys/odd.pub:2: public_kee: unknown key; did you mean "public_key"?',
    ]


def test_a_directory_without_keys(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_() == 0
    assert capsys.readouterr().out == "deployments/office/keys: no keys\n"
