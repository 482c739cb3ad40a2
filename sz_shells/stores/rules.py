"""What every store of ours decides in the same way, without touching anything."""

from attrs import define

from sz_protocol.changes import Change, DropRuns, InsertAttempts, InsertRuns, MoveCursors, PutSchedules, UpdateRuns
from sz_protocol.records import Run


@define
class Streams:
    """Which streams of dependent writes are broken (STORE-4): all up to the highest that failed. Stream 0 never."""

    failed: int = 0

    def broken(self, stream: int) -> bool:
        """Whether a write of this stream was decided on top of one that did not happen."""
        return 0 < stream <= self.failed

    def fail(self, stream: int) -> None:
        """A write of this stream failed."""
        self.failed = max(self.failed, stream)


def ended_us(run: Run) -> int:
    """When a DONE run ended: for one that never ran, when it was decided."""
    return run.decided_us if run.finished_us is None else run.finished_us


def latest_us(change: Change) -> int:
    """The latest wall time that a change records (0: none), for the high-water mark (STORE-9). Fire times count once
    a cursor has passed them; a `next_due_us` lies ahead and does not."""
    match change:
        case InsertRuns(runs=runs):
            return max([run.decided_us or 0 for run in runs], default=0)
        case UpdateRuns(runs=runs):
            return max([run.finished_us or 0 for run in runs], default=0)
        case MoveCursors(moves=moves):
            return max([move.cursor_us for move in moves], default=0)
        case PutSchedules(schedules=schedules):
            return max([max(schedule.since_us, schedule.created_us) for schedule in schedules], default=0)
        case InsertAttempts(attempts=attempts):
            return max([attempt.finished_us for attempt in attempts], default=0)
        case DropRuns():
            return 0
