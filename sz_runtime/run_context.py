"""What a handler may know about the run it executes: who asked, which attempt, until when, under which fence."""

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Protocol

import structlog
from attrs import Factory, field, frozen

from sz_protocol.kernel.effects import CancelReason
from sz_protocol.records import RunKind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RunCancelled(Exception):
    """Raised by `run.check_cancelled()` and `run.sleep()` in a plain function whose run was asked to stop."""


class DoNotRetry(Exception):
    """Raise this (or a subclass) from a handler when another attempt cannot help: the run fails at once."""


class Execution(Protocol):
    """The executor's side of a run under way, as far as its context needs it."""

    def context(self) -> "RunContext":
        """The context of this run, always the same object."""
        ...

    def notice_cancel(self) -> CancelReason | None:
        """Why the run was asked to stop, if it was; asking counts as having noticed."""
        ...

    def wait_for_cancel(self, seconds: float) -> None:
        """Block this thread until the run is asked to stop, at most so long."""
        ...

    def mono_us(self) -> int:
        """The node's monotonic clock."""
        ...

    def tell_progress(self, note: str, percent: int | None) -> None:
        """Tell it, now or soon; the latest counts."""
        ...


CURRENT_RUN: ContextVar[Execution | None] = ContextVar("schedulezero_run", default=None)
"""Set by the executor around every run; tasks that a handler starts inherit it."""


@frozen(kw_only=True, eq=False)
class RunContext:
    """One execution, as its handler sees it.

    `run_id` names the run for ever, `attempt` counts its executions from 1. `fence` grows from run to run and from
    attempt to attempt: hand it to whatever must refuse a stale writer. `fire_us` (UTC) is the planned instant,
    `started_us` (UTC) when this attempt began, `deadline_us` (monotonic) when it will be cancelled.

    A handler's own tests may build one: only the six fields without a default are needed.
    """

    run_id: str
    schedule_id: str
    handler_id: str
    method: str
    fire_us: int
    started_us: int
    attempt: int = 1
    fence: int = 0
    deadline_us: int | None = None
    kind: RunKind = RunKind.SCHEDULED
    labels: Mapping[str, str] = Factory(dict)
    _execution: Execution | None = field(default=None, repr=False)

    @property
    def fire_time(self) -> datetime:
        """The planned instant, an aware datetime in UTC."""
        return _EPOCH + timedelta(microseconds=self.fire_us)

    @property
    def started(self) -> datetime:
        """When this attempt began, an aware datetime in UTC."""
        return _EPOCH + timedelta(microseconds=self.started_us)

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of this run, and different from every other run's."""
        return self.run_id

    @property
    def trace_parent(self) -> str:
        """A W3C traceparent: one trace per run, one span per attempt."""
        trace = blake2b(self.run_id.encode(), digest_size=16).hexdigest()
        span = blake2b(f"{self.run_id}/{self.attempt}".encode(), digest_size=8).hexdigest()
        return f"00-{trace}-{span}-01"

    @property
    def logger(self) -> Any:
        """A structlog logger that carries this run's names; made when asked for."""
        return structlog.get_logger("schedulezero.run").bind(
            run_id=self.run_id,
            schedule_id=self.schedule_id,
            handler=f"{self.handler_id}.{self.method}",
            attempt=self.attempt,
        )

    def remaining(self) -> float | None:
        """Seconds until this attempt will be cancelled (negative: it is overdue); None without a time-out."""
        if self.deadline_us is None or self._execution is None:
            return None
        return (self.deadline_us - self._execution.mono_us()) / 1e6

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why this run was asked to stop, None while it was not. A run that has seen a reason here ends as cancelled,
        even when the handler then returns."""
        return None if self._execution is None else self._execution.notice_cancel()

    @property
    def cancel_requested(self) -> bool:
        """Whether this run was asked to stop. Plain functions cannot be interrupted: long ones look here."""
        return self.cancel_reason is not None

    def check_cancelled(self) -> None:
        """Raise RunCancelled once this run was asked to stop."""
        reason = self.cancel_reason
        if reason is not None:
            raise RunCancelled(f"asked to stop: {reason.value}")

    def progress(self, note: str = "", percent: int | None = None) -> None:
        """Say how far this run is: whoever watches sees the latest word. Call it as often as you like, in plain and
        async handlers alike: it never blocks, and is told at most a few times a second. Raises ValueError for a percent
        that is no whole number from 0 to 100."""
        if percent is not None and (type(percent) is not int or not 0 <= percent <= 100):
            raise ValueError(f"percent is {percent!r}, but has to be a whole number from 0 to 100")
        if self._execution is not None:
            self._execution.tell_progress(str(note), percent)

    def sleep(self, seconds: float) -> None:
        """Sleep in a plain function; raises RunCancelled as soon as the run is asked to stop. Blocks its thread: async
        handlers await their own loop's sleep instead."""
        if self._execution is not None:
            self._execution.wait_for_cancel(seconds)
            self.check_cancelled()


def current_run() -> RunContext:
    """The run that this handler executes. Raises RuntimeError outside of a run."""
    execution = CURRENT_RUN.get()
    if execution is None:
        raise RuntimeError("there is no current run here: current_run() works inside a handler that ScheduleZero runs")
    return execution.context()
