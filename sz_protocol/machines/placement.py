"""Where runs wait for their turn: in the lane of their schedule (overlap), for an instant (back-off, rate), for a
method that is not here, for a slot of a pool. Part of execution; pure bookkeeping, no effects.

Rules: specs/execution.md. PLACE-1 a lane executes at most its width. PLACE-2 a pool or method is never over its size.
PLACE-3 within a lane and within a pool the order is first come, first served.
"""

from collections import deque
from heapq import heappop, heappush

from attrs import Factory, define

from sz_protocol.kernel.events import MethodInfo
from sz_protocol.kernel.now import Now
from sz_protocol.records import Run


@define
class Pool:
    """Slots that methods share. `used` counts executions that hold one, unresponsive ones included."""

    size: int
    used: int = 0
    queue: deque[int] = Factory(deque)


Slot = tuple[Pool, tuple[str, str] | None]
"""The pool, and the method where its own concurrency counts."""


@define
class Placement:
    """`lanes` lists the active runs of each schedule, oldest first: the first `width` of them may execute, the others
    wait. A run between two attempts keeps its place in its lane."""

    methods: dict[tuple[str, str], MethodInfo] = Factory(dict)
    pools: dict[str, Pool] = Factory(dict)
    busy: dict[tuple[str, str], int] = Factory(dict)
    lanes: dict[str, list[int]] = Factory(dict)
    delayed: list[tuple[int, int]] = Factory(list)
    held: dict[tuple[str, str], list[int]] = Factory(dict)
    ready: deque[int] = Factory(deque)
    """Rows that hold a slot and wait for their claim to be written."""
    slots: dict[int, Slot] = Factory(dict)
    """The slot that each row holds, so that it is given back where it was taken even when methods change meanwhile."""

    def active(self, schedule_id: str) -> int:
        """How many runs of a schedule are executing, waiting or between attempts."""
        lane = self.lanes.get(schedule_id)
        return len(lane) if lane else 0

    def enter(self, run: Run) -> None:
        """Join the lane of the run's schedule, at its end."""
        if run.schedule_id:
            self.lanes.setdefault(run.schedule_id, []).append(run.row)

    def leave(self, run: Run, width: int) -> int | None:
        """Leave the lane for good; the row whose turn it is now, if any."""
        lane = self.lanes.get(run.schedule_id)
        if lane is None or run.row not in lane:
            return None
        place = lane.index(run.row)
        del lane[place]
        if not lane:
            del self.lanes[run.schedule_id]
            return None
        return lane[width - 1] if place < width <= len(lane) else None

    def place(self, run: Run, width: int, now: Now) -> bool:
        """File the run where it has to wait; True when it needs no waiting and now holds a slot.

        The caller claims it then, or gives the slot back with `free`.
        """
        lane = self.lanes.get(run.schedule_id)
        if lane is not None and lane[0] != run.row and run.row not in lane[:width]:
            return False
        if run.not_before_us > now.utc_us:
            heappush(self.delayed, (now.mono_us + run.not_before_us - now.utc_us, run.row))
            return False
        key = (run.handler_id, run.method)
        if self.take_slot(run.row, key):
            return True
        info = self.methods.get(key)
        if info is None:
            self.held.setdefault(key, []).append(run.row)
        else:
            self.pools[info.pool].queue.append(run.row)
        return False

    def take_slot(self, row: int, key: tuple[str, str]) -> bool:
        """Take a slot for a run of this method, if there is one and nobody waits for it already."""
        info = self.methods.get(key)
        if info is None:
            return False
        pool = self.pools[info.pool]
        if pool.used >= pool.size or pool.queue or self._method_full(key, info):
            return False
        self._take(row, key, info, pool)
        return True

    def _take(self, row: int, key: tuple[str, str], info: MethodInfo, pool: Pool) -> None:
        assert row not in self.slots, "PLACE-2: one run, one slot"
        pool.used += 1
        if info.concurrency is None:
            self.slots[row] = (pool, None)
        else:
            self.busy[key] = self.busy.get(key, 0) + 1
            self.slots[row] = (pool, key)

    def _method_full(self, key: tuple[str, str], info: MethodInfo) -> bool:
        return info.concurrency is not None and self.busy.get(key, 0) >= info.concurrency

    def free(self, row: int) -> None:
        """Give back the slot that a row holds, if it holds one."""
        slot = self.slots.pop(row, None)
        if slot is not None:
            self.free_slot(slot)

    def strand(self, row: int) -> Slot:
        """Take the slot away from its row without freeing it: an unresponsive execution still sits in it."""
        return self.slots.pop(row)

    def free_slot(self, slot: Slot) -> None:
        """Make room in the pool that the slot was taken from."""
        pool, key = slot
        pool.used -= 1
        assert pool.used >= 0, "PLACE-2: a slot was given back twice"
        if key is not None:
            self.busy[key] -= 1

    def take_queued(self, runs: dict[int, Run], limit: int) -> list[int]:
        """Rows from the queues of all pools that can have a slot now, at most `limit`; they hold it from here on.

        Rows whose own method is full are passed over and keep their order.
        """
        taken: list[int] = []
        for pool in self.pools.values():
            passed_over: list[int] = []
            while pool.queue and pool.used < pool.size and len(taken) < limit:
                row = pool.queue.popleft()
                run = runs.get(row)
                if run is None:
                    continue
                key = (run.handler_id, run.method)
                info = self.methods[key]
                if self._method_full(key, info):
                    passed_over.append(row)
                    continue
                self._take(row, key, info, pool)
                taken.append(row)
            pool.queue.extendleft(reversed(passed_over))
        return taken

    def pop_delayed(self, now: Now) -> list[int]:
        """Rows whose waiting time is over."""
        rows: list[int] = []
        while self.delayed and self.delayed[0][0] <= now.mono_us:
            rows.append(heappop(self.delayed)[1])
        return rows

    def learn(self, methods: tuple[MethodInfo, ...], pools: tuple[tuple[str, int], ...]) -> list[int]:
        """Replace what can be executed; the rows that waited for a method which is here now."""
        for name, size in pools:
            if name in self.pools:
                self.pools[name].size = size
            else:
                self.pools[name] = Pool(size)
        # A method that left keeps its entry: executions under way must find the pool whose slot they hold.
        self.methods.update({(m.handler_id, m.method): m for m in methods})
        found = [key for key in self.held if key in self.methods]
        return [row for key in found for row in self.held.pop(key)]
