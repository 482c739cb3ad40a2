"""How much may execute at once, and whose turn it is: OverlapRespected, PoolRespected, SkipHasCause,
FirstComeFirstServed."""

from attrs import Factory, define

from sz_protocol.policy import lane_width
from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    ExecutionEnded,
    ExecutionStarted,
    Failed,
    NodeStarted,
    Rewound,
    RowsDropped,
    RunKept,
    RunWritten,
    Stalled,
)

DECIDED_WITHIN_US = 20_000_000
"""How long a decision may take to become durable: what it saw may be over by then."""


@define
class Lanes(Checker):
    """Counts executions under way, for each life of each node; follows which rows are not over."""

    executing: dict[tuple[str, int, str], dict[tuple[int, int], str]] = Factory(dict)
    """(node, incarnation, schedule) -> (row, attempt) -> pool."""
    remote: dict[tuple[str, int], list[tuple[tuple[str, int, str], int]]] = Factory(dict)
    """(store, row) -> executions of it by workers."""
    let_go: dict[str, dict[tuple[str, int, int, int], None]] = Factory(dict)
    """Schedule -> executions by workers that go on although their row has moved on."""
    open_rows: dict[str, dict[str, dict[int, None]]] = Factory(dict)
    """Store -> schedule -> rows that are not over."""
    used: dict[tuple[str, int, str], int] = Factory(dict)
    """(node, incarnation, pool) -> executions under way."""
    waiting: dict[str, dict[str, dict[int, None]]] = Factory(dict)
    """Store -> schedule -> rows that wait for their first claim and for nothing else, in the order in which they came.
    A store that fails somebody may lose the order: then the waiting begins anew."""
    busy_until: dict[str, int] = Factory(dict)
    """When something of a schedule was last over."""
    doubtful_at: dict[str, int] = Factory(dict)
    """When a store last failed somebody."""
    slack_us: int = DECIDED_WITHIN_US
    sizes: dict[str, int] = Factory(dict)
    widths: dict[str, int] = Factory(dict)
    """Schedule -> how many of its runs may execute at once."""
    limits: dict[str, int] = Factory(dict)
    """Schedule -> how many runs its method executes at once, where there is a limit."""

    def __attrs_post_init__(self) -> None:
        self.sizes = dict(self.oracle.plan.pools)
        for schedule_id, jobs in self.oracle.jobs.items():
            self.widths[schedule_id] = max(lane_width(job.definition.overlap) for job in jobs)
            limits = [job.behaviour.concurrency for job in jobs]
            bounds = [limit for limit in limits if limit is not None]
            if len(bounds) == len(limits):
                self.limits[schedule_id] = max(bounds)

    def routes(self) -> Routes:
        """Executions and rows."""
        return {
            ExecutionStarted: self.on_started,
            ExecutionEnded: self.on_ended,
            NodeStarted: self.on_node,
            RunWritten: self.on_run,
            RunKept: self.on_kept,
            RowsDropped: self.on_dropped,
            Rewound: self.on_rewound,
            Stalled: self.on_stalled,
            Failed: self.on_failed,
        }

    def on_stalled(self, record: Stalled) -> None:
        """Who stands still learns late what is over."""
        self.slack_us = max(self.slack_us, DECIDED_WITHIN_US + record.until_us - record.at_us)

    def on_failed(self, record: Failed) -> None:
        """A run that may or may not be in the store holds its lane until that is known."""
        self.doubtful_at[record.node] = record.at_us
        self.waiting.pop(record.node, None)

    def on_node(self, record: NodeStarted) -> None:
        """Executions of earlier lives are over."""
        for key in [key for key in self.executing if key[0] == record.node and key[1] < record.incarnation]:
            del self.executing[key]
        for place in [key for key in self.used if key[0] == record.node and key[1] < record.incarnation]:
            del self.used[place]

    def on_started(self, record: ExecutionStarted) -> None:
        """One more: still within the lane of its schedule, and within its pool."""
        if record.node in self.oracle.workers and not self.oracle.fleet.has_claim(record):
            # Given up before it began: it holds no place any more (whether it may begin, `running` says).
            begun = record.node, record.incarnation, record.row, record.attempt
            self.let_go.setdefault(record.schedule_id, {})[begun] = None
            return
        key = (record.node, record.incarnation, record.schedule_id)
        lane = self.executing.setdefault(key, {})
        lane[record.row, record.attempt] = record.pool
        if record.node in self.oracle.workers:
            self.remote.setdefault((self.oracle.stores[record.node], record.row), []).append((key, record.attempt))
        if len(lane) > self.widths.get(record.schedule_id, len(lane)):
            what = f"{len(lane)} runs of {record.schedule_id} execute at once: {sorted(lane)}"
            self.report.add("OverlapRespected", record, what)
        place = (record.node, record.incarnation, record.pool)
        used = self.used[place] = self.used.get(place, 0) + 1
        if used > self.sizes.get(record.pool, used):
            self.report.add("PoolRespected", record, f"{used} runs in pool {record.pool}")
        if len(lane) > self.limits.get(record.schedule_id, len(lane)):
            self.report.add("PoolRespected", record, f"{len(lane)} runs of the method of {record.schedule_id}")

    def on_ended(self, record: ExecutionEnded) -> None:
        """One less."""
        key = (record.node, record.incarnation, record.schedule_id)
        pool = self.executing.get(key, {}).pop((record.row, record.attempt), None)
        if pool is not None:
            self.used[record.node, record.incarnation, pool] -= 1
        place = record.node, record.incarnation, record.row, record.attempt
        self.let_go.get(record.schedule_id, {}).pop(place, None)
        self.busy_until[record.schedule_id] = record.at_us

    # --- SkipHasCause -----------------------------------------------------------------------------------------

    def on_run(self, record: RunWritten) -> None:
        """An instant that was skipped for overlap must have had something to overlap with."""
        lane = self.open_rows.setdefault(record.node, {}).setdefault(record.schedule_id, {})
        if record.inserted and record.outcome == "skipped" and record.reason in ("overlap", "queue_full"):
            executing = [others for key, others in self.executing.items() if key[2] == record.schedule_id]
            since_us = max(self.busy_until.get(record.schedule_id, 0), self.doubtful_at.get(record.node, 0))
            rested_us = record.at_us - since_us
            active = lane or any(executing) or self.let_go.get(record.schedule_id)
            if not active and rested_us > self.slack_us:
                what = f"{record.schedule_id}@{record.fire_us} was skipped for {record.reason}, nothing was active"
                self.report.add("SkipHasCause", record, what)
        self._judge_turn(record)
        if record.state != "leased":
            self._let_go(record)
        if record.state == "done":
            if lane.pop(record.row, 0) is None:
                self.busy_until[record.schedule_id] = record.at_us
        else:
            lane[record.row] = None

    def _judge_turn(self, record: RunWritten) -> None:
        """FirstComeFirstServed."""
        line = self.waiting.setdefault(record.node, {}).setdefault(record.schedule_id, {})
        if record.inserted and record.state == "pending":
            if record.kind == "scheduled" and record.reason != "catch_up" and not record.not_before_us:
                line[record.row] = None
            return
        first = next(iter(line), record.row)
        plain = record.inserted or record.row in line
        if record.state == "leased" and plain and first != record.row and record.reason != "catch_up":
            what = f"row {record.row} of {record.schedule_id} was claimed, row {first} came before it and still waits"
            self.report.add("FirstComeFirstServed", record, what)
        line.pop(record.row, None)

    def _let_go(self, record: RunWritten) -> None:
        """What workers may still be executing of this row holds no place in its lane any more."""
        for key, attempt in self.remote.pop((record.node, record.row), ()):
            pool = self.executing.get(key, {}).pop((record.row, attempt), None)
            if pool is not None:
                self.used[key[0], key[1], pool] -= 1
                self.let_go.setdefault(record.schedule_id, {})[key[0], key[1], record.row, attempt] = None

    def on_kept(self, record: RunKept) -> None:
        """A row of a restored store, or at the end."""
        if record.state != "done":
            self.open_rows.setdefault(record.node, {}).setdefault(record.schedule_id, {})[record.row] = None

    def on_dropped(self, record: RowsDropped) -> None:
        """Only rows that are over are dropped."""
        for lane in self.open_rows.get(record.node, {}).values():
            for row in record.rows:
                if lane.pop(row, 0) is None:
                    self.report.add("LossIsVisible", record, f"retention dropped row {row}, which was not over")

    def on_rewound(self, record: Rewound) -> None:
        """What the copy holds is told next."""
        self.open_rows.pop(record.node, None)
        self.waiting.pop(record.node, None)
