"""An asyncio event loop whose time is the world's: `asyncio.sleep(60)` and `anyio.sleep(60)` take a simulated minute.

No selector, no thread, no socket. Everything that a coroutine can await without the outside world works: sleeps,
events, locks, queues, task groups, time-outs. `asyncio.to_thread` runs the function on the spot. What needs the outside
world says so, by name.
"""

import asyncio
import threading
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.clock import SimClock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NO_THREADS = "a handler in simulated time used a thread: there is none (asyncio.to_thread works, it runs on the spot)"


class OutsideWorld(RuntimeError):
    """A handler asked for something that simulated time does not have."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Takes its turns from the agenda. A loop belongs to one life of one node; `abandon` is its end by kill -9:
    nothing of it runs any more, no `finally` either."""

    def __init__(self, agenda: Agenda, clock: SimClock) -> None:
        super().__init__()
        self.frozen_until_us = 0
        self.problems: list[str] = []
        """What went wrong outside of any handler: exceptions of stray tasks, threads that called in."""
        self._agenda = agenda
        self._clock = clock
        self._turns: deque[asyncio.Handle] = deque()
        self._turn_planned = False
        self._over = False
        self._home = threading.get_ident()
        self._tasks: list[asyncio.Task[Any]] = []

    # --- time -------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """The node's monotonic clock, in seconds."""
        return self._clock.now(self._agenda.now_us).mono_us / 1e6

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """In the next turn."""
        handle = asyncio.Handle(callback, args, self, context)
        self._turns.append(handle)
        self._plan_turn()
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """After `delay` simulated seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """At `when` on the node's monotonic clock."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._agenda.at(self._clock.true_at(round(when * 1e6)), self._ring, timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Its entry stays in the agenda and finds nothing to do."""

    def _ring(self, timer: asyncio.TimerHandle) -> None:
        if not timer.cancelled() and not self._over:
            self._turns.append(timer)
            self._plan_turn()

    def _plan_turn(self) -> None:
        if not self._turn_planned and not self._over:
            self._turn_planned = True
            # A microsecond a turn: whoever spins sees time pass.
            self._agenda.at(max(self._agenda.now_us + 1, self.frozen_until_us), self._turn)

    def _turn(self) -> None:
        self._turn_planned = False
        if self._over:
            return
        if self._agenda.now_us < self.frozen_until_us:
            self._plan_turn()
            return
        before, start_thread = events._get_running_loop(), threading.Thread.start
        events._set_running_loop(self)
        threading.Thread.start = _refuse_thread  # type: ignore[assignment, method-assign]
        try:
            for _ in range(len(self._turns)):
                if not self._turns:  # One of them ended the process.
                    break
                handle = self._turns.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            threading.Thread.start = start_thread  # type: ignore[method-assign]
            events._set_running_loop(before)
        if self._turns:
            self._plan_turn()

    # --- tasks ------------------------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task of this loop."""
        label = None if name is None else str(name)
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=label, context=context)
        self._tasks = [other for other in self._tasks if not other.done()]
        self._tasks.append(task)
        return task

    def abandon(self) -> list[asyncio.Task[Any]]:
        """kill -9: nothing runs any more. The tasks are handed out: whoever keeps them keeps their `finally` blocks
        from running until the simulation is over."""
        self._over = True
        self._turns.clear()
        return [task for task in self._tasks if not task.done()]

    # --- what handlers and libraries ask of a loop ---------------------------------------------------------------

    def get_debug(self) -> bool:
        """Never: what asyncio's debug mode measures is real time."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """There is no debug mode."""

    def is_running(self) -> bool:
        """Until the process is killed."""
        return not self._over

    def is_closed(self) -> bool:
        """Once the process is killed."""
        return self._over

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody caught."""
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody caught."""
        error = context.get("exception")
        text = str(context.get("message", "a stray task failed"))
        self.problems.append(f"{text}: {type(error).__name__}: {error}" if error is not None else text)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """From this thread only: another one would bring real time, and its disorder, into simulated time."""
        if threading.get_ident() != self._home:
            self.problems.append(NO_THREADS)
            raise OutsideWorld(NO_THREADS)
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run the function on the spot, in no simulated time."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def _refuse_thread(thread: threading.Thread) -> None:
    """Stands in for Thread.start while a handler runs."""
    raise OutsideWorld(NO_THREADS)


def _outside(name: str) -> Callable[..., Any]:
    def refuse(self: VirtualLoop, *args: Any, **options: Any) -> Any:
        raise OutsideWorld(
            f"a handler in simulated time called loop.{name}: there is no network, no process and no file"
        )

    return refuse


for _name in (
    *("create_connection", "create_server", "create_datagram_endpoint", "getaddrinfo", "getnameinfo", "sendfile"),
    *("create_unix_connection", "create_unix_server", "connect_accepted_socket", "subprocess_exec", "subprocess_shell"),
    *("connect_read_pipe", "connect_write_pipe", "add_reader", "add_writer", "remove_reader", "remove_writer"),
    *("sock_recv", "sock_recv_into", "sock_sendall", "sock_connect", "sock_accept", "add_signal_handler", "start_tls"),
):
    setattr(VirtualLoop, _name, _outside(_name))
