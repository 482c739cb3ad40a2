"""Triggers as plain data: what stands in YAML, in stores and on the wire. Read strictly, written canonically.

Reading collects every mistake with its path before it refuses. Writing leaves out what has its default value, and
uses str, int, float, list and dict alone, so that equal triggers have equal bytes in any encoding.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Final, TypeVar

from .errors import Path, Problem, TriggerError, nearest, refuse_if, shown
from .instants import DAY_S, DEFAULT_ANCHOR_US, SECOND_US, clock, iso_utc
from .records import (
    DEEPEST,
    DEFAULT_START_DATE,
    LARGEST_STEP,
    LONGEST_PERIOD_US,
    SHORTEST_PERIOD_US,
    AllOf,
    AnyOf,
    Calendar,
    Cron,
    Date,
    EveryNth,
    Except,
    Interval,
    Trigger,
    Unreadable,
)
from .wire_values import Wrong, read_amount, read_date, read_instant, read_text, read_time, read_whole, read_zone

T = TypeVar("T")

UNITS_US: Final = {
    "weeks": 7 * DAY_S * SECOND_US,
    "days": DAY_S * SECOND_US,
    "hours": 3_600 * SECOND_US,
    "minutes": 60 * SECOND_US,
    "seconds": SECOND_US,
}
_BOUNDS: Final = ("start", "end")
_PLACEHOLDER: Final = Date(0)  # stands where a member was refused, so that its siblings are still looked at


def trigger_from_wire(obj: object) -> Trigger:
    """The trigger that `obj` describes. TriggerError lists everything that is wrong with it, each with its path."""
    problems: list[Problem] = []
    trigger = _read(obj, (), problems)
    refuse_if(problems)
    return trigger


class _Fields:
    """One mapping while it is read. A value that is wrong is noted, and its default goes on in its place."""

    def __init__(self, found: Mapping[object, object], path: Path, problems: list[Problem]) -> None:
        self.found, self.path, self.problems = found, path, problems
        self.timezone = "UTC"

    def problem(self, name: str | int, message: str) -> None:
        self.problems.append(((*self.path, name), message))

    def know(self, *names: str) -> None:
        """Refuse every key that is none of these."""
        for key in self.found:
            if key not in names and key != "type":
                name = key if isinstance(key, str) else shown(key)
                self.problem(name, f"unknown key{nearest(name, names) or '; known here: ' + ', '.join(names)}")

    def take(self, name: str, read: Callable[[object], T], default: T) -> T:
        """The value of an optional key."""
        if name not in self.found:
            return default
        try:
            return read(self.found[name])
        except Wrong as wrong:
            self.problem(name, str(wrong))
            return default

    def need(self, name: str, read: Callable[[object], T], stand_in: T, example: str) -> T:
        """The value of a required key; `stand_in` when it is missing or wrong."""
        if name not in self.found:
            self.problem(name, f"is missing; write for example {name}: {example}")
        return self.take(name, read, stand_in)

    def zone(self) -> str:
        self.timezone = self.take("timezone", read_zone, "UTC")
        return self.timezone

    def start(self) -> int | None:
        return self.take("start", lambda value: read_instant(value, self.timezone), None)

    def end(self) -> int | None:
        return self.take("end", lambda value: read_instant(value, self.timezone, end_of_day=True), None)

    def items(self, name: str) -> list[object]:
        """The members of a list, empty when the key is missing or no list."""
        found = self.found.get(name, [])
        if isinstance(found, list | tuple):
            return list(found)
        self.problem(name, f"must be a list, got {shown(found)}")
        return []

    def build(self, make: Callable[[], Trigger]) -> Trigger:
        """The record; what its constructor refuses is noted here as well."""
        try:
            return make()
        except TriggerError as refused:
            self.problems += [((*self.path, *path), message) for path, message in refused.problems]
            return _PLACEHOLDER


def _read(obj: object, path: Path, problems: list[Problem]) -> Trigger:
    if not isinstance(obj, Mapping):
        problems.append((path, f"must be a mapping such as {{type: interval, minutes: 5}}, got {shown(obj)}"))
        return _PLACEHOLDER
    if len(path) > 2 * DEEPEST:
        problems.append((path, f"triggers may stand at most {DEEPEST} deep inside each other"))
        return _PLACEHOLDER
    fields = _Fields(obj, path, problems)
    kind = obj.get("type")
    if isinstance(kind, str) and kind in _READERS:
        return _READERS[kind](fields)
    if "type" not in obj:
        fields.problem("type", f"is missing; one of {', '.join(_READERS)}")
    else:
        hint = nearest(kind, tuple(_READERS)) if isinstance(kind, str) else ""
        fields.problem("type", f"unknown type {shown(kind)}{hint or '; one of ' + ', '.join(_READERS)}")
    return _PLACEHOLDER


def _read_cron(fields: _Fields) -> Trigger:
    fields.know("expression", "timezone", "dst", "day_rule", *_BOUNDS)
    expression = fields.need("expression", read_text, "* * * * *", '"*/5 * * * *"')
    timezone = fields.zone()
    dst = fields.take("dst", read_text, "default")
    rule = fields.take("day_rule", read_text, "or")
    start_us, end_us = fields.start(), fields.end()
    # What is not one of the two words is refused by the constructor, with the nearest word.
    return fields.build(lambda: Cron(expression, timezone, dst, rule, start_us, end_us))  # type: ignore[arg-type]


def _read_interval(fields: _Fields) -> Trigger:
    fields.know(*UNITS_US, "anchor", *_BOUNDS)
    before = len(fields.problems)
    amounts = [(fields.take(unit, read_amount, 0.0), unit_us) for unit, unit_us in UNITS_US.items()]
    period_us = sum(round(amount * unit_us) for amount, unit_us in amounts)
    if len(fields.problems) > before:
        period_us = SECOND_US
    elif not any(unit in fields.found for unit in UNITS_US):
        fields.problem("seconds", "is missing; give at least one of weeks, days, hours, minutes, seconds")
        period_us = SECOND_US
    elif not SHORTEST_PERIOD_US <= period_us <= LONGEST_PERIOD_US:
        unit = next(unit for unit in UNITS_US if unit in fields.found)
        fields.problem(
            unit, f"the period is {period_us / SECOND_US:g} seconds; must be from 1 millisecond to 100 years"
        )
        period_us = SECOND_US
    anchor_us = fields.take("anchor", lambda value: read_instant(value, "UTC"), DEFAULT_ANCHOR_US)
    start_us, end_us = fields.start(), fields.end()
    return fields.build(lambda: Interval(period_us, anchor_us, start_us, end_us))


def _read_date(fields: _Fields) -> Trigger:
    fields.know("run_date", "timezone")
    timezone = fields.zone()
    at_us = fields.need("run_date", lambda value: read_instant(value, timezone), 0, "2026-03-29T02:30:00")
    return fields.build(lambda: Date(at_us, timezone))


def _read_calendar(fields: _Fields) -> Trigger:
    fields.know(*LARGEST_STEP, "time", "start_date", "timezone", "month_end", "dst", *_BOUNDS)
    given = [unit for unit in LARGEST_STEP if unit in fields.found]
    unit = given[0] if given else "days"
    if not given:
        fields.problem("days", "is missing; give one of years, months, weeks, days")
    for other in given[1:]:
        fields.problem(other, f"stands beside {unit}; give only one of years, months, weeks, days")
    every = fields.take(unit, read_whole, 1)
    time_s = fields.take("time", read_time, 0)
    if unit in ("years", "months") and "start_date" not in fields.found:
        fields.problem("start_date", f"is missing; {unit} take their day from it: start_date: 2026-01-31")
    first = fields.take("start_date", read_date, DEFAULT_START_DATE)
    timezone = fields.zone()
    month_end = fields.take("month_end", read_text, "clamp")
    dst = fields.take("dst", read_text, "default")
    start_us, end_us = fields.start(), fields.end()
    return fields.build(
        lambda: Calendar(every, unit, time_s, timezone, first, month_end, dst, start_us, end_us)  # type: ignore[arg-type]
    )


def _read_members(fields: _Fields) -> tuple[tuple[Trigger, ...], int | None, int | None]:
    fields.know("triggers", *_BOUNDS)
    if "triggers" not in fields.found:
        fields.problem("triggers", "is missing; write a list of triggers")
    place = (*fields.path, "triggers")
    members = tuple(_read(item, (*place, k), fields.problems) for k, item in enumerate(fields.items("triggers")))
    if fields.problems and not members:
        members = (_PLACEHOLDER,)
    return members, fields.start(), fields.end()


def _read_any(fields: _Fields) -> Trigger:
    members, start_us, end_us = _read_members(fields)
    return fields.build(lambda: AnyOf(members, start_us, end_us))


def _read_all(fields: _Fields) -> Trigger:
    members, start_us, end_us = _read_members(fields)
    return fields.build(lambda: AllOf(members, start_us, end_us))


def _read_inner(fields: _Fields) -> Trigger:
    if "trigger" not in fields.found:
        fields.problem("trigger", "is missing; write the trigger that this one is about")
        return _PLACEHOLDER
    return _read(fields.found["trigger"], (*fields.path, "trigger"), fields.problems)


def _read_except(fields: _Fields) -> Trigger:
    fields.know("trigger", "dates", "windows", "timezone", *_BOUNDS)
    inner, timezone = _read_inner(fields), fields.zone()
    before = len(fields.problems)
    dates: list[date] = []
    for index, item in enumerate(fields.items("dates")):
        try:
            dates.append(read_date(item))
        except Wrong as wrong:
            fields.problems.append(((*fields.path, "dates", index), str(wrong)))
    windows = [_read_window(fields, index, item) for index, item in enumerate(fields.items("windows"))]
    if len(fields.problems) > before and not dates:
        dates = [DEFAULT_START_DATE]
    start_us, end_us = fields.start(), fields.end()
    return fields.build(lambda: Except(inner, tuple(dates), tuple(windows), timezone, start_us, end_us))


def _read_window(fields: _Fields, index: int, item: object) -> tuple[int, int]:
    place = (*fields.path, "windows", index)
    if not isinstance(item, Mapping):
        fields.problems.append((place, f"must be a mapping {{from: ..., to: ...}}, got {shown(item)}"))
        return (0, 1)
    window = _Fields(item, place, fields.problems)
    before = len(fields.problems)
    window.know("from", "to")
    example = "2026-12-24T18:00:00"
    begin_us = window.need("from", lambda value: read_instant(value, fields.timezone), 0, example)
    end_us = window.need("to", lambda value: read_instant(value, fields.timezone), 0, example)
    return (begin_us, end_us) if len(fields.problems) == before else (0, 1)


def _read_every_nth(fields: _Fields) -> Trigger:
    fields.know("trigger", "n", "offset", *_BOUNDS)
    inner = _read_inner(fields)
    n = fields.need("n", read_whole, 1, "2")
    offset = fields.take("offset", read_whole, 0)
    start_us, end_us = fields.start(), fields.end()
    return fields.build(lambda: EveryNth(inner, n, offset, start_us, end_us))


_READERS: Final[dict[str, Callable[[_Fields], Trigger]]] = {
    "cron": _read_cron,
    "interval": _read_interval,
    "date": _read_date,
    "calendar": _read_calendar,
    "any": _read_any,
    "all": _read_all,
    "except": _read_except,
    "every_nth": _read_every_nth,
}


def trigger_to_wire(trigger: Trigger) -> dict[str, object]:
    """`trigger` as plain data, from which `trigger_from_wire` makes an equal one."""
    match trigger:
        case Cron(expression=expression):
            wire: dict[str, object] = {"type": "cron", "expression": expression}
            if trigger.timezone != "UTC":
                wire["timezone"] = trigger.timezone
            if trigger.dst != "default":
                wire["dst"] = trigger.dst
            if trigger.day_rule != "or":
                wire["day_rule"] = trigger.day_rule
        case Interval(period_us=period_us):
            wire = {"type": "interval", **_period_to_wire(period_us)}
            if trigger.anchor_us != DEFAULT_ANCHOR_US:
                wire["anchor"] = iso_utc(trigger.anchor_us)
        case Date(at_us=at_us, timezone=timezone):
            wire = {"type": "date", "run_date": iso_utc(at_us)}
            return wire if timezone == "UTC" else {**wire, "timezone": timezone}
        case Calendar():
            wire = _calendar_to_wire(trigger)
        case AnyOf(triggers=members):
            wire = {"type": "any", "triggers": [trigger_to_wire(member) for member in members]}
        case AllOf(triggers=members):
            wire = {"type": "all", "triggers": [trigger_to_wire(member) for member in members]}
        case Except():
            wire = _except_to_wire(trigger)
        case EveryNth(trigger=inner, n=n, offset=offset):
            wire = {"type": "every_nth", "n": n, "trigger": trigger_to_wire(inner)}
            if offset:
                wire["offset"] = offset
        case Unreadable(why=why):
            raise TypeError(f"what cannot be read cannot be written down: {why}")
    if trigger.start_us is not None:
        wire["start"] = iso_utc(trigger.start_us)
    if trigger.end_us is not None:
        wire["end"] = iso_utc(trigger.end_us)
    return wire


def _period_to_wire(period_us: int) -> dict[str, object]:
    for unit, unit_us in UNITS_US.items():
        if period_us % unit_us == 0:
            return {unit: period_us // unit_us}
    days, rest_us = divmod(period_us, UNITS_US["days"])  # so that the fraction of a long period stays exact
    return {"days": days, "seconds": rest_us / SECOND_US} if days else {"seconds": rest_us / SECOND_US}


def _calendar_to_wire(trigger: Calendar) -> dict[str, object]:
    wire: dict[str, object] = {"type": "calendar", trigger.unit: trigger.every, "time": clock(trigger.time_s)}
    if trigger.timezone != "UTC":
        wire["timezone"] = trigger.timezone
    if trigger.start_date != DEFAULT_START_DATE or trigger.unit in ("years", "months"):
        wire["start_date"] = trigger.start_date.isoformat()
    if trigger.month_end != "clamp":
        wire["month_end"] = trigger.month_end
    if trigger.dst != "default":
        wire["dst"] = trigger.dst
    return wire


def _except_to_wire(trigger: Except) -> dict[str, object]:
    wire: dict[str, object] = {"type": "except", "trigger": trigger_to_wire(trigger.trigger)}
    if trigger.dates:
        wire["dates"] = [day.isoformat() for day in trigger.dates]
    if trigger.windows:
        wire["windows"] = [{"from": iso_utc(begin), "to": iso_utc(end)} for begin, end in trigger.windows]
    if trigger.timezone != "UTC":
        wire["timezone"] = trigger.timezone
    return wire
