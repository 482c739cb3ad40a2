"""Where runs wait for their turn: in the lane of their schedule (overlap), for an instant (back-off, rate), for a
method that is not here, for a slot of a pool. Part of execution; pure bookkeeping, no effects.

Rules: specs/execution.md. PLACE-1 a lane executes at most its width. PLACE-2 a pool or method is never over its size.
PLACE-3 within a lane and within a pool the order is first come, first served. PLACE-4 a run waits in one place only.
"""

from collections import deque
from heapq import heappop, heappush

from attrs import Factory, define

from sz_protocol.kernel.events import MethodInfo
from sz_protocol.kernel.now import Now
from sz_protocol.records import Run

Key = tuple[str, str]
"""(handler id, method)."""


@define
class Pool:
    """Slots that methods share. `used` counts executions that hold one, unresponsive ones included."""

    size: int
    used: int = 0
    queue: deque[tuple[int, Key]] = Factory(deque)


Slot = tuple[Pool, Key | None]
"""The pool, and the method where its own concurrency counts."""


@define
class Placement:
    """`lanes` lists the active runs of each schedule, oldest first: the first `widths[schedule]` of them may execute,
    the others wait. A run between two attempts keeps its place in its lane. `filed` holds the rows that wait in one of
    `delayed`, `held`, `crowded` or a pool's queue; an entry there whose row is not filed is stale."""

    methods: dict[Key, MethodInfo] = Factory(dict)
    pools: dict[str, Pool] = Factory(dict)
    busy: dict[Key, int] = Factory(dict)
    lanes: dict[str, list[int]] = Factory(dict)
    widths: dict[str, int] = Factory(dict)
    filed: dict[int, None] = Factory(dict)
    delayed: list[tuple[int, int]] = Factory(list)
    held: dict[Key, list[int]] = Factory(dict)
    """Rows whose method is not here."""
    crowded: dict[Key, deque[int]] = Factory(dict)
    """Rows whose method executes as many runs as it may, in the order in which they came."""
    ready: deque[int] = Factory(deque)
    """Rows that hold a slot and wait for their claim to be written."""
    slots: dict[int, Slot] = Factory(dict)
    """The slot that each row holds, so that it is given back where it was taken even when methods change meanwhile."""

    # --- lanes ------------------------------------------------------------------------------------------------

    def active(self, schedule_id: str) -> int:
        """How many runs of a schedule are executing, waiting or between attempts."""
        lane = self.lanes.get(schedule_id)
        return len(lane) if lane else 0

    def enter(self, run: Run, width: int) -> None:
        """Join the lane of the run's schedule, at its end. The newest definition says how wide the lane is."""
        if run.schedule_id:
            self.lanes.setdefault(run.schedule_id, []).append(run.row)
            self.widths[run.schedule_id] = width

    def leave(self, run: Run) -> list[int]:
        """Leave the lane for good; the rows whose turn it may be now."""
        lane = self.lanes.get(run.schedule_id)
        if lane is None or run.row not in lane:
            return []
        lane.remove(run.row)
        if not lane:
            del self.lanes[run.schedule_id], self.widths[run.schedule_id]
            return []
        return [row for row in lane[: self.widths[run.schedule_id]] if row not in self.filed and row not in self.slots]

    def has_turn(self, run: Run) -> bool:
        """Whether its lane lets the run go forward, and it has not done so yet (PLACE-1, PLACE-4)."""
        if run.row in self.filed or run.row in self.slots:
            return False
        lane = self.lanes.get(run.schedule_id)
        return lane is None or lane[0] == run.row or run.row in lane[: self.widths[run.schedule_id]]

    # --- waiting ----------------------------------------------------------------------------------------------

    def delay(self, row: int, until_mono_us: int) -> None:
        """Let a run wait for an instant."""
        self.filed[row] = None
        heappush(self.delayed, (until_mono_us, row))

    def pop_delayed(self, now: Now) -> list[int]:
        """Rows whose waiting time is over."""
        rows: list[int] = []
        while self.delayed and self.delayed[0][0] <= now.mono_us:
            row = heappop(self.delayed)[1]
            if row in self.filed:
                del self.filed[row]
                rows.append(row)
        return rows

    def place(self, run: Run) -> bool:
        """Give a run whose turn it is a slot (True), or file it where it has to wait for one."""
        key = (run.handler_id, run.method)
        if self.take_slot(run.row, key):
            return True
        info = self.methods.get(key)
        self.filed[run.row] = None
        if info is None:
            self.held.setdefault(key, []).append(run.row)
        else:
            self.pools[info.pool].queue.append((run.row, key))
        return False

    def take_slot(self, row: int, key: Key) -> bool:
        """Take a slot for a run of this method, if there is one and nobody waits for it already."""
        info = self.methods.get(key)
        if info is None:
            return False
        pool = self.pools[info.pool]
        if pool.used >= pool.size or pool.queue or self._method_full(key, info):
            return False
        self._take(row, key, info, pool)
        return True

    def take_queued(self, limit: int) -> list[int]:
        """Rows from the queues of all pools that can have a slot now, at most `limit`; they hold it from here on.

        Rows whose own method is full step aside, in their order, until a run of that method ends.
        """
        taken: list[int] = []
        for pool in self.pools.values():
            while pool.queue and pool.used < pool.size and len(taken) < limit:
                row, key = pool.queue.popleft()
                if row not in self.filed:
                    continue
                info = self.methods.get(key)
                if info is None:
                    self.held.setdefault(key, []).append(row)
                    continue
                if self._method_full(key, info):
                    self.crowded.setdefault(key, deque()).append(row)
                    continue
                del self.filed[row]
                self._take(row, key, info, pool)
                taken.append(row)
        return taken

    # --- slots ------------------------------------------------------------------------------------------------

    def _take(self, row: int, key: Key, info: MethodInfo, pool: Pool) -> None:
        assert row not in self.slots, "PLACE-2: one run, one slot"
        pool.used += 1
        if info.concurrency is None:
            self.slots[row] = (pool, None)
        else:
            self.busy[key] = self.busy.get(key, 0) + 1
            self.slots[row] = (pool, key)

    def _method_full(self, key: Key, info: MethodInfo) -> bool:
        return info.concurrency is not None and self.busy.get(key, 0) >= info.concurrency

    def free(self, row: int) -> None:
        """The row waits nowhere any more, and gives back the slot that it holds, if it holds one."""
        self.filed.pop(row, None)
        slot = self.slots.pop(row, None)
        if slot is not None:
            self.free_slot(slot)

    def strand(self, row: int) -> Slot:
        """Take the slot away from its row without freeing it: an unresponsive execution still sits in it."""
        return self.slots.pop(row)

    def free_slot(self, slot: Slot) -> None:
        """Make room in the pool that the slot was taken from; who waited for this very method is first in line."""
        pool, key = slot
        pool.used -= 1
        assert pool.used >= 0, "PLACE-2: a slot was given back twice"
        if key is not None:
            self.busy[key] -= 1
            aside = self.crowded.get(key)
            while aside:
                row = aside.popleft()
                if row in self.filed:
                    pool.queue.appendleft((row, key))
                    return

    def learn(self, methods: tuple[MethodInfo, ...], pools: tuple[tuple[str, int], ...]) -> list[int]:
        """Replace what can be executed; the rows that waited for a method which is here now."""
        for name, size in pools:
            if name in self.pools:
                self.pools[name].size = size
            else:
                self.pools[name] = Pool(size)
        for key, aside in self.crowded.items():
            self.pools[self.methods[key].pool].queue.extendleft((row, key) for row in reversed(aside))
        self.crowded.clear()
        self.methods = {(m.handler_id, m.method): m for m in methods}
        found = [key for key in self.held if key in self.methods]
        rows = [row for key in found for row in self.held.pop(key) if row in self.filed]
        for row in rows:
            del self.filed[row]
        return rows
