"""A server and remote handlers, each in a process of its own, for tests that hurt them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from uuid import uuid4

from attrs import frozen

from sz_protocol.commands import Done, HandlersListed, ListHandlers, Refusal, RefusalCode, RunNow
from sz_protocol.messages import Answer, Request
from sz_runtime.config import load_config
from sz_shells.cli.control import connected
from tests.faults.server import ROOT, Server

CONFIG = """\
deployment: {{name: fleet, mode: full}}
components:
  tornado: {{enabled: false}}
  scheduler: {{datastore: {{type: sqlite, path: "{database}"}}}}
  handlers:
    local: {{modules: {modules}}}
    remote: {{registration_server: {{address: "tcp://127.0.0.1:{port}", {remote}}}}}
schedules:
{schedules}
"""
QUICK = "heartbeat: 200ms, lease: 2s, away_grace: 3s"
DIARY = "FLEET_DIARY"

HANDLERS = """
import os, time
import anyio
from sz_runtime.handlers import register_local

ME = os.environ.get("FLEET_NAME", "server")

def write_down(what, run):
    line = f"{what} {ME} {run.run_id} {run.attempt} {run.fence} {run.schedule_id or '-'}\\n"
    fd = os.open(os.environ["FLEET_DIARY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, line.encode())
    os.close(fd)

async def noop(run):
    write_down("start", run)
    write_down("end", run)
    return ME

async def nap(run, seconds):
    write_down("start", run)
    await anyio.sleep(seconds)
    write_down("end", run)
    return ME

def block(run, seconds):
    write_down("start", run)
    time.sleep(seconds)
    write_down("end", run)
    return ME

async def guarded(run, seconds):
    write_down("start", run)
    try:
        await anyio.sleep(seconds)
    finally:
        write_down("end", run)
    return ME

for method in (noop, nap, block, guarded):
    register_local(ME)(method)
"""
"""The module of every worker: its handler id is the name of its process; `nap` waits, `block` blocks its thread,
`guarded` writes down its end also when it is cancelled."""


@frozen
class Entry:
    """One line of the diary: what a handler did, as it wrote it down itself."""

    what: str
    who: str
    run_id: str
    attempt: int
    fence: int
    schedule_id: str


def free_port() -> int:
    """A port to come back to: below those that connections are given, so that none takes it in between."""
    while True:
        port = SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class WorkerProcess:
    """`schedulezero worker` for one handler id, which can be hurt and started again."""

    def __init__(self, fleet: "Fleet", name: str, port: int, args: tuple[str, ...], backend: str, outbox: str) -> None:
        self.fleet = fleet
        self.name = name
        self.outbox = fleet.folder / f"{outbox or name}.outbox"
        self.port = port
        self.args = args
        self.backend = backend
        self.log = fleet.folder / f"{outbox or name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "WorkerProcess":
        """Start it, with the outbox that its last life left."""
        command = [
            *(sys.executable, "-m", "sz_shells.cli.main", "worker"),
            *("--server", f"tcp://127.0.0.1:{self.port}", "--handler-id", self.name, "--modules", "fleet_handlers"),
            *("--outbox", str(self.outbox), "--backend", self.backend),
            *self.args,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.fleet.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{ROOT}:{self.fleet.folder}",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "FLEET_NAME": self.name,
                    DIARY: str(self.fleet.diary),
                },
                stdout=log,
                stderr=log,
            )
        return self

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None, "not started"
        self.process.send_signal(number)

    def kill9(self) -> None:
        """End it at once, without a word."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(timeout_s)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-3000:] if self.log.exists() else ""


class Fleet(Server):
    """A server that remote handlers register with, and those handlers."""

    def __init__(self, folder: Path, backend: str = "asyncio") -> None:
        super().__init__(folder, backend)
        self.port = free_port()
        self.diary = folder / "diary.txt"
        self.diary.touch()
        self.workers: dict[str, WorkerProcess] = {}
        (folder / "fleet_handlers.py").write_text(HANDLERS)
        os.environ[DIARY] = str(self.diary)

    def configure(self, *schedules: str, remote: str = QUICK, modules: tuple[str, ...] = ("fleet_handlers",)) -> None:
        """Write the configuration: schedules as YAML flow mappings; the server's own handlers are those of `server`."""
        listed = "".join(f"  - {line}\n" for line in schedules) or "  []\n"
        text = CONFIG.format(
            database=self.database, port=self.port, modules=list(modules), remote=remote, schedules=listed
        )
        self.config.write_text(text)

    def worker(self, name: str, *args: str, port: int = 0, outbox: str = "") -> WorkerProcess:
        """A worker, started. `port`: that of a proxy before the server; `outbox`: where it is not called like it."""
        made = WorkerProcess(self, name, port or self.port, args, self.backend, outbox)
        self.workers[outbox or name] = made
        return made.start()

    def kill(self) -> None:
        """End everything; for fixtures."""
        super().kill()
        for worker in self.workers.values():
            if worker.process is not None and worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
            worker.kill9()
        os.environ.pop(DIARY, None)

    def tail(self) -> str:
        """The ends of all logs."""
        logs = "".join(f"\n--- {worker.name}:\n{worker.tail()}" for worker in self.workers.values())
        return f"--- server:\n{super().tail() if self.log.exists() else ''}{logs}"

    # --- what happened ----------------------------------------------------------------------------------------

    def entries(self, what: str = "", schedule_id: str = "") -> list[Entry]:
        """The diary."""
        found = []
        for line in self.diary.read_text().splitlines():
            word, who, run_id, attempt, fence, schedule = line.split()
            if (not what or word == what) and (not schedule_id or schedule == schedule_id):
                found.append(Entry(word, who, run_id, int(attempt), int(fence), schedule))
        return found

    def starts_of(self, run_id: str) -> int:
        """How often a run was begun, by whomever."""
        return Counter(entry.run_id for entry in self.entries("start"))[run_id]

    def ask(self, request: Request) -> Answer:
        """Ask the server over its control link."""
        with connected(load_config(self.config)) as client:
            return client.ask(request)

    def registered(self) -> dict[str, str]:
        """The states of the registered handlers, by id."""
        listed = self.ask(ListHandlers())
        assert isinstance(listed, HandlersListed), listed
        return {handler.handler_id: handler.state.value for handler in listed.handlers}

    def wait_registered(self, *names: str) -> None:
        """Wait until these handlers are present."""
        self.wait_for(lambda: all(self.registered().get(name) == "present" for name in names))

    def run_now(self, handler: str, method: str, params: str = "{}") -> str:
        """Ask for a run; its id."""
        key = uuid4().hex
        done = self.ask(RunNow(handler, method, key, json.loads(params)))
        until = time.monotonic() + 5
        while isinstance(done, Refusal) and done.code is RefusalCode.UNKNOWN_METHOD and time.monotonic() < until:
            # Handlers that come at one moment are told together, a little later.
            time.sleep(0.05)
            done = self.ask(RunNow(handler, method, key, json.loads(params)))
        assert isinstance(done, Done), done
        return done.detail

    def outcome(self, run_id: str) -> str | None:
        """The outcome of a run, once it has one."""
        for run in self.runs():
            if run.run_id == run_id and run.outcome is not None:
                return run.outcome.value
        return None

    def wait_outcome(self, run_id: str, timeout_s: float = 30) -> str:
        """Wait for the outcome of a run."""
        self.wait_for(lambda: self.outcome(run_id), timeout_s)
        found = self.outcome(run_id)
        assert found is not None
        return found


@contextmanager
def standing_still(process: "subprocess.Popen[bytes]", seconds: float) -> Iterator[None]:
    """SIGSTOP, the block, and SIGCONT after at least so long."""
    process.send_signal(signal.SIGSTOP)
    until = time.monotonic() + seconds
    try:
        yield
        time.sleep(max(0.0, until - time.monotonic()))
    finally:
        process.send_signal(signal.SIGCONT)
