"""What execution has asked of the store and what came of it. Sees to it that a result is written however long the
store is away, and that an unknown outcome is looked up before anything else happens.

RUN-4 nothing starts before its claim is durable. RUN-5 a result is kept until it is durable, or until the store says
that its run is over. Part of execution.
"""

from collections import deque

from attrs import Factory, define, evolve

from sz_protocol.changes import Change, CursorMove, InsertAttempts, InsertRuns, MoveCursors, UpdateRuns
from sz_protocol.kernel.effects import Effect, Publish, Read, Write
from sz_protocol.kernel.events import Event, FailReason, ReadDone, ReadFailed, Woke, WriteDone, WriteFailed
from sz_protocol.kernel.now import Now
from sz_protocol.kernel.record import record
from sz_protocol.kernel.write_gate import WriteGate
from sz_protocol.machines.completion import Completion, without_data
from sz_protocol.notices import StoreRecovered, StoreTroubled
from sz_protocol.ops import Ops
from sz_protocol.queries import RunsByRow
from sz_protocol.records import Run, RunState
from sz_protocol.settings import Settings


@record
class Slice:
    """The ledger rows of a decided slice and the cursors that move with them. `superseded` runs are to be cancelled
    once the slice is durable."""

    runs: tuple[Run, ...]
    moves: tuple[CursorMove, ...]
    superseded: tuple[int, ...] = ()
    stream: int = 0
    monotonic: bool = False


@record
class Claim:
    """Runs to be executed next, with the attempt that each has to have in the store."""

    runs: tuple[Run, ...]
    expected: tuple[int, ...]


@record
class Save:
    """What executions came to."""

    completions: tuple[Completion, ...]


@record
class Wanted:
    """A run that a person asked for."""

    request_id: int
    run: Run


Entry = Slice | Claim | Save | Wanted


@record
class Durable:
    """Verdict: it is in the store."""

    entry: Entry


@record
class Undone:
    """Verdict: nothing of it is in the store."""

    entry: Slice | Claim | Wanted
    reason: FailReason
    refused: tuple[str | int, ...] = ()
    detail: str = ""


@record
class ClaimsRead:
    """Verdict: what the store says of runs whose claim it refused, or may have taken."""

    claim: Claim
    stored: tuple[Run, ...]


@record
class Overtaken:
    """Verdict: the store has a later truth about these runs; what we had is void."""

    runs: tuple[Run, ...]


@record
class Fenced:
    """Verdict: our term is over."""


Verdict = Durable | Undone | ClaimsRead | Overtaken | Fenced


@define
class RunWriter:
    """Collects effects in `effects`; its caller takes them away after each call."""

    settings: Settings
    ops: Ops
    gate: WriteGate[Entry] = Factory(WriteGate)
    readbacks: dict[int, Entry] = Factory(dict)
    waiting: deque[Entry] = Factory(deque)
    """Saves and read-backs to be tried again at `retry_at_us`."""
    retry_at_us: int | None = None
    wait_us: int = 0
    trouble_since_us: int | None = None
    effects: list[Effect] = Factory(list)

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the store."""
        return not (len(self.gate) or self.readbacks or self.waiting)

    def is_saving(self, row: int) -> bool:
        """Whether what a run came to is on its way to the store."""
        entries = (*self.gate.waiting.values(), *self.waiting, *self.readbacks.values())
        saves = (entry for entry in entries if isinstance(entry, Save))
        return any(completion.run.row == row for save in saves for completion in save.completions)

    def put(self, entry: Entry) -> None:
        """Ask the store for it."""
        op = self.ops.next()
        self.gate.hold(op, entry)
        stream = entry.stream if isinstance(entry, Slice) else 0
        self.effects.append(Write(op, changes_of(entry), self.ops.term, stream))

    def handle(self, event: Event, now: Now) -> list[Verdict]:
        """Take the store's answers; what follows for the runs comes back as verdicts."""
        if self.retry_at_us is not None and now.mono_us >= self.retry_at_us:
            self.retry_at_us = None
            self._retry()
        match event:
            case Woke():
                pass
            case WriteDone(op=op) if self.gate.owns(op):
                self._answered(now)
                return [Durable(self.gate.release(op))]
            case WriteFailed(reason=FailReason.FENCED):
                # Whichever machine's write it was: they all carry the same term.
                return [Fenced()]
            case WriteFailed(op=op) if self.gate.owns(op):
                return self._on_failed(self.gate.release(op), event, now)
            case ReadDone(op=op, rows=rows) if op in self.readbacks:
                self._answered(now)
                return self._on_read_back(self.readbacks.pop(op), rows)
            case ReadFailed(op=op, reason=reason, detail=detail) if op in self.readbacks:
                self.waiting.append(self.readbacks.pop(op))
                self._wait(now, reason, detail)
        return []

    def _on_failed(self, entry: Entry, failure: WriteFailed, now: Now) -> list[Verdict]:
        reason = failure.reason
        if isinstance(entry, Slice) and entry.stream == self.ops.stream:
            # What was decided on top of this slice fails with it; what is decided from here on does not.
            self.ops.stream += 1
        if isinstance(entry, Save | Claim) and reason is FailReason.REFUSED:
            self._read_back(entry)
            return []
        if isinstance(entry, Save) and reason is FailReason.INVALID and self._put_less(entry, failure.refused):
            return []
        if reason not in (FailReason.REFUSED, FailReason.PREVIOUS):
            self._wait(now, reason, failure.detail)
        if isinstance(entry, Save) or reason is FailReason.UNKNOWN:
            self.waiting.append(entry)
            return []
        return [Undone(entry, reason, failure.refused, failure.detail)]

    def _put_less(self, save: Save, refused: tuple[str | int, ...]) -> bool:
        """The store cannot hold what some handler left: save what it came to without that. False when there is
        nothing left to leave out."""
        if not refused and len(save.completions) > 1:
            # It does not say which one: find out.
            for completion in save.completions:
                self.put(Save((completion,)))
            return True
        bad = dict.fromkeys(refused or (save.completions[0].run.row,))
        less = tuple(without_data(c) if c.run.row in bad else c for c in save.completions)
        if less == save.completions:
            return False
        self.put(Save(less))
        return True

    def _read_back(self, entry: Entry) -> None:
        match entry:
            case Slice(runs=runs) | Claim(runs=runs):
                rows = tuple(run.row for run in runs)
            case Wanted(run=run):
                rows = (run.row,)
            case Save(completions=completions):
                rows = tuple(completion.run.row for completion in completions)
        op = self.ops.next()
        self.readbacks[op] = entry
        self.effects.append(Read(op, RunsByRow(rows)))

    def _on_read_back(self, entry: Entry, rows: tuple[Run, ...]) -> list[Verdict]:
        match entry:
            case Claim():
                return [ClaimsRead(entry, rows)]
            case Save():
                return self._on_save_read(entry, rows)
            case Slice() | Wanted() if not rows:
                return [Undone(entry, FailReason.UNKNOWN)]
            case _:
                return [Durable(entry)]

    def _on_save_read(self, save: Save, rows: tuple[Run, ...]) -> list[Verdict]:
        """RUN-5: refused, or nobody knows. Durable where the store says the same, void where it says something later;
        where it is behind us it has to take it."""
        truths = {run.row: run for run in rows}
        durable: list[Completion] = []
        again: list[Completion] = []
        overtaken: list[Run] = []
        for completion in save.completions:
            run, truth = completion.run, truths.get(completion.run.row)
            if truth is not None and _standing(truth) == _standing(run):
                durable.append(completion)
            elif truth is None or truth.state is RunState.DONE or truth.fence > run.fence:
                overtaken.append(run)
            else:
                again.append(evolve(completion, expected=truth.attempt))
        if again:
            self.put(Save(tuple(again)))
        verdicts: list[Verdict] = [Durable(Save(tuple(durable)))] if durable else []
        return [*verdicts, Overtaken(tuple(overtaken))] if overtaken else verdicts

    def _retry(self) -> None:
        for _ in range(len(self.waiting)):
            entry = self.waiting.popleft()
            if isinstance(entry, Save):
                self.put(entry)
            else:
                self._read_back(entry)

    def _wait(self, now: Now, reason: FailReason, detail: str) -> None:
        if self.trouble_since_us is None:
            self.trouble_since_us = now.mono_us
            self.effects.append(Publish(StoreTroubled(reason, detail)))
        if self.retry_at_us is None:
            doubled = max(self.wait_us * 2, self.settings.store_retry_us)
            self.wait_us = min(doubled, self.settings.store_retry_max_us)
            self.retry_at_us = now.mono_us + self.wait_us

    def _answered(self, now: Now) -> None:
        if self.trouble_since_us is not None and self.retry_at_us is None and not self.waiting:
            self.effects.append(Publish(StoreRecovered(now.mono_us - self.trouble_since_us)))
            self.trouble_since_us = None
            self.wait_us = 0


def changes_of(entry: Entry) -> tuple[Change, ...]:
    """The changes that one entry asks of the store, all in one transaction."""
    match entry:
        case Slice(runs=runs, moves=moves):
            return (InsertRuns(runs), MoveCursors(moves))
        case Claim(runs=runs, expected=expected):
            return (UpdateRuns(runs, expected),)
        case Wanted(run=run):
            return (InsertRuns((run,)),)
        case Save(completions=completions):
            update = UpdateRuns(tuple([c.run for c in completions]), tuple([c.expected for c in completions]))
            attempts = [c.attempt for c in completions if c.attempt is not None]
            return (update, InsertAttempts(tuple(attempts))) if attempts else (update,)


def _standing(run: Run) -> tuple[object, ...]:
    return run.state, run.attempt, run.fence, run.outcome, run.failures, run.losses
