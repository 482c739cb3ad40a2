"""The end of a link: what was sent gets a moment to leave, and the event loop does not wait for libzmq."""

from functools import partial

import anyio
import anyio.to_thread
import zmq

MARGIN_S = 1.0


async def leave(context: "zmq.Context[zmq.Socket[bytes]]", leave_s: float) -> None:
    """End a context whose sockets are all closed; takes as long as they linger, `leave_s` at most."""
    # Handlers may have taken all the usual threads.
    end = partial(anyio.to_thread.run_sync, context.term, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)
    # Whoever ends us is cancelled already.
    with anyio.move_on_after(leave_s + MARGIN_S, shield=True):
        await end()
