"""Handlers that fail, hang, or leave what cannot be stored."""

import anyio

from sz_runtime.handlers import register_local
from sz_runtime.run_context import RunContext
from tests.faults.kill9_handlers import write_down


@register_local("trouble")
async def flaky(run: RunContext) -> str:
    """Fails at odd attempts."""
    write_down("start", run)
    if run.attempt % 2:
        raise RuntimeError("odd attempts fail")
    write_down("end", run)
    return "even"


@register_local("trouble")
async def always(run: RunContext) -> None:
    """Never succeeds."""
    write_down("start", run)
    raise ValueError("never")


@register_local("trouble")
async def hang(run: RunContext) -> None:
    """Waits for its time-out."""
    write_down("start", run)
    await anyio.sleep(3600)


@register_local("trouble")
async def unstorable(run: RunContext) -> object:
    """Returns what is not JSON."""
    write_down("start", run)
    return object()
