"""Where the handlers of this process run: async ones in an event loop of their own, plain ones in threads.

Nothing here is ever waited for by the protocol's task: it submits, and results come back in batches through `complete`.
"""

import importlib.util
import sys
import time
from collections.abc import Callable

import structlog

from sz_protocol.kernel.effects import CancelReason, CancelRun, StartRun, StartRuns
from sz_protocol.kernel.events import HandlersChanged, MethodInfo
from sz_protocol.kernel.now import Now
from sz_protocol.records import Reason
from sz_runtime.call_plan import ASYNC_POOL, THREAD_POOL
from sz_runtime.executor_loop import LoopLane
from sz_runtime.executor_threads import ThreadLane
from sz_runtime.executor_watch import Watch
from sz_runtime.handlers import LocalHandlerRegistry, Method
from sz_runtime.live_run import Board, LiveRun
from sz_runtime.ports import Clock, Complete
from sz_runtime.run_outcome import cancelled_unstarted, refused

DEAF_S = 0.5
"""How long the end of what was cancelled in vain is waited for once more."""
_log = structlog.get_logger("schedulezero.executor")


def limit_thread_stalls(interval_s: float = 0.0002) -> None:
    """Let a busy handler thread keep the interpreter for at most so long at a time (CPython's default is 5 ms, and a
    task that wakes up often waits several turns). Call it once, where a process is assembled: it is process-wide."""
    sys.setswitchinterval(interval_s)


class HandlerExecutor:
    """Implements the Executor port over a registry.

    A run that is cancelled while it waits ends at once, without being started. A running async handler is cancelled
    through its scope; a plain function can only be asked (`current_run().cancel_requested`). What is submitted after
    `close` is answered as cancelled. Changes of the registry after `open` are completed as HandlersChanged.
    """

    def __init__(
        self,
        registry: LocalHandlerRegistry,
        clock: Clock,
        backend: str = "asyncio",
        *,
        slots: int = 16384,
        threads: int = 40,
        stall_s: float = 1.0,
        hide: Callable[[str], str] = str,
    ) -> None:
        """At most `slots` async and `threads` plain handlers run at once; a loop that is blocked for `stall_s` gets a
        warning. `hide` takes secrets out of what handlers raise. Raises ValueError for a backend that is not there."""
        if backend not in ("asyncio", "trio") or importlib.util.find_spec(backend) is None:
            raise ValueError(f"no event loop named {backend!r} here; it is asyncio or, where installed, trio")
        if slots < 1 or threads < 1:
            raise ValueError("slots and threads must be at least 1")
        self._registry = registry
        self._clock = clock
        self._backend = backend
        self._slots = slots
        self._threads = threads
        self._stall_s = stall_s
        self._hide = hide
        self._opened: _Lanes | None = None
        self._closing = False
        self._unsubscribe: Callable[[], None] = lambda: None

    def methods(self) -> tuple[tuple[MethodInfo, ...], tuple[tuple[str, int], ...]]:
        """What is registered now, and the size of both pools."""
        return self._registry.methods(), ((ASYNC_POOL, self._slots), (THREAD_POOL, self._threads))

    def open(self, complete: Complete) -> None:
        """Start the threads."""
        board = Board(self._clock, complete, self._hide)
        self._opened = lanes = _Lanes(board, self._backend, self._slots, self._threads, self._stall_s)
        lanes.loop.thread.start()
        lanes.threads.open()
        lanes.watch.thread.start()
        self._unsubscribe = self._registry.subscribe(lambda: complete((HandlersChanged(*self.methods()),)))

    def submit(self, effect: StartRuns | CancelRun) -> None:
        """Queue it; never blocks. Call `open` first."""
        lanes = self._lanes()
        if isinstance(effect, CancelRun):
            self._cancel((effect.row, effect.attempt), effect.reason, lanes)
            lanes.board.flush()
        else:
            self._start(effect, lanes)

    def close(self, timeout_s: float) -> bool:
        """Cancel what waits and runs, and stop the threads. Blocks for at most `timeout_s`, and hardly where everything
        that still runs was cancelled before; False when some handler would not end (its threads are daemons: the
        process can)."""
        if self._opened is None:
            return True
        self._closing = True
        self._unsubscribe()
        lanes = self._opened
        board = lanes.board
        news = any(live.asked is None for live in list(board.running.values()))
        until_s = time.monotonic() + (timeout_s if news else min(timeout_s, DEAF_S))
        for live in [*list(board.waiting.values()), *list(board.running.values())]:
            self._cancel(live.key, CancelReason.SHUTDOWN, lanes)
        board.flush()
        lanes.threads.close()
        lanes.loop.close()
        ended = lanes.threads.join(until_s)
        lanes.loop.thread.join(max(0.0, until_s - time.monotonic()))
        ended = ended and not lanes.loop.thread.is_alive()
        lanes.watch.stop()
        board.flush()
        if not ended:
            _log.warning("handlers_would_not_end", handlers=sorted({_name(live) for live in board.running.values()}))
        return ended

    def _start(self, effect: StartRuns, lanes: "_Lanes") -> None:
        now, board = self._clock.now(), lanes.board
        find, waiting = self._registry.get, board.waiting
        for_loop: list[LiveRun] = []
        for_threads: list[LiveRun] = []
        for start in effect.runs:
            method = find(start.handler_id, start.method)
            if method is None or self._closing or method.plan.problem(start.params):
                self._refuse(start, method, board, now)
                continue
            key = start.row, start.attempt
            waiting[key] = live = LiveRun(start, method, board, key)
            (for_loop if method.plan.pool == ASYNC_POOL else for_threads).append(live)
        if for_loop:
            lanes.loop.start(for_loop)
        if for_threads:
            lanes.threads.start(for_threads)
        if len(for_loop) + len(for_threads) < len(effect.runs):
            lanes.board.flush()
        lanes.watch.busy()

    def _refuse(self, start: StartRun, method: Method | None, board: Board, now: Now) -> None:
        """Answer a run that cannot begin."""
        if self._closing:
            board.answer(cancelled_unstarted(start.row, start.attempt, CancelReason.SHUTDOWN, now.utc_us), now)
            return
        if method is None:
            reason, why = Reason.UNKNOWN_METHOD, f"no handler {start.handler_id}.{start.method} is registered here"
        else:
            problem = method.plan.problem(start.params)
            reason, why = Reason.INVALID_PARAMS, f"{start.handler_id}.{start.method}: {problem}"
        board.answer(refused(start.row, start.attempt, reason, why, now.utc_us), now)

    def _cancel(self, key: tuple[int, int], reason: CancelReason, lanes: "_Lanes") -> None:
        board = lanes.board
        if board.waiting.pop(key, None) is not None:
            now = self._clock.now()
            board.answer(cancelled_unstarted(*key, reason, now.utc_us), now)
            return
        live = board.running.get(key)
        if live is None:
            _log.debug("cancel_of_no_run", row=key[0], attempt=key[1], reason=reason.value)
            return
        live.ask_to_stop(reason)
        if live.method.plan.pool == ASYNC_POOL:
            lanes.loop.cancel(live)

    def _lanes(self) -> "_Lanes":
        if self._opened is None:
            raise RuntimeError("the executor is not open")
        return self._opened


class _Lanes:
    """What exists while the executor is open."""

    def __init__(self, board: Board, backend: str, slots: int, threads: int, stall_s: float) -> None:
        self.board = board
        self.loop = LoopLane(board, backend, slots)
        self.threads = ThreadLane(board, threads)
        self.watch = Watch(board, self.loop, stall_s)


def _name(live: LiveRun) -> str:
    return f"{live.start.handler_id}.{live.start.method}"
