"""A process that is told to go: it drains at the first signal, and hurries at the second."""

import signal
from collections.abc import Awaitable, Callable, Mapping

import anyio
import structlog
from anyio.abc import TaskStatus

ECHO_S = 0.2
"""timeout(1), a terminal and many wrappers signal the process and its group: one wish that comes twice at once."""

_log = structlog.get_logger("schedulezero")


async def obey_signals(
    drain: Callable[[], None],
    hurry: Callable[[], None],
    others: Mapping[signal.Signals, Callable[[], Awaitable[None]]] | None = None,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve SIGTERM and SIGINT, and the `others`, until cancelled. For the main thread only."""
    others = others or {}
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *others) as signals:
        task_status.started()
        asked_at: float | None = None
        async for number in signals:
            if number in others:
                await others[number]()
            elif asked_at is None:
                asked_at = anyio.current_time()
                _log.info("draining", signal=signal.Signals(number).name)
                drain()
            elif anyio.current_time() - asked_at > ECHO_S:
                _log.warning("stopping_now", because="a second signal came")
                hurry()
