"""When things happen: NoEarlyFire, RetryNotEarly."""

from attrs import Factory, define

from sz_protocol.kernel.now import SECOND_US
from sz_runtime.simulation.checkers.base import Checker, spread_of
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    ClockChanged,
    ExecutionStarted,
    NodeStarted,
    RunWritten,
    ScheduleKept,
    SchedulePut,
    Stalled,
)

SLACK_US = SECOND_US
"""For what a node may be ahead of its own clock, and for rounding."""
PPM = 1_000_000
MEMORY_US = 120 * SECOND_US
"""How long a decision may be on its way to the disk."""

UNREAD_US = 32 * SECOND_US
"""A node reads its clocks at least every 30 s."""
BY_EDIT = ("superseded", "retired", "paused")
"""Reasons of rows that an edit writes, for fire times that it takes away, due or not."""


@define
class ClockBelief:
    """By how much a node's believed wall time may exceed true time. A jump ahead counts only once it has held for
    the settle time, or when a life begins with it. While the clock is not trusted the latest known time is carried on;
    `known`: there is one, of this life or in the store."""

    error_us: int = 0
    accepted_us: int = 0
    since_us: int = 0
    untrusted_since_us: int | None = None
    known: bool = False
    former: tuple[int, int, int] = (0, 0, -UNREAD_US)
    """What the clock was wrong by before its last change, since when, and until when."""
    open_until_us: int = -1
    """Until then the node may not have read the time that it was given: it believes whatever it reads first."""
    fallen: list[tuple[int, int]] = Factory(list)
    """(when its clock was set back, accepted error before that), as long as the node may not have looked since."""
    history: list[tuple[int, int]] = Factory(list)
    """(until when it was in force, accepted error)."""
    drift_ppm: int = 0
    drifted_us: int = 0
    """Until when its drift is counted."""

    def drift(self, at_us: int) -> None:
        """A clock that runs fast gets further ahead, and its node with it: no single look shows a jump."""
        gained_us = (at_us - self.drifted_us) * abs(self.drift_ppm) // PPM
        if gained_us > 0:
            self.drifted_us = at_us
            self.error_us += gained_us if self.drift_ppm > 0 else -gained_us
            # Who is behind may be held where he was by the latest time that he has seen.
            self.accepted_us += gained_us if self.drift_ppm > 0 else 0

    def change(self, at_us: int, error_us: int, trusted: bool, step_us: int, settle_us: int, memory_us: int) -> None:
        """The clock reads something else now; a time that becomes trusted is believed at once."""
        self.settle(at_us, settle_us)
        known = abs(error_us - self.error_us) <= step_us
        before_us, self.error_us = self.error_us, error_us
        before = self.untrusted_since_us
        self.untrusted_since_us = None if trusted else (before if before is not None else at_us)
        if trusted and before is not None:
            self.open_until_us = at_us + UNREAD_US
        if not trusted and self.known:
            if before is None:
                # Whichever time it read last, it is carried on.
                self._accept(at_us, self.most_us(at_us, memory_us))
            return
        self.known = self.known or trusted
        self.fallen = [item for item in self.fallen if at_us - item[0] <= UNREAD_US]
        # A step back that is over again may never have been seen: to its node this is a step from where it was before.
        seen_us = max([self.accepted_us, *(error for _, error in self.fallen)])
        if error_us < self.accepted_us:
            self.fallen.append((at_us, self.accepted_us))
        if error_us <= seen_us + step_us or before is not None or at_us <= self.open_until_us:
            self._accept(at_us, error_us)
        elif not known:
            former_us, since_us, left_us = self.former
            self.former = (before_us, self.since_us, at_us)
            # It may have been away and back between two looks of the node, which then sees no change at all.
            returned = abs(error_us - former_us) <= step_us and at_us - left_us <= UNREAD_US
            self.since_us = since_us if returned else at_us

    def settle(self, at_us: int, settle_us: int) -> None:
        """Time passes: a jump that has held is believed (the node's own clock, which drifts, says for how long)."""
        held = self.untrusted_since_us is None or not self.known
        if held and self.error_us > self.accepted_us and at_us >= self.since_us + settle_us - settle_us // 1000:
            self._accept(at_us, self.error_us)

    def start(self, at_us: int, known_error_us: int | None) -> None:
        """A new life believes what it sees; while that is not to be trusted, it goes by the latest time that its store
        has seen (`known_error_us` from true time), where it has seen one."""
        trusted = self.untrusted_since_us is None
        self.fallen.clear()
        self.known = trusted or known_error_us is not None
        self._accept(at_us, self.error_us if trusted or known_error_us is None else known_error_us)

    def _accept(self, at_us: int, error_us: int) -> None:
        self.history.append((at_us, self.accepted_us))
        self.accepted_us = error_us

    def most_us(self, at_us: int, memory_us: int) -> int:
        """The largest error in force within the last `memory_us`."""
        self.history = [item for item in self.history if item[0] >= at_us - memory_us]
        return max([self.accepted_us, *(error for _, error in self.history)])


@define
class Timing(Checker):
    """Compares what nodes decided with true time and with what they may believe of it."""

    beliefs: dict[str, ClockBelief] = Factory(dict)
    spreads: dict[tuple[str, str], int] = Factory(dict)
    not_before: dict[tuple[str, int], tuple[int, str, int]] = Factory(dict)
    """(store, row) -> until when it waits, who said so, and the last claim before that."""
    touched: dict[str, None] = Factory(dict)
    """Nodes whose clock is not true, or was not."""
    still_until: dict[str, int] = Factory(dict)
    """Until when a node stands still."""
    unread: dict[str, ClockChanged] = Factory(dict)
    """What became of a clock while its node stood still: it sees the last change only, when it goes on."""
    memory_us: int = MEMORY_US

    def routes(self) -> Routes:
        """Clocks, rows, executions."""
        return {
            ClockChanged: self.on_clock,
            NodeStarted: self.on_node,
            SchedulePut: self.on_put,
            ScheduleKept: self.on_put,
            RunWritten: self.on_run,
            ExecutionStarted: self.on_started,
            Stalled: self.on_stalled,
        }

    def _belief(self, node: str, at_us: int) -> ClockBelief:
        belief = self.beliefs.setdefault(node, ClockBelief())
        belief.drift(at_us)
        if node in self.unread and at_us >= self.still_until[node]:
            self._change(belief, self.unread.pop(node), self.still_until[node])
        return belief

    def on_clock(self, record: ClockChanged) -> None:
        """A clock was changed."""
        if record.step_us or record.error_us or record.drift_ppm or not record.trusted:
            self.touched[record.node] = None
        belief = self._belief(record.node, record.at_us)
        if record.at_us < self.still_until.get(record.node, 0):
            self.unread[record.node] = record
        else:
            self._change(belief, record, record.at_us)

    def _change(self, belief: ClockBelief, record: ClockChanged, at_us: int) -> None:
        settings = self.oracle.plan.settings
        limits = settings.clock_step_us, settings.clock_settle_us, self.memory_us
        belief.change(at_us, record.error_us, record.trusted, *limits)
        belief.drift_ppm, belief.drifted_us = record.drift_ppm, record.at_us

    def on_node(self, record: NodeStarted) -> None:
        """A life begins."""
        known_us = record.wall_high_us - self.oracle.utc_us(record.at_us) if record.wall_high_us else None
        self.still_until[record.node] = record.at_us
        self._belief(record.node, record.at_us).start(record.at_us, known_us)

    def on_stalled(self, record: Stalled) -> None:
        """A decision may be held up for as long as the node is. What became of its clock in an earlier standstill it
        has seen by now."""
        self._belief(record.node, record.at_us)
        self.still_until[record.node] = max(self.still_until.get(record.node, 0), record.until_us)
        self.memory_us = max(self.memory_us, MEMORY_US + record.until_us - record.at_us)

    def on_put(self, record: SchedulePut | ScheduleKept) -> None:
        """The spread that is in force."""
        self.spreads[record.node, record.schedule_id] = spread_of(self.oracle.definitions[record.digest])

    def on_run(self, record: RunWritten) -> None:
        """NoEarlyFire: decided when it was due, by a clock that the node was right to believe."""
        if record.state == "pending":
            self.not_before[record.node, record.row] = record.not_before_us, record.writer, record.fence
        if not record.inserted or record.kind != "scheduled" or record.reason == "past_at_creation":
            return
        due_us = record.until_us + self.spreads.get((record.node, record.schedule_id), 0)
        what = f"{record.schedule_id}@{record.until_us}"
        if record.decided_us < due_us and record.reason not in BY_EDIT:
            self.report.add("NoEarlyFire", record, f"{what} was decided {due_us - record.decided_us} us before its due")
        belief = self._belief(record.writer, record.at_us)
        long_us = record.at_us - (record.at_us if belief.untrusted_since_us is None else belief.untrusted_since_us)
        if long_us > self.memory_us and record.reason not in BY_EDIT:
            self.report.add("UntrustedNeverFires", record, f"{what} was decided while the time was not trusted")
        belief.settle(record.at_us, self.oracle.plan.settings.clock_settle_us)
        latest_us = self.oracle.utc_us(record.at_us) + belief.accepted_us + SLACK_US
        if record.decided_us > latest_us:
            latest_us += belief.most_us(record.at_us, self.memory_us) - belief.accepted_us
        if record.decided_us > latest_us:
            ahead_us = record.decided_us - latest_us
            self.report.add("NoEarlyFire", record, f"{what} was decided by a clock {ahead_us} us further than allowed")

    def on_started(self, record: ExecutionStarted) -> None:
        """RetryNotEarly: a back-off is waited out, on a clock that nobody has touched."""
        waits = self.not_before.get((self.oracle.stores[record.node], record.row))
        if waits is None or record.node in self.touched:
            return
        not_before_us, writer, fence = waits
        if record.fence <= fence:
            # A worker that stood still begins what was given up meanwhile: it is not this that had to wait.
            return
        own = writer == record.node or (record.node in self.oracle.workers and writer not in self.touched)
        if own and record.utc_us < not_before_us:
            what = f"row {record.row} began {not_before_us - record.utc_us} us before its back-off was over"
            self.report.add("RetryNotEarly", record, what)
