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
    kind: Any = type(machine)
    if _is_container(kind):
        return len(machine)
    if depth > DEEPEST:
        return 0
    weight = 0
    for name in _looked_into(kind):
        part = getattr(machine, name)
        inner: Any = type(part)
        if _is_container(inner) or _looked_into(inner):  # Most fields are plain values.
            weight += weigh(part, depth + 1, seen)
    return weight


@cache
def _is_container(kind: type) -> bool:
    return issubclass(kind, Mapping | list | tuple | deque)


@cache
def _looked_into(kind: Any) -> tuple[str, ...]:
    """The fields of a record of this kind; none where it is no record."""
    return tuple(field.name for field in fields(kind) if field.name not in REMEMBERED) if has(kind) else ()
