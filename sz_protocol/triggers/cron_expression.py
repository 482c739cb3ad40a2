"""The text of a cron expression, read into plain sets of values.

This file is the wrapper behind which a cron library would stand. None does: croniter 7 accepts `*/61` as minute 0,
takes hashed and random fields, reads the clock when it is given no start, joins `W` and weekdays in ways of its own,
and costs 70 ms to import. It serves the tests as an oracle instead, with cronsim as a second one.

Five fields are minute, hour, day of month, month, weekday. A sixth, seconds, stands FIRST, as in Quartz, Spring and
cronsim (croniter alone puts it last).
"""

import re
from functools import lru_cache
from typing import Final

import attrs

from .errors import Problem, nearest, refuse_if

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
LONGEST: Final = 512  # characters; a list of all 60 seconds and 60 minutes still fits

_MONTHS: Final = {
    "JAN": 1,
    "FEB": 2,
    "MAR": 3,
    "APR": 4,
    "MAY": 5,
    "JUN": 6,
    "JUL": 7,
    "AUG": 8,
    "SEP": 9,
    "OCT": 10,
    "NOV": 11,
    "DEC": 12,
}
_WEEKDAYS: Final = {"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6}
_STEP: Final = re.compile(r"([^/]+)/([^/]+)")
_RANGE: Final = re.compile(r"([^-]+)-([^-]+)")
_HASHED: Final = re.compile(r"[HR](\(.*\))?(/.*)?", re.IGNORECASE)


@attrs.frozen
class Field:
    """One field of an expression: its values and its words. `wraps` allows ranges such as 22-6."""

    name: str
    low: int
    high: int
    names: dict[str, int] = attrs.Factory(dict)
    wraps: bool = True

    @property
    def size(self) -> int:
        return self.high - self.low + 1

    @property
    def highest(self) -> int:
        return 7 if self.name == "weekday" else self.high  # 7 is Sunday too

    def allowed(self) -> str:
        if not self.names:
            return f"{self.low} to {self.high}"
        words = list(self.names)
        return f"{self.low} to {self.highest} or {words[0]} to {words[-1]}"


SECOND: Final = Field("second", 0, 59)
MINUTE: Final = Field("minute", 0, 59)
HOUR: Final = Field("hour", 0, 23)
DAY: Final = Field("day of month", 1, 31, wraps=False)
MONTH: Final = Field("month", 1, 12, _MONTHS)
WEEKDAY: Final = Field("weekday", 0, 6, _WEEKDAYS)
FIELDS: Final = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY)


@attrs.frozen
class CronFields:
    """What an expression says. Tuples are sorted; weekdays count from Sunday = 0.

    A day field is *open* when it is written `*` or `?`, and only then: `*/2` and `1-31` restrict.
    `before_last` holds the days counted from the month's last one (`L` is 0, `L-3` is 3), `nearest` the days of `15W`,
    `nth` the pairs (weekday, n) of `MON#2`, `last` the weekdays of `5L`.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    before_last: tuple[int, ...]
    nearest: tuple[int, ...]
    last_weekday: bool
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    nth: tuple[tuple[int, int], ...]
    last: tuple[int, ...]
    day_open: bool
    weekday_open: bool


class _Refused(Exception):
    """One field's mistake, on its way to `parse_cron`."""


@lru_cache(maxsize=4096)
def parse_cron(expression: str) -> CronFields:
    """Read `expression`; TriggerError names every field that is wrong and what would be right."""
    texts = _split(expression)
    problems: list[Problem] = []
    values: list[list[int]] = []
    special = _Special()
    for field, text in zip(FIELDS, texts, strict=True):
        try:
            values.append(_read_field(field, text, special))
        except _Refused as mistake:
            values.append([])
            problems.append((("expression",), f"{field.name}: {mistake}"))
    refuse_if(problems)
    seconds, minutes, hours, days, months, weekdays = (tuple(sorted(set(found))) for found in values)
    return CronFields(
        seconds=seconds,
        minutes=minutes,
        hours=hours,
        days=days,
        before_last=tuple(sorted(set(special.before_last))),
        nearest=tuple(sorted(set(special.nearest))),
        last_weekday=special.last_weekday,
        months=months,
        weekdays=weekdays,
        nth=tuple(sorted(set(special.nth))),
        last=tuple(sorted(set(special.last))),
        day_open=texts[3] in ("*", "?"),
        weekday_open=texts[5] in ("*", "?"),
    )


@attrs.define
class _Special:
    """What L, W and # add to the day fields while they are read."""

    before_last: list[int] = attrs.Factory(list)
    nearest: list[int] = attrs.Factory(list)
    last_weekday: bool = False
    nth: list[tuple[int, int]] = attrs.Factory(list)
    last: list[int] = attrs.Factory(list)


def _split(expression: str) -> list[str]:
    """The six fields' texts, seconds first; TriggerError when there are not five or six."""

    def refused(message: str) -> list[Problem]:
        return [(("expression",), message)]

    if len(expression) > LONGEST:
        refuse_if(refused(f"is {len(expression)} characters long; at most {LONGEST} are read"))
    if not expression.isascii():
        odd = next(char for char in expression if not char.isascii())
        refuse_if(refused(f"holds {odd!r}; only plain ASCII letters, digits and * ? , - / # are cron"))
    if expression.lstrip().startswith("@"):
        expression = _macro(expression.strip().lower())
    texts = expression.split()
    if len(texts) == 5:
        return ["0", *texts]
    if len(texts) == 7:
        refuse_if(refused("has 7 fields; years are not supported: write 5 or 6 fields and use start and end"))
    if len(texts) != 6:
        shape = "5 fields (minute hour day-of-month month weekday), or 6 with seconds first"
        refuse_if(refused(f"has {len(texts)} field{'s' * (len(texts) != 1)}; write {shape}"))
    return texts


def _macro(word: str) -> str:
    if word in MACROS:
        return MACROS[word]
    if word == "@reboot":
        message = "@reboot is no time: a schedule does not know of boots; run it from the component's start"
    elif word.startswith("@every"):
        message = "@every is no cron expression: use a trigger of type interval"
    else:
        message = f"unknown macro {word!r}{nearest(word, tuple(MACROS)) or '; known are ' + ', '.join(MACROS)}"
    refuse_if([(("expression",), message)])
    return word


def _read_field(field: Field, text: str, special: _Special) -> list[int]:
    values: list[int] = []
    for item in text.split(","):
        if not item:
            raise _Refused(f"{text!r} has an empty place in its list")
        if item == "?":
            if field not in (DAY, WEEKDAY) or text != "?":
                raise _Refused(f"{text!r}: ? stands alone, and only for day of month or weekday; write *")
            values.extend(range(field.low, field.high + 1))
        elif not _read_special(field, item, special):
            values.extend(_read_item(field, item))
    return values


def _read_item(field: Field, item: str) -> list[int]:
    """The values of `*`, `5`, `1-5`, `*/2`, `1-30/2` or `5/15` (from 5 to the field's end)."""
    if _HASHED.fullmatch(item):
        raise _Refused(f"{item!r}: hashed and random fields are not supported; use the schedule's `spread`")
    stepped = _STEP.fullmatch(item)
    base, step = (stepped[1], _read_step(field, stepped[2], item)) if stepped else (item, 1)
    if base == "*":
        low, high = field.low, field.high
    elif bounds := _RANGE.fullmatch(base):
        low, high = _number(field, bounds[1], item), _number(field, bounds[2], item)
        if field is WEEKDAY and low == 7:
            low = 0
    else:
        low = _number(field, base, item)
        high = field.high if stepped else low
    if low <= high:
        found = list(range(low, high + 1, step))
    elif field.wraps:
        found = [*range(low, field.high + 1), *range(field.low, high + 1)][::step]
    else:
        raise _Refused(f"{item!r} runs backwards, and months differ in length; write {low}-31,1-{high}")
    return [value % 7 for value in found] if field is WEEKDAY else found


def _read_step(field: Field, text: str, item: str) -> int:
    step = int(text) if text.isdigit() else 0
    if not 1 <= step <= field.size:
        raise _Refused(f"{item!r}: the step must be a whole number from 1 to {field.size}")
    return step


def _number(field: Field, text: str, item: str) -> int:
    word = text.upper()
    if word in field.names:
        return field.names[word]
    if text.isdigit() and field.low <= int(text) <= field.highest:
        return int(text)
    where = "" if text == item else f"{item!r}: "
    hint = nearest(word[:3], tuple(field.names)) if text.isalpha() else ""
    raise _Refused(f"{where}{text!r} is not {field.allowed()}{hint}")


def _read_special(field: Field, item: str, special: _Special) -> bool:
    """Whether `item` was one of the words that only the day fields have."""
    if field is DAY:
        return _read_special_day(item, special)
    return field is WEEKDAY and _read_special_weekday(item, special)


def _read_special_day(item: str, special: _Special) -> bool:
    """Read `L`, `L-3`, `LW`, `15W` or `W15`."""
    word = item.upper()
    if word == "LW":
        special.last_weekday = True
    elif word == "L":
        special.before_last.append(0)
    elif word.startswith("L-"):
        if not word[2:].isdigit() or not 1 <= int(word[2:]) <= 30:
            raise _Refused(f"{item!r}: L-n counts from 1 to 30 days back from the month's last day")
        special.before_last.append(int(word[2:]))
    elif word.startswith("W") or word.endswith("W"):
        if not word.strip("W").isdigit() or word.count("W") != 1:
            raise _Refused(f"{item!r}: W takes one day, as in 15W (the weekday nearest to the 15th)")
        special.nearest.append(_number(DAY, word.strip("W"), item))
    else:
        return False
    return True


def _read_special_weekday(item: str, special: _Special) -> bool:
    """Read `MON#2` (the second Monday), `5L` or `L5` (the month's last Friday)."""
    word = item.upper()
    if "#" in word:
        day, _, nth = word.partition("#")
        if nth not in ("1", "2", "3", "4", "5"):
            raise _Refused(f"{item!r}: # is followed by 1 to 5, as in MON#2 (the second Monday)")
        special.nth.append((_number(WEEKDAY, day, item) % 7, int(nth)))
    elif word == "L":
        raise _Refused("'L' needs a weekday, as in 5L (the last Friday); for the week's last day write SAT or SUN")
    elif word.startswith("L") or word.endswith("L"):
        if word.count("L") != 1:
            raise _Refused(f"{item!r}: L is written once, as in 5L (the last Friday)")
        special.last.append(_number(WEEKDAY, word.strip("L"), item) % 7)
    else:
        return False
    return True
