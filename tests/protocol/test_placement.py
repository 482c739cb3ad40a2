"""Where runs wait for a slot, judged by a naive model of the same rules (PLACE-2 to PLACE-5)."""

from attrs import Factory, define
from hypothesis import given
from hypothesis import strategies as st

from sz_protocol.kernel.events import HandlersChanged, MethodInfo
from sz_protocol.machines.placement import Placement
from sz_protocol.routing import Route, worker_pool

WORKERS = ("a", "b", "c")
METHODS = ("m", "n")


def worker(name: str, *methods: str, size: int = 2, concurrency: int | None = None, **tags: str) -> HandlersChanged:
    """One handler, as membership tells of it."""
    infos = tuple(
        MethodInfo(name, m, worker_pool(name), concurrency, name, tuple(sorted(tags.items()))) for m in methods
    )
    return HandlersChanged(infos, ((worker_pool(name), size),))


def together(*changes: HandlersChanged) -> HandlersChanged:
    """All of them."""
    return HandlersChanged(tuple(i for c in changes for i in c.methods), tuple(p for c in changes for p in c.pools))


def placement(*changes: HandlersChanged) -> Placement:
    """A placement that knows these handlers."""
    made = Placement()
    made.pools.learn(together(*changes))
    return made


def named(handler: str, method: str = "m") -> Route:
    """The route of a schedule that names its handler."""
    return handler, method, (), False


ANY: Route = ("*", "m", (), False)


# --- examples --------------------------------------------------------------------------------------------------


def test_place_5_any_handler_means_the_least_loaded_one() -> None:
    made = placement(worker("a", "m", size=4), worker("b", "m", size=2), worker("c", "n"))
    workers = []
    for row in range(6):
        assert made.place(row, ANY)
        workers.append(made.worker_of(row))
    assert sorted(workers) == ["a"] * 4 + ["b"] * 2
    assert workers[:3] == ["a", "b", "a"], "by the share of its slots, not by their number"
    assert not made.place(6, ANY)


def test_place_5_slots_that_come_at_once_are_shared_out_evenly() -> None:
    made = Placement()
    for row in range(4):
        assert not made.place(row, ANY)
    made.pools.learn(together(worker("a", "m", size=9), worker("b", "m", size=9)))
    assert made.take_queued(9) == [0, 1, 2, 3]
    assert [made.worker_of(row) for row in range(4)] == ["a", "b", "a", "b"]


def test_place_3_a_run_for_any_handler_waits_its_turn_among_those_that_are_named() -> None:
    made = placement(worker("a", "m", size=1))
    assert made.place(0, named("a"))
    assert not made.place(1, named("a"))
    assert not made.place(2, ANY)
    assert not made.place(3, named("a"))
    order = []
    for row in (0, 1, 2):
        made.free(row)
        order += made.take_queued(9)
    assert order == [1, 2, 3]


def test_place_3_who_waits_keeps_his_place_whatever_handlers_come_and_go() -> None:
    made = placement(worker("a", "m", size=1))
    assert made.place(0, named("a"))
    assert not made.place(1, ANY)
    assert not made.place(2, named("a"))
    made.pools.learn(together(worker("a", "m", size=1), worker("b", "n")))
    made.pools.learn(together(worker("a", "m", size=1), worker("b", "m", size=0)))
    made.free(0)
    assert made.take_queued(9) == [1], "it came before the one that is named"


def test_place_4_a_void_entry_of_a_line_takes_nothing() -> None:
    made = placement(worker("a", "m", size=1), worker("b", "m", size=1))
    assert made.place(0, named("a"))
    assert made.place(1, named("b"))
    assert not made.place(2, ANY)
    made.free(0)
    assert made.take_queued(9) == [2]
    made.free(2)
    made.delay(2, 1000)
    made.free(1)
    assert made.take_queued(9) == [], "it waits for an instant now, not for a slot"


def test_place_2_a_method_that_executes_as_often_as_it_may_does_not_hold_up_others() -> None:
    made = placement(worker("a", "m", size=3, concurrency=1), HandlersChanged((), ()))
    made.pools.learn(
        HandlersChanged(
            (
                MethodInfo("a", "m", worker_pool("a"), 1, "a"),
                MethodInfo("a", "n", worker_pool("a"), None, "a"),
            ),
            ((worker_pool("a"), 2),),
        )
    )
    assert made.place(0, named("a", "m"))
    assert not made.place(1, named("a", "m"))
    assert made.place(2, named("a", "n"))
    assert not made.place(3, named("a", "n"))
    made.free(2)
    assert made.take_queued(9) == [3], "row 1 waits for its method, and steps aside"
    made.free(0)
    assert made.take_queued(9) == [1]


def test_place_1_elsewhere_goes_to_another_handler_only_while_its_own_is_away() -> None:
    route: Route = ("a", "m", (), True)
    made = placement(worker("a", "m", size=0), worker("b", "m"))
    assert made.place(0, route)
    assert made.worker_of(0) == "b"
    made.pools.learn(together(worker("a", "m", size=1), worker("b", "m")))
    assert made.place(1, route)
    assert made.worker_of(1) == "a"
    assert not made.place(2, route), "it is here: its runs wait for it"
    made.pools.learn(together(worker("a", "m", size=0), worker("b", "m")))
    assert made.take_queued(9) == [2]
    assert made.worker_of(2) == "b"


def test_a_run_found_with_a_worker_holds_its_slot_before_that_worker_is_known() -> None:
    made = Placement()
    made.occupy(7, MethodInfo("a", "m", worker_pool("a"), None, "a"))
    made.pools.learn(worker("a", "m", size=1))
    assert not made.place(8, named("a"))
    made.free(7)
    assert made.take_queued(9) == [8]


def test_what_is_done_once_a_run_does_not_grow_with_the_number_of_handlers() -> None:
    """Counted in looks at a pool, not in time: 500 handlers, all busy, one run after the other."""
    made = placement(*(worker(f"w{i}", "m", size=1) for i in range(500)))
    rows = iter(range(100_000))
    running = [row for row in (next(rows) for _ in range(500)) if made.place(row, ANY)]
    assert len(running) == 500
    looks = 0
    original = type(made.pools)._head

    def counting(self: object, pool: object) -> object:
        nonlocal looks
        looks += 1
        return original(self, pool)  # type: ignore[arg-type]

    type(made.pools)._head = counting  # type: ignore[assignment, method-assign]
    try:
        for _ in range(200):
            waiting = next(rows)
            assert not made.place(waiting, ANY)
            made.free(running.pop(0))
            assert made.take_queued(9) == [waiting]
            running.append(waiting)
    finally:
        type(made.pools)._head = original  # type: ignore[method-assign]
    assert looks < 200 * 10
    line = made.pools.lines[ANY]
    assert len(line.loads) <= 64 + 4 * 500, "void entries are cleared away"


# --- the model -------------------------------------------------------------------------------------------------


@define
class Model:
    """The rules as plainly as they can be said: rows in one list, everything looked up anew each time."""

    change: HandlersChanged
    waiting: list[tuple[int, Route]] = Factory(list)
    executing: dict[int, MethodInfo] = Factory(dict)

    def used(self, pool: str) -> int:
        return sum(info.pool == pool for info in self.executing.values())

    def size(self, pool: str) -> int:
        return dict(self.change.pools).get(pool, 0)

    def able(self, info: MethodInfo) -> bool:
        same = [i for i in self.executing.values() if (i.pool, i.handler_id, i.method) == _key(info)]
        counted = [i for i in same if i.concurrency is not None]
        method_free = info.concurrency is None or len(counted) < info.concurrency
        return method_free and self.used(info.pool) < self.size(info.pool)

    def candidates(self, route: Route) -> list[MethodInfo]:
        handler, method, tags, elsewhere = route
        fit = [i for i in self.change.methods if i.method == method and set(tags) <= set(i.tags)]
        own = [i for i in fit if i.handler_id == handler]
        if handler == "*":
            return fit
        if elsewhere and not any(self.size(i.pool) for i in own):
            return fit or own
        return own

    def judge(self, row: int, route: Route, info: MethodInfo) -> None:
        """Whether this run may have this slot now."""
        assert info in self.candidates(route), "ROUTE-1"
        assert self.able(info), "PLACE-2"
        for _, earlier in self.waiting[: [r for r, _ in self.waiting].index(row)]:
            rivals = [i for i in self.candidates(earlier) if i.pool == info.pool]
            assert not any(self.able(i) for i in rivals), "PLACE-3: somebody came before"
        for other in self.candidates(route):
            if self.able(other) and self.load(other) < self.load(info):
                before = self.waiting[: [r for r, _ in self.waiting].index(row)]
                theirs = [i for _, r in before for i in self.candidates(r) if i.pool == other.pool]
                assert any(self.able(i) for i in theirs), "PLACE-5: one that is less loaded has room"

    def load(self, info: MethodInfo) -> float:
        return self.used(info.pool) / self.size(info.pool)

    def stuck(self) -> bool:
        """Nobody waits who could go."""
        return not any(self.able(info) for _, route in self.waiting for info in self.candidates(route))


def _key(info: MethodInfo) -> tuple[str, str, str]:
    return info.pool, info.handler_id, info.method


changes = st.lists(
    st.builds(
        lambda name, methods, size, concurrency, tag: worker(
            name, *methods, size=size, concurrency=concurrency, **({"zone": tag} if tag else {})
        ),
        st.sampled_from(WORKERS),
        st.lists(st.sampled_from(METHODS), unique=True, min_size=1, max_size=2),
        st.integers(0, 3),
        st.sampled_from([None, None, 1, 2]),
        st.sampled_from(["", "", "north"]),
    ),
    unique_by=lambda change: change.pools[0][0],
    max_size=3,
).map(lambda several: together(*several))
routes = st.one_of(
    st.builds(
        lambda h, m, t, e: (h, m, t, e), st.sampled_from(WORKERS), st.sampled_from(METHODS), st.just(()), st.booleans()
    ),
    st.builds(lambda m, t: ("*", m, t, False), st.sampled_from(METHODS), st.sampled_from([(), (("zone", "north"),)])),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("place"), routes),
        st.tuples(st.just("place"), routes),
        st.tuples(st.just("end"), st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("learn"), changes),
    ),
    max_size=60,
)


@given(changes, steps)
def test_placement_agrees_with_the_plain_model(first: HandlersChanged, work: list[tuple[str, object]]) -> None:
    made, model = Placement(), Model(first)
    made.pools.learn(first)
    for row, (what, argument) in enumerate(work):
        match what, argument:
            case "place", tuple():
                route: Route = argument
                model.waiting.append((row, route))
                if made.place(row, route):
                    _took(made, model, row)
            case "end", int(which) if model.executing:
                ended = list(model.executing)[which % len(model.executing)]
                del model.executing[ended]
                made.free(ended)
            case "cancel", int(which) if model.waiting:
                gone = model.waiting.pop(which % len(model.waiting))[0]
                made.free(gone)
            case "learn", HandlersChanged():
                model.change = argument
                made.pools.learn(argument)
        while taken := made.take_queued(1):
            _took(made, model, *taken)
        assert model.stuck(), "somebody waits beside a free slot"
        assert set(made.filed) == {r for r, _ in model.waiting}, "PLACE-4"
        assert set(made.slots) == set(model.executing)
        for name, pool in made.pools.all.items():
            assert pool.used == model.used(name)


def _took(made: Placement, model: Model, row: int) -> None:
    route = dict(model.waiting)[row]
    info = made.slots[row][1]
    model.judge(row, route, info)
    model.waiting = [(r, w) for r, w in model.waiting if r != row]
    model.executing[row] = info
