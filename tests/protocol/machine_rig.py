"""Records for tests that drive one machine by hand: a schedule due every minute from T0 on, and its runs."""

from typing import Any

from attrs import evolve

from sz_protocol.definition import Definition
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.events import HandlersChanged, MethodInfo
from sz_protocol.kernel.now import MINUTE_US, Now
from sz_protocol.records import CLAIMS_PER_TERM, Run, RunState, Schedule, run_key
from sz_protocol.triggers import next_fire
from tests.protocol.harness import T0_US, at, every

TERM = 3
LATER_S = 60.0

METHODS = HandlersChanged((MethodInfo("h", "m", "pool"),), (("pool", 2),))
"""One method, and room for two runs of it."""


def row_of(number: int, term: int = TERM) -> int:
    """The address of the n-th row of a life."""
    return term * CLAIMS_PER_TERM + number


def stored(definition: Definition | None = None, **more: Any) -> Schedule:
    """A schedule as it stands in the store after its creation at T0."""
    definition = definition or every(60)
    following = next_fire(definition.trigger, T0_US)
    schedule = Schedule(
        definition.id, definition, definition_hash(definition), "config", 1, T0_US, following, T0_US, T0_US
    )
    return evolve(schedule, **more)


def waiting(number: int = 1, fire_us: int = T0_US + MINUTE_US, id: str = "s", **more: Any) -> Run:
    """A run that waits for its claim."""
    key = run_key(id, str(fire_us))
    return evolve(Run(row_of(number), key, id, fire_us, "h", "m", RunState.PENDING, fire_us), **more)


def leased(number: int = 1, attempt: int = 1, **more: Any) -> Run:
    """A run that is claimed, or executing."""
    claimed: dict[str, Any] = {"state": RunState.LEASED, "attempt": attempt, "fence": row_of(number)}
    return evolve(waiting(number), **(claimed | more))


def untrusted(seconds: float) -> Now:
    """The clocks of a device that does not know the time."""
    return evolve(at(seconds), trusted=False)
