"""Runs and attempts: AckImpliesDurable, OneLeasePerRun, CompleteOnce, ResultFence, AttemptMonotonic,
AtMostOnceNeverRestarts, RetryWithinPolicy, CancelledNeverDone, LossIsVisible, AttemptsKept."""

from attrs import Factory, define, evolve

from sz_protocol.definition import OverlapPolicy, Semantics
from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    AttemptWritten,
    ExecutionEnded,
    ExecutionStarted,
    Noted,
    Rewound,
    RowsDropped,
    RunKept,
    RunWritten,
    TermTaken,
)

REASONS = {
    "failed": ("error", "timeout", "deadline", "unstorable_result", "unknown_method", "invalid_params"),
    "cancelled": ("requested", "superseded", "shutdown", "retired", "cut_off"),
    "lost": ("crashed",),
}
"""What may be said of outcomes that end an execution, or its prospect."""


@define
class Row:
    """What the trace says of one row of one store. `store_term` is the store's term when its state became durable."""

    schedule_id: str
    state: str
    outcome: str
    attempt: int
    fence: int
    worker: str = ""
    failures: int = 0
    losses: int = 0
    claims: dict[tuple[int, int], int] = Factory(dict)
    """(attempt, fence) of every durable claim -> the store's term then."""
    started: dict[int, str] = Factory(dict)
    """Attempt -> how its execution ended ("" while it goes on),"""
    why: dict[int, str] = Factory(dict)
    """for what reason,"""
    executed_by: dict[int, tuple[str, int]] = Factory(dict)
    """and which life of which node or worker executed it."""
    kept: dict[int, int] = Factory(dict)
    """Attempt whose history is durable -> the store's term then."""
    best_fence: int = 0
    killed_at: int = -1
    killed: tuple[int, int] = (0, 0)
    """Its attempt when its execution vanished, and the store's term then."""


@define
class Running(Checker):
    """Follows every row from its insertion to its outcome, and every execution of it."""

    rows: dict[tuple[str, int], Row] = Factory(dict)
    terms: dict[str, int] = Factory(dict)

    def routes(self) -> Routes:
        """Rows, executions, terms."""
        return {
            RunWritten: self.on_run,
            AttemptWritten: self.on_attempt,
            ExecutionStarted: self.on_started,
            ExecutionEnded: self.on_ended,
            TermTaken: self.on_term,
            RowsDropped: self.on_dropped,
            Rewound: self.on_rewound,
            RunKept: self.on_kept,
        }

    def on_term(self, record: TermTaken) -> None:
        """Another life decides from here on."""
        self.terms[record.node] = record.term

    # --- rows -------------------------------------------------------------------------------------------------

    def on_run(self, record: RunWritten) -> None:
        """A row became durable in a new state."""
        place = (record.node, record.row)
        row = self.rows.get(place)
        if row is None:
            row = self.rows[place] = Row(record.schedule_id, "", "", 0, 0)
        elif row.state == "done":
            what = f"row {record.row} of {record.schedule_id} was {row.outcome} and became {record.outcome}"
            self.report.add("CompleteOnce", record, what)
            if row.outcome == "cancelled":
                self.report.add("CancelledNeverDone", record, what)
        if record.attempt < row.attempt and row.attempt in row.started:
            what = f"row {record.row} went from attempt {row.attempt}, which was executed, to {record.attempt}"
            self.report.add("AttemptMonotonic", record, what)
        if record.state == "leased":
            row.claims[record.attempt, record.fence] = self.terms.get(record.node, 0)
            self._judge_history(record, row)
        if record.failures > row.failures:
            self._judge_failure(record, row)
        if record.state == "done":
            self._judge_outcome(record, row)
            if self.terms.get(record.node, 0) == row.killed[1]:
                # Given up by the life that it vanished with: the outcome was on its way before.
                row.killed_at = -1
        row.state, row.outcome, row.attempt = record.state, record.outcome, record.attempt
        row.fence, row.failures, row.losses = record.fence, record.failures, record.losses
        row.worker = record.worker

    def on_attempt(self, record: AttemptWritten) -> None:
        """What became of an attempt is kept beside its run."""
        row = self.rows.get((record.node, record.row))
        if row is not None:
            row.kept[record.attempt] = self.terms.get(record.node, 0)

    def _judge_history(self, record: RunWritten, row: Row) -> None:
        """AttemptsKept: what was executed before this claim has its history."""
        for attempt in row.started:
            if attempt < record.attempt and attempt not in row.kept:
                what = f"row {record.row} of {record.schedule_id} is claimed as attempt {record.attempt}"
                self.report.add("AttemptsKept", record, f"{what}; what became of attempt {attempt} is not kept")

    def _judge_outcome(self, record: RunWritten, row: Row) -> None:
        """ResultFence: an outcome that speaks of an execution must be that of the current attempt."""
        how = row.started.get(record.attempt)
        what = f"row {record.row} of {record.schedule_id} ends as {record.outcome} ({record.reason})"
        if record.outcome == "succeeded" and how != "succeeded":
            self.report.add("ResultFence", record, f"{what}, but attempt {record.attempt} {_told(how)}")
        if record.outcome == "failed" and record.reason == "error" and how != "failed":
            self.report.add("ResultFence", record, f"{what}, but attempt {record.attempt} {_told(how)}")
        if record.reason == "timeout" and record.attempt not in [attempt for attempt, _ in row.claims]:
            self.report.add("ResultFence", record, f"{what}, but attempt {record.attempt} was never claimed")
        if record.reason not in REASONS.get(record.outcome, (record.reason,)):
            self.report.add("ResultFence", record, f"{what}, which is no reason for that")
        if not record.inserted and record.attempt != record.before_attempt:
            self.report.add("ResultFence", record, f"{what} for attempt {record.attempt}, not {record.before_attempt}")

    def _judge_failure(self, record: RunWritten, row: Row) -> None:
        """ResultFence: what counts as a failure has failed, or was to be stopped; and not by a person, nor by a newer
        run, for these stop a run for good."""
        how, why = row.started.get(record.attempt), row.why.get(record.attempt)
        definitions = self.oracle.of_schedule(record.schedule_id)
        takes_over = definitions and all(d.overlap.policy is OverlapPolicy.CANCEL_RUNNING for d in definitions)
        for_good = how == "cancelled" and (why == "requested" or (why == "superseded" and takes_over))
        if record.state == "pending" and not record.inserted and (for_good or how not in ("failed", "cancelled")):
            told = f"{_told(how)} ({why})" if for_good else _told(how)
            what = f"row {record.row} of {record.schedule_id}, attempt {record.attempt}, counts as failed, but {told}"
            self.report.add("ResultFence", record, what)

    # --- executions -------------------------------------------------------------------------------------------

    def on_started(self, record: ExecutionStarted) -> None:
        """An execution began: its claim is durable, it is the first of its attempt, and it was allowed."""
        store = self.oracle.stores[record.node]
        what = f"row {record.row} of {record.schedule_id}, attempt {record.attempt}"
        row = self.rows.get((store, record.row))
        claimed_in = None if row is None else row.claims.get((record.attempt, record.fence))
        if record.node in self.oracle.workers:
            if not self._judge_claim(record, row, what):
                return
        elif row is not None and claimed_in is not None and claimed_in != self.terms.get(store, 0):
            # Its node was replaced between claim and start and does not know it yet. Nobody can stop that; the fence
            # that it carries is older than its successor's, so that whoever is asked to act can tell.
            self.report.count("stale start")
            return
        if row is None or claimed_in is None:
            self.report.add("AckImpliesDurable", record, f"{what} was executed without a durable claim")
            if row is None:
                return
        else:
            self._judge_start(record, row, what)
        if record.attempt in row.started or record.attempt < max(row.started, default=0):
            self.report.add("AttemptMonotonic", record, f"{what} was executed after {sorted(row.started)}")
        if record.fence <= row.best_fence:
            self.report.add("FenceGrows", record, f"{what} carries fence {record.fence} after {row.best_fence}")
        self._judge_restart(record, row, what)
        row.best_fence = max(row.best_fence, record.fence)
        row.started[record.attempt] = ""
        row.executed_by[record.attempt] = (record.node, record.incarnation)

    def _judge_claim(self, record: ExecutionStarted, row: Row | None, what: str) -> bool:
        """OneLeasePerRun: a worker begins what is claimed for it at this moment, unless nobody could have told it;
        whether this start is to be judged any further."""
        held = row is not None and (row.state, row.attempt, row.fence) == ("leased", record.attempt, record.fence)
        if held and row is not None and row.worker == self.oracle.workers[record.node].handler_id:
            return True
        excuse = self.oracle.fleet.excuse(record)
        if excuse:
            self.report.count("stale start of a worker")
        else:
            now = "is not known" if row is None else f"is {row.state}, attempt {row.attempt} for {row.worker or '-'}"
            self.report.add("OneLeasePerRun", record, f"{what} was begun by {record.node}; the row {now}")
        return False

    def _judge_start(self, record: ExecutionStarted, row: Row, what: str) -> None:
        """No other life has taken over since the claim: then the row has to be as it was claimed."""
        if row.state == "done":
            rule = "CancelledNeverDone" if row.outcome == "cancelled" else "CompleteOnce"
            self.report.add(rule, record, f"{what} began after its outcome {row.outcome} was durable")
        elif (row.attempt, row.fence) != (record.attempt, record.fence):
            self.report.add("AckImpliesDurable", record, f"{what} began, the store is at attempt {row.attempt}")

    def _judge_restart(self, record: ExecutionStarted, row: Row, what: str) -> None:
        definitions = self.oracle.of_schedule(record.schedule_id)
        gone = [attempt for attempt, how in row.started.items() if how in ("", "killed", "succeeded")]
        if definitions and all(d.semantics is Semantics.AT_MOST_ONCE for d in definitions) and gone:
            self.report.add(
                "AtMostOnceNeverRestarts",
                record,
                f"{what} began after attempt {gone[-1]} {_told(row.started[gone[-1]])}",
            )
        if definitions and row.failures >= max(d.retry.attempts for d in definitions):
            self.report.add("RetryWithinPolicy", record, f"{what} began after {row.failures} failures")
        if row.losses >= self.oracle.plan.settings.loss_limit:
            self.report.add("RetryWithinPolicy", record, f"{what} began after its executor vanished {row.losses} times")

    def on_ended(self, record: ExecutionEnded) -> None:
        """An execution ended, or vanished with its process."""
        row = self.rows.get((self.oracle.stores[record.node], record.row))
        if row is None:
            return
        if row.executed_by.get(record.attempt) != (record.node, record.incarnation):
            return
        row.started[record.attempt], row.why[record.attempt] = record.how, record.reason
        # What vanishes with a worker, its server has to find out: see `carrying`.
        here = record.node not in self.oracle.workers
        if here and record.how == "killed" and row.state != "done" and row.attempt == record.attempt:
            row.killed_at = record.at_us
            row.killed = record.attempt, self.terms.get(self.oracle.stores[record.node], 0)

    # --- restored and dropped rows, the end -------------------------------------------------------------------

    def on_dropped(self, record: RowsDropped) -> None:
        """Retention forgets them, so do we."""
        for number in record.rows:
            self.rows.pop((record.node, number), None)

    def on_rewound(self, record: Rewound) -> None:
        """What the copy holds is told next; executions that it does not know of happened in another history."""
        for place in [place for place in self.rows if place[0] == record.node]:
            del self.rows[place]
        self.terms.pop(record.node, None)

    def on_kept(self, record: RunKept) -> None:
        """A row of a restored store, or at the end."""
        place = (record.node, record.row)
        row = self.rows.get(place)
        if row is None:
            row = self.rows[place] = Row(record.schedule_id, record.state, record.outcome, record.attempt, 0)
            row.failures, row.losses = record.failures, record.losses
            return
        if (row.state, row.outcome, row.attempt) != (record.state, record.outcome, record.attempt):
            what = f"row {record.row} is {record.state} {record.outcome} {record.attempt} in the store"
            self.report.add("TraceComplete", record, f"{what}, its writes say {row.state} {row.outcome} {row.attempt}")

    def finish(self, end: Noted) -> None:
        """LossIsVisible: an execution that vanished left a mark in the ledger."""
        for (store, number), row in self.rows.items():
            attempt, term = row.killed
            # A life that drains gives up what does not stop, and says so in its history before the execution vanishes.
            visible = row.losses > 0 or row.outcome == "lost" or row.kept.get(attempt) == term
            if row.killed_at >= 0 and not visible:
                what = f"an execution of row {number} of {row.schedule_id} vanished at {row.killed_at} us"
                self.report.add("LossIsVisible", evolve(end, node=store), f"{what}; the ledger says {row.outcome}")


def _told(how: str | None) -> str:
    return {None: "never began", "": "goes on"}.get(how, f"ended as {how}")
