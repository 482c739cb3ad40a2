"""Components that behave as their section of the configuration says: well, or in every bad way."""

import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from sz_protocol.components import Restart
from sz_runtime.components import CannotRun, Component, ComponentContext, Limits
from sz_runtime.config import Config

LIMITS = Limits(start_us=1_000_000, stop_us=200_000, cancel_us=200_000)
diary: list[str] = []
"""What the components did, in order; a test clears it."""
ENTRY_POINTS = """\
[schedulezero.components]
odd = tests.runtime.odd_components:ODD
user = tests.runtime.odd_components:USER
extra = tests.runtime.odd_components:EXTRA
needs_web = tests.runtime.odd_components:NEEDS_WEB
nonsense = tests.runtime.odd_components:diary
missing = tests.runtime.no_such_module:X
broken = tests.runtime.broken_component:X
picky = tests.runtime.odd_components:PICKY
"""


class Deaf:
    """What a component that ignores its cancellation waits for; a test lets it go in the end."""

    release: anyio.Event


async def serve(context: ComponentContext) -> None:
    """`start`: ok, blab, block (once), fail, refuse or hang. `stop`: ok, hang or deaf. `dies_after` seconds, in its
    first `deaths` lives; then it stays."""
    section: dict[str, Any] = dict(context.config.components.others[context.name])
    life = sum(line == f"start {context.name}" for line in diary) + 1
    diary.append(f"start {context.name}")
    match section.get("start", "ok"):
        case "blab":
            raise OSError(f"cannot log in with {section['token']}")
        case "block" if life == 1:
            time.sleep(LIMITS.start_us / 1e6 + 0.05)  # it holds the loop, and its time-out is seen only when it ends
            raise OSError("too late")
        case "fail":
            raise OSError(98, "address already in use")
        case "refuse":
            raise CannotRun("it will never work")
        case "hang":
            await anyio.sleep_forever()
    context.started(f"{context.name} {life}")
    if "dies_after" in section and life <= section.get("deaths", 1_000_000):
        await anyio.sleep(section["dies_after"])
        if section.get("quietly"):
            return
        raise RuntimeError("it died")
    await context.stopping.wait()
    if section.get("stop") == "hang":
        await anyio.sleep_forever()
    if section.get("stop") == "deaf":
        with anyio.CancelScope(shield=True):
            await Deaf.release.wait()
    diary.append(f"stop {context.name}")


def limits(config: Config) -> Limits:
    """Short ones."""
    return LIMITS


ODD = Component(serve, after=("control",), limits=limits, restart=Restart(base_us=10_000, max_us=50_000, limit=5))
USER = Component(serve, needs=("odd",), after=("scheduler",), limits=limits)
EXTRA = evolve(ODD, required=False, restart=Restart(base_us=10_000, max_us=50_000))
NEEDS_WEB = Component(serve, needs=("tornado",))
PICKY = Component(serve, refuses=lambda config: str(config.components.others["picky"]["not there"]))


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make these components look like an installed package, for the length of a test."""
    info = folder / "odd_components-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-components\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))
    diary.clear()
    Deaf.release = anyio.Event()
