"""How much a machine holds in memory, in entries of containers: what must not grow with time."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from attrs import fields, has

DEEPEST = 6


def weigh(machine: Any, depth: int = 0) -> int:
    """The entries of all containers that the machine's own records reach. Frozen records inside containers count as
    one entry each; machines and bookkeepers (attrs classes that are fields) are looked into."""
    if isinstance(machine, Mapping | list | tuple | deque):
        return len(machine)
    if depth > DEEPEST or not has(type(machine)):
        return 0
    return sum(weigh(getattr(machine, field.name), depth + 1) for field in fields(type(machine)))
