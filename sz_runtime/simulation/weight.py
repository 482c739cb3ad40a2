"""How much a machine holds in memory, in entries of containers: what must not grow with time."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from attrs import fields, has

DEEPEST = 6


def weigh(machine: Any, depth: int = 0, seen: dict[int, None] | None = None) -> int:
    """The entries of all containers that the machine's own records reach. Frozen records inside containers count as
    one entry each; machines and bookkeepers (attrs classes that are fields) are looked into, shared ones once."""
    seen = {} if seen is None else seen
    if id(machine) in seen:
        return 0
    seen[id(machine)] = None
    if isinstance(machine, Mapping | list | tuple | deque):
        return len(machine)
    if depth > DEEPEST or not has(type(machine)):
        return 0
    return sum(weigh(getattr(machine, field.name), depth + 1, seen) for field in fields(type(machine)))
