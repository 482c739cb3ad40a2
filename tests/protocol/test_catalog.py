"""catalog: jobs of edits: read, decided and written, whatever store and fires do meanwhile (CAT-3 to 6, CAT-11)."""

import pytest
from attrs import evolve

from sz_protocol.changes import InsertRuns, PutSchedules
from sz_protocol.commands import (
    Answer,
    Applied,
    Apply,
    Command,
    Done,
    Pause,
    Refusal,
    RefusalCode,
    Resume,
    RunNow,
    Trigger,
)
from sz_protocol.kernel.effects import Effect, Publish, Read, Reply, Write
from sz_protocol.kernel.events import (
    Commanded,
    FailReason,
    HandlersChanged,
    ParkWanted,
    ReadDone,
    ReadFailed,
    RunsRecovered,
    RunWanted,
    SchedulesStored,
    SettleWanted,
    Started,
    StopRequested,
    Woke,
    WriteDone,
    WriteFailed,
)
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines import catalog
from sz_protocol.machines.catalog import Catalog
from sz_protocol.notices import ScheduleParked, ScheduleUnparked
from sz_protocol.ops import Ops
from sz_protocol.queries import ScheduleIds, SchedulesById, SchedulesPage
from sz_protocol.records import RunKind, Schedule, ScheduleState
from sz_protocol.settings import Settings
from tests.protocol.harness import at, every
from tests.protocol.machine_rig import METHODS, TERM, stored

NOW = at(90)
PAUSED = stored(state=ScheduleState.PAUSED)


def working() -> Catalog:
    machine = Catalog(Settings(), Ops(TERM))
    for event in (Started(TERM), RunsRecovered(), METHODS):
        machine.handle(event, NOW)
    machine.jobs.clear()
    machine.outbox.clear()
    return machine


def asked(machine: Catalog, command: Command, number: int = 7) -> list[Effect]:
    return machine.handle(Commanded(number, command), NOW)


def read(effects: list[Effect]) -> Read:
    (effect,) = effects
    assert isinstance(effect, Read), effect
    return effect


def put(effects: list[Effect]) -> Write:
    (effect,) = effects
    assert isinstance(effect, Write), effect
    return effect


def until_written(machine: Catalog, command: Command, *rows: Schedule) -> Write:
    """Ask, and answer the read: the write that follows."""
    return put(machine.handle(ReadDone(read(asked(machine, command)).op, rows), NOW))


def answer(effects: list[Effect]) -> Answer:
    (reply,) = (effect for effect in effects if isinstance(effect, Reply))
    assert reply.request_id == 7
    told: Answer = reply.answer
    return told


# --- one job ---------------------------------------------------------------------------------------------------


def test_an_apply_reads_decides_writes_and_tells() -> None:
    machine = working()
    first = read(asked(machine, Apply((every(60), every(60, "t")))))
    assert first.query == SchedulesById(("s", "t"))
    write = put(machine.handle(ReadDone(first.op, (stored(),)), NOW))
    (change,) = write.changes
    assert isinstance(change, PutSchedules)
    assert [(s.id, s.rev) for s in change.schedules] == [("t", 1)], "what did not change is not written"
    assert (change.expected_cursors_us, write.fence) == ((None,), TERM)
    assert answer(machine.handle(WriteDone(write.op), NOW)) == Applied(added=1, unchanged=1)
    assert machine.outbox == [SchedulesStored(change.schedules)]


def test_an_apply_that_changes_nothing_writes_nothing() -> None:
    machine = working()
    effects = machine.handle(ReadDone(read(asked(machine, Apply((every(60),)))).op, (stored(),)), NOW)
    assert effects == [Reply(7, Applied(unchanged=1))]


def test_many_definitions_are_worked_on_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "CHUNK", 2)
    machine = working()
    effects = asked(machine, Apply(tuple(every(60, f"s{n}") for n in range(5))))
    asked_for = []
    while isinstance(effects[-1], Read):
        page = read(effects[-1:])
        asked_for.append(page.query)
        effects = machine.handle(WriteDone(put(machine.handle(ReadDone(page.op, ()), NOW)).op), NOW)
    assert asked_for == [SchedulesById(("s0", "s1")), SchedulesById(("s2", "s3")), SchedulesById(("s4",))]
    assert answer(effects) == Applied(added=5)


def test_what_is_given_twice_counts_once_and_is_told() -> None:
    machine = working()
    write = until_written(machine, Apply((every(60), every(30))))
    (told,) = answer(machine.handle(WriteDone(write.op), NOW)).refused  # type: ignore[union-attr]
    assert told[0] == "s"


def test_cat_2_with_prune_what_left_its_source_is_retired_afterwards() -> None:
    machine = working()
    listing = read(asked(machine, Apply((), prune=True)))
    assert isinstance(listing.query, ScheduleIds)
    assert listing.query.source == "config"
    page = read(machine.handle(ReadDone(listing.op, ("s",)), NOW))
    write = put(machine.handle(ReadDone(page.op, (stored(),)), NOW))
    (change, rows) = write.changes
    assert isinstance(change, PutSchedules)
    assert change.schedules[0].state is ScheduleState.RETIRED
    assert isinstance(rows, InsertRuns)
    assert [run.fire_us for run in rows.runs] == [at(60).utc_us], "CAT-4: in the same write"
    assert answer(machine.handle(WriteDone(write.op), NOW)) == Applied(retired=1)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (Pause("s"), RefusalCode.UNKNOWN_SCHEDULE),
        (Resume("s"), RefusalCode.UNKNOWN_SCHEDULE),
        (Trigger("s", "k"), RefusalCode.UNKNOWN_SCHEDULE),
    ],
)
def test_an_unknown_schedule_is_refused(command: Command, code: RefusalCode) -> None:
    machine = working()
    refusal = answer(machine.handle(ReadDone(read(asked(machine, command)).op, ()), NOW))
    assert isinstance(refusal, Refusal)
    assert refusal.code is code


def test_a_trigger_wants_a_run_named_by_the_key_of_the_client() -> None:
    machine = working()
    for _ in range(2):
        assert machine.handle(ReadDone(read(asked(machine, Trigger("s", "order-1"))).op, (stored(),)), NOW) == []
    first, second = machine.outbox
    assert isinstance(first, RunWanted)
    assert isinstance(second, RunWanted)
    assert first.run.run_key == second.run.run_key
    assert (first.run.kind, first.schedule) == (RunKind.MANUAL, stored())


def test_a_method_is_run_now_without_reading_and_only_where_it_is() -> None:
    machine = working()
    assert asked(machine, RunNow("h", "m", "k", {"a": 1})) == []
    (wanted,) = machine.outbox
    assert isinstance(wanted, RunWanted)
    assert (wanted.run.params, wanted.schedule) == ({"a": 1}, None)
    refusal = answer(asked(machine, RunNow("h", "nothing", "k")))
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.UNKNOWN_METHOD


# --- the store -------------------------------------------------------------------------------------------------


def test_cat_3_a_fire_that_came_between_is_read_again_and_the_edit_decided_anew() -> None:
    machine = working()
    write = until_written(machine, Pause("s", "why"), stored())
    again = read(machine.handle(WriteFailed(write.op, FailReason.REFUSED, ("s",)), NOW))
    fired = stored(cursor_us=at(60).utc_us, next_due_us=at(120).utc_us)
    second = put(machine.handle(ReadDone(again.op, (fired,)), NOW))
    (change,) = second.changes
    assert isinstance(change, PutSchedules)
    assert change.expected_cursors_us == (at(60).utc_us,)
    assert answer(machine.handle(WriteDone(second.op), NOW)) == Done()


def test_cat_3_of_a_chunk_only_what_the_fire_touched_is_decided_anew() -> None:
    machine = working()
    write = until_written(machine, Apply((every(60), every(60, "t"))))
    rest = put(machine.handle(WriteFailed(write.op, FailReason.REFUSED, ("t",)), NOW))
    (change,) = rest.changes
    assert isinstance(change, PutSchedules)
    assert [s.id for s in change.schedules] == ["s"], "written as it is"
    again = read(machine.handle(WriteDone(rest.op), NOW)[-1:])
    assert again.query == SchedulesById(("t",))


def test_cat_3_in_the_end_somebody_who_waits_is_told() -> None:
    machine = working()
    write = until_written(machine, Pause("s"), stored())
    for _ in range(catalog.TRIES):
        again = read(machine.handle(WriteFailed(write.op, FailReason.REFUSED, ("s",)), NOW))
        write = put(machine.handle(ReadDone(again.op, (stored(),)), NOW))
    refusal = answer(machine.handle(WriteFailed(write.op, FailReason.REFUSED, ("s",)), NOW))
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.UNAVAILABLE


def test_cat_5_whoever_does_not_know_whether_it_is_durable_looks_first() -> None:
    machine = working()
    write = until_written(machine, Pause("s", "why"), stored())
    (change,) = write.changes
    assert isinstance(change, PutSchedules)
    assert machine.handle(WriteFailed(write.op, FailReason.UNKNOWN), NOW) == []
    look = read(machine.handle(Woke(), at(100)))
    effects = machine.handle(ReadDone(look.op, change.schedules), at(100))
    assert answer(effects) == Done(), "it was: not written a second time"
    assert machine.outbox == [SchedulesStored(change.schedules)]


def test_cat_5_and_writes_where_it_was_not() -> None:
    machine = working()
    write = until_written(machine, Pause("s", "why"), stored())
    machine.handle(WriteFailed(write.op, FailReason.UNKNOWN), NOW)
    look = read(machine.handle(Woke(), at(100)))
    again = put(machine.handle(ReadDone(look.op, (stored(),)), at(100)))
    assert answer(machine.handle(WriteDone(again.op), at(100))) == Done()


def test_a_store_that_is_away_is_asked_again_and_named_in_the_end() -> None:
    machine = working()
    page, seconds = read(asked(machine, Pause("s"))), 100.0
    for _ in range(catalog.TRIES):
        assert machine.handle(ReadFailed(page.op, FailReason.UNAVAILABLE, "disk"), at(seconds)) == []
        seconds += 100
        page = read(machine.handle(Woke(), at(seconds)))
    refusal = answer(machine.handle(ReadFailed(page.op, FailReason.UNAVAILABLE, "disk"), at(seconds)))
    assert refusal == Refusal(RefusalCode.UNAVAILABLE, "the store does not take it: disk")


def test_what_the_store_cannot_hold_is_left_out_and_told() -> None:
    machine = working()
    write = until_written(machine, Apply((every(60), every(60, "t"))))
    again = read(machine.handle(WriteFailed(write.op, FailReason.INVALID, ("t",), "too long"), NOW))
    assert again.query == SchedulesById(("s",))
    write = put(machine.handle(ReadDone(again.op, ()), NOW))
    assert answer(machine.handle(WriteDone(write.op), NOW)) == Applied(added=1, refused=(("t", "too long"),))


def test_a_node_that_was_replaced_says_so() -> None:
    machine = working()
    write = until_written(machine, Pause("s"), stored())
    refusal = answer(machine.handle(WriteFailed(write.op, FailReason.FENCED), NOW))
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.UNAVAILABLE


# --- what other machines want ----------------------------------------------------------------------------------


def test_pain_16_a_schedule_whose_method_is_away_is_parked_and_told() -> None:
    machine = working()
    machine.handle(HandlersChanged((), ()), NOW)
    machine.jobs.clear()
    page = read(machine.handle(ParkWanted(("s",), ScheduleState.PARKED, "no method"), NOW))
    write = put(machine.handle(ReadDone(page.op, (stored(),)), NOW))
    assert machine.handle(WriteDone(write.op), NOW) == [Publish(ScheduleParked("s", "no method"))]


def test_pain_16_when_methods_change_the_parked_are_looked_at_again() -> None:
    machine = working()
    machine.handle(HandlersChanged((), ()), NOW)
    machine.jobs.clear()
    listing = read(machine.handle(METHODS, NOW))
    assert isinstance(listing.query, SchedulesPage)
    assert ScheduleState.PARKED in (listing.query.states or ())
    parked = stored(state=ScheduleState.PARKED, reason="no method")
    page = read(machine.handle(ReadDone(listing.op, (parked,)), NOW))
    write = put(machine.handle(ReadDone(page.op, (parked,)), NOW))
    assert Publish(ScheduleUnparked("s")) in machine.handle(WriteDone(write.op), NOW)


def test_what_needs_no_parking_or_settling_goes_back_to_scheduling() -> None:
    for wanted in (ParkWanted(("s",), ScheduleState.PARKED, "no method"), SettleWanted(("s",))):
        machine = working()
        page = read(machine.handle(wanted, NOW))
        assert machine.handle(ReadDone(page.op, (stored(),)), NOW) == []
        assert machine.outbox == [SchedulesStored((stored(),))]


def test_cat_11_what_is_under_way_already_is_not_begun_again_when_a_doubtful_write_brings_it_up() -> None:
    parking = ParkWanted(("s",), ScheduleState.PARKED, "no method")
    for wanted in (parking, SettleWanted(("s",))):
        machine = working()
        page = read(machine.handle(wanted, NOW))
        assert machine.handle(wanted, NOW) == []
        more = evolve(wanted, schedule_ids=("s", "t"))
        assert read(machine.handle(more, NOW)).query == SchedulesById(("t",))
        machine.handle(ReadFailed(page.op, FailReason.UNAVAILABLE, "down"), NOW)
        assert machine.handle(wanted, NOW) == [], "it waits for the store"
    machine = working()
    machine.handle(parking, NOW)
    other = evolve(parking, reason="no such tag")
    assert read(machine.handle(other, NOW)).query == SchedulesById(("s",)), "another reason is another wish"


# --- the drain -------------------------------------------------------------------------------------------------


def test_cat_6_a_drain_begins_no_write_and_says_what_was_stored() -> None:
    machine = working()
    page = read(asked(machine, Apply((every(60),))))
    machine.handle(StopRequested(10 * SECOND_US), NOW)
    assert answer(machine.handle(ReadDone(page.op, ()), NOW)) == Refusal(RefusalCode.STOPPING, "the node is stopping")


def test_cat_6_a_write_under_way_is_waited_for() -> None:
    machine = working()
    write = until_written(machine, Pause("s"), stored())
    assert machine.ops.edits == 1
    machine.handle(StopRequested(10 * SECOND_US), NOW)
    assert answer(machine.handle(WriteDone(write.op), NOW)) == Done()
    assert machine.ops.edits == 0
