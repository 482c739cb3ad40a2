"""`schedulezero demo`: a real server and a remote worker, each killed with -9 and started again, and an account of what
became due."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from attrs import frozen
from cyclopts import Parameter, validators

from sz_shells.cli.common import FAILED, OK, console, fail, iso
from sz_shells.cli.demo_handlers import DIARY

if TYPE_CHECKING:
    from rich.console import Console

    from sz_protocol.records import Run, Schedule
    from sz_shells.stores.sqlite import SqliteStore

CONFIG = """\
deployment:
  name: demo
  mode: full
components:
  tornado: {{enabled: false}}
  scheduler:
    datastore: {{type: sqlite, path: "{database}"}}
  handlers:
    local: {{enabled: true, modules: [sz_shells.cli.demo_handlers]}}
    remote: {{registration_server: {{address: "{address}", heartbeat: 300ms, lease: 3s}}}}
schedules:
  - id: every-second
    handler_id: demo
    method: heartbeat
    trigger: {{type: interval, seconds: 1}}
    misfire: {{policy: all}}
  - id: every-two-seconds-by-cron
    handler_id: demo
    method: report
    params: {{pages: 12}}
    trigger: {{type: cron, expression: "*/2 * * * * *", timezone: Europe/Berlin}}
  - id: fails-then-retries
    handler_id: demo
    method: flaky
    trigger: {{type: interval, seconds: 3}}
    retry: {{attempts: 3, base: 0.2, max: 1}}
  - id: on-a-remote-worker
    handler_id: demo-worker
    method: measure
    trigger: {{type: interval, seconds: 2}}
    misfire: {{policy: all}}
  - id: just-once
    handler_id: demo
    method: once
    trigger: {{type: date, run_date: "{once}"}}
"""
DOWN_S = 2.0
PATIENCE_S = 30.0


@frozen
class Account:
    """What became due, what the ledger says of it, what the handlers wrote down themselves."""

    due: int
    accounted: int
    outcomes: Counter[str]
    missing: int
    doubled: int
    unexecuted: int
    open: int
    waiting: int

    @property
    def holds(self) -> bool:
        """Whether every due instant has exactly one outcome, or waits for its next attempt as it was when the server
        was told to go, and every success an execution."""
        return not (self.missing or self.doubled or self.unexecuted or self.open)


def demo(
    *,
    seconds: Annotated[float, Parameter(validator=validators.Number(gte=8, lte=3600), help="How long to run.")] = 15,
) -> int:
    """Watch a server work, be killed, and lose nothing.

    Runs a real server on SQLite and a remote worker in a temporary directory, with cron, interval and date schedules;
    kills each of them with -9 once, starts it again, and compares what became due with the ledger and with what the
    handlers wrote down.
    """
    with tempfile.TemporaryDirectory(prefix="schedulezero-demo-") as folder:
        return _demo(Path(folder), seconds)


def _demo(folder: Path, seconds: float) -> int:
    out = console()
    config, database, diary = folder / "schedulezero.yaml", folder / "ledger.db", folder / "diary.txt"
    once = datetime.now(UTC) + timedelta(seconds=min(4.0, seconds / 3))
    address = f"tcp://127.0.0.1:{_free_port()}"
    config.write_text(CONFIG.format(database=database, once=once.isoformat(), address=address))
    diary.touch()
    out.print(f"[bold]A server on SQLite and a remote worker[/] in {folder}, five schedules:")
    out.print("  every second · every two seconds by cron · one that fails first and is retried · one date")
    out.print("  and one that the worker executes, in a process of its own, over ZeroMQ\n")
    started = time.monotonic()
    seen: set[int] = set()
    with _process("run", str(config), folder=folder, diary=diary) as first:
        with _worker(address, folder, diary) as doomed:
            _watch(out, database, seen, first, started + 0.25 * seconds, life=1)
            _kill(out, doomed, "the worker")
        with _worker(address, folder, diary) as worker:
            _watch(out, database, seen, first, started + 0.5 * seconds, life=1)
            _kill(out, first, "the server")
            out.print(f"nobody is watching for {DOWN_S:.0f} s\n")
            time.sleep(DOWN_S)
            with _process("run", str(config), folder=folder, diary=diary) as second:
                out.print(f"[bold green]started again[/] as process {second.pid}: it catches up\n")
                _watch(out, database, seen, second, started + seconds, life=2)
                _let_end(database)
                worker.send_signal(signal.SIGTERM)
                worker.wait(timeout=30)
                second.send_signal(signal.SIGTERM)
                code = second.wait(timeout=30)
    _show_new(out, _store(database), seen)
    if code != 0:
        fail(f"the server ended with code {code}:\n{(folder / 'run.log').read_text()[-2000:]}")
    account = take_account(_store(database), diary)
    _tell(out, account)
    return OK if account.holds else FAILED


def _kill(out: "Console", process: "subprocess.Popen[bytes]", name: str) -> None:
    process.kill()
    process.wait()
    out.print(f"\n[bold red]kill -9[/] of {name}, process {process.pid}")


def _worker(address: str, folder: Path, diary: Path) -> "AbstractContextManager[subprocess.Popen[bytes]]":
    from sz_shells.cli.demo_worker import WORKER
    from sz_shells.cli.demo_worker import __name__ as module

    outbox = str(folder / "worker.outbox")
    about = ("--server", address, "--handler-id", WORKER, "--modules", module, "--outbox", outbox)
    return _process("worker", *about, folder=folder, diary=diary)


@contextmanager
def _process(*command: str, folder: Path, diary: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / f"{command[0]}.log").open("ab") as log:
        process = subprocess.Popen(
            # -P: a file of the current directory must not stand in for a module of the server.
            [sys.executable, "-P", "-m", "sz_shells.cli.main", *command],
            env={**os.environ, DIARY: str(diary)},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _store(database: Path) -> "SqliteStore":
    from sz_shells.stores.sqlite import SqliteStore

    return SqliteStore(database)


def _watch(
    out: "Console", database: Path, seen: set[int], server: "subprocess.Popen[bytes]", until: float, life: int
) -> None:
    """Print outcomes as the ledger gets them, until the time is over, and at least until this life of the server has
    recorded some: on a busy machine it takes a while to begin."""
    from sz_protocol.records import CLAIMS_PER_TERM

    patience = until + PATIENCE_S
    while time.monotonic() < until or (
        not any(row // CLAIMS_PER_TERM >= life for row in seen) and time.monotonic() < patience
    ):
        if server.poll() is not None:
            fail(f"the server ended by itself:\n{(database.parent / 'run.log').read_text()[-2000:]}")
        if database.exists():
            _show_new(out, _store(database), seen)
        time.sleep(0.2)


def _let_end(database: Path) -> None:
    """Wait for what is executing, or was when its worker was killed: on a busy machine that one takes a while to come
    back, and nobody else can say what became of it."""
    from sz_protocol.queries import RunsPage
    from sz_protocol.records import RunState

    def executing() -> set[int]:
        return {run.row for run in _store(database).query(RunsPage(limit=1_000_000, state=RunState.LEASED))}

    patience = time.monotonic() + PATIENCE_S
    waited_for = executing()
    while waited_for & executing() and time.monotonic() < patience:
        time.sleep(0.1)


def _show_new(out: "Console", store: "SqliteStore", seen: set[int]) -> None:
    from sz_protocol.queries import RunsPage
    from sz_protocol.records import RunState
    from sz_runtime.ports import StoreError

    try:
        page: tuple[Run, ...] = store.query(RunsPage(limit=60, state=RunState.DONE))
    except StoreError:
        return  # The server has not made its tables yet.
    for run in sorted(page, key=lambda run: (run.finished_us or 0, run.row)):
        if run.row not in seen:
            seen.add(run.row)
            out.print(_line(run))


def _line(run: "Run") -> str:
    colour = {"succeeded": "green", "failed": "red", "lost": "red"}.get(str(run.outcome), "yellow")
    wall = (iso(run.fire_us) or "")[11:19]
    tries = f", attempt {run.attempt}" if run.attempt > 1 else ""
    return f"  {wall}  {run.schedule_id:<26} [{colour}]{run.outcome}[/] ({run.reason}{tries})"


def take_account(store: "SqliteStore", diary: Path) -> Account:
    """Compare three things that do not know of each other: the triggers, the ledger and the handlers' diary."""
    from sz_protocol.queries import RunsPage, SchedulesPage
    from sz_protocol.records import RunState
    from sz_protocol.triggers import fires_between

    rows: tuple[Run, ...] = store.query(RunsPage(limit=1_000_000))
    schedules: tuple[Schedule, ...] = store.query(SchedulesPage())
    written = {line.split(" ")[1] for line in diary.read_text().splitlines()}
    accounted: Counter[tuple[str, int]] = Counter((run.schedule_id, run.fire_us) for run in rows)
    due = {
        (schedule.id, at_us)
        for schedule in schedules
        for at_us in fires_between(schedule.definition.trigger, schedule.created_us + 1, schedule.cursor_us + 1)
    }
    return Account(
        due=len(due),
        accounted=len(accounted),
        outcomes=Counter(f"{run.outcome} ({run.reason})" for run in rows if run.outcome is not None),
        missing=len(due - set(accounted)),
        doubled=sum(count - 1 for count in accounted.values()),
        unexecuted=sum(run.outcome == "succeeded" and run.run_id not in written for run in rows),
        open=sum(run.outcome is None and run.state is not RunState.PENDING for run in rows),
        waiting=sum(run.state is RunState.PENDING for run in rows),
    )


def _tell(out: "Console", account: Account) -> None:
    out.print(
        "\n[bold]The account[/], taken from the triggers, the ledger and what the handlers wrote down themselves:"
    )
    out.print(f"  instants that became due       {account.due}")
    out.print(f"  instants with an outcome       {account.accounted - account.open - account.waiting}")
    for outcome, count in sorted(account.outcomes.items()):
        out.print(f"    {outcome:<28} {count}", highlight=False)
    if account.waiting:
        # A drain starts nothing new, a second attempt neither: the next start would.
        out.print(f"  waiting for their next attempt {account.waiting}")
    out.print(f"  doubled                        {account.doubled}")
    out.print(f"  missing                        {account.missing}")
    out.print(f"  still open                     {account.open}")
    out.print(f"  successes without an execution {account.unexecuted}")
    if account.holds:
        out.print("\n[bold green]Nothing was lost, nothing was doubled.[/]\n")
    else:
        out.print("\n[bold red]The account does not balance: that is a bug, please report it.[/]\n")
    out.print("Next: write a handler and a schedulezero.yaml as the README shows, then")
    out.print("  schedulezero check     is the configuration right?")
    out.print("  schedulezero run       run it")
    out.print("  schedulezero runs      what became of every due instant")
