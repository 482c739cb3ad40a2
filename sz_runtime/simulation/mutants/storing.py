"""Bugs of a store: what the core relies on, and would be lost without."""

from typing import Any

from attrs import evolve

from sz_protocol.records import RunState, ScheduleState
from sz_runtime.simulation import tables as tables_module
from sz_runtime.simulation.mutants.planting import mutant
from sz_runtime.simulation.store_server import StoreServer
from sz_runtime.simulation.tables import ScheduleStep, Tables


def _never_fenced(original: Any) -> Any:
    return lambda self, write: False


def _cursor_not_compared(original: Any) -> Any:
    def move_cursors(self: Tables, change: Any, steps: Any) -> Any:
        for move in change.moves:
            stored = self.schedules.get(move.schedule_id)
            if stored is not None:
                state = ScheduleState.FINISHED if move.next_due_us is None else stored.state
                moved = evolve(stored, cursor_us=move.cursor_us, next_due_us=move.next_due_us, state=state)
                self._take(ScheduleStep(stored, moved), steps)
        return []

    return move_cursors


def _attempt_not_compared(original: Any) -> Any:
    def update_runs(self: Tables, change: Any, steps: Any) -> Any:
        known = [run for run in change.runs if run.row in self.runs]
        for run in known:
            self._take(tables_module.RunStep(self.runs[run.row], run), steps)
        return []

    return update_runs


def _no_fence_for_results(original: Any) -> Any:
    def is_fenced(self: StoreServer, write: Any) -> bool:
        results = all(type(change).__name__ in ("UpdateRuns", "InsertAttempts") for change in write.changes)
        return not results and original(self, write)

    return is_fenced


def _answer_before_sync(original: Any) -> Any:
    def sync(self: StoreServer, current: Any) -> None:
        if current.life == self._life:
            self._answer(current)
            current.answers = []
        original(self, current)

    return sync


def _drops_unfinished(original: Any) -> Any:
    def drop_runs(self: Tables, change: Any, steps: Any) -> None:
        original(self, change, steps)
        unfinished = [run for run in self.runs.values() if run.state is not RunState.DONE]
        for run in unfinished[:1]:
            self._take(tables_module.RunStep(run, None), steps)

    return drop_runs


STORING = (
    mutant("no_fence", "a store takes writes of any term", (StoreServer, "is_fenced", _never_fenced)),
    mutant(
        "no_fence_for_results", "results are taken under any term", (StoreServer, "is_fenced", _no_fence_for_results)
    ),
    mutant(
        "cursor_not_compared",
        "a cursor moves wherever it stood",
        (Tables, "_move_cursors", _cursor_not_compared),
    ),
    mutant(
        "no_attempt_check",
        "a row takes the outcome of any attempt, of any term, also when it has one",
        (Tables, "_update_runs", _attempt_not_compared),
        (StoreServer, "is_fenced", _no_fence_for_results),
    ),
    mutant(
        "acknowledged_before_sync",
        "a write is answered before it is durable",
        (StoreServer, "_sync", _answer_before_sync),
    ),
    mutant(
        "retention_drops_the_unfinished", "retention takes what still waits", (Tables, "_drop_runs", _drops_unfinished)
    ),
)
