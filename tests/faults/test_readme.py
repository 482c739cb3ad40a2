"""The README's "On other machines", word for word: its files in a bare directory, and its commands one after another.
Only the port is another one, since somebody may have 5556."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import free_port
from tests.faults.server import ROOT, Server

README = (ROOT / "README.md").read_text()
PLAIN = {"handlers", "run-now", "runs", "keys"}


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of one language in one section."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


class Reader(Server):
    """Somebody who does what stands there, in a directory of his own."""

    def __init__(self, folder: Path, backend: str) -> None:
        super().__init__(folder, backend)
        self.port = str(free_port())
        self.under_way: dict[str, subprocess.Popen[bytes]] = {}

    def type(self, line: str) -> str:
        """One command; what it says. `run` and `worker` go on, each instead of the one before."""
        words = shlex.split(line.replace("5556", self.port), comments=True)
        assert words[0] == "schedulezero"
        if words[1] in PLAIN:
            done = self.cli(*words[1:])
            assert done.returncode == 0, done.stderr
            return done.stdout
        self.end(words[1])
        if words[1:] == ["run"]:
            address = "components.handlers.remote.registration_server.address"
            words += ["--set", f"{address}=tcp://127.0.0.1:{self.port}"]
        with (self.folder / f"{words[1]}.log").open("wb") as log:
            self.under_way[words[1]] = subprocess.Popen(
                [sys.executable, "-m", "sz_shells.cli.main", *words[1:], "--backend", self.backend],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=log,
                stderr=log,
            )
        self.wait_for(lambda: self.said(words[1], "registration_server_listens", "event=registered"))
        return ""

    def said(self, command: str, *words: str) -> bool:
        """Whether one that goes on has logged one of these."""
        return any(word in (self.folder / f"{command}.log").read_text() for word in words)

    def tail(self) -> str:
        """What they logged."""
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    def end(self, command: str) -> None:
        """SIGTERM to the one that goes on, if there is one."""
        process = self.under_way.pop(command, None)
        if process is not None:
            process.terminate()
            assert process.wait(20) == 0


@pytest.fixture
def reader(tmp_path: Path, anyio_backend: str) -> Iterator[Reader]:
    made = Reader(tmp_path, anyio_backend)
    yield made
    for process in made.under_way.values():
        process.kill()
        process.wait()


def test_on_other_machines_word_for_word(reader: Reader) -> None:
    (own_handlers,) = blocks("Your own jobs", "python")
    (own_config,) = blocks("Your own jobs", "yaml")
    (sensors,) = blocks("On other machines", "python")
    (listening,) = blocks("On other machines", "yaml")
    on_this_one, beyond = blocks("On other machines", "sh")
    (reader.folder / "handlers.py").write_text(own_handlers)
    (reader.folder / "sensors.py").write_text(sensors)
    (reader.folder / "schedulezero.yaml").write_text(re.sub(r"  handlers: .*\n", listening, own_config))

    said = {line.split("#")[0].split()[1]: reader.type(line) for line in on_this_one.splitlines()}
    assert re.search(r"^roof +present .* measure ", said["handlers"], re.MULTILINE)
    reader.wait_for(lambda: re.search(r"roof\.measure +succeeded", reader.type("schedulezero runs")))

    for line in beyond.replace("\\\n", "").splitlines():
        reader.type(line)
        if " worker " in line:
            assert reader.said("run", " encrypted\n")
            again = next(line for line in on_this_one.splitlines() if "run-now" in line)
            reader.type(again)
            reader.wait_for(lambda: reader.type("schedulezero runs").count("succeeded") == 2)
    reader.wait_for(lambda: reader.said("worker", "the key is not allowed"))
    for command in ("worker", "run"):
        reader.end(command)
