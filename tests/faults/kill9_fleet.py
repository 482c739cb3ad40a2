"""A server and three remote handlers, of which one after the other, or two at once, are killed or stand still for a
while; and the comparison of the three witnesses of `kill9`.

python -m tests.faults.kill9_fleet [--seconds 300] [--backend asyncio|trio] [--seed 1]
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from attrs import Factory, define, evolve

from sz_shells.stores.sqlite import SqliteStore
from tests.faults.fleet import free_port
from tests.faults.kill9 import ROOT, SCHEDULES, Verdict, by_hand, compare

CONFIG = """\
deployment: {{name: kill9, mode: full}}
components:
  tornado: {{enabled: false}}
  scheduler: {{datastore: {{type: sqlite, path: "{database}"}}, drain_grace: 8s}}
  handlers:
    remote:
      registration_server: {{address: "tcp://127.0.0.1:{port}", heartbeat: 200ms, lease: 2s, away_grace: 3s}}
schedules:
"""
WORKERS = ("quick", "plain", "trouble")
QUIET_S = 8
"""At the end all are left alone for so long, so that everybody is registered and what waited is executed."""


@define
class Fleet:
    """The processes, by name; `server` among them."""

    folder: Path
    backend: str
    commands: dict[str, list[str]] = Factory(dict)
    running: dict[str, "subprocess.Popen[bytes]"] = Factory(dict)
    begun: dict[str, int] = Factory(dict)
    """Where in its log each one's last life begins."""

    def start(self, name: str) -> None:
        """Start one that does not run."""
        command = [sys.executable, "-m", "sz_shells.cli.main", *self.commands[name], "--backend", self.backend]
        environment = {**os.environ, "KILL9_DIARY": str(self.folder / "diary.txt")}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.begun[name] = log.tell()
            self.running[name] = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.running.pop(name)
        assert process.poll() is None, self.tail(name)
        process.kill()
        process.wait()

    def is_registered(self, name: str) -> bool:
        """Whether a worker has registered in its last life: before that a SIGTERM ends it where it stands."""
        return b"event=registered" in (self.folder / f"{name}.log").read_bytes()[self.begun[name] :]

    def wait_for_all(self, timeout_s: float = 60) -> None:
        """Until every worker has."""
        until = time.monotonic() + timeout_s
        while missing := [name for name in WORKERS if not self.is_registered(name)]:
            assert time.monotonic() < until, (missing, *map(self.tail, missing))
            time.sleep(0.1)

    def stop(self, name: str) -> None:
        """Let it drain."""
        process = self.running.pop(name)
        process.terminate()
        code = process.wait(timeout=60)
        assert code == 0, (name, code, self.tail(name))

    def end(self) -> None:
        """Whatever happened, nothing is left behind."""
        for process in self.running.values():
            process.kill()
            process.wait()

    def tail(self, name: str) -> str:
        """The end of its log."""
        return (self.folder / f"{name}.log").read_text()[-3000:]


def torment(folder: Path, *, seconds: float, backend: str, seed: int) -> Verdict:
    """Hurt them for `seconds`, drain the workers and then the server, and compare."""
    fleet = _fleet(folder, backend)
    try:
        hurts = _hurt(fleet, random.Random(seed), time.monotonic() + seconds - QUIET_S)
        fleet.wait_for_all()
        time.sleep(QUIET_S)
        # Workers first: what they execute when their server leaves is theirs, and would stand open in the ledger.
        for name in WORKERS:
            fleet.stop(name)
        fleet.stop("server")
    finally:
        fleet.end()
    verdict = compare(SqliteStore(folder / "ledger.db"), folder / "diary.txt", hurts)
    # Who stood still begins, when it goes on, what others have begun meanwhile: under a fence that is lower, and once.
    return evolve(verdict, fences=_twice(folder / "diary.txt"))


def _fleet(folder: Path, backend: str) -> Fleet:
    port = free_port()
    lines = "".join(f"  {line}\n" for line in SCHEDULES.splitlines())
    (folder / "kill9.yaml").write_text(CONFIG.format(database=folder / "ledger.db", port=port) + lines)
    (folder / "diary.txt").touch()
    fleet = Fleet(folder, backend, {"server": ["run", str(folder / "kill9.yaml")]})
    for name in WORKERS:
        fleet.commands[name] = [
            *("worker", "--server", f"tcp://127.0.0.1:{port}", "--handler-id", name, "--reconnect", "1"),
            *("--modules", f"tests.faults.kill9_handlers.{name}", "--outbox", str(folder / f"{name}.outbox")),
        ]
    for name in fleet.commands:
        fleet.start(name)
    return fleet


def _hurt(fleet: Fleet, rng: random.Random, until: float) -> int:
    hurts = 0
    while time.monotonic() < until:
        time.sleep(rng.uniform(0.5, 3.0))
        for name in rng.sample(sorted(fleet.commands), rng.choice((1, 1, 2))):
            hurts += 1
            if rng.random() < 0.3:
                process = fleet.running[name]
                process.send_signal(signal.SIGSTOP)
                time.sleep(rng.choice((0.5, 4.0)))
                process.send_signal(signal.SIGCONT)
            else:
                fleet.kill(name)
        time.sleep(rng.choice((0.0, 0.0, 0.2, 3.0)))
        for name in fleet.commands:
            if name not in fleet.running:
                fleet.start(name)
    return hurts


def _twice(diary: Path) -> list[str]:
    lines = (line.split(" ") for line in diary.read_text().splitlines())
    begun = Counter((run_id, attempt) for what, _, _, run_id, attempt, _ in lines if what == "start")
    return [f"{run_id}, attempt {attempt}" for (run_id, attempt), count in begun.items() if count > 1]


if __name__ == "__main__":
    sys.exit(by_hand(torment, __doc__))
