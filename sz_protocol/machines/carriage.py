"""Runs to remote handlers, and their ends back: dispatch within credit, stops, results, acknowledgements. Part of
membership.

Rules: specs/remote.md. MEMB-5 never is more sent than was granted. MEMB-6 and MEMB-9: what a new session makes of the
runs of older ones. MEMB-7, MEMB-8: nothing is given up while an answer may come, nothing acknowledged before it is
settled.
"""

import json
from collections.abc import Iterable

from attrs import Factory, define

from sz_protocol.commands import HandlerState
from sz_protocol.kernel.effects import CancelReason, Effect, Publish, Send, StartRun
from sz_protocol.kernel.events import LeasedRun, RunResult, RunsFinished, RunsReturned, RunsVanished
from sz_protocol.kernel.now import Now
from sz_protocol.machines.leases import BATCH, BATCH_WEIGHT, MOST_WEIGHT, Key, Lease, Leases, LeaseState, weigh
from sz_protocol.machines.workers import Session, Worker, Workers, keys_of
from sz_protocol.messages import (
    Accept,
    Ack,
    AckCode,
    Dispatch,
    Hello,
    Progress,
    Refuse,
    RefuseCode,
    ResultAck,
    Results,
    RunReport,
    Stop,
)
from sz_protocol.notices import Ignored, RunProgressed
from sz_protocol.records import MOST_ERROR, MOST_RESULT, Outcome, Reason

NOTE_LENGTH = 200
_ENDS = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED)


@define
class Carriage:
    """Each run that is given to it ends once, in `outbox`: in RunsFinished, in RunsReturned (not begun) or in
    RunsVanished."""

    workers: Workers
    leases: Leases
    outbox: list[RunsFinished | RunsReturned | RunsVanished] = Factory(list)

    # --- on their way -----------------------------------------------------------------------------------------

    def assign(self, name: str, runs: tuple[StartRun, ...], open_: bool, now: Now) -> list[Effect]:
        """Have a handler execute these; what it cannot be sent any more is not begun."""
        worker = self.workers.all.get(name)
        if not open_ or worker is None or worker.state is not HandlerState.PRESENT:
            self.outbox.append(RunsReturned(tuple((run.row, run.attempt) for run in runs), f"{name!r} is not here"))
            return []
        taken: list[Lease] = []
        for run in runs:
            lease = Lease(name, run.row, run.attempt, run.fence, LeaseState.QUEUED, run, run.exclusive, run.run_id)
            self._add(worker, lease)
            lease.weight = weigh(run.params)
            if lease.weight > MOST_WEIGHT:
                self._fail(worker, lease, Reason.INVALID_PARAMS, "its params are too large to be sent", now)
            else:
                taken.append(lease)
        worker.unsent.extend(taken)
        effects = self.pump(worker, now)
        self.leases.wait_for_credit((lease for lease in taken if lease.state is LeaseState.QUEUED), now)
        return effects

    def leave(self, worker: Worker, left: LeasedRun) -> None:
        """A run that a handler had when the last life of this node ended."""
        state, run_id = LeaseState.LEFT, left.run_id
        self._add(worker, Lease(worker.id, left.row, left.attempt, left.fence, state, None, left.exclusive, run_id))

    def pump(self, worker: Worker, now: Now) -> list[Effect]:
        """Send what waits, in its order, as far as the credit goes (MEMB-5)."""
        session = worker.session
        if not worker.unsent or session is None or worker.state is not HandlerState.PRESENT:
            return []
        ready: list[Lease] = []
        late: list[Lease] = []
        while worker.unsent and session.sent < session.granted:
            lease = worker.unsent.popleft()
            if lease.state is not LeaseState.QUEUED or not self.leases.lives(lease):
                continue
            if lease.is_late(now):
                late.append(lease)
                continue
            session.sent += 1
            ready.append(lease)
        self._return(worker, late, "its time was over before it could be sent")
        return self._dispatch(worker, session, ready, now)

    def _dispatch(self, worker: Worker, session: Session, leases: list[Lease], now: Now) -> list[Effect]:
        """Hand runs over, in messages of bounded size."""
        effects: list[Effect] = []
        batch: list[Lease] = []
        weight = 0
        for at, lease in enumerate(leases):
            batch.append(lease)
            weight += lease.weight
            last = at + 1 == len(leases)
            if last or len(batch) == BATCH or weight + leases[at + 1].weight > BATCH_WEIGHT:
                dispatch = Dispatch(session.id, session.beat, self.leases.hand_over(batch, now))
                for sent in batch:
                    sent.move(dispatch)
                effects.append(Send(session.sender, dispatch))
                batch, weight = [], 0
        return effects

    def say_again(self, now: Now) -> list[Effect]:
        """MEMB-7, and stops that were not obeyed yet. A handler that is silent hears nothing either: later."""
        effects: list[Effect] = []
        again: dict[str, list[Lease]] = {}
        for lease in self.leases.pop_unanswered(now):
            again.setdefault(lease.worker, []).append(lease)
        for name, leases in again.items():
            worker = self.workers.all[name]
            if worker.session is None or worker.state is HandlerState.SUSPECT:
                self.leases.look_again(leases, now)
            else:
                effects += self._dispatch(worker, worker.session, leases, now)
        for lease in self.leases.pop_stops(now):
            effects += self._say_stop(lease, now)
        for lease in self.leases.pop_orphans(now):
            worker = self.workers.all[lease.worker]
            self.vanish(worker, [lease], f"handler {worker.id!r} came back without it")
        for lease in self.leases.pop_waiting(now):
            self._return(self.workers.all[lease.worker], [lease], "its handler has room for no more")
        return effects

    # --- stopping ---------------------------------------------------------------------------------------------

    def stop(self, key: Key, reason: CancelReason, now: Now) -> list[Effect]:
        """End a run."""
        lease = self.leases.all.get(key)
        if lease is None or lease.state is LeaseState.REPORTED:
            # It has ended already, and execution will hear of it.
            return []
        if lease.state is LeaseState.QUEUED:
            self._return(self.workers.all[lease.worker], [lease], "it was not begun yet")
            return []
        lease.stop = reason
        return self._say_stop(lease, now)

    def _say_stop(self, lease: Lease, now: Now) -> list[Effect]:
        """Ask for the end of a run, and ask again until it is there."""
        self.leases.ask_to_stop(lease, now)
        session = self.workers.all[lease.worker].session
        if session is None or lease.stop is None:
            return []
        return [Send(session.sender, Stop(session.id, lease.row, lease.attempt, lease.stop))]

    # --- a new session ----------------------------------------------------------------------------------------

    def take_stock(
        self, worker: Worker, session: Session, before: Hello | None, old_until_us: int, now: Now
    ) -> list[Effect]:
        """MEMB-6, MEMB-9: what the handler has is adopted, what it should have and has not is lost, what it has and
        should not have is stopped. `before` is what it said of itself until now, `old_until_us` when the lease of that
        is over."""
        same_life = before is not None and before.incarnation == session.hello.incarnation
        effects: list[Effect] = []
        vanished: list[Lease] = []
        queued: list[Lease] = []
        for key, lease in worker.leases.items():
            held = session.listed.get(key)
            if lease.state is LeaseState.REPORTED:
                session.listed.pop(key, None)
            elif held is not None and lease.is_of(held.fence, held.run_id):
                del session.listed[key]
                lease.move(held)
                lease.delivery = max(lease.delivery, held.delivery)
                lease.first = lease.first or held.delivery
                if lease.stop is not None:
                    effects += self._say_stop(lease, now)
            elif lease.state is LeaseState.SENT and same_life:
                # Not begun; and since this life let go of the session in which it was sent, it never will be.
                lease.move(session.hello)
                self.leases.wait_for_credit((lease,), now)
                queued.append(lease)
            elif lease.state is LeaseState.QUEUED:
                queued.append(lease)
            elif lease.state is not LeaseState.ORPHANED:
                vanished.append(lease)
        if not same_life:
            # An exclusive one may be executing in the old life until the lease of that is over.
            for lease in vanished:
                if lease.exclusive:
                    self.leases.orphan(lease, old_until_us)
            vanished = [lease for lease in vanished if not lease.exclusive]
        self._queue_again(worker, queued, before)
        self.vanish(worker, vanished, f"handler {worker.id!r} came back without it")
        for held in session.executing:
            if (held.row, held.attempt) in session.listed:
                effects.append(_orphan(session, (held.row, held.attempt)))
        session.listed, session.executing = {}, ()
        return effects

    def _queue_again(self, worker: Worker, queued: list[Lease], before: Hello | None) -> None:
        """What was not begun is sent again, before anything newer; unless it is to be stopped, or this is no longer who
        was to execute it (ROUTE-1)."""
        hello = worker.hello
        assert hello is not None, "MEMB-1: a session belongs to somebody"
        methods = {offer.method for offer in hello.methods}
        same_tags = before is not None and before.tags == hello.tags
        again: list[Lease] = []
        back: list[Lease] = []
        for lease in queued:
            fits = same_tags and lease.start is not None and lease.start.method in methods
            (again if fits and lease.stop is None else back).append(lease)
        worker.unsent.clear()
        worker.unsent.extend(again)
        self._return(worker, back, "it was not begun")

    # --- messages ---------------------------------------------------------------------------------------------

    def on_accept(self, worker: Worker, session: Session, accept: Accept) -> list[Effect]:
        """They are with the handler now."""
        effects: list[Effect] = []
        for ref in accept.runs:
            lease = worker.leases.get((ref.row, ref.attempt))
            if lease is None:
                if not self.leases.is_remembered((ref.row, ref.attempt)):
                    effects.append(_orphan(session, (ref.row, ref.attempt)))
            elif lease.is_hand_over(ref.delivery) and lease.allows(accept):
                lease.move(accept)
        return effects

    def on_refuse(self, worker: Worker, session: Session, refuse: Refuse, now: Now) -> list[Effect]:
        """Only the answer to the latest hand-over counts: an earlier one may have been refused and this one not."""
        lease = worker.leases.get((refuse.run.row, refuse.run.attempt))
        if lease is None or lease.state is not LeaseState.SENT or lease.delivery != refuse.run.delivery:
            return [Publish(Ignored("Refuse", "it answers nothing that was handed over last"))]
        if refuse.code is RefuseCode.UNKNOWN_METHOD:
            self._fail(worker, lease, Reason.UNKNOWN_METHOD, "its handler does not have this method any more", now)
        else:
            self._return(worker, [lease], f"handler {worker.id!r} refused it: {refuse.code}")
        return self.pump(worker, now)

    def on_progress(self, worker: Worker, progress: Progress) -> list[Effect]:
        """How far a run is."""
        ref = progress.run
        lease = worker.leases.get((ref.row, ref.attempt))
        if lease is None or lease.state is LeaseState.REPORTED or not lease.was_sent:
            return [Publish(Ignored("Progress", "it is of no run that is executing there"))]
        note, percent = progress.note[:NOTE_LENGTH], progress.percent
        lease.note = note if note.isprintable() else "".join(c if c.isprintable() else " " for c in note)
        lease.percent = None if percent is None else min(max(percent, 0), 100)
        return [Publish(RunProgressed(ref.row, ref.attempt, lease.note, lease.percent, worker.id))]

    def on_results(self, worker: Worker, session: Session, results: Results, now: Now) -> list[Effect]:
        """MEMB-8: each goes to execution once, and is acknowledged when that has settled it."""
        ended: list[RunResult] = []
        acks: list[Ack] = []
        for report in results.results:
            key = (report.row, report.attempt)
            lease = worker.leases.get(key)
            if lease is not None and lease.is_of(report.fence, report.run_id) and lease.was_sent:
                if lease.allows(report):
                    lease.move(report)
                    ended.append(_result(lease, report, now))
            elif self.leases.was_settled(key, report.fence):
                acks.append(Ack(report.row, report.attempt, AckCode.DUPLICATE))
            else:
                acks.append(Ack(report.row, report.attempt, AckCode.STALE))
        if ended:
            self.outbox.append(RunsFinished(tuple(ended)))
        effects = self.pump(worker, now)
        return [Send(session.sender, ResultAck(session.id, tuple(acks))), *effects] if acks else effects

    # --- ends -------------------------------------------------------------------------------------------------

    def settle(self, settled: tuple[Key, ...]) -> list[Effect]:
        """MEMB-8: what came of these runs is durable; now their handlers may forget them."""
        acks: dict[str, list[Ack]] = {}
        for key in settled:
            lease = self.leases.all.get(key)
            if lease is None or lease.state is not LeaseState.REPORTED:
                continue
            self._drop(self.workers.all[lease.worker], lease)
            self.leases.remember(lease)
            acks.setdefault(lease.worker, []).append(Ack(lease.row, lease.attempt, AckCode.OK))
        effects: list[Effect] = []
        for name, told in acks.items():
            worker = self.workers.all[name]
            if worker.session is not None:
                effects.append(Send(worker.session.sender, ResultAck(worker.session.id, tuple(told))))
            self.workers.forget_if_gone(worker)
        return effects

    def vanish(self, worker: Worker, leases: Iterable[Lease], reason: str) -> int:
        """Nobody knows what became of them."""
        gone = [lease for lease in leases if lease.state is not LeaseState.REPORTED]
        for lease in gone:
            self._drop(worker, lease)
        if gone:
            self.outbox.append(RunsVanished(keys_of(gone), reason))
        return len(gone)

    def return_unsent(self, worker: Worker, reason: str) -> None:
        """Nothing new goes to this handler."""
        unsent = [lease for lease in worker.unsent if lease.state is LeaseState.QUEUED and self.leases.lives(lease)]
        worker.unsent.clear()
        self._return(worker, unsent, reason)

    def _add(self, worker: Worker, lease: Lease) -> None:
        self.leases.add(lease)
        worker.leases[lease.key] = lease

    def _drop(self, worker: Worker, lease: Lease) -> None:
        self.leases.drop(lease)
        del worker.leases[lease.key]

    def _return(self, worker: Worker, leases: list[Lease], reason: str) -> None:
        """They were not begun, and will not be."""
        for lease in leases:
            self._drop(worker, lease)
        if leases:
            self.outbox.append(RunsReturned(keys_of(leases), reason))

    def _fail(self, worker: Worker, lease: Lease, reason: Reason, error: str, now: Now) -> None:
        """It cannot be executed: its end, without an execution."""
        self._drop(worker, lease)
        failed = RunResult(
            lease.row, lease.attempt, Outcome.FAILED, reason.value, None, now.utc_us, error=error, retryable=False
        )
        self.outbox.append(RunsFinished((failed,)))


def _orphan(session: Session, key: Key) -> Effect:
    """A run that its handler has and should not have: somebody else may be executing it by now."""
    return Send(session.sender, Stop(session.id, *key, CancelReason.SUPERSEDED))


def _result(lease: Lease, report: RunReport, now: Now) -> RunResult:
    """What a handler reports, within the limits of what can be: its clock need not be right, nor its manners."""
    first_us = max(lease.since_us, report.started_us or 0)
    started_us = None if report.started_us is None else min(first_us, now.utc_us)
    finished_us = min(max(report.finished_us, first_us), now.utc_us)
    result, error = report.result, None if report.error is None else report.error[:MOST_ERROR]
    outcome, reason, retryable = report.outcome, report.reason, report.retryable
    unfit = "" if result is None else _why_unfit(result)
    if outcome not in _ENDS:
        outcome, reason, error = Outcome.FAILED, Reason.ERROR.value, f"its handler reported the outcome {outcome}"
    elif unfit and outcome is Outcome.SUCCEEDED:
        # As with handlers of this process: the work is done, and to do it again would not help.
        outcome, reason, error, retryable = Outcome.FAILED, Reason.UNSTORABLE.value, unfit, False
    if unfit:
        result = None
    return RunResult(lease.row, lease.attempt, outcome, reason, started_us, finished_us, result, error, retryable)


def _why_unfit(result: str) -> str:
    """Why the ledger does not take this for a result; empty where it does."""
    size = len(result) if result.isascii() else len(result.encode(errors="replace"))
    if size > MOST_RESULT:
        return f"the result takes {size} bytes as JSON; {MOST_RESULT} can be stored"
    try:
        json.loads(result, parse_constant=_no_number)
    except (ValueError, RecursionError) as problem:
        return f"the result is no JSON: {str(problem)[:200]}"
    return ""


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")
