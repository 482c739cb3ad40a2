"""`schedulezero plan` as the command line calls it: tables, JSON, differences, history, and what is wrong."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclopts import CycloptsError

from sz_protocol.commands import Pause
from sz_protocol.definition import Definition
from sz_protocol.kernel.now import MINUTE_US
from sz_protocol.triggers import Cron, tzdata_version
from sz_shells.cli.main import build_app
from sz_shells.stores.sqlite import SqliteStore
from tests.protocol.explaining_rig import Ending, World, utc

HEAD = """\
deployment: {name: office, mode: minimal}
components:
  tornado: {enabled: false}
  scheduler: {datastore: {type: sqlite, path: "LEDGER"}}
  handlers: {local: {enabled: true, modules: [a_module_that_is_not_there]}}
schedules:
"""
NIGHTLY = """\
  - id: nightly
    handler_id: reports
    method: nightly
    trigger: {type: cron, expression: "30 2 * * *", timezone: Europe/Berlin}
"""
FIVE = """\
  - id: five
    handler_id: reports
    method: often
    trigger: {type: cron, expression: "*/5 * * * *"}
    timeout: 10m
"""
LITERAL = NIGHTLY.replace("id: nightly", "id: literal").replace("Berlin}", "Berlin, dst: literal}")
STUCK = """\
  - id: stuck
    handler_id: reports
    method: often
    trigger:
      type: all
      triggers: [{type: interval, seconds: 7}, {type: interval, seconds: 7, anchor: "2026-01-01T00:00:01Z"}]
"""


def write(folder: Path, *schedules: str, name: str = "schedulezero.yaml") -> str:
    file = folder / name
    file.write_text(HEAD.replace("LEDGER", str(folder / "ledger.db")) + "".join(schedules))
    return str(file)


def run(*tokens: str) -> int:
    """The command as the command line calls it; its exit code."""
    try:
        result = build_app()(["plan", *tokens], exit_on_error=False, print_error=False, result_action="return_value")
    except SystemExit as ended:
        return int(ended.code or 0)
    except CycloptsError:
        return 2
    return int(result)


def rows(capsys: pytest.CaptureFixture[str], *tokens: str) -> list[dict[str, Any]]:
    assert run(*tokens, "--output", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, list)
    return found


def test_json_is_a_list_of_fires_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, NIGHTLY, FIVE)
    found = rows(capsys, config, "--from", "2026-03-29T00:50", "--to", "2026-03-29T01:05:00Z")
    assert [(row["schedule_id"], row["fire_time"]) for row in found] == [
        ("five", "2026-03-29T00:50:00+00:00"),
        ("five", "2026-03-29T00:55:00+00:00"),
        ("five", "2026-03-29T01:00:00+00:00"),
        ("nightly", "2026-03-29T01:00:00+00:00"),
    ]
    assert found[3] == {
        "schedule_id": "nightly",
        "fire_time": "2026-03-29T01:00:00+00:00",
        "notes": ["gap: 02:30 does not exist, moved to 03:00"],
        "local_time": "2026-03-29T03:00:00+02:00",
        "timezone": "Europe/Berlin",
        "due_time": "2026-03-29T01:00:00+00:00",
    }
    overlap = "may overlap the run before it: timeout 10m > 5m gap; policy skip would skip it"
    assert found[0]["notes"] == [overlap]


def test_pain_14_a_fold_is_one_fire_whose_notes_tell_of_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = rows(capsys, write(tmp_path, NIGHTLY), "--from", "2026-10-25", "--to", "2026-10-26")
    assert row["notes"] == [
        "fold: first pass of 02:30",
        "fold: second pass of 02:30, left out, at 2026-10-25T01:30:00+00:00",
    ]


def test_json_never_lists_what_does_not_fire(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, LITERAL)
    assert run(config, "--from", "2026-03-29", "--to", "2026-03-30", "-o", "json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == []
    assert "literal: 2026-03-29T01:00:00+00:00: gap: 02:30 does not exist, skipped: dst is literal" in shown.err


def test_what_is_told_beside_the_json_comes_after_it_in_whole_lines(tmp_path: Path) -> None:
    config = write(tmp_path, FIVE, LITERAL)
    words = [config, "--from", "2026-03-29", "--to", "2026-03-30", "-o", "json"]
    command = [sys.executable, "-m", "sz_shells.cli.main", "plan", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    listed, end, told = done.stdout.rpartition("]\n")
    assert len(json.loads(listed + end)) == 288
    assert told == "literal: 2026-03-29T01:00:00+00:00: gap: 02:30 does not exist, skipped: dst is literal\n"


def test_the_table_shows_zone_and_utc_what_is_left_out_and_the_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, NIGHTLY, LITERAL, FIVE)
    assert run(config, "--from", "2026-03-29T00:55", "--to", "2026-03-29T01:10") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["fire", "time", "(UTC)", "local", "time", "schedule", "notes"]
    assert "2026-03-29T01:00:00+00:00  2026-03-29T03:00:00+02:00  literal  does not fire: gap: 02:30" in lines[3]
    assert "nightly  gap: 02:30 does not exist, moved to 03:00" in lines[4]
    assert lines[6] == (
        "4 fires from 2026-03-29T00:55:00+00:00 to 2026-03-29T01:10:00+00:00, 3 schedules, "
        f"time zones of {tzdata_version()}"
    )
    assert lines[8] == "load: starts per minute (UTC), stretches without any left out"
    assert [line.split() for line in lines[9:]] == [
        ["2026-03-29T00:55", "█" * 20, "1"],
        ["2026-03-29T01:00", "█" * 40, "2"],
        ["2026-03-29T01:05", "█" * 20, "1"],
    ]


def test_the_due_time_is_a_column_where_something_is_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, FIVE + "    spread: 2m\n")
    assert run(config, "--from", "2026-03-29", "--to", "2026-03-29T00:05") == 0
    shown = capsys.readouterr().out
    assert "due (UTC)" in shown
    (row,) = rows(capsys, config, "--from", "2026-03-29", "--to", "2026-03-29T00:05")
    assert row["due_time"] > row["fire_time"]
    assert row["due_time"] in shown


def test_a_long_stretch_has_bars_of_its_busiest_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write(tmp_path, FIVE), "--from", "2026-01-01", "--to", "2027-01-01") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "  five  " in line]) == 365 * 288
    load = lines[lines.index("load: starts in the busiest minute of each 28d (UTC), stretches without any left out") :]
    assert 12 <= len(load) - 1 <= 48
    assert "8064 in all" in load[2]


def test_an_empty_plan_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, NIGHTLY)
    assert rows(capsys, config, "--from", "2026-03-01", "--to", "2026-03-01") == []
    assert run(config, "--from", "2026-03-01", "--to", "2026-03-01T00:01") == 0
    assert capsys.readouterr().out.startswith("0 fires from")
    none = tmp_path / "none.yaml"
    none.write_text(HEAD.replace("schedules:\n", ""))
    assert rows(capsys, str(none), "--from", "2026-03-01", "--to", "2026-03-02") == []


def test_without_times_it_covers_the_coming_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(rows(capsys, write(tmp_path, FIVE))) == 288


def test_diff_shows_only_what_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path, NIGHTLY, FIVE)
    later = NIGHTLY.replace("30 2", "45 2").replace("nightly\n", "nightly\n", 1)
    new = write(tmp_path, later, FIVE.replace("10m", "1m"), LITERAL, name="new.yaml")
    span = ("--from", "2026-03-01", "--to", "2026-03-02")
    assert run(old, new, "--diff", *span, "-o", "json") == 0
    shown = capsys.readouterr()
    assert [(row["change"], row["schedule_id"], row["fire_time"]) for row in json.loads(shown.out)] == [
        ("added", "literal", "2026-03-01T01:30:00+00:00"),
        ("removed", "nightly", "2026-03-01T01:30:00+00:00"),
        ("added", "nightly", "2026-03-01T01:45:00+00:00"),
    ]
    assert shown.err == "five: the same fire times, but its definition differs otherwise\n"
    assert run(old, new, "--diff", *span) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line[0] for line in table[1:4]] == ["+", "-", "+"]
    assert table[4].startswith("3 differences from")
    assert "load" not in " ".join(table)
    assert rows(capsys, old, old, "--diff", *span) == []


def test_with_history_past_runs_and_pauses_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, FIVE, NIGHTLY)
    assert run(config, "--with-history") == 1
    assert "no ledger yet" in capsys.readouterr().err
    seven = Ending(7 * MINUTE_US)
    world = World(SqliteStore(tmp_path / "ledger.db"), utc("2026-03-01T08:58"), lambda start: seven)
    world.start()
    world.apply(Definition("five", "h", "m", Cron("*/5 * * * *")), Definition("nightly", "h", "m", Cron("30 2 * * *")))
    world.until("2026-03-01T10:00")
    world.ask(Pause("nightly"))
    found = rows(capsys, config, "--with-history", "--from", "2026-03-02", "--to", "2026-03-02T00:05")
    assert found[0]["notes"] == [
        "may overlap the run before it: 6 past runs took up to 7m > 5m gap; policy skip would skip it"
    ]
    (paused,) = rows(capsys, config, "--with-history", "--from", "2026-03-02T01:30", "--to", "2026-03-02T01:35")[1:]
    assert paused["notes"] == ["paused since 2026-03-01T10:00:00+00:00: does not fire"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--from", "soon"], "--from: 'soon' is no time: write it as in 2026-03-29"),
        (["--to", "2026-13-01"], "--to: '2026-13-01' is no time: month must be in 1..12"),
        (["--from", "2026-03-02", "--to", "2026-03-01"], "lies before --from"),
        (["--from", "1666-01-01"], "does not lie in the years 1900 to 2199"),
        (["--diff"], "needs both the second one and --diff"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(
    tokens: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write(tmp_path, NIGHTLY), *tokens) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_two_configurations_need_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, NIGHTLY)
    assert run(config, config) == 2
    assert "plan A B --diff compares two configurations" in capsys.readouterr().err


def test_a_wrong_configuration_ends_with_2_and_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, NIGHTLY.replace("30 2", "61 2"))
    assert run(config) == 2
    assert f"{config}:10: schedules[0].trigger.expression" in capsys.readouterr().err


def test_pain_15_a_schedule_that_cannot_advance_is_named_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, STUCK, FIVE)
    span = ("--from", "2026-03-01", "--to", "2026-03-01T01:00")
    assert run(config, *span, "-o", "json") == 1
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)) == 12
    assert "stuck: 2026-03-01T00:00:00+00:00: would be quarantined" in shown.err
    assert run(config, *span) == 1
    assert "stuck  does not fire: would be quarantined" in capsys.readouterr().out
    assert run(config, config, "--diff", *span) == 1


def test_an_output_that_knows_no_blocks_gets_plain_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert run(write(tmp_path, FIVE), "--from", "2026-03-01", "--to", "2026-03-01T00:05") == 0
    sys.stdout.flush()
    assert ("#" * 40).encode() in raw.getvalue()


def test_colours_are_for_terminals_and_obey_no_color(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, FIVE)
    span = ("--from", "2026-03-01", "--to", "2026-03-01T00:05")
    monkeypatch.setenv("FORCE_COLOR", "1")
    run(config, *span)
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    run(config, *span)
    assert "\x1b[3" not in capsys.readouterr().out


def test_planning_imports_no_handler_and_opens_no_store(tmp_path: Path) -> None:
    config = write(tmp_path, FIVE)
    code = (
        "import sys\n"
        "from sz_shells.cli.plan import plan\n"
        f"assert plan({config!r}, from_='2026-03-01', to='2026-03-02', output='json') == 0\n"
        "assert 'sqlite3' not in sys.modules and 'a_module_that_is_not_there' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 288
    assert not (tmp_path / "ledger.db").exists()
