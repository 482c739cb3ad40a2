"""Slots, and who waits for them: every route has a line of its own, and every pool serves the lines of its methods in
the order of their tickets. Part of placement; pure bookkeeping.

PLACE-2 a pool or a method is never over its size. PLACE-3 in a pool the order is first come, first served. PLACE-5 of
several pools that could execute a run the least loaded does. Whatever is done once a run costs the same with one
handler and with a thousand.
"""

from collections import deque
from heapq import heapify, heappop, heappush, heapreplace

from attrs import Factory, define

from sz_protocol.kernel.events import HandlersChanged, MethodInfo
from sz_protocol.routing import Route, Routes

MethodKey = tuple[str, str, str]
"""(pool, handler id, method): what a method's own concurrency is counted by."""


@define(eq=False)
class Pool:
    """Slots that methods share. `used` counts executions that hold one, unresponsive ones included. `lines` is a heap
    of (ticket of the first, number, line): lines that are served here only. `shared` are lines that other pools serve
    too, each with this pool's place in it; `version` counts the changes of `used` that they were told of."""

    size: int
    used: int = 0
    version: int = 0
    lines: "list[tuple[int, int, Line]]" = Factory(list)
    shared: "list[tuple[Line, int]]" = Factory(list)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return self.used < self.size


@define(eq=False)
class Line:
    """The rows of one route that wait for a slot, as (ticket, row), oldest first. `places` are the pools that serve it,
    each with the methods that would execute it there; none: its method is not here. `listed`: it stands in the heap of
    its only pool. `loads` is a heap of (load, place, version of the pool) of several, entries of older versions being
    void."""

    route: Route
    number: int
    places: tuple[tuple[Pool, tuple[MethodInfo, ...]], ...]
    queue: deque[tuple[int, int]] = Factory(deque)
    listed: bool = False
    loads: list[tuple[float, int, int]] = Factory(list)
    plain: "Slot | None" = None
    """What each of its runs gets: there where one pool serves it, and no method's own concurrency counts."""


Slot = tuple[Pool, MethodInfo, bool]
"""The pool, the method that executes, and whether the method's own concurrency counts."""


@define
class Pools:
    """`filed` belongs to placement: the ticket under which each row waits. An entry of a line with another ticket is
    void. `awake` are pools that have room and may have somebody waiting for it."""

    filed: dict[int, int]
    routes: Routes = Factory(lambda: Routes(HandlersChanged((), ())))
    all: dict[str, Pool] = Factory(dict)
    busy: dict[MethodKey, int] = Factory(dict)
    lines: dict[Route, Line] = Factory(dict)
    crowded: dict[MethodKey, list[Line]] = Factory(dict)
    """Lines that wait for the end of a run of this very method."""
    awake: dict[str, None] = Factory(dict)
    numbers: int = 0

    # --- taking a slot ----------------------------------------------------------------------------------------

    def find(self, route: Route) -> tuple[Pool, MethodInfo] | None:
        """Where a run of this route can execute now; None where it has to wait, be it behind others (PLACE-3)."""
        line = self.lines.get(route) or self._line(route)
        return None if line.queue and self._first(line) is not None else self._room(line)

    def take(self, pool: Pool, info: MethodInfo) -> Slot:
        """One more execution there."""
        pool.used += 1
        counts = info.concurrency is not None
        if counts:
            key = _key(info)
            self.busy[key] = self.busy.get(key, 0) + 1
        if pool.shared:
            self._touch(pool)
        return pool, info, counts

    def occupy(self, info: MethodInfo) -> Slot:
        """An execution that is there already, whether there is room for it or not."""
        pool = self.all.setdefault(info.pool, Pool(0))
        return self.take(pool, info)

    def release(self, slot: Slot) -> None:
        """Give a slot back where it was taken."""
        pool, info, counts = slot
        pool.used -= 1
        assert pool.used >= 0, "PLACE-2: a slot was given back twice"
        if counts:
            key = _key(info)
            self.busy[key] -= 1
            for line in self.crowded.pop(key, ()):
                self._list(line)
        if self.filed and pool.used < pool.size:
            self.awake[info.pool] = None
        if pool.shared:
            self._touch(pool)

    # --- waiting for one --------------------------------------------------------------------------------------

    def wait(self, route: Route, ticket: int, row: int) -> None:
        """Join the line of a route. Tickets of one line grow."""
        line = self._line(route)
        line.queue.append((ticket, row))
        self._list(line)

    def next(self) -> tuple[int, Pool, MethodInfo] | None:
        """The next row that waited and can have a slot now; it has left its line."""
        for name in list(self.awake):
            pool = self.all.get(name)
            if pool is None or not pool.has_room:
                del self.awake[name]
                continue
            head = self._head(pool)
            if head is None:
                del self.awake[name]
                continue
            _, line, info = head
            found = self._room(line) if len(line.places) > 1 else None
            return line.queue.popleft()[1], *(found or (pool, info))
        return None

    def learn(self, change: HandlersChanged) -> None:
        """Replace what can be executed. Who waits keeps his ticket, whoever serves his line from here on."""
        self.routes = self.routes.after(change)
        sizes = dict(change.pools)
        for name in [name for name, pool in self.all.items() if name not in sizes and not pool.used]:
            del self.all[name]
        for name, pool in self.all.items():
            pool.size = sizes.get(name, 0)
            pool.lines, pool.shared = [], []
        for name, size in change.pools:
            self.all.setdefault(name, Pool(size))
        self.crowded.clear()
        lines, self.lines = self.lines, {}
        for line in lines.values():
            if self._first(line) is not None:
                self._enroll(line.route, line.queue)
        self.awake = {name: None for name, pool in self.all.items() if pool.has_room}

    # --- lines ------------------------------------------------------------------------------------------------

    def _line(self, route: Route) -> Line:
        line = self.lines.get(route)
        return self._enroll(route, deque()) if line is None else line

    def _enroll(self, route: Route, queue: deque[tuple[int, int]]) -> Line:
        """A line, and the pools that serve it."""
        by_pool: dict[str, list[MethodInfo]] = {}
        for info in self.routes.candidates(route):
            by_pool.setdefault(info.pool, []).append(info)
        places = tuple((self.all[name], tuple(infos)) for name, infos in by_pool.items())
        self.numbers += 1
        line = self.lines[route] = Line(route, self.numbers, places, queue)
        if len(places) == 1 and places[0][1][0].concurrency is None:
            line.plain = (places[0][0], places[0][1][0], False)
        if len(places) > 1:
            for place, (pool, _) in enumerate(places):
                pool.shared.append((line, place))
                if pool.has_room:
                    heappush(line.loads, (pool.used / pool.size, place, pool.version))
        self._list(line)
        return line

    def _list(self, line: Line) -> None:
        """A line of one pool stands in its heap while somebody waits in it."""
        if line.queue and not line.listed and len(line.places) == 1:
            heappush(line.places[0][0].lines, (line.queue[0][0], line.number, line))
            line.listed = True

    def _first(self, line: Line) -> int | None:
        """The ticket of the first who waits in it; None when nobody does."""
        queue = line.queue
        while queue:
            ticket, row = queue[0]
            if self.filed.get(row) == ticket:
                return ticket
            queue.popleft()
        return None

    def _head(self, pool: Pool) -> tuple[int, Line, MethodInfo] | None:
        """Who is the first that this pool can execute now: (ticket, line, method)."""
        best: tuple[int, Line, MethodInfo] | None = None
        while pool.lines and best is None:
            ticket, number, line = pool.lines[0]
            first = self._first(line)
            if first is not None and first != ticket:
                heapreplace(pool.lines, (first, number, line))
                continue
            info = None if first is None else self._free(line.places[0][1])
            if first is not None and info is not None:
                best = first, line, info
                continue
            heappop(pool.lines)
            line.listed = False
            if first is not None:
                for full in line.places[0][1]:
                    self.crowded.setdefault(_key(full), []).append(line)
        for line, place in pool.shared:
            first = self._first(line) if line.queue else None
            if first is not None and (best is None or first < best[0]):
                info = self._free(line.places[place][1])
                if info is not None:
                    best = first, line, info
        return best

    # --- room -------------------------------------------------------------------------------------------------

    def _free(self, infos: tuple[MethodInfo, ...]) -> MethodInfo | None:
        """The first of these methods that may execute one more run."""
        for info in infos:
            if info.concurrency is None or self.busy.get(_key(info), 0) < info.concurrency:
                return info
        return None

    def _room(self, line: Line) -> tuple[Pool, MethodInfo] | None:
        """A slot for the first of this line where nobody else has a right to it; the least loaded of several pools."""
        if len(line.places) == 1:
            pool, infos = line.places[0]
            info = self._free(infos) if pool.used < pool.size else None
            return None if info is None or self._is_wanted(pool, line) else (pool, info)
        passed: list[tuple[float, int, int]] = []
        found: tuple[Pool, MethodInfo] | None = None
        while line.loads and found is None:
            _, place, version = line.loads[0]
            pool, infos = line.places[place]
            info = self._free(infos) if version == pool.version and pool.has_room else None
            if info is None:
                # Void, or full: it is told anew as soon as anything ends there.
                heappop(line.loads)
            elif self._is_wanted(pool, line):
                passed.append(heappop(line.loads))
            else:
                found = pool, info
        for load in passed:
            heappush(line.loads, load)
        return found

    def _is_wanted(self, pool: Pool, line: Line) -> bool:
        """Whether somebody in another line comes first there."""
        head = self._head(pool) if pool.lines or pool.shared else None
        return head is not None and head[1] is not line

    def _touch(self, pool: Pool) -> None:
        """Tell the lines that several pools serve how loaded this one is now."""
        pool.version += 1
        if not pool.has_room:
            return
        for line, place in pool.shared:
            heappush(line.loads, (pool.used / pool.size, place, pool.version))
            if len(line.loads) > 64 + 4 * len(line.places):
                line.loads = [load for load in line.loads if load[2] == line.places[load[1]][0].version]
                heapify(line.loads)


def _key(info: MethodInfo) -> MethodKey:
    return info.pool, info.handler_id, info.method
