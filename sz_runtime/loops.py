"""Which event loop runs this code. For the few places where what anyio offers on both costs too much."""

import asyncio
import sys


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """The asyncio loop that runs here; None where trio does. Raises RuntimeError where neither does."""
    if "trio" in sys.modules:
        import trio

        try:
            trio.lowlevel.current_trio_token()
        except RuntimeError:
            pass  # trio is loaded, but this thread does not run it
        else:
            return None
    return asyncio.get_running_loop()
