"""recovery: what the last life left is found page by page, before anything new begins (RUN-6)."""

from sz_protocol.kernel.effects import Publish, Read
from sz_protocol.kernel.events import FailReason, ReadDone, ReadFailed, RunsFound, RunsRecovered, Started, Woke
from sz_protocol.kernel.now import WakeReason, Wakeup
from sz_protocol.machines.recovery import Recovery, RecoveryState
from sz_protocol.notices import StoreTroubled
from sz_protocol.ops import Ops
from sz_protocol.queries import SchedulesById, UnfinishedRuns
from sz_protocol.records import Run
from sz_protocol.settings import Settings
from tests.protocol.harness import at
from tests.protocol.machine_rig import TERM, leased, row_of, stored, waiting

SETTINGS = Settings(page_rows=2, store_retry_us=250_000)


def started() -> Recovery:
    machine = Recovery(SETTINGS, Ops(TERM))
    assert machine.handle(Started(TERM), at(0)) == [Read(1, UnfinishedRuns(limit=2))]
    return machine


def old(number: int, id: str = "s") -> Run:
    return leased(number, row=row_of(number, TERM - 1), schedule_id=id)


def test_run_6_nothing_unfinished_is_soon_said() -> None:
    machine = started()
    assert machine.handle(ReadDone(1, ()), at(0)) == []
    assert machine.outbox == [RunsRecovered()]
    assert machine.state is RecoveryState.RECOVERED


def test_run_6_a_full_page_is_told_with_its_schedules_and_the_next_one_is_asked_for() -> None:
    machine = started()
    page = (old(1), old(2, "gone"))
    assert machine.handle(ReadDone(1, page), at(0)) == [Read(2, SchedulesById(("s", "gone")))]
    assert machine.handle(ReadDone(2, (stored(),)), at(0)) == [
        Read(3, UnfinishedRuns(after_row=row_of(2, TERM - 1), limit=2))
    ]
    assert machine.outbox == [RunsFound(page, (stored(), None))], "a run without a schedule is told all the same"
    assert machine.state is RecoveryState.READING
    machine.handle(ReadDone(3, ()), at(0))
    assert machine.outbox[-1] == RunsRecovered()


def test_run_6_a_short_page_is_the_last() -> None:
    machine = started()
    machine.handle(ReadDone(1, (old(1),)), at(0))
    assert machine.handle(ReadDone(2, (stored(),)), at(0)) == []
    assert machine.outbox == [RunsFound((old(1),), (stored(),)), RunsRecovered()]


def test_run_6_what_people_asked_for_meanwhile_was_not_left_behind() -> None:
    machine = started()
    assert machine.handle(ReadDone(1, (waiting(1),)), at(0)) == [], "a row of this life"
    assert machine.outbox == [RunsRecovered()]


def test_run_6_a_page_that_cannot_be_read_is_read_again_after_a_while() -> None:
    machine = started()
    troubled = Publish(StoreTroubled(FailReason.UNAVAILABLE, "disk"))
    assert machine.handle(ReadFailed(1, FailReason.UNAVAILABLE, "disk"), at(0)) == [troubled]
    assert machine.next_wakeup(at(0)) == Wakeup(at(0.25).mono_us, WakeReason.RETRY)
    assert machine.handle(Woke(), at(0.2)) == []
    assert machine.handle(Woke(), at(0.25)) == [Read(2, UnfinishedRuns(limit=2))]
    assert machine.next_wakeup(at(0.25)) is None
    assert machine.outbox == []


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    machine = started()
    assert machine.handle(ReadDone(99, (old(1),)), at(0)) == []
    assert machine.state is RecoveryState.READING
