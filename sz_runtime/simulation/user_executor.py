"""Users' own handlers in simulated time: async ones on a virtual event loop, plain ones on the spot.

The registry, the way a handler is called, its run context and what its return means are those of production; only the
event loop and the clock are not.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import anyio
from attrs import Factory, define

from sz_protocol.kernel.effects import CancelReason, CancelRun, StartRun, StartRuns
from sz_protocol.kernel.events import Event, MethodInfo, RunResult, RunsFinished
from sz_protocol.kernel.now import Now
from sz_protocol.records import Reason
from sz_runtime.call_plan import ASYNC_POOL, THREAD_POOL
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.live_run import Board, LiveRun
from sz_runtime.ports import Complete
from sz_runtime.run_context import CURRENT_RUN
from sz_runtime.run_outcome import raised, refused, returned
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.clock import SimClock
from sz_runtime.simulation.diary import Diary
from sz_runtime.simulation.executor import REPORT_US, START_US, Key
from sz_runtime.simulation.virtual_loop import VirtualLoop

SLOTS = 1000


@define
class NodeClock:
    """The node's clocks, as the run context reads them."""

    agenda: Agenda
    clock: SimClock

    def now(self) -> Now:
        """Both clocks."""
        return self.clock.now(self.agenda.now_us)

    def arm(self, at_us: int | None) -> None:
        """Handlers have no timer of their own: their event loop has."""

    async def run(self, wake: Any) -> None:
        """Nothing to serve."""


class SimulatedRun(LiveRun):
    """A run whose plain function cannot wait: it would stop the world."""

    def wait_for_cancel(self, seconds: float) -> None:
        """`run.sleep` in a plain function takes no time here."""


@define(eq=False)
class UserExecutor:
    """Implements the Executor port for one life of one node. `graveyard` keeps what a kill left half done, so that
    no `finally` of it runs before the simulation is over."""

    agenda: Agenda
    diary: Diary
    clock: SimClock
    registry: LocalHandlerRegistry
    graveyard: list[asyncio.Task[Any]]
    loop: VirtualLoop = Factory(lambda self: VirtualLoop(self.agenda, self.clock), takes_self=True)
    board: Board = Factory(lambda self: Board(NodeClock(self.agenda, self.clock), _unheard), takes_self=True)
    """Gives runs the time. Their words of progress go nowhere."""
    running: dict[Key, LiveRun] = Factory(dict)
    over: bool = False
    _complete: Complete | None = None
    _report: list[RunResult] = Factory(list)

    def methods(self) -> tuple[tuple[MethodInfo, ...], tuple[tuple[str, int], ...]]:
        """What is registered."""
        return self.registry.methods(), ((ASYNC_POOL, SLOTS), (THREAD_POOL, SLOTS))

    def open(self, complete: Complete) -> None:
        """Begin to accept work."""
        self._complete = complete

    def submit(self, effect: StartRuns | CancelRun) -> None:
        """Begin these, or ask one to stop."""
        match effect:
            case StartRuns(runs):
                for start in runs:
                    self.agenda.after(START_US, self._begin, start)
            case CancelRun(row, attempt, reason):
                self.diary.asked(row, attempt, reason)
                self.agenda.after(START_US, self._stop, (row, attempt), reason)

    def close(self, timeout_s: float) -> bool:
        """The process ends: what still runs is gone, without a word."""
        self.over = True
        for live in self.running.values():
            self.diary.ended(live.start, live.method.plan.pool, "killed")
        self.running.clear()
        self.graveyard += self.loop.abandon()
        return True

    def freeze(self, until_us: int) -> None:
        """The process stands still."""
        self.loop.frozen_until_us = max(self.loop.frozen_until_us, until_us)

    def set_methods(self, infos: dict[tuple[str, str], MethodInfo]) -> None:
        """The registry says what there is."""

    def let_go(self) -> None:
        """Users' handlers are as good as they are."""

    # --- one run ------------------------------------------------------------------------------------------------

    def _begin(self, start: StartRun) -> None:
        if self.over:
            return
        if self.agenda.now_us < self.loop.frozen_until_us:
            self.agenda.at(self.loop.frozen_until_us, self._begin, start)
            return
        now = self.clock.now(self.agenda.now_us)
        method = self.registry.get(start.handler_id, start.method)
        if method is None:
            why = f"no handler {start.handler_id}.{start.method} is registered"
            self._hand_in(refused(start.row, start.attempt, Reason.UNKNOWN_METHOD, why, now.utc_us))
            return
        problem = method.plan.problem(start.params)
        if problem is not None:
            self._hand_in(refused(start.row, start.attempt, Reason.INVALID_PARAMS, problem, now.utc_us))
            return
        live = SimulatedRun(start, method, self.board, (start.row, start.attempt), now.utc_us)
        self.running[live.key] = live
        self.diary.began(start, method.plan.pool, now.utc_us)
        if method.plan.pool == ASYNC_POOL:
            self.loop.create_task(self._run(live), name=f"{start.schedule_id}@{start.fire_us}")
        else:
            self._call(live)

    async def _run(self, live: LiveRun) -> None:
        CURRENT_RUN.set(live)
        with anyio.CancelScope() as live.scope:
            try:
                value = await live.method.func(**live.arguments())
            except GeneratorExit:
                raise
            except BaseException as error:
                result = raised(live, error, self._utc_us())
            else:
                result = returned(live, value, self._utc_us())
            self._end(live, result)

    def _call(self, live: LiveRun) -> None:
        token = CURRENT_RUN.set(live)
        try:
            result = returned(live, live.method.func(**live.arguments()), self._utc_us())
        except Exception as error:
            result = raised(live, error, self._utc_us())
        finally:
            CURRENT_RUN.reset(token)
        self._end(live, result)

    def _stop(self, key: Key, reason: CancelReason) -> None:
        live = self.running.get(key)
        if live is None or self.over:
            return
        live.ask_to_stop(reason)
        if live.scope is not None:
            live.noticed = True
            self.loop.call_soon(live.scope.cancel)

    def _end(self, live: LiveRun, result: RunResult) -> None:
        if self.running.pop(live.key, None) is not None and not self.over:
            self.diary.ended(live.start, live.method.plan.pool, result.outcome.value, result.reason)
            self._hand_in(result)

    def _hand_in(self, result: RunResult) -> None:
        if not self._report:
            self.agenda.after(REPORT_US, self._deliver)
        self._report.append(result)

    def _deliver(self) -> None:
        results, self._report = tuple(self._report), []
        if not self.over and self._complete is not None:
            self._complete([RunsFinished(results)])

    def _utc_us(self) -> int:
        return self.clock.now(self.agenda.now_us).utc_us


def _unheard(events: Sequence[Event]) -> None:
    pass
