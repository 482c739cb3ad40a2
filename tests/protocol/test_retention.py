"""retention: finished rows leave the ledger in bounded sweeps, and nothing else does (KEEP-1 to KEEP-4)."""

from random import Random

import pytest
from attrs import evolve

from sz_protocol.changes import DropRuns
from sz_protocol.kernel.effects import Effect, Write
from sz_protocol.kernel.events import FailReason, RunsRecovered, StopRequested, Woke, WriteFailed
from sz_protocol.kernel.now import DAY_US, MINUTE_US, SECOND_US, WakeReason, Wakeup
from sz_protocol.machines.retention import Retention
from sz_protocol.ops import Ops
from sz_protocol.settings import Settings
from tests.protocol.harness import at
from tests.protocol.machine_rig import TERM, untrusted

SETTINGS = Settings(retention_us=DAY_US, retention_every_us=10 * MINUTE_US, retention_rows=100)


def recovered(settings: Settings = SETTINGS, seed: int = 0) -> Retention:
    machine = Retention(settings, Ops(TERM), Random(seed))
    assert machine.handle(RunsRecovered(), at(0)) == []
    return machine


def sweep(machine: Retention, seconds: float) -> list[Effect]:
    return machine.handle(Woke(), at(seconds))


@pytest.mark.parametrize("seed", range(5))
def test_keep_3_the_first_sweep_comes_within_a_minute_but_not_at_once(seed: int) -> None:
    machine = recovered(seed=seed)
    wakeup = machine.next_wakeup(at(0))
    assert wakeup is not None
    assert at(0).mono_us < wakeup.at_us <= at(60).mono_us
    assert sweep(machine, 0) == []
    assert sweep(machine, 60) == [Write(1, (DropRuns(at(60).utc_us - DAY_US, 100),), TERM)]


def test_keep_1_only_what_is_older_than_the_retention_is_named() -> None:
    machine = recovered()
    (write,) = sweep(machine, 60)
    assert isinstance(write, Write)
    assert write.changes == (DropRuns(before_us=at(60).utc_us - DAY_US, limit=100),), "DropRuns takes DONE rows only"


def test_keep_2_the_next_sweep_is_due_after_the_interval_or_after_many_rows() -> None:
    machine = recovered()
    sweep(machine, 60)
    assert machine.next_wakeup(at(61)) == Wakeup(at(660).mono_us, WakeReason.HOUSEKEEPING)
    machine.ops.claims += SETTINGS.retention_rows // 2 + 1
    assert len(sweep(machine, 61)) == 1, "a busy node sweeps more often"
    assert sweep(machine, 62) == []


def test_keep_1_who_does_not_know_the_time_does_not_know_what_is_old() -> None:
    machine = recovered()
    assert machine.handle(Woke(), untrusted(60)) == []
    assert machine.next_wakeup(at(61)) == Wakeup(at(660).mono_us, WakeReason.HOUSEKEEPING), "the next one may"


def test_a_sweep_that_fails_is_due_again_with_the_next() -> None:
    machine = recovered()
    sweep(machine, 60)
    assert machine.handle(WriteFailed(1, FailReason.UNAVAILABLE), at(61)) == []
    assert len(sweep(machine, 660)) == 1


def test_where_all_is_kept_and_where_it_drains_nothing_is_swept() -> None:
    for_ever = recovered(evolve(SETTINGS, retention_us=None))
    draining = recovered()
    assert draining.handle(StopRequested(10 * SECOND_US), at(1)) == []
    for machine in (for_ever, draining):
        assert machine.next_wakeup(at(1)) is None
        assert sweep(machine, 3600) == []


def test_keep_4_a_server_of_remote_handlers_writes_that_often_whatever_there_is_to_sweep() -> None:
    for_ever = recovered(evolve(SETTINGS, retention_us=None, remote=True))
    assert sweep(for_ever, 60) == [Write(1, (), TERM)]
    for_ever.ops.claims += SETTINGS.retention_rows
    assert sweep(for_ever, 61) == [], "nobody waits for more room"
    assert for_ever.next_wakeup(at(61)) == Wakeup(at(660).mono_us, WakeReason.HOUSEKEEPING)
    assert for_ever.handle(Woke(), untrusted(660)) == [Write(2, (), TERM)]
    assert recovered(evolve(SETTINGS, remote=True)).handle(Woke(), untrusted(60)) == [Write(1, (), TERM)]
