"""T8: a server that has nothing to do: 100 schedules, none due, 20 seconds; and what `--help` costs."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.table import Row

SCHEDULES = 100
READY_S = 30.0

HANDLER = """
from sz_runtime.handlers import register_local


@register_local("jobs")
async def job():
    pass
"""
BARE = "import asyncio; asyncio.run(asyncio.sleep(3600))"


def run(seconds: float = 20.0) -> list[Row]:
    """All rows of T8."""
    rows: list[Row] = []
    work = f"idle, {SCHEDULES} schedules, {seconds:.0f} s"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        autonomous, full = (server(folder, mode) for mode in ("autonomous", "full"))
        for who, command in (
            ("limit: asyncio alone", [sys.executable, "-c", BARE]),
            ("schedulezero, autonomous, asyncio", [*autonomous, "--backend", "asyncio"]),
            ("schedulezero, autonomous, trio", [*autonomous, "--backend", "trio"]),
            ("schedulezero, full, asyncio", [*full, "--backend", "asyncio"]),
        ):
            megabytes, cpu_ms = idle(command, folder, seconds)
            rows.append(Row("T8", work, who, megabytes, "MB", higher=False))
            rows.append(Row("T8", work, who, cpu_ms, "ms CPU", higher=False))
    command = [sys.executable, "-m", "sz_shells.cli.main", "--help"]
    rows.append(Row("T8", "schedulezero --help", "schedulezero", help_ms(command), "ms CPU", higher=False))
    return rows


def server(folder: Path, mode: str) -> list[str]:
    """The command that runs a hundred nightly schedules on one handler."""
    (folder / "jobs.py").write_text(HANDLER)
    hour = (time.gmtime().tm_hour + 12) % 24
    schedules = [
        {
            "id": f"s{n}",
            "handler_id": "jobs",
            "method": "job",
            "trigger": {"type": "cron", "expression": f"{n % 60} {hour} * * *"},
        }
        for n in range(SCHEDULES)
    ]
    configuration = {
        "deployment": {"name": mode, "mode": mode},
        "components": {
            "scheduler": {"datastore": {"path": f"{mode}.db"}},
            "handlers": {"local": {"modules": ["jobs"]}},
        },
        "schedules": schedules,
    }
    path = folder / f"{mode}.yaml"
    path.write_text(json.dumps(configuration))  # YAML 1.2 has JSON within it.
    return [sys.executable, "-m", "sz_shells.cli.main", "run", str(path)]


def idle(command: list[str], folder: Path, seconds: float) -> tuple[float, float]:
    """(MB resident, ms of CPU) of a process that sleeps for so long, once it has come to rest."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        before = rested_ms(process)
        time.sleep(seconds)
        assert process.poll() is None, f"{command} has ended"
        return resident_mb(process.pid), cpu_ms(process.pid) - before
    finally:
        process.terminate()
        process.wait(READY_S)


def rested_ms(process: subprocess.Popen[bytes]) -> float:
    """Wait until a second passes with hardly any CPU; what it has used until then."""
    until_s = time.monotonic() + READY_S
    used = -float("inf")
    while time.monotonic() < until_s:
        time.sleep(1.0)
        now = cpu_ms(process.pid)
        if now - used <= 2:
            return now
        used = now
    raise AssertionError("it does not come to rest")


def cpu_ms(pid: int) -> float:
    """What a process has used so far, in all its threads: its CPU clock, as clock_getcpuclockid(3) names it."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e6


def resident_mb(pid: int) -> float:
    """Its resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def help_ms(command: list[str]) -> float:
    """CPU of the best of five."""
    best = float("inf")
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best * 1000


if __name__ == "__main__":
    from tests.benchmarks.table import render

    print(render(run(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)))
