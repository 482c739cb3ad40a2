"""The sorted set under the memory store's indexes, against sorted()."""

from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sz_shells.stores.sorted_keys import LOAD, SortedKeys

Key = tuple[int, int]
POSITIONS = st.none() | st.tuples(st.integers(-1, 3000), st.integers(0, 1))


def walk(read: Callable[[Key | None], list[Key]], start: Key | None) -> list[Key]:
    """All that follows a position, part by part."""
    found: list[Key] = []
    position = start
    while part := read(position):
        found += part
        position = part[-1]
    return found


def assert_same(keys: SortedKeys[Key], expected: set[Key], start: Key | None) -> None:
    """Both directions from a position, and the size."""
    ordered = sorted(expected)
    assert walk(keys.after, start) == [key for key in ordered if start is None or key > start]
    assert walk(keys.before, start) == [key for key in reversed(ordered) if start is None or key < start]
    assert len(keys) == len(expected)


@given(st.randoms(use_true_random=False), st.integers(1, 6 * LOAD), st.integers(1, 3000), POSITIONS)
def test_it_is_a_sorted_set_whatever_the_order_of_adding_and_discarding(
    random: Random, size: int, width: int, start: Key | None
) -> None:
    draw = random.randrange
    keys: SortedKeys[Key] = SortedKeys()
    expected: set[Key] = set()
    for _ in range(size):
        key = (draw(width), draw(2))
        if draw(3) == 0:
            keys.discard(key)
            expected.discard(key)
        else:
            keys.add(key)
            expected.add(key)
    assert_same(keys, expected, start)
    for key in sorted(expected)[: size // 2]:
        keys.discard(key)
        expected.discard(key)
    assert_same(keys, expected, start)
    for key in list(expected):
        keys.discard(key)
    assert_same(keys, set(), start)


def test_parts_stay_short_when_keys_come_in_order_or_in_the_middle() -> None:
    keys: SortedKeys[Key] = SortedKeys()
    for n in range(10 * LOAD):
        keys.add((n, 0))
    for n in range(10 * LOAD):
        keys.add((5 * LOAD, n))
    position: Key | None = None
    while part := keys.after(position):
        assert len(part) <= 2 * LOAD
        position = part[-1]
    assert len(keys) == 20 * LOAD - 1
