"""A real `schedulezero run` in a process of its own, for tests that hurt it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sz_protocol.queries import RunsPage, SchedulesPage
from sz_protocol.records import Run, Schedule
from sz_shells.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
CONFIG = """\
deployment: {{name: faults, mode: minimal}}
components:
  tornado: {{enabled: false}}
  scheduler: {{datastore: {{type: sqlite, path: "{database}"}}, drain_grace: {grace}}}
  handlers: {{local: {{modules: {modules}}}}}
schedules:
{schedules}
"""


class Server:
    """One deployment in `folder`: its configuration, its handler modules, and a server that can be started again."""

    def __init__(self, folder: Path, backend: str = "asyncio") -> None:
        self.folder = folder
        self.backend = backend
        self.database = folder / "ledger.db"
        self.config = folder / "schedulezero.yaml"
        self.log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, schedules: str, grace: str = "10s", **modules: str) -> None:
        """Write the configuration (one schedule a line, as YAML flow mappings) and the handler modules."""
        for name, source in modules.items():
            (self.folder / f"{name}.py").write_text(source)
        listed = "\n".join(f"  - {line.strip()}" for line in schedules.strip().splitlines())
        self.config.write_text(
            CONFIG.format(database=self.database, grace=grace, modules=sorted(modules), schedules=listed)
        )

    def start(self, preexec: Callable[[], None] | None = None) -> "subprocess.Popen[bytes]":
        """Start it; `wait_for` something to know that it is at work."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sz_shells.cli.main", "run", str(self.config), "--backend", self.backend],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=log,
                stderr=log,
                preexec_fn=preexec,
            )
        return self.process

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self.process is not None, "not started"
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """End it whatever it takes; for fixtures."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def runs(self, schedule_id: str | None = None) -> tuple[Run, ...]:
        """The ledger, newest first; empty while there is none."""
        if not self.database.exists():
            return ()
        return SqliteStore(self.database).query(RunsPage(limit=100_000, schedule_id=schedule_id))

    def schedules(self) -> dict[str, Schedule]:
        """The stored schedules by id."""
        found: tuple[Schedule, ...] = SqliteStore(self.database).query(SchedulesPage())
        return {schedule.id: schedule for schedule in found}

    def wait_for(self, what: Callable[[], object], timeout_s: float = 20) -> None:
        """Wait until `what` is true; what it raises meanwhile (no tables yet) counts as not yet."""
        until = time.monotonic() + timeout_s
        while True:
            try:
                if what():
                    return
            except Exception:
                if time.monotonic() > until:
                    raise
            assert time.monotonic() < until, f"it did not come about:\n{self.tail()}"
            assert self.process is None or self.process.poll() is None, f"the server ended:\n{self.tail()}"
            time.sleep(0.05)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-3000:]

    def cli(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run another command of the CLI beside it."""
        return subprocess.run(
            [sys.executable, "-m", "sz_shells.cli.main", *args],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def cli_json(self, *args: str) -> Any:
        """Run another command with `-o json` and read what it prints."""
        done = self.cli(*args, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
