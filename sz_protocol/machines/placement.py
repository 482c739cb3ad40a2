"""Where runs wait for their turn: in the lane of their schedule (overlap), for an instant (back-off, rate), for a
method that is not here, for a slot of a pool. Part of execution; pure bookkeeping, no effects.

Rules: specs/execution.md. PLACE-1 a lane executes at most its width. PLACE-2 a pool or method is never over its size.
PLACE-3 within a lane and within a pool the order is first come, first served. PLACE-4 a run waits in one place only.
"""

from collections import deque
from heapq import heappop, heappush

from attrs import Factory, define

from sz_protocol.kernel.events import HandlersChanged, MethodInfo
from sz_protocol.kernel.now import Now
from sz_protocol.records import Run
from sz_protocol.routing import Route, Routes

MethodKey = tuple[str, str, str]
"""(pool, handler id, method): what a method's own concurrency is counted by."""


@define
class Pool:
    """Slots that methods share. `used` counts executions that hold one, unresponsive ones included. A row waits in the
    queue of every pool that may execute it, together with the method that would do so."""

    size: int
    used: int = 0
    queue: deque[tuple[int, MethodInfo]] = Factory(deque)


Slot = tuple[Pool, MethodInfo, bool]
"""The pool, the method that executes, and whether the method's own concurrency counts."""


@define
class Placement:
    """`lanes` lists the active runs of each schedule, oldest first: the first `widths[schedule]` of them may execute,
    the others wait. A run between two attempts keeps its place in its lane. `filed` holds the rows that wait in one of
    `delayed`, `held`, `crowded` or a pool's queue; an entry there whose row is not filed is stale."""

    routes: Routes = Factory(lambda: Routes(HandlersChanged((), ())))
    pools: dict[str, Pool] = Factory(dict)
    busy: dict[MethodKey, int] = Factory(dict)
    lanes: dict[str, list[int]] = Factory(dict)
    widths: dict[str, int] = Factory(dict)
    filed: dict[int, None] = Factory(dict)
    delayed: list[tuple[int, int]] = Factory(list)
    held: dict[Route, list[int]] = Factory(dict)
    """Rows whose method is not here."""
    crowded: dict[MethodKey, deque[tuple[int, MethodInfo]]] = Factory(dict)
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

    def place(self, row: int, route: Route) -> bool:
        """Give a run whose turn it is a slot (True), or file it where it has to wait for one."""
        if self.take_slot(row, route):
            return True
        self.filed[row] = None
        infos = self.routes.candidates(route)
        if not infos:
            self.held.setdefault(route, []).append(row)
        for info in infos:
            self.pools[info.pool].queue.append((row, info))
        return False

    def take_slot(self, row: int, route: Route) -> bool:
        """Take a slot for a run of this route, if there is one and nobody waits for it already; of several the least
        loaded."""
        best: MethodInfo | None = None
        least = 1.0
        for info in self.routes.candidates(route):
            pool = self.pools[info.pool]
            if pool.used >= pool.size or pool.queue or self._method_full(info):
                continue
            load = pool.used / pool.size
            if load < least:
                best, least = info, load
        if best is None:
            return False
        self._take(row, best)
        return True

    def take_queued(self, limit: int) -> list[int]:
        """Rows from the queues of all pools that can have a slot now, at most `limit`; they hold it from here on.

        Rows whose own method is full step aside, in their order, until a run of that method ends.
        """
        taken: list[int] = []
        for pool in self.pools.values():
            while pool.queue and pool.used < pool.size and len(taken) < limit:
                row, info = pool.queue.popleft()
                if row not in self.filed:
                    continue
                if self._method_full(info):
                    self.crowded.setdefault(_key(info), deque()).append((row, info))
                    continue
                del self.filed[row]
                self._take(row, info)
                taken.append(row)
        return taken

    # --- slots ------------------------------------------------------------------------------------------------

    def worker_of(self, row: int) -> str:
        """Who executes the run that holds a slot: the id of a remote handler, "" for this process."""
        return self.slots[row][1].worker

    def occupy(self, row: int, info: MethodInfo) -> None:
        """Let a run that a worker executes already hold its slot, whether there is room for it or not."""
        self.pools.setdefault(info.pool, Pool(0))
        self._take(row, info)

    def _take(self, row: int, info: MethodInfo) -> None:
        assert row not in self.slots, "PLACE-2: one run, one slot"
        pool = self.pools[info.pool]
        pool.used += 1
        counts = info.concurrency is not None
        if counts:
            key = _key(info)
            self.busy[key] = self.busy.get(key, 0) + 1
        self.slots[row] = (pool, info, counts)

    def _method_full(self, info: MethodInfo) -> bool:
        return info.concurrency is not None and self.busy.get(_key(info), 0) >= info.concurrency

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
        pool, info, counts = slot
        pool.used -= 1
        assert pool.used >= 0, "PLACE-2: a slot was given back twice"
        if counts:
            key = _key(info)
            self.busy[key] -= 1
            aside = self.crowded.get(key)
            while aside:
                row, waiting = aside.popleft()
                if row in self.filed:
                    pool.queue.appendleft((row, waiting))
                    return

    def learn(self, change: HandlersChanged) -> list[int]:
        """Replace what can be executed; the rows that have to be placed anew, in the order of their waiting: those that
        waited for a method, or in a queue of methods that are not the same any more."""
        self.routes = Routes(change)
        waiting = {row: None for row in self._unqueue() if row in self.filed}
        found = [route for route in self.held if self.routes.candidates(route)]
        waiting.update({row: None for route in found for row in self.held.pop(route) if row in self.filed})
        sizes = dict(change.pools)
        for name, pool in self.pools.items():
            pool.size = sizes.get(name, 0)
        for name in [name for name, pool in self.pools.items() if name not in sizes and not pool.used]:
            del self.pools[name]
        for name, size in change.pools:
            if name not in self.pools:
                self.pools[name] = Pool(size)
        for row in waiting:
            del self.filed[row]
        return list(waiting)

    def _unqueue(self) -> list[int]:
        """Everything that waits for a slot, oldest first within its method."""
        rows: list[int] = []
        for aside in self.crowded.values():
            rows += [row for row, _ in aside]
        self.crowded.clear()
        for pool in self.pools.values():
            rows += [row for row, _ in pool.queue]
            pool.queue.clear()
        return rows


def _key(info: MethodInfo) -> MethodKey:
    return info.pool, info.handler_id, info.method
