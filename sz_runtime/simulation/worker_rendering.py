"""Facts about workers as lines for people. Heartbeats are left out: what they bring about is told anyway."""

from sz_runtime.simulation import worker_facts as f
from sz_runtime.simulation.facts import Noted
from sz_runtime.simulation.rows import number

SILENT = ("beat", "echo")


def render_worker(record: Noted) -> str | None:
    """What a person wants to read; None for nothing."""
    match record:
        case f.Said(kind=kind) if kind in SILENT:
            return None
        case f.Said():
            return f"said {record.kind} to {record.to}{_runs(record)}"
        case f.Unsaid(kind=kind, why=why):
            return f"could not say {kind}: {why}"
        case f.WorkerStarted(incarnation=incarnation, kept=kept):
            return f"started: life {incarnation}, {len(kept)} results in its outbox{_keys(kept)}"
        case f.WorkerCrashed(point=point):
            return "crashed" if point == "any" else f"crashed: {point}"
        case f.WorkerStopped():
            return "stopped: drained"
        case f.LinkUp(to=to, connection=connection):
            return f"connected to {to} ({connection})"
        case f.LinkDown(to=to, connection=connection, why=why):
            return f"lost its connection to {to} ({connection}): {why}"
        case f.HandlerSeen(handler_id=handler_id, what=what, code=code):
            return f"handler {handler_id} is {what}{f' ({code})' if code else ''}"
        case f.KeysSet(handlers=handlers):
            return f"was told whose keys are allowed: {' '.join(handlers) or 'nobody'}"
        case f.Mischief(sender=sender, kind=kind):
            return f"gets {kind} as from {sender}"
    return _outbox(record)


def _outbox(record: Noted) -> str | None:
    match record:
        case f.ResultsKept(runs=runs):
            return f"outbox keeps{_keys(runs)}"
        case f.KeepRefused(runs=runs, why=why):
            return f"outbox cannot keep{_keys(runs)}: {why}"
        case f.ResultsForgotten(runs=runs):
            return f"outbox forgets{_keys(runs)}"
        case f.ResultsLost(runs=runs):
            return f"outbox lost{_keys(runs)}"
    return None


def _runs(said: f.Said) -> str:
    words = said.words if len(said.words) == len(said.runs) else ("",) * len(said.runs)
    runs = [
        f"row {number(row)}, attempt {attempt}" + (f", delivery {number(delivery)}" if delivery else "") + _word(word)
        for (row, attempt, delivery, _), word in zip(said.runs, words, strict=True)
    ]
    if said.kind == "reject":
        return f" ({said.words[0]})"
    return f": {'; '.join(runs)}" if runs else ""


def _word(word: str) -> str:
    return f", {word}" if word else ""


def _keys(keys: f.Keys) -> str:
    return "".join(f"; row {number(row)}, attempt {attempt}" for row, attempt in keys)
