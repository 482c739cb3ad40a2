"""What a handler makes of the runs that a server sends: begun, adopted, answered or refused; and what it says of them.
Part of attachment.

ATT-2 an attempt is executed once in a life. ATT-4 what is stale is refused. ATT-7 an exclusive run ends before its
lease.
"""

from attrs import Factory, define

from sz_protocol.attaching import AttachmentSettings, Effect, Forget, Identity, Key
from sz_protocol.kernel.effects import CancelReason, Publish, Send, StartRun, StartRuns
from sz_protocol.kernel.events import MethodInfo, RunResult, RunsProgressed
from sz_protocol.kernel.now import SECOND_US, Now
from sz_protocol.machines.handler_session import Session
from sz_protocol.machines.holding import NEVER, Adopt, Answer, Begin, Drop, Holding, TurnAway
from sz_protocol.machines.reporting import MOST_TOGETHER, Reporting
from sz_protocol.messages import (
    Accept,
    AckCode,
    Dispatch,
    DispatchedRun,
    Progress,
    Refuse,
    RefuseCode,
    ResultAck,
    Results,
    RunRef,
    Stop,
)
from sz_protocol.notices import Ignored

SERVER = b""
"""The one peer of this side."""


@define
class Intake:
    """`offer` is what can be executed here, by method (None: not known yet). Nothing is taken once it is not `open`.
    `proven_us` is when the last message was sent of which we know that the server heard it: leases run from there.
    `owed` are the runs that were taken and not accepted yet, since `owed_us`."""

    identity: Identity
    settings: AttachmentSettings
    holding: Holding = Factory(lambda self: Holding(self.identity.slots), takes_self=True)
    reporting: Reporting = Factory(lambda self: Reporting(self.settings), takes_self=True)
    offer: dict[str, MethodInfo] | None = None
    open: bool = True
    lease_us: int = 10 * SECOND_US
    proven_us: int = 0
    owed: dict[Key, RunRef] = Factory(dict)
    owed_us: int = 0

    def room(self) -> int:
        """How many more runs may come: none while draining, or while too many results wait."""
        if not self.open:
            return 0
        return min(self.holding.room(), max(0, self.settings.backlog - len(self.reporting.files)))

    def cut_off_us(self) -> int:
        """When exclusive runs have to be told to stop, so that they have ended when their lease is over (ATT-7)."""
        return self.proven_us + self.lease_us - self.lease_us // self.settings.margin_share

    def expire(self, now: Now) -> list[Effect]:
        """Stop what is overdue, and what is cut off."""
        holding = self.holding
        effects: list[Effect] = []
        for row, attempt in holding.pop_overdue(now):
            effects += holding.stop(row, attempt, CancelReason.TIMEOUT)
        if holding.exclusive and self.cut_off_us() <= now.mono_us:
            effects += holding.stop_all(holding.exclusive, CancelReason.CUT_OFF)
        holding.forget(now)
        return effects

    def prove(self, beat: int, session: Session, now: Now) -> bool:
        """The server has heard this beat; False when that says nothing, since the beat is older than a lease, or none
        of ours."""
        sent_us = session.when_sent(beat, now)
        if sent_us is not None:
            self.proven_us = max(self.proven_us, sent_us)
        return sent_us is not None

    # --- what the server sends --------------------------------------------------------------------------------

    def on_dispatch(self, dispatch: Dispatch, session: Session, now: Now) -> list[Effect]:
        """Answer for every run of it: an Accept or a Refuse, a result, or a word about an old copy."""
        fresh = self.prove(dispatch.beat, session, now)
        effects: list[Effect] = []
        starts: list[StartRun] = []
        for run in dispatch.runs:
            session.note(run, now)
            match self.holding.judge(run):
                case Begin():
                    code = self._why_not_begin(run, fresh, session, now)
                    if code is None:
                        assert self.offer is not None, "ATT-2: only what is offered begins"
                        starts.append(self.holding.begin(run, self.offer[run.method], now))
                        self._owe(run, now)
                    else:
                        effects += _turn_away(run, code, session)
                case Adopt():
                    self.holding.adopt(run)
                    self._owe(run, now)
                case Answer(key=key):
                    if not self.reporting.say_again(key, run.fence, run.delivery):
                        effects.append(Publish(Ignored(_name(run), "its result was acknowledged already")))
                case Drop(reason=reason):
                    effects.append(Publish(Ignored(_name(run), reason)))
                case TurnAway(code=code, stop=stop):
                    effects += self.holding.stop(*stop, CancelReason.SUPERSEDED)
                    effects += _turn_away(run, code, session)
        if starts:
            # First of all: one of the others may be the order to stop what has just begun.
            effects.insert(0, StartRuns(tuple(starts)))
        return effects

    def _owe(self, run: DispatchedRun, now: Now) -> None:
        if not self.owed:
            self.owed_us = now.mono_us
        self.owed[run.row, run.attempt] = _ref(run)

    @property
    def accept_due_us(self) -> int | None:
        """When what is owed has to be accepted. Until then its result may come, and says it all."""
        if not self.owed:
            return None
        return self.owed_us + (self.settings.accept_us if len(self.owed) < MOST_TOGETHER else 0)

    def accept(self, session: Session, now: Now) -> list[Effect]:
        """One Accept for all that is owed, once it is due."""
        due_us = self.accept_due_us
        if due_us is None or due_us > now.mono_us:
            return []
        taken = tuple(self.owed.values())
        self.owed.clear()
        return [Send(SERVER, Accept(session.number, taken))]

    def report(self, session: Session, now: Now) -> list[Effect]:
        """Results that are to be sent now."""
        effects: list[Effect] = []
        for reports in self.reporting.send(now):
            for report in reports:
                self.owed.pop((report.row, report.attempt), None)
            effects.append(Send(SERVER, Results(session.number, session.grant(self.room()), reports)))
        return effects

    def _why_not_begin(self, run: DispatchedRun, fresh: bool, session: Session, now: Now) -> RefuseCode | None:
        before = session.turned_away(run)
        if before is not None:
            return before
        if not self.open:
            return RefuseCode.DRAINING
        if not fresh or (run.exclusive and self.cut_off_us() <= now.mono_us):
            return RefuseCode.STALE
        info = (self.offer or {}).get(run.method)
        if info is None:
            return RefuseCode.UNKNOWN_METHOD
        # A result of another ledger's run may wait under the same numbers.
        is_waited_for = (run.row, run.attempt) in self.reporting.files
        return RefuseCode.BUSY if is_waited_for or not self.room() or self.holding.is_full(info) else None

    def on_stop(self, stop: Stop, session: Session, now: Now) -> list[Effect]:
        """Stop what executes. What is still to come must not begin; what has ended is told by its result."""
        key = stop.row, stop.attempt
        if self.holding.executes(key):
            return list(self.holding.stop(*key, stop.reason))
        if self.holding.ended.get(stop.row, NEVER)[0] < stop.attempt:
            session.stop_early(key, now)
        return []

    def on_acks(self, answer: ResultAck, now: Now) -> list[Effect]:
        """Let go of results that the server has (ATT-5)."""
        effects: list[Effect] = []
        forgotten: list[tuple[int, int]] = []
        for ack in answer.acks:
            key = ack.row, ack.attempt
            problem = self.reporting.settle(key)
            if not problem:
                forgotten.append(key)
                self.holding.fade(key, now.mono_us + self.lease_us)
            elif ack.code is not AckCode.DUPLICATE:
                effects.append(Publish(Ignored(f"ack of row {ack.row}, attempt {ack.attempt}", problem)))
        if forgotten:
            effects.append(Forget(tuple(forgotten)))
        return effects

    # --- what the executor says -------------------------------------------------------------------------------

    def on_results(self, results: tuple[RunResult, ...]) -> list[Effect]:
        """Executions have ended: their results go their way."""
        effects: list[Effect] = []
        for result in results:
            report = self.holding.end(result, self.identity.incarnation)
            if report is None:
                what = f"result of row {result.row}, attempt {result.attempt}"
                effects.append(Publish(Ignored(what, "it does not execute here")))
            else:
                self.reporting.file(report)
        return effects

    def on_progress(self, event: RunsProgressed, session: Session | None) -> list[Effect]:
        """Told to the server while there is one: the next word will say more."""
        effects: list[Effect] = []
        for progress in event.progress if session is not None else ():
            execution = self.holding.executing.get(progress.row)
            if session is not None and execution is not None and execution.start.attempt == progress.attempt:
                ref = RunRef(progress.row, progress.attempt, execution.delivery)
                effects.append(Send(SERVER, Progress(session.number, ref, progress.note, progress.percent)))
        return effects


def _turn_away(run: DispatchedRun, code: RefuseCode, session: Session) -> list[Effect]:
    session.turn_away(run, code)
    refusal = Send(SERVER, Refuse(session.number, _ref(run), code))
    return [refusal, Publish(Ignored(_name(run), f"refused: {code}"))]


def _ref(run: DispatchedRun) -> RunRef:
    return RunRef(run.row, run.attempt, run.delivery)


def _name(run: DispatchedRun) -> str:
    return f"dispatch of row {run.row}, attempt {run.attempt}"
