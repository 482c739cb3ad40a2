"""What a user writes about a schedule: the definition, with its policies. Frozen values, compared by hash.

How a definition is read from and written to plain data stands in `definition_wire`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import Factory, frozen

from sz_protocol.kernel.now import DAY_US, SECOND_US
from sz_protocol.triggers import Trigger


class MisfirePolicy(StrEnum):
    """What becomes of fire times that passed unserved (the node was down, blocked or paused)."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class OverlapPolicy(StrEnum):
    """What becomes of a fire time while an earlier run of the same schedule is still active."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"
    CANCEL_RUNNING = "cancel_running"


class Semantics(StrEnum):
    """What becomes of a run whose executor vanished: executed again, or marked lost."""

    AT_LEAST_ONCE = "at_least_once"
    AT_MOST_ONCE = "at_most_once"


class AwayPolicy(StrEnum):
    """What becomes of a fire time while the handler is away: its run waits for it, is skipped, or goes to another
    handler that has the method."""

    WAIT = "wait"
    SKIP = "skip"
    ELSEWHERE = "elsewhere"


@frozen
class Misfire:
    """`grace_us`: how late a fire time may start without being a misfire (None: without limit).

    `max`: the most instants that ALL runs after a gap (the latest are kept); `window_us`: instants older than this
    are recorded as missed and never run; `rate_per_s`: at most so many catch-up runs a second (None: no cap).
    """

    policy: MisfirePolicy = MisfirePolicy.LATEST
    grace_us: int | None = None
    max: int = 100
    window_us: int = DAY_US
    rate_per_s: float | None = None


@frozen
class Overlap:
    """`limit`: how many runs may wait (QUEUE, behind the running one) or be active at once (ALLOW)."""

    policy: OverlapPolicy = OverlapPolicy.SKIP
    limit: int = 1


@frozen
class Retry:
    """`attempts`: how many executions may fail in all (1: no retry); the n-th back-off is drawn from
    [0, min(max_us, base_us * 2**(n-1))] ("full jitter")."""

    attempts: int = 1
    base_us: int = SECOND_US
    max_us: int = 300 * SECOND_US


@frozen
class Definition:
    """One schedule as its owner wrote it.

    `timeout_us` bounds one attempt, `deadline_us` all attempts of a run counted from its fire time's start;
    `spread_us` is the window of the stable offset that keeps a herd of schedules from firing at one instant.
    `handler_id` may be "*": any handler that has the method. Whoever executes has all of `tags`. An `exclusive` run is
    stopped by its own handler before a lost link could let another one begin it.
    """

    id: str
    handler_id: str
    method: str
    trigger: Trigger
    params: Mapping[str, Any] = Factory(dict)
    misfire: Misfire = Misfire()
    overlap: Overlap = Overlap()
    retry: Retry = Retry()
    timeout_us: int | None = None
    deadline_us: int | None = None
    spread_us: int = 0
    semantics: Semantics = Semantics.AT_LEAST_ONCE
    labels: Mapping[str, str] = Factory(dict)
    tags: Mapping[str, str] = Factory(dict)
    away: AwayPolicy = AwayPolicy.WAIT
    exclusive: bool = False
