"""Durations as people write them: seconds as a number, or numbers with units such as "250ms", "5m", "1h30m"."""

import re

from sz_protocol.kernel.now import DAY_US, HOUR_US, MINUTE_US, SECOND_US

MAX_DURATION_US = 36_500 * DAY_US
"""A hundred years. Longer ones are typing mistakes, and sums with a wall time must stay within 64 bits."""

EXAMPLES = '30, "250ms", "5m" or "1h30m"'

_UNITS_US = {"w": 7 * DAY_US, "d": DAY_US, "h": HOUR_US, "m": MINUTE_US, "s": SECOND_US, "ms": 1000, "us": 1}
_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,9})?)"
DURATION_PATTERN = "^(?=.)" + "".join(f"(?:{_NUMBER}{unit})?" for unit in _UNITS_US) + "$"
"""Each unit at most once, the long ones first."""
_DURATION = re.compile(DURATION_PATTERN.replace("$", r"\Z"))


def parse_duration(value: object) -> int:
    """Microseconds. Raises ValueError, whose message says what would be right, for anything that is no duration of
    at most a hundred years, negative ones too."""
    if type(value) is int or type(value) is float:
        return _checked(value * SECOND_US)
    if type(value) is not str:
        raise ValueError(f"a duration is seconds or text with units, as in {EXAMPLES}")
    match = _DURATION.match(value)
    if match is None:
        if value.startswith("-"):
            raise ValueError("a duration cannot be negative")
        units = "units are w, d, h, m, s, ms, us, longest first, without spaces"
        raise ValueError(f"{value[:40]!r} is no duration: write it as in {EXAMPLES}; {units}")
    total = 0.0 if "." in value else 0
    for number, unit_us in zip(match.groups(), _UNITS_US.values(), strict=True):
        if number is not None:
            total += (float(number) if "." in number else int(number)) * unit_us
    return _checked(total)


def _checked(total_us: float) -> int:
    if total_us < 0:
        raise ValueError("a duration cannot be negative")
    if not total_us <= MAX_DURATION_US:  # this way round it refuses NaN too
        raise ValueError("a duration cannot be longer than a hundred years (36500d)")
    return round(total_us)


def plain_duration(duration_us: int) -> int | str:
    """The canonical plain form, read back exactly: whole seconds as a number, finer ones with the unit they need."""
    if duration_us % SECOND_US == 0:
        return duration_us // SECOND_US
    return f"{duration_us // 1000}ms" if duration_us % 1000 == 0 else f"{duration_us}us"


def format_duration(duration_us: int) -> str:
    """For a person: 5_400_000_000 is "1h30m", 0 is "0s"."""
    parts = []
    for unit, unit_us in _UNITS_US.items():
        if unit != "w" and duration_us >= unit_us:
            parts.append(f"{duration_us // unit_us}{unit}")
            duration_us %= unit_us
    return "".join(parts) or "0s"
