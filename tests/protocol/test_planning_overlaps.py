"""Overlaps foreseen: never one too few, and the words say where the figures come from."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sz_protocol.definition import Definition, Overlap, OverlapPolicy, Retry
from sz_protocol.foreseeing import Foresight, Hold, Past, foresee, hold_of, past_of
from sz_protocol.kernel.now import MINUTE_US, SECOND_US
from sz_protocol.moments import read_moment
from sz_protocol.planning import Known, Outlook, plan_of
from sz_protocol.policy import OverlapVerdict, decide_overlap, lane_width
from sz_protocol.records import Outcome, Run, RunState
from sz_protocol.triggers import Cron, Interval, Trigger

FIVE = Cron("*/5 * * * *")
START_US = read_moment("2026-03-01T10:00").at_us


def job(trigger: Trigger = FIVE, **policies: Any) -> Definition:
    return Definition("job", "h", "m", trigger, **policies)


def notes(definition: Definition, minutes: int = 30, past: Past | None = None) -> list[str]:
    outlook = Outlook(START_US, START_US + minutes * MINUTE_US, {"job": Known(past=past)})
    return ["; ".join(row.notes) for row in plan_of([definition], outlook)]


@pytest.mark.parametrize(
    ("overlap", "words"),
    [
        (Overlap(), "timeout 10m > 5m gap; policy skip would skip it"),
        (Overlap(OverlapPolicy.CANCEL_RUNNING), "policy cancel_running would cancel that run for it"),
        (Overlap(OverlapPolicy.ALLOW, 1), "policy allow(1) would skip it"),
        (Overlap(OverlapPolicy.ALLOW, 5), "policy allow(5) would run it beside"),
        (Overlap(OverlapPolicy.QUEUE, 1), "policy queue(1) may be full and skip it"),
        (Overlap(OverlapPolicy.QUEUE, 900), "policy queue(900) would let it wait up to"),
    ],
)
def test_the_policy_says_what_it_would_do(overlap: Overlap, words: str) -> None:
    found = notes(job(overlap=overlap, timeout_us=10 * MINUTE_US))
    assert all(note.startswith("may overlap the ") and words in note for note in found)


def test_nothing_is_said_where_time_outs_leave_room_or_say_nothing() -> None:
    assert notes(job(timeout_us=4 * MINUTE_US)) == [""] * 6
    assert notes(job()) == [""] * 6
    assert "timeout 5m = 5m gap" in notes(job(timeout_us=5 * MINUTE_US))[0], "it may end just after the next one came"


def test_only_the_short_gaps_of_an_uneven_pattern_are_noted() -> None:
    found = notes(job(Cron("0,5,30 * * * *"), timeout_us=10 * MINUTE_US), minutes=60)
    assert [bool(note) for note in found] == [False, True, False]


def test_runs_from_before_the_stretch_reach_into_it() -> None:
    assert notes(job(timeout_us=10 * MINUTE_US), minutes=1) != [""]
    allow = job(overlap=Overlap(OverlapPolicy.ALLOW, 2), timeout_us=12 * MINUTE_US)
    assert "the 2 runs before it" in notes(allow, minutes=1)[0]


def test_a_queue_that_has_to_be_worked_off_is_noted_after_the_last_short_gap() -> None:
    burst = Cron("0,1,2,20 * * * *")
    found = notes(job(burst, overlap=Overlap(OverlapPolicy.QUEUE, 5), timeout_us=9 * MINUTE_US), minutes=60)
    assert found[0] == ""
    assert "timeout 9m each, one after the other" in found[3]


@pytest.mark.parametrize(
    ("policies", "us", "why"),
    [
        ({"timeout_us": MINUTE_US}, MINUTE_US, "timeout 1m"),
        ({"deadline_us": 3 * MINUTE_US}, 3 * MINUTE_US, "deadline 3m"),
        ({"timeout_us": MINUTE_US, "deadline_us": 3 * MINUTE_US}, MINUTE_US, "timeout 1m"),
        (
            {"timeout_us": MINUTE_US, "retry": Retry(3, SECOND_US, 10 * SECOND_US)},
            3 * MINUTE_US + 3 * SECOND_US,
            "3 attempts of timeout 1m with back-off, 3m3s in all,",
        ),
        (
            {"timeout_us": MINUTE_US, "retry": Retry(1000, SECOND_US, 4 * SECOND_US)},
            1000 * MINUTE_US + (1 + 2 + 997 * 4) * SECOND_US,
            "1000 attempts of timeout 1m with back-off, 17h46m31s in all,",
        ),
        (
            {"timeout_us": MINUTE_US, "deadline_us": 2 * MINUTE_US, "retry": Retry(3)},
            2 * MINUTE_US,
            "deadline 2m",
        ),
    ],
)
def test_the_longest_a_run_may_take(policies: dict[str, Any], us: int, why: str) -> None:
    assert hold_of(job(**policies)) == Hold(us, why)


def test_past_runs_come_before_time_outs() -> None:
    past = Past(40, 7 * MINUTE_US)
    assert hold_of(job(timeout_us=MINUTE_US), past) == Hold(7 * MINUTE_US, "40 past runs took up to 7m")
    assert "past run took 7m > 5m gap" in notes(job(timeout_us=MINUTE_US), past=Past(1, 7 * MINUTE_US))[0]
    assert notes(job(timeout_us=10 * MINUTE_US), past=Past(40, SECOND_US)) == [""] * 6


def test_past_runs_are_those_that_were_executed_to_their_end() -> None:
    def run(row: int, attempt: int, started_us: int | None, finished_us: int | None) -> Run:
        state = RunState.LEASED if finished_us is None else RunState.DONE
        outcome = None if finished_us is None else Outcome.SUCCEEDED
        return Run(
            row, b"", "job", 0, "h", "m", state, 10, outcome=outcome, attempt=attempt, started_us=started_us,
            finished_us=finished_us,
        )  # fmt: skip

    assert past_of([run(1, 1, 20, None), run(2, 0, None, 30)]) is None
    assert past_of([run(1, 1, 20, 50), run(2, 1, 20, 30)]) == Past(2, 30)
    assert past_of([run(1, 3, 40, 50)]) == Past(1, 40), "a retried run has been active since it was decided"


@given(
    gaps=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    taken=st.lists(st.integers(0, 10), min_size=40, max_size=40),
    overlap=st.sampled_from(
        [
            Overlap(),
            Overlap(OverlapPolicy.CANCEL_RUNNING),
            Overlap(OverlapPolicy.ALLOW, 2),
            Overlap(OverlapPolicy.ALLOW, 3),
            Overlap(OverlapPolicy.QUEUE, 1),
            Overlap(OverlapPolicy.QUEUE, 3),
        ]
    ),
)
def test_whatever_runs_take_no_overlap_comes_unforeseen(gaps: list[int], taken: list[int], overlap: Overlap) -> None:
    """Runs that take at most the hold, under the real policy: each meeting has its note, each skip is announced."""
    foresight = Foresight(overlap, Hold(10, "timeout 10us"))
    ends: list[int] = []
    at_us = 0
    for gap, length in zip(gaps, taken, strict=False):
        at_us += gap
        note = foresight.meet(at_us)
        ends = [end for end in ends if end >= at_us]
        verdict = decide_overlap(overlap, len(ends), queued=False)
        assert bool(ends) <= bool(note)
        if verdict in (OverlapVerdict.SKIP, OverlapVerdict.FULL):
            assert "skip it" in note
            continue
        if verdict is OverlapVerdict.CANCEL:
            ends = []
        begin_us = ends[-1] if verdict is OverlapVerdict.WAIT else at_us
        ends.append(begin_us + length)
        assert len(ends) <= foresight.capacity
        assert lane_width(overlap) <= foresight.capacity


def test_the_look_back_is_bounded() -> None:
    second = job(Interval(SECOND_US), overlap=Overlap(OverlapPolicy.QUEUE, 1000), timeout_us=24 * 60 * MINUTE_US)
    foresight = foresee(second, START_US)
    assert foresight is not None
    assert len(foresight.ends) <= 256
