"""How much a machine holds in memory, in entries of containers: what must not grow with time."""

from collections import deque
from collections.abc import Mapping
from functools import cache
from typing import Any

from attrs import fields, has

DEEPEST = 6
REMEMBERED = ("settled", "settled_before")
"""Fields whose size is bounded by a constant of their own, far above what a simulated run can fill."""


def weigh(machine: Any, depth: int = 0, seen: dict[int, None] | None = None) -> int:
    """The entries of all containers that the machine's own records reach. Frozen records inside containers count as
    one entry each; machines and bookkeepers (attrs classes that are fields) are looked into, shared ones once; what is
    only `REMEMBERED` is not counted."""
    seen = {} if seen is None else seen
    if id(machine) in seen:
        return 0
    seen[id(machine)] = None
    if isinstance(machine, Mapping | list | tuple | deque):
        return len(machine)
    if depth > DEEPEST:
        return 0
    kind: Any = type(machine)
    return sum(weigh(getattr(machine, name), depth + 1, seen) for name in _looked_into(kind))


@cache
def _looked_into(kind: Any) -> tuple[str, ...]:
    """The fields of a record of this kind; none where it is no record."""
    return tuple(field.name for field in fields(kind) if field.name not in REMEMBERED) if has(kind) else ()
