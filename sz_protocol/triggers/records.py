"""The triggers: frozen, slotted, hashable, picklable records that say when something fires.

Every record may be bounded: `start_us` is the first instant at which it may fire and `end_us` the last one, both
included. All times are microseconds of UTC. A record that exists is valid: constructors raise `TriggerError`.
"""

from collections.abc import Iterable
from datetime import date
from typing import Final, TypeAlias

import attrs

from .calendar_pattern import MonthEnd, Unit
from .cron_pattern import DayRule, cron_pattern
from .errors import Path, Problem, TriggerError, nearest, refuse_if, shown
from .instants import DAY_S, DEFAULT_ANCHOR_US, FIRST_US, LAST_US, SECOND_US
from .local_fires import Dst
from .zones import zone_problem

SHORTEST_PERIOD_US: Final = 1_000
LONGEST_PERIOD_US: Final = 100 * 366 * DAY_S * SECOND_US
DEFAULT_START_DATE: Final = date(1970, 1, 5)  # a Monday
MOST_NTH: Final = 10_000
MOST_MEMBERS: Final = 64
MOST_BLACKOUTS: Final = 10_000
DEEPEST: Final = 8
LARGEST_STEP: Final = {"years": 100, "months": 1_200, "weeks": 5_200, "days": 36_500}

Window: TypeAlias = tuple[int, int]


@attrs.frozen
class Cron:
    """Fires when the wall clock of `timezone` matches a cron expression (5 fields, or 6 with seconds first).

    `dst`: "default" moves what a gap swallows to the first valid instant and takes the first pass of a fold;
    "literal" skips gaps and runs both passes. `day_rule` joins day of month and weekday where both are restricted.
    """

    expression: str
    timezone: str = "UTC"
    dst: Dst = "default"
    day_rule: DayRule = "or"
    start_us: int | None = None
    end_us: int | None = None

    def __attrs_post_init__(self) -> None:
        problems = [*_text(self.expression, "expression", '"*/5 * * * *"'), *_zone(self.timezone)]
        problems += one_of(self.dst, "dst", ("default", "literal")) + one_of(self.day_rule, "day_rule", ("or", "and"))
        problems += _bounds(self.start_us, self.end_us)
        if isinstance(self.expression, str):
            try:
                cron_pattern(self.expression, "and" if self.day_rule == "and" else "or")
            except TriggerError as wrong:
                problems += wrong.problems
        refuse_if(problems)


@attrs.frozen
class Interval:
    """Fires at `anchor_us + k * period_us` for every whole k: the same instants on every node, without a store."""

    period_us: int
    anchor_us: int = DEFAULT_ANCHOR_US
    start_us: int | None = None
    end_us: int | None = None

    def __attrs_post_init__(self) -> None:
        problems = whole(self.period_us, "period", SHORTEST_PERIOD_US, LONGEST_PERIOD_US, " microseconds")
        problems += _instant(self.anchor_us, "anchor") + _bounds(self.start_us, self.end_us)
        refuse_if(problems)


@attrs.frozen
class Date:
    """Fires once, at `at_us`. The zone names the instant and shows it; it does not move it."""

    at_us: int
    timezone: str = "UTC"

    def __attrs_post_init__(self) -> None:
        refuse_if(_instant(self.at_us, "run_date") + _zone(self.timezone))


@attrs.frozen
class Calendar:
    """Fires every `every` days, weeks, months or years, from `start_date` on, `time_s` seconds into the wall's day.

    Months and years keep the start date's day; in a month that lacks it `month_end` takes the last day ("clamp") or
    leaves the month out ("skip").
    """

    every: int
    unit: Unit
    time_s: int = 0
    timezone: str = "UTC"
    start_date: date = DEFAULT_START_DATE
    month_end: MonthEnd = "clamp"
    dst: Dst = "default"
    start_us: int | None = None
    end_us: int | None = None

    def __attrs_post_init__(self) -> None:
        problems = one_of(self.unit, "unit", tuple(LARGEST_STEP))
        problems += whole(self.every, str(self.unit), 1, LARGEST_STEP.get(self.unit, 1) if not problems else 1)
        problems += whole(self.time_s, "time", 0, DAY_S - 1, " seconds of the day") + _zone(self.timezone)
        problems += _date(self.start_date, ("start_date",))
        problems += one_of(self.month_end, "month_end", ("clamp", "skip"))
        problems += one_of(self.dst, "dst", ("default", "literal")) + _bounds(self.start_us, self.end_us)
        refuse_if(problems)


def _as_tuple(values: "Iterable[Trigger]") -> "tuple[Trigger, ...]":
    return tuple(values)


@attrs.frozen(cache_hash=True)
class AnyOf:
    """Fires whenever at least one of `triggers` fires; once where several do at the same instant."""

    triggers: "tuple[Trigger, ...]" = attrs.field(converter=_as_tuple)
    start_us: int | None = None
    end_us: int | None = None

    def __attrs_post_init__(self) -> None:
        refuse_if(_members(self.triggers) + _bounds(self.start_us, self.end_us))


@attrs.frozen(cache_hash=True)
class AllOf:
    """Fires at the instants that all of `triggers` have in common."""

    triggers: "tuple[Trigger, ...]" = attrs.field(converter=_as_tuple)
    start_us: int | None = None
    end_us: int | None = None

    def __attrs_post_init__(self) -> None:
        refuse_if(_members(self.triggers) + _bounds(self.start_us, self.end_us))


def _in_order(values: "Iterable[date] | Iterable[Window]") -> tuple[object, ...]:
    """Sorted and without repeats where that can be; what cannot be sorted is left for the validator to name."""
    found = tuple(values)
    try:
        return tuple(sorted(set(found)))  # type: ignore[type-var]
    except TypeError:
        return found


@attrs.frozen(cache_hash=True)
class Except:
    """Fires as `trigger` does, but not on `dates` (whole days on the wall of `timezone`) nor within `windows`.

    A window is (from_us, to_us), its end excluded: what fires at that very instant runs again.
    """

    trigger: "Trigger"
    dates: tuple[date, ...] = attrs.field(default=(), converter=_in_order)
    windows: tuple[Window, ...] = attrs.field(default=(), converter=_in_order)
    timezone: str = "UTC"
    start_us: int | None = None
    end_us: int | None = None

    def __attrs_post_init__(self) -> None:
        problems = _inner(self.trigger) + _zone(self.timezone) + _bounds(self.start_us, self.end_us)
        for index, day in enumerate(self.dates):
            problems += _date(day, ("dates", index))
        for index, window in enumerate(self.windows):
            problems += _window(window, ("windows", index))
        if not 1 <= len(self.dates) + len(self.windows) <= MOST_BLACKOUTS:
            problems.append((("dates",), f"dates and windows together must be 1 to {MOST_BLACKOUTS}"))
        refuse_if(problems)


@attrs.frozen(cache_hash=True)
class EveryNth:
    """Fires at every `n`-th fire of `trigger`: those whose number leaves the remainder `offset`.

    Fires are numbered from 0 at `start_us`, or else at DEFAULT_ANCHOR_US, so the choice does not depend on when one
    starts asking. `trigger` must be countable in closed form: anything but any and all.
    """

    trigger: "Trigger"
    n: int
    offset: int = 0
    start_us: int | None = None
    end_us: int | None = None

    def __attrs_post_init__(self) -> None:
        problems = _inner(self.trigger) + whole(self.n, "n", 1, MOST_NTH)
        problems += whole(self.offset, "offset", 0, MOST_NTH) + _bounds(self.start_us, self.end_us)
        if not problems and self.offset >= self.n:
            problems.append((("offset",), f"is {self.offset}; must be from 0 to n - 1, which is {self.n - 1}"))
        if not problems and not countable(self.trigger):
            message = "cannot number the fires of any or all; put every_nth inside, around each of their triggers"
            problems.append((("trigger",), message))
        refuse_if(problems)


@attrs.frozen
class Unreadable:
    """Stands for the trigger of a stored definition that this version cannot read. It says `why`, keeps the definition
    as it was stored (`data`), and cannot advance. Only a store makes one."""

    data: bytes
    why: str
    start_us: None = None
    end_us: None = None


Trigger: TypeAlias = Cron | Interval | Date | Calendar | AnyOf | AllOf | Except | EveryNth | Unreadable

LEAVES: Final = (Cron, Interval, Date, Calendar)
TRIGGERS: Final = (*LEAVES, AnyOf, AllOf, Except, EveryNth)
"""What can be written down."""


def countable(trigger: Trigger) -> bool:
    """Whether the fires of `trigger` can be counted without visiting them."""
    match trigger:
        case AnyOf() | AllOf() | Unreadable():
            return False
        case Except(trigger=inner) | EveryNth(trigger=inner):
            return countable(inner)
        case _:
            return True


def depth(trigger: Trigger) -> int:
    """How many triggers stand inside each other."""
    match trigger:
        case AnyOf(triggers=members) | AllOf(triggers=members):
            return 1 + max((depth(member) for member in members), default=0)
        case Except(trigger=inner) | EveryNth(trigger=inner):
            return 1 + depth(inner)
        case _:
            return 1


def whole(value: object, name: str, low: int, high: int, unit: str = "") -> list[Problem]:
    """The problem with `value`, if it is not a whole number (a bool is none) within the bounds."""
    if type(value) is not int:
        return [((name,), f"must be a whole number from {low} to {high}{unit}, got {shown(value)}")]
    if not low <= value <= high:
        return [((name,), f"is {value}; must be from {low} to {high}{unit}")]
    return []


def one_of(value: object, name: str, choices: tuple[str, ...]) -> list[Problem]:
    """The problem with `value`, if it is none of `choices`."""
    if isinstance(value, str) and value in choices:
        return []
    hint = nearest(value, choices) if isinstance(value, str) else ""
    return [((name,), f"must be {' or '.join(choices)}, got {shown(value)}{hint}")]


def _text(value: object, name: str, example: str) -> list[Problem]:
    if isinstance(value, str):
        return []
    return [((name,), f"must be text such as {example}, got {shown(value)}")]


def _zone(value: object) -> list[Problem]:
    problem = zone_problem(value)
    return [(("timezone",), problem)] if problem else []


def _instant(value: object, name: str) -> list[Problem]:
    if type(value) is not int:
        return [((name,), f"must be whole microseconds of UTC, got {shown(value)}")]
    if not FIRST_US <= value <= LAST_US:
        return [((name,), "must lie in the years 1900 to 2199")]
    return []


def _bounds(start_us: object, end_us: object) -> list[Problem]:
    problems: list[Problem] = []
    if start_us is not None:
        problems += _instant(start_us, "start")
    if end_us is not None:
        problems += _instant(end_us, "end")
    if isinstance(start_us, int) and isinstance(end_us, int) and not problems and end_us < start_us:
        problems.append((("end",), "lies before start: nothing would ever fire"))
    return problems


def _date(value: object, path: Path) -> list[Problem]:
    if type(value) is not date:
        return [(path, f"must be a date such as 2026-12-24, got {shown(value)}")]
    if not 1900 <= value.year <= 2199:
        return [(path, "must lie in the years 1900 to 2199")]
    return []


def _window(value: object, path: Path) -> list[Problem]:
    match value:
        case (int(begin), int(end)):
            problems = [((*path, *where), why) for where, why in _instant(begin, "from") + _instant(end, "to")]
            if not problems and begin >= end:
                problems.append(((*path, "to"), "must lie after from"))
            return problems
        case _:
            return [(path, f"must be a pair (from_us, to_us), got {shown(value)}")]


def _inner(value: object) -> list[Problem]:
    if not isinstance(value, TRIGGERS):
        return [(("trigger",), f"must be a trigger, got {shown(value)}")]
    if depth(value) >= DEEPEST:
        return [(("trigger",), f"triggers may stand at most {DEEPEST} deep inside each other")]
    return []


def _members(values: tuple[object, ...]) -> list[Problem]:
    problems: list[Problem] = []
    for index, value in enumerate(values):
        problems += [(("triggers", index), why) for _, why in _inner(value)]
    if not 1 <= len(values) <= MOST_MEMBERS:
        problems.append((("triggers",), f"must be a list of 1 to {MOST_MEMBERS} triggers, got {len(values)}"))
    return problems
