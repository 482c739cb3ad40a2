"""The handler's side of remote handlers: RunOncePerIncarnation, SlotsRespected, RoutedRight, OutboxDurableBeforeSend,
KeptUntilAcknowledged, StoppedWithCause, EverythingFits."""

from attrs import Factory, define

from sz_protocol.definition import AwayPolicy, Definition
from sz_protocol.routing import ANY_HANDLER
from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.fleet import LifeName
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import CancelAsked, ExecutionEnded, ExecutionStarted, Fault, MessageDelivered, Rewound
from sz_runtime.simulation.plan import WorkerPlan
from sz_runtime.simulation.worker_facts import KeepRefused, ResultsForgotten, ResultsKept, Said, Unsaid, WorkerStarted


@define
class Attached(Checker):
    """Holds what workers do against what they were sent, and what they have promised."""

    begun: dict[LifeName, dict[tuple[int, int], None]] = Factory(dict)
    at_work: dict[LifeName, dict[tuple[int, int], str]] = Factory(dict)
    """Life -> what it executes, with its schedule."""
    answered: dict[str, dict[tuple[int, int], None]] = Factory(dict)
    """Worker -> results that its outbox has answered for."""
    earlier: dict[str, dict[tuple[int, int], None]] = Factory(dict)
    """Worker -> results that an earlier life left."""
    acks: dict[int, Said] = Factory(dict)
    """Acknowledgements on their way, by the numbers of their datagrams."""
    acknowledged: dict[str, dict[tuple[int, int], None]] = Factory(dict)
    """Worker -> results of which it has heard that its server has them."""
    to_drain: dict[str, None] = Factory(dict)
    """Workers that were asked to stop in order."""

    def routes(self) -> Routes:
        """Lives, executions, results."""
        if not self.oracle.plan.workers:
            return {}
        return {
            WorkerStarted: self.on_worker,
            ExecutionStarted: self.on_started,
            ExecutionEnded: self.on_ended,
            ResultsKept: self.on_answered,
            KeepRefused: self.on_answered,
            Said: self.on_said,
            Unsaid: self.on_unsaid,
            CancelAsked: self.on_asked,
            Fault: self.on_fault,
            MessageDelivered: self.on_delivered,
            ResultsForgotten: self.on_forgotten,
            Rewound: self.on_rewound,
        }

    def on_worker(self, record: WorkerStarted) -> None:
        """A life: what it finds in its outbox it may send."""
        self.answered[record.node] = dict.fromkeys(record.kept)
        self.earlier[record.node] = dict.fromkeys(record.kept)
        self.to_drain.pop(record.node, None)

    def on_rewound(self, record: Rewound) -> None:
        """Another history, with other runs under the same addresses."""
        self.begun.clear()

    # --- executions -------------------------------------------------------------------------------------------

    def on_started(self, record: ExecutionStarted) -> None:
        """Once, beside no other attempt of the same run, within the slots, by somebody who has the method."""
        worker = self.oracle.workers.get(record.node)
        if worker is None:
            return
        life, key = (record.node, record.incarnation), (record.row, record.attempt)
        begun, at_work = self.begun.setdefault(life, {}), self.at_work.setdefault(life, {})
        what = f"row {record.row} of {record.schedule_id}, attempt {record.attempt}"
        if key in begun:
            self.report.add("RunOncePerIncarnation", record, f"{what} was begun twice by the same life")
        if any(row == record.row for row, _ in at_work):
            self.report.add("RunOncePerIncarnation", record, f"{what} was begun beside another attempt")
        begun[key], at_work[key] = None, record.schedule_id
        if len(at_work) > worker.slots:
            self.report.add("SlotsRespected", record, f"{len(at_work)} runs execute in {worker.slots} slots")
        limits = [job.behaviour.concurrency for job in self.oracle.jobs.get(record.schedule_id, ())]
        of_method = list(at_work.values()).count(record.schedule_id)
        if limits and of_method > max(of_method if limit is None else limit for limit in limits):
            self.report.add("SlotsRespected", record, f"{of_method} runs of the method of {record.schedule_id} execute")
        definitions = self.oracle.of_schedule(record.schedule_id)
        if definitions and not any(_may_go(definition, worker) for definition in definitions):
            self.report.add("RoutedRight", record, f"{what} does not belong to {worker.handler_id}")
        if definitions and all(d.handler_id not in (ANY_HANDLER, worker.handler_id) for d in definitions):
            self.report.count("executed elsewhere")

    def on_ended(self, record: ExecutionEnded) -> None:
        """One less."""
        self.at_work.get((record.node, record.incarnation), {}).pop((record.row, record.attempt), None)

    def on_fault(self, record: Fault) -> None:
        """A worker is asked to stop in order."""
        if record.node in self.oracle.workers and record.what.startswith("drain "):
            self.to_drain[record.node] = None

    def on_asked(self, record: CancelAsked) -> None:
        """StoppedWithCause: a worker stops a run of its own accord when it drains, or an exclusive one when it is cut
        off."""
        if record.node not in self.oracle.workers:
            return
        self.report.count(f"worker asked to stop {record.reason}")
        fleet = self.oracle.fleet
        hand = fleet.hand(record.node, fleet.lives.get(record.node, 0), record.row, record.attempt)
        definitions = [] if hand is None else self.oracle.of_schedule(hand.started.schedule_id)
        what = f"row {record.row}, attempt {record.attempt} was asked to stop ({record.reason})"
        if record.reason == "shutdown" and record.node not in self.to_drain:
            self.report.add("StoppedWithCause", record, f"{what}, and its worker does not drain")
        if record.reason == "cut_off" and definitions and not any(d.exclusive for d in definitions):
            self.report.add("StoppedWithCause", record, f"{what}, and is not exclusive")

    # --- results ----------------------------------------------------------------------------------------------

    def on_answered(self, record: ResultsKept | KeepRefused) -> None:
        """The outbox has them, or cannot have them: they may be sent."""
        self.answered.setdefault(record.node, {}).update(dict.fromkeys(record.runs))

    def on_said(self, record: Said) -> None:
        """OutboxDurableBeforeSend."""
        if record.kind == "result_ack":
            self.acks[record.number] = record
        if record.kind == "refuse":
            self.report.count(f"refused {record.words[0]}")
        if record.kind != "results":
            return
        for row, attempt, _, _ in record.runs:
            if (row, attempt) not in self.answered.get(record.node, {}):
                what = f"the result of row {row}, attempt {attempt} was sent before the outbox had it"
                self.report.add("OutboxDurableBeforeSend", record, what)
            if (row, attempt) in self.earlier.get(record.node, {}):
                self.report.count("result of an earlier life sent")

    def on_delivered(self, record: MessageDelivered) -> None:
        """An acknowledgement arrives."""
        ack = self.acks.pop(record.number, None)
        if ack is not None and ack.to == record.node:
            keys = dict.fromkeys((row, attempt) for row, attempt, _, _ in ack.runs)
            self.acknowledged.setdefault(record.node, {}).update(keys)

    def on_forgotten(self, record: ResultsForgotten) -> None:
        """KeptUntilAcknowledged."""
        for row, attempt in record.runs:
            if (row, attempt) not in self.acknowledged.get(record.node, {}):
                what = f"the outbox lets go of the result of row {row}, attempt {attempt}, which nobody acknowledged"
                self.report.add("KeptUntilAcknowledged", record, what)

    def on_unsaid(self, record: Unsaid) -> None:
        """EverythingFits: a message that is dropped each time that it is said is never heard."""
        self.report.add("EverythingFits", record, f"{record.kind}: {record.why}")


def _may_go(definition: Definition, worker: WorkerPlan) -> bool:
    """ROUTE-1, ROUTE-2."""
    named = definition.handler_id in (ANY_HANDLER, worker.handler_id) or definition.away is AwayPolicy.ELSEWHERE
    return named and definition.tags.items() <= worker.tags.items()
