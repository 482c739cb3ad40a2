"""Watches the loop of the async handlers from outside, while there is work: who blocks it is named, and results are
handed in that a blocked thread holds back."""

import sys
import threading
import time
from types import FrameType

import structlog

from sz_runtime.executor_loop import LoopLane
from sz_runtime.live_run import Board, LiveRun

_TICK_S = 0.25
_log = structlog.get_logger("schedulezero.executor")


class Watch:
    """One thread, asleep while the executor is idle. A loop that does not answer for `stall_s` gets one warning, with
    the handler and the line it stands at, and one message with the duration when it answers again."""

    def __init__(self, board: Board, lane: LoopLane, stall_s: float) -> None:
        self._board = board
        self._lane = lane
        self._stall_s = stall_s
        self._tick_s = min(_TICK_S, stall_s / 2)
        self._busy = threading.Event()
        self._stop = threading.Event()
        self._asked_at: float | None = None
        self._beats = 0
        self._warned = ""
        self.thread = threading.Thread(target=self._run, name="sz-handler-watch", daemon=True)

    def busy(self) -> None:
        """There is work: look at it from now on. From any thread."""
        if not self._busy.is_set():
            self._busy.set()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._busy.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._busy.wait()
            while not self._stop.wait(self._tick_s):
                self._board.flush()
                self._board.tell()
                self._look()
                if self._board.is_idle() and self._asked_at is None:
                    self._busy.clear()
                    if self._board.is_idle():  # nothing came between the look and the clearing
                        break
                    self._busy.set()

    def _look(self) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            if self._board.running or self._board.waiting:
                self._asked_at, self._beats = now, self._lane.beats
                self._lane.ring()
        elif self._lane.beats != self._beats:
            if self._warned:
                stalled_s = round(self._lane.beat_at - self._asked_at, 3)
                _log.warning("handler_loop_runs_again", handler=self._warned, blocked_s=stalled_s)
            self._asked_at, self._warned = None, ""
        elif now - self._asked_at >= self._stall_s and not self._warned:
            self._warn(now - self._asked_at)

    def _warn(self, blocked_s: float) -> None:
        live, place = _who_runs(self._lane.thread.ident)
        self._warned = "unknown" if live is None else f"{live.start.handler_id}.{live.start.method}"
        _log.warning(
            "handler_loop_blocked",
            handler=self._warned,
            run_id="" if live is None else live.start.run_id,
            schedule_id="" if live is None else live.start.schedule_id,
            at=place,
            blocked_s=round(blocked_s, 3),
            hint="an async handler must not block; make it a plain function (def) and it gets a thread",
        )


def _who_runs(thread_id: int | None) -> tuple[LiveRun | None, str]:
    """The run whose handler this thread is in, by the frames on its stack, and the innermost line."""
    frame: FrameType | None = sys._current_frames().get(thread_id or 0)
    if frame is None:
        return None, ""
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    while frame is not None:
        if frame.f_globals.get("__name__") == LoopLane.__module__:
            live = frame.f_locals.get("live")
            if isinstance(live, LiveRun):
                return live, place
        frame = frame.f_back
    return None, place
