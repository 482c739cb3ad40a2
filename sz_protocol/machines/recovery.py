"""The start of a life: find the runs that the previous one left unfinished, page by page, with their schedules.

RUN-6: scheduling and execution decide nothing new before this machine has said `RunsRecovered`.
"""

from enum import Enum, auto

from attrs import Factory, define

from sz_protocol.kernel.effects import Effect, Publish, Read
from sz_protocol.kernel.events import (
    Event,
    ReadDone,
    ReadFailed,
    RunsFound,
    RunsRecovered,
    Started,
    Woke,
)
from sz_protocol.kernel.moves import Moves, move
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.notices import StoreTroubled
from sz_protocol.ops import Ops
from sz_protocol.queries import Query, SchedulesById, UnfinishedRuns
from sz_protocol.records import CLAIMS_PER_TERM, Run, Schedule
from sz_protocol.settings import Settings


class RecoveryState(Enum):
    """IDLE before the start; READING pages; RECOVERED for the rest of the life."""

    IDLE = auto()
    READING = auto()
    RECOVERED = auto()


MOVES: Moves[RecoveryState] = {
    (RecoveryState.IDLE, Started): RecoveryState.READING,
    (RecoveryState.READING, RunsRecovered): RecoveryState.RECOVERED,
}


@define
class Recovery:
    """Reads, never writes: what becomes of a found run is execution's decision."""

    settings: Settings
    ops: Ops
    state: RecoveryState = RecoveryState.IDLE
    op: int | None = None
    query: Query | None = None
    page: tuple[Run, ...] | None = None
    full: bool = False
    """Whether more may follow behind the page at hand."""
    own_from_row: int = 0
    """Rows from here on are of this life: what people asked for while pages were being read."""
    retry_at_us: int | None = None
    outbox: list[RunsFound | RunsRecovered] = Factory(list)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact."""
        match event:
            case Woke() if self.retry_at_us is None:
                return []
            case Started(term=term):
                self.state = move(MOVES, self.state, event)
                self.own_from_row = term * CLAIMS_PER_TERM
                return self._ask(UnfinishedRuns(limit=self.settings.page_rows))
            case ReadDone(op=op, rows=rows) if op == self.op:
                self.op = None
                return self._on_page(rows) if self.page is None else self._on_schedules(self.page, rows)
            case ReadFailed(op=op, reason=reason, detail=detail) if op == self.op:
                self.op = None
                self.retry_at_us = now.mono_us + self.settings.store_retry_us
                return [Publish(StoreTroubled(reason, detail))]
            case _ if self.retry_at_us is not None and now.mono_us >= self.retry_at_us and self.query is not None:
                self.retry_at_us = None
                return self._ask(self.query)
            case _:
                return []

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """Only a failed read waits for time."""
        if self.retry_at_us is None:
            return None
        return Wakeup(max(self.retry_at_us, now.mono_us + 1), WakeReason.RETRY)

    def _ask(self, query: Query) -> list[Effect]:
        self.op, self.query = self.ops.next(), query
        return [Read(self.op, query)]

    def _on_page(self, rows: tuple[Run, ...]) -> list[Effect]:
        runs = tuple(run for run in rows if run.row < self.own_from_row)
        if not runs:
            return self._finish()
        self.page, self.full = runs, len(runs) == self.settings.page_rows
        ids = tuple(dict.fromkeys(run.schedule_id for run in runs if run.schedule_id))
        return self._ask(SchedulesById(ids))

    def _on_schedules(self, page: tuple[Run, ...], rows: tuple[Schedule, ...]) -> list[Effect]:
        schedules = {schedule.id: schedule for schedule in rows}
        self.outbox.append(RunsFound(page, tuple(schedules.get(run.schedule_id) for run in page)))
        self.page = None
        if not self.full:
            return self._finish()
        return self._ask(UnfinishedRuns(after_row=page[-1].row, limit=self.settings.page_rows))

    def _finish(self) -> list[Effect]:
        recovered = RunsRecovered()
        self.state, self.query = move(MOVES, self.state, recovered), None
        self.outbox.append(recovered)
        return []
