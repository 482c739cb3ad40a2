"""The handler's side of a remote handler: registers with a server, executes what it sends, reports what came of it.

Rules: specs/remote.md. ATT-1 it calls for ever. ATT-2 an attempt executes once. ATT-3 a newer attempt waits for the end
of the older one. ATT-4 what is stale is refused. ATT-5 results are kept before they are sent. ATT-6 credit never
shrinks. ATT-7 an exclusive run ends before its lease. ATT-8 a drain is orderly. ATT-9 nothing that arrives raises.
"""

from enum import Enum, auto
from random import Random
from typing import Final

from attrs import Factory, define

from sz_protocol.attaching import (
    AttachmentSettings,
    Effect,
    Event,
    Identity,
    KeepFailed,
    Kept,
    WorkerStarted,
    offer_of,
)
from sz_protocol.kernel.effects import CancelReason, Publish, Send, Stop
from sz_protocol.kernel.events import (
    Garbled,
    HandlersChanged,
    LinkChanged,
    MethodInfo,
    Received,
    RunsFinished,
    RunsProgressed,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.moves import Moves, move
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.kernel.record import record
from sz_protocol.machines.handler_session import Calling, Session, why_not
from sz_protocol.machines.intake import SERVER, Intake
from sz_protocol.machines.reporting import Reporting
from sz_protocol.messages import (
    HANDLER_PROTO,
    Bye,
    Dispatch,
    Drain,
    Echo,
    Hello,
    OfferedMethod,
    Reject,
    ResultAck,
    RunReport,
    ToServer,
    Welcome,
)
from sz_protocol.messages import Stop as StopRun
from sz_protocol.notices import Attached, AttachRefused, Detached, Ignored, ResultsLeft


class AttachmentState(Enum):
    """IDLE before the start. DOWN has no link. CALLING says Hello and has let go of what was before. ATTACHED has a
    session. STOPPED orders nothing more."""

    IDLE = auto()
    DOWN = auto()
    CALLING = auto()
    ATTACHED = auto()
    STOPPED = auto()


@record
class LinkUp:
    """Verdict: there is a connection, with nothing said on it yet."""


@record
class LinkDown:
    """Verdict: there is none."""


@record
class Silence:
    """Verdict: the server was not heard for a lease."""


@record
class OfferChanged:
    """Verdict: other methods are to be registered."""


@record
class Drained:
    """Verdict: nothing executes, and what can be reported is."""


S = AttachmentState

MOVES: Moves[AttachmentState] = {
    (S.IDLE, WorkerStarted): S.DOWN,
    (S.DOWN, LinkUp): S.CALLING,
    (S.CALLING, LinkUp): S.CALLING,
    (S.ATTACHED, LinkUp): S.CALLING,
    (S.DOWN, LinkDown): S.DOWN,
    (S.CALLING, LinkDown): S.DOWN,
    (S.ATTACHED, LinkDown): S.DOWN,
    (S.CALLING, Welcome): S.ATTACHED,
    (S.CALLING, Reject): S.CALLING,
    (S.ATTACHED, Reject): S.CALLING,
    (S.ATTACHED, Silence): S.CALLING,
    (S.CALLING, OfferChanged): S.CALLING,
    (S.ATTACHED, OfferChanged): S.CALLING,
    (S.DOWN, Drained): S.STOPPED,
    (S.CALLING, Drained): S.STOPPED,
    (S.ATTACHED, Drained): S.STOPPED,
}


# Bound once, as in records.py: looked at with every event.
_IDLE: Final = S.IDLE
_CALLING: Final = S.CALLING
_STOPPED: Final = S.STOPPED
_BACKLOG: Final = WakeReason.BACKLOG
_DEADLINE: Final = WakeReason.DEADLINE


@define
class Attachment:
    """One life of one handler. `rng` draws the jitter; its incarnation stands in `identity`.

    `link_up` is what was said last of the connection.
    """

    identity: Identity
    rng: Random
    settings: AttachmentSettings = Factory(AttachmentSettings)
    state: AttachmentState = S.IDLE
    calling: Calling = Factory(lambda self: Calling(self.settings, self.rng), takes_self=True)
    session: Session | None = None
    intake: Intake = Factory(lambda self: Intake(self.identity, self.settings), takes_self=True)
    link_up: bool = False
    drain_until_us: int | None = None
    leave_until_us: int | None = None

    # --- the interface ----------------------------------------------------------------------------------------

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Expire what is over, take one fact, then keep, say and report what is due."""
        if self.state is _STOPPED:
            return []
        effects: list[Effect] = []
        # Expire first: a late message must not revive a lease that is over.
        self._expire(now, effects)
        self._on_event(event, now, effects)
        if self.state is not _IDLE:
            self._go_on(event, now, effects)
        return effects

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """The first deadline, beat, Hello or repetition."""
        if self.state is _IDLE or self.state is _STOPPED:
            return None
        intake, session = self.intake, self.session
        reporting, holding = intake.reporting, intake.holding
        accept_us = intake.accept_due_us
        if accept_us is not None and accept_us <= now.mono_us:
            return Wakeup(now.mono_us, _BACKLOG)
        if reporting.has_backlog(now, attached=session is not None):
            return Wakeup(now.mono_us, _BACKLOG)
        waits = [self.drain_until_us, self.leave_until_us]
        if holding.deadlines:
            waits.append(holding.next_deadline_us())
        if reporting.failures:
            waits.append(reporting.next_keep_us())
        if holding.exclusive and any(holding.executing[row].asked is None for row in holding.exclusive):
            waits.append(intake.cut_off_us())
        if session is not None:
            waits += [session.next_beat_us, session.silent_us, accept_us]
            if reporting.under_way:
                waits.append(reporting.next_resend_us())
        elif self.state is _CALLING and intake.offer is not None:
            waits.append(self.calling.due_us)
        known = [at for at in waits if at is not None]
        return Wakeup(max(min(known), now.mono_us + 1), _DEADLINE) if known else None

    @property
    def reporting(self) -> Reporting:
        """The results that wait."""
        return self.intake.reporting

    def _on_event(self, event: Event, now: Now, effects: list[Effect]) -> None:
        match event:
            case Woke():
                pass
            case Received(message=message):
                self._on_message(message, now, effects)
            case WorkerStarted(kept=kept):
                self._on_started(kept, now, effects)
            case LinkChanged(up=up):
                self._on_link(up, now, effects)
            case Garbled(problem=problem):
                effects.append(Publish(Ignored("frame", problem)))
            case HandlersChanged(methods=methods):
                self._on_handlers(methods, now, effects)
            case RunsFinished(results=results):
                effects += self.intake.on_results(results)
            case RunsProgressed():
                effects += self.intake.on_progress(event, self.session)
            case Kept():
                effects += self.reporting.on_kept(event)
            case KeepFailed():
                effects += self.reporting.on_keep_failed(event, now)
            case StopRequested(grace_us=grace_us):
                self._on_stop_requested(grace_us, now, effects)

    # --- the life of this side --------------------------------------------------------------------------------

    def _on_started(self, kept: tuple[RunReport, ...], now: Now, effects: list[Effect]) -> None:
        self.state = move(MOVES, self.state, WorkerStarted())
        self.reporting.restore(kept)
        for report in kept:
            self.intake.holding.recall(report)
        if self.link_up:
            self._on_link(True, now, effects)

    def _on_link(self, up: bool, now: Now, effects: list[Effect]) -> None:
        self.link_up = up
        if self.state is S.IDLE:
            return
        verdict = LinkUp() if up else LinkDown()
        self._let_go("the connection was lost" if not up else "the connection is a new one", effects)
        self.state = move(MOVES, self.state, verdict)
        if up:
            self.calling.begin(now)

    def _on_handlers(self, methods: tuple[MethodInfo, ...], now: Now, effects: list[Effect]) -> None:
        before = self.intake.offer
        self.intake.offer, _ = offer_of(methods, self.identity.handler_id)
        if before is None or _registered(before) == _registered(self.intake.offer):
            return
        if self.state in (S.CALLING, S.ATTACHED):
            # What is sent in the present session from here on will not be begun: the next Hello does not name it.
            self._let_go("other methods are here now", effects)
            self.state = move(MOVES, self.state, OfferChanged())
            self.calling.begin(now)

    def _on_stop_requested(self, grace_us: int, now: Now, effects: list[Effect]) -> None:
        until_us = now.mono_us + max(grace_us, 0)
        if self.leave_until_us is None:
            first, self.intake.open = self.intake.open, False
            self.drain_until_us = min(until_us, until_us if self.drain_until_us is None else self.drain_until_us)
            if first and self.session is not None:
                effects.append(Send(SERVER, Drain(self.session.number)))
        if grace_us <= 0:
            self._expire(now, effects)

    # --- deadlines --------------------------------------------------------------------------------------------

    def _expire(self, now: Now, effects: list[Effect]) -> None:
        effects += self.intake.expire(now)
        session = self.session
        if session is not None:
            if session.silent_us <= now.mono_us:
                self._let_go("it was not heard for a lease", effects)
                self.state = move(MOVES, self.state, Silence())
                self.calling.begin(now)
            else:
                session.forget(now)
        if self.drain_until_us is not None and self.drain_until_us <= now.mono_us:
            self.drain_until_us = None
            self.leave_until_us = now.mono_us + self.settings.leave_us
            holding = self.intake.holding
            effects += holding.stop_all(holding.executing, CancelReason.SHUTDOWN)

    # --- what follows -----------------------------------------------------------------------------------------

    def _go_on(self, event: Event, now: Now, effects: list[Effect]) -> None:
        # Results are kept and sent when everything that came with them has been taken: together.
        together = isinstance(event, Woke)
        if together and self.reporting.unkept:
            effects += self.reporting.keep(now)
        if self.state is _CALLING and self.intake.offer is not None and self.calling.due_us <= now.mono_us:
            self._say(self._hello(now), effects)
        session = self.session
        if session is not None:
            if together:
                effects += self.intake.report(session, now)
                effects += self.intake.accept(session, now)
            if session.next_beat_us <= now.mono_us:
                self._say(session.beat(self.intake.room(), now), effects)
        if not self.intake.open:
            self._finish_drain(now, effects)

    def _hello(self, now: Now) -> Hello:
        assert self.intake.offer is not None, "a Hello says what can be executed here"
        identity = self.identity
        return Hello(
            handler_id=identity.handler_id,
            incarnation=identity.incarnation,
            nonce=self.calling.say(now),
            proto_min=HANDLER_PROTO,
            proto_max=HANDLER_PROTO,
            methods=tuple(OfferedMethod(name, info.concurrency) for name, info in self.intake.offer.items()),
            slots=identity.slots,
            tags=identity.tags,
            executing=self.intake.holding.held(),
            unacked=self.reporting.held(),
            software=identity.software,
        )

    def _finish_drain(self, now: Now, effects: list[Effect]) -> None:
        """ATT-8: STOPPED once nothing executes and what can be reported is, or when all graces are over. Without a
        session there is nobody to report to; what an outbox keeps can wait for the next life."""
        files = self.reporting.files.values()
        safe = self.identity.durable and all(filed.kept for filed in files)
        over = self.leave_until_us is not None and self.leave_until_us <= now.mono_us
        if not over and (self.intake.holding.executing or (files and not (safe and self.session is None))):
            return
        if self.session is not None:
            self._say(Bye(self.session.number), effects)
        if files:
            kept = sum(filed.kept for filed in files) if self.identity.durable else 0
            effects.append(Publish(ResultsLeft(kept, len(files) - kept)))
        self.session = None
        self.state = move(MOVES, self.state, Drained())
        effects.append(Stop())

    def _let_go(self, reason: str, effects: list[Effect]) -> None:
        """The session is over for us: what still comes of it counts no more."""
        if self.session is not None:
            self.session = None
            self.intake.owed.clear()
            effects.append(Publish(Detached(reason, len(self.intake.holding.executing), len(self.reporting.files))))

    def _say(self, message: ToServer, effects: list[Effect]) -> None:
        effects.append(Send(SERVER, message))

    # --- what the server says ---------------------------------------------------------------------------------

    def _on_message(self, message: object, now: Now, effects: list[Effect]) -> None:
        match message:
            case Welcome():
                self._on_welcome(message, now, effects)
                return
            case Reject():
                self._on_reject(message, now, effects)
                return
            case Echo() | Dispatch() | ResultAck() | StopRun():
                pass
            case _:
                effects.append(Publish(Ignored(type(message).__name__, "it is no message for a handler")))
                return
        session = self.session
        if session is None or message.session != session.number:
            effects.append(
                Publish(Ignored(type(message).__name__, f"session {message.session} is not the present one"))
            )
            return
        session.heard_us = now.mono_us
        match message:
            case Echo(number=number):
                self.intake.prove(number, session, now)
                self.calling.tries = 0
            case Dispatch():
                effects += self.intake.on_dispatch(message, session, now)
            case ResultAck():
                effects += self.intake.on_acks(message, now)
            case StopRun():
                effects += self.intake.on_stop(message, session, now)

    def _on_welcome(self, welcome: Welcome, now: Now, effects: list[Effect]) -> None:
        if self.state is not S.CALLING or not 0 < welcome.nonce == self.calling.open:
            effects.append(Publish(Ignored("Welcome", f"it answers Hello {welcome.nonce}, which is not open")))
            return
        problem = why_not(welcome, HANDLER_PROTO)
        if problem:
            effects.append(Publish(Ignored("Welcome", problem)))
            return
        self.state = move(MOVES, self.state, welcome)
        self.session = Session.begin(welcome, self.calling.said_us, now)
        self.intake.lease_us = welcome.lease_us
        self.intake.proven_us = max(self.intake.proven_us, self.calling.said_us)
        self.reporting.begin_session()
        held = len(self.intake.holding.executing) + len(self.reporting.files)
        effects.append(Publish(Attached(welcome.session, welcome.lease_us, tuple(self.intake.offer or ()), held)))
        if not self.intake.open:
            self._say(Drain(welcome.session), effects)

    def _on_reject(self, reject: Reject, now: Now, effects: list[Effect]) -> None:
        session = self.session
        answers_hello = self.state is S.CALLING and 0 < reject.nonce == self.calling.open
        ends_session = session is not None and reject.nonce == 0 and reject.session == session.number
        if not answers_hello and not ends_session:
            effects.append(Publish(Ignored("Reject", f"{reject.code}, which answers nothing that is open")))
            return
        self._let_go(f"it ended the session: {reject.code}", effects)
        self.state = move(MOVES, self.state, reject)
        self.calling.begin(now, reject.retry_us)
        again_us = self.calling.due_us - now.mono_us
        effects.append(Publish(AttachRefused(reject.code, reject.message, again_us)))


def _registered(offer: dict[str, MethodInfo] | None) -> dict[str, int | None]:
    """An offer as far as the server knows it."""
    return {name: info.concurrency for name, info in (offer or {}).items()}
