"""Due instants: each is accounted for once. FireOnce, NoMissedFire, OneOutcomePerInstant, CursorMonotonic."""

from itertools import pairwise

from attrs import Factory, define, evolve

from sz_protocol.definition import Definition
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.records import UNSETTLED_US
from sz_protocol.triggers import CannotAdvance, fires_between, next_fire
from sz_runtime.simulation.checkers.base import Checker, spread_of
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    Committed,
    CursorMoved,
    Noted,
    Rewound,
    RowsDropped,
    RunKept,
    RunWritten,
    ScheduleKept,
    SchedulePut,
)

CATCH_UP_US = 5 * SECOND_US
"""How far a healed node may be behind at the end."""


@define
class Seen:
    """What one store holds of one schedule, as far as the trace tells."""

    digest: str
    state: str
    cursor_us: int
    fires: dict[int, str] = Factory(dict)
    """Fire time of each row (of a range: its first) -> run key."""


@define
class Firing(Checker):
    """Keeps, for each store, every row's fire time, and judges each transaction as a whole: the rows that it inserts
    must be exactly the instants that its cursor passes."""

    seen: dict[tuple[str, str], Seen] = Factory(dict)
    keys: dict[tuple[str, str], RunWritten | RunKept] = Factory(dict)
    inserted: dict[str, list[RunWritten]] = Factory(dict)
    """Rows of the transaction at hand, by schedule."""
    dropped: dict[int, None] = Factory(dict)
    """Rows that retention took."""
    manual: dict[tuple[str, int], str] = Factory(dict)
    """(store, row) of each manual run -> its key."""
    moves: list[CursorMoved | SchedulePut] = Factory(list)
    """Its cursors."""

    def routes(self) -> Routes:
        """What transactions wrote, and what stores held at the end."""
        return {
            Committed: self.on_committed,
            RunWritten: self.on_run,
            CursorMoved: self.moves_add,
            SchedulePut: self.moves_add,
            Rewound: self.on_rewound,
            RowsDropped: self.on_dropped,
            RunKept: self.on_kept,
            ScheduleKept: self.on_schedule_kept,
        }

    def on_committed(self, record: Committed) -> None:
        """A new transaction begins."""
        self._close(record)

    def on_run(self, record: RunWritten) -> None:
        """FireOnce: one row for each run key, and for each (schedule, fire time)."""
        if not record.inserted:
            return
        earlier = self.keys.get((record.node, record.run_key))
        if earlier is not None and record.reason == "past_at_creation" and earlier.row in self.dropped:
            return  # Retention has forgotten that this date was served; nothing is executed a second time.
        if earlier is not None:
            self.report.add("FireOnce", record, f"run {record.run_key[:8]} of {record.schedule_id} was inserted twice")
        self.keys[record.node, record.run_key] = record
        if record.kind == "manual":
            self.manual[record.node, record.row] = record.run_key
        if record.kind != "scheduled":
            return
        seen = self.seen.get((record.node, record.schedule_id))
        if seen is not None and record.fire_us in seen.fires:
            what = f"{record.schedule_id}@{record.fire_us} has two rows with different run keys"
            self.report.add("FireOnce", record, what)
        self.inserted.setdefault(record.schedule_id, []).append(record)

    def moves_add(self, record: CursorMoved | SchedulePut) -> None:
        """Judged when the whole transaction has been told: its rows may come before or after."""
        self.moves.append(record)

    def on_cursor(self, record: CursorMoved) -> None:
        """CursorMonotonic; and all instants between the two places are in the same transaction."""
        seen = self.seen[record.node, record.schedule_id]
        marked = record.cursor_us == record.from_us and record.next_due_us == UNSETTLED_US
        if (record.cursor_us <= record.from_us and not marked) or record.from_us != seen.cursor_us:
            what = f"{record.schedule_id}: {seen.cursor_us} in the store, moved from {record.from_us} to"
            self.report.add("CursorMonotonic", record, f"{what} {record.cursor_us}")
        definition = self.oracle.definitions[seen.digest]
        self._account(record, definition, seen, record.from_us, record.cursor_us, record.cursor_us)
        seen.cursor_us = record.cursor_us
        if record.next_due_us is None:
            seen.state = "finished"

    def on_put(self, record: SchedulePut) -> None:
        """An edit: the cursor stays or moves to the present; what it passes is accounted for."""
        place = (record.node, record.schedule_id)
        seen = self.seen.get(place)
        definition = self.oracle.definitions[record.digest]
        if seen is None or not seen.cursor_us:
            # A cursor of 0: created before the time was known, and placed in it now.
            self.seen[place] = Seen(record.digest, record.state, record.cursor_us)
            _remember(self.seen[place], self.inserted.pop(record.schedule_id, []))
            return
        if record.cursor_us < seen.cursor_us:
            what = f"{record.schedule_id}: an edit took the cursor from {seen.cursor_us} to {record.cursor_us}"
            self.report.add("CursorMonotonic", record, what)
        old = self.oracle.definitions[seen.digest]
        must_us = record.cursor_us if old.trigger == definition.trigger else record.cursor_us - spread_of(old)
        self._account(record, old, seen, seen.cursor_us, must_us, record.cursor_us)
        seen.digest, seen.state, seen.cursor_us = record.digest, record.state, record.cursor_us

    def _account(
        self, record: Noted, definition: Definition, seen: Seen, from_us: int, must_us: int, may_us: int
    ) -> None:
        """Every instant in (from, must] has a row of this transaction (or had one), no instant two; rows for instants
        up to `may_us` are welcome. Rows beyond that are the next move's: a backlog too long for one decision may be
        two in the same slice."""
        mine: list[RunWritten] = []
        beyond: list[RunWritten] = []
        for row in self.inserted.pop(definition.id, ()):
            (mine if row.fire_us <= may_us or row.reason == "past_at_creation" else beyond).append(row)
        if beyond:
            self.inserted[definition.id] = beyond
        rows = sorted((row for row in mine if row.reason != "past_at_creation"), key=lambda row: row.fire_us)
        instants = list(fires_between(definition.trigger, from_us + 1, may_us + 1))
        missing = [at for at in instants if at <= must_us and at not in seen.fires]
        covered: dict[int, None] = {}
        for row in rows:
            inside = [at for at in instants if row.fire_us <= at <= row.until_us]
            if len(inside) != row.count:
                what = f"{definition.id}: a row counts {row.count} instants from {row.fire_us} to {row.until_us}"
                self.report.add("OneOutcomePerInstant", record, f"{what}, the trigger has {len(inside)}")
            covered.update(dict.fromkeys(inside))
        for before, after in pairwise(rows):
            if before.until_us >= after.fire_us:
                what = f"{definition.id}: rows for {before.fire_us} and {after.fire_us} overlap"
                self.report.add("OneOutcomePerInstant", record, what)
        missing = [at for at in missing if at not in covered]
        if missing:
            what = f"{definition.id}: the cursor passed {len(missing)} instants without a row, the first {missing[0]}"
            self.report.add("NoMissedFire", record, what)
        _remember(seen, mine)

    def _close(self, record: Noted) -> None:
        """The transaction at hand has ended: a row without its cursor is half of a decision."""
        for move in self.moves:
            if isinstance(move, CursorMoved):
                self.on_cursor(move)
            else:
                self.on_put(move)
        self.moves.clear()
        for schedule_id, rows in self.inserted.items():
            what = f"{schedule_id}: a row for {rows[0].fire_us} was inserted without moving the cursor"
            self.report.add("RowsMoveWithCursor", record, what)
            seen = self.seen.get((rows[0].node, schedule_id))
            if seen is not None:
                seen.fires.update({row.fire_us: row.run_key for row in rows})
        self.inserted.clear()

    # --- restored stores, and the end -------------------------------------------------------------------------

    def on_rewound(self, record: Rewound) -> None:
        """The store was replaced: what it holds now is told next."""
        self._close(record)
        for place in [place for place in self.seen if place[0] == record.node]:
            del self.seen[place]
        for place in [place for place in self.keys if place[0] == record.node]:
            del self.keys[place]
        for store, row in [place for place in self.manual if place[0] == record.node]:
            del self.manual[store, row]

    def on_dropped(self, record: RowsDropped) -> None:
        """Retention: a manual run's key is remembered as long as its row. Scheduled ones stay behind their cursor."""
        for row in record.rows:
            self.dropped[row] = None
            key = self.manual.pop((record.node, row), None)
            if key is not None:
                self.keys.pop((record.node, key), None)

    def on_schedule_kept(self, record: ScheduleKept) -> None:
        """A schedule of a restored store, or at the end."""
        self._close(record)
        place = (record.node, record.schedule_id)
        if place not in self.seen:
            self.seen[place] = Seen(record.digest, record.state, record.cursor_us)
        seen = self.seen[place]
        if (seen.digest, seen.state, seen.cursor_us) != (record.digest, record.state, record.cursor_us):
            what = f"{record.schedule_id}: the store holds {record.state}@{record.cursor_us}"
            self.report.add("TraceComplete", record, f"{what}, its writes say {seen.state}@{seen.cursor_us}")

    def on_kept(self, record: RunKept) -> None:
        """A row of a restored store, or at the end."""
        self.keys.setdefault((record.node, record.run_key), record)
        if record.kind == "manual":
            self.manual[record.node, record.row] = record.run_key
        seen = self.seen.get((record.node, record.schedule_id))
        if seen is not None and record.kind == "scheduled":
            seen.fires.setdefault(record.fire_us, record.run_key)

    def finish(self, end: Noted) -> None:
        """Healed nodes have caught up: nothing that was due a while ago is undecided."""
        self._close(end)
        until_us = self.oracle.utc_us(end.at_us) - CATCH_UP_US
        for (store, schedule_id), seen in self.seen.items():
            definition = self.oracle.definitions[seen.digest]
            if seen.state == "parked":
                what = f"{schedule_id} is parked although its handler is there"
                self.report.add("SchedulesComeBack", evolve(end, node=store), what)
            if seen.state not in ("active", "finished"):
                continue
            try:
                following = next_fire(definition.trigger, seen.cursor_us)
            except CannotAdvance:
                continue
            if following is not None and following + spread_of(definition) <= until_us:
                what = f"{schedule_id} is {seen.state} and undecided since {following}, {until_us - following} us ago"
                self.report.add("NoMissedFire", evolve(end, node=store), what)


def _remember(seen: Seen, rows: list[RunWritten]) -> None:
    for row in rows:
        seen.fires[row.fire_us] = row.run_key
