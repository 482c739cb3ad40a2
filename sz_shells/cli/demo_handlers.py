"""The handlers of `schedulezero demo`. Each writes down that it ran, in a file of its own that the ledger knows
nothing of; the demo compares the two."""

import os
import time

import anyio

from sz_runtime.handlers import register_local
from sz_runtime.run_context import RunContext

DIARY = "SCHEDULEZERO_DEMO_DIARY"


def write_down(run: RunContext) -> None:
    """One line of the diary, in one write: kill -9 leaves whole lines."""
    line = f"{run.schedule_id} {run.run_id} {run.attempt}\n"
    descriptor = os.open(os.environ[DIARY], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@register_local("demo")
async def heartbeat(run: RunContext) -> str:
    """An async handler, every second."""
    write_down(run)
    await anyio.sleep(0.05)
    return "still alive"


@register_local("demo")
def report(run: RunContext, pages: int) -> dict[str, int]:
    """A plain function, in a thread."""
    write_down(run)
    time.sleep(0.1)
    return {"pages": pages}


@register_local("demo")
async def flaky(run: RunContext) -> str:
    """Fails at its first attempt, every time."""
    write_down(run)
    if run.attempt == 1:
        raise RuntimeError("the first try always fails")
    return f"went well at attempt {run.attempt}"


@register_local("demo")
async def once(run: RunContext) -> str:
    """For the date trigger."""
    write_down(run)
    return "that was the one time"
