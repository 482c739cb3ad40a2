"""Where runs wait for their turn: in the lane of their schedule (overlap), for an instant (back-off, rate), for a
method that is not here or a slot (`pools`). Part of execution; pure bookkeeping, no effects.

Rules: specs/execution.md. PLACE-1 a lane executes at most its width. PLACE-3 within a lane and within a pool the order
is first come, first served. PLACE-4 a run waits in one place only.
"""

from collections import deque
from heapq import heappop, heappush

from attrs import Factory, define

from sz_protocol.kernel.events import MethodInfo
from sz_protocol.kernel.now import Now
from sz_protocol.machines.pools import Pools, Slot
from sz_protocol.records import Run
from sz_protocol.routing import Route, Routes


@define
class Placement:
    """`lanes` lists the active runs of each schedule, oldest first: the first of them may execute, `widths[schedule]`
    of them where that is there, and the others wait. A run between two attempts keeps its place in its lane. `filed`
    holds the rows that wait in `delayed` or in a line of `pools`, each with its ticket there; an entry with another
    ticket is void."""

    lanes: dict[str, list[int]] = Factory(dict)
    widths: dict[str, int] = Factory(dict)
    filed: dict[int, int] = Factory(dict)
    pools: Pools = Factory(lambda self: Pools(self.filed), takes_self=True)
    delayed: list[tuple[int, int, int]] = Factory(list)
    """(when, row, ticket)."""
    ready: deque[int] = Factory(deque)
    """Rows that hold a slot and wait for their claim to be written."""
    slots: dict[int, Slot] = Factory(dict)
    """The slot that each row holds, so that it is given back where it was taken even when methods change meanwhile."""
    tickets: int = 0

    @property
    def routes(self) -> Routes:
        """What can be executed."""
        return self.pools.routes

    # --- lanes ------------------------------------------------------------------------------------------------

    def active(self, schedule_id: str) -> int:
        """How many runs of a schedule are executing, waiting or between attempts."""
        lane = self.lanes.get(schedule_id)
        return len(lane) if lane else 0

    def enter(self, run: Run, width: int) -> None:
        """Join the lane of the run's schedule, at its end. The newest definition says how wide the lane is."""
        schedule_id = run.schedule_id
        if not schedule_id:
            return
        lane = self.lanes.get(schedule_id)
        if lane is None:
            self.lanes[schedule_id] = [run.row]
        else:
            lane.append(run.row)
        if width != 1 or schedule_id in self.widths:
            self.widths[schedule_id] = width

    def widen(self, schedule_id: str, width: int) -> list[int]:
        """A lane may be wider from now on; the rows whose turn it may be then."""
        lane = self.lanes.get(schedule_id)
        if lane is None or width <= self.widths.get(schedule_id, 1):
            return []
        self.widths[schedule_id] = width
        return [row for row in lane[:width] if row not in self.filed and row not in self.slots]

    def leave(self, run: Run) -> list[int]:
        """Leave the lane for good; the rows whose turn it may be now."""
        schedule_id = run.schedule_id
        lane = self.lanes.get(schedule_id)
        if lane is None or run.row not in lane:
            return []
        if len(lane) == 1:
            del self.lanes[schedule_id]
            if self.widths:
                self.widths.pop(schedule_id, None)
            return []
        lane.remove(run.row)
        width = self.widths.get(schedule_id, 1)
        return [row for row in lane[:width] if row not in self.filed and row not in self.slots]

    def has_turn(self, run: Run) -> bool:
        """Whether its lane lets the run go forward, and it has not done so yet (PLACE-1, PLACE-4)."""
        if run.row in self.filed or run.row in self.slots:
            return False
        lane = self.lanes.get(run.schedule_id)
        return lane is None or lane[0] == run.row or run.row in lane[: self.widths.get(run.schedule_id, 1)]

    # --- waiting ----------------------------------------------------------------------------------------------

    def _file(self, row: int) -> int:
        self.tickets += 1
        self.filed[row] = self.tickets
        return self.tickets

    def delay(self, row: int, until_mono_us: int) -> None:
        """Let a run wait for an instant."""
        heappush(self.delayed, (until_mono_us, row, self._file(row)))

    def pop_delayed(self, now: Now) -> list[int]:
        """Rows whose waiting time is over."""
        rows: list[int] = []
        while self.delayed and self.delayed[0][0] <= now.mono_us:
            _, row, ticket = heappop(self.delayed)
            if self.filed.get(row) == ticket:
                del self.filed[row]
                rows.append(row)
        return rows

    def place(self, row: int, route: Route) -> bool:
        """Give a run whose turn it is a slot (True), or file it where it has to wait for one."""
        if self.take_slot(row, route) is not None:
            return True
        self.pools.wait(route, self._file(row), row)
        return False

    def take_slot(self, row: int, route: Route) -> Slot | None:
        """Take a slot for a run of this route, if there is one and nobody waits for it already; None if not."""
        slots, pools = self.slots, self.pools
        assert row not in slots, "PLACE-2: one run, one slot"
        line = pools.lines.get(route)
        if line is not None and line.plain is not None and not line.queue:
            # The hot path of `find` and `take`: one pool that serves nobody but those who need not wait.
            pool = line.plain[0]
            if pool.used < pool.size and not pool.lines and not pool.shared:
                pool.used += 1
                slots[row] = line.plain
                return line.plain
        found = pools.find(route)
        if found is None:
            return None
        slots[row] = slot = pools.take(*found)
        return slot

    def take_queued(self, limit: int) -> list[int]:
        """Rows from the lines of all pools that can have a slot now, at most `limit`; they hold it from here on."""
        taken: list[int] = []
        while len(taken) < limit:
            found = self.pools.next()
            if found is None:
                break
            row, pool, info = found
            del self.filed[row]
            self.slots[row] = self.pools.take(pool, info)
            taken.append(row)
        return taken

    # --- slots ------------------------------------------------------------------------------------------------

    def worker_of(self, row: int) -> str:
        """Who executes the run that holds a slot: the id of a remote handler, "" for this process."""
        return self.slots[row][1].worker

    def occupy(self, row: int, info: MethodInfo) -> None:
        """Let a run that a worker executes already hold its slot, whether there is room for it or not."""
        assert row not in self.slots, "PLACE-2: one run, one slot"
        self.slots[row] = self.pools.occupy(info)

    def free(self, row: int) -> None:
        """The row waits nowhere any more, and gives back the slot that it holds, if it holds one."""
        if self.filed:
            self.filed.pop(row, None)
        slot = self.slots.pop(row, None)
        if slot is not None:
            self.pools.release(slot)

    def strand(self, row: int) -> Slot:
        """Take the slot away from its row without freeing it: an unresponsive execution still sits in it."""
        return self.slots.pop(row)

    def free_slot(self, slot: Slot) -> None:
        """The execution that sat in it has ended after all."""
        self.pools.release(slot)
