"""The numbers that stand in files for the members of enumerations: all there, and never another."""

from collections.abc import Mapping
from enum import StrEnum

import pytest

from sz_protocol.definition import MisfirePolicy
from sz_protocol.records import Outcome, RunKind, RunState, ScheduleState
from sz_shells.stores.sqlite import rows

STORED = [
    (ScheduleState, rows.SCHEDULE_STATES, "active=1 paused=2 parked=3 quarantined=4 finished=5 retired=6"),
    (RunState, rows.RUN_STATES, "pending=1 leased=2 done=3"),
    (Outcome, rows.OUTCOMES, "None=None succeeded=1 failed=2 cancelled=3 skipped=4 missed=5 lost=6"),
    (RunKind, rows.KINDS, "scheduled=1 manual=2 backfill=3 monotonic=4"),
    (MisfirePolicy, rows.CATCH_UPS, "None=0 skip=1 latest=2 all=3"),
]


@pytest.mark.parametrize(("kind", "codes", "stored"), STORED, ids=lambda value: getattr(value, "__name__", ""))
def test_every_member_has_a_code_and_no_code_has_changed(
    kind: type[StrEnum], codes: Mapping[StrEnum | None, int | None], stored: str
) -> None:
    assert [member for member in codes if member is not None] == list(kind)
    assert " ".join(f"{member}={code}" for member, code in codes.items()) == stored
