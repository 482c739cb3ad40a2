"""What a definition's policies promise: RunKeyDerived, OnlyActiveFires, WindowRespected, GraceRespected,
MisfireRespected, QueueBounded, LostOnlyBySemantics, RetryHonoured, TimeoutRespected, DeadlineRespected, TimeoutWins."""

from attrs import Factory, define

from sz_protocol.definition import Definition, MisfirePolicy, OverlapPolicy, Semantics
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.policy import grace_of, lane_width
from sz_protocol.records import run_key
from sz_protocol.triggers import nominal_key
from sz_runtime.simulation.checkers.base import Checker, spread_of
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    AttemptWritten,
    CancelAsked,
    ClockChanged,
    Committed,
    CursorMoved,
    ExecutionEnded,
    ExecutionStarted,
    Failed,
    Rewound,
    RunKept,
    RunWritten,
    ScheduleKept,
    SchedulePut,
    Stalled,
)

STOP_WITHIN_US = SECOND_US
"""From the time-out to the order to stop, in a node that is awake."""
LONGEST_WAY_US = 32 * SECOND_US
"""No datagram takes longer."""

DRIFT_US = SECOND_US // 10
"""By how much clocks that drift may differ over a time-out."""


@define
class Standing:
    """A schedule as its store has it."""

    definition: Definition
    state: str
    catch_up: str = ""
    catch_up_until_us: int = 0
    executed: int = 0
    """Instants that a transaction lets execute,"""
    executed_in: int = 0
    """and which one that is."""
    waiting: dict[int, bool] = Factory(dict)
    """Rows that are not over -> whether they count for the queue's limit."""


@define
class AtWork:
    """An execution that has to end, or to be asked to, by a time, and which invariant says so. `slept_us`: how long its
    node had stood still when it began."""

    stop_by_us: int
    invariant: str
    slept_us: int


@define
class Policies(Checker):
    """Holds each decision against the definition that was in force."""

    standing: dict[tuple[str, str], Standing] = Factory(dict)
    at_work: dict[tuple[str, int, int], AtWork] = Factory(dict)
    asleep_us: dict[str, int] = Factory(dict)
    """How long each node has stood still, in all: what it owes may be that late."""
    asleep_until_us: dict[str, int] = Factory(dict)
    transaction: int = 0
    open_limits: dict[str, int] = Factory(dict)
    """Schedule -> how many of its runs may be open, where its policies bound that."""
    timeouts: dict[str, int] = Factory(dict)
    """Schedule -> its longest time-out, where it always has one."""
    deadlines: dict[str, int] = Factory(dict)
    """Schedule -> its longest deadline, where it always has one."""
    decided_us: dict[tuple[str, int], int] = Factory(dict)
    """(store, row) -> when it was decided, of rows with a deadline."""
    timed_out: dict[tuple[str, int, int], int] = Factory(dict)
    """(store, row, attempt) -> by how much the execution failed after its time-out."""
    begun: dict[tuple[str, int, int], tuple[str, int]] = Factory(dict)
    """(store, row, attempt) -> on which machine it was begun last, and when, where it has a time-out."""
    asked: dict[tuple[str, int, int], None] = Factory(dict)
    """Executions that were asked to stop; the order may come before they begin."""
    touched: dict[str, None] = Factory(dict)
    """Stores one of whose nodes has a clock that is not true: deadlines are counted on the wall clock."""

    def __attrs_post_init__(self) -> None:
        for schedule_id in self.oracle.jobs:
            definitions = self.oracle.of_schedule(schedule_id)
            overlaps = [d.overlap for d in definitions]
            if not any(o.policy is OverlapPolicy.CANCEL_RUNNING for o in overlaps):
                widths = [lane_width(o) + (o.limit if o.policy is OverlapPolicy.QUEUE else 0) for o in overlaps]
                self.open_limits[schedule_id] = max(widths)
            timeouts = [d.timeout_us for d in definitions if d.timeout_us is not None]
            if len(timeouts) == len(definitions):
                self.timeouts[schedule_id] = max(timeouts)
            deadlines = [d.deadline_us for d in definitions if d.deadline_us is not None]
            if len(deadlines) == len(definitions):
                self.deadlines[schedule_id] = max(deadlines)

    def routes(self) -> Routes:
        """Rows, schedules, executions."""
        return {
            Committed: self.on_committed,
            SchedulePut: self.on_put,
            ScheduleKept: self.on_schedule_kept,
            CursorMoved: self.on_cursor,
            RunWritten: self.on_run,
            AttemptWritten: self.on_attempt,
            RunKept: self.on_kept,
            Rewound: self.on_rewound,
            ExecutionStarted: self.on_started,
            ExecutionEnded: self.on_ended,
            CancelAsked: self.on_cancel,
            Stalled: self.on_stalled,
            ClockChanged: self.on_clock,
            Failed: self.on_failed,
        }

    # --- schedules ------------------------------------------------------------------------------------------

    def on_committed(self, record: Committed) -> None:
        """A new transaction."""
        self.transaction += 1

    def on_put(self, record: SchedulePut) -> None:
        """An edit."""
        place = (record.node, record.schedule_id)
        definition = self.oracle.definitions[record.digest]
        waiting = self.standing[place].waiting if place in self.standing else {}
        self.standing[place] = Standing(
            definition, record.state, record.catch_up, record.catch_up_until_us, waiting=waiting
        )

    def on_schedule_kept(self, record: ScheduleKept) -> None:
        """A schedule of a restored store, or at the end."""
        place = (record.node, record.schedule_id)
        if place not in self.standing:
            self.standing[place] = Standing(self.oracle.definitions[record.digest], record.state)
            self.standing[place].catch_up = "unknown"

    def on_cursor(self, record: CursorMoved) -> None:
        """OnlyActiveFires."""
        standing = self.standing[record.node, record.schedule_id]
        if standing.state != "active":
            what = f"{record.schedule_id} is {standing.state} and was decided up to {record.cursor_us}"
            self.report.add("OnlyActiveFires", record, what)
        if record.next_due_us is None:
            standing.state = "finished"

    # --- rows -------------------------------------------------------------------------------------------------

    def on_run(self, record: RunWritten) -> None:
        """A row of the ledger."""
        standing = self.standing.get((record.node, record.schedule_id))
        if standing is None:
            return
        if record.inserted and record.schedule_id in self.deadlines:
            self.decided_us[record.node, record.row] = record.decided_us
        if record.inserted and record.kind == "scheduled":
            self._judge_key(record, standing)
            if record.outcome == "":
                self._judge_misfire(record, standing)
        if record.outcome == "failed":
            self._judge_failure(record)
        if record.outcome == "lost":
            self._judge_loss(record)
        if (record.outcome, record.reason) == ("failed", "error"):
            self._judge_retry(record)
        if record.state == "done":
            self.decided_us.pop((record.node, record.row), None)
            standing.waiting.pop(record.row, None)
            return
        standing.waiting[record.row] = record.kind == "scheduled" and record.reason != "catch_up"
        if record.inserted:
            self._judge_queue(record, standing)

    def _judge_key(self, record: RunWritten, standing: Standing) -> None:
        definition = standing.definition
        own = run_key(definition.id, nominal_key(definition.trigger, record.fire_us)).hex()
        if record.run_key == own:
            return
        # An edit writes what its predecessor's trigger made due.
        others = self.oracle.of_schedule(record.schedule_id)
        if record.run_key not in [run_key(d.id, nominal_key(d.trigger, record.fire_us)).hex() for d in others]:
            what = f"{record.schedule_id}@{record.fire_us} has the run key {record.run_key[:8]}, not {own[:8]}"
            self.report.add("RunKeyDerived", record, what)

    def _judge_misfire(self, record: RunWritten, standing: Standing) -> None:
        definition, misfire = standing.definition, standing.definition.misfire
        late_us = record.decided_us - spread_of(definition) - record.fire_us
        what = f"{record.schedule_id}@{record.fire_us} is executed {late_us} us late"
        resumed = standing.catch_up == "unknown" or (standing.catch_up and record.fire_us <= standing.catch_up_until_us)
        if late_us > misfire.window_us and not resumed:
            self.report.add("WindowRespected", record, f"{what}; its window is {misfire.window_us} us")
        grace_us = None if resumed else grace_of(misfire, misfire.policy)
        if grace_us is not None and late_us > grace_us:
            self.report.add("GraceRespected", record, f"{what}; its grace is {grace_us} us")
        if standing.executed_in != self.transaction:
            standing.executed_in, standing.executed = self.transaction, 0
        standing.executed += 1
        # What passed in a pause and what passed after it are judged apart, each by its own policy.
        policies = [misfire.policy.value, *((standing.catch_up,) if standing.catch_up else ())]
        most = sum(misfire.max if policy in (MisfirePolicy.ALL, "unknown") else 1 for policy in policies)
        if standing.executed > most:
            what = f"{record.schedule_id} executes {standing.executed} instants of one gap, its policy says {most}"
            self.report.add("MisfireRespected", record, what)

    def on_attempt(self, record: AttemptWritten) -> None:
        """The history of an attempt that another one follows."""
        self._judge_failure(record)

    def _judge_failure(self, record: RunWritten | AttemptWritten) -> None:
        """TimeoutWins (KERNEL-3): whatever came before it, the time-out had passed when the node heard of the end."""
        late_us = self.timed_out.pop((record.node, record.row, record.attempt), None)
        if late_us is not None and record.reason == "error":
            what = f"row {record.row}, attempt {record.attempt}, failed {late_us} us after its time-out"
            self.report.add("TimeoutWins", record, f"{what}, and counts as an error of its handler")

    def _judge_loss(self, record: RunWritten) -> None:
        definitions = self.oracle.of_schedule(record.schedule_id)
        patient = definitions and all(d.semantics is Semantics.AT_LEAST_ONCE for d in definitions)
        limit = self.oracle.plan.settings.loss_limit
        if patient and record.losses < limit:
            what = f"row {record.row} of {record.schedule_id} was given up after {record.losses} of {limit} losses"
            self.report.add("LostOnlyBySemantics", record, what)

    def _judge_retry(self, record: RunWritten) -> None:
        attempts = min((d.retry.attempts for d in self.oracle.of_schedule(record.schedule_id)), default=1)
        if record.failures < attempts:
            what = f"row {record.row} of {record.schedule_id} has failed after {record.failures} of {attempts} failures"
            self.report.add("RetryHonoured", record, what)

    def _judge_queue(self, record: RunWritten, standing: Standing) -> None:
        """Catch-up and manual runs wait whatever the policy; the others only as many as it says."""
        most = self.open_limits.get(record.schedule_id)
        if most is None or len(standing.waiting) <= most or not standing.waiting[record.row]:
            return
        if sum(standing.waiting.values()) > most:
            what = f"{sum(standing.waiting.values())} runs of {record.schedule_id} are open, its policy allows {most}"
            self.report.add("QueueBounded", record, what)

    def on_kept(self, record: RunKept) -> None:
        """A row of a restored store, or at the end."""
        standing = self.standing.get((record.node, record.schedule_id))
        if standing is not None and record.state != "done":
            standing.waiting.setdefault(record.row, record.kind == "scheduled" and record.reason != "catch_up")

    def on_rewound(self, record: Rewound) -> None:
        """What the copy holds is told next."""
        for place in [place for place in self.standing if place[0] == record.node]:
            del self.standing[place]
        for row in [row for row in self.decided_us if row[0] == record.node]:
            del self.decided_us[row]

    def on_failed(self, record: Failed) -> None:
        """What has ended may wait to be written: who is open is not known any more."""
        for standing in self.standing.values():
            standing.waiting.clear()

    # --- time-outs and deadlines --------------------------------------------------------------------------------

    def on_clock(self, record: ClockChanged) -> None:
        """Whoever has seen another time counts otherwise."""
        if record.step_us or record.error_us or record.drift_ppm or not record.trusted:
            self.touched[self.oracle.stores[record.node]] = None

    def on_stalled(self, record: Stalled) -> None:
        """Who stands still gives no orders."""
        self.asleep_us[record.node] = self.asleep_us.get(record.node, 0) + record.until_us - record.at_us
        self.asleep_until_us[record.node] = max(self.asleep_until_us.get(record.node, 0), record.until_us)

    def on_started(self, record: ExecutionStarted) -> None:
        """The time-out runs from here."""
        key = (record.node, record.row, record.attempt)
        timeout_us = self.timeouts.get(record.schedule_id)
        if timeout_us is not None and record.node not in self.oracle.workers:
            place = (self.oracle.stores[record.node], record.row, record.attempt)
            self.begun[place] = record.node, record.at_us + timeout_us
        if key in self.asked:
            return
        work = None
        rest_us = max(self.asleep_until_us.get(record.node, 0) - record.at_us, 0)
        slept_us = self.asleep_us.get(record.node, 0) - rest_us
        if timeout_us is not None:
            work = AtWork(record.at_us + timeout_us, "TimeoutRespected", slept_us)
        deadline_us = self._deadline(record)
        if deadline_us is not None and record.node in self.oracle.workers:
            # A worker was told how much of it was left when its Dispatch was sent.
            deadline_us += LONGEST_WAY_US
        if deadline_us is not None and (work is None or deadline_us < work.stop_by_us):
            work = AtWork(deadline_us, "DeadlineRespected", slept_us)
        if work is not None:
            self.at_work[key] = work

    def _deadline(self, record: ExecutionStarted) -> int | None:
        """When the run's own deadline passes, in true time, where the trace knows it; DeadlineRespected at a start."""
        store = self.oracle.stores[record.node]
        decided_us = self.decided_us.get((store, record.row))
        if decided_us is None or store in self.touched:
            return None
        deadline_us = decided_us + self.deadlines[record.schedule_id] - self.oracle.utc_us(0)
        late_us = record.at_us - deadline_us
        if late_us > STOP_WITHIN_US + self.asleep_us.get(record.node, 0):
            what = f"row {record.row} of {record.schedule_id} began {late_us} us after its deadline"
            self.report.add("DeadlineRespected", record, what)
        return deadline_us

    def on_cancel(self, record: CancelAsked) -> None:
        """It was asked."""
        self.asked[record.node, record.row, record.attempt] = None
        self._judge_end(record)

    def on_ended(self, record: ExecutionEnded) -> None:
        """It ended before it had to be asked. Its lane is free before its outcome is durable."""
        standing = self.standing.get((self.oracle.stores[record.node], record.schedule_id))
        if standing is not None and record.how != "killed":
            standing.waiting.pop(record.row, None)
        self._note_late_failure(record)
        self.asked.pop((record.node, record.row, record.attempt), None)
        self._judge_end(record)

    def _judge_end(self, record: CancelAsked | ExecutionEnded) -> None:
        """TimeoutRespected, DeadlineRespected: it ended, or was asked to, in time."""
        work = self.at_work.pop((record.node, record.row, record.attempt), None)
        if work is None:
            return
        late_us = record.at_us - work.stop_by_us
        if late_us > STOP_WITHIN_US + self.asleep_us.get(record.node, 0) - work.slept_us:
            what = f"row {record.row}, attempt {record.attempt} went on for {late_us} us after its time"
            self.report.add(work.invariant, record, f"{what} and was not asked to stop")

    def _note_late_failure(self, record: ExecutionEnded) -> None:
        """For `TimeoutWins`, of nodes; a clock that runs slow lets its time-outs pass late."""
        place = (self.oracle.stores[record.node], record.row, record.attempt)
        node, due_us = self.begun.pop(place, (record.node, record.at_us))
        late_us = record.at_us - due_us
        if record.how == "failed" and node == record.node and late_us > DRIFT_US:
            self.timed_out[place] = late_us
            self.report.count("failed after its time-out")
