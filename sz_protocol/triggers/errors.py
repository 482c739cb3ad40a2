"""What can be wrong with a trigger, said so that a person can mend it."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from .instants import FIRST_US, LAST_US, iso_utc

Path: TypeAlias = tuple[str | int, ...]
Problem: TypeAlias = tuple[Path, str]


class TriggerError(ValueError):
    """A trigger that cannot be accepted. `problems` holds every mistake found, each as (path, message)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: list[Problem] = list(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "; ".join(
            f"{'.'.join(map(str, path))}: {message}" if path else message for path, message in self.problems
        )


class CannotAdvance(Exception):  # callers quarantine the schedule
    """No fire was found within the bounded search: the schedule has to be set aside, alone."""

    def __init__(self, after_us: int, reason: str) -> None:
        self.after_us = after_us
        self.reason = reason
        super().__init__(after_us, reason)

    def __str__(self) -> str:
        return f"cannot find a fire after {iso_utc(min(max(self.after_us, FIRST_US), LAST_US))}: {self.reason}"


class CannotRead(CannotAdvance):
    """There is nothing to search: this version cannot read the trigger."""

    def __str__(self) -> str:
        return self.reason


def shown(value: object) -> str:
    """`value` as it may stand in a message: its repr, cut where that is long, whatever the value is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits, a list inside itself
        return f"something of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def nearest(word: str, choices: Sequence[str]) -> str:
    """The hint `; did you mean 'x'?` for the closest of `choices`, or nothing when none is close."""
    if len(word) > 100:
        return ""
    by_lower = {choice.lower(): choice for choice in choices}
    from difflib import get_close_matches  # for mistakes only: 140 kB that no server needs

    found = get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean {by_lower[found[0]]!r}?" if found else ""


def refuse_if(problems: Sequence[Problem]) -> None:
    """Raise all of `problems` in one TriggerError, if there are any."""
    if problems:
        raise TriggerError(problems)
