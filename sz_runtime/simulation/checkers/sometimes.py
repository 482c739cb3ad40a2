"""Counters of rare states. A simulation that never reaches them proves nothing about them; `REQUIRED` is what a
budget of seeds has to reach at least once."""

from attrs import define

from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    Answered,
    CancelAsked,
    ClockChanged,
    ExecutionEnded,
    Failed,
    NodeCrashed,
    NodeStarted,
    NodeStopped,
    Rewound,
    RowsDropped,
    RunWritten,
    StartFailed,
    Told,
    TransactionLost,
)
from sz_runtime.simulation.worker_facts import KeepRefused, Mischief, ResultsLost, WorkerCrashed

REQUIRED = (
    "crash at before write",
    "crash at before start",
    "crash at before result",
    "crash at before commit",
    "crash at before sync",
    "crash at after sync",
    "crash at before answer",
    "transaction lost",
    "transaction torn",
    "write refused",
    "write unavailable",
    "write unknown, durable",
    "write unknown, not durable",
    "write fenced",
    "write invalid",
    "write previous",
    "outcome succeeded",
    "outcome failed error",
    "outcome failed timeout",
    "outcome failed deadline",
    "outcome failed unstorable_result",
    "outcome cancelled requested",
    "outcome cancelled superseded",
    "outcome skipped overlap",
    "outcome skipped queue_full",
    "outcome skipped coalesced",
    "outcome skipped misfire",
    "outcome skipped limit",
    "outcome skipped paused",
    "outcome missed window",
    "outcome missed limit",
    "outcome lost crashed",
    "folded row",
    "coalesced run",
    "second attempt",
    "loss survived",
    "manual run",
    "node started again",
    "node stopped in order",
    "store rewound",
    "store in use",
    "rows dropped by retention",
    "execution killed",
    "cancel asked timeout",
    "told ClockStepped",
    "told ScheduleParked",
    "told ScheduleUnparked",
    "told RunUnresponsive",
    "told SteppedDown",
    "told StoreTroubled",
    "told StoreRecovered",
    "told AttemptFailed",
    "clock stepped ahead",
    "clock stepped back",
    "clock untrusted",
    "crash at before keep",
    "crash at before send",
    "handler registered",
    "handler rejected duplicate",
    "handler rejected starting",
    "handler suspect",
    "handler heard",
    "handler lost",
    "handler draining",
    "handler left",
    "worker lost although it lives",
    "worker run lost",
    "worker run repeated",
    "worker asked to stop cut_off",
    "worker asked to stop superseded",
    "run adopted",
    "run adopted after a restart",
    "run handed over again",
    "credit exhausted",
    "refused busy",
    "refused stale",
    "refused draining",
    "executed elsewhere",
    "result of an earlier life sent",
    "result lost with its worker",
    "outbox failed",
    "result acknowledged duplicate",
    "result acknowledged stale",
    "outcome skipped handler_away",
    "handler rejected not_allowed",
    "key taken away under a run",
    "key given back under a run",
    "meddled: noise",
    "meddled: replay",
    "meddled: forge",
)


@define
class Sometimes(Checker):
    """Counts."""

    def routes(self) -> Routes:
        """Whatever is rare."""
        return {
            RunWritten: self.on_run,
            Failed: self.on_failed,
            Told: lambda record: self.report.count(f"told {record.notice}"),
            NodeStarted: self.on_node,
            NodeCrashed: lambda record: self.report.count(f"crash at {record.point}"),
            NodeStopped: lambda record: self.report.count("node stopped in order"),
            StartFailed: lambda record: self.report.count("store in use" if "held" in record.why else "start failed"),
            TransactionLost: self.on_lost,
            Rewound: lambda record: self.report.count("store rewound"),
            RowsDropped: lambda record: self.report.count("rows dropped by retention", len(record.rows)),
            ExecutionEnded: lambda record: self.report.count(f"execution {record.how}"),
            CancelAsked: lambda record: self.report.count(f"cancel asked {record.reason}"),
            ClockChanged: self.on_clock,
            Answered: self.on_answered,
            WorkerCrashed: lambda record: self.report.count(f"crash at {record.point}"),
            ResultsLost: lambda record: self.report.count("result lost with its worker", len(record.runs)),
            KeepRefused: lambda record: self.report.count("outbox failed"),
            Mischief: lambda record: self.report.count(f"meddled: {record.kind}"),
        }

    def on_run(self, record: RunWritten) -> None:
        """Outcomes, and how they came about."""
        if record.outcome:
            reason = "" if record.outcome == "succeeded" else f" {record.reason}"
            self.report.count(f"outcome {record.outcome}{reason}")
        if record.inserted:
            self.report.count("instants decided", record.count)
            if record.count > 1:
                self.report.count("folded row")
            if record.covers:
                self.report.count("coalesced run")
            if record.kind == "manual":
                self.report.count("manual run")
        elif record.state == "leased" and record.attempt > 1:
            self.report.count("second attempt")
        if record.outcome == "succeeded" and record.losses:
            self.report.count("loss survived")

    def on_failed(self, record: Failed) -> None:
        """Why writes failed."""
        doubt = ", durable" if record.committed else ", not durable"
        self.report.count(f"write {record.reason}{doubt if record.reason == 'unknown' else ''}")

    def on_node(self, record: NodeStarted) -> None:
        """Lives."""
        if record.incarnation > 1:
            self.report.count("node started again")

    def on_lost(self, record: TransactionLost) -> None:
        """Unsynced transactions that a crash took."""
        self.report.count("transaction torn" if record.torn else "transaction lost")

    def on_answered(self, record: Answered) -> None:
        """Answers, and refusals by their code."""
        code = f" {record.detail}" if record.answer == "Refusal" else ""
        self.report.count(f"answered {record.answer}{code}")

    def on_clock(self, record: ClockChanged) -> None:
        """Clocks."""
        if not record.trusted:
            self.report.count("clock untrusted")
        if record.step_us:
            self.report.count("clock stepped ahead" if record.step_us > 0 else "clock stepped back")
