"""Runs that an executor has accepted and not yet answered: each is answered exactly once."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from attrs import define, field

from sz_protocol.kernel.effects import CancelReason, StartRun
from sz_protocol.kernel.events import Event, RunProgress, RunResult, RunsFinished, RunsProgressed
from sz_protocol.kernel.now import Now
from sz_runtime.handlers import Method
from sz_runtime.ports import Clock, Complete
from sz_runtime.run_context import RunContext

Key = tuple[int, int]
BATCH = 256
MAX_HELD_US = 5_000
PROGRESS_US = 250_000
NOTE_LIMIT = 500
"""Characters of a word of progress."""
_READ_LIMIT = 10 * NOTE_LIMIT


@define(eq=False)
class LiveRun:
    """One run from its submission to its result. Implements the Execution of its context.

    `asked` is set by the thread that cancels; `noticed` once the handler could know: only then does a run count as
    cancelled, for a handler that never knew has done its whole work.
    """

    start: StartRun
    method: Method
    board: "Board"
    key: Key
    started_us: int = 0
    asked: CancelReason | None = None
    noticed: bool = False
    scope: anyio.CancelScope | None = None
    _bell: threading.Event | None = field(default=None, init=False)
    _context: RunContext | None = field(default=None, init=False)

    def arguments(self) -> Mapping[str, Any]:
        """The keywords of the call. Nested values are copied: a handler may change what it was given, the definition
        of its schedule stays."""
        params, name = self.start.params, self.method.plan.run_parameter
        if not params and name is None:
            return params
        arguments = {key: _copied(value) for key, value in params.items()}
        if name is not None:
            arguments[name] = self.context()
        return arguments

    def context(self) -> RunContext:
        """Made when first asked for: most handlers never do."""
        if self._context is None:
            start = self.start
            self._context = RunContext(
                run_id=start.run_id,
                schedule_id=start.schedule_id,
                handler_id=start.handler_id,
                method=start.method,
                fire_us=start.fire_us,
                started_us=self.started_us,
                attempt=start.attempt,
                fence=start.fence,
                deadline_us=start.deadline_us,
                kind=start.kind,
                labels=start.labels,
                execution=self,
            )
        return self._context

    def ask_to_stop(self, reason: CancelReason) -> None:
        """From any thread; the first reason stays."""
        if self.asked is None:
            self.asked = reason
        if self._bell is not None:
            self._bell.set()

    def notice_cancel(self) -> CancelReason | None:
        if self.asked is not None:
            self.noticed = True
        return self.asked

    def wait_for_cancel(self, seconds: float) -> None:
        # Hang the bell first, look second; who asks does it the other way round.
        if self._bell is None:
            self._bell = threading.Event()
        if self.asked is None:
            self._bell.wait(max(0.0, seconds))

    def mono_us(self) -> int:
        return self.board.clock.now().mono_us

    def tell_progress(self, note: str, percent: int | None) -> None:
        self.board.progress(RunProgress(*self.key, clean(self.board.hide(note[:_READ_LIMIT]))[:NOTE_LIMIT], percent))


def clean(text: str) -> str:
    """Text that every store can hold: no lone surrogates, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(inner) for inner in value]
    return value


class Board:
    """Who waits, who runs, and the results that are not handed in yet. Used from several threads without a lock:
    every decision is one `dict.pop`, which only one thread can win. `hide` takes secrets out of the texts that runs
    leave."""

    def __init__(self, clock: Clock, complete: Complete, hide: Callable[[str], str] = str) -> None:
        self.clock = clock
        self.hide = hide
        self.waiting: dict[Key, LiveRun] = {}
        self.running: dict[Key, LiveRun] = {}
        self._complete = complete
        self._results: deque[RunResult] = deque()
        self._oldest_us = 0
        self._progress: dict[Key, RunProgress] = {}
        self._progress_us = 0

    def is_idle(self) -> bool:
        """Nothing waits, runs or is to be handed in."""
        return not (self.waiting or self.running or self._results)

    def begin(self, live: LiveRun, now: Now) -> bool:
        """Take a waiting run for execution; False when it was cancelled meanwhile."""
        live.started_us = now.utc_us
        # It stands in `running` before it leaves `waiting`, so that a cancellation finds it in one of them.
        self.running[live.key] = live
        if self.waiting.pop(live.key, None) is not None:
            return True
        del self.running[live.key]
        return False

    def end(self, live: LiveRun, result: RunResult, now: Now) -> None:
        """A run has ended. Ignored when it was answered already, on its behalf."""
        if self.running.pop(live.key, None) is not None:
            if self._progress:
                self._progress.pop(live.key, None)
            self.answer(result, now)

    def answer(self, result: RunResult, now: Now) -> None:
        """Keep a result for the next `flush`."""
        if not self._results:
            self._oldest_us = now.mono_us
        self._results.append(result)

    def progress(self, word: RunProgress) -> None:
        """Tell the latest word of each run: at once after a while of silence, otherwise with the next `tell`."""
        self._progress[word.row, word.attempt] = word
        now_us = self.clock.now().mono_us
        if now_us - self._progress_us >= PROGRESS_US:
            self._progress_us = now_us
            self.tell()

    def tell(self) -> None:
        """Hand in the latest words of runs that still execute. From any thread."""
        if not self._progress:
            return
        words: list[RunProgress] = []
        for key in list(self._progress):
            word = self._progress.pop(key, None)
            if word is not None and key in self.running:
                words.append(word)
        if words:
            self._complete((RunsProgressed(tuple(words)),))

    def flush_is_due(self, now: Now) -> bool:
        """A full batch, or one that was held for some milliseconds."""
        held = len(self._results)
        return held >= BATCH or (held > 0 and now.mono_us - self._oldest_us > MAX_HELD_US)

    def flush(self) -> None:
        """Hand in what there is. From any thread."""
        take: Callable[[], RunResult] = self._results.popleft
        events: list[Event] = []
        while self._results:
            batch: list[RunResult] = []
            try:
                while len(batch) < BATCH:
                    batch.append(take())
            except IndexError:
                pass  # another thread flushes too
            if batch:
                events.append(RunsFinished(tuple(batch)))
        if events:
            self._complete(events)
