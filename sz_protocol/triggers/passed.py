"""What passed while nobody served it: the latest fires one by one, all before them counted.

What can be counted is (firing.count). Of `any` the densest member is counted, and the others are visited for what they
add; `all` is visited at the pace of its rarest member. Where even that is too much for one go, `missed_in_part` takes
the oldest.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import groupby, islice
from typing import Final

import attrs

from .firing import blackouts, count, fires_between, fires_within, latest, within
from .records import AllOf, AnyOf, Except, Trigger, countable

MOST_VISITED: Final = 5000
"""So many instants are visited in one go: some 20 ms."""

Tally = tuple[int, list[int]]
"""How many there are, and the latest of them, ascending."""


@attrs.frozen
class Missed:
    """What was due in a stretch of time: the latest instants, ascending, and what lies before them, counted."""

    kept: tuple[int, ...]
    dropped: int
    first_dropped_us: int | None
    last_dropped_us: int | None


def missed(trigger: Trigger, after_us: int, until_us: int, keep: int) -> Missed:
    """What fired after `after_us` and up to and with `until_us`: the latest `keep` instants, and exact counts.

    What is countable takes a time that grows with `keep` and with the months between (an interval's with neither).
    Raises CannotAdvance, as next_fire does.
    """
    first_us = fires_within(trigger, after_us, until_us)
    if first_us is None:
        return Missed((), 0, None, None)
    total, last = _tally(trigger, after_us + 1, until_us + 1, keep + 1)
    if total <= keep:
        return Missed(tuple(last), 0, None, None)
    return Missed(tuple(last[1:]), total - keep, first_us, last[0])


def is_quick(trigger: Trigger, after_us: int, until_us: int) -> bool:
    """Whether `missed` visits few enough instants for one go."""
    return after_us >= until_us or _visits(trigger, after_us + 1, until_us + 1) <= MOST_VISITED


def missed_in_part(trigger: Trigger, after_us: int, until_us: int, keep: int) -> tuple[Missed, int]:
    """The same, and how far it reaches: to `until_us`, or less far where too much would have to be visited. Then none
    of what it tells of is among the latest `keep`, all of it counts as dropped, and the rest is for another time."""
    reach_us = _reach(trigger, after_us, until_us)
    if reach_us == until_us:
        return missed(trigger, after_us, until_us, keep), until_us
    rest = tuple(islice(fires_between(trigger, reach_us + 1, until_us + 1), keep))
    if len(rest) == keep:
        return missed(trigger, after_us, reach_us, 0), reach_us
    first = missed(trigger, after_us, reach_us, keep - len(rest))
    return attrs.evolve(first, kept=first.kept + rest), until_us


def _reach(trigger: Trigger, after_us: int, until_us: int) -> int:
    """How far from `after_us` one go may lead: with a bounded number of visits, to the first fire at least."""
    if is_quick(trigger, after_us, until_us):
        return until_us
    first_us = fires_within(trigger, after_us, until_us)
    if first_us is None:
        return until_us
    stretch_us = until_us - after_us
    while not is_quick(trigger, after_us, after_us + stretch_us):
        stretch_us //= 2
    return max(after_us + stretch_us, first_us)


# --- what it takes, reckoned from what can be counted ----------------------------------------------------------


def _visits(trigger: Trigger, from_us: int, to_us: int) -> int:
    """How many instants `_tally` visits at most."""
    if countable(trigger):
        return 0
    match trigger:
        case AnyOf(triggers=members):
            *others, densest = _by_density(members, from_us, to_us)
            return sum(_most(member, from_us, to_us) for member in others) + _visits(densest, from_us, to_us)
        case Except(trigger=inner):
            return _visits(inner, from_us, to_us)
        case _:
            return _most(trigger, from_us, to_us)


def _most(trigger: Trigger, from_us: int, to_us: int) -> int:
    """At most so many fires with from_us <= fire < to_us."""
    if countable(trigger):
        return count(trigger, from_us, to_us)
    match trigger:
        case AnyOf(triggers=members):
            return sum(_most(member, from_us, to_us) for member in members)
        case AllOf(triggers=members):
            return min(_most(member, from_us, to_us) for member in members)
        case Except(trigger=inner):
            return _most(inner, from_us, to_us)
        case _:
            return 0  # Unreadable: it fires nothing, and `missed` says so


def _by_density(members: Iterable[Trigger], from_us: int, to_us: int) -> list[Trigger]:
    return sorted(members, key=lambda member: _most(member, from_us, to_us))


# --- counting --------------------------------------------------------------------------------------------------


def _tally(trigger: Trigger, from_us: int, to_us: int, keep: int) -> Tally:
    """All fires with from_us <= fire < to_us, and the last `keep` of them."""
    if countable(trigger):
        total = count(trigger, from_us, to_us)
        return total, latest(trigger, from_us, to_us, total, min(keep, total))
    from_us, to_us = within(trigger, from_us, to_us)
    if from_us >= to_us:
        return 0, []
    match trigger:
        case AnyOf(triggers=members):
            *others, densest = _by_density(members, from_us, to_us)
            total, last = _tally(densest, from_us, to_us, keep)
            more = merge(*(fires_between(member, from_us, to_us) for member in others))
            added, last_added = _visit((at_us for at_us, _ in groupby(more) if not _fires_at(densest, at_us)), keep)
            return total + added, sorted(last + last_added)[-keep:]
        case AllOf(triggers=members):
            rarest, *others = _by_density(members, from_us, to_us)
            fires = fires_between(rarest, from_us, to_us)
            return _visit((at_us for at_us in fires if all(_fires_at(other, at_us) for other in others)), keep)
        case Except(trigger=inner):
            total, last = 0, []
            for begin_us, end_us in _open_spans(trigger, from_us, to_us):
                found, latest_found = _tally(inner, begin_us, end_us, keep)
                total, last = total + found, (last + latest_found)[-keep:]
            return total, last
        case _:
            return 0, []


def _visit(fires: Iterator[int], keep: int) -> Tally:
    total, last = 0, deque[int](maxlen=keep)
    for fire_us in fires:
        total += 1
        last.append(fire_us)
    return total, list(last)


def _fires_at(trigger: Trigger, at_us: int) -> bool:
    return fires_within(trigger, at_us - 1, at_us) is not None


def _open_spans(trigger: Except, from_us: int, to_us: int) -> Iterator[tuple[int, int]]:
    """The stretches between its blackouts."""
    for begin_us, end_us in zip(*blackouts(trigger), strict=True):
        if from_us < min(begin_us, to_us):
            yield from_us, min(begin_us, to_us)
        from_us = max(from_us, end_us)
    if from_us < to_us:
        yield from_us, to_us
