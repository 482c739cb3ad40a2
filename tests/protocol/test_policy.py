"""POLICY-1 .. POLICY-5, LEDGER-1: the policies as pure decisions. Their tables stand in specs/policies.md."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sz_protocol.definition import Misfire, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.kernel.now import DAY_US, SECOND_US
from sz_protocol.machines.backlog import Stretch, enumerate_passed
from sz_protocol.policy import (
    SKIP_GRACE_US,
    OverlapVerdict,
    Passed,
    Verdict,
    backoff_us,
    decide_misfire,
    decide_overlap,
    grace_of,
    lane_width,
    may_restart,
    may_retry,
    never_misfires,
    spread_offset,
)
from sz_protocol.records import Outcome, Reason, Schedule
from tests.protocol.harness import T0_US, every

NOW_US = T0_US
misfires = st.builds(
    Misfire,
    policy=st.sampled_from(MisfirePolicy),
    grace_us=st.none() | st.integers(0, 100 * SECOND_US),
    max=st.integers(1, 8),
    rate_per_s=st.none() | st.sampled_from([0.1, 1.0, 50.0]),
)
ages_s = st.lists(st.integers(0, 120), min_size=1, max_size=12, unique=True)


def passed_before(ages: list[int], folded: int = 0, expired: int = 0) -> Passed:
    """Instants that are so many seconds old, and ranges of older ones."""
    oldest_us = NOW_US - (max(ages) + 1) * SECOND_US
    return Passed(
        tuple(sorted(NOW_US - age * SECOND_US for age in ages)),
        folded,
        oldest_us - 10 * SECOND_US,
        oldest_us,
        expired,
        oldest_us - 30 * SECOND_US,
        oldest_us - 20 * SECOND_US,
    )


def instants_of(verdicts: list[Verdict]) -> int:
    return sum(verdict.count for verdict in verdicts)


@given(misfires, ages_s, st.integers(0, 5), st.integers(0, 5))
def test_ledger_1_each_passed_instant_gets_exactly_one_verdict(
    misfire: Misfire, ages: list[int], folded: int, expired: int
) -> None:
    passed = passed_before(ages, folded, expired)
    verdicts = decide_misfire(misfire, misfire.policy, passed, NOW_US)
    alone = [
        v.fire_us for v in verdicts if v.reason not in (Reason.WINDOW, Reason.LIMIT) or v.fire_us in passed.instants
    ]
    assert alone == list(passed.instants)
    assert instants_of(verdicts) == len(passed.instants) + folded + expired
    assert [v.fire_us for v in verdicts] == sorted(v.fire_us for v in verdicts)
    assert all(v.reason for v in verdicts if v.outcome is not None), "a non-execution has a reason"


@given(misfires, ages_s, st.integers(0, 60))
def test_policy_2_past_its_grace_nothing_is_executed(misfire: Misfire, ages: list[int], spread_s: int) -> None:
    spread_us = spread_s * SECOND_US
    verdicts = decide_misfire(misfire, misfire.policy, passed_before(ages), NOW_US, spread_us)
    grace_us = grace_of(misfire, misfire.policy)
    for verdict in verdicts:
        if verdict.outcome is None and grace_us is not None:
            assert NOW_US - spread_us - verdict.fire_us <= grace_us


@given(misfires, ages_s)
def test_policy_2_the_newest_that_is_in_time_is_executed_and_how_many_more_the_policy_says(
    misfire: Misfire, ages: list[int]
) -> None:
    passed = passed_before(ages)
    verdicts = decide_misfire(misfire, misfire.policy, passed, NOW_US)
    executed = [verdict.fire_us for verdict in verdicts if verdict.outcome is None]
    grace_us = grace_of(misfire, misfire.policy)
    fresh = [at for at in passed.instants if grace_us is None or NOW_US - at <= grace_us]
    most = misfire.max if misfire.policy is MisfirePolicy.ALL else 1
    assert executed == fresh[-most:]


@given(misfires, ages_s)
def test_a_coalesced_run_lists_exactly_the_instants_that_it_stands_for(misfire: Misfire, ages: list[int]) -> None:
    verdicts = decide_misfire(misfire, misfire.policy, passed_before(ages), NOW_US)
    coalesced = tuple(v.fire_us for v in verdicts if v.reason == Reason.COALESCED)
    covers = [v.covers for v in verdicts if v.covers]
    assert covers == ([coalesced] if coalesced else [])


@given(misfires, ages_s)
def test_policy_3_catch_up_runs_wait_for_each_other_and_keep_their_rate(misfire: Misfire, ages: list[int]) -> None:
    verdicts = decide_misfire(misfire, misfire.policy, passed_before(ages), NOW_US)
    executed = [verdict for verdict in verdicts if verdict.outcome is None]
    if len(executed) > 1:
        assert all(verdict.queued for verdict in executed)
        starts = [max(verdict.not_before_us, NOW_US) for verdict in executed]
        gap_us = int(SECOND_US / misfire.rate_per_s) if misfire.rate_per_s else 0
        assert all(after - before == gap_us for before, after in pairwise(starts))


def test_pain_9_the_default_is_late_and_coalesced_and_drops_nothing_silently() -> None:
    verdicts = decide_misfire(Misfire(), MisfirePolicy.LATEST, passed_before([7200, 3600, 1]), NOW_US)
    assert [(v.outcome, v.reason) for v in verdicts] == [
        (Outcome.SKIPPED, Reason.COALESCED),
        (Outcome.SKIPPED, Reason.COALESCED),
        (None, Reason.CATCH_UP),
    ]


def test_pain_9_a_single_instant_is_executed_however_late_within_the_window() -> None:
    assert decide_misfire(Misfire(), MisfirePolicy.LATEST, passed_before([23 * 3600]), NOW_US)[0].outcome is None


@given(
    st.builds(Misfire, policy=st.sampled_from(MisfirePolicy), grace_us=st.none() | st.integers(0, 10**9)),
    st.integers(0, 10**12),
)
def test_pain_9_what_never_misfires_is_executed_whatever_its_age(misfire: Misfire, age_us: int) -> None:
    verdicts = decide_misfire(misfire, misfire.policy, Passed((NOW_US - age_us,)), NOW_US)
    if never_misfires(misfire):
        assert verdicts == [Verdict(NOW_US - age_us)]


def test_skip_without_a_written_grace_has_one_or_it_would_never_skip() -> None:
    assert grace_of(Misfire(), MisfirePolicy.SKIP) == SKIP_GRACE_US
    assert grace_of(Misfire(), MisfirePolicy.LATEST) is None
    assert grace_of(Misfire(grace_us=5), MisfirePolicy.SKIP) == 5


@given(st.integers(1, 3000), st.integers(1, 40), st.integers(0, 3000))
def test_pain_12_any_gap_is_folded_whatever_its_length(gap: int, cap: int, window: int) -> None:
    definition = every(1, misfire=Misfire(MisfirePolicy.ALL, max=3))
    schedule = Schedule("s", definition, b"", "config", 1, T0_US, T0_US + SECOND_US, T0_US, T0_US)
    until_us = T0_US + gap * SECOND_US
    window_us = until_us - window * SECOND_US
    stretch = Stretch(T0_US, until_us, window_us, definition.misfire, definition.misfire.policy)
    passed = enumerate_passed(schedule.definition, stretch, cap)
    assert len(passed.instants) <= max(cap, 3)
    assert len(passed.instants) + passed.folded + passed.expired == gap
    assert passed.expired == max(gap - window, 0)
    if passed.instants:
        assert passed.instants[-1] == until_us, "the newest are kept"


def test_pain_13_catch_up_has_a_count_cap_and_a_rate_cap() -> None:
    misfire = Misfire(MisfirePolicy.ALL, max=3, rate_per_s=0.5)
    verdicts = decide_misfire(misfire, MisfirePolicy.ALL, passed_before([5, 4, 3, 2, 1]), NOW_US)
    assert [v.reason for v in verdicts] == [Reason.LIMIT] * 2 + [Reason.CATCH_UP] * 3
    assert [v.not_before_us for v in verdicts[2:]] == [0, NOW_US + 2 * SECOND_US, NOW_US + 4 * SECOND_US]


@pytest.mark.parametrize(
    ("overlap", "active", "queued", "verdict"),
    [
        (Overlap(OverlapPolicy.SKIP), 0, False, OverlapVerdict.RUN),
        (Overlap(OverlapPolicy.SKIP), 1, False, OverlapVerdict.SKIP),
        (Overlap(OverlapPolicy.SKIP), 1, True, OverlapVerdict.WAIT),
        (Overlap(OverlapPolicy.QUEUE, 2), 1, False, OverlapVerdict.WAIT),
        (Overlap(OverlapPolicy.QUEUE, 2), 2, False, OverlapVerdict.WAIT),
        (Overlap(OverlapPolicy.QUEUE, 2), 3, False, OverlapVerdict.FULL),
        (Overlap(OverlapPolicy.QUEUE, 2), 3, True, OverlapVerdict.WAIT),
        (Overlap(OverlapPolicy.ALLOW, 2), 1, False, OverlapVerdict.RUN),
        (Overlap(OverlapPolicy.ALLOW, 2), 2, False, OverlapVerdict.SKIP),
        (Overlap(OverlapPolicy.CANCEL_RUNNING), 1, False, OverlapVerdict.CANCEL),
        (Overlap(OverlapPolicy.CANCEL_RUNNING), 1, True, OverlapVerdict.WAIT),
    ],
)
def test_overlap_decides_by_policy_and_by_who_is_active(
    overlap: Overlap, active: int, queued: bool, verdict: OverlapVerdict
) -> None:
    assert decide_overlap(overlap, active, queued) is verdict


@given(st.sampled_from(OverlapPolicy), st.integers(1, 9), st.integers(0, 20), st.booleans())
def test_place_1_nothing_runs_beyond_the_width_of_its_lane(
    policy: OverlapPolicy, limit: int, active: int, queued: bool
) -> None:
    overlap = Overlap(policy, limit)
    runs = decide_overlap(overlap, active, queued) is OverlapVerdict.RUN
    assert runs is (active < lane_width(overlap))


@given(st.text(min_size=1, max_size=20), st.integers(1, 2 * DAY_US))
def test_pain_19_policy_1_the_spread_is_stable_and_within_its_window(uid: str, window_us: int) -> None:
    offset = spread_offset(uid, window_us)
    assert 0 <= offset < window_us
    assert offset == spread_offset(uid, window_us), "never redrawn"
    assert spread_offset(uid, 0) == 0


def test_pain_19_policy_1_a_herd_is_spread_evenly() -> None:
    offsets = [spread_offset(f"job-{n}", 60 * SECOND_US) // (6 * SECOND_US) for n in range(2000)]
    assert all(140 < offsets.count(tenth) < 260 for tenth in range(10))


@given(st.integers(1, 40), st.integers(0, 10**7), st.integers(0, 10**9), st.integers(0, 99))
def test_policy_4_a_back_off_lies_below_its_doubling_ceiling(failures: int, base: int, most: int, seed: int) -> None:
    wait_us = backoff_us(Retry(9, base, most), failures, Random(seed))
    assert 0 <= wait_us <= min(most, base * 2 ** (failures - 1))


@pytest.mark.parametrize(
    ("attempts", "failures", "retryable", "again"),
    [(1, 1, True, False), (3, 1, True, True), (3, 2, True, True), (3, 3, True, False), (3, 1, False, False)],
)
def test_policy_4_retries_stay_within_policy(attempts: int, failures: int, retryable: bool, again: bool) -> None:
    assert may_retry(Retry(attempts), failures, retryable) is again


def test_policy_5_at_most_once_never_restarts_and_at_least_once_not_for_ever() -> None:
    assert not may_restart(Semantics.AT_MOST_ONCE, 1, 5)
    assert [may_restart(Semantics.AT_LEAST_ONCE, losses, 3) for losses in (1, 2, 3)] == [True, True, False]
