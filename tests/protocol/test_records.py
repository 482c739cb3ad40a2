"""Records that are made anew by hand, for speed: whatever field is added, it is carried along."""

from typing import Any

import pytest
from attrs import evolve, fields

from sz_protocol.definition import MisfirePolicy
from sz_protocol.records import Outcome, Run, RunKind, RunState, Schedule, ScheduleState
from tests.protocol.machine_rig import stored, waiting

ODD: dict[type, dict[str, Any]] = {
    Schedule: {"state": ScheduleState.PARKED, "catch_up": MisfirePolicy.ALL},
    Run: {"state": RunState.PENDING, "kind": RunKind.BACKFILL, "outcome": Outcome.LOST, "covers": (1, 2), "params": {}},
}


def odd(record: Any) -> Any:
    """The same record with no field at its default."""
    changes = dict(ODD[type(record)])
    for number, field in enumerate(fields(type(record)), 1000):
        if field.name not in changes and field.name not in ("definition", "hash", "run_key"):
            changes[field.name] = f"text {number}" if "str" in str(field.type) else number
    changed = evolve(record, **changes)
    assert all(getattr(changed, f.name) != f.default for f in fields(type(record)))
    return changed


@pytest.mark.parametrize(
    ("record", "by_hand", "changes"),
    [
        (
            odd(stored()),
            lambda s: s.standing(ScheduleState.PAUSED, "why", 7, None),
            {"state": ScheduleState.PAUSED, "reason": "why", "since_us": 7, "next_due_us": None},
        ),
        (
            odd(waiting()),
            lambda r: r.leased(4, 99, "w"),
            {"state": RunState.LEASED, "attempt": 4, "fence": 99, "worker": "w"},
        ),
        (
            odd(waiting()),
            lambda r: r.done(Outcome.FAILED, "error", 5, 6, "1", "e"),
            {
                "state": RunState.DONE,
                "outcome": Outcome.FAILED,
                "reason": "error",
                "started_us": 5,
                "finished_us": 6,
                "result": "1",
                "error": "e",
            },
        ),
    ],
    ids=["standing", "leased", "done"],
)
def test_what_is_evolved_by_hand_is_evolved(record: Any, by_hand: Any, changes: dict[str, Any]) -> None:
    assert by_hand(record) == evolve(record, **changes)
