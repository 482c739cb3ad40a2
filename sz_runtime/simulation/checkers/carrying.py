"""The server's side of remote handlers: CreditNotExceeded, AckImpliesDurable, LostOnlyAfterLease, TwinNeverSteals,
NothingRepeatedThatStillRuns, ExclusiveEndsInTime, StopObeyed, SupersededWithCause, ResultFence, LossIsVisible."""

from attrs import Factory, define

from sz_protocol.definition import OverlapPolicy
from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.fleet import START_WITHIN_US, Hand, Lease, LifeName
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import CancelAsked, ExecutionEnded, ExecutionStarted, MessageDelivered, RunWritten
from sz_runtime.simulation.worker_facts import HandlerSeen, LinkDown, Said

STOPPED = ("requested", "superseded", "deadline", "timeout", "shutdown", "retired", "cut_off")
"""Reasons for which a run ends, or is tried again, that was asked to stop."""
MOST_STOPS = 200
OBEYED_WITHIN_US = 1000


@define
class Carrying(Checker):
    """Holds what servers say and write against what workers do. Follows `fleet`, which has seen each record before."""

    stops: dict[int, Said] = Factory(dict)
    """Stops on their way, by the numbers of their datagrams."""
    speaks_in: dict[str, int] = Factory(dict)
    """Worker -> the session in which it spoke last."""
    told_to_stop: dict[tuple[str, int, int], int] = Factory(dict)
    """(worker, row, attempt) -> when it was told to stop what it executes."""
    told_early: dict[tuple[str, int, int], tuple[int, int]] = Factory(dict)
    """(worker, row, attempt) -> when, and in which session, it was told to stop what it does not execute yet."""
    told_unknown: dict[tuple[str, int, int], None] = Factory(dict)
    """(store, row, attempt) of which a worker said that it does not have the method, or that it failed."""

    def routes(self) -> Routes:
        """Messages, verdicts on handlers, rows."""
        if not self.oracle.plan.workers:
            return {}
        return {
            Said: self.on_said,
            MessageDelivered: self.on_delivered,
            CancelAsked: self.on_asked,
            ExecutionStarted: self.on_started,
            ExecutionEnded: self.on_ended,
            HandlerSeen: self.on_seen,
            RunWritten: self.on_run,
            LinkDown: self.on_link_down,
        }

    # --- messages ---------------------------------------------------------------------------------------------

    def on_said(self, record: Said) -> None:
        """Of servers: runs that are sent, results that are acknowledged. Of workers: which session they are in."""
        if record.kind == "dispatch":
            self._judge_credit(record)
        elif record.kind == "result_ack":
            self._judge_acks(record)
        elif record.kind == "stop":
            self.stops[record.number] = record
            if len(self.stops) > MOST_STOPS:
                del self.stops[next(iter(self.stops))]
            if record.words == ("superseded",):
                self._judge_superseded(record)
        elif record.kind == "hello":
            self.speaks_in.pop(record.node, None)
        elif record.node in self.oracle.workers:
            self.speaks_in[record.node] = record.session
            self._note_failures(record)

    def _judge_credit(self, record: Said) -> None:
        session = self.oracle.fleet.sessions[record.session]
        for row, attempt, _, fence in record.runs:
            if (row, attempt, fence) in session.runs:
                self.report.count("run handed over again")
            session.runs[row, attempt, fence] = None
        if len(session.runs) > session.granted:
            what = f"{len(session.runs)} runs were sent to {record.to}, which has granted {session.granted}"
            self.report.add("CreditNotExceeded", record, what)
        elif len(session.runs) == session.granted:
            self.report.count("credit exhausted")

    def _judge_acks(self, record: Said) -> None:
        """Whatever the answer, its worker forgets the result: nothing may be open about it any more."""
        fleet, store = self.oracle.fleet, self.oracle.stores[record.node]
        worker = self.oracle.workers[record.to]
        for (row, attempt, _, _), code in zip(record.runs, record.words, strict=True):
            self.report.count(f"result acknowledged {code}")
            lease = fleet.leases.get((store, row))
            if lease is None or (lease.state, lease.attempt) != ("leased", attempt):
                continue
            # The same attempt may have been claimed anew, for somebody else or after a refusal.
            hands = fleet.hands.get((store, row), ())
            its = [h for h in hands if h.started.node == record.to and h.started.fence == lease.fence]
            if code == "stale" and all(self._was_given_up(hand, lease, store) for hand in its):
                continue
            if lease.handler_id == worker.handler_id and its:
                what = f"row {row}, attempt {attempt} of {record.to}"
                self.report.add("AckImpliesDurable", record, f"{what} was answered {code} before its end was durable")

    def _note_failures(self, record: Said) -> None:
        """Who says that a run failed, or could not begin for want of its method."""
        if record.kind in ("refuse", "results"):
            for (row, attempt, _, _), word in zip(record.runs, record.words, strict=True):
                if word in ("unknown_method", "failed"):
                    self.told_unknown[self.oracle.stores[record.node], row, attempt] = None

    def on_link_down(self, record: LinkDown) -> None:
        """Its session is over, and what still comes over that connection reaches nobody."""
        self.speaks_in.pop(record.node, None)

    # --- stops ------------------------------------------------------------------------------------------------

    def _judge_superseded(self, record: Said) -> None:
        """SupersededWithCause: nobody is to stop what is his, unless its schedule replaces it."""
        fleet, ((row, attempt, _, _),) = self.oracle.fleet, record.runs
        store = self.oracle.stores[record.node]
        lease, hand = fleet.leases.get((store, row)), fleet.hand(record.to, fleet.lives.get(record.to, 0), row, attempt)
        if lease is None or hand is None or hand.asked or hand.how:
            return
        if (lease.state, lease.attempt, lease.fence) != ("leased", attempt, hand.started.fence):
            return
        definitions = self.oracle.of_schedule(hand.started.schedule_id)
        replaces = any(definition.overlap.policy is OverlapPolicy.CANCEL_RUNNING for definition in definitions)
        if not replaces and not self._was_given_up(hand, lease, store):
            what = f"{record.to} was told to stop row {row}, attempt {attempt}, as if somebody else had it"
            self.report.add("SupersededWithCause", record, what)

    def on_delivered(self, record: MessageDelivered) -> None:
        """A stop arrives at a worker that executes the run, and whose session it is."""
        stop = self.stops.get(record.number)
        if stop is None or record.node != stop.to or self.speaks_in.get(record.node) != stop.session:
            return
        ((row, attempt, _, _),) = stop.runs
        hand = self.oracle.fleet.hand(record.node, self.oracle.fleet.lives.get(record.node, 0), row, attempt)
        if hand is None:
            self.told_early[record.node, row, attempt] = record.at_us, stop.session
        elif not hand.asked and not hand.how:
            self.told_to_stop.setdefault((record.node, row, attempt), record.at_us)

    def on_asked(self, record: CancelAsked) -> None:
        """It did."""
        self.told_to_stop.pop((record.node, record.row, record.attempt), None)
        self.told_early.pop((record.node, record.row, record.attempt), None)

    def on_started(self, record: ExecutionStarted) -> None:
        """StopObeyed: a Stop that came first counts, for a lease."""
        told_us, session = self.told_early.pop((record.node, record.row, record.attempt), (record.at_us, 0))
        lease_us = self.oracle.plan.settings.lease_us - self.oracle.fleet.tolerance_us
        in_time = START_WITHIN_US < record.at_us - told_us < lease_us
        if in_time and self.speaks_in.get(record.node) == session:
            what = f"row {record.row} of {record.schedule_id}, attempt {record.attempt}"
            self.report.add("StopObeyed", record, f"{what} was to be stopped at {told_us} us, and was begun after that")

    def on_ended(self, record: ExecutionEnded) -> None:
        """StopObeyed: it had no time to, or has asked its handler."""
        told_us = self.told_to_stop.pop((record.node, record.row, record.attempt), None)
        if told_us is None or record.how == "killed":
            return
        until_us = self.oracle.fleet.frozen.get(record.node, (0, 0))[1]
        if record.at_us - max(told_us, until_us if until_us > told_us else 0) > OBEYED_WITHIN_US:
            what = f"row {record.row} of {record.schedule_id}, attempt {record.attempt}"
            self.report.add("StopObeyed", record, f"{what} was to be stopped at {told_us} us, and was not asked to")

    # --- verdicts on handlers -----------------------------------------------------------------------------------

    def on_seen(self, record: HandlerSeen) -> None:
        """Lost, registered."""
        if record.what == "lost":
            self._judge_lost(record)
        elif record.what == "registered":
            self._judge_place(record)

    def _judge_lost(self, record: HandlerSeen) -> None:
        """MEMB-3, MEMB-4: a whole lease of silence, for a server that was awake."""
        fleet, settings = self.oracle.fleet, self.oracle.plan.settings
        standstill_us = 2 * settings.heartbeat_us + fleet.tolerance_us
        silent_us = fleet.silent_us(record.node, record.handler_id, record.at_us, standstill_us)
        if silent_us < settings.lease_us - fleet.tolerance_us:
            what = f"{record.handler_id} was declared lost after {silent_us} us"
            self.report.add("LostOnlyAfterLease", record, what)
        if fleet.lost_session is not None:
            self._judge_cut_off(record, fleet.sessions[fleet.lost_session].life)

    def _judge_cut_off(self, record: HandlerSeen, life: LifeName) -> None:
        """ExclusiveEndsInTime: from here on it may be claimed anew; whoever is awake knows that."""
        fleet = self.oracle.fleet
        if not fleet.is_alive(life) or fleet.is_frozen(life[0], record.at_us):
            return
        for hand in fleet.hands_of(life[0]):
            definitions = self.oracle.of_schedule(hand.started.schedule_id)
            exclusive = bool(definitions) and all(definition.exclusive for definition in definitions)
            if exclusive and hand.life == life and not hand.how and not hand.asked:
                what = f"row {hand.started.row} of {hand.started.schedule_id}, attempt {hand.started.attempt}"
                self.report.add("ExclusiveEndsInTime", record, f"{life[0]} is lost, and still executes {what}")

    def _judge_place(self, record: HandlerSeen) -> None:
        """MEMB-2: who is heard keeps his place. Each server has places of its own: two lives of one name may well be
        registered at two servers, the one cut off from the other."""
        fleet, settings = self.oracle.fleet, self.oracle.plan.settings
        if fleet.replaced is None or record.session not in fleet.sessions:
            return
        before, heard_us = fleet.replaced
        life = fleet.sessions[record.session].life
        silence_us = min(settings.missed_beats * settings.heartbeat_us, settings.lease_us)
        silent_us = record.at_us - heard_us
        if life != before and silent_us < silence_us - fleet.tolerance_us:
            what = f"life {life} took the place of {before}, which was heard {silent_us} us ago"
            self.report.add("TwinNeverSteals", record, what)

    # --- rows -------------------------------------------------------------------------------------------------

    def on_run(self, record: RunWritten) -> None:
        """A row that workers may be executing has moved on."""
        fleet = self.oracle.fleet
        was, hands = fleet.was, fleet.hands.get((record.node, record.row), ())
        if record.state == "leased":
            self._judge_exclusive(record, hands)
        if was is None or was.state != "leased" or not was.handler_id:
            return
        if (record.outcome, record.reason) == ("failed", "unknown_method"):
            self._judge_unknown(record)
        gone = record.losses > was.losses or record.outcome == "lost"
        if gone:
            self.report.count("worker run lost" if record.outcome == "lost" else "worker run repeated")
        for hand in hands:
            if (hand.started.attempt, hand.started.fence) != (was.attempt, was.fence):
                continue
            if gone:
                self._judge_loss(record, was, hand)
            elif hand.lost:
                self._judge_hidden(record, hand)

    def _judge_unknown(self, record: RunWritten) -> None:
        """ResultFence: its worker said so."""
        if (record.node, record.row, record.attempt) not in self.told_unknown:
            what = f"row {record.row} of {record.schedule_id} ends for want of its method, and no worker said so"
            self.report.add("ResultFence", record, what)

    def _judge_loss(self, record: RunWritten, was: Lease, hand: Hand) -> None:
        """NothingRepeatedThatStillRuns: given up only when its handler was lost, or another process took its place."""
        fleet = self.oracle.fleet
        if hand.how == "" and not fleet.is_alive(hand.life):
            return
        key = hand.started.row, hand.started.attempt
        if hand.how and (hand.lost or key not in fleet.kept.get(hand.started.node, {})):
            return
        if not self._was_given_up(hand, was, record.node):
            goes_on = "still executes it" if hand.how == "" else "has its result"
            what = f"row {record.row} of {record.schedule_id}, attempt {was.attempt}, was given up"
            self.report.add("NothingRepeatedThatStillRuns", record, f"{what}; {hand.started.node} {goes_on}")

    def _was_given_up(self, hand: Hand, lease: Lease, store: str) -> bool:
        """Whether, since it began, its handler was lost to the server, or another process took its place, or (of a
        result) it left with it."""
        fleet, since_us = self.oracle.fleet, hand.started.at_us
        return (
            fleet.given_up.get(lease.handler_id, -1) >= since_us
            or (hand.how != "" and fleet.left.get(lease.handler_id, -1) >= since_us)
            or fleet.rewound.get(store, -1) >= since_us
            or fleet.others_joined(hand.life, since_us, other_worker=bool(hand.how))
        )

    def _judge_hidden(self, record: RunWritten, hand: Hand) -> None:
        """LossIsVisible: what vanished with its worker counts as a loss, unless it was to be stopped anyway."""
        if record.outcome in ("cancelled", "failed") and record.reason in STOPPED:
            return
        what = f"row {record.row} of {record.schedule_id}, attempt {hand.started.attempt}, vanished with its worker"
        ended = f"{record.outcome} ({record.reason})" if record.outcome else record.state
        self.report.add("LossIsVisible", record, f"{what}; the ledger says {ended}, and no loss")

    def _judge_exclusive(self, record: RunWritten, hands: tuple[Hand, ...] | list[Hand]) -> None:
        """ExclusiveEndsInTime: before a new claim the older execution was asked to stop, by whoever could."""
        definitions = self.oracle.of_schedule(record.schedule_id)
        if not definitions or not all(definition.exclusive for definition in definitions):
            return
        fleet = self.oracle.fleet
        for hand in hands:
            goes_on = hand.how == "" and fleet.is_alive(hand.life) and not hand.asked
            if goes_on and not fleet.is_frozen(hand.started.node, record.at_us):
                what = f"row {record.row} of {record.schedule_id} is claimed again, as attempt {record.attempt}"
                self.report.add("ExclusiveEndsInTime", record, f"{what}; {hand.started.node} still executes it")
