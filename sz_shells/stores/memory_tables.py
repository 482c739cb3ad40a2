"""What the memory store holds, and the indexes that make due work and unfinished runs cheap to find."""

from typing import Final, TypeAlias

from attrs import Factory, define, evolve

from sz_protocol.records import Attempt, Run, RunState, Schedule, ScheduleState
from sz_shells.stores.sorted_keys import SortedKeys

_ACTIVE: Final = ScheduleState.ACTIVE  # bound once, as in sz_protocol/records.py

DueKey: TypeAlias = tuple[int, str]
RunKey: TypeAlias = tuple[int, int]


@define
class Place:
    """A schedule as it was put, and where its cursor has moved since. Moving is hot: the record is renewed only when
    somebody reads it."""

    put: Schedule
    cursor_us: int
    next_due_us: int | None
    state: ScheduleState

    @property
    def due(self) -> int | None:
        """The instant under which the index of due work has it."""
        return self.next_due_us if self.state is _ACTIVE else None

    def now(self) -> Schedule:
        """The schedule as it stands."""
        put = self.put
        if put.cursor_us != self.cursor_us or put.next_due_us != self.next_due_us or put.state is not self.state:
            self.put = evolve(put, cursor_us=self.cursor_us, next_due_us=self.next_due_us, state=self.state)
        return self.put


@define
class Tables:
    """Rows by identity, and their orders: `due` has ACTIVE schedules by (next_due_us, id), `fires` all runs by
    (fire_us, row), `ended` a heap of DONE runs by (end, row)."""

    places: dict[str, Place] = Factory(dict)
    due: SortedKeys[DueKey] = Factory(SortedKeys)
    ids: SortedKeys[str] = Factory(SortedKeys)
    runs: dict[int, Run] = Factory(dict)
    rows_by_key: dict[bytes, int] = Factory(dict)
    unfinished: dict[int, None] = Factory(dict)
    fires: SortedKeys[RunKey] = Factory(SortedKeys)
    ended: list[RunKey] = Factory(list)
    attempts: dict[int, dict[int, Attempt]] = Factory(dict)


def is_done(run: Run) -> bool:
    """Whether the run has its outcome."""
    return run.state is RunState.DONE
