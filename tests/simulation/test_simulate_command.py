"""`schedulezero simulate`: what it prints, in which shape, and the codes it ends with."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.dom import minidom

import pytest

from sz_runtime.simulation.drawing import draw_plan
from sz_runtime.simulation.invariants import INVARIANTS
from sz_runtime.simulation.mutants import MUTANTS, planted
from sz_runtime.simulation.scenario_text import plan_to_text
from sz_shells.cli.simulate import simulate as command

CONFIG = """
deployment: {name: test}
schedules:
  - {id: tick, handler_id: reports, method: build, trigger: {type: interval, seconds: 30}, timeout: 10}
  - {id: nightly, handler_id: reports, method: sweep, trigger: {type: cron, expression: "*/5 * * * *"}, misfire: all}
"""


def simulate(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    command = [sys.executable, "-m", "sz_shells.cli.main", "simulate", *arguments]
    root = str(Path(__file__).parents[2])
    environment = {"PYTHONPATH": root, "PATH": "/usr/bin:/bin", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd or root, env=environment, timeout=110)


def test_seeds_that_hold_end_with_0_and_the_same_hash_each_time() -> None:
    first, again = (simulate("--seeds", "1..3", "-o", "json") for _ in range(2))
    assert (first.returncode, first.stdout) == (0, again.stdout)
    rows = json.loads(first.stdout)["seeds"]
    assert [row["seed"] for row in rows] == [1, 2, 3]
    assert all(len(row["trace_hash"]) == 32 and row["violations"] == [] for row in rows)


def test_one_seed_and_several_processes() -> None:
    one = simulate("--seeds", "2", "-o", "json")
    two = simulate("--seeds", "1..3", "--jobs", "2", "-o", "json")
    assert json.loads(one.stdout)["seeds"][0] == json.loads(two.stdout)["seeds"][1]


def test_a_caught_mutant_ends_with_1_and_the_line_that_replays_it() -> None:
    caught = simulate("--mutant", "random_run_key", "-o", "json")
    assert caught.returncode == 1
    assert "replay: schedulezero simulate --seeds 0..0 --mutant random_run_key" in caught.stderr
    (row,) = json.loads(caught.stdout)["seeds"]
    assert row["violations"][0]["invariant"] == "RunKeyDerived"


def test_a_mutant_that_survives_ends_with_0() -> None:
    survived = simulate("--mutant", "at_most_once_restarted", "--seeds", "0..0")
    assert survived.returncode == 0
    assert "survived" in survived.stdout


def test_a_configuration_is_simulated_without_its_handlers(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    done = simulate(str(tmp_path / "config.yaml"), "--seeds", "1..2", "--hours", "0.5", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(row["simulated_seconds"] >= 1800 for row in json.loads(done.stdout)["seeds"])


def test_a_scenario_is_played_and_the_report_can_be_read(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "specs" / "scenarios" / "zombie.scenario"
    played = simulate("--scenario", str(script), "--report", str(tmp_path / "page.html"))
    assert (played.returncode, played.stdout) == (0, script.read_text("utf-8"))
    page = (tmp_path / "page.html").read_text("utf-8")
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    titles = [node.toxml() for node in minidom.parseString(svg).getElementsByTagName("title")]
    assert any("life 1 of b" in title for title in titles)
    assert any("stands still: stall" in title for title in titles)
    assert any("succeeded" in title for title in titles)
    assert "fenced" in page
    assert "every invariant held" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", ""), "nothing is loaded from outside"


def test_a_report_shows_workers_their_messages_what_was_cut_and_when_it_healed(tmp_path: Path) -> None:
    done = simulate("--seeds", "6", "--report", str(tmp_path / "page.html"))
    assert done.returncode == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    picture, names = (part[part.index("<svg") :] for part in page.split("</svg>")[:2])
    assert re.findall(r">([^<]+)</text>", names)[:4] == ["a", "w1", "w2", "db"]
    titles = re.findall(r"<title>([^<]+)</title>", picture)
    for what in ("life 1 of w1", "dispatch ", "results ", "beat ", "crashed at", "cut off: ", "everything is healed"):
        assert any(title.startswith(what) for title in titles), what
    assert any(" on w1: succeeded" in title for title in titles)


def test_the_line_that_replays_a_seed_does_so_for_any_length() -> None:
    caught = simulate("--mutant", "random_run_key", "--hours", "0.0612345678", "-o", "json")
    (replay,) = [line for line in caught.stderr.splitlines() if line.startswith("replay: schedulezero ")]
    arguments = replay.removeprefix("replay: schedulezero simulate ").partition("   (")[0].split(" ")
    again = simulate(*arguments, "-o", "json")
    assert (again.returncode, again.stdout) == (1, caught.stdout)


def test_a_seed_that_fails_becomes_a_short_scenario_that_fails_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "seed-4.scenario"
    with planted("random_run_key"):
        # Nobody has told the command of the bug: it is as if it were in the protocol.
        assert command(seeds="4") == 1
        told = capsys.readouterr()
        assert "broke an invariant" in told.out
        assert "replay: schedulezero simulate --seeds 4..4   (schedulezero " in told.err
        assert "shrunk: schedulezero simulate --scenario seed-4.scenario" in told.err
        assert script.read_text("utf-8") in told.err
        assert command(scenario=script) == 1
        assert "RunKeyDerived" in capsys.readouterr().out
    assert command(scenario=script) == 0
    steps = [line for line in script.read_text("utf-8").splitlines() if line and line[0] not in "#" and line[0] != " "]
    assert len(steps) < len(plan_to_text(draw_plan(4)).splitlines()) / 2


def test_a_scenario_that_fails_under_a_mutant_ends_with_1(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "specs" / "scenarios" / "zombie.scenario"
    assert simulate("--scenario", str(script), "--mutant", "no_fence").returncode == 1


def test_lists() -> None:
    invariants = json.loads(simulate("--list-invariants", "-o", "json").stdout)
    assert [row["id"] for row in invariants] == [invariant.id for invariant in INVARIANTS]
    mutants = json.loads(simulate("--list-mutants", "-o", "json").stdout)
    assert [row["name"] for row in mutants] == list(MUTANTS)
    assert "NoMissedFire" in simulate("--list-invariants").stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--seeds", "3..1"), "holds no seed"),
        (("--seeds", "many"), "neither a number nor a range"),
        (("--mutant", "random_runkey"), 'did you mean "random_run_key"'),
        (("--jobs", "0"), "at least one process"),
        (("--report", "/nowhere/page.html"), "cannot write /nowhere/page.html"),
        (("--hours", "-1"), "between 0 and"),
        (("--scenario", "nowhere.scenario"), "cannot read nowhere.scenario"),
        (("--scenario", "x", "--seeds", "1"), "plays one script"),
        (("nowhere.yaml",), "nowhere.yaml"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments: tuple[str, ...], complaint: str) -> None:
    wrong = simulate(*arguments)
    assert wrong.returncode == 2
    assert complaint in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_broken_scenario_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.scenario").write_text(
        "job tick {trigger: {type: interval, seconds: 5}}\nstart a\nexplode a\nfinish\n"
    )
    wrong = simulate("--scenario", str(tmp_path / "x.scenario"))
    assert wrong.returncode == 2
    assert 'line 3: no step begins with "explode"' in wrong.stderr
