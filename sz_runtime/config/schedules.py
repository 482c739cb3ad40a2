"""The part of a configuration that is ours: `schedules`, each problem on its own line."""

import re
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from sz_protocol.definition import Definition
from sz_protocol.definition_wire import DefinitionError, definition_from_wire
from sz_protocol.durations import format_duration
from sz_protocol.triggers import CannotAdvance, next_fire
from sz_protocol.wire_values import describe
from sz_runtime.config.layers import Reading
from sz_runtime.config.problems import Path, Problem, dotted, problem_at

_REFERENCE = re.compile(r"(?<!\$)\$\{[A-Za-z_][A-Za-z0-9_]*\}")


@frozen
class Placed:
    """A definition and where it stands."""

    definition: Definition
    path: Path
    line: int


def read_schedules(reading: Reading) -> list[Placed]:
    """Every definition that could be read; the others are reported."""
    items = reading.document.value.get("schedules")
    if items is None:
        return []
    if not isinstance(items, list):
        reading.report_path(("schedules",), f"is {describe(items)}, but has to be a list of schedules")
        return []
    placed: list[Placed] = []
    first_lines: dict[str, int] = {}
    for index, item in enumerate(items):
        path: Path = ("schedules", index)
        line = reading.document.mark(path).line
        name = item.get("id") if isinstance(item, dict) else None
        if isinstance(name, str) and name in first_lines:
            first = f"the schedule on line {first_lines[name]} has this id already; each needs its own"
            reading.report_path((*path, "id"), first)
        elif isinstance(name, str):
            first_lines[name] = line
        try:
            placed.append(Placed(definition_from_wire(item), path, line))
        except DefinitionError as error:
            for inner, message in error.problems:
                reading.report_path((*path, *inner), message)
    return placed


def schedule_warnings(reading: Reading, placed: list[Placed], now_us: int | None) -> list[Problem]:
    """What is odd about schedules, but no error."""
    file, found = reading.document.file, []
    for item in placed:
        for inner, message in _oddities(item.definition, now_us):
            path = (*item.path, *inner)
            found.append(problem_at(file, reading.document.mark(path), dotted(path), message))
    return found


def _oddities(definition: Definition, now_us: int | None) -> Iterator[tuple[Path, str]]:
    retry, timeout_us, deadline_us = definition.retry, definition.timeout_us, definition.deadline_us
    if retry.attempts > 1 and retry.base_us > retry.max_us:
        longest = format_duration(retry.max_us)
        yield ("retry", "base"), f"is longer than max ({longest}), so that max bounds every back-off"
    if timeout_us is not None and deadline_us is not None and timeout_us > deadline_us:
        yield ("timeout",), f"is longer than the deadline ({format_duration(deadline_us)}), which always comes first"
    for path in _references(definition.params, ("params",)):
        hint = "schedules are stored and shown; let the handler read its secrets, or name them"
        yield path, f"holds a reference, and references are not replaced inside schedules: {hint}"
    if now_us is not None:
        try:
            if next_fire(definition.trigger, now_us) is None:
                yield ("trigger",), "has no fire time left"
        except CannotAdvance as error:
            yield ("trigger",), f"finds no fire time: {error.reason}"


def _references(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, str) and _REFERENCE.search(value):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _references(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, (*path, index))
