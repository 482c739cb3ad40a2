"""The handler that `schedulezero demo` runs in a process of its own, as a remote worker."""

import anyio

from sz_runtime.handlers import register_local
from sz_runtime.run_context import RunContext
from sz_shells.cli.demo_handlers import write_down

WORKER = "demo-worker"


@register_local(WORKER)
async def measure(run: RunContext) -> str:
    """Pretends to read a sensor."""
    write_down(run)
    await anyio.sleep(0.2)
    return "21.5 C"
