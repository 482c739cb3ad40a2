"""monotonic: intervals while nobody knows the time (MONO-1 to MONO-3; pain 24)."""

import pytest
from attrs import evolve

from sz_protocol.definition import Definition
from sz_protocol.kernel.effects import Effect, Publish, Read
from sz_protocol.kernel.events import (
    FailReason,
    Firing,
    FiringsDecided,
    FiringsSettled,
    FiringsUndone,
    HandlersChanged,
    ParkWanted,
    ReadDone,
    ReadFailed,
    RunsRecovered,
    SchedulesStored,
    Started,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.now import SECOND_US, WakeReason, Wakeup
from sz_protocol.machines.monotonic import Monotonic, MonotonicState
from sz_protocol.notices import Ignored
from sz_protocol.ops import Ops
from sz_protocol.policy import Verdict
from sz_protocol.queries import SchedulesPage
from sz_protocol.records import UNSETTLED_US, Outcome, Reason, Schedule, ScheduleState
from sz_protocol.settings import Settings
from sz_protocol.triggers import Cron, Interval
from tests.protocol.harness import T0_US, at, every
from tests.protocol.machine_rig import METHODS, TERM, stored, untrusted

PAGE = SchedulesPage(limit=Settings().page_rows, states=(ScheduleState.ACTIVE,))
TEN = stored(every(10))  # at(0) is a thousand seconds after boot: the 101st period ends at(10)


def fire(number: int) -> str:
    """The name of the fire that many periods after at(0): its life, and its instant on the monotonic clock."""
    return f"{TERM}/{(1000 + 10 * number) * SECOND_US}"


def ticking(*schedules: Schedule, seconds: float = 1.0) -> Monotonic:
    """A machine that has lost its trust in the clock and read these schedules."""
    machine = Monotonic(Settings(), Ops(TERM))
    for event in (Started(TERM), METHODS, RunsRecovered()):
        machine.handle(event, untrusted(seconds))
    (read,) = machine.handle(Woke(), untrusted(seconds))
    assert isinstance(read, Read)
    assert read.query == PAGE
    machine.handle(ReadDone(read.op, schedules), untrusted(seconds))
    return machine


def wake(machine: Monotonic, seconds: float) -> list[Effect]:
    return machine.handle(Woke(), untrusted(seconds))


def verdict(machine: Monotonic) -> tuple[Verdict, ...]:
    """The verdicts of the one firing that was decided last."""
    decided = machine.outbox[-1]
    assert isinstance(decided, FiringsDecided)
    (firing,) = decided.firings
    return firing.verdicts


def test_mono_1_while_the_time_is_trusted_it_rests() -> None:
    machine = Monotonic(Settings(), Ops(TERM))
    for event in (Started(TERM), METHODS, RunsRecovered(), Woke()):
        assert machine.handle(event, at(0)) == []
    assert machine.state is MonotonicState.RESTING
    assert machine.next_wakeup(at(0)) is None


def test_mono_2_pain_24_the_kth_fire_is_k_periods_after_boot_and_named_by_life_and_instant() -> None:
    machine = ticking(TEN)
    assert machine.next_wakeup(untrusted(1)) == Wakeup(untrusted(10).mono_us, WakeReason.DUE)
    assert wake(machine, 10) == []
    assert machine.outbox == [
        FiringsDecided(
            (Firing(TEN, (Verdict(T0_US + 10 * SECOND_US, nominal=fire(1)),), T0_US, T0_US, UNSETTLED_US),),
            monotonic=True,
        )
    ]


def test_mono_2_periods_that_nobody_saw_pass_share_one_row() -> None:
    machine = ticking(TEN)
    wake(machine, 35)
    folded, newest = verdict(machine)
    assert (folded.outcome, folded.reason, folded.count) == (Outcome.SKIPPED, Reason.COALESCED, 2)
    assert (folded.nominal, newest.nominal) == (fire(1), fire(3))
    assert (folded.fire_us, folded.until_us) == (T0_US + 10 * SECOND_US, T0_US + 20 * SECOND_US)
    assert (newest.outcome, newest.fire_us) == (None, T0_US + 30 * SECOND_US)


@pytest.mark.parametrize(
    "other",
    [
        stored(Definition("s", "h", "m", Cron("* * * * *"))),
        stored(Definition("s", "h", "m", Interval(10 * SECOND_US, end_us=T0_US + 10**12))),
        evolve(TEN, state=ScheduleState.PAUSED),
    ],
    ids=["cron", "interval with a bound", "paused"],
)
def test_mono_1_all_others_wait(other: Schedule) -> None:
    machine = ticking(other)
    assert machine.next_wakeup(untrusted(1)) is None
    wake(machine, 60)
    assert machine.outbox == []


def test_mono_3_the_cursor_stays_and_the_schedule_is_marked_as_unsettled() -> None:
    machine = ticking(TEN)
    wake(machine, 10)
    machine.outbox.clear()
    machine.handle(FiringsSettled(monotonic=True), untrusted(10))
    assert machine.outbox == [SchedulesStored((evolve(TEN, next_due_us=UNSETTLED_US),))]
    assert machine.next_wakeup(untrusted(10)) == Wakeup(untrusted(20).mono_us, WakeReason.DUE)


def test_mono_3_one_slice_at_a_time_is_on_its_way() -> None:
    machine = ticking(TEN)
    wake(machine, 10)
    wake(machine, 20)
    assert len(machine.outbox) == 1
    assert machine.next_wakeup(untrusted(20)) is None
    machine.handle(FiringsSettled(monotonic=True), untrusted(20))
    wake(machine, 20)
    assert verdict(machine)[0].nominal == fire(2)


def test_mono_2_what_was_undone_is_decided_again_on_fresh_rows() -> None:
    machine = ticking(TEN)
    wake(machine, 10)
    machine.handle(FiringsUndone(("s",), unavailable=True, monotonic=True), untrusted(10))
    wakeup = machine.next_wakeup(untrusted(10))
    assert wakeup is not None
    assert wakeup.reason is WakeReason.RETRY
    (read,) = wake(machine, 11)
    assert isinstance(read, Read)
    edited = evolve(TEN, rev=2)
    machine.handle(ReadDone(read.op, (edited,)), untrusted(11))
    wake(machine, 11)
    assert verdict(machine)[0].nominal == fire(1), "the same period"
    assert machine.outbox[-1].firings[0].schedule == edited  # type: ignore[union-attr]


def test_mono_1_when_the_time_is_known_it_lets_go() -> None:
    machine = ticking(TEN)
    assert machine.handle(Woke(), at(10)) == []
    assert machine.state is MonotonicState.RESTING
    assert machine.outbox == []
    assert machine.next_wakeup(at(10)) is None


def test_a_schedule_whose_method_is_not_here_is_parked() -> None:
    machine = ticking(TEN)
    machine.handle(HandlersChanged((), ()), untrusted(2))
    wake(machine, 10)
    (wanted,) = machine.outbox
    assert isinstance(wanted, ParkWanted)
    assert (wanted.schedule_ids, wanted.state) == (("s",), ScheduleState.PARKED)


def test_an_edit_is_followed_and_keeps_the_count_of_an_unchanged_period() -> None:
    machine = ticking(TEN)
    machine.handle(SchedulesStored((evolve(TEN, rev=2),)), untrusted(12))
    wake(machine, 12)
    assert [v.nominal for v in verdict(machine)] == [fire(1)]
    machine.handle(FiringsSettled(monotonic=True), untrusted(12))
    machine.handle(SchedulesStored((stored(every(7), rev=3),)), untrusted(12))
    assert machine.next_wakeup(untrusted(12)) == Wakeup(1015 * SECOND_US, WakeReason.DUE)


def test_sched_9_an_older_revision_that_comes_late_does_not_hide_a_newer_one() -> None:
    machine = ticking(TEN)
    machine.handle(SchedulesStored((evolve(TEN, rev=3),)), untrusted(2))
    machine.handle(SchedulesStored((evolve(TEN, rev=2, state=ScheduleState.PARKED),)), untrusted(2))
    assert machine.next_wakeup(untrusted(2)) == Wakeup(1010 * SECOND_US, WakeReason.DUE)


def test_a_page_that_cannot_be_read_is_asked_for_again() -> None:
    machine = Monotonic(Settings(), Ops(TERM))
    for event in (Started(TERM), METHODS, RunsRecovered()):
        machine.handle(event, untrusted(0))
    (read,) = wake(machine, 0)
    assert isinstance(read, Read)
    machine.handle(ReadFailed(read.op, FailReason.UNAVAILABLE), untrusted(0))
    assert wake(machine, 0.1) == []
    (again,) = wake(machine, 1)
    assert isinstance(again, Read)
    assert again.query == PAGE


def test_life_after_a_stop_nothing_ticks_and_a_second_start_is_ignored() -> None:
    machine = ticking(TEN)
    (told,) = machine.handle(Started(TERM), untrusted(2))
    assert isinstance(told, Publish)
    assert isinstance(told.notice, Ignored)
    assert machine.handle(StopRequested(SECOND_US), untrusted(3)) == []
    assert wake(machine, 10) == []
    assert machine.outbox == []
    assert machine.next_wakeup(untrusted(10)) is None
