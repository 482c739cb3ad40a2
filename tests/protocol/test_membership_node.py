"""Remote handlers at a whole node: from a due instant to a handler elsewhere, and back into the ledger."""

from typing import Any

import pytest
from attrs import evolve

from sz_protocol.commands import Apply, Cancel, Done, Refusal, RunNow
from sz_protocol.definition import AwayPolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.kernel.effects import CancelReason, Write
from sz_protocol.kernel.events import FailReason, HandlersChanged, MethodInfo, Woke
from sz_protocol.messages import Ack, AckCode, DispatchedRun, OfferedMethod, RefuseCode, RejectCode
from sz_protocol.notices import HandlerLost, ScheduleParked, ScheduleUnparked, SteppedDown
from sz_protocol.records import Outcome, RunState, ScheduleState
from sz_protocol.settings import Settings
from tests.protocol.harness import T0_US, Bench, ModelStore, every, fails
from tests.protocol.remote_rig import REMOTE, Remote, both, held, remote_bench


def test_a_run_goes_out_and_its_result_comes_back_and_is_acknowledged_once_it_is_durable() -> None:
    bench = remote_bench()
    handler = Remote(bench).join()
    bench.ask(Apply((every(10),)))
    handler.beat_for(10)
    handler.take()
    (run,) = handler.runs
    assert (run.method, run.schedule_id, run.attempt) == ("m", "s", 1)
    handler.accept(run)
    handler.report(run)
    assert isinstance(bench.waiting[0], Write)
    assert not handler.acks(), "MEMB-8: not before it is durable"
    bench.settle()
    assert handler.acks() == [Ack(run.row, 1, AckCode.OK)]
    assert bench.store.outcomes() == [(10, Outcome.SUCCEEDED, "on_time")]
    assert bench.store.ledger()[0].worker == "h"


def test_memb_6_a_run_that_is_still_executing_after_a_restart_is_adopted_and_not_repeated() -> None:
    bench = remote_bench()
    handler = Remote(bench).join()
    bench.ask(Apply((every(10),)))
    handler.beat_for(10)
    (run,) = handler.runs
    handler.accept(run)
    again = bench.crash().start()
    handler = Remote(again).join(executing=(held(run),))
    handler.beat_for(15)
    assert not handler.runs
    handler.report(run)
    again.settle()
    assert handler.acks() == [Ack(run.row, 1, AckCode.OK)]
    assert again.store.outcomes()[0] == (10, Outcome.SUCCEEDED, "late")


def started(store: ModelStore | None = None, settings: Settings = REMOTE, **more: Any) -> tuple[Bench, Remote]:
    """A node and a handler that is registered there."""
    bench = remote_bench(store, settings)
    return bench, Remote(bench, **more).join()


def executing(semantics: Semantics = Semantics.AT_LEAST_ONCE, **more: Any) -> tuple[Bench, Remote, DispatchedRun]:
    """A run that a handler has begun."""
    bench, handler = started()
    bench.ask(Apply((every(10, semantics=semantics, **more),)))
    handler.beat_for(10)
    (run,) = handler.runs
    handler.accept(run)
    return bench, handler, run


# --- who executes ----------------------------------------------------------------------------------------------


def test_memb_12_a_schedule_waits_for_its_handler_after_a_start_before_it_is_parked() -> None:
    bench = remote_bench()
    bench.ask(Apply((every(10),)))
    bench.advance(29)
    assert not bench.seen(ScheduleParked)
    Remote(bench).join().beat_for(1)
    assert len(bench.sent) > 2
    assert bench.store.schedules["s"].state is ScheduleState.ACTIVE


def test_memb_12_a_schedule_whose_handler_does_not_come_is_parked_after_the_grace_and_goes_on_when_it_does() -> None:
    bench = remote_bench()
    bench.ask(Apply((every(10),)))
    bench.advance(45)
    assert [notice.schedule_id for notice in bench.seen(ScheduleParked)] == ["s"]
    handler = Remote(bench).join()
    handler.beat_for(10)
    assert bench.seen(ScheduleUnparked)
    assert handler.runs


def test_keep_4_a_server_that_was_replaced_and_has_nothing_to_do_lets_its_handlers_go() -> None:
    """As in seed 2991: its last schedule was parked by its successor, whom no handler ever reached."""
    bench, handler = started(settings=evolve(REMOTE, retention_us=None))
    bench.store.open()
    handler.beat_for(60)
    assert bench.seen(SteppedDown)


def test_away_wait_a_run_waits_for_its_handler_and_goes_to_it() -> None:
    bench, handler = started()
    bench.ask(Apply((every(10),)))
    handler.bye()
    bench.advance(11)
    assert bench.store.outcomes() == [(10, RunState.PENDING, "")]
    handler.join()
    bench.settle()
    handler.take()
    assert [run.fire_us for run in handler.runs] == [T0_US + 10_000_000]


def test_away_skip_says_so_for_each_instant_and_is_never_parked() -> None:
    bench, handler = started()
    bench.ask(Apply((every(10, away=AwayPolicy.SKIP),)))
    handler.beat_for(10)
    handler.report(handler.runs[0])
    handler.bye()
    bench.advance(50)
    assert bench.store.outcomes()[1:] == [(at, Outcome.SKIPPED, "handler_away") for at in (20, 30, 40, 50, 60)]
    handler.join().beat_for(10)
    assert len(handler.runs) == 2


def test_away_elsewhere_goes_to_another_handler_while_its_own_is_not_here() -> None:
    bench, handler = started()
    other = Remote(bench, "other").join()
    bench.ask(Apply((every(10, away=AwayPolicy.ELSEWHERE),)))
    both(handler, other).beat_for(10)
    handler.report(handler.runs[0])
    handler.bye()
    other.beat_for(10)
    assert [run.fire_us - T0_US for run in other.runs] == [20_000_000]
    other.report(other.runs[0])
    handler.join()
    both(handler, other).beat_for(10)
    assert len(handler.runs) == 2
    assert [run.worker for run in bench.store.ledger()] == ["h", "other", "h"]


def test_a_handler_of_this_process_is_called_by_its_own_name_wherever_the_schedule_meant_another() -> None:
    here = HandlersChanged((MethodInfo("here", "m", "pool"),), (("pool", 2),))
    bench = Bench(None, REMOTE, here).start()
    any_one = evolve(every(10, "any"), handler_id="*")
    bench.ask(Apply((any_one, every(10, "gone", away=AwayPolicy.ELSEWHERE))))
    bench.advance(10)
    assert [(start.schedule_id, start.handler_id) for start in bench.started] == [("any", "here"), ("gone", "here")]


def test_any_handler_with_the_tags_and_the_method_the_least_loaded_first() -> None:
    bench, north = started(id="n1", tags={"zone": "north"}, slots=4)
    north2 = Remote(bench, "n2", tags={"zone": "north", "gpu": "yes"}, slots=4).join()
    south = Remote(bench, "s1", tags={"zone": "south"}, slots=100).join()
    idle = Remote(bench, "x", methods=(OfferedMethod("other"),), tags={"zone": "north"}).join()
    bench.settle()
    overlap = Overlap(OverlapPolicy.ALLOW, 9)
    schedule = evolve(every(1, overlap=overlap, tags={"zone": "north"}), handler_id="*")
    bench.ask(Apply((schedule,)))
    both(north, north2, south, idle).beat_for(4)
    assert [len(handler.rows()) for handler in (north, north2, south, idle)] == [2, 2, 0, 0]


def test_a_method_of_a_handler_executes_no_more_at_once_than_that_handler_says() -> None:
    bench, handler = started(methods=(OfferedMethod("m", 2),))
    bench.ask(Apply((every(1, overlap=Overlap(OverlapPolicy.ALLOW, 9)),)))
    handler.beat_for(5)
    assert len(handler.rows()) == 2
    handler.report(handler.runs[0])
    handler.beat_for(1)
    assert len(handler.rows()) == 3


def test_run_now_on_a_remote_handler() -> None:
    bench, handler = started()
    bench.advance(0.1)
    for number, handler_id in enumerate(("h", "*")):
        assert isinstance(bench.ask(RunNow(handler_id, "m", f"key{number}", {"x": 1})), Done)
    assert isinstance(bench.ask(RunNow("h", "nothing", "key3")), Refusal)
    handler.take()
    assert [run.params for run in handler.runs] == [{"x": 1}, {"x": 1}]


def test_a_local_handler_executes_beside_remote_ones() -> None:
    bench = Bench(settings=REMOTE).start()
    handler = Remote(bench, "far").join()
    bench.ask(Apply((every(10), evolve(every(10, id="t"), handler_id="far"))))
    handler.beat_for(10)
    assert [run.schedule_id for run in bench.started] == ["s"]
    assert [run.schedule_id for run in handler.runs] == ["t"]
    assert Remote(bench, "h").hello().code is RejectCode.NOT_ALLOWED


# --- what vanishes ---------------------------------------------------------------------------------------------


def test_at_least_once_a_run_that_vanished_is_executed_again_as_the_next_attempt() -> None:
    bench, _, run = executing()
    bench.advance(10)
    assert bench.store.runs[run.row].state is RunState.PENDING
    assert [attempt.outcome for attempt in bench.store.attempts.values()] == [Outcome.LOST]
    again = Remote(bench, incarnation=2).join()
    again.beat_for(1)
    assert [(r.row, r.attempt) for r in again.runs] == [(run.row, 2)]
    assert again.runs[0].fence > run.fence


def test_at_most_once_a_run_that_vanished_is_lost_and_never_sent_again() -> None:
    bench, _, run = executing(Semantics.AT_MOST_ONCE)
    bench.advance(10)
    assert bench.store.outcomes()[0] == (10, Outcome.LOST, "crashed")
    again = Remote(bench, incarnation=2).join()
    again.beat_for(5)
    assert run.row not in [r.row for r in again.runs]


def test_at_most_once_what_the_last_life_left_and_nobody_has_is_lost() -> None:
    bench, _, run = executing(Semantics.AT_MOST_ONCE)
    again = bench.crash().start()
    handler = Remote(again, incarnation=2).join()
    again.settle()
    assert again.store.outcomes()[0] == (10, Outcome.LOST, "crashed")
    handler.beat_for(5)
    assert run.row not in [r.row for r in handler.runs]


def test_what_the_last_life_left_with_a_handler_that_does_not_come_is_repeated_after_the_lease() -> None:
    bench, _, run = executing()
    again = bench.crash().start()
    other = Remote(again, "other").join()
    other.beat_for(9)
    assert again.store.runs[run.row].state is RunState.LEASED
    other.beat_for(1)
    assert again.store.runs[run.row].state is RunState.PENDING


def test_a_result_that_came_before_the_crash_and_was_not_written_comes_again() -> None:
    bench, handler, run = executing()
    handler.report(run)
    again = bench.crash().start()
    handler = Remote(again).join(unacked=(held(run),))
    again.settle()
    handler.report(run)
    again.settle()
    assert handler.acks() == [Ack(run.row, 1, AckCode.OK)]
    assert again.store.outcomes()[0][:2] == (10, Outcome.SUCCEEDED)


def test_a_result_is_acknowledged_only_when_the_store_has_it_however_long_that_takes() -> None:
    bench, handler, run = executing()
    handler.report(run)
    for _ in range(5):
        bench.answer(fails(FailReason.UNAVAILABLE))
        bench.pass_us(2_000_000)
        handler.beat()
        bench.give(Woke())
        handler.report(run)
        assert not handler.acks()
    bench.advance(5)
    assert handler.acks() == [Ack(run.row, 1, AckCode.OK)]


def test_a_result_that_another_node_has_overtaken_is_not_kept_by_its_handler_for_ever() -> None:
    bench, handler, run = executing()
    stored = bench.store.runs[run.row]
    bench.store.runs[run.row] = stored.done(Outcome.CANCELLED, "requested", None, stored.decided_us)
    handler.report(run)
    bench.settle()
    assert handler.acks() == [Ack(run.row, 1, AckCode.OK)]


# --- what comes back -------------------------------------------------------------------------------------------


def test_a_refused_run_is_sent_again_after_a_pause_as_the_same_attempt_with_another_fence() -> None:
    bench, handler = started()
    bench.ask(Apply((every(10),)))
    handler.beat_for(10)
    (run,) = handler.runs
    handler.refuse(run)
    bench.settle()
    assert len(handler.runs) == 1
    handler.beat_for(1)
    again = handler.runs[1]
    assert (again.row, again.attempt) == (run.row, run.attempt)
    assert again.fence > run.fence
    handler.report(again)
    bench.settle()
    assert bench.store.outcomes()[0][:2] == (10, Outcome.SUCCEEDED)


def test_a_refused_run_for_any_handler_goes_to_another_one() -> None:
    bench, first = started(id="a", slots=1)
    bench.ask(Apply((evolve(every(10), handler_id="*"),)))
    first.beat_for(10)
    first.refuse(first.runs[0], RefuseCode.DRAINING)
    other = Remote(bench, "b").join()
    both(first, other).beat_for(1)
    assert [run.row for run in other.runs] == [first.runs[0].row]


def test_a_run_that_came_back_keeps_the_whole_of_its_timeout() -> None:
    bench, handler = started()
    bench.ask(Apply((every(10, timeout_us=3_000_000),)))
    handler.beat_for(10)
    handler.beat_for(2)
    handler.refuse(handler.runs[-1])
    handler.beat_for(1)
    assert handler.runs[-1].timeout_us is not None
    assert handler.runs[-1].timeout_us > 2_000_000
    handler.accept(handler.runs[-1])
    handler.beat_for(1)
    assert not handler.stops(), "the first claim's time-out is over with the claim"


def test_a_run_that_would_not_stop_and_was_refused_after_all_gives_back_its_slot() -> None:
    bench, handler = started(slots=1)
    bench.ask(Apply((every(10, timeout_us=1_000_000),)))
    handler.beat_for(22)
    assert bench.store.outcomes()[0] == (10, Outcome.FAILED, "timeout")
    handler.refuse(handler.runs[-1])
    handler.beat_for(10)
    assert {run.row for run in handler.runs} > {handler.runs[0].row}


# --- stopping --------------------------------------------------------------------------------------------------


def test_a_remote_run_is_stopped_on_demand() -> None:
    bench, handler, run = executing()
    request = bench.command(Cancel(run.run_id))
    (stop,) = handler.stops()
    assert (stop.row, stop.attempt, stop.reason) == (run.row, 1, CancelReason.REQUESTED)
    handler.report(run, Outcome.CANCELLED)
    bench.settle()
    assert isinstance(bench.replies[request], Done)
    assert bench.store.outcomes()[0] == (10, Outcome.CANCELLED, "requested")


@pytest.mark.parametrize("unacked", [False, True], ids=["it stops after the restart", "its result waits"])
def test_run_3_memb_6_a_run_that_a_person_stopped_before_a_restart_is_not_tried_again_after_it(unacked: bool) -> None:
    """The server dies between its Stop and the result (as in seed 1612, where a newer run had taken its place)."""
    bench, handler, run = executing(retry=Retry(3))
    bench.command(Cancel(run.run_id))
    assert [stop.reason for stop in handler.stops()] == [CancelReason.REQUESTED]
    again = bench.crash().start()
    handler = Remote(again).join(**{"unacked" if unacked else "executing": (held(run),)})
    again.settle()
    handler.report(run, Outcome.CANCELLED, reason="requested")
    again.settle()
    assert again.store.outcomes()[0] == (10, Outcome.CANCELLED, "requested")
    assert handler.acks() == [Ack(run.row, 1, AckCode.OK)]


def test_a_remote_run_that_was_not_sent_yet_is_stopped_on_demand() -> None:
    bench = remote_bench()
    handler = Remote(bench)
    handler.hello()
    handler.beat(granted=0)
    bench.ask(Apply((every(10),)))
    for _ in range(10):
        bench.advance(1)
        handler.beat(granted=0)
    (stored,) = bench.store.ledger()
    assert stored.state is RunState.LEASED
    assert isinstance(bench.ask(Cancel(stored.run_id)), Done)
    handler.beat(granted=5)
    assert not handler.runs


def test_a_stop_that_its_handler_never_obeys_is_given_up_and_its_slot_kept_until_it_is_lost() -> None:
    bench, handler, run = executing(overlap=Overlap(OverlapPolicy.ALLOW, 9))
    request = bench.command(Cancel(run.run_id))
    handler.beat_for(10)
    assert isinstance(bench.replies[request], Done)
    assert bench.node.execution.table.stranded
    bench.advance(11)
    assert not bench.node.execution.table.stranded


def test_a_drain_leaves_remote_runs_alone() -> None:
    bench, handler, run = executing()
    bench.stop(grace_s=5)
    bench.settle()
    assert bench.stopped
    assert not handler.stops()
    assert bench.store.runs[run.row].state is RunState.LEASED
    again = bench.crash().start()
    handler = Remote(again).join(executing=(held(run),))
    handler.report(run)
    again.settle()
    assert again.store.outcomes()[0][:2] == (10, Outcome.SUCCEEDED)


def test_a_drain_gives_back_what_was_not_sent() -> None:
    bench = remote_bench()
    handler = Remote(bench)
    handler.hello()
    handler.beat(granted=0)
    bench.ask(Apply((every(10, semantics=Semantics.AT_MOST_ONCE),)))
    for _ in range(10):
        bench.advance(1)
        handler.beat(granted=0)
    bench.stop()
    bench.settle()
    (stored,) = bench.store.ledger()
    assert (stored.state, stored.attempt) == (RunState.PENDING, 0)


def test_results_are_taken_while_the_node_drains() -> None:
    bench = Bench(settings=REMOTE).start()
    handler = Remote(bench, "far").join()
    bench.ask(Apply((every(10), evolve(every(10, id="t"), handler_id="far"))))
    handler.beat_for(10)
    bench.stop(grace_s=60)
    handler.report(handler.runs[0])
    bench.settle()
    assert handler.acks()
    assert not bench.stopped, "its own run goes on"


# --- performance -----------------------------------------------------------------------------------------------


def test_a_thousand_silent_handlers_cost_no_more_than_their_own_deadlines() -> None:
    bench = remote_bench(settings=evolve(REMOTE, workers=1000))
    for number in range(1000):
        Remote(bench, f"h{number}").join()
    woken = 0
    original = bench.give

    def counting(event: Any) -> Any:
        nonlocal woken
        woken += isinstance(event, Woke)
        return original(event)

    bench.give = counting  # type: ignore[method-assign]
    bench.advance(45)
    assert len(bench.seen(HandlerLost)) == 1000
    assert woken < 400
