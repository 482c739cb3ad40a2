"""The store that keeps everything in this process: for tests, trials, and work that may be forgotten.

It passes the same contract as the durable stores, restart included: what was closed can be opened again as long as
the object lives. `specs/stores.md` holds the rules (STORE-n).
"""

from threading import Lock
from typing import Any

from sz_protocol.kernel.effects import Read, Write
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import FailReason, ReadDone, WriteDone, WriteFailed
from sz_protocol.queries import Query
from sz_runtime.ports import Complete, Opened, StoreInUse
from sz_shells.stores.memory_changes import Undo, apply_change
from sz_shells.stores.memory_queries import answer
from sz_shells.stores.memory_tables import Tables
from sz_shells.stores.rules import Streams, latest_us


class MemoryStore:
    """Schedules and ledger in dictionaries.

    `submit` applies at once and calls `complete` before it returns, in the caller's thread: a driver must only queue
    what it is handed there. `query` may be called from any thread.
    """

    def __init__(self) -> None:
        self._tables = Tables()
        self._lock = Lock()
        self._term = 0
        self._high_water_us = 0
        self._streams = Streams()
        self._complete: Complete | None = None

    def open(self, complete: Complete) -> Opened:
        """Begin the next life. Raises StoreInUse while another one has not ended."""
        if self._complete is not None:
            raise StoreInUse("this memory store is open already")
        self._complete = complete
        self._term += 1
        self._streams = Streams()
        return Opened(self._term, self._high_water_us)

    def submit(self, effect: Write | Read) -> None:
        """Apply one operation and answer it."""
        if self._complete is None:
            raise LocalProtocolError("an operation was submitted to a store that is not open")
        if isinstance(effect, Write):
            self._complete((self._write(effect),))
        else:
            self._complete((ReadDone(effect.op, answer(self._tables, self._lock, effect.query)),))

    def query(self, query: Query) -> tuple[Any, ...]:
        """Rows as they stand now."""
        return answer(self._tables, self._lock, query)

    def close(self) -> None:
        """End this life; the contents stay."""
        self._complete = None

    def _write(self, write: Write) -> WriteDone | WriteFailed:
        if write.fence != self._term:
            self._streams.fail(write.stream)
            return WriteFailed(write.op, FailReason.FENCED, detail=f"term {write.fence} is over, now {self._term}")
        if self._streams.broken(write.stream):
            return WriteFailed(write.op, FailReason.PREVIOUS)
        failure = self._apply(write)
        if failure is not None:
            self._streams.fail(write.stream)
            return failure
        self._high_water_us = max(self._high_water_us, *map(latest_us, write.changes), 0)
        return WriteDone(write.op)

    def _apply(self, write: Write) -> WriteFailed | None:
        """All changes, or none and why."""
        undo: Undo = []
        refused: dict[str | int, None] = {}
        with self._lock:
            try:
                for change in write.changes:
                    refused.update(dict.fromkeys(apply_change(self._tables, change, undo)))
                if not refused:
                    return None
                failure = WriteFailed(write.op, FailReason.REFUSED, tuple(refused))
            except (TypeError, ValueError) as error:
                failure = WriteFailed(write.op, FailReason.INVALID, detail=str(error))
            for take_back in reversed(undo):
                take_back()
        return failure
