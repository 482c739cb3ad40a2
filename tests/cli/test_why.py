"""`schedulezero why` end to end: the command over a real SQLite ledger, beside a server and without one."""

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cyclopts import CycloptsError

from sz_protocol.commands import Done, Pause, Resume, RunNow
from sz_protocol.definition import Definition, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.evidence import Question
from sz_protocol.explaining import Explanation
from sz_protocol.kernel.effects import StartRun
from sz_protocol.kernel.now import MINUTE_US, SECOND_US
from sz_protocol.moments import Moment
from sz_protocol.records import Outcome, Reason
from sz_protocol.tracing import Step
from sz_protocol.triggers import Cron, fires_between
from sz_shells.cli.main import build_app
from sz_shells.cli.why import _print as show
from sz_shells.cli.why import ask as ask_store
from sz_shells.stores.sqlite import SqliteStore
from tests.protocol.explaining_rig import Ending, World, utc

CONFIG = """\
deployment: {{name: office, mode: minimal}}
components:
  tornado: {{enabled: false}}
  scheduler: {{datastore: {{type: sqlite, path: "{path}"}}}}
  handlers: {{local: {{enabled: true, modules: [a_module_that_is_not_there]}}}}
schedules:
  - {{id: hourly, handler_id: h, method: m, trigger: {{type: cron, expression: "0 * * * *", timezone: Europe/Berlin}}}}
"""
KEYS = {
    "schedule_id", "fire_time", "local_time", "timezone", "verdict", "reason", "explanation", "trace", "run",
    "attempts", "other_matches", "fires_around", "schedule", "next_fires", "latest_runs", "did_you_mean",
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "schedulezero.yaml"
    file.write_text(CONFIG.format(path=tmp_path / "ledger.db"))
    return file


def run(*tokens: str) -> int:
    """The command as the command line calls it; its exit code."""
    try:
        result = build_app()(["why", *tokens], exit_on_error=False, print_error=False, result_action="return_value")
    except SystemExit as ended:
        return int(ended.code or 0)
    except CycloptsError:
        return 2
    return int(result)


def ask(target: str, config: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(target, str(config), "-o", "json") == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(answer) == KEYS
    return answer


def handler(start: StartRun) -> Ending:
    """`slow` takes 12 minutes; `flaky` fails at its first attempt; all others work."""
    if start.schedule_id == "slow" or start.schedule_id == "once":
        return Ending(12 * MINUTE_US)
    if start.schedule_id == "flaky" and start.attempt == 1:
        return Ending(SECOND_US, Outcome.FAILED, Reason.ERROR, "ValueError: the first try fails")
    return Ending()


FIVE = Cron("*/5 * * * *")
DEFINITIONS = (
    Definition("hourly", "h", "m", Cron("0 * * * *", "Europe/Berlin")),
    Definition("slow", "h", "m", FIVE, overlap=Overlap(OverlapPolicy.SKIP)),
    Definition("flaky", "h", "m", FIVE, retry=Retry(2, SECOND_US)),
    Definition("once", "h", "m", Cron("20 9 * * *"), semantics=Semantics.AT_MOST_ONCE),
    Definition("orphan", "h", "gone", FIVE),
    Definition("paused", "h", "m", FIVE),
    Definition("resumed", "h", "m", FIVE),
)


@pytest.fixture
def ledger(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A day's trouble: a crash at 09:22, nobody until 10:00; then the server runs on until 10:11."""
    world = World(SqliteStore(tmp_path / "ledger.db"), utc("2026-03-01T08:58"), handler)
    monkeypatch.setattr("sz_shells.cli.why.time.time_ns", lambda: world.now_us * 1000)
    world.start()
    world.apply(*DEFINITIONS)
    world.until("2026-03-01T09:02")
    world.ask(Pause("paused", "the disk is being replaced"))
    world.ask(Pause("resumed", "for an hour"))
    world.until("2026-03-01T09:22")
    world.kill()
    world.away_until("2026-03-01T10:00:30")
    world.start()
    world.ask(Resume("resumed", MisfirePolicy.SKIP))
    world.until("2026-03-01T10:11")
    return world


ACCOUNTS = {
    "hourly@2026-03-01T10:00": ("succeeded", "on_time", "ran on time"),
    "hourly@2026-03-01T11:00": ("succeeded", "late", "the server was down"),
    "hourly@2026-03-01T12:00": ("not_yet_due", "future", "it will be in 49m"),
    "hourly@2026-03-01T10:30": ("not_due", "no_fire_time", "the next one after it 2026-03-01T11:00:00+01:00"),
    "hourly@2026-02-01": ("before_creation", "before_creation", "did not exist yet"),
    "slow@2026-03-01T09:05": ("skipped", "overlap", "the run of 2026-03-01T09:00:00+00:00 was still active"),
    "slow@2026-03-01T09:15": ("running", "running", "executing, attempt 2"),
    "slow@2026-03-01T10:00": (
        "waiting",
        "catch_up",
        "the run of 2026-03-01T09:15:00+00:00 is still active ahead of it",
    ),
    "flaky@2026-03-01T09:10": ("succeeded", "retried", "of the attempts before it, 1 failed"),
    "flaky@2026-03-01T09:45": ("skipped", "coalesced", "the run of 2026-03-01T10:00:00+00:00 stands for it"),
    "flaky@2026-03-01T10:00": ("succeeded", "catch_up", "It stands for 7 fire times before it too"),
    "once@2026-03-01T09:20": ("lost", "crashed", "may or may not have been executed"),
    "orphan@2026-03-01T09:10": ("parked", "parked", "handler 'h' has no method 'gone' here"),
    "paused@2026-03-01T09:10": ("paused", "paused", "the disk is being replaced"),
    "resumed@2026-03-01T09:10": ("skipped", "paused", "the schedule was paused"),
    "resumed@2026-03-01T10:05": ("succeeded", "on_time", "ran on time"),
}


def test_pain_25_every_instant_late_or_missing_has_one_reasoned_account(
    ledger: World, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read beside the server, which has the file open and locked."""
    for target, (verdict, reason, words) in ACCOUNTS.items():
        answer = ask(target, config, capsys)
        assert (answer["verdict"], answer["reason"]) == (verdict, reason), (target, answer["explanation"])
        assert words in answer["explanation"], (target, answer["explanation"])


def test_pain_25_no_due_instant_of_the_day_is_without_a_reason(ledger: World) -> None:
    told: Counter[str] = Counter()
    for definition in DEFINITIONS:
        for fire_us in fires_between(definition.trigger, utc("2026-03-01T08:58"), utc("2026-03-01T10:11")):
            answer = ask_store(ledger.store, Question(definition.id, ledger.now_us, Moment(fire_us, 1, naive=False)))
            assert answer.fire_us == fire_us
            assert answer.reason
            assert answer.text
            told[answer.verdict] += 1
    assert told.total() == 2 + 1 + 5 * 15
    assert not {"unaccounted", "undecided", "not_due"} & set(told)
    assert set(told) == {"succeeded", "skipped", "running", "waiting", "lost", "parked", "paused"}


def test_pain_25_the_same_account_when_no_server_runs(
    ledger: World, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ask("flaky@2026-03-01T09:10", config, capsys)
    ledger.kill()
    ledger.away_until("2026-03-01T10:21")
    assert ask("flaky@2026-03-01T09:10", config, capsys) == before
    down = ask("hourly@2026-03-01T10:00:00Z", config, capsys)
    assert down["verdict"] == "succeeded"
    undecided = ask("flaky@2026-03-01T10:20", config, capsys)
    assert (undecided["verdict"], undecided["reason"]) == ("undecided", "server_down")
    assert "is `schedulezero run` running?" in undecided["explanation"]


def test_the_trace_and_the_row_stand_in_json(ledger: World, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask("flaky@2026-03-01T09:10", config, capsys)
    assert answer["fire_time"] == "2026-03-01T09:10:00+00:00"
    assert answer["run"]["attempt"] == 2
    assert answer["attempts"][0] == {
        "attempt": 1,
        "outcome": "failed",
        "reason": "error",
        "started_at": "2026-03-01T09:10:00+00:00",
        "finished_at": "2026-03-01T09:10:01+00:00",
        "error": "ValueError: the first try fails",
    }
    assert [step["what"] for step in answer["trace"]] == [
        "fire time",
        "decided: to be run",
        "attempt 1 started",
        "attempt 1 failed (error): ValueError: the first try fails",
        "attempt 2 started",
        "attempt 2 succeeded (retried)",
    ]
    assert answer["fires_around"] == {"before": "2026-03-01T09:05:00+00:00", "after": "2026-03-01T09:15:00+00:00"}


def test_a_naive_time_is_read_in_the_zone_of_the_schedule(
    ledger: World, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    naive = ask("hourly@2026-03-01T10:00", config, capsys)
    assert (naive["timezone"], naive["local_time"]) == ("Europe/Berlin", "2026-03-01T10:00:00+01:00")
    assert ask("hourly@2026-03-01T09:00Z", config, capsys) == naive
    assert ask("hourly@2026-03-01 10:00:00", config, capsys) == naive


def test_the_standing_of_a_schedule(ledger: World, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paused = ask("paused", config, capsys)
    assert (paused["verdict"], paused["fire_time"]) == ("paused", None)
    assert paused["schedule"]["reason"] == "the disk is being replaced"
    assert paused["schedule"]["since"] == "2026-03-01T09:02:00+00:00"
    hourly = ask("hourly", config, capsys)
    assert hourly["verdict"] == "active"
    assert hourly["next_fires"][0] == "2026-03-01T11:00:00+00:00"
    assert hourly["latest_runs"][0]["reason"] == "late"
    assert "configuration" not in hourly["explanation"], "it says the same as the file"


def test_a_person_gets_sentences_and_a_trace(
    ledger: World, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert run("slow@2026-03-01T09:05", str(config)) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("slow at 2026-03-01T09:05:00+00:00 (UTC): skipped (overlap)\n")
    assert "  It was not run: the run of 2026-03-01T09:00:00+00:00 was still active" in shown
    assert "\x1b" not in shown
    assert run("hourly@2026-03-01T10:00", str(config)) == 0
    zoned = "hourly at 2026-03-01T10:00:00+01:00 (Europe/Berlin; 2026-03-01T09:00:00+00:00): succeeded (on time)\n"
    assert capsys.readouterr().out.startswith(zoned)
    assert run("paused", str(config)) == 0
    assert "next: 2026-03-01T10:15:00+00:00" in capsys.readouterr().out


def test_what_handlers_wrote_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    steps = (Step(0, "it raised: \x1b[2Jgone"),)
    show(Explanation("s", "failed", "error", ("it said \x1b[31mred\rforged",), steps=steps))
    shown = capsys.readouterr().out
    assert r"it said \x1b[31mred\rforged" in shown
    assert r"it raised: \x1b[2Jgone" in shown
    assert "\x1b" not in shown


def test_an_unknown_name_ends_with_1_and_the_nearest_one(
    ledger: World, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("hurly", str(config), "-o", "json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == KEYS
    assert answer["verdict"] == "unknown_schedule"
    assert answer["did_you_mean"] == ["hourly"]
    assert run("hurly@2026-03-01", str(config)) == 1
    assert "Did you mean hourly?" in capsys.readouterr().out


def test_a_run_is_found_by_its_id(ledger: World, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = ask("flaky@2026-03-01T09:10", config, capsys)
    assert ask(known["run"]["run_id"], config, capsys) == known
    done = ledger.ask(RunNow("h", "m", "once"))
    assert isinstance(done, Done)
    ledger.until("2026-03-01T10:12")
    answer = ask(done.detail, config, capsys)
    assert (answer["verdict"], answer["schedule"], answer["schedule_id"]) == ("succeeded", None, "h.m")
    assert "A person asked for this run" in answer["explanation"]
    assert run(done.detail, str(config)) == 0
    assert "h.m: succeeded (manual)" in capsys.readouterr().out
    assert run("f" * 32, str(config)) == 1


@pytest.mark.parametrize("target", ["hourly@", "hourly@yesterday", "hourly@2026-02-30", "@2026-03-01", "a@1800-01-01"])
def test_wrong_targets_end_with_2(target: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(target, str(config)) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "Traceback" not in message


def test_no_ledger_and_a_broken_one_are_said_in_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hourly", str(config)) == 1
    assert "no ledger yet" in capsys.readouterr().err
    database = config.parent / "ledger.db"
    database.write_bytes(b"this is no database at all, but a text that is long enough" * 40)
    assert run("hourly", str(config)) == 1
    message = capsys.readouterr().err
    assert str(database) in message
    assert "Traceback" not in message
    database.unlink()
    sqlite3.connect(database).close()
    assert run("hourly", str(config)) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_configuration_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hourly", str(tmp_path / "nothing.yaml")) == 2
    assert "nothing.yaml" in capsys.readouterr().err
