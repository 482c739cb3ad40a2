"""Every run that is not over, with its definition, its place and its deadlines. Part of execution; no effects.

The one place where the dicts about runs are kept in step with each other. RUN-7 of one run at most one write is under
way: nothing is decided about a run whose last decision the store has not answered yet.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final

from attrs import Factory, define

from sz_protocol.definition import Definition, Semantics
from sz_protocol.kernel.effects import CancelReason, StartRun
from sz_protocol.kernel.events import MethodInfo
from sz_protocol.kernel.now import SECOND_US, Now
from sz_protocol.kernel.record import record
from sz_protocol.machines.completion import Completion, stronger
from sz_protocol.machines.placement import Placement
from sz_protocol.machines.pools import Slot
from sz_protocol.policy import lane_width
from sz_protocol.records import Reason, Run, RunState
from sz_protocol.routing import route_of, worker_pool
from sz_protocol.triggers import Unreadable

# Bound once, as in records.py.
_DONE: Final = RunState.DONE
_PENDING: Final = RunState.PENDING
_AT_MOST_ONCE: Final = Semantics.AT_MOST_ONCE

Deadline = tuple[int, int, int, str]
"""(When, on the monotonic clock, row, claim, why to stop it.) Two of one claim may fall on one instant: so all of it
has an order."""

FEW_DEADLINES = 1000
"""How many may be kept whatever they are worth."""

GRACE_OVER = ""
"""No reason to stop it: it was asked to, and its grace is over."""


@record
class Stranded:
    """An execution that would not stop: its outcome is recorded, its slot and its place in the lane stay taken, for
    it is still running."""

    run: Run
    slot: Slot


@define
class RunTable:
    """`runs` holds every run that is not DONE; `executing` those that were handed to the executor, with the reason
    if they were asked to stop; `deadlines` is a heap, in which claim 0 means whichever claim."""

    runs: dict[int, Run] = Factory(dict)
    definitions: dict[int, Definition] = Factory(dict)
    executing: dict[int, CancelReason | None] = Factory(dict)
    remote: dict[int, None] = Factory(dict)
    """Those of `executing` that workers execute."""
    stranded: dict[tuple[int, int], Stranded] = Factory(dict)
    unsettled: dict[int, None] = Factory(dict)
    """PENDING runs whose row is on its way to the store. (LEASED ones on their way are those not executing.)"""
    doomed: dict[int, CancelReason] = Factory(dict)
    """Runs to be stopped as soon as the store has answered what is on its way."""
    placement: Placement = Factory(Placement)
    paced: dict[str, int] = Factory(dict)
    """Schedule -> when, on the monotonic clock, its next catch-up run may start (POLICY-6)."""
    deadlines: list[Deadline] = Factory(list)
    return_pause_us: int = 0
    """How long a run waits that came back unbegun; a back-off may be shorter than that, this is not."""
    open: bool = False
    """Whether runs move forward: not before the last life's runs are known (RUN-6), nor while draining."""

    # --- a run's way ------------------------------------------------------------------------------------------

    def enter(self, run: Run, definition: Definition) -> None:
        """A run begins its life here, at the end of its schedule's lane."""
        self.runs[run.row] = run
        self.definitions[run.row] = definition
        self.placement.enter(run, lane_width(definition.overlap))

    def widen(self, definition: Definition, now: Now) -> None:
        """The newest definition says how wide a lane is: those who waited in it go forward before anybody newer does
        (PLACE-3)."""
        for row in self.placement.widen(definition.id, lane_width(definition.overlap)):
            self.place(row, now)

    def is_preceded(self, schedule_id: str) -> bool:
        """Whether a run of the schedule has its slot and waits for its claim: who comes after it is not claimed before
        it (PLACE-3)."""
        runs, slots, lanes = self.runs, self.placement.slots, self.placement.lanes
        if not self.unsettled and not self.placement.ready:
            return False
        return any(row in slots and runs[row].state is _PENDING for row in lanes.get(schedule_id, ()))

    def claim_or_place(self, run: Run, now: Now) -> Run:
        """A run that is about to be stored for the first time: claimed with that where it need not wait, one write and
        not two; the row's own number is its first claim. Else it is placed where it waits."""
        definition = self.definitions[run.row]
        turn = self.open and self.placement.has_turn(run) and not self.is_preceded(run.schedule_id)
        slot = self.placement.take_slot(run.row, route_of(definition)) if turn else None
        if slot is not None:
            self.runs[run.row] = run = run.leased(1, run.row, slot[1].worker)
        else:
            self.unsettled[run.row] = None
            self.place(run.row, now)
        return run

    def place(self, row: int, now: Now, waited: bool = False) -> None:
        """Move a PENDING run forward: to where it has to wait, or among those that are ready to be claimed. `waited`:
        its delay is over, whatever the wall clock says by now."""
        run = self.runs.get(row)
        if not self.open or run is None or run.state is not _PENDING or not self.placement.has_turn(run):
            return
        if isinstance(self.definitions[row].trigger, Unreadable):
            return
        if not waited:
            until_us = max(now.mono_us + self._wait_us(run, now), self._paced_us(run, now))
            if until_us > now.mono_us:
                self.placement.delay(row, until_us)
                return
        if self.placement.place(row, route_of(self.definitions[row])) and row not in self.unsettled:
            self.placement.ready.append(row)

    def take_queued(self, limit: int) -> None:
        """Let runs that waited for a slot have those that are free."""
        for row in self.placement.take_queued(limit):
            if row not in self.unsettled:
                self.placement.ready.append(row)

    def settle(self, row: int, now: Now) -> None:
        """The store has answered what was on its way: a PENDING run may move forward."""
        self.unsettled.pop(row, None)
        run = self.runs.get(row)
        if run is None or run.state is not _PENDING:
            return
        if row in self.placement.slots:
            self.placement.ready.append(row)
        else:
            self.place(row, now)

    def on_its_way(self, run: Run) -> bool:
        """Whether the store has yet to answer the last decision about this run (RUN-7)."""
        return run.row in self.unsettled or (run.state is RunState.LEASED and run.row not in self.executing)

    def apply(self, completions: Iterable[Completion], now: Now) -> None:
        """Runs that came to something: over, or to be tried again, which stays in its lane and gives back its slot.
        What they came to is on its way to the store."""
        for completion in completions:
            run = completion.run
            if run.state is _DONE:
                self.drop(run, now)
                continue
            self.executing.pop(run.row, None)
            self.remote.pop(run.row, None)
            self.placement.free(run.row)
            self.runs[run.row] = run
            self.unsettled[run.row] = None

    def drop(self, run: Run, now: Now) -> None:
        """Forget a run that is over, or never was; who waited behind it moves up."""
        row = run.row
        self.executing.pop(row, None)
        if self.remote:
            self.remote.pop(row, None)
        if self.doomed:
            self.doomed.pop(row, None)
        if self.unsettled:
            self.unsettled.pop(row, None)
        self.placement.free(row)
        if self.runs.pop(row, None) is not None:
            del self.definitions[row]
            self._leave(run, now)

    def _leave(self, run: Run, now: Now) -> None:
        for following in self.placement.leave(run):
            self.place(following, now)
        if self.paced and run.schedule_id not in self.placement.lanes:
            self.paced.pop(run.schedule_id, None)

    def _wait_us(self, run: Run, now: Now) -> int:
        """How long a back-off still lasts: never longer than its policy allows, whatever the wall clock did since."""
        wait_us = run.not_before_us - now.utc_us
        if wait_us <= 0:
            return 0
        definition = self.definitions[run.row]
        misfire = definition.misfire
        longest_us = definition.retry.max_us
        if not run.attempt and misfire.rate_per_s is not None:
            longest_us = int(misfire.max * SECOND_US / misfire.rate_per_s)
        return min(wait_us, max(longest_us, self.return_pause_us))

    def _paced_us(self, run: Run, now: Now) -> int:
        """POLICY-6: catch-up runs of one schedule start a gap apart, also after a restart in their midst. Takes the
        next place in that row."""
        rate_per_s = self.definitions[run.row].misfire.rate_per_s
        if rate_per_s is None or run.reason != Reason.CATCH_UP or run.attempt:
            return 0
        until_us = max(self.paced.get(run.schedule_id, 0), now.mono_us)
        self.paced[run.schedule_id] = until_us + int(SECOND_US / rate_per_s)
        return until_us

    # --- executions -------------------------------------------------------------------------------------------

    def begin(self, run: Run, now: Now) -> StartRun:
        """The order that starts this attempt; its time-out runs from here."""
        definition = self.definitions[run.row]
        deadline_us = self._execute(run, definition, now)
        if definition.deadline_us is not None:
            until_us = now.mono_us + _left_us(run, definition.deadline_us, now)
            deadline_us = until_us if deadline_us is None else min(deadline_us, until_us)
        return StartRun(
            run.row,
            run.run_key.hex(),
            run.schedule_id,
            run.kind,
            # Whoever has the slot: with "*" and elsewhere that is somebody else than the definition names.
            self.placement.slots[run.row][1].handler_id,
            run.method,
            definition.params if run.params is None else run.params,
            run.fire_us,
            run.attempt,
            run.fence,
            deadline_us,
            definition.labels,
            definition.semantics is _AT_MOST_ONCE,
            definition.exclusive,
        )

    def resume(self, run: Run, now: Now) -> None:
        """A worker is, or may be, executing this attempt since an earlier life; it holds its slot there. Nobody knows
        how long it has been at it: its time-out runs anew."""
        self._execute(run, self.definitions[run.row], now)
        # Its method's own concurrency is not known yet; that it is one more there cannot be undone either way.
        self.placement.occupy(run.row, MethodInfo(run.worker, run.method, worker_pool(run.worker), None, run.worker))

    def _execute(self, run: Run, definition: Definition, now: Now) -> int | None:
        self.executing[run.row] = None
        if run.worker:
            self.remote[run.row] = None
        if definition.timeout_us is None:
            return None
        deadline_us = now.mono_us + definition.timeout_us
        heappush(self.deadlines, (deadline_us, run.row, run.fence, CancelReason.TIMEOUT))
        return deadline_us

    @property
    def executes_here(self) -> bool:
        """Whether this process executes anything."""
        return len(self.executing) > len(self.remote)

    def ask_to_stop(self, run: Run, reason: CancelReason, grace_us: int, now: Now) -> bool:
        """Note why an execution has to stop, and when it will be given up; False when it was asked before, where only
        the stronger reason stays."""
        before = self.executing[run.row]
        self.executing[run.row] = stronger(before, reason)
        if before is not None:
            return False
        heappush(self.deadlines, (now.mono_us + grace_us, run.row, run.fence, GRACE_OVER))
        return True

    def strand(self, run: Run) -> None:
        """Its outcome is decided although its execution goes on."""
        self.stranded[run.row, run.attempt] = Stranded(run, self.placement.strand(run.row))
        del self.executing[run.row], self.runs[run.row], self.definitions[run.row]
        self.remote.pop(run.row, None)

    def ended_at_last(self, row: int, attempt: int, now: Now) -> bool:
        """A stranded execution ended after all: its slot and its lane are free."""
        stranded = self.stranded.pop((row, attempt), None)
        if stranded is None:
            return False
        self.placement.free_slot(stranded.slot)
        self._leave(stranded.run, now)
        return True

    # --- deadlines --------------------------------------------------------------------------------------------

    def bound(self, run: Run, now: Now) -> None:
        """Set the deadline that all attempts of a run share, counted from when it was decided."""
        deadline_us = self.definitions[run.row].deadline_us
        if deadline_us is not None:
            at_us = now.mono_us + _left_us(run, deadline_us, now)
            heappush(self.deadlines, (at_us, run.row, 0, CancelReason.DEADLINE))

    def pop_deadlines(self, now: Now) -> list[tuple[Run, CancelReason | None]]:
        """The runs whose deadlines have passed, each with the reason to stop it (None: its grace is over)."""
        if len(self.deadlines) > FEW_DEADLINES + 4 * len(self.runs):
            # Most runs end long before their time-outs: memory follows those that are left.
            self.deadlines = [deadline for deadline in self.deadlines if deadline[1] in self.runs]
            heapify(self.deadlines)
        passed: list[tuple[Run, CancelReason | None]] = []
        while self.deadlines and self.deadlines[0][0] <= now.mono_us:
            deadline = heappop(self.deadlines)
            if self._stands(deadline):
                reason = None if deadline[3] == GRACE_OVER else CancelReason(deadline[3])
                passed.append((self.runs[deadline[1]], reason))
        return passed

    def first_deadline(self) -> int | None:
        """When the first deadline passes that still means something; those at the top that do not are dropped, so that
        nobody wakes for them."""
        while self.deadlines and not self._stands(self.deadlines[0]):
            heappop(self.deadlines)
        return self.deadlines[0][0] if self.deadlines else None

    def _stands(self, deadline: Deadline) -> bool:
        """The time-out of an execution is over with it: a run between two attempts has its back-off to wait out, and a
        claim that was given back takes its time-out along."""
        _, row, claim, _ = deadline
        run = self.runs.get(row)
        return run is not None and (not claim or (claim == run.fence and row in self.executing))


def _left_us(run: Run, deadline_us: int, now: Now) -> int:
    """What is left until the deadline of a run: all of it where nobody knows how long ago it was decided."""
    return run.decided_us + deadline_us - now.utc_us if now.trusted else deadline_us
