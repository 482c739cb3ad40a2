"""The simulated store: tables behind a log on a simulated disk, group commit, the fence, and everything that can go
wrong with them.

One round: take all that waits, apply it (each operation alone, so that one refused for its own data harms nobody),
append it to the log, sync, answer. A crash may come between any two of these.
"""

from collections import deque
from collections.abc import Callable
from math import log
from random import Random

from attrs import Factory, define

from sz_protocol.kernel.effects import Read, Write
from sz_protocol.kernel.events import Event, FailReason, ReadDone, ReadFailed, WriteDone, WriteFailed
from sz_protocol.kernel.record import record
from sz_runtime.ports import Opened, StoreError, StoreInUse
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.answers import answer
from sz_runtime.simulation.disk import DiskFull, SimDisk, SyncFailed
from sz_runtime.simulation.facts import Committed, Failed, Rewound, TermTaken, TransactionLost
from sz_runtime.simulation.tables import Identity, Step, Tables, cannot_hold
from sz_runtime.simulation.trace import Trace
from sz_runtime.simulation.written import kept, written

LOG = "log"
TERMS = "terms"
KEEP_US = 15 * 60 * 1_000_000
"""How far back a rewind may go."""

NEVER_TRIED = (FailReason.FENCED, FailReason.PREVIOUS)

Deliver = Callable[[list[Event]], None]


@define(eq=False)
class Session:
    """One node's connection to the store, for one life. `deliver` takes answers, in order."""

    holder: str
    deliver: Deliver
    failed_stream: int = 0
    open: bool = True


@record
class Transaction:
    """What the log holds: one operation that was applied, and how to undo it. `current` is the store's term then."""

    session: Session
    op: int
    stream: int
    term: int
    current: int
    steps: list[Step]


@define
class Round:
    """Operations that share one sync."""

    life: int
    writes: int = 0
    answers: list[tuple[Session, Write | Read, Event]] = Factory(list)
    applied: list[Transaction] = Factory(list)


@define
class Mood:
    """How the store feels. `slow` multiplies its latencies; `unknown` is the chance that the outcome of a round stays
    unknown; `down`: it answers UNAVAILABLE to everything."""

    slow: float = 1.0
    unknown: float = 0.0
    down: bool = False


@define
class StoreServer:
    """One store. `commit_us` and `sync_us` are the usual durations of a round's parts."""

    name: str
    agenda: Agenda
    trace: Trace
    rng: Random
    disk: SimDisk
    commit_us: int = 200
    sync_us: int = 800
    mood: Mood = Factory(Mood)
    tables: Tables = Factory(Tables)
    term: int = 0
    holder: Session | None = None
    sessions: list[Session] = Factory(list)
    reached: Callable[[str], None] = lambda point: None
    """Called at every point of a round; whoever listens may crash the store right there."""
    _queue: deque[tuple[Session, Write | Read]] = Factory(deque)
    _busy: bool = False
    _life: int = 0

    # --- sessions ---------------------------------------------------------------------------------------------

    def open(self, holder: str, deliver: Deliver, *, by_force: bool = False) -> tuple[Session, Opened]:
        """Take the store and a new term. Raises StoreInUse while another session holds it, unless `by_force` (its
        lock was lost without its knowing), and StoreError when the term cannot be written down."""
        if self.mood.down:
            raise StoreError(f"store {self.name} is down")
        if self.holder is not None and self.holder.open and not by_force:
            raise StoreInUse(f"store {self.name} is held by {self.holder.holder}")
        try:
            self.disk.append(self.agenda.now_us, TERMS, self.term + 1)
            self.disk.sync(TERMS)
        except (DiskFull, SyncFailed) as why:
            self.disk.take_back(TERMS)
            raise StoreError(f"store {self.name}: {why}") from None
        self.term += 1
        self.trace.add(TermTaken(self.agenda.now_us, self.name, holder, self.term))
        self.holder = Session(holder, deliver)
        self.sessions = [session for session in self.sessions if session.open]
        self.sessions.append(self.holder)
        return self.holder, Opened(self.term, self.tables.wall_high_us)

    def reconnect(self, holder: str, deliver: Deliver) -> Session:
        """The holder comes back on a new connection: its older ones end here."""
        for session in self.sessions:
            if session.holder == holder:
                session.open = False
        again = Session(holder, deliver)
        if self.holder is not None and self.holder.holder == holder:
            self.holder = again
        self.sessions = [*(session for session in self.sessions if session.open), again]
        return again

    @property
    def is_busy(self) -> bool:
        """Whether a round is under way: then the tables are ahead of the log."""
        return self._busy

    def submit(self, session: Session, effect: Write | Read) -> None:
        """An operation has arrived."""
        self._queue.append((session, effect))
        if not self._busy:
            self._busy = True
            self.agenda.after(self._draw(self.commit_us), self._commit, Round(self._life))

    # --- a round ----------------------------------------------------------------------------------------------

    def _commit(self, current: Round) -> None:
        if current.life != self._life:
            return
        batch, self._queue = self._queue, deque()
        for _, effect in batch:
            if type(effect) is Write:
                current.writes += 1
        if self._gone(current, "before commit"):
            return
        for session, effect in batch:
            if not session.open:
                continue
            event = self._read(effect) if isinstance(effect, Read) else self._write(session, effect, current)
            current.answers.append((session, effect, event))
        if not current.writes:
            self._sync(current)
        elif not self._gone(current, "before sync"):
            self.agenda.after(self._draw(self.sync_us) if current.applied else 1, self._sync, current)

    def _read(self, read: Read) -> ReadDone | ReadFailed:
        if self.mood.down:
            return ReadFailed(read.op, FailReason.UNAVAILABLE, "the store is down")
        return ReadDone(read.op, answer(self.tables, read.query))

    def _write(self, session: Session, write: Write, current: Round) -> WriteDone | WriteFailed:
        """Apply one write, or say why not."""
        if self.mood.down:
            return self._fail(session, write, FailReason.UNAVAILABLE, detail="the store is down")
        if self.is_fenced(write):
            return self._fail(session, write, FailReason.FENCED, detail=f"the term is {self.term}")
        if 0 < write.stream <= session.failed_stream:
            return self._fail(session, write, FailReason.PREVIOUS)
        bad = cannot_hold(write.changes)
        if bad:
            return self._fail(session, write, FailReason.INVALID, bad, f"rows {bad} hold what no store takes")
        steps, refused = self.tables.apply(write.changes)
        if refused:
            return self._fail(session, write, FailReason.REFUSED, refused)
        transaction = Transaction(session, write.op, write.stream, write.fence, self.term, steps)
        try:
            self.disk.append(self.agenda.now_us, LOG, transaction)
        except DiskFull as full:
            self.tables.undo(steps)
            return self._fail(session, write, FailReason.UNAVAILABLE, detail=str(full))
        current.applied.append(transaction)
        return WriteDone(write.op)

    def is_fenced(self, write: Write) -> bool:
        """Whether the store refuses the write because its term is over."""
        return write.fence != self.term

    def _fail(
        self, session: Session, write: Write, reason: FailReason, refused: tuple[Identity, ...] = (), detail: str = ""
    ) -> WriteFailed:
        session.failed_stream = max(session.failed_stream, write.stream)
        self.trace.add(Failed(self.agenda.now_us, self.name, session.holder, write.op, reason, False))
        return WriteFailed(write.op, reason, refused, detail)

    def _sync(self, current: Round) -> None:
        if current.life != self._life:
            return
        doubtful = bool(current.applied) and self.rng.random() < self.mood.unknown
        if current.applied:
            try:
                if doubtful and self.rng.getrandbits(1):
                    raise SyncFailed("the connection broke before COMMIT")
                self.disk.sync(LOG)
            except SyncFailed as why:
                for transaction in self.disk.take_back(LOG):
                    self.tables.undo(transaction.steps)
                reason = FailReason.UNKNOWN if doubtful or self.rng.getrandbits(1) else FailReason.UNAVAILABLE
                self._turn(current, reason, str(why), committed=False)
            else:
                self._note(current.applied)
                if doubtful:
                    self._turn(current, FailReason.UNKNOWN, "the connection broke during COMMIT", committed=True)
        if self._gone(current, "after sync"):
            return
        self.agenda.after(self._draw(self.commit_us // 4), self._answer, current)
        self._busy = bool(self._queue)
        if self._busy:
            self.agenda.after(self._draw(self.commit_us), self._commit, Round(self._life))

    def _turn(self, current: Round, reason: FailReason, why: str, *, committed: bool) -> None:
        """The commit failed. What rested on the round's other writes fails with them: a refusal is as doubtful as they
        are, and a read is answered anew. Only what was never tried is certain."""
        turned: list[tuple[Session, Write | Read, Event]] = []
        for session, effect, event in current.answers:
            if isinstance(effect, Read):
                event = self._read(effect)
            elif not (isinstance(event, WriteFailed) and event.reason in NEVER_TRIED):
                session.failed_stream = max(session.failed_stream, effect.stream)
                self.trace.add(Failed(self.agenda.now_us, self.name, session.holder, effect.op, reason, committed))
                event = WriteFailed(effect.op, reason, detail=why)
            turned.append((session, effect, event))
        current.answers = turned

    def _answer(self, current: Round) -> None:
        if self._gone(current, "before answer"):
            return
        answers: dict[Session, list[Event]] = {}
        for session, _, event in current.answers:
            answers.setdefault(session, []).append(event)
        for session, events in answers.items():
            if session.open:
                session.deliver(events)

    def _gone(self, current: Round, point: str) -> bool:
        """Whether the store has died since the round began, or dies at this very point."""
        if current.writes and current.life == self._life:
            self.reached(point)
        return current.life != self._life

    def _note(self, applied: list[Transaction]) -> None:
        now_us = self.agenda.now_us
        for done in applied:
            writer = done.session.holder
            self.trace.add(Committed(now_us, self.name, writer, done.op, done.term, done.current))
            for noted in written(now_us, self.name, writer, done.op, done.steps):
                self.trace.add(noted)

    def _draw(self, usual_us: int) -> int:
        """A duration around the usual one, with the tail that disks have."""
        return int(usual_us * (0.5 - log(1.0 - self.rng.random()) / 2.0) * self.mood.slow) or 1

    # --- death ------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The store's process dies: what waits is forgotten, what is unsynced may be lost, every session ends."""
        self._life += 1
        self._busy = False
        self._queue.clear()
        for session in self.sessions:
            session.open = False
        pending = self.disk.unsynced(LOG)
        lost = self.disk.crash(LOG)
        self._note(pending[: len(pending) - len(lost)])
        for entry in lost:
            done: Transaction = entry.value
            self.tables.undo(done.steps)
            self.trace.add(TransactionLost(self.agenda.now_us, self.name, done.session.holder, done.op, entry.torn))
        self.disk.forget(LOG, self.agenda.now_us - KEEP_US)

    def rewind(self, to_us: int) -> None:
        """Replace the store by the copy that was made at `to_us`. It has crashed before."""
        for transaction in self.disk.rewind(LOG, to_us):
            self.tables.undo(transaction.steps)
        self.term -= len(self.disk.rewind(TERMS, to_us))
        self.trace.add(Rewound(self.agenda.now_us, self.name, to_us))
        for noted in kept(self.agenda.now_us, self.name, self.tables):
            self.trace.add(noted)
