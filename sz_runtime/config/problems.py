"""What is wrong with a configuration, each problem at its place."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import frozen

from sz_protocol.wire_values import quote

if TYPE_CHECKING:
    from sz_runtime.config.loaded import Config

Path = tuple[str | int, ...]


@frozen
class Mark:
    """A place in a file, counted from 1."""

    line: int
    column: int


@frozen
class Problem:
    """`file` may also be "environment NAME" or "flag"; then `line` is 0. `key` is the dotted key."""

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


MAX_MESSAGE = 600
"""Messages quote what they are about; nobody wants to read a megabyte of it."""


def problem_at(file: str, mark: Mark, key: str, message: str) -> Problem:
    """A problem that prints as one line of bounded length, whatever it quotes."""
    return Problem(_printable(file), mark.line, mark.column, _printable(key), _printable(message[:MAX_MESSAGE]))


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


class ConfigError(Exception):
    """A configuration that cannot be used. `problems` holds all of them, by line; the text has one line for each.
    `readable` is what could be read in spite of them, for who wants to look for more; it is not fit to run."""

    def __init__(self, problems: Iterable[Problem], readable: "Config | None" = None) -> None:
        self.problems = in_order(problems)
        self.readable = readable
        super().__init__("\n".join(map(str, self.problems)))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By file, line and column; flags and the environment first."""
    return sorted(problems, key=lambda problem: (problem.line > 0, problem.file, problem.line, problem.column))


def dotted(path: Path) -> str:
    """("schedules", 0, "id") is "schedules[0].id". Always one printable line."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if part.isprintable() and len(part) <= 60 else quote(part)
            text += f".{name}" if text else name
    return text if len(text) <= 200 else f"{text[:200]}..."
