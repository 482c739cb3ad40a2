"""The event loop of the async handlers, in a thread of its own.

Leader and followers: one task, the leader, takes runs from the queue and serves them on the spot. As long as handlers
do not wait, one task serves them all. The first run that waits keeps its task; before it does, another task has been
made leader. So a batch that never waits costs no task, and a run that does has a task, a cancel scope and a set of
context variables that no other run will see again.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from types import CoroutineType, coroutine
from typing import Any

import anyio
import anyio.lowlevel
import structlog

from sz_protocol.kernel.now import Now
from sz_runtime.call_plan import ASYNC_POOL
from sz_runtime.live_run import Board, LiveRun
from sz_runtime.mailbox import Mailbox
from sz_runtime.run_context import CURRENT_RUN
from sz_runtime.run_outcome import raised, returned

_RUNS_PER_TURN = 64
_TURN_US = 5_000
_MAIL = 4096
_REVIVE_S = 0.05
_log = structlog.get_logger("schedulezero.executor")


class LoopLane:
    """Runs async handlers on `backend`, at most `slots` at once. One thread starts it, posts to it and closes it."""

    def __init__(self, board: Board, backend: str, slots: int) -> None:
        self._board = board
        self._backend = backend
        self._slots = slots
        self._mail: Mailbox[list[LiveRun] | LiveRun] = Mailbox()
        self._queue: deque[LiveRun] = deque()
        self._closing = False
        self._waiting = 0
        self._clean = Context()
        self.beats = 0
        """Counts the leader's rounds: while it stands still although somebody rang, the loop is blocked."""
        self.beat_at = 0.0
        self.thread = threading.Thread(target=self._serve_loops, name="sz-handlers", daemon=True)

    def start(self, lives: list[LiveRun]) -> None:
        """Queue runs; from any thread, never blocks."""
        self._mail.post([lives])

    def cancel(self, live: LiveRun) -> None:
        """Cancel the scope of a run that was asked to stop; from any thread, never blocks."""
        self._mail.post([live])

    def ring(self) -> None:
        """Ask for a beat; from any thread, never blocks."""
        self._mail.wake()

    def close(self) -> None:
        """Let the thread end as soon as no handler runs any more. Whoever still runs must have been cancelled."""
        self._closing = True
        self._mail.wake()

    def _serve_loops(self) -> None:
        """One event loop after another: a handler's stray task can end a loop (sys.exit), never the node."""
        while not self._closing:
            try:
                anyio.run(self._main, backend=self._backend)
            except BaseException as error:
                _log.error("handler_loop_died", error=repr(error), runs=self._waiting)
                self._answer_for_the_dead(error)
                time.sleep(_REVIVE_S)

    def _answer_for_the_dead(self, error: BaseException) -> None:
        now = self._board.clock.now()
        for live in list(self._board.running.values()):
            if live.method.plan.pool == ASYNC_POOL:
                died = RuntimeError(f"the event loop of the handlers ended under this run: {error!r}")
                self._board.end(live, raised(live, died, now.utc_us), now)
        self._board.flush()

    async def _main(self) -> None:
        self._mail.bind()
        self._waiting = 0
        CURRENT_RUN.set(None)
        self._clean = copy_context()
        async with anyio.create_task_group() as self._group:
            self._spawn(self._lead)

    def _spawn(self, task: Callable[..., Coroutine[Any, Any, None]], *args: LiveRun) -> None:
        # In the context of the loop's birth: whatever handlers set in theirs goes with them.
        self._clean.run(lambda: self._group.start_soon(task, *args))

    async def _lead(self) -> None:
        with anyio.CancelScope() as scope:
            while True:
                self._read_mail()
                if not await self._serve_queue(scope):
                    break
                CURRENT_RUN.set(None)
                self._board.flush()
                if self._closing and not self._waiting:
                    return
                await self._mail.wait()
        await self._shake_off_cancellation()

    def _read_mail(self) -> None:
        self.beats += 1
        self.beat_at = time.monotonic()
        for item in self._mail.drain(_MAIL):
            if isinstance(item, list):
                self._queue.extend(item)
            elif item.scope is not None and self._board.running.get(item.key) is item:
                item.noticed = True
                item.scope.cancel()

    async def _serve_queue(self, scope: anyio.CancelScope) -> bool:
        """Serve until the queue is empty (True), or until another task leads and this one has to end (False)."""
        board, queue, clock = self._board, self._queue, self._board.clock
        cancelling, clean_size = self._cancelling(), len(self._clean)
        now = clock.now()
        served, turn_us = 0, now.mono_us
        while queue and self._waiting < self._slots:
            live = queue.popleft()
            if not board.begin(live, now):
                continue
            if live.method.isolate:
                self._waiting += 1
                self._spawn(self._run_alone, live)
                continue
            CURRENT_RUN.set(live)
            live.scope = scope
            try:
                running = _called(live)
                signal = running.send(None)
            except StopIteration as stop:
                now = clock.now()
                result = returned(live, stop.value, now.utc_us)
            except BaseException as error:
                now = clock.now()
                result = raised(live, error, now.utc_us)
            else:
                self._waiting += 1
                self._spawn(self._lead)
                await self._finish(live, _carry_on(running, signal))
                return False
            board.end(live, result, now)
            if len(copy_context()) != clean_size or cancelling():
                # The handler left context variables or a cancellation behind: no other run may find them.
                self._spawn(self._lead)
                return False
            served += 1
            if served >= _RUNS_PER_TURN or now.mono_us - turn_us > _TURN_US:
                await self._let_others_run(now)
                now = clock.now()
                served, turn_us = 0, now.mono_us
        return True

    async def _let_others_run(self, now: Now) -> None:
        if self._board.flush_is_due(now):
            self._board.flush()
        await anyio.lowlevel.checkpoint()
        self._read_mail()

    async def _run_alone(self, live: LiveRun) -> None:
        """A task for one run from its first step on."""
        with anyio.CancelScope() as scope:
            CURRENT_RUN.set(live)
            live.scope = scope
            if live.asked is not None:  # it came before there was a scope to cancel
                live.noticed = True
                scope.cancel()
            await self._finish(live, _call(live))
        await self._shake_off_cancellation()

    async def _finish(self, live: LiveRun, running: Awaitable[Any]) -> None:
        try:
            value = await running
        except GeneratorExit:
            raise  # this very task is thrown away together with its loop
        except BaseException as error:
            now = self._board.clock.now()
            result = raised(live, error, now.utc_us)
        else:
            now = self._board.clock.now()
            result = returned(live, value, now.utc_us)
        self._waiting -= 1
        self._board.end(live, result, now)
        # The leader hands in together what ended in one round of the loop.
        self._mail.wake()

    def _cancelling(self) -> Callable[[], int]:
        """How often this task was cancelled behind anyio's back (asyncio's own `task.cancel()`)."""
        task = asyncio.current_task() if self._backend == "asyncio" else None
        return _never if task is None else task.cancelling

    async def _shake_off_cancellation(self) -> None:
        """A task that ended as cancelled would take the whole group with it."""
        if self._cancelling()():
            with suppress(asyncio.CancelledError):
                await anyio.lowlevel.checkpoint()


def _never() -> int:
    return 0


def _called(live: LiveRun) -> Coroutine[Any, Any, Any]:
    """The coroutine of a call, not begun."""
    running = live.method.func(**live.arguments())
    return running if type(running) is CoroutineType else _awaited(running)


async def _awaited(thing: Awaitable[Any]) -> Any:
    return await thing


async def _call(live: LiveRun) -> Any:
    return await live.method.func(**live.arguments())


@coroutine
def _carry_on(running: Coroutine[Any, Any, Any], signal: Any) -> Generator[Any, Any, Any]:
    """Await a coroutine that was begun by hand: `signal` is what it first asked of its event loop."""
    thrown: BaseException | None = None
    try:
        while True:
            try:
                answer = yield signal
            except BaseException as error:  # a cancellation, or GeneratorExit: it is the handler's to clean up
                thrown = error
            try:
                signal = running.send(answer) if thrown is None else running.throw(thrown)
            except StopIteration as stop:
                return stop.value
            thrown = None
    finally:
        thrown = None  # it refers to this frame by its traceback
