"""Records of a trace as lines for people: what scenario files keep as their golden traces."""

from datetime import UTC, datetime

from attrs import fields

from sz_protocol.durations import format_duration
from sz_runtime.simulation import facts as f
from sz_runtime.simulation.plan import Plan
from sz_runtime.simulation.rows import number
from sz_runtime.simulation.worker_rendering import render_worker


def render(record: f.Noted, plan: Plan) -> str | None:
    """One line, or None for what nobody wants to read (weights, steps of the plan that stand above their trace)."""
    text = _text(record, plan)
    if text is None:
        return None
    return f"{record.at_us / 1e6:11.6f} {record.node or '-':<6} {text}"


def _text(record: f.Noted, plan: Plan) -> str | None:
    match record:
        case (
            f.Fault()
            | f.Weighed()
            | f.Committed()
            | f.AttemptWritten()
            | f.RunKept()
            | f.ScheduleKept()
            | f.BacklogEnded(endless=False)
        ):
            return None
        case f.MessageSent() | f.MessageDelivered():
            return None
        case f.RunWritten():
            return _run(record)
        case f.CursorMoved():
            end = " and is finished" if record.next_due_us is None else ""
            return f"wrote {record.schedule_id} decided up to {clock(record.cursor_us)}{end}"
        case f.SchedulePut():
            reason = f" ({record.reason})" if record.reason else ""
            return f"wrote {record.schedule_id} rev {record.rev} {record.state}{reason} at {clock(record.cursor_us)}"
        case f.ExecutionStarted() | f.ExecutionEnded() | f.CancelAsked():
            return _execution(record)
        case f.ClockChanged():
            trust = "" if record.trusted else ", untrusted"
            drift = f", {record.drift_ppm:+d} ppm" if record.drift_ppm else ""
            return f"clock moved {signed(record.step_us)}: now wrong by {signed(record.error_us)}{drift}{trust}"
        case _:
            return _plain(record)


def _run(record: f.RunWritten) -> str:
    what = f"{record.schedule_id or record.kind}@{clock(record.fire_us)}"
    if record.count > 1:
        what += f"..{clock(record.until_us)} ({record.count})"
    state = f"{record.outcome} ({record.reason})" if record.outcome else record.state
    if record.outcome == "" and record.reason:
        state += f" ({record.reason})"
    parts = [f"wrote {what} {state}", f"row {number(record.row)}"]
    if record.attempt:
        parts.append(f"attempt {record.attempt}")
    if record.worker and record.state == "leased":
        parts.append(f"for {record.worker}")
    if record.losses:
        parts.append(f"losses {record.losses}")
    if record.covers:
        parts.append("covers " + " ".join(map(clock, record.covers)))
    return ", ".join(parts)


def _execution(record: f.ExecutionStarted | f.ExecutionEnded | f.CancelAsked) -> str:
    row = f"row {number(record.row)}, attempt {record.attempt}"
    match record:
        case f.ExecutionStarted():
            what = f"{record.schedule_id or record.kind}@{clock(record.fire_us)}"
            return f"handler began {what}, {row}"
        case f.ExecutionEnded():
            reason = f" ({record.reason})" if record.reason else ""
            return f"handler {record.how}{reason} {record.schedule_id}, {row}"
        case f.CancelAsked():
            return f"handler asked to stop ({record.reason}), {row}"


def _plain(record: f.Noted) -> str | None:
    """What needs little wording."""
    match record:
        case f.TermTaken(holder=holder, term=term):
            return f"gave term {term} to {holder}"
        case f.NodeStarted(incarnation=incarnation, term=term, utc_us=utc_us):
            return f"started: life {incarnation}, term {term}, its wall clock says {clock(utc_us)}"
        case f.StartFailed(why=why):
            return f"could not start: {why}"
        case f.NodeCrashed(point=point):
            return "crashed" if point == "any" else f"crashed: {point}"
        case f.NodeStopped(why=why):
            return f"stopped: {why}"
        case f.Stalled(kind=kind, until_us=until_us):
            return f"stands still ({kind}) until {until_us / 1e6:.6f}"
        case f.Asked(command=command, schedule_id=about):
            return f"was asked: {command} {about}".rstrip()
        case f.Answered(answer=answer, detail=detail):
            return f"answered: {answer} {detail}".rstrip()
        case f.Told(notice=notice, about=about, detail=detail):
            return " ".join(word for word in ("told", notice, about, detail) if word)
        case f.Failed(writer=writer, op=op, reason=reason, committed=committed):
            return f"refused write {op} of {writer}: {reason}{' (it is durable)' if committed else ''}"
        case f.TransactionLost(writer=writer, op=op, torn=torn):
            return f"lost write {op} of {writer}{' (torn)' if torn else ''}"
        case f.Rewound(to_us=to_us):
            return f"was restored from the copy made at {to_us / 1e6:.6f}"
    if type(record).__module__ != f.__name__:
        return render_worker(record)
    words = [f"{field.name}={getattr(record, field.name)}" for field in fields(type(record))[2:]]
    return " ".join([type(record).__name__, *words])


def clock(utc_us: int) -> str:
    """A wall time, short: the day is known."""
    moment = datetime.fromtimestamp(utc_us // 1_000_000, UTC)
    micros = utc_us % 1_000_000
    return moment.strftime("%H:%M:%S") + (f".{micros:06d}".rstrip("0") if micros else "")


def signed(us: int) -> str:
    """A duration with its sign."""
    return ("-" if us < 0 else "+") + format_duration(abs(us))
