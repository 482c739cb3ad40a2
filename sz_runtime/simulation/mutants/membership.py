"""Bugs of the server's side of remote handlers: who is here, who has which run, and what a result counts for."""

from typing import Any

from attrs import evolve

from sz_protocol.commands import HandlerState
from sz_protocol.kernel.effects import CancelReason, Send
from sz_protocol.kernel.events import RunsReturned, RunsVanished, Started
from sz_protocol.machines import completion as completion_module
from sz_protocol.machines.carriage import Carriage
from sz_protocol.machines.execution import Execution
from sz_protocol.machines.leases import Leases, LeaseState
from sz_protocol.machines.membership import Membership, MembershipState
from sz_protocol.machines.workers import Worker, Workers, call_of, keys_of
from sz_protocol.messages import Ack, AckCode, RefuseCode, ResultAck
from sz_protocol.routing import Routes
from sz_runtime.simulation.mutants.planting import mutant

A_LOT = 1000


def _nothing(original: Any) -> Any:
    return lambda self, *arguments: []


def _asked_before_is_forgotten(original: Any) -> Any:
    own = (CancelReason.SHUTDOWN, CancelReason.CUT_OFF)
    return lambda definition, result: original(definition, result) if result.reason in own else None


def _any_sender(original: Any) -> Any:
    def on_received(self: Membership, sender: bytes, message: Any, key: str, now: Any) -> Any:
        known = self.workers.sessions.get(getattr(message, "session", 0))
        return original(self, sender if known is None else known[1].sender, message, key, now)

    return on_received


def _any_worker(original: Any) -> Any:
    def on_results(self: Carriage, worker: Worker, session: Any, results: Any, now: Any) -> Any:
        for report in results.results:
            lease = self.leases.all.get((report.row, report.attempt))
            if lease is not None and lease.worker != worker.id:
                del self.workers.all[lease.worker].leases[lease.key]
                lease.worker = worker.id
                worker.leases[lease.key] = lease
        return original(self, worker, session, results, now)

    return on_results


def _silent_keep_all(original: Any) -> Any:
    def vanish(self: Carriage, worker: Worker, leases: Any, reason: str) -> int:
        gone: int = original(self, worker, leases, reason) if worker.state is HandlerState.PRESENT else 0
        return gone

    return vanish


def _lost_when_silent(original: Any) -> Any:
    def fire_worker(self: Membership, worker: Worker, now: Any) -> Any:
        if worker.state is HandlerState.PRESENT:
            worker.heard_us -= self.settings.lease_us
        return original(self, worker, now)

    return fire_worker


def _never_stood_still(original: Any) -> Any:
    def expire(self: Membership, now: Any) -> Any:
        self.seen_us = now.mono_us
        return original(self, now)

    return expire


def _renews_the_present(original: Any) -> Any:
    def renew_all(self: Membership, now: Any) -> None:
        for worker in self.workers.all.values():
            worker.heard_us = worker.heard_us if worker.session is None else now.mono_us

    return renew_all


def _left_as_if_lost(original: Any) -> Any:
    def on_left_behind(self: Membership, runs: Any, now: Any) -> None:
        original(self, runs, now)
        for worker in self.workers.all.values():
            worker.heard_us = now.mono_us - self.settings.lease_us
            self.workers.look_again(worker)

    return on_left_behind


def _returned_not_lost(original: Any) -> Any:
    return lambda self, runs, reason, now: self._on_returned(runs, now)


def _sent_again(original: Any) -> Any:
    def take_stock(self: Carriage, worker: Worker, session: Any, before: Any, old_until_us: int, now: Any) -> Any:
        for lease in worker.leases.values():
            if lease.state in (LeaseState.SENT, LeaseState.ACCEPTED) and lease.key not in session.listed:
                lease.state = LeaseState.QUEUED
        return original(self, worker, session, before, old_until_us, now)

    return take_stock


def _nothing_listed(original: Any) -> Any:
    def take_stock(self: Carriage, worker: Worker, session: Any, *rest: Any) -> Any:
        session.listed = {}
        return original(self, worker, session, *rest)

    return take_stock


def _results_not_listed(original: Any) -> Any:
    def take_stock(self: Carriage, worker: Worker, session: Any, *rest: Any) -> Any:
        executing = dict.fromkeys((held.row, held.attempt) for held in session.executing)
        session.listed = {key: held for key, held in session.listed.items() if key in executing}
        return original(self, worker, session, *rest)

    return take_stock


def _vanished_at_once(original: Any) -> Any:
    def on_left_behind(self: Membership, runs: Any, now: Any) -> None:
        self.outbox.append(RunsVanished(tuple((run.row, run.attempt) for run in runs), "the server was started again"))

    return on_left_behind


def _open_at_once(original: Any) -> Any:
    def on_life(self: Membership, event: Any, now: Any) -> None:
        original(self, event, now)
        if isinstance(event, Started):
            self.state = MembershipState.OPEN

    return on_life


def _nobody_is_heard(original: Any) -> Any:
    return lambda self, worker, now: False


def _joins_at_hello(original: Any) -> Any:
    def on_hello(self: Membership, sender: bytes, hello: Any, key: str, now: Any) -> Any:
        effects = original(self, sender, hello, key, now)
        session = self.workers.offered.get(call_of(hello))
        return effects if session is None else [*effects, *self._join(session, now)[1]]

    return on_hello


def _credit_ignored(original: Any) -> Any:
    def pump(self: Carriage, worker: Worker, now: Any) -> Any:
        session = worker.session
        if session is None:
            return original(self, worker, now)
        granted, session.granted = session.granted, session.sent + A_LOT
        effects = original(self, worker, now)
        session.granted = granted
        return effects

    return pump


def _acknowledged_at_once(original: Any) -> Any:
    def on_results(self: Carriage, worker: Worker, session: Any, results: Any, now: Any) -> Any:
        acks = tuple(Ack(report.row, report.attempt, AckCode.OK) for report in results.results)
        return [*original(self, worker, session, results, now), Send(session.sender, ResultAck(session.id, acks))]

    return on_results


def _again_is_stale(original: Any) -> Any:
    def on_results(self: Carriage, worker: Worker, session: Any, results: Any, now: Any) -> Any:
        keys = [(report.row, report.attempt) for report in results.results]
        again = [key for key in keys if key in worker.leases and worker.leases[key].state is LeaseState.REPORTED]
        effects = original(self, worker, session, results, now)
        acks = tuple(Ack(*key, AckCode.STALE) for key in again)
        return [*effects, Send(session.sender, ResultAck(session.id, acks))] if acks else effects

    return on_results


def _never_draining(original: Any) -> Any:
    return lambda self, worker, drain, now: []


def _silent_is_present(original: Any) -> Any:
    def due_us(self: Workers, worker: Worker) -> Any:
        if worker.state is HandlerState.PRESENT:
            return worker.heard_us + self.settings.lease_us
        return original(self, worker)

    return due_us


def _not_told(original: Any) -> Any:
    def take_stock(self: Carriage, worker: Worker, session: Any, *rest: Any) -> Any:
        session.executing = ()
        return original(self, worker, session, *rest)

    return take_stock


def _refusal_is_failure(original: Any) -> Any:
    def on_refuse(self: Carriage, worker: Worker, session: Any, refuse: Any, now: Any) -> Any:
        return original(self, worker, session, evolve(refuse, code=RefuseCode.UNKNOWN_METHOD), now)

    return on_refuse


def _refused_for_ever(original: Any) -> Any:
    def give_back(self: Carriage, worker: Worker, leases: Any, reason: str) -> None:
        for lease in leases:
            self._drop(worker, lease)

    return give_back


def _lost_is_returned(original: Any) -> Any:
    def vanish(self: Carriage, worker: Worker, leases: Any, reason: str) -> int:
        gone = [lease for lease in leases if lease.state is not LeaseState.REPORTED]
        unaccepted = [lease for lease in gone if lease.state is LeaseState.SENT]
        self._return(worker, unaccepted, reason)
        others = [lease for lease in gone if lease not in unaccepted]
        count: int = original(self, worker, others, reason) + len(unaccepted)
        return count

    return vanish


def _tags_ignored(original: Any) -> Any:
    return lambda self, route: original(self, (route[0], route[1], (), route[3]))


def _gone_at_once(original: Any) -> Any:
    def leave(self: Membership, worker: Worker, bye: Any, now: Any) -> Any:
        effects = original(self, worker, bye, now)
        leases = [lease for lease in worker.leases.values() if lease.state is not LeaseState.REPORTED]
        for lease in leases:
            self.carriage._drop(worker, lease)
        if leases:
            self.outbox.append(RunsReturned(keys_of(leases), "it has left"))
        return effects

    return leave


MEMBERSHIP = (
    mutant(
        "foreign_session_believed",
        "a message counts wherever it comes from, if it names a session",
        (Membership, "_on_received", _any_sender),
    ),
    mutant(
        "result_of_a_foreign_run",
        "a result is taken from whoever brings it, whoever executes the run",
        (Carriage, "on_results", _any_worker),
    ),
    mutant(
        "lost_and_not_given_up", "what a lost worker had stays claimed for it", (Carriage, "vanish", _silent_keep_all)
    ),
    mutant(
        "lost_when_silent",
        "a worker that missed its heartbeats has lost its runs, before its lease is over",
        (Membership, "_fire_worker", _lost_when_silent),
    ),
    mutant(
        "standstill_blames_workers",
        "a server that stood still counts that time as silence of its workers",
        (Membership, "_expire", _never_stood_still),
    ),
    mutant(
        "no_lease_after_a_restart",
        "what an earlier life left with workers is lost before they can come back",
        (Membership, "_renew_all", _renews_the_present),
        (Membership, "_on_left_behind", _left_as_if_lost),
    ),
    mutant(
        "loss_taken_for_a_return",
        "a run that vanished with its worker is sent again as the same attempt",
        (Execution, "_on_vanished", _returned_not_lost),
    ),
    mutant(
        "what_was_begun_is_sent_again",
        "what a worker comes back without is sent again, as if it had not been begun",
        (Carriage, "take_stock", _sent_again),
    ),
    mutant(
        "unanswered_is_not_begun",
        "a run whose acceptance was not heard before its worker was lost counts as not begun",
        (Carriage, "vanish", _lost_is_returned),
    ),
    mutant(
        "bye_taken_for_not_begun",
        "what a worker has not reported when it leaves is sent to another one as the same attempt",
        (Membership, "_leave", _gone_at_once),
    ),
    mutant(
        "executing_not_adopted",
        "what a worker has when it comes back is given up and repeated",
        (Carriage, "take_stock", _nothing_listed),
    ),
    mutant(
        "waiting_result_not_adopted",
        "a run whose result waits with its worker is given up when that one comes back",
        (Carriage, "take_stock", _results_not_listed),
    ),
    mutant(
        "repeated_after_a_restart",
        "a new life of the server repeats what workers still execute",
        (Membership, "_on_left_behind", _vanished_at_once),
    ),
    mutant(
        "registered_before_recovery",
        "workers register before the server knows which runs it has",
        (Membership, "_on_life", _open_at_once),
    ),
    mutant("twins_both_taken", "whoever says Hello last has the name", (Workers, "is_heard", _nobody_is_heard)),
    mutant(
        "registered_by_hello",
        "a session counts from its Hello on, however old that is",
        (Membership, "_on_hello", _joins_at_hello),
    ),
    mutant("credit_ignored", "runs are sent whatever was granted", (Carriage, "pump", _credit_ignored)),
    mutant(
        "acknowledged_on_arrival",
        "a result is acknowledged when it comes, not when it is durable",
        (Carriage, "on_results", _acknowledged_at_once),
    ),
    mutant(
        "repeated_result_is_stale",
        "a result that comes again before the store has it is answered otherwise than the first",
        (Carriage, "on_results", _again_is_stale),
    ),
    mutant("draining_gets_more", "a worker that drains is sent new runs", (Membership, "_drain", _never_draining)),
    mutant(
        "silent_gets_more",
        "a worker that missed its heartbeats is sent new runs until its lease is over",
        (Workers, "due_us", _silent_is_present),
    ),
    mutant("unanswered_is_not_sent_again", "a Dispatch is sent once", (Leases, "pop_unanswered", _nothing)),
    mutant(
        "orphans_for_ever", "an exclusive run of a replaced life is never given up", (Leases, "pop_orphans", _nothing)
    ),
    mutant(
        "superseded_goes_on",
        "a worker that comes back with a run that was given up is not told to stop it",
        (Carriage, "take_stock", _not_told),
    ),
    mutant(
        "stopped_before_a_restart_has_failed",
        "what was stopped for good before the server came back counts as failed after that",
        (completion_module, "_asked_elsewhere", _asked_before_is_forgotten),
    ),
    mutant(
        "every_refusal_fails",
        "a run that its worker has no room for has failed",
        (Carriage, "on_refuse", _refusal_is_failure),
    ),
    mutant(
        "returned_is_forgotten",
        "a run that came back unbegun is not placed again",
        (Carriage, "_return", _refused_for_ever),
    ),
    mutant(
        "tags_ignored",
        "a run goes to any worker of its schedule, whatever tags that has",
        (Routes, "_look_up", _tags_ignored),
    ),
)
