"""What a `Read` asks. Each query names the rows that come back in `ReadDone.rows`."""

from sz_protocol.kernel.record import record
from sz_protocol.records import Outcome, RunState, ScheduleState


@record
class DueSchedules:
    """ACTIVE schedules with `next_due_us <= before_us`, ordered by (next_due_us, id), those after the position
    `after` only; at most `limit`. Rows: Schedule."""

    before_us: int
    after: tuple[int, str] | None
    limit: int


@record
class SchedulesById:
    """Rows: Schedule, for those of `ids` that exist, in the order of `ids`."""

    ids: tuple[str, ...]


@record
class SchedulesPage:
    """Schedules in the order of their ids, after `after_id`, filtered by state and source where given.
    Rows: Schedule."""

    after_id: str = ""
    limit: int = 1000
    states: tuple[ScheduleState, ...] | None = None
    source: str | None = None


@record
class ScheduleIds:
    """Ids of schedules of one source that are not RETIRED, in order, after `after_id`. Rows: str."""

    source: str
    after_id: str = ""
    limit: int = 10_000


@record
class UnfinishedRuns:
    """Runs that are not DONE, in the order of `row`, after `after_row`. Rows: Run."""

    after_row: int = 0
    limit: int = 1000


@record
class RunsByRow:
    """Rows: Run, for those of `rows` that exist, in the order of `rows`."""

    rows: tuple[int, ...]


@record
class RunsPage:
    """The ledger, newest fire time first: ordered by (fire_us, row) descending, strictly before the position
    `before` where given. Filters narrow it. Rows: Run."""

    limit: int = 100
    before: tuple[int, int] | None = None
    schedule_id: str | None = None
    state: RunState | None = None
    outcome: Outcome | None = None
    from_us: int | None = None
    to_us: int | None = None


@record
class RunByKey:
    """Rows: the one Run with this key, or none."""

    run_key: bytes


@record
class AttemptsOf:
    """Rows: Attempt, of one run, in order."""

    row: int


@record
class LedgerCounts:
    """Rows: (schedule_id, state, outcome or None, reason, instants) grouped, in that order; for reports."""

    schedule_id: str | None = None


Query = (
    DueSchedules
    | SchedulesById
    | SchedulesPage
    | ScheduleIds
    | UnfinishedRuns
    | RunsByRow
    | RunsPage
    | RunByKey
    | AttemptsOf
    | LedgerCounts
)
