"""A server under kill -9 every few seconds, and the comparison of three witnesses: the triggers, the ledger, and what
the handlers wrote down themselves.

python -m tests.faults.kill9 [--seconds 300] [--backend asyncio|trio] [--seed 1]
"""

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from sz_protocol.queries import RunsPage, SchedulesPage
from sz_protocol.records import Outcome, Run, RunState, Schedule
from sz_protocol.triggers import fires_between
from sz_shells.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
HEAD = """\
deployment: {{name: kill9, mode: minimal}}
components:
  tornado: {{enabled: false}}
  scheduler:
    datastore: {{type: sqlite, path: "{database}"}}
    drain_grace: 8s
  handlers:
    local:
      modules:
        - tests.faults.kill9_handlers.quick
        - tests.faults.kill9_handlers.plain
        - tests.faults.kill9_handlers.trouble
schedules:
"""
SCHEDULES = """\
- {id: a-noop-1s, handler_id: quick, method: noop, trigger: {type: interval, seconds: 1}}
- {id: a-noop-all, handler_id: quick, method: noop, trigger: {type: interval, seconds: 1}, misfire: all}
- {id: a-noop-skip, handler_id: quick, method: noop, trigger: {type: interval, seconds: 1}, misfire: {policy: skip, grace: 1}}
- {id: a-noop-cron, handler_id: quick, method: noop, trigger: {type: cron, expression: "*/2 * * * * *"}}
- {id: a-noop-half, handler_id: quick, method: noop, trigger: {type: interval, seconds: 0.5}, misfire: {policy: all, max: 3}}
- {id: a-noop-once, handler_id: quick, method: noop, trigger: {type: interval, seconds: 2}, semantics: at_most_once}
- {id: b-nap-skip, handler_id: quick, method: nap, params: {seconds: 1.5}, trigger: {type: interval, seconds: 1}}
- {id: b-nap-queue, handler_id: quick, method: nap, params: {seconds: 1.5}, trigger: {type: interval, seconds: 1}, overlap: queue(2)}
- {id: b-nap-allow, handler_id: quick, method: nap, params: {seconds: 1.5}, trigger: {type: interval, seconds: 1}, overlap: allow(2)}
- {id: b-nap-cancel, handler_id: quick, method: nap, params: {seconds: 1.5}, trigger: {type: interval, seconds: 1}, overlap: cancel_running}
- {id: b-nap-long, handler_id: quick, method: nap, params: {seconds: 4}, trigger: {type: interval, seconds: 5}}
- {id: b-nap-once, handler_id: quick, method: nap, params: {seconds: 2}, trigger: {type: interval, seconds: 3}, semantics: at_most_once}
- {id: c-work, handler_id: plain, method: work, params: {seconds: 0.3}, trigger: {type: interval, seconds: 1}}
- {id: c-work-spread, handler_id: plain, method: work, params: {seconds: 0.1}, trigger: {type: interval, seconds: 2}, spread: 2}
- {id: c-compute, handler_id: plain, method: compute, params: {upto: 300000}, trigger: {type: interval, seconds: 2}}
- {id: d-flaky, handler_id: trouble, method: flaky, trigger: {type: interval, seconds: 2}, retry: {attempts: 3, base: 0.2, max: 1}}
- {id: d-always, handler_id: trouble, method: always, trigger: {type: interval, seconds: 3}, retry: {attempts: 2, base: 0.1, max: 1}}
- {id: d-hang, handler_id: trouble, method: hang, trigger: {type: interval, seconds: 4}, timeout: 1}
- {id: d-unstorable, handler_id: trouble, method: unstorable, trigger: {type: interval, seconds: 5}}
- {id: e-cron-zone, handler_id: quick, method: noop, trigger: {type: cron, expression: "*/3 * * * * *", timezone: Australia/Lord_Howe}}
"""  # noqa: E501


@frozen
class Verdict:
    """What the comparison found; each list should be empty."""

    hurts: int
    rows: int
    outcomes: Counter[str]
    missing: list[str]
    twice: list[str]
    unfinished: list[str]
    unexecuted: list[str]
    unknown: list[str]
    repeated: list[str]
    fences: list[str]

    @property
    def problems(self) -> list[str]:
        """All that is wrong, in words."""
        named = {
            "due but not in the ledger": self.missing,
            "twice in the ledger": self.twice,
            "neither over nor waiting after the drain": self.unfinished,
            "succeeded without an execution": self.unexecuted,
            "executed without a row in the ledger": self.unknown,
            "at most once, started twice": self.repeated,
            "a fence that did not grow": self.fences,
        }
        return [f"{what}: {found[:5]} ({len(found)})" for what, found in named.items() if found]


def torment(folder: Path, *, seconds: float, backend: str, seed: int) -> Verdict:
    """Run the server for `seconds`, killing it every few seconds; drain it at the end, and compare."""
    rng = random.Random(seed)
    config, database, diary = folder / "kill9.yaml", folder / "ledger.db", folder / "diary.txt"
    lines = "".join(f"  {line}\n" for line in SCHEDULES.splitlines())
    config.write_text(HEAD.format(database=database) + lines)
    diary.touch()
    until = time.monotonic() + seconds
    kills = 0
    while time.monotonic() < until - 6:
        with _server(folder, config, diary, backend) as server:
            time.sleep(rng.uniform(1.0, 5.0))
            assert server.poll() is None, (folder / "server.log").read_text()[-3000:]
            server.send_signal(signal.SIGKILL)
            kills += 1
        time.sleep(rng.choice((0.0, 0.0, 0.2, 3.0)))
    with _server(folder, config, diary, backend) as server:
        time.sleep(6)
        server.send_signal(signal.SIGTERM)
        code = server.wait(timeout=40)
        assert code == 0, (code, (folder / "server.log").read_text()[-3000:])
    return compare(SqliteStore(database), diary, kills)


def _server(folder: Path, config: Path, diary: Path, backend: str) -> "subprocess.Popen[bytes]":
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sz_shells.cli.main", "run", str(config), "--backend", backend],
            cwd=ROOT,
            env={**os.environ, "KILL9_DIARY": str(diary)},
            stdout=log,
            stderr=log,
        )


def compare(store: SqliteStore, diary: Path, hurts: int) -> Verdict:
    """Hold the triggers, the ledger and the diary against each other."""
    rows: tuple[Run, ...] = store.query(RunsPage(limit=10_000_000))
    schedules: tuple[Schedule, ...] = store.query(SchedulesPage())
    started, ended, fences = _read(diary)
    by_id = {run.run_id: run for run in rows}
    counted = Counter((run.schedule_id, run.fire_us) for run in rows)
    folded = [run for run in rows if run.count > 1]
    due = [
        (schedule.id, at_us)
        for schedule in schedules
        for at_us in fires_between(schedule.definition.trigger, schedule.created_us + 1, schedule.cursor_us + 1)
    ]
    once = {s.id for s in schedules if s.definition.semantics == "at_most_once"}
    return Verdict(
        hurts=hurts,
        rows=len(rows),
        outcomes=Counter(f"{run.outcome} ({run.reason})" for run in rows),
        missing=[str(key) for key in due if key not in counted and not _inside(key, folded)],
        twice=[str(key) for key, count in counted.items() if count > 1],
        unfinished=[f"{run.schedule_id} {run.run_id}" for run in rows if run.state is RunState.LEASED],
        unexecuted=[
            f"{run.schedule_id} {run.run_id} {run.attempt}"
            for run in rows
            if run.outcome is Outcome.SUCCEEDED and (run.run_id, run.attempt) not in ended
        ],
        unknown=[run_id for run_id, _ in started if run_id not in by_id],
        repeated=[
            run_id
            for run_id, count in Counter(run_id for run_id, _ in started).items()
            if count > 1 and by_id[run_id].schedule_id in once
        ],
        fences=[run_id for run_id, tokens in fences.items() if any(b <= a for a, b in itertools.pairwise(tokens))],
    )


def _inside(key: tuple[str, int], folded: list[Run]) -> bool:
    schedule_id, at_us = key
    return any(
        run.schedule_id == schedule_id and run.fire_us <= at_us <= (run.until_us or run.fire_us) for run in folded
    )


def _read(diary: Path) -> tuple[list[tuple[str, int]], set[tuple[str, int]], dict[str, list[int]]]:
    started: list[tuple[str, int]] = []
    ended: set[tuple[str, int]] = set()
    fences: dict[str, list[int]] = {}
    for line in diary.read_text().splitlines():
        what, _, _, run_id, attempt, fence = line.split(" ")
        if what == "start":
            started.append((run_id, int(attempt)))
            fences.setdefault(run_id, []).append(int(fence))
        else:
            ended.add((run_id, int(attempt)))
    return started, ended, fences


def by_hand(torment: Callable[..., Verdict], about: str | None) -> int:
    """Run a torment from the command line; the exit code."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--backend", default="asyncio")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        verdict = torment(Path(folder), seconds=args.seconds, backend=args.backend, seed=args.seed)
    sys.stdout.write(f"hurt {verdict.hurts} times, {verdict.rows} ledger rows\n")
    for outcome, count in sorted(verdict.outcomes.items()):
        sys.stdout.write(f"  {outcome}: {count}\n")
    for problem in verdict.problems:
        sys.stdout.write(f"PROBLEM {problem}\n")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(by_hand(torment, __doc__))
