"""The peers, each in a process of its own, in whatever Python has it; absent ones are left out with a word.

APScheduler 3 is looked for beside the tests (extra `bench`). APScheduler 4 cannot live beside 3: name a Python that
has it in SCHEDULEZERO_BENCH_A4.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPTS = Path(__file__).parent
PATIENCE_S = 120


def run_peer(store: str, count: int) -> list[tuple[str, float]]:
    """(who, fires a second) of every peer that is installed."""
    figures: list[tuple[str, float]] = []
    for who, python, script in (
        ("APScheduler 3", sys.executable, "a3.py"),
        ("APScheduler 4", os.environ.get("SCHEDULEZERO_BENCH_A4", ""), "a4.py"),
    ):
        figure = _run(python, script, store, str(count)) if python else None
        if figure is None:
            sys.stderr.write(f"{who}: left out (not installed, or not done in time)\n")
        else:
            figures.append((who, figure))
    return figures


def run_peer_lateness(seconds: int) -> list[tuple[str, list[float]]]:
    """(who, [p50, p99] in ms) of every peer that is installed."""
    found = _run_json(sys.executable, "a3.py", "lateness", str(seconds))
    return [] if found is None else [("APScheduler 3", found)]


def run_peer_adds(store: str, count: int) -> list[tuple[str, float]]:
    """(who, single adds a second) of every peer that is installed."""
    figure = _run(sys.executable, "a3.py", f"add-{store}", str(count))
    return [] if figure is None else [("APScheduler 3", figure)]


def run_peer_round_trips(alone: int, together: int) -> list[tuple[str, list[float], float]]:
    """(who, round trips one at a time in ms, round trips a second) of every peer that is installed."""
    figures: list[tuple[str, list[float], float]] = []
    for who in ("dramatiq", "taskiq", "arq", "Celery", "RQ"):
        found = _run_json(sys.executable, f"{who.lower()}_peer.py", str(alone), str(together))
        if found is None:
            sys.stderr.write(f"{who}: left out (not installed, or not done in time)\n")
        else:
            figures.append((f"{who} over Redis", found[:-1], found[-1]))
    return figures


def _run(python: str, script: str, *args: str) -> float | None:
    found = _run_json(python, script, *args)
    return None if found is None else float(found[0])


def _run_json(python: str, script: str, *args: str) -> list[float] | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [python, str(SCRIPTS / script), *args],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"{script} {' '.join(args)}: not done within {PATIENCE_S} s\n")
            return None
    if done.returncode != 0:
        sys.stderr.write(done.stderr[-300:] + "\n")
        return None
    figures: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures
