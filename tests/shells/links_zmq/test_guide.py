"""specs/zmq.md: what it shows can be used as it stands."""

import re
import shlex
from pathlib import Path

import pytest
import zmq

from sz_runtime.config import parse_config
from sz_shells.cli.main import build_app
from sz_shells.links.zmq.key_files import read_public

GUIDE = (Path(__file__).parents[3] / "specs" / "zmq.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_the_configuration(tmp_path: Path) -> None:
    secret = tmp_path / "edge-1.secret"
    secret.write_bytes(zmq.curve_keypair()[1])
    (text,) = blocks("yaml")
    client = parse_config(text.replace("/etc/schedulezero", str(tmp_path))).components.zmq_client
    assert client.secret_key == secret.read_text()


def test_the_public_file(tmp_path: Path) -> None:
    (text,) = blocks("text")
    (tmp_path / "edge-1.pub").write_text(text)
    assert read_public(tmp_path / "edge-1.pub").methods == ("collect", "alert")


def test_the_commands() -> None:
    commands = [shlex.split(line, comments=True) for line in "".join(blocks("sh")).replace("\\\n", "").splitlines()]
    assert len(commands) == 4
    for program, *words in commands:
        assert program == "schedulezero"
        build_app().parse_args(words, exit_on_error=False)


def test_the_rules_are_numbered() -> None:
    assert re.findall(r"^\| (ZMQ-\d+) \|", GUIDE, re.MULTILINE) == [f"ZMQ-{number}" for number in range(1, 16)]


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda path: path.stem)
def test_rules_that_tests_name_are_there(path: Path) -> None:
    for rule in re.findall(r"ZMQ-\d+", path.read_text()):
        assert f"| {rule} |" in GUIDE or rule == "ZMQ-\\d+"
