"""completion: the table "What a result makes of a run" of specs/execution.md, line by line (RUN-1, RUN-3)."""

from random import Random
from typing import Any

import pytest
from attrs import evolve

from sz_protocol.definition import Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.kernel.effects import CancelReason
from sz_protocol.kernel.events import RunResult
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.completion import (
    Completion,
    decide_completion,
    decide_loss,
    decide_revoke,
    decide_stop,
    without_data,
)
from sz_protocol.records import Attempt, Outcome, Reason, Run, RunState
from sz_protocol.settings import Settings
from tests.protocol.harness import at, every
from tests.protocol.machine_rig import leased, row_of

FAILED, SUCCEEDED, CANCELLED = Outcome.FAILED, Outcome.SUCCEEDED, Outcome.CANCELLED
NOW_US = at(65).utc_us
THRICE = Retry(3, base_us=SECOND_US)


def result(outcome: Outcome, reason: str = "", started_s: float = 60, **more: Any) -> RunResult:
    return RunResult(row_of(1), 1, outcome, reason, at(started_s).utc_us, at(started_s + 4).utc_us, **more)


def decide(
    ended: RunResult, asked: CancelReason | None = None, run: Run | None = None, **definition: Any
) -> Completion:
    return decide_completion(run or leased(), every(60, **definition), ended, asked, Settings(), Random(1), NOW_US)


def told(completion: Completion) -> tuple[RunState, Outcome | None, str]:
    return completion.run.state, completion.run.outcome, completion.run.reason


@pytest.mark.parametrize("asked", [None, *CancelReason])
def test_run_1_what_succeeded_has_succeeded_whatever_it_was_asked(asked: CancelReason | None) -> None:
    made = decide(result(SUCCEEDED, result="7"), asked)
    assert told(made) == (RunState.DONE, SUCCEEDED, Reason.ON_TIME)
    assert (made.run.result, made.run.started_us, made.expected, made.attempt) == ("7", at(60).utc_us, 1, None)


@pytest.mark.parametrize(
    ("run", "started_s", "spread_us", "reason"),
    [
        (leased(), 60, 0, Reason.ON_TIME),
        (leased(), 62, 0, Reason.LATE),
        (leased(), 62, 2 * SECOND_US, Reason.ON_TIME),
        (leased(attempt=2), 70, 0, Reason.RETRIED),
        (leased(reason=Reason.CATCH_UP), 90, 0, Reason.CATCH_UP),
        (leased(reason=Reason.MANUAL), 60, 0, Reason.MANUAL),
    ],
)
def test_a_success_says_what_was_special_about_it(run: Run, started_s: float, spread_us: int, reason: Reason) -> None:
    ended = evolve(result(SUCCEEDED, started_s=started_s), attempt=run.attempt)
    assert decide(ended, run=run, spread_us=spread_us).run.reason == reason


@pytest.mark.parametrize(
    ("asked", "outcome", "reason"),
    [
        (CancelReason.REQUESTED, CANCELLED, "requested"),
        (CancelReason.SUPERSEDED, CANCELLED, "superseded"),
        (CancelReason.DEADLINE, FAILED, "deadline"),
    ],
)
def test_run_3_what_was_asked_to_stop_for_good_is_not_tried_again(
    asked: CancelReason, outcome: Outcome, reason: str
) -> None:
    assert told(decide(result(CANCELLED), asked, retry=THRICE)) == (RunState.DONE, outcome, reason)


@pytest.mark.parametrize("asked", [None, CancelReason.TIMEOUT])
@pytest.mark.parametrize(
    ("word", "outcome"), [("requested", CANCELLED), ("superseded", CANCELLED), ("deadline", FAILED)]
)
def test_run_3_what_an_earlier_life_asked_to_stop_for_good_is_not_tried_again(
    word: str, outcome: Outcome, asked: CancelReason | None
) -> None:
    made = decide(result(CANCELLED, word), asked, retry=THRICE, overlap=Overlap(OverlapPolicy.CANCEL_RUNNING))
    assert told(made) == (RunState.DONE, outcome, word)


def test_the_word_of_a_worker_does_not_replace_a_stronger_reason() -> None:
    assert told(decide(result(CANCELLED, "timeout"), CancelReason.REQUESTED)) == (RunState.DONE, CANCELLED, "requested")
    assert decide(result(CANCELLED, "timeout"), retry=THRICE).run.failures == 1


def test_what_a_server_that_does_not_know_it_stopped_is_repeated_unless_at_most_once_is_promised() -> None:
    again = decide(result(CANCELLED, "superseded"))
    assert (again.run.state, again.run.failures) == (RunState.PENDING, 0)
    once = decide(result(CANCELLED, "superseded"), semantics=Semantics.AT_MOST_ONCE)
    assert told(once) == (RunState.DONE, CANCELLED, Reason.CUT_OFF)


@pytest.mark.parametrize(
    ("ended", "asked", "reason"),
    [
        (result(FAILED, "error"), None, Reason.ERROR),
        (result(FAILED, "a word of its own"), None, Reason.ERROR),
        (result(FAILED, "unstorable_result"), None, Reason.UNSTORABLE),
        (result(CANCELLED), CancelReason.TIMEOUT, Reason.TIMEOUT),
    ],
)
def test_policy_4_a_failure_is_tried_again_while_policy_allows(
    ended: RunResult, asked: CancelReason | None, reason: Reason
) -> None:
    again = decide(ended, asked, retry=THRICE)
    assert again.attempt == Attempt(row_of(1), 1, FAILED, reason, ended.started_us, ended.finished_us)
    assert (again.run.state, again.run.failures, again.expected) == (RunState.PENDING, 1, 1)
    assert NOW_US <= again.run.not_before_us <= NOW_US + SECOND_US, "full jitter below the ceiling"
    last = decide(ended, asked, run=leased(failures=2), retry=THRICE)
    assert (told(last), last.run.failures) == ((RunState.DONE, FAILED, reason), 3)


@pytest.mark.parametrize("reason", [Reason.UNKNOWN_METHOD, Reason.INVALID_PARAMS])
def test_policy_4_what_no_other_attempt_can_help_is_not_tried_again(reason: Reason) -> None:
    made = decide(result(FAILED, reason, retryable=False), retry=THRICE)
    assert told(made) == (RunState.DONE, FAILED, reason)


@pytest.mark.parametrize(
    ("ended", "asked", "reason"),
    [
        (result(CANCELLED), CancelReason.SHUTDOWN, Reason.SHUTDOWN),
        (result(CANCELLED, "shutdown"), None, Reason.SHUTDOWN),
        (result(CANCELLED, "cut_off"), None, Reason.CUT_OFF),
    ],
)
def test_a_shutdown_is_no_failure_and_is_repeated_unless_at_most_once_is_promised(
    ended: RunResult, asked: CancelReason | None, reason: Reason
) -> None:
    again = decide(ended, asked)
    assert (again.run.state, again.run.failures, again.run.not_before_us) == (RunState.PENDING, 0, NOW_US)
    assert again.attempt is not None
    assert again.attempt.reason == reason
    once = decide(ended, asked, semantics=Semantics.AT_MOST_ONCE)
    assert told(once) == (RunState.DONE, CANCELLED, reason)


def test_policy_5_a_run_whose_executor_vanished_is_repeated_but_not_for_ever() -> None:
    definition, settings = every(60, retry=THRICE), Settings(loss_limit=3)
    first = decide_loss(leased(), definition, settings, Random(1), NOW_US)
    second = decide_loss(leased(losses=1), definition, settings, Random(1), NOW_US)
    last = decide_loss(leased(losses=2), definition, settings, Random(1), NOW_US)
    assert (first.run.state, first.run.losses, first.run.failures) == (RunState.PENDING, 1, 0)
    assert first.run.not_before_us == NOW_US, "at once, the first time"
    assert first.attempt == Attempt(row_of(1), 1, Outcome.LOST, Reason.CRASHED, None, NOW_US)
    assert second.run.not_before_us >= NOW_US
    assert told(last) == (RunState.DONE, Outcome.LOST, Reason.CRASHED)


def test_policy_5_at_most_once_is_never_restarted() -> None:
    once = every(60, semantics=Semantics.AT_MOST_ONCE)
    assert told(decide_loss(leased(), once, Settings(), Random(1), NOW_US))[1:] == (Outcome.LOST, Reason.CRASHED)


def test_a_claim_that_was_never_started_is_as_if_it_had_not_been() -> None:
    made = decide_revoke(leased(attempt=2))
    assert (made.run.state, made.run.attempt, made.expected, made.attempt) == (RunState.PENDING, 1, 2, None)


@pytest.mark.parametrize("reason", CancelReason)
def test_what_is_stopped_before_its_attempt_began_is_over(reason: CancelReason) -> None:
    outcome = FAILED if reason is CancelReason.DEADLINE else CANCELLED
    assert told(decide_stop(leased(), reason, NOW_US)) == (RunState.DONE, outcome, reason.value)


def test_the_outcome_stays_where_what_the_handler_left_cannot_be_stored() -> None:
    kept = without_data(decide(result(FAILED, "error", error="\udcff"), retry=THRICE))
    assert kept.attempt is not None
    assert "could not be stored" in (kept.attempt.error or "")
    assert (kept.run.result, kept.run.state) == (None, RunState.PENDING)
