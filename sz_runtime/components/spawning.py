"""A task that belongs to no task group.

A component that ignores its cancellation must not hold the node for ever, and a task group waits for all its tasks. So
the lives of components are tasks of the event loop itself; the supervisor knows each of them and ends them in order.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable

_kept: dict[int, "asyncio.Task[None]"] = {}
"""asyncio holds its tasks only weakly."""


def backend_here() -> str:
    """Which event loop runs this: "asyncio" or "trio"."""
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_run():
            return "trio"
    asyncio.get_running_loop()
    return "asyncio"


def spawn(work: Callable[[], Awaitable[None]], name: str) -> None:
    """Run `work`, which raises nothing, until it ends or the event loop does."""
    if backend_here() == "trio":
        import trio

        trio.lowlevel.spawn_system_task(work, name=name)
        return

    async def run() -> None:
        await work()

    task = asyncio.get_running_loop().create_task(run(), name=name)
    _kept[id(task)] = task
    task.add_done_callback(lambda done: _kept.pop(id(done), None))
