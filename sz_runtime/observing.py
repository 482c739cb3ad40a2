"""Notices as log lines. One place that says how loud each is."""

import structlog

from sz_protocol.notices import (
    Attached,
    AttachRefused,
    AttemptFailed,
    ClockStepped,
    ComponentChanged,
    Detached,
    HandlerDraining,
    HandlerHeard,
    HandlerLeft,
    HandlerLost,
    HandlerRegistered,
    HandlerRejected,
    HandlerSuspect,
    Ignored,
    NodeFailed,
    Notice,
    OutboxRecovered,
    OutboxTroubled,
    ResultsLeft,
    RunProgressed,
    RunsRecorded,
    RunUnresponsive,
    ScheduleParked,
    ScheduleQuarantined,
    ScheduleUnparked,
    SteppedDown,
    StoreRecovered,
    StoreTroubled,
    TrustChanged,
)
from sz_protocol.records import Outcome, Run, RunState

BAD = {Outcome.FAILED, Outcome.LOST, Outcome.MISSED}


class LogObserver:
    """Writes every notice to structlog; outcomes that a person should see are warnings, routine ones are debug."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("schedulezero")

    def __call__(self, notice: Notice) -> None:
        """Take one notice."""
        log = self._log
        match notice:
            case RunsRecorded(runs=runs):
                for run in runs:
                    if run.outcome in BAD:
                        self._log_bad(run)
            case AttemptFailed(schedule_id=id_, attempt=attempt, reason=reason, error=error):
                log.warning("attempt_failed", schedule=id_, attempt=attempt, reason=reason, error=first_line(error))
            case ScheduleParked(schedule_id=id_, reason=reason):
                log.warning("schedule_parked", schedule=id_, reason=reason)
            case ScheduleUnparked(schedule_id=id_):
                log.info("schedule_unparked", schedule=id_)
            case ScheduleQuarantined(schedule_id=id_, reason=reason):
                log.error("schedule_quarantined", schedule=id_, reason=reason)
            case StoreTroubled(reason=reason, detail=detail):
                log.error("store_failing", reason=reason, detail=detail, meanwhile="nothing new fires; results wait")
            case StoreRecovered(after_us=after_us):
                log.info("store_recovered", after_s=round(after_us / 1e6, 3))
            case ClockStepped(step_us=step_us, held=held):
                log.warning("clock_stepped", step_s=round(step_us / 1e6, 3), due_times_wait=held)
            case TrustChanged(trusted=trusted):
                meanwhile = {} if trusted else {"meanwhile": "only interval schedules fire"}
                log.warning("clock_trusted" if trusted else "clock_not_trusted", **meanwhile)
            case RunUnresponsive(schedule_id=id_, row=row, attempt=attempt):
                log.error("run_would_not_stop", schedule=id_, row=row, attempt=attempt)
            case RunProgressed(row=row, attempt=attempt, note=note, percent=percent, worker=worker):
                log.debug("run_progress", row=row, attempt=attempt, note=note, percent=percent, handler=worker)
            case SteppedDown(term=term):
                log.critical("stepped_down", term=term, because="another process took the store")
            case ComponentChanged():
                self._log_component(notice)
            case NodeFailed(component=component, reason=reason):
                log.critical("node_failed", component=component, reason=reason, meanwhile="everything else is stopped")
            case Ignored(what=what, reason=reason):
                log.info("ignored", what=what, reason=reason)
            case Attached() | AttachRefused() | Detached() | OutboxTroubled() | OutboxRecovered() | ResultsLeft():
                self._log_attachment(notice)
            case _:
                self._log_handler(notice)

    def _log_attachment(self, notice: Notice) -> None:
        """A handler's process finds its server, and loses it."""
        log = self._log
        match notice:
            case Attached(session=session, methods=methods, held=held):
                log.info("registered", session=session, methods=", ".join(methods), held_runs=held)
            case AttachRefused(code=code, message=message, again_us=again_us):
                log.warning("rejected", code=code, reason=message, again_in_s=round(again_us / 1e6, 1))
            case Detached(reason=reason, executing=executing, unreported=unreported):
                log.warning("server_lost", reason=reason, executing=executing, unreported=unreported)
            case OutboxTroubled(detail=detail, waiting=waiting):
                log.error("outbox_failing", detail=detail, results=waiting, meanwhile="they are reported from memory")
            case OutboxRecovered():
                log.info("outbox_recovered")
            case ResultsLeft(kept=kept, lost=lost):
                write = log.error if lost else log.warning
                write("results_unreported", kept_for_the_next_start=kept, lost=lost)

    def _log_handler(self, notice: Notice) -> None:
        """Remote handlers come and go."""
        log = self._log
        match notice:
            case HandlerRegistered(handler_id=id_, methods=methods, slots=slots, adopted=adopted, key=key):
                log.info("handler_registered", handler=id_, methods=methods, slots=slots, adopted=adopted, key=key)
            case HandlerRejected(handler_id=id_, code=code, message=message):
                log.warning("handler_rejected", handler=id_, code=code, reason=message)
            case HandlerSuspect(handler_id=id_, silent_us=silent_us):
                log.warning("handler_silent", handler=id_, silent_s=round(silent_us / 1e6, 3), gets="nothing new")
            case HandlerHeard(handler_id=id_, silent_us=silent_us):
                log.info("handler_heard_again", handler=id_, silent_s=round(silent_us / 1e6, 3))
            case HandlerLost(handler_id=id_, silent_us=silent_us, runs=runs):
                log.error("handler_lost", handler=id_, silent_s=round(silent_us / 1e6, 3), runs=runs)
            case HandlerDraining(handler_id=id_):
                log.info("handler_draining", handler=id_)
            case HandlerLeft(handler_id=id_, runs=runs):
                log.info("handler_left", handler=id_, unreported_runs=runs)

    def _log_component(self, change: ComponentChanged) -> None:
        fields = {"component": change.name, **({"reason": change.reason} if change.reason else {})}
        match change.state:
            case "failed" | "stuck":
                self._log.error(f"component_{change.state}", **fields)
            case "backing_off" | "cancelling":
                self._log.warning(f"component_{change.state}", **fields)
            case "running" | "stopped":
                self._log.info(f"component_{change.state}", **fields)
            case _:
                self._log.debug(f"component_{change.state}", **fields)

    def _log_bad(self, run: Run) -> None:
        assert run.state is RunState.DONE, "an outcome is the end"
        self._log.warning(
            "run_" + str(run.outcome),
            schedule=run.schedule_id,
            fire_us=run.fire_us,
            reason=run.reason,
            attempt=run.attempt,
            instants=run.count,
            error=first_line(run.error),
        )


def first_line(text: str | None) -> str | None:
    """The first line of an error text, for logs; the whole stands in the ledger."""
    return text.partition("\n")[0] if text else None
