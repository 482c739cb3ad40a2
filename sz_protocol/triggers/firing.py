"""When a trigger fires: pure functions over the records.

Everything goes through `_next`, the first fire after an instant and within a limit. The limit makes every search end:
time itself ends with the year 2199 (`LAST_US`), and the one search that may go on fruitlessly until then, for
instants that all members of `AllOf` share, is bounded in steps: one budget for those that stand inside each other.
What can be counted is found by counting (`_leap`), in a time that hardly depends on how many fires lie between.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

import attrs

from .errors import CannotAdvance, CannotRead
from .instants import DAY_S, DEFAULT_ANCHOR_US, FIRST_US, LAST_US, SECOND_US, to_us, wall_datetime
from .local_fires import LocalFires, of_calendar, of_cron
from .records import AllOf, AnyOf, Calendar, Cron, Date, EveryNth, Except, Interval, Trigger, Unreadable
from .zones import zone

ALL_OF_STEPS: Final = 10_000
CHECKPOINT_US: Final = 32 * DAY_S * SECOND_US
WALKED: Final = 200
"""So many fires are rather visited than counted."""


@attrs.define
class _Budget:
    """What one search may still spend, whatever it consists of."""

    after_us: int
    steps: int = ALL_OF_STEPS

    def spend(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise CannotAdvance(self.after_us, f"the triggers of all did not coincide within {ALL_OF_STEPS} steps")


def next_fire(trigger: Trigger, after_us: int) -> int | None:
    """The first fire strictly after `after_us`; None when there is none any more.

    Strictly increasing when fed its own answers, and independent of what was asked before. Raises CannotAdvance when
    the search was given up (AllOf of things that do not coincide), or this version cannot read the trigger.
    """
    if type(trigger) is Interval and trigger.start_us is None and trigger.end_us is None and after_us >= FIRST_US:
        # The hot path of `_next`.
        fire_us = after_us + trigger.period_us - (after_us - trigger.anchor_us) % trigger.period_us
        return fire_us if fire_us <= LAST_US else None
    return _next(trigger, after_us, LAST_US)


def fires_between(trigger: Trigger, from_us: int, to_us: int) -> Iterator[int]:
    """All fires with from_us <= fire < to_us, ascending, found one by one as they are taken."""
    fire_us = _next(trigger, from_us - 1, to_us - 1)
    while fire_us is not None:
        yield fire_us
        fire_us = _next(trigger, fire_us, to_us - 1)


def fires_within(trigger: Trigger, after_us: int, until_us: int) -> int | None:
    """The first fire strictly after `after_us` and up to and with `until_us`."""
    return _next(trigger, after_us, until_us)


def latest(trigger: Trigger, from_us: int, to_us: int, total: int, keep: int) -> list[int]:
    """The last `keep` of the `total` fires with from_us <= fire < to_us; not for any and all."""
    from_us, to_us = within(trigger, from_us, to_us)
    match trigger:
        case _ if not keep:
            return []
        case Cron() | Calendar():
            return local_fires(trigger).latest_us(from_us, to_us, keep)
        case Interval(period_us=period_us, anchor_us=anchor_us):
            last_us = to_us - 1 - (to_us - 1 - anchor_us) % period_us
            return [last_us - back * period_us for back in range(keep - 1, -1, -1)]
        case _:
            first_us = _leap(trigger, from_us - 1, total - keep, to_us - 1)
            return [] if first_us is None else list(fires_between(trigger, first_us, to_us))


def count(trigger: Trigger, from_us: int, to_us: int) -> int:
    """How many fires there are with from_us <= fire < to_us; not for any and all, which are not countable."""
    from_us, to_us = within(trigger, from_us, to_us)
    if from_us >= to_us:
        return 0
    match trigger:
        case Cron() | Calendar():
            return local_fires(trigger).count(from_us, to_us)
        case Interval(period_us=period_us, anchor_us=anchor_us):
            return (to_us - 1 - anchor_us) // period_us - (from_us - 1 - anchor_us) // period_us
        case Date(at_us=at_us):
            return int(from_us <= at_us < to_us)
        case Except(trigger=inner):
            begins, ends = blackouts(trigger)
            first, last = bisect_right(ends, from_us), bisect_left(begins, to_us)
            blocked = zip(begins[first:last], ends[first:last], strict=True)
            covered = ((max(from_us, begin), min(to_us, end)) for begin, end in blocked)
            return count(inner, from_us, to_us) - sum(count(inner, low, high) for low, high in covered)
        case EveryNth(n=n, offset=offset):
            before, upto = _number(trigger, from_us - 1), _number(trigger, to_us - 1)
            return (upto - offset - 1) // n - (before - offset - 1) // n
        case AnyOf() | AllOf() | Unreadable():
            raise TypeError("any and all cannot be counted; EveryNth refuses them")


def local_fires(trigger: Cron | Calendar) -> LocalFires:
    """The shared fires behind a trigger that follows a wall clock, without its bounds."""
    if isinstance(trigger, Cron):
        return of_cron(trigger.expression, trigger.timezone, trigger.dst, trigger.day_rule)
    return of_calendar(
        trigger.every,
        trigger.unit,
        trigger.time_s,
        trigger.start_date,
        trigger.month_end,
        trigger.timezone,
        trigger.dst,
    )


def within(trigger: Trigger, from_us: int, to_us: int) -> tuple[int, int]:
    """The stretch cut to the trigger's bounds and to the years that there are."""
    from_us, to_us = max(from_us, FIRST_US), min(to_us, LAST_US + 1)
    if isinstance(trigger, Date):
        return from_us, to_us
    if trigger.start_us is not None:
        from_us = max(from_us, trigger.start_us)
    if trigger.end_us is not None:
        to_us = min(to_us, trigger.end_us + 1)
    return from_us, to_us


def _next(trigger: Trigger, after_us: int, limit_us: int, budget: _Budget | None = None) -> int | None:
    """The first fire with after_us < fire <= limit_us."""
    if isinstance(trigger, Date):
        return trigger.at_us if after_us < trigger.at_us <= limit_us else None
    start_us, end_us = trigger.start_us, trigger.end_us
    if start_us is not None and start_us > after_us:
        after_us = start_us - 1
    if end_us is not None and end_us < limit_us:
        limit_us = end_us
    match trigger:
        case Cron():
            fires = of_cron(trigger.expression, trigger.timezone, trigger.dst, trigger.day_rule)
            return fires.next_us(after_us, limit_us)
        case Interval():
            after_us = max(after_us, FIRST_US - 1)
            fire_us = after_us + trigger.period_us - (after_us - trigger.anchor_us) % trigger.period_us
            return fire_us if fire_us <= limit_us and fire_us <= LAST_US else None
        case Calendar():
            return local_fires(trigger).next_us(after_us, limit_us)
        case AnyOf(triggers=members):
            found = [fire for member in members if (fire := _next(member, after_us, limit_us, budget)) is not None]
            return min(found, default=None)
        case AllOf():
            return _next_of_all(trigger, after_us, limit_us, budget or _Budget(after_us))
        case Except():
            return _next_except(trigger, after_us, limit_us, budget or _Budget(after_us))
        case EveryNth():
            return _leap(trigger, after_us, 0, limit_us)
        case Unreadable(why=why):
            raise CannotRead(after_us, why)


def _next_of_all(trigger: AllOf, after_us: int, limit_us: int, budget: _Budget) -> int | None:
    """Leap to the latest of the members' next fires until they agree."""
    at_us = after_us
    while True:
        budget.spend()
        fires: list[int] = []
        for member in trigger.triggers:
            fire_us = _next(member, at_us, limit_us, budget)
            if fire_us is None:
                return None
            fires.append(fire_us)
        at_us = max(fires) - 1
        if min(fires) > at_us:
            return min(fires)


def _next_except(trigger: Except, after_us: int, limit_us: int, budget: _Budget) -> int | None:
    begins, ends = blackouts(trigger)
    fire_us = _next(trigger.trigger, after_us, limit_us, budget)
    while fire_us is not None:  # at most once per blackout, since each is left at its end
        index = bisect_right(begins, fire_us) - 1
        if index < 0 or fire_us >= ends[index]:
            return fire_us
        fire_us = _next(trigger.trigger, ends[index] - 1, limit_us, budget)
    return None


def _leap(trigger: Trigger, after_us: int, skip: int, limit_us: int) -> int | None:
    """The first fire after `after_us` and up to `limit_us` that has `skip` others before it. Not for any and all."""
    from_us, to_us = within(trigger, after_us + 1, limit_us + 1)
    if isinstance(trigger, EveryNth):
        from_us = max(from_us, _origin_us(trigger))
        to_first = (trigger.offset - _number(trigger, from_us - 1)) % trigger.n
        return _leap(trigger.trigger, from_us - 1, to_first + skip * trigger.n, to_us - 1)
    if isinstance(trigger, Interval):
        first_us = _next(trigger, from_us - 1, to_us - 1)
        return None if first_us is None else _next(trigger, first_us + skip * trigger.period_us - 1, to_us - 1)
    stretch_us = CHECKPOINT_US
    while skip > WALKED:
        if from_us >= to_us:
            return None
        end_us = min(from_us + stretch_us, to_us)
        found = count(trigger, from_us, end_us)
        if found > skip:
            to_us = end_us
            stretch_us = max((end_us - from_us) // 2, 1)
        else:
            skip, from_us = skip - found, end_us
            # Ever longer stretches at first; halves once it is known where it lies.
            stretch_us = max(min(stretch_us * 2, (to_us - from_us) // 2), 1)
    return next(islice(fires_between(trigger, from_us, to_us), skip, None), None)


def _origin_us(trigger: EveryNth) -> int:
    """From where the fires are numbered."""
    return DEFAULT_ANCHOR_US if trigger.start_us is None else trigger.start_us


def _number(trigger: EveryNth, at_us: int) -> int:
    """How many fires of the inner trigger there are from the origin up to and with `at_us`."""
    origin_us, inner = _origin_us(trigger), trigger.trigger
    if at_us < origin_us:
        return 0
    if isinstance(inner, Cron | Calendar) and origin_us >= DEFAULT_ANCHOR_US:
        # Counting from 1970 is shared by all that have this pattern, and remembered piece by piece.
        low_us, high_us = within(inner, origin_us, at_us + 1)
        fires = local_fires(inner)
        return fires.rank(high_us - 1) - fires.rank(low_us - 1) if low_us < high_us else 0
    checkpoint_us = at_us - at_us % CHECKPOINT_US
    if isinstance(inner, Interval | Date) or checkpoint_us <= origin_us:
        return count(inner, origin_us, at_us + 1)
    return _number_before(inner, origin_us, checkpoint_us) + count(inner, checkpoint_us, at_us + 1)


@lru_cache(maxsize=4096)
def _number_before(inner: Trigger, origin_us: int, checkpoint_us: int) -> int:
    return count(inner, origin_us, checkpoint_us)


def is_blacked_out(trigger: Except, at_us: int) -> bool:
    """Whether the instant lies in one of the dates or windows."""
    begins, ends = blackouts(trigger)
    index = bisect_right(begins, at_us) - 1
    return index >= 0 and at_us < ends[index]


@lru_cache(maxsize=1024)
def blackouts(trigger: Except) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The begins and the excluded ends, in microseconds, of the stretches blacked out: ascending, none touching."""
    spans = list(trigger.windows)
    where = zone(trigger.timezone)
    for day in trigger.dates:
        midnight_s = to_us(wall_datetime(0).replace(year=day.year, month=day.month, day=day.day)) // SECOND_US
        spans += [
            (begin * SECOND_US, end * SECOND_US) for begin, end in where.utc_spans(midnight_s, midnight_s + DAY_S)
        ]
    begins: list[int] = []
    ends: list[int] = []
    for begin, end in sorted(spans):
        if ends and begin <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            begins.append(begin)
            ends.append(end)
    return tuple(begins), tuple(ends)
