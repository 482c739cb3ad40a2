"""The threads of the plain handlers: a bounded pool of our own, fed in batches.

A thread that takes a run makes sure first that somebody else looks after the queue: it wakes an idle one or starts
another. So submitting never starts a thread, and a batch that does not block stays in the thread that has it.
"""

import inspect
import threading
import time
from collections import deque
from contextvars import Context
from typing import Any

import structlog

from sz_protocol.kernel.events import RunResult
from sz_protocol.kernel.now import Now
from sz_runtime.live_run import Board, LiveRun
from sz_runtime.run_context import CURRENT_RUN
from sz_runtime.run_outcome import raised, returned

_log = structlog.get_logger("schedulezero.executor")


class ThreadLane:
    """Runs plain handlers, at most `size` at once."""

    def __init__(self, board: Board, size: int) -> None:
        self._board = board
        self._size = size
        self._queue: deque[LiveRun] = deque()
        self._idle: list[_Worker] = []
        self._workers: list[_Worker] = []
        self._growing = threading.Lock()
        self._coming = False
        self._closing = False

    def open(self) -> None:
        """Start the first thread."""
        self._grow()

    def start(self, lives: list[LiveRun]) -> None:
        """Queue runs; from any thread, never blocks."""
        self._queue.extend(lives)
        self._wake_one()

    def close(self) -> None:
        """Let every thread end with the run that it has; the queue must have been cancelled."""
        self._closing = True
        for _ in range(len(self._workers)):
            self._wake_one()

    def join(self, until_s: float) -> bool:
        """Wait for the threads, until this `time.monotonic()`; False when one still runs."""
        for worker in self._workers:
            worker.join(max(0.0, until_s - time.monotonic()))
        return not any(worker.is_alive() for worker in self._workers)

    def work(self, worker: "_Worker") -> None:
        """The life of one thread."""
        self._coming = False
        while not (self._closing and not self._queue):
            try:
                live = self._queue.popleft()
            except IndexError:
                self._rest(worker)
                continue
            if self._board.begin(live, self._board.clock.now()):
                self._call_another()
                self._serve(live)
        self._board.flush()

    def _rest(self, worker: "_Worker") -> None:
        """Wait to be woken. First stand in line, then look once more: whoever queues does it the other way round."""
        self._board.flush()
        self._idle.append(worker)
        if self._queue or self._closing:
            try:
                self._idle.remove(worker)
            except ValueError:
                pass  # somebody is waking us already
            else:
                return
        worker.gate.acquire()
        self._coming = False

    def _serve(self, live: LiveRun) -> None:
        result, now = Context().run(_execute, live)
        self._board.end(live, result, now)
        if not self._queue or self._board.flush_is_due(now):
            self._board.flush()

    def _call_another(self) -> None:
        """While this thread is busy, another one has to look after the queue, now or when something comes."""
        if self._coming:
            return
        if self._queue:
            self._coming = True  # before the wake: whoever comes takes it back
            if self._wake_one():
                return
            self._coming = False
        if not self._idle and len(self._workers) < self._size and not self._closing:
            self._grow()

    def _wake_one(self) -> bool:
        try:
            worker = self._idle.pop()
        except IndexError:
            return False
        worker.gate.release()
        return True

    def _grow(self) -> None:
        with self._growing:
            if len(self._workers) >= self._size:
                return
            worker = _Worker(self, len(self._workers) + 1)
            self._workers.append(worker)
            self._coming = True
            try:
                worker.start()
            except RuntimeError as error:  # the system gives no more threads: go on with those there are
                self._workers.remove(worker)
                self._coming = False
                _log.warning("handler_thread_refused", error=str(error), threads=len(self._workers))


class _Worker(threading.Thread):
    """`gate` is held while the thread may run. To rest it acquires the gate again; whoever wakes it releases it."""

    def __init__(self, lane: ThreadLane, number: int) -> None:
        super().__init__(name=f"sz-handler-{number}", daemon=True)
        self._lane = lane
        self.gate = threading.Lock()
        self.gate.acquire()

    def run(self) -> None:
        self._lane.work(self)


def _execute(live: LiveRun) -> tuple[RunResult, Now]:
    """Runs in context variables of its own, so that nothing passes from run to run."""
    CURRENT_RUN.set(live)
    try:
        value: Any = live.method.func(**live.arguments())
    except BaseException as error:  # a handler may even raise SystemExit: the thread goes on
        now = live.board.clock.now()
        return raised(live, error, now.utc_us), now
    now = live.board.clock.now()
    result = returned(live, value, now.utc_us)
    if inspect.iscoroutine(value):
        value.close()
    return result, now
