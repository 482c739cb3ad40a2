"""Log lines that a flood of strangers cannot turn into a flood of lines."""

import time
from collections import Counter
from typing import Any

WINDOW_S = 10.0
LINES = 10
"""Lines of one event in one window; the others are counted in the next line that is written."""


class LimitedLog:
    """Writes at most `LINES` lines of each event in `WINDOW_S`."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._window = 0.0
        self._written: Counter[str] = Counter()
        self._unsaid: Counter[str] = Counter()

    def info(self, event: str, **what: Any) -> None:
        """A routine line."""
        self._write(self._log.info, event, what)

    def warning(self, event: str, **what: Any) -> None:
        """Something that a person may have to look at."""
        self._write(self._log.warning, event, what)

    def exception(self, event: str, **what: Any) -> None:
        """A mistake of ours, with its traceback."""
        self._write(self._log.exception, event, what)

    def _write(self, write: Any, event: str, what: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._window >= WINDOW_S:
            self._window = now
            self._written.clear()
        if self._written[event] >= LINES:
            self._unsaid[event] += 1
            return
        self._written[event] += 1
        if unsaid := self._unsaid.pop(event, 0):
            what["not_logged_before"] = unsaid
        write(event, **what)
