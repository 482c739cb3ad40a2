"""The server's side of remote handlers: who is here. Sessions, heartbeats, silence, farewells.

Rules: specs/remote.md, MEMB-1 to MEMB-12. Parts: `registration` (who may come), `workers` (who is here and what they
offer), `carriage` and `leases` (runs on their way). What becomes of runs that vanish or come back is execution's
decision.
"""

from enum import Enum, auto
from random import Random
from typing import Any, Final

from attrs import Factory, define, evolve

from sz_protocol.commands import HandlersListed, HandlerState, ListHandlers
from sz_protocol.kernel.effects import Effect, Publish, Reply, Send
from sz_protocol.kernel.events import (
    Commanded,
    Event,
    Garbled,
    HandlersChanged,
    KeysChanged,
    LeasedRun,
    Received,
    RemoteHandlersChanged,
    ResultsSettled,
    RunsAssigned,
    RunsFinished,
    RunsLeftBehind,
    RunsRecovered,
    RunsReturned,
    RunsVanished,
    Started,
    StopAssigned,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.moves import Moves, allows, move
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.machines.carriage import Carriage
from sz_protocol.machines.leases import Leases, LeaseState
from sz_protocol.machines.registration import Registration
from sz_protocol.machines.workers import MOVES as HANDLER_MOVES
from sz_protocol.machines.workers import (
    Expired,
    Heard,
    Joined,
    LeftBehind,
    Revoked,
    Session,
    Silent,
    Worker,
    Workers,
    offers_of,
)
from sz_protocol.messages import (
    Accept,
    Beat,
    Bye,
    Drain,
    Echo,
    Hello,
    Progress,
    Refuse,
    RefuseCode,
    Reject,
    RejectCode,
    Results,
    ToServer,
)
from sz_protocol.notices import (
    HandlerDraining,
    HandlerHeard,
    HandlerLeft,
    HandlerLost,
    HandlerRegistered,
    HandlerSuspect,
)
from sz_protocol.ops import Ops
from sz_protocol.records import CLAIMS_PER_TERM
from sz_protocol.settings import Settings

TELL_EVERY_US, TELL_EACH_US = 20_000, 20
"""Handlers that come and go together are told together: no oftener than this, plus so much for each method known."""

LISTED_RUNS = 1000
"""Notes on how far runs are, in one list of handlers."""

IN_SESSION = (Results, Accept, Beat, Progress, Refuse, Drain, Bye)


class MembershipState(Enum):
    """IDLE before the start. RECOVERING until it is known which runs the last life left with handlers: nobody can
    register before. OPEN. STOPPING takes no new sessions and sends nothing new; what is under way goes on."""

    IDLE = auto()
    RECOVERING = auto()
    OPEN = auto()
    STOPPING = auto()


# Bound once, as in records.py: looked at with every event.
_IDLE: Final = MembershipState.IDLE
_RECOVERING: Final = MembershipState.RECOVERING
_DEADLINE: Final = WakeReason.DEADLINE


MOVES: Moves[MembershipState] = {
    (MembershipState.IDLE, Started): MembershipState.RECOVERING,
    (MembershipState.RECOVERING, RunsRecovered): MembershipState.OPEN,
    (MembershipState.IDLE, StopRequested): MembershipState.STOPPING,
    (MembershipState.RECOVERING, StopRequested): MembershipState.STOPPING,
    (MembershipState.OPEN, StopRequested): MembershipState.STOPPING,
    (MembershipState.STOPPING, RunsRecovered): MembershipState.STOPPING,
    (MembershipState.STOPPING, StopRequested): MembershipState.STOPPING,
}


@define
class Membership:
    """`seen_us` is when anything was handled last: whoever stood still himself blames nobody (MEMB-4).
    `expect_until_us` is until when handlers may still come after the start; `changed` says that what can be executed
    has to be told."""

    settings: Settings
    ops: Ops
    rng: Random
    state: MembershipState = MembershipState.IDLE
    workers: Workers = Factory(lambda self: Workers(self.settings), takes_self=True)
    leases: Leases = Factory(lambda self: Leases(self.settings.redeliver_us, self.settings.lease_us), takes_self=True)
    registration: Registration = Factory(
        lambda self: Registration(self.settings, self.ops, self.rng, self.workers), takes_self=True
    )
    outbox: list[RunsFinished | RunsVanished | RunsReturned | RemoteHandlersChanged] = Factory(list)
    carriage: Carriage = Factory(lambda self: Carriage(self.workers, self.leases, self.outbox), takes_self=True)
    seen_us: int | None = None
    swept_us: int = 0
    expect_until_us: int | None = None
    changed: bool = False
    tell_from_us: int = 0

    # --- the interface ----------------------------------------------------------------------------------------

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Expire what is over, take one fact, then tell what can be executed."""
        effects = self._expire(now)
        match event:
            case Woke():
                pass
            case Received(sender=sender, message=message, key=key):
                effects += self._on_received(sender, message, key, now)
            case RunsAssigned(worker=name, runs=runs):
                effects += self.carriage.assign(name, runs, self.state is MembershipState.OPEN, now)
            case ResultsSettled(runs=settled):
                effects += self.carriage.settle(settled)
            case StopAssigned(row=row, attempt=attempt, reason=reason):
                effects += self.carriage.stop((row, attempt), reason, now)
            case RunsLeftBehind(runs=left):
                self._on_left_behind(left, now)
            case Garbled(sender=sender, problem=problem):
                effects += self.registration.on_garbled(sender, problem, now)
            case KeysChanged():
                self.registration.learn_keys(event)
                effects += self._end_sessions(now)
            case HandlersChanged(methods=methods):
                self.registration.learn_local(methods)
                effects += self._end_sessions(now)
            case Commanded(request_id=request_id, command=ListHandlers()):
                listed = HandlersListed(self.workers.listing(now), self.leases.progress(LISTED_RUNS))
                effects.append(Reply(request_id, listed))
            case Started() | RunsRecovered() | StopRequested():
                self._on_life(event, now)
            case _:
                pass
        if self.changed:
            self._tell(now)
        return effects

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The first deadline of a handler, of a message that has to be said again, or of what is to be told."""
        if self.state is _IDLE:
            return None
        workers = self.workers
        waits: list[int] = []
        if workers.watch:
            # A node that slept through two heartbeats could not tell its own silence from that of others.
            waits = [workers.watch[0][0], (self.seen_us or 0) + self.settings.heartbeat_us]
        again_us = self.leases.next_us()
        if again_us is not None:
            waits.append(max(again_us, self.swept_us + self.settings.redeliver_us // 8))
        if workers.offered:
            # Only memory waits for this: strangers who came in numbers are forgotten together.
            waits.append(next(iter(workers.offered.values())).until_us + self.settings.heartbeat_us)
        if self.changed:
            waits.append(self.tell_from_us)
        if self.expect_until_us is not None:
            waits.append(self.expect_until_us)
        return Wakeup(max(min(waits), now.mono_us + 1), _DEADLINE) if waits else None

    # --- life -------------------------------------------------------------------------------------------------

    def _on_life(self, event: Started | RunsRecovered | StopRequested, now: Now) -> None:
        if not allows(MOVES, self.state, event):
            return
        self.state = move(MOVES, self.state, event)
        match event:
            case Started(term=term):
                # The numbers of this life are above those of every earlier one.
                self.leases.last_delivery = term * CLAIMS_PER_TERM
                self.changed = True
            case RunsRecovered():
                # Only from here on can anybody be heard: leases and expectations begin now (MEMB-6, MEMB-12).
                self.expect_until_us = now.mono_us + self.settings.away_grace_us
                self._renew_all(now)
            case StopRequested():
                for worker in self.workers.all.values():
                    self.carriage.return_unsent(worker, "the node is stopping")

    def _on_left_behind(self, runs: tuple[LeasedRun, ...], now: Now) -> None:
        """MEMB-6: what the last life left with handlers has a full lease to be found again."""
        for left in runs:
            worker = self._known(left.worker, now)
            if allows(HANDLER_MOVES, worker.state, LeftBehind()):
                self._move(worker, LeftBehind(), now)
            self.carriage.leave(worker, left)
            worker.heard_us = now.mono_us
            self.workers.look_again(worker)

    def _known(self, name: str, now: Now) -> Worker:
        worker = self.workers.all.get(name)
        if worker is None:
            worker = self.workers.all[name] = Worker(name, HandlerState.AWAY, now.utc_us, now.mono_us)
        return worker

    def _renew_all(self, now: Now) -> None:
        """Full leases begin anew."""
        for worker in self.workers.all.values():
            worker.heard_us = now.mono_us

    # --- deadlines --------------------------------------------------------------------------------------------

    def _expire(self, now: Now) -> list[Effect]:
        stood_still = self.seen_us is not None and now.mono_us - self.seen_us > 2 * self.settings.heartbeat_us
        self.seen_us = now.mono_us
        if stood_still or self.state is _RECOVERING:
            # MEMB-4: nobody could be heard meanwhile.
            self._renew_all(now)
        if self.expect_until_us is not None and now.mono_us >= self.expect_until_us:
            self.expect_until_us = None
            self.changed = True
        effects: list[Effect] = []
        watch = self.workers.watch
        if watch and watch[0][0] <= now.mono_us:
            for worker in self.workers.pop_due(now):
                effects += self._fire_worker(worker, now)
        offered = self.workers.offered
        while offered and (first := next(iter(offered.values()))).until_us <= now.mono_us:
            self.workers.forget_offer(first)
        again_us = self.leases.next_us()
        if again_us is not None and again_us <= now.mono_us:
            self.swept_us = now.mono_us
            effects += self.carriage.say_again(now)
        return effects

    def _fire_worker(self, worker: Worker, now: Now) -> list[Effect]:
        """A handler was silent for too long, or has been gone for long enough."""
        silent_us = now.mono_us - worker.heard_us
        effects: list[Effect] = []
        if worker.state in (HandlerState.AWAY, HandlerState.LOST):
            if worker.has_live_leases and silent_us >= self.settings.lease_us:
                leases = list(worker.leases.values())
                self.carriage.vanish(worker, leases, f"handler {worker.id!r} left, and has not come back")
            if worker.gone_us is not None and worker.gone_us <= now.mono_us:
                self._forget(worker)
        elif silent_us >= self.settings.lease_us:
            effects = self._lose(worker, silent_us, now)
        elif worker.state is HandlerState.PRESENT:
            self._move(worker, Silent(), now)
            self.carriage.return_unsent(worker, f"handler {worker.id!r} is silent")
            effects = [Publish(HandlerSuspect(worker.id, silent_us))]
        self.workers.look_again(worker)
        return effects

    def _lose(self, worker: Worker, silent_us: int, now: Now) -> list[Effect]:
        """MEMB-3: the lease is over, and with it everything that the handler was given."""
        self.workers.end_session(worker)
        self._move(worker, Expired(), now)
        worker.gone_us = now.mono_us + self.settings.away_grace_us
        self.carriage.return_unsent(worker, f"handler {worker.id!r} is lost")
        reason = f"handler {worker.id!r} was silent for {silent_us // 1000} ms"
        runs = self.carriage.vanish(worker, list(worker.leases.values()), reason)
        return [Publish(HandlerLost(worker.id, silent_us, runs))]

    def _forget(self, worker: Worker) -> None:
        """MEMB-12: it has been gone for long enough: nobody waits for it any more."""
        worker.gone_us = None
        if worker.offers:
            worker.offers = ()
            self.changed = True
        self.workers.forget_if_gone(worker)

    # --- registration -----------------------------------------------------------------------------------------

    def _on_hello(self, sender: bytes, hello: Hello, key: str, now: Now) -> list[Effect]:
        closed: Reject | None = None
        match self.state:
            case MembershipState.IDLE | MembershipState.RECOVERING:
                message = "the server does not know yet which runs it has"
                closed = Reject(RejectCode.STARTING, message, self.settings.heartbeat_us // 4)
            case MembershipState.STOPPING:
                closed = Reject(RejectCode.STOPPING, "the server is stopping", self.workers.silence_us())
        return self.registration.on_hello(sender, hello, key, now, closed)

    def _join(self, session: Session, now: Now) -> tuple[Worker, list[Effect]]:
        """The first message of a session: its handler has the Welcome, and so its Hello was no old one."""
        hello = session.hello
        worker = self._known(hello.handler_id, now)
        before, old_until_us = worker.hello, worker.heard_us + self.settings.lease_us
        self.workers.end_session(worker)
        del self.workers.offered[session.call]
        self.workers.sessions[session.id] = (worker, session)
        worker.session, worker.key, worker.hello = session, session.key, hello
        worker.gone_us, worker.heard_us = None, now.mono_us
        offers = offers_of(hello)
        if before is None or worker.offers != offers or before.slots != hello.slots:
            worker.offers = offers
            self.changed = True
        self._move(worker, Joined(), now)
        effects = self.carriage.take_stock(worker, session, before, old_until_us, now)
        self.workers.look_again(worker)
        notice = HandlerRegistered(
            worker.id,
            session.id,
            len(hello.methods),
            hello.slots,
            sum(lease.state is LeaseState.ACCEPTED for lease in worker.leases.values()),
            session.key,
            hello.software,
        )
        return worker, [Publish(notice), *effects]

    def _end_sessions(self, now: Now) -> list[Effect]:
        """MEMB-10: whoever may not speak any more is told so, and heard no more. His runs have their lease."""
        effects: list[Effect] = []
        for worker, session in list(self.workers.sessions.values()):
            why = self.registration.decide_key(session.hello, session.key)
            if not why:
                continue
            reject = Reject(RejectCode.NOT_ALLOWED, why, self.settings.lease_us)
            effects += self._turn_away(session, reject, now)
            if worker is None:
                self.workers.forget_offer(session)
                continue
            self.workers.end_session(worker)
            self._move(worker, Revoked(), now)
            self.carriage.return_unsent(worker, why)
            self.workers.look_again(worker)
        return effects

    def _turn_away(self, session: Session, reject: Reject, now: Now) -> list[Effect]:
        """Tell somebody why his session is none any more."""
        reject = evolve(reject, session=session.id)
        return [Send(session.sender, reject), *self.registration.rejected(session.hello.handler_id, reject, now)]

    # --- messages of sessions ---------------------------------------------------------------------------------

    def _on_received(self, sender: bytes, message: Any, key: str, now: Now) -> list[Effect]:
        """MEMB-1: who speaks is told by his session, and believed from its own address and key only."""
        if isinstance(message, Hello):
            return self._on_hello(sender, message, key, now)
        if not isinstance(message, IN_SESSION):
            return self.registration.complain(type(message).__name__, "it is no message to a server", now)
        known = self.workers.sessions.get(message.session)
        if known is None or known[1].sender != sender or known[1].key != key:
            return self.registration.on_stranger(sender, message, now)
        worker, session = known
        effects: list[Effect] = []
        if worker is None:
            # Others may have joined since it was offered.
            reject = self.registration.decide_place(session.hello, now)
            if reject is not None:
                self.workers.forget_offer(session)
                return self._turn_away(session, reject, now)
            worker, effects = self._join(session, now)
        silent_us, worker.heard_us = now.mono_us - worker.heard_us, now.mono_us
        if worker.state is HandlerState.SUSPECT:
            self._move(worker, Heard(), now)
            # Its next silence is over sooner than the lease that it was watched for.
            self.workers.look_again(worker)
            effects.append(Publish(HandlerHeard(worker.id, silent_us)))
        return effects + self._take(worker, session, message, now)

    def _take(self, worker: Worker, session: Session, message: ToServer, now: Now) -> list[Effect]:
        match message:
            case Results(granted=granted):
                session.granted = max(session.granted, granted)
                return self.carriage.on_results(worker, session, message, now)
            case Accept():
                return self.carriage.on_accept(worker, session, message)
            case Beat(number=number, granted=granted):
                session.beat = max(session.beat, number)
                session.granted = max(session.granted, granted)
                echo = Send(session.sender, Echo(session.id, session.beat, self.ops.term))
                return [echo, *self.carriage.pump(worker, now)]
            case Progress():
                return self.carriage.on_progress(worker, message)
            case Refuse(code=code):
                effects = self._drain(worker, Drain(session.id), now) if code is RefuseCode.DRAINING else []
                return effects + self.carriage.on_refuse(worker, session, message, now)
            case Drain():
                return self._drain(worker, message, now)
            case Bye():
                return self._leave(worker, message, now)
        return []

    def _drain(self, worker: Worker, drain: Drain, now: Now) -> list[Effect]:
        if not allows(HANDLER_MOVES, worker.state, drain):
            return []
        self._move(worker, drain, now)
        self.carriage.return_unsent(worker, f"handler {worker.id!r} is draining")
        self.workers.look_again(worker)
        return [Publish(HandlerDraining(worker.id))]

    def _leave(self, worker: Worker, bye: Bye, now: Now) -> list[Effect]:
        """It executes nothing any more. What it has not reported its next life may bring: that has its lease."""
        self.workers.end_session(worker)
        self._move(worker, bye, now)
        self.carriage.return_unsent(worker, f"handler {worker.id!r} has left")
        worker.gone_us = now.mono_us + self.settings.away_grace_us
        self.workers.look_again(worker)
        return [Publish(HandlerLeft(worker.id, len(worker.leases)))]

    # --- telling ----------------------------------------------------------------------------------------------

    def _move(self, worker: Worker, verdict: object, now: Now) -> None:
        before, worker.state = worker.state, move(HANDLER_MOVES, worker.state, verdict)
        if before is not worker.state:
            worker.since_us = now.utc_us
            self.changed = True

    def _tell(self, now: Now) -> None:
        """Tell what can be executed; many who come and go at once are told at once."""
        if now.mono_us < self.tell_from_us:
            return
        self.changed = False
        open_ = self.state in (MembershipState.OPEN, MembershipState.STOPPING)
        change = self.workers.changed(expecting=not open_ or self.expect_until_us is not None)
        self.tell_from_us = now.mono_us + TELL_EVERY_US + TELL_EACH_US * len(change.methods)
        self.outbox.append(change)
