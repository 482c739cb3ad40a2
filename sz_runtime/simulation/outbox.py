"""The simulated outbox of a worker: a file of results on its disk, synced before it is answered for.

A crash loses or tears what is unsynced: it may also bring back what was acknowledged, as the port allows. What could
not be forgotten is, with the next operation.
"""

import re
from collections.abc import Callable
from typing import Any

from attrs import Factory, define, fields

from sz_protocol.attaching import Forget, Keep, KeepAnswer, KeepFailed, Kept, Key
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.messages import RunReport
from sz_runtime.ports import KeepComplete
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.disk import DiskFull, SimDisk, SyncFailed
from sz_runtime.simulation.steps import Point
from sz_runtime.simulation.trace import Trace
from sz_runtime.simulation.worker_facts import KeepRefused, ResultsForgotten, ResultsKept, ResultsLost

FILE = "outbox"
WRITE_US, SYNC_US = 150, 800
MOST_INT = 1 << 63
HALF = re.compile("[\ud800-\udfff]")


@define(eq=False)
class SimOutbox:
    """The outbox port, for one life of one worker. `reached` is called at every point where a crash may come;
    a `volatile` one does not survive its process."""

    name: str
    agenda: Agenda
    trace: Trace
    disk: SimDisk
    reached: Callable[[Point], bool] = lambda point: False
    volatile: bool = False
    _deliver: KeepComplete | None = None
    _queue: list[Keep | Forget] = Factory(list)
    _round: list[tuple[Keep, str]] = Factory(list)
    """What is being written, each with what is wrong with it."""
    _owed: dict[Key, None] = Factory(dict)
    """What could not be forgotten yet."""
    _busy: bool = False

    @property
    def durable(self) -> bool:
        """Whether what is kept survives the process."""
        return not self.volatile

    def open(self, complete: KeepComplete) -> tuple[RunReport, ...]:
        """What earlier lives left, oldest first."""
        self._deliver = complete
        return tuple(held(self.disk).values())

    def submit(self, effect: Keep | Forget) -> None:
        """Queue one operation."""
        if self._deliver is None:
            raise LocalProtocolError("a report was submitted to an outbox that is not open")
        self._queue.append(effect)
        if isinstance(effect, Forget):
            self.trace.add(ResultsForgotten(self.agenda.now_us, self.name, effect.keys))
        if not self._busy:
            self._busy = True
            self.agenda.after(WRITE_US, self._write)

    def close(self) -> None:
        """The process ends in order: what was submitted is done, and answered."""
        if self._round:
            self._answer(self._sync())
        if self._queue:
            self._answer(self._append() or self._sync())
        if self._deliver is not None and self.volatile:
            self._lose(self.disk.wipe)
        self._deliver = None

    def abandon(self) -> None:
        """The process vanished, and what is unsynced with it."""
        self._deliver = None
        self._lose(self.disk.wipe if self.volatile else self.disk.crash)

    def _lose(self, how: Callable[[str], Any]) -> None:
        before = held(self.disk)
        how(FILE)
        after = held(self.disk)
        lost = tuple(key for key in before if key not in after)
        if lost:
            self.trace.add(ResultsLost(self.agenda.now_us, self.name, lost))

    # --- one round --------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """All that waits goes into the file together."""
        if self._deliver is None:
            return
        problem = self._append()
        if not self.reached(Point.SYNC):
            self.agenda.after(SYNC_US, self._finish, problem)

    def _finish(self, problem: str) -> None:
        if self._deliver is None:
            return
        problem = problem or self._sync()
        if self.reached(Point.SYNCED):
            return
        self._answer(problem)
        self._busy = bool(self._queue)
        if self._busy:
            self.agenda.after(WRITE_US, self._write)

    def _append(self) -> str:
        """Write the queue into the file, all or nothing; what is wrong."""
        work, self._queue = self._queue, []
        self._round = [(effect, why_not(effect)) for effect in work if isinstance(effect, Keep)]
        good = [effect for effect in work if isinstance(effect, Forget) or not why_not(effect)]
        # What is owed first, then all in their order: a run kept after one of its number was forgotten is another one.
        owed = [Forget(tuple(self._owed))] if self._owed else []
        self._owed.update({key: None for effect in work if isinstance(effect, Forget) for key in effect.keys})
        try:
            for effect in (*owed, *good):
                self.disk.append(self.agenda.now_us, FILE, effect)
        except DiskFull as why:
            self.disk.take_back(FILE)
            return str(why)
        return ""

    def _sync(self) -> str:
        try:
            self.disk.sync(FILE)
        except SyncFailed as why:
            self.disk.take_back(FILE)
            return str(why)
        self._owed.clear()
        return ""

    def _answer(self, problem: str) -> None:
        round_, self._round = self._round, []
        answers: list[KeepAnswer] = []
        for keep, why in round_:
            keys = tuple((report.row, report.attempt) for report in keep.reports)
            if why or problem:
                self.trace.add(KeepRefused(self.agenda.now_us, self.name, keys, why or problem))
                answers.append(KeepFailed(keep.op, why or problem))
            else:
                self.trace.add(ResultsKept(self.agenda.now_us, self.name, keys))
                answers.append(Kept(keep.op))
        if answers and self._deliver is not None:
            self._deliver(answers)


def why_not(keep: Keep) -> str:
    """Why no file can hold these, whatever its mood; empty where one can."""
    for report in keep.reports:
        values = [getattr(report, field.name) for field in fields(RunReport)]
        if any(isinstance(value, int) and not -MOST_INT <= value < MOST_INT for value in values):
            return "a number is beyond 64 bits"
        if any(isinstance(value, str) and HALF.search(value) for value in values):
            return "text holds half a character"
    return ""


def held(disk: SimDisk) -> dict[Key, RunReport]:
    """What a reader of the file finds, oldest first."""
    found: dict[Key, RunReport] = {}
    for effect in disk.entries(FILE):
        if isinstance(effect, Keep):
            for report in effect.reports:
                key = report.row, report.attempt
                found.pop(key, None)
                found[key] = report
        else:
            for key in effect.keys:
                found.pop(key, None)
    return found
