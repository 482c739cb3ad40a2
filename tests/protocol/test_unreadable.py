"""A stored definition that this version cannot read stands still alone and loses nothing (SCHED-5, STORE-13)."""

import pytest
from attrs import evolve

from sz_protocol.commands import Applied, Apply, Done, Pause, Refusal, RefusalCode, Resume, Trigger
from sz_protocol.definition import Definition
from sz_protocol.definition_wire import decode_stored, encode_definition
from sz_protocol.kernel.now import HOUR_US, SECOND_US
from sz_protocol.notices import ScheduleQuarantined
from sz_protocol.records import Outcome, RunState, Schedule, ScheduleState
from sz_protocol.triggers import Unreadable
from tests.protocol.harness import HANDLERS, T0_US, Bench, at, every

DATA = encode_definition(every(10)).replace(b"interval", b"lunarity")
UNREADABLE = decode_stored("s", DATA)
WHY = UNREADABLE.trigger.why if isinstance(UNREADABLE.trigger, Unreadable) else ""


def other_version(bench: Bench, definition: Definition, seconds: float) -> Bench:
    """The next life is one of a version that reads this definition so."""
    stored = bench.store.schedules["s"]
    bench.store.schedules["s"] = evolve(stored, definition=definition)
    return bench.crash(at(seconds)).start()


def stored(bench: Bench) -> Schedule:
    return bench.store.schedules["s"]


@pytest.fixture
def bench() -> Bench:
    """Two schedules of ten seconds; the next life cannot read one of them."""
    bench = Bench().start()
    bench.ask(Apply((every(10), every(10, "other"))))
    bench.advance(25, auto=Outcome.SUCCEEDED)
    return other_version(bench, UNREADABLE, 25)


def test_sched_5_it_is_quarantined_at_the_start_with_its_reason_and_the_others_go_on(bench: Bench) -> None:
    bench.advance(30, auto=Outcome.SUCCEEDED)
    assert (stored(bench).state, stored(bench).reason) == (ScheduleState.QUARANTINED, WHY)
    assert bench.seen(ScheduleQuarantined) == [ScheduleQuarantined("s", WHY)]
    assert encode_definition(stored(bench).definition) == DATA
    assert len(bench.store.ledger("s")) == 2
    assert len(bench.store.ledger("other")) == 5


def test_it_is_quarantined_at_once_however_far_away_its_due_time(bench: Bench) -> None:
    soon = evolve(stored(bench), next_due_us=T0_US + 100 * SECOND_US)
    bench.store.schedules["s"] = soon
    bench = bench.crash(at(26)).start()
    bench.advance(1)
    assert stored(bench).state is ScheduleState.QUARANTINED


def test_a_version_that_can_read_it_goes_on_where_it_stopped(bench: Bench) -> None:
    bench.advance(30, auto=Outcome.SUCCEEDED)
    bench = other_version(bench, every(10), 60)
    assert bench.ask(Apply((every(10),))) == Applied(changed=1)
    assert stored(bench).state is ScheduleState.ACTIVE
    bench.advance(20, auto=Outcome.SUCCEEDED)
    instants = sorted(run.fire_us for run in bench.store.ledger("s"))
    assert instants == [T0_US + n * 10 * SECOND_US for n in range(1, 9)], "each once"


def test_the_same_definition_given_again_while_it_cannot_be_read_leaves_it_quarantined(bench: Bench) -> None:
    bench.advance(1)
    assert bench.ask(Apply((every(10),))) == Applied(unchanged=1)
    assert stored(bench).state is ScheduleState.QUARANTINED


def test_another_definition_releases_it(bench: Bench) -> None:
    bench.advance(5)
    assert bench.ask(Apply((every(20),))) == Applied(changed=1)
    bench.advance(30, auto=Outcome.SUCCEEDED)
    assert stored(bench).state is ScheduleState.ACTIVE
    assert bench.store.ledger("s")[-1].fire_us == T0_US + 60 * SECOND_US


def test_commands_about_it_are_answered(bench: Bench) -> None:
    bench.advance(1)
    refusal = bench.ask(Trigger("s", "k"))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.message) == (RefusalCode.WRONG_STATE, f"schedule 's' cannot run: {WHY}")
    assert isinstance(bench.ask(Resume("s")), Refusal)
    assert bench.ask(Pause("s", "leave it")) == Done()
    assert bench.ask(Resume("s")) == Done()
    assert (stored(bench).state, stored(bench).reason) == (ScheduleState.QUARANTINED, WHY)
    assert bench.ask(Apply((every(10, "other"),), prune=True)).retired == 1
    assert stored(bench).state is ScheduleState.RETIRED
    assert encode_definition(stored(bench).definition) == DATA


def test_one_that_is_parked_is_quarantined_once_its_handler_comes(bench: Bench) -> None:
    bench.store.schedules["s"] = evolve(stored(bench), state=ScheduleState.PARKED)
    bench = bench.crash(at(30)).start()
    bench.give(HANDLERS)
    bench.settle()
    assert stored(bench).state is ScheduleState.QUARANTINED


def test_its_unfinished_runs_wait_for_a_version_that_can_read_it() -> None:
    bench = Bench().start()
    bench.ask(Apply((every(10), every(10, "other"))))
    bench.advance(10)
    before = bench.store.ledger("s")
    assert [run.state for run in before] == [RunState.LEASED]
    bench = other_version(bench, UNREADABLE, 12)
    bench.advance(3, auto=Outcome.SUCCEEDED)
    assert bench.store.ledger("s") == before
    assert [run.outcome for run in bench.store.ledger("other")] == [Outcome.SUCCEEDED]
    bench = other_version(bench, every(10), 16)
    bench.advance(1, auto=Outcome.SUCCEEDED)
    assert [run.outcome for run in bench.store.ledger("s")] == [Outcome.SUCCEEDED]
    assert bench.now.utc_us < T0_US + HOUR_US
