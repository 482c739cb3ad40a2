"""The simulated executor: handlers that take simulated time, write down what they did, and misbehave as drawn."""

from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from attrs import Factory, define

from sz_protocol.kernel.effects import CancelReason, CancelRun, StartRun, StartRuns
from sz_protocol.kernel.events import MethodInfo, RunResult, RunsFinished
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.records import Outcome, Reason
from sz_runtime.ports import Complete, Executor
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.behaviour import POISON, Behaviour, Ending, Performance, perform
from sz_runtime.simulation.clock import SimClock
from sz_runtime.simulation.diary import Diary

START_US = 30
REPORT_US = 60
"""From order to handler and from its end to the node, as thread hops take."""


class HostedExecutor(Executor, Protocol):
    """What a simulated machine asks of an executor beside the port."""

    def freeze(self, until_us: int) -> None:
        """The process stands still until then, and its handlers with it."""
        ...

    def set_methods(self, infos: dict[tuple[str, str], MethodInfo]) -> None:
        """What can be executed from now on, where the world decides that."""
        ...

    def let_go(self) -> None:
        """Everything was healed: nothing wicked any more."""
        ...


Key = tuple[int, int]
_USUAL: Final = Behaviour()
TAME = Performance(Ending.SUCCEEDS, SECOND_US // 100, False, 1)


@define
class Execution:
    """One handler at work."""

    start: StartRun
    performance: Performance
    started_utc_us: int
    asked: CancelReason | None = None


@define
class SimExecutor:
    """Where the handlers of one life of one node run. They write into the trace, which survives the node."""

    agenda: Agenda
    diary: Diary
    clock: SimClock
    behaviours: dict[tuple[str, str], Behaviour]
    infos: dict[tuple[str, str], MethodInfo]
    pools: tuple[tuple[str, int], ...]
    draw: Callable[[str, int], Random]
    """The random stream of one execution, by run id and attempt."""
    die: Callable[[str], None] = lambda why: None
    tame: bool = False
    """Nothing wicked any more: every handler ends soon, and well."""
    running: dict[Key, Execution] = Factory(dict)
    over: bool = False
    frozen_until_us: int = 0
    """Handlers stand still with their process; what would end before this ends then."""
    _complete: Complete | None = None
    _report: list[RunResult] = Factory(list)

    def methods(self) -> tuple[tuple[MethodInfo, ...], tuple[tuple[str, int], ...]]:
        """What can be executed here."""
        return tuple(self.infos.values()), self.pools

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
        """The process ends: whatever still runs is killed."""
        self.kill()
        return True

    def freeze(self, until_us: int) -> None:
        """The process stands still, and its handlers with it."""
        self.frozen_until_us = max(self.frozen_until_us, until_us)

    def set_methods(self, infos: dict[tuple[str, str], MethodInfo]) -> None:
        """What can be executed from now on."""
        self.infos = infos

    def kill(self) -> None:
        """The process vanished, and every handler with it."""
        self.over = True
        for execution in self.running.values():
            self.diary.ended(execution.start, self._pool(execution.start), "killed")
        self.running.clear()

    def let_go(self) -> None:
        """From here on every handler ends soon, those that hang too."""
        self.tame = True
        for key, execution in self.running.items():
            execution.performance = TAME
            self.agenda.after(SECOND_US, self._end, key)

    # --- one execution ----------------------------------------------------------------------------------------

    def _begin(self, start: StartRun) -> None:
        if self.over:
            return
        if self._asleep(self._begin, start):
            return
        if (start.handler_id, start.method) not in self.infos:
            self._refuse(start)
            return
        utc_us = self.clock.now(self.agenda.now_us).utc_us
        self.diary.began(start, self._pool(start), utc_us)
        behaviour = self.behaviours.get((start.handler_id, start.method), _USUAL)
        performance = TAME if self.tame else perform(behaviour, self.draw(start.run_id, start.attempt))
        self.running[start.row, start.attempt] = Execution(start, performance, utc_us)
        self.agenda.after(performance.lasts_us, self._end, (start.row, start.attempt))

    def _end(self, key: Key) -> None:
        execution = self.running.get(key)
        if execution is None or self.over or self._asleep(self._end, key):
            return
        match execution.performance.ending:
            case Ending.SUCCEEDS | Ending.HANGS:
                self._finish(key, Outcome.SUCCEEDED, "", result='{"ok":true}')
            case Ending.FAILS:
                self._finish(key, Outcome.FAILED, Reason.ERROR, error="RuntimeError: the handler raised")
            case Ending.POISON:
                self._finish(key, Outcome.FAILED, Reason.ERROR, error=f"ValueError: {POISON}")
            case Ending.UNSTORABLE:
                self._finish(
                    key, Outcome.FAILED, Reason.UNSTORABLE, error="TypeError: a set is no JSON", retryable=False
                )
            case Ending.FATAL:
                self.die("a handler took the process down")

    def _stop(self, key: Key, reason: CancelReason) -> None:
        if self.over or self._asleep(self._stop, key, reason):
            return
        execution = self.running.get(key)
        if execution is None or execution.asked is not None:
            return
        execution.asked = reason
        if not execution.performance.stubborn:
            self.agenda.after(execution.performance.stops_after_us, self._stopped, key)

    def _stopped(self, key: Key) -> None:
        execution = self.running.get(key)
        if execution is None or self.over or self._asleep(self._stopped, key):
            return
        assert execution.asked is not None
        self._finish(key, Outcome.CANCELLED, execution.asked.value, error="cancelled")

    def _finish(
        self,
        key: Key,
        outcome: Outcome,
        reason: str,
        *,
        result: str | None = None,
        error: str | None = None,
        retryable: bool = True,
    ) -> None:
        execution = self.running.pop(key)
        reason = str(reason)
        self.diary.ended(execution.start, self._pool(execution.start), outcome.value, reason)
        ended_us = self.clock.now(self.agenda.now_us).utc_us
        self._hand_in(RunResult(*key, outcome, reason, execution.started_utc_us, ended_us, result, error, retryable))

    def _refuse(self, start: StartRun) -> None:
        """The method has gone since the node decided."""
        now_us = self.clock.now(self.agenda.now_us).utc_us
        key, reason = (start.row, start.attempt), Reason.UNKNOWN_METHOD.value
        self._hand_in(RunResult(*key, Outcome.FAILED, reason, now_us, now_us, error="no such method", retryable=False))

    def _hand_in(self, result: RunResult) -> None:
        if not self._report:
            self.agenda.after(REPORT_US, self._deliver)
        self._report.append(result)

    def _deliver(self) -> None:
        results, self._report = tuple(self._report), []
        if not self.over and self._complete is not None:
            self._complete([RunsFinished(results)])

    def _pool(self, start: StartRun) -> str:
        info = self.infos.get((start.handler_id, start.method))
        return info.pool if info is not None else ""

    def _asleep(self, action: Callable[..., None], *arguments: object) -> bool:
        """Put `action` off when the process stands still."""
        if self.agenda.now_us >= self.frozen_until_us:
            return False
        self.agenda.at(self.frozen_until_us, action, *arguments)
        return True
