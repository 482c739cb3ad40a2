"""An executor on real threads and a real event loop, with what a test needs to feed it and to wait for results."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from sz_protocol.kernel.effects import CancelReason, CancelRun, StartRun, StartRuns
from sz_protocol.kernel.events import Event, HandlersChanged, RunProgress, RunResult, RunsFinished, RunsProgressed
from sz_protocol.records import RunKind
from sz_runtime.executor import HandlerExecutor
from sz_runtime.handlers import LocalHandlerRegistry
from sz_shells.clocks.boot import BootClock

PATIENCE_S = 10.0


class Rig:
    """`with Rig(backend) as rig`: handlers of id "h", runs by row number. Leaving it demands that all handlers end."""

    def __init__(self, backend: str, **options: Any) -> None:
        self.registry = LocalHandlerRegistry()
        self.clock = BootClock()
        self.executor = HandlerExecutor(self.registry, self.clock, backend, **options)
        self.results: list[RunResult] = []
        self.batches: list[int] = []
        self.changes: list[HandlersChanged] = []
        self.progress: list[RunProgress] = []
        self.must_end = True
        self._arrived = threading.Condition()
        self._rows = 0

    def __enter__(self) -> "Rig":
        self.executor.open(self.complete)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = self.executor.close(PATIENCE_S if self.must_end else 0.0)
        if error is None and self.must_end:
            assert ended, "a handler would not end"

    def complete(self, events: Sequence[Event]) -> None:
        with self._arrived:
            for event in events:
                if isinstance(event, RunsFinished):
                    self.batches.append(len(event.results))
                    self.results += event.results
                elif isinstance(event, HandlersChanged):
                    self.changes.append(event)
                elif isinstance(event, RunsProgressed):
                    self.progress += event.progress
            self._arrived.notify_all()

    def handler(self, func: Callable[..., Any], **options: Any) -> None:
        self.registry.register("h", func, **options)

    def starts(
        self, method: str, count: int = 1, params: Mapping[str, Any] | None = None, deadline_us: int | None = None
    ) -> tuple[StartRun, ...]:
        first, self._rows = self._rows + 1, self._rows + count
        return tuple(
            StartRun(
                row=row,
                run_id=f"{row:032x}",
                schedule_id=f"s{row}",
                kind=RunKind.SCHEDULED,
                handler_id="h",
                method=method,
                params=params or {},
                fire_us=1_700_000_000_000_000,
                attempt=1,
                fence=100 + row,
                deadline_us=deadline_us,
                labels={"team": "blue"},
            )
            for row in range(first, first + count)
        )

    def start(self, method: str, count: int = 1, params: Mapping[str, Any] | None = None, **options: Any) -> int:
        """Submit one batch; the row of its first run."""
        runs = self.starts(method, count, params, **options)
        self.executor.submit(StartRuns(runs))
        return runs[0].row

    def cancel(self, row: int, reason: CancelReason = CancelReason.REQUESTED, attempt: int = 1) -> None:
        self.executor.submit(CancelRun(row, attempt, reason))

    def wait_for(self, count: int) -> list[RunResult]:
        """Wait until that many results have come in all."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.results) >= count, PATIENCE_S), (
                f"{len(self.results)} of {count} results came"
            )
            return list(self.results)

    def result(self, row: int) -> RunResult:
        """Wait for the result of this row."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: any(r.row == row for r in self.results), PATIENCE_S), "no result"
            return next(r for r in self.results if r.row == row)

    def run(self, func: Callable[..., Any], params: Mapping[str, Any] | None = None, **options: Any) -> RunResult:
        """Register, start once, wait for the result."""
        self.handler(func, **options)
        return self.result(self.start(func.__name__, params=params))


def eventually(reached: Callable[[], bool]) -> None:
    """Poll until it is so."""
    until = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.002)
