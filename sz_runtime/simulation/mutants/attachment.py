"""Bugs of the handler's side: what is begun, what is reported, and what becomes of it when the line or the process
breaks."""

from typing import Any

from attrs import evolve

from sz_protocol.attaching import Forget
from sz_protocol.kernel.effects import CancelReason
from sz_protocol.machines.attachment import Attachment, AttachmentState
from sz_protocol.machines.handler_session import Session
from sz_protocol.machines.holding import Begin, Holding
from sz_protocol.machines.intake import Intake
from sz_protocol.machines.reporting import Reporting
from sz_protocol.messages import Results
from sz_runtime.simulation.mutants.planting import mutant

NEVER_US = 1 << 60
MORE = 3


def _nothing(original: Any) -> Any:
    return lambda self, *arguments, **named: []


def _never(original: Any) -> Any:
    return lambda self: None


def _forgotten_when_sent(original: Any) -> Any:
    def report(self: Intake, session: Any, now: Any) -> Any:
        effects = original(self, session, now)
        sent = [effect.message for effect in effects if isinstance(getattr(effect, "message", None), Results)]
        return [*effects, *(Forget(tuple((r.row, r.attempt) for r in message.results)) for message in sent)]

    return report


def _end_forgotten(original: Any) -> Any:
    def end(self: Holding, result: Any, incarnation: int) -> Any:
        report = original(self, result, incarnation)
        self.ended.pop(result.row, None)
        return report

    return end


def _one_incarnation(original: Any) -> Any:
    return lambda self, now: evolve(original(self, now), incarnation=1)


def _busy_is_silent(original: Any) -> Any:
    def go_on(self: Attachment, event: Any, now: Any, effects: Any) -> None:
        if self.session is not None and self.session.last_beat and self.intake.holding.executing:
            self.session.beats[self.session.last_beat] = now.mono_us
        original(self, event, now, effects)

    return go_on


def _more_room(original: Any) -> Any:
    return lambda self: original(self) + MORE


def _any_concurrency(original: Any) -> Any:
    return lambda self, info: original(self, evolve(info, concurrency=None))


def _sent_at_once(original: Any) -> Any:
    def file(self: Reporting, report: Any) -> None:
        original(self, report)
        self._clear((report.row, report.attempt), kept=False)

    return file


def _none_restored(original: Any) -> Any:
    return lambda self, reports: None


def _always_fresh(original: Any) -> Any:
    def prove(self: Intake, beat: int, session: Any, now: Any) -> bool:
        original(self, beat, session, now)
        return True

    return prove


def _never_cut_off(original: Any) -> Any:
    return lambda self: NEVER_US


def _all_cut_off(original: Any) -> Any:
    def expire(self: Intake, now: Any) -> Any:
        effects = original(self, now)
        if self.holding.executing and self.cut_off_us() <= now.mono_us:
            effects += self.holding.stop_all(self.holding.executing, CancelReason.CUT_OFF)
        return effects

    return expire


def _beside_the_older(original: Any) -> Any:
    def judge(self: Holding, run: Any) -> Any:
        execution = self.executing.get(run.row)
        if execution is None or run.attempt <= execution.start.attempt:
            return original(self, run)
        del self.executing[run.row]
        return Begin()

    return judge


def _no_grace(original: Any) -> Any:
    def finish_drain(self: Attachment, now: Any, effects: Any) -> None:
        self.leave_until_us = now.mono_us
        original(self, now, effects)

    return finish_drain


def _open_in_drain(original: Any) -> Any:
    def why_not_begin(self: Intake, *rest: Any) -> Any:
        open_, self.open = self.open, True
        code = original(self, *rest)
        self.open = open_
        return code

    return why_not_begin


def _open_for_all(original: Any) -> Any:
    def room(self: Intake) -> int:
        open_, self.open = self.open, True
        free: int = original(self)
        self.open = open_
        return free

    return room


def _never_forgotten(original: Any) -> Any:
    def on_acks(self: Intake, answer: Any, now: Any) -> Any:
        return [effect for effect in original(self, answer, now) if not isinstance(effect, Forget)]

    return on_acks


def _credit_once(original: Any) -> Any:
    return lambda self, room: self.granted or original(self, room)


def _none_overdue(original: Any) -> Any:
    def pop_overdue(self: Holding, now: Any) -> Any:
        original(self, now)
        return []

    return pop_overdue


def _never_turned_away(original: Any) -> Any:
    return lambda self, run: None


def _stop_not_noted(original: Any) -> Any:
    return lambda self, key, now: None


def _lists_nothing(original: Any) -> Any:
    return lambda self: ()


def _session_kept(original: Any) -> Any:
    def let_go(self: Attachment, reason: str, effects: Any) -> None:
        session = self.session
        original(self, reason, effects)
        self.session = session

    return let_go


def _never_silent_meanwhile(original: Any) -> Any:
    def expire(self: Attachment, now: Any, effects: Any) -> None:
        if self.session is not None and self.state is not AttachmentState.ATTACHED:
            self.session.heard_us = now.mono_us
        original(self, now, effects)

    return expire


def _sent_in_vain(original: Any) -> Any:
    def begin_session(self: Reporting) -> None:
        ready = dict(self.ready)
        original(self)
        self.ready = ready

    return begin_session


def _lost_with_the_link(original: Any) -> Any:
    def let_go(self: Attachment, reason: str, effects: Any) -> None:
        if self.session is not None:
            for key in list(self.reporting.under_way):
                self.reporting.settle(key)
        original(self, reason, effects)

    return let_go


def _stops_with_the_link(original: Any) -> Any:
    def let_go(self: Attachment, reason: str, effects: Any) -> None:
        if self.session is not None:
            effects += self.intake.holding.stop_all(self.intake.holding.executing, CancelReason.SHUTDOWN)
        original(self, reason, effects)

    return let_go


ATTACHMENT = (
    mutant(
        "outbox_forgets_what_is_sent",
        "a result leaves the outbox when it is sent, not when it is acknowledged",
        (Intake, "report", _forgotten_when_sent),
    ),
    mutant(
        "outbox_forgets_nothing",
        "a result stays in the outbox when it is acknowledged",
        (Intake, "on_acks", _never_forgotten),
    ),
    mutant("sent_before_it_is_kept", "a result is sent before the outbox has it", (Reporting, "file", _sent_at_once)),
    mutant(
        "outbox_not_read_at_start",
        "a new life does not report what the outbox of the last one holds",
        (Reporting, "restore", _none_restored),
    ),
    mutant(
        "result_sent_once",
        "a result is not sent again, neither after a while nor in a new session",
        (Reporting, "begin_session", _sent_in_vain),
        (Reporting, "_take_back_overdue", _nothing),
        (Reporting, "next_resend_us", _never),
    ),
    mutant(
        "result_lost_with_the_link",
        "results without an answer are forgotten when the connection is lost",
        (Attachment, "_let_go", _lost_with_the_link),
    ),
    mutant(
        "executed_again_when_it_comes_again",
        "a run that has ended is begun again when its Dispatch comes again",
        (Holding, "end", _end_forgotten),
    ),
    mutant(
        "begun_beside_an_older_attempt",
        "a newer attempt does not wait for the end of the older one",
        (Holding, "judge", _beside_the_older),
    ),
    mutant("incarnation_not_renewed", "each life says that it is the first", (Attachment, "_hello", _one_incarnation)),
    mutant(
        "no_heartbeat_while_executing",
        "a worker that executes something sends no heartbeats",
        (Attachment, "_go_on", _busy_is_silent),
    ),
    mutant("stop_ignored", "a worker does not stop what it is told to", (Intake, "on_stop", _nothing)),
    mutant(
        "stop_before_dispatch_forgotten",
        "a run whose Stop came before its Dispatch is begun",
        (Session, "stop_early", _stop_not_noted),
    ),
    mutant(
        "more_than_its_slots",
        "a worker takes more runs than it has slots, and than their method allows",
        (Holding, "room", _more_room),
        (Holding, "is_full", _any_concurrency),
    ),
    mutant(
        "stale_dispatch_begun",
        "a run is begun although the lease under which it was sent is over",
        (Intake, "prove", _always_fresh),
    ),
    mutant(
        "refused_then_begun",
        "a run that was refused is begun when it comes again",
        (Session, "turned_away", _never_turned_away),
    ),
    mutant(
        "session_outlives_its_hello",
        "what is sent in the old session counts while a new one is asked for",
        (Attachment, "_let_go", _session_kept),
        (Attachment, "_expire", _never_silent_meanwhile),
    ),
    mutant(
        "exclusive_not_cut_off",
        "an exclusive run goes on when its worker is cut off",
        (Intake, "cut_off_us", _never_cut_off),
    ),
    mutant(
        "everything_cut_off",
        "whatever a worker executes is stopped when it is cut off",
        (Intake, "expire", _all_cut_off),
    ),
    mutant(
        "stopped_with_the_link",
        "whatever a worker executes is stopped when its session ends",
        (Attachment, "_let_go", _stops_with_the_link),
    ),
    mutant(
        "drain_leaves_at_once",
        "a worker that drains does not wait for what it executes",
        (Attachment, "_finish_drain", _no_grace),
    ),
    mutant(
        "drain_takes_more",
        "a worker that drains begins what still comes",
        (Intake, "_why_not_begin", _open_in_drain),
        (Intake, "room", _open_for_all),
    ),
    mutant(
        "credit_given_once", "a worker grants credit for its slots once in a session", (Session, "grant", _credit_once)
    ),
    mutant(
        "timeout_left_to_the_server",
        "a worker does not stop what is overdue",
        (Holding, "pop_overdue", _none_overdue),
    ),
    mutant("executing_not_listed", "a Hello does not say what executes", (Holding, "held", _lists_nothing)),
    mutant("results_not_listed", "a Hello does not say which results wait", (Reporting, "held", _lists_nothing)),
)
