"""Notices as log lines: none is forgotten, and how loud each is."""

from typing import get_args

import pytest
from attrs import evolve
from structlog.testing import capture_logs

from sz_protocol import notices as n
from sz_protocol.records import Outcome, RunState
from sz_runtime.observing import LogObserver
from tests.contracts.store_world import a_run

RUN = a_run(1)
LINES: list[tuple[n.Notice, str, str]] = [
    (n.Ignored("Beat", "why"), "info", "ignored"),
    (n.RunsRecorded((evolve(RUN, state=RunState.DONE, outcome=Outcome.LOST),)), "warning", "run_lost"),
    (n.ScheduleParked("s", "why"), "warning", "schedule_parked"),
    (n.ScheduleUnparked("s"), "info", "schedule_unparked"),
    (n.ScheduleQuarantined("s", "why"), "error", "schedule_quarantined"),
    (n.StoreTroubled("unavailable", "disk"), "error", "store_failing"),
    (n.StoreRecovered(1_000_000), "info", "store_recovered"),
    (n.ClockStepped(5, True), "warning", "clock_stepped"),
    (n.TrustChanged(True, 5), "warning", "clock_trusted"),
    (n.TrustChanged(False, 5), "warning", "clock_not_trusted"),
    (n.AttemptFailed(1, "s", 1, Outcome.FAILED, "error", 5, "two\nlines"), "warning", "attempt_failed"),
    (n.RunUnresponsive(1, "s", 1), "error", "run_would_not_stop"),
    (n.RunProgressed(1, 1, "half", 50, "h"), "debug", "run_progress"),
    (n.SteppedDown(3), "critical", "stepped_down"),
    (n.ComponentChanged("web", "failed", "why"), "error", "component_failed"),
    (n.ComponentChanged("web", "running"), "info", "component_running"),
    (n.NodeFailed("web", "why"), "critical", "node_failed"),
    (n.Attached(5, 10, ("m",)), "info", "registered"),
    (n.AttachRefused("full", "why", 5), "warning", "rejected"),
    (n.Detached("why", 1, 2), "warning", "server_lost"),
    (n.OutboxTroubled("disk", 3), "error", "outbox_failing"),
    (n.OutboxRecovered(), "info", "outbox_recovered"),
    (n.ResultsLeft(1, 0), "warning", "results_unreported"),
    (n.HandlerRegistered("h", 5, 1, 10), "info", "handler_registered"),
    (n.HandlerRejected("h", "duplicate", "why"), "warning", "handler_rejected"),
    (n.HandlerSuspect("h", 3_000_000), "warning", "handler_silent"),
    (n.HandlerHeard("h", 3_000_000), "info", "handler_heard_again"),
    (n.HandlerLost("h", 10_000_000, 2), "error", "handler_lost"),
    (n.HandlerDraining("h"), "info", "handler_draining"),
    (n.HandlerLeft("h", 0), "info", "handler_left"),
]


def test_every_notice_is_in_this_table() -> None:
    assert {type(notice) for notice, _, _ in LINES} == set(get_args(n.Notice))


@pytest.mark.parametrize(
    ("notice", "level", "event"), LINES, ids=lambda each: getattr(each, "__class__", each).__name__
)
def test_a_notice_is_one_line(notice: n.Notice, level: str, event: str) -> None:
    with capture_logs() as lines:
        LogObserver()(notice)
    assert [(line["log_level"], line["event"]) for line in lines] == [(level, event)]


def test_what_went_well_is_no_line() -> None:
    with capture_logs() as lines:
        LogObserver()(n.RunsRecorded((evolve(RUN, state=RunState.DONE, outcome=Outcome.SUCCEEDED), RUN)))
    assert not lines
