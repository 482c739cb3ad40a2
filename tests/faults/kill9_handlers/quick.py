"""Async handlers that are soon done."""

import anyio

from sz_runtime.handlers import register_local
from sz_runtime.run_context import RunContext
from tests.faults.kill9_handlers import write_down


@register_local("quick")
async def noop(run: RunContext) -> None:
    """Nothing but the diary."""
    write_down("start", run)
    write_down("end", run)


@register_local("quick")
async def nap(run: RunContext, seconds: float) -> str:
    """Waits a little."""
    write_down("start", run)
    await anyio.sleep(seconds)
    write_down("end", run)
    return "rested"
