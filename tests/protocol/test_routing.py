"""Who can execute what: ROUTE-1 to ROUTE-3 (specs/remote.md)."""

from typing import Any

import pytest
from attrs import evolve

from sz_protocol.definition import AwayPolicy, Definition
from sz_protocol.kernel.events import HandlersChanged, MethodInfo
from sz_protocol.routing import Routes, route_of, worker_pool
from sz_protocol.triggers import Interval


def info(handler: str, method: str = "m", worker: bool = True, **tags: str) -> MethodInfo:
    """A method of a remote handler, or of this process."""
    pool, name = (worker_pool(handler), handler) if worker else ("async", "")
    return MethodInfo(handler, method, pool, None, name, tuple(sorted(tags.items())))


def routes(*infos: MethodInfo, away: tuple[str, ...] = (), expecting: bool = False) -> Routes:
    """Handlers with two slots each; those in `away` have none now."""
    pools = dict.fromkeys((i.pool for i in infos), 2) | {worker_pool(name): 0 for name in away}
    return Routes(HandlersChanged(infos, tuple(pools.items()), expecting))


def wants(handler: str = "a", method: str = "m", **more: Any) -> Definition:
    """A schedule."""
    return Definition("s", handler, method, Interval(1_000_000), **more)


def names(found: Routes, definition: Definition) -> list[str]:
    """Who may execute it."""
    return [info.handler_id for info in found.candidates(route_of(definition))]


ELSEWHERE = AwayPolicy.ELSEWHERE
NORTH = {"zone": "north"}


@pytest.mark.parametrize(
    ("definition", "away", "expected"),
    [
        (wants(), (), ["a"]),
        (wants(), ("a",), ["a"]),
        (wants("b"), (), ["b"]),
        (wants("nobody"), (), []),
        (wants("a", "n"), (), []),
        (wants("*"), (), ["a", "b", "c", "own"]),
        (wants("*"), ("a",), ["a", "b", "c", "own"]),
        (wants("*", tags=NORTH), (), ["a", "c"]),
        (wants("*", tags={"zone": "north", "gpu": "yes"}), (), ["c"]),
        (wants("*", tags={"zone": "east"}), (), []),
        (wants("*", "n"), (), ["d"]),
        (wants("b", tags=NORTH), (), []),
        (wants(away=ELSEWHERE), (), ["a"]),
        (wants(away=ELSEWHERE), ("a",), ["a", "b", "c", "own"]),
        (wants("nobody", away=ELSEWHERE), (), ["a", "b", "c", "own"]),
        (wants("b", away=ELSEWHERE, tags=NORTH), (), ["a", "c"]),
        (wants("d", "n", away=ELSEWHERE), ("d",), ["d"]),
        (wants(away=AwayPolicy.SKIP), ("a",), ["a"]),
    ],
)
def test_route_1_and_2_who_may_execute_a_run(
    definition: Definition, away: tuple[str, ...], expected: list[str]
) -> None:
    found = routes(
        info("a", zone="north"),
        info("b", zone="south"),
        info("c", zone="north", gpu="yes"),
        info("d", "n"),
        info("own", worker=False),
        away=away,
    )
    assert names(found, definition) == expected


def test_a_handler_that_is_known_and_has_no_slots_is_not_present() -> None:
    found = routes(info("a"), info("b"), away=("a",))
    assert not found.is_present(route_of(wants()))
    assert found.is_present(route_of(wants("*")))
    assert found.has(wants())
    assert not found.has(wants("nobody"))


@pytest.mark.parametrize(
    ("definition", "expecting", "fires"),
    [
        (wants(), False, True),
        (wants("nobody"), False, False),
        (wants("nobody"), True, True),
        (wants("nobody", away=AwayPolicy.SKIP), False, True),
        (wants("nobody", away=ELSEWHERE), False, True),
        (wants("*"), False, True),
        (wants("*", "n"), False, False),
        (wants("a", tags=NORTH), False, False),
        (wants("a", tags=NORTH), True, True),
    ],
)
def test_route_3_what_may_fire(definition: Definition, expecting: bool, fires: bool) -> None:
    assert routes(info("a"), away=("a",), expecting=expecting).lets_fire(definition) is fires


def test_what_stays_the_same_is_taken_over_and_what_is_new_is_seen() -> None:
    first = routes(info("a"), info("b"))
    away = first.after(routes(info("a"), info("b"), away=("a",)).change)
    assert names(away, wants(away=ELSEWHERE)) == ["a", "b"]
    assert names(first, wants(away=ELSEWHERE)) == ["a"]
    assert away.lets_the_same_fire_as(first)
    more = away.after(routes(info("a"), info("b"), info("c")).change)
    assert names(more, wants("c")) == ["c"]
    assert not more.lets_the_same_fire_as(away)
    waiting = away.after(evolve(away.change, expecting=True))
    assert not waiting.lets_the_same_fire_as(away)
