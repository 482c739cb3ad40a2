"""RUN-9: a drain ends in bounded time, and what it could not wait for is recorded. KEEP-3: the first sweep."""

import pytest

from sz_protocol.changes import DropRuns
from sz_protocol.commands import Apply
from sz_protocol.definition import Semantics
from sz_protocol.kernel.effects import CancelReason, Write
from sz_protocol.kernel.events import FailReason, Woke
from sz_protocol.kernel.now import MINUTE_US, SECOND_US
from sz_protocol.notices import RunUnresponsive
from sz_protocol.queries import UnfinishedRuns
from sz_protocol.records import Outcome, RunState
from sz_protocol.settings import Settings
from tests.protocol.harness import Bench, at, every, fails

GRACE_S = 10.0
BOUND_S = 5.0
"""What a drain may take beyond its grace."""


def executing(semantics: Semantics = Semantics.AT_LEAST_ONCE) -> Bench:
    bench = Bench().start()
    bench.ask(Apply((every(10, semantics=semantics),)))
    bench.advance(10)
    assert len(bench.running) == 1
    return bench


def test_run_9_what_ends_within_the_grace_is_waited_for() -> None:
    bench = executing()
    bench.stop(GRACE_S)
    bench.advance(GRACE_S - 1)
    assert (bench.stopped, bench.cancels) == (False, [])
    bench.finish_all()
    bench.settle()
    assert bench.store.outcomes() == [(10, "succeeded", "late")]


def test_run_9_what_ends_when_it_is_cancelled_is_recorded_as_it_says() -> None:
    bench = executing(Semantics.AT_MOST_ONCE)
    bench.stop(GRACE_S)
    bench.advance(GRACE_S)
    assert [cancel.reason for cancel in bench.cancels] == [CancelReason.SHUTDOWN]
    bench.finish_all(Outcome.CANCELLED)
    bench.settle()
    assert bench.stopped
    assert bench.store.outcomes() == [(10, "cancelled", "shutdown")]


def test_run_9_a_deaf_run_that_must_not_be_repeated_is_recorded_and_the_node_leaves() -> None:
    bench = executing(Semantics.AT_MOST_ONCE)
    bench.stop(GRACE_S)
    bench.advance(GRACE_S + BOUND_S)
    assert bench.stopped
    (run,) = bench.store.ledger()
    assert (run.state, run.outcome, run.reason) == (RunState.DONE, Outcome.CANCELLED, "shutdown")
    assert run.error == "the handler did not stop when it was asked to"
    assert len(bench.seen(RunUnresponsive)) == 1


def test_run_9_a_deaf_run_is_left_to_the_next_life_which_repeats_it_without_counting_a_loss() -> None:
    bench = executing()
    bench.stop(GRACE_S)
    bench.advance(GRACE_S + BOUND_S)
    assert bench.stopped
    (run,) = bench.store.ledger()
    assert (run.state, run.attempt, run.losses, run.failures) == (RunState.PENDING, 1, 0, 0)
    (attempt,) = bench.store.attempts.values()
    assert (attempt.outcome, attempt.reason) == (Outcome.CANCELLED, "shutdown")
    bench = bench.crash(at(40)).start()
    bench.advance(1, auto=Outcome.SUCCEEDED)
    again = bench.store.ledger()[0]
    assert (again.row, again.outcome, again.attempt) == (run.row, Outcome.SUCCEEDED, 2)


def test_run_9_a_store_that_does_not_answer_holds_no_drain() -> None:
    bench = executing(Semantics.AT_MOST_ONCE)
    bench.stop(GRACE_S)
    until_us = bench.now.mono_us + round((GRACE_S + BOUND_S) * SECOND_US)
    while not bench.stopped and (wakeup := bench.node.next_wakeup(bench.now)) is not None:
        assert wakeup.at_us <= until_us
        bench.pass_us(wakeup.at_us - bench.now.mono_us)
        bench.give(Woke())
        while bench.waiting and not bench.stopped:
            bench.answer(fails(FailReason.UNAVAILABLE))
    assert bench.stopped
    (run,) = bench.store.read(UnfinishedRuns())
    assert run.state is RunState.LEASED


@pytest.mark.parametrize("first_s", [0.0, 4.0])
def test_a_second_stop_shortens_the_first_and_never_lengthens_it(first_s: float) -> None:
    bench = executing()
    bench.stop(first_s)
    bench.stop(60)
    bench.advance(first_s + BOUND_S)
    assert bench.stopped


def test_keep_3_the_first_sweep_comes_within_a_minute_and_then_every_ten() -> None:
    sweeps: list[int] = []
    for seed in range(20):
        bench = Bench(settings=Settings(retention_us=MINUTE_US), seed=seed).start()
        begun_us = bench.now.mono_us
        while len(bench.waiting) == 0:
            wakeup = bench.node.next_wakeup(bench.now)
            assert wakeup is not None
            bench.pass_us(wakeup.at_us - bench.now.mono_us)
            bench.give(Woke())
            if not any(isinstance(effect, Write) for effect in bench.waiting):
                bench.settle()
        (write,) = bench.waiting
        assert isinstance(write, Write)
        assert isinstance(write.changes[0], DropRuns)
        sweeps.append(bench.now.mono_us - begun_us)
    assert max(sweeps) <= MINUTE_US
    assert max(sweeps) - min(sweeps) > MINUTE_US // 2, "jittered"


def test_a_time_out_at_the_very_end_of_a_grace_is_no_fault() -> None:
    bench = Bench(settings=Settings(cancel_grace_us=2 * SECOND_US)).start()
    bench.ask(Apply((every(10, timeout_us=8 * SECOND_US),)))
    bench.advance(10)
    bench.stop(6)
    bench.advance(6 + BOUND_S)
    assert bench.stopped
    (run,) = bench.store.ledger()
    assert run.state is RunState.PENDING
