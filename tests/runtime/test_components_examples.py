"""The examples of embedding run as they stand, with every warning an error."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "specs" / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(folder.iterdir()) == [], "an embedded node without a file leaves none behind"
    return done.stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_program_of_anyio_runs_a_node(tmp_path: Path, backend: str) -> None:
    said = run("embed_anyio.py", tmp_path, backend)
    assert 'by hand succeeded "thump"' in said
    assert said.count('beat succeeded "thump"') >= 2
    assert said.splitlines()[-1] == "stopped: handlers, scheduler"


def test_a_program_of_asyncio_starts_changes_and_stops_a_node(tmp_path: Path) -> None:
    said = run("embed_asyncio.py", tmp_path)
    assert "['schedules: 1 changed']" in said
    ticked = re.search(r"ticked (\d+) times", said)
    assert ticked is not None
    assert int(ticked[1]) >= 4


def test_a_program_of_trio_listens_to_a_node_and_is_cancelled(tmp_path: Path) -> None:
    said = run("embed_trio.py", tmp_path)
    assert said.count('beat succeeded "thump"') >= 2
    assert "stopped: {'handlers': 'stopped', 'event_broker': 'stopped', 'scheduler': 'stopped'}" in said


def test_the_specs_name_the_examples() -> None:
    text = (ROOT / "specs" / "components.md").read_text(encoding="utf-8")
    for example in EXAMPLES.glob("embed_*.py"):
        assert f"examples/{example.name}" in text
