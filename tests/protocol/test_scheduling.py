"""scheduling: what is in memory, what is decided when, and what follows the store's answers (SCHED-1 to SCHED-9)."""

from collections.abc import Callable

import pytest
from attrs import evolve

from sz_protocol.definition import Definition, Misfire, MisfirePolicy
from sz_protocol.kernel.effects import Effect, Publish, Read
from sz_protocol.kernel.events import (
    FailReason,
    Firing,
    FiringsDecided,
    FiringsSettled,
    FiringsUndone,
    ParkWanted,
    ReadDone,
    ReadFailed,
    RunsRecovered,
    SchedulesStored,
    SettleWanted,
    Started,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.now import MINUTE_US, SECOND_US, WakeReason, Wakeup
from sz_protocol.machines.scheduling import Scheduling, SchedulingState
from sz_protocol.notices import Ignored
from sz_protocol.ops import Ops
from sz_protocol.policy import spread_offset
from sz_protocol.queries import DueSchedules, SchedulesById
from sz_protocol.records import UNSETTLED_US, Schedule, ScheduleState
from sz_protocol.settings import Settings
from sz_protocol.triggers import AllOf, AnyOf, Date, Interval
from tests.protocol.harness import T0_US, at, every
from tests.protocol.machine_rig import METHODS, TERM, stored, untrusted

SETTINGS = Settings(page_rows=3, slice_instants=2, writes_in_flight=2, enumerate_instants=3, horizon_us=20 * MINUTE_US)
HORIZON_S = 1200


def fresh(settings: Settings = SETTINGS) -> Scheduling:
    machine = Scheduling(settings, Ops(TERM))
    for event in (Started(TERM), METHODS, RunsRecovered()):
        assert machine.handle(event, at(0)) == []
    return machine


def firing(*schedules: Schedule, settings: Settings = SETTINGS) -> Scheduling:
    """A machine that has read its first page."""
    machine = fresh(settings)
    (read,) = wake(machine, 0)
    assert isinstance(read, Read)
    assert len(schedules) < settings.page_rows, "a full page is asked to go on"
    machine.handle(ReadDone(read.op, schedules), at(0))
    return machine


def wake(machine: Scheduling, seconds: float) -> list[Effect]:
    return machine.handle(Woke(), at(seconds))


def decided(machine: Scheduling) -> list[Firing]:
    """What was decided last."""
    (told,) = machine.outbox
    machine.outbox.clear()
    assert isinstance(told, FiringsDecided)
    return list(told.firings)


def shown(one: Firing) -> list[tuple[float, int, str, str]]:
    """(seconds since T0, count, outcome, reason) of each verdict."""
    return [((v.fire_us - T0_US) / SECOND_US, v.count, v.outcome or "run", v.reason) for v in one.verdicts]


def due_wakeup(seconds: float) -> Wakeup:
    return Wakeup(at(seconds).mono_us, WakeReason.DUE)


# --- when it begins --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [METHODS, RunsRecovered()], ids=["handlers are known", "the last life is settled"])
def test_sched_4_nothing_is_read_or_fired_before(missing: object) -> None:
    machine = Scheduling(SETTINGS, Ops(TERM))
    events = [event for event in (Started(TERM), METHODS, RunsRecovered()) if event != missing]
    for event in events:
        machine.handle(event, at(0))
    assert machine.next_wakeup(at(0)) is None
    assert wake(machine, 0) == []


def test_the_first_thing_it_asks_for_is_what_is_due_within_the_horizon() -> None:
    machine = fresh()
    assert machine.next_wakeup(at(0)) == Wakeup(at(0).mono_us, WakeReason.BACKLOG)
    assert wake(machine, 0) == [Read(1, DueSchedules(at(HORIZON_S).utc_us, (-1, ""), 3))]
    assert machine.next_wakeup(at(0)) is None, "while it is being read"


def test_a_second_start_is_ignored_and_told() -> None:
    (told,) = firing().handle(Started(TERM), at(1))
    assert isinstance(told, Publish)
    assert isinstance(told.notice, Ignored)


def test_after_a_stop_nothing_fires() -> None:
    machine = firing(stored())
    machine.handle(StopRequested(SECOND_US), at(30))
    assert machine.state is SchedulingState.STOPPED
    assert wake(machine, 60) == []
    assert machine.outbox == []
    assert machine.next_wakeup(at(60)) is None


# --- due work --------------------------------------------------------------------------------------------------


def test_sched_3_it_fires_at_its_time_and_not_before() -> None:
    machine = firing(stored())
    assert machine.next_wakeup(at(1)) == due_wakeup(60)
    wake(machine, 59.999)
    assert machine.outbox == []
    wake(machine, 60)
    (one,) = decided(machine)
    assert shown(one) == [(60, 1, "run", "")]
    assert (one.from_us, one.cursor_us, one.next_due_us) == (T0_US, at(60).utc_us, at(120).utc_us)
    assert machine.next_wakeup(at(60)) == due_wakeup(120)


def test_sched_3_policy_1_a_spread_moves_the_start_and_not_the_fire_time() -> None:
    definition = every(60, spread_us=30 * SECOND_US)
    offset_us = spread_offset("s", 30 * SECOND_US)
    machine = firing(stored(definition, next_due_us=at(60).utc_us + offset_us))
    assert machine.next_wakeup(at(1)) == due_wakeup(60 + offset_us / SECOND_US)
    wake(machine, 60)
    assert machine.outbox == []
    wake(machine, 60 + offset_us / SECOND_US)
    (one,) = decided(machine)
    assert (shown(one), one.next_due_us) == ([(60, 1, "run", "")], at(120).utc_us + offset_us)


def test_kernel_3_a_slice_is_bounded_and_the_rest_is_a_backlog() -> None:
    machine = firing(*(stored(every(60, id)) for id in "ab"), settings=evolve(SETTINGS, slice_instants=1))
    wake(machine, 60)
    assert [one.schedule.id for one in decided(machine)] == ["a"]
    assert machine.next_wakeup(at(60)) == Wakeup(at(60).mono_us, WakeReason.BACKLOG)
    wake(machine, 60)
    assert [one.schedule.id for one in decided(machine)] == ["b"]


def test_no_more_slices_than_the_store_may_owe_answers_for() -> None:
    machine = firing(
        *(stored(every(60, id)) for id in "ab"), settings=evolve(SETTINGS, slice_instants=1, writes_in_flight=1)
    )
    wake(machine, 60)
    decided(machine)
    assert machine.next_wakeup(at(60)) is None
    wake(machine, 60)
    assert machine.outbox == []
    machine.handle(FiringsSettled(), at(61))
    assert machine.next_wakeup(at(61)) == Wakeup(at(61).mono_us, WakeReason.BACKLOG)


LATEST, ON_TIME = (300, 1, "run", "catch_up"), (300, 1, "run", "")


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        (
            Misfire(max=3),
            [(60, 2, "missed", "limit"), (180, 1, "skipped", "coalesced"), (240, 1, "skipped", "coalesced"), LATEST],
        ),
        (
            Misfire(MisfirePolicy.SKIP, grace_us=90 * SECOND_US, max=3),
            [(60, 2, "missed", "limit"), (180, 1, "skipped", "misfire"), (240, 1, "skipped", "misfire"), ON_TIME],
        ),
        (
            Misfire(MisfirePolicy.ALL, max=2),
            [(60, 2, "missed", "limit"), (180, 1, "skipped", "limit"), (240, 1, "run", "catch_up"), LATEST],
        ),
        (
            Misfire(window_us=100 * SECOND_US),
            [(60, 3, "missed", "window"), (240, 1, "skipped", "coalesced"), LATEST],
        ),
    ],
    ids=["latest", "skip", "all", "window"],
)
def test_ledger_1_what_passed_unserved_is_decided_in_one_go(
    misfire: Misfire, expected: list[tuple[float, int, str, str]]
) -> None:
    machine = firing(stored(every(60, misfire=misfire)))
    wake(machine, 310)
    (one,) = decided(machine)
    assert shown(one) == expected
    assert (one.cursor_us, one.next_due_us) == (at(300).utc_us, at(360).utc_us)


def test_sched_7_what_a_person_decided_about_a_pause_holds_for_its_instants_alone() -> None:
    resumed = stored(every(60), catch_up=MisfirePolicy.ALL, catch_up_until_us=at(130).utc_us)
    machine = firing(resumed, settings=evolve(SETTINGS, enumerate_instants=10))
    wake(machine, 250)
    (one,) = decided(machine)
    assert shown(one) == [
        (60, 1, "run", "catch_up"),
        (120, 1, "run", "catch_up"),
        (180, 1, "skipped", "coalesced"),
        (240, 1, "run", "catch_up"),
    ]
    assert one.verdicts[-1].covers == (at(180).utc_us,)


def test_the_last_fire_time_leaves_nothing_to_come() -> None:
    machine = firing(stored(Definition("s", "h", "m", Interval(MINUTE_US, T0_US, end_us=at(60).utc_us))))
    wake(machine, 60)
    (one,) = decided(machine)
    assert one.next_due_us is None
    assert machine.paged == {}


def test_sched_6_an_edit_that_was_told_of_is_not_undone_by_rows_that_were_read_before_it() -> None:
    machine = firing(stored())
    wake(machine, 60)
    machine.outbox.clear()
    machine.handle(FiringsUndone(("s",), unavailable=False), at(60))
    (read,) = wake(machine, 60)
    assert isinstance(read, Read)
    machine.handle(SchedulesStored((stored(rev=3, cursor_us=at(60).utc_us, next_due_us=at(120).utc_us),)), at(61))
    machine.handle(ReadDone(read.op, (stored(rev=2, state=ScheduleState.PAUSED),)), at(61))
    assert machine.next_wakeup(at(61)) == due_wakeup(120)


# --- what cannot fire ------------------------------------------------------------------------------------------


def test_pain_16_a_schedule_without_its_method_is_to_be_parked_and_others_fire() -> None:
    machine = firing(stored(Definition("s", "h", "gone", Interval(MINUTE_US, T0_US))), stored(every(60, "t")))
    wake(machine, 60)
    fired, parked = machine.outbox
    assert isinstance(fired, FiringsDecided)
    assert [one.schedule.id for one in fired.firings] == ["t"]
    assert parked == ParkWanted(("s",), ScheduleState.PARKED, "handler 'h' has no method 'gone' here")


def test_sched_5_pain_15_one_that_cannot_advance_stands_still_alone() -> None:
    at_us = T0_US + MINUTE_US
    meets_once = AllOf(
        (
            Interval(7 * SECOND_US, at_us),
            AnyOf((Date(at_us), Interval(7 * SECOND_US, at_us + SECOND_US))),
        )
    )
    machine = firing(stored(Definition("s", "h", "m", meets_once)), stored(every(60, "t")))
    wake(machine, 60)
    fired, quarantined = machine.outbox
    assert isinstance(fired, FiringsDecided)
    assert [one.schedule.id for one in fired.firings] == ["t"]
    assert isinstance(quarantined, ParkWanted)
    assert (quarantined.schedule_ids, quarantined.state) == (("s",), ScheduleState.QUARANTINED)


@pytest.mark.parametrize(
    "due_us", [UNSETTLED_US, at(59).utc_us], ids=["unsettled", "SCHED-8: stored under other zone data"]
)
def test_sched_8_what_has_no_true_due_time_is_to_be_settled_first(due_us: int) -> None:
    machine = firing(stored(next_due_us=due_us))
    assert machine.next_wakeup(at(1)) == Wakeup(at(1).mono_us, WakeReason.BACKLOG)
    wake(machine, 1)
    assert machine.outbox == [SettleWanted(("s",))]
    machine.outbox.clear()
    machine.handle(SchedulesStored((stored(rev=2),)), at(1))
    assert machine.next_wakeup(at(1)) == due_wakeup(60)


def test_time_1_while_the_time_is_not_trusted_nothing_fires() -> None:
    machine = firing(stored())
    assert machine.handle(Woke(), untrusted(60)) == []
    assert machine.outbox == []
    assert machine.next_wakeup(untrusted(60)) is None


# --- memory ----------------------------------------------------------------------------------------------------


def test_sched_6_a_full_page_goes_on_behind_its_last_place() -> None:
    machine = fresh()
    (read,) = wake(machine, 0)
    assert isinstance(read, Read)
    page = tuple(stored(every(60, id)) for id in "abc")
    machine.handle(ReadDone(read.op, page), at(0))
    assert wake(machine, 0) == [Read(2, DueSchedules(at(HORIZON_S).utc_us, (at(60).utc_us, "c"), 3))]


def test_sched_6_what_is_due_beyond_the_horizon_is_let_go_and_read_when_its_time_nears() -> None:
    hourly = stored(every(3600))
    machine = firing(evolve(hourly, next_due_us=at(3600).utc_us))
    assert machine.paged == {}
    assert machine.next_wakeup(at(1)) == Wakeup(at(HORIZON_S / 2).mono_us, WakeReason.PAGE)
    reached = (at(HORIZON_S).utc_us + 1, "")
    assert wake(machine, 600) == [Read(2, DueSchedules(at(600 + HORIZON_S).utc_us, reached, 3))]


def test_sched_6_pain_20_a_crowd_is_served_before_more_is_read() -> None:
    machine = fresh(evolve(SETTINGS, page_rows=2, crowd_schedules=1))
    (read,) = wake(machine, 0)
    assert isinstance(read, Read)
    machine.handle(ReadDone(read.op, tuple(stored(every(60, id)) for id in "ab")), at(0))
    assert wake(machine, 0) == []
    assert machine.next_wakeup(at(0)) == due_wakeup(60)


def test_a_page_does_not_undo_what_was_decided_since_it_was_asked_for() -> None:
    machine = firing(stored(every(600)))
    (read,) = wake(machine, 600)
    assert isinstance(read, Read), "the page comes first, the slice behind it"
    wake(machine, 600)
    decided(machine)
    machine.handle(ReadDone(read.op, (stored(every(600)),)), at(600))
    assert machine.paged["s"].cursor_us == at(600).utc_us


@pytest.mark.parametrize("edited", [False, True])
def test_sched_9_a_page_does_not_bring_back_what_was_let_go_of_since_it_was_asked_for(edited: bool) -> None:
    """It was decided, or edited, and is due beyond this page: what the page shows of it stands no more."""
    machine = firing(stored(every(60)))
    (read,) = wake(machine, HORIZON_S / 2)
    assert isinstance(read, Read), "the page comes first"
    if edited:
        later = evolve(stored(every(60)), rev=2, next_due_us=at(3 * HORIZON_S).utc_us)
        machine.handle(SchedulesStored((later,)), at(HORIZON_S / 2))
    else:
        wake(machine, 2 * HORIZON_S)
        decided(machine)
    assert machine.paged == {}
    machine.handle(ReadDone(read.op, (stored(every(60)),)), at(2 * HORIZON_S))
    assert machine.paged == {}


@pytest.mark.parametrize(
    "old",
    [
        evolve(stored(every(60)), rev=2, state=ScheduleState.PAUSED),
        evolve(stored(every(7200)), rev=2, next_due_us=at(7200).utc_us),
        evolve(stored(every(60)), rev=2),
    ],
    ids=["paused", "due later", "due sooner"],
)
def test_sched_9_a_late_answer_does_not_hide_what_the_page_shows(old: Schedule) -> None:
    """A slice was undone, and its schedule is read once more. Then it is edited (again), and due beyond what was paged
    so far: the page shows it as it is, the late answer as it was before."""
    machine = firing(stored(every(60)))
    wake(machine, 60)
    decided(machine)
    machine.handle(FiringsUndone(("s",), unavailable=False), at(60))
    (reload,) = wake(machine, 60)
    newest = evolve(stored(every(1500)), rev=3, next_due_us=at(1500).utc_us)
    machine.handle(SchedulesStored((newest,)), at(60))
    (page,) = wake(machine, HORIZON_S / 2)
    assert isinstance(reload, Read)
    assert isinstance(page, Read)
    machine.handle(ReadDone(reload.op, (old,)), at(HORIZON_S / 2))
    machine.handle(ReadDone(page.op, (newest,)), at(HORIZON_S / 2))
    assert machine.paged["s"].schedule == newest


@pytest.mark.parametrize("fails", [False, True])
def test_sched_9_what_was_let_go_of_is_found_by_the_next_page(fails: bool) -> None:
    machine = firing(stored(every(60)))
    (read,) = wake(machine, HORIZON_S / 2)
    assert isinstance(read, Read)
    paused = evolve(stored(every(60)), rev=2, state=ScheduleState.PAUSED)
    machine.handle(SchedulesStored((paused,)), at(HORIZON_S / 2))
    answer = ReadFailed(read.op, FailReason.UNAVAILABLE) if fails else ReadDone(read.op, (stored(every(60)),))
    machine.handle(answer, at(HORIZON_S / 2))
    assert (machine.paged, machine.left) == ({}, {})
    found = evolve(stored(every(60)), next_due_us=at((1.4 if fails else 2) * HORIZON_S).utc_us)
    (again,) = wake(machine, 2 * HORIZON_S)
    assert isinstance(again, Read)
    machine.handle(ReadDone(again.op, (found,)), at(2 * HORIZON_S))
    assert machine.paged["s"].schedule == found


@pytest.mark.parametrize(
    ("edit", "due_s"),
    [
        (lambda s: evolve(s, rev=2, definition=every(90), next_due_us=at(90).utc_us), 90),
        (lambda s: evolve(s, rev=2, state=ScheduleState.PAUSED), None),
        (lambda s: evolve(s, rev=2, next_due_us=None), None),
    ],
    ids=["another trigger", "paused", "nothing to come"],
)
def test_an_edit_takes_effect_at_once(edit: Callable[[Schedule], Schedule], due_s: float | None) -> None:
    machine = firing(stored())
    machine.handle(SchedulesStored((edit(stored()),)), at(30))
    wakeup = machine.next_wakeup(at(30))
    nothing = Wakeup(at(HORIZON_S / 2).mono_us, WakeReason.PAGE)
    assert wakeup == (nothing if due_s is None else due_wakeup(due_s))


def test_sched_9_an_older_revision_that_comes_late_does_not_hide_a_newer_one() -> None:
    """As in seed 3777: it was parked and came back; the answer to the first write came behind that to the second."""
    machine = firing(stored())
    machine.handle(SchedulesStored((stored(rev=3),)), at(30))
    machine.handle(SchedulesStored((stored(rev=2, state=ScheduleState.PARKED),)), at(30))
    assert machine.next_wakeup(at(30)) == due_wakeup(60)


# --- the store's troubles --------------------------------------------------------------------------------------


def test_sched_9_what_is_to_be_read_again_is_read_whatever_older_revision_comes_before() -> None:
    machine = firing(stored(rev=2))
    wake(machine, 60)
    decided(machine)
    machine.handle(FiringsUndone(("s",), unavailable=False), at(60))
    machine.handle(SchedulesStored((stored(rev=1, state=ScheduleState.PARKED),)), at(60))
    (read,) = wake(machine, 60)
    assert isinstance(read, Read)
    assert read.query == SchedulesById(("s",))


def test_sched_1_what_was_undone_is_read_again_and_decided_on_that() -> None:
    machine = firing(stored())
    wake(machine, 60)
    decided(machine)
    machine.handle(FiringsUndone(("s",), unavailable=False), at(60))
    (read,) = wake(machine, 60)
    assert isinstance(read, Read)
    assert read.query == SchedulesById(("s",))
    moved = stored(cursor_us=at(60).utc_us, next_due_us=at(120).utc_us)
    machine.handle(ReadDone(read.op, (moved,)), at(61))
    wake(machine, 61)
    assert machine.outbox == [], "it had fired already"


def test_a_store_that_is_away_is_left_in_peace_longer_each_time() -> None:
    machine = firing(stored())
    waits = []
    seconds = 60.0
    for _ in range(4):
        machine.in_flight += 1
        machine.handle(FiringsUndone(("s",), unavailable=True), at(seconds))
        wakeup = machine.next_wakeup(at(seconds))
        assert wakeup is not None
        assert wakeup.reason is WakeReason.RETRY
        waits.append((wakeup.at_us - at(seconds).mono_us) / SECOND_US)
        assert wake(machine, seconds) == []
        seconds += 10
    assert waits == [0.25, 0.5, 1.0, 2.0]


def test_a_page_or_a_reload_that_cannot_be_read_is_read_again() -> None:
    machine = fresh()
    (read,) = wake(machine, 0)
    assert isinstance(read, Read)
    machine.handle(ReadFailed(read.op, FailReason.UNAVAILABLE), at(0))
    assert wake(machine, 0.1) == []
    assert [type(effect) for effect in wake(machine, 1)] == [Read]
