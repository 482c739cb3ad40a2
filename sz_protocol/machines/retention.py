"""How long the ledger remembers: sweeps finished rows past their time, a bounded batch at a time.

KEEP-1 no sweep makes an instant fire again: a row leaves the store only when it is DONE, and its schedule's cursor,
which never regresses, has passed its fire time already. (The idempotency key of a manual run is remembered as long
as its row.) KEEP-2 sweeps keep up with the rows that are made: a busy node sweeps more often. KEEP-3 the first sweep
comes within a minute of the start, but not at once: a start has other things to do, and a node may never live long.
KEEP-4 a server of remote handlers writes that often even when nothing is to be swept: one that was replaced without its
knowing is told so by the store, and lets its handlers go to its successor.
"""

from random import Random
from typing import Final

from attrs import define

from sz_protocol.changes import Change, DropRuns
from sz_protocol.kernel.effects import Effect, Write
from sz_protocol.kernel.events import Event, RunsRecovered, StopRequested
from sz_protocol.kernel.now import MINUTE_US, Now, WakeReason, Wakeup
from sz_protocol.ops import Ops
from sz_protocol.settings import Settings

FIRST_WITHIN_US = MINUTE_US

_HOUSEKEEPING: Final = WakeReason.HOUSEKEEPING  # bound once, as in records.py


@define
class Retention:
    """Idle until the node has recovered; a failed sweep is simply due again next time."""

    settings: Settings
    ops: Ops
    rng: Random
    due_us: int | None = None
    claims: int = 0
    """How many claims had been made at the last sweep: no row is made without one."""

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact."""
        match event:
            case RunsRecovered() if self.settings.retention_us is not None or self.settings.remote:
                within_us = min(FIRST_WITHIN_US, self.settings.retention_every_us)
                self.due_us = now.mono_us + self.rng.randint(1, within_us)
            case StopRequested():
                self.due_us = None
            case _ if self._due(now):
                self.due_us, self.claims = now.mono_us + self.settings.retention_every_us, self.ops.claims
                swept = self._sweep(now)
                return [Write(self.ops.next(), swept, self.ops.term)] if swept or self.settings.remote else []
        return []

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The next sweep."""
        if self.due_us is None:
            return None
        at_us = now.mono_us + 1 if self._due(now) else self.due_us
        return Wakeup(at_us, _HOUSEKEEPING)

    def _due(self, now: Now) -> bool:
        if self.due_us is None:
            return False
        if now.mono_us >= self.due_us:
            return True
        settings = self.settings
        return settings.retention_us is not None and self.ops.claims - self.claims > settings.retention_rows // 2

    def _sweep(self, now: Now) -> tuple[Change, ...]:
        """What to drop. Whoever does not know the time does not know what is old; with the next sweep he may."""
        if self.settings.retention_us is None or not now.trusted:
            return ()
        return (DropRuns(now.utc_us - self.settings.retention_us, self.settings.retention_rows),)
