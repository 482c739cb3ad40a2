"""What is stored: schedules, runs and attempts. Frozen values; a store keeps them and hands them back equal.

The ledger is the set of `Run` rows: every due instant of every schedule ends in exactly one of them (LEDGER-1), with
an outcome and a reason. Instants that were not executed are rows too.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from attrs import frozen

from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.kernel.record import record
from sz_protocol.triggers import Date

CLAIMS_PER_TERM = 1 << 32

KEY_BYTES, CLOCK_BYTES = 16, 6
"""How long a run key is, and the part of it that is the nominal's clock."""

_NO_CLOCK = bytes(CLOCK_BYTES)
_MOST_CLOCK_MS = (1 << 8 * CLOCK_BYTES) - 1
_EPOCH = datetime(1970, 1, 1)
_MILLISECOND = timedelta(milliseconds=1)

UNSETTLED_US = 0
"""A `next_due_us` that says: due as soon as the time is known, to be brought to the present (TIME-5)."""


class ScheduleState(StrEnum):
    """ACTIVE fires. PAUSED waits for a person. PARKED waits for its handler. QUARANTINED has a trigger that cannot
    advance or be read. FINISHED has no fire time left. RETIRED was taken out of its source; its history stays."""

    ACTIVE = "active"
    PAUSED = "paused"
    PARKED = "parked"
    QUARANTINED = "quarantined"
    FINISHED = "finished"
    RETIRED = "retired"


@record
class Schedule:
    """A definition and where its owner stands with it.

    `uid` names it for ever in run keys. `cursor_us` is the last fire time that has been decided: everything up to it
    is in the ledger, nothing after it is; it never regresses (SCHED-1). `next_due_us` is the next fire time plus
    spread, None when nothing is to come, UNSETTLED_US when that can be said only once the time is known; stores index
    it for ACTIVE schedules. `created_us` is 0 for one that was created before the time was known. `rev` counts edits.
    `since_us` says when the state began and `reason` why. Instants at or before `catch_up_until_us` follow the policy
    `catch_up` instead of the definition's (set when a pause ends). `paused_us` is there for one that was paused when it
    was RETIRED: since when, and `paused_reason` why; so it comes back.
    """

    uid: str
    definition: Definition
    hash: bytes
    source: str
    rev: int
    cursor_us: int
    next_due_us: int | None
    created_us: int
    since_us: int
    state: ScheduleState = ScheduleState.ACTIVE
    reason: str = ""
    catch_up: MisfirePolicy | None = None
    catch_up_until_us: int = 0
    paused_us: int | None = None
    paused_reason: str = ""

    @property
    def id(self) -> str:
        """The name that its owner gave it."""
        return self.definition.id

    def standing(self, state: ScheduleState, reason: str, since_us: int, next_due_us: int | None) -> "Schedule":
        """The same schedule in a state from now on. (`evolve` by hand: a hundred thousand may be added at once.)"""
        return Schedule(
            self.uid,
            self.definition,
            self.hash,
            self.source,
            self.rev,
            self.cursor_us,
            next_due_us,
            self.created_us,
            since_us,
            state,
            reason,
            self.catch_up,
            self.catch_up_until_us,
            self.paused_us,
            self.paused_reason,
        )


MOST_RESULT = 64 * 1024
"""Bytes of JSON that a result may take in the ledger."""
MOST_ERROR = 4096
"""Characters that are kept of what a handler raised."""


class RunState(StrEnum):
    """PENDING waits for a slot or for its back-off, LEASED is (or may be) executing, DONE has its outcome."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"


class Outcome(StrEnum):
    """How a due instant ended. `skipped` was decided by a policy, `missed` passed unseen and was too old to serve,
    `lost` may or may not have been executed."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    MISSED = "missed"
    LOST = "lost"


class Reason(StrEnum):
    """Why, in one word; free text goes to `error`."""

    ON_TIME = "on_time"
    LATE = "late"
    CATCH_UP = "catch_up"
    RETRIED = "retried"
    MANUAL = "manual"
    BACKFILL = "backfill"
    ERROR = "error"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    UNSTORABLE = "unstorable_result"
    UNKNOWN_METHOD = "unknown_method"
    INVALID_PARAMS = "invalid_params"
    REQUESTED = "requested"
    SUPERSEDED = "superseded"
    SHUTDOWN = "shutdown"
    CUT_OFF = "cut_off"
    OVERLAP = "overlap"
    QUEUE_FULL = "queue_full"
    COALESCED = "coalesced"
    MISFIRE = "misfire"
    WINDOW = "window"
    LIMIT = "limit"
    PAUSED = "paused"
    RETIRED = "retired"
    PAST_AT_CREATION = "past_at_creation"
    UNTRUSTED_TIME = "untrusted_time"
    CRASHED = "crashed"
    HANDLER_AWAY = "handler_away"


class RunKind(StrEnum):
    """Where a run came from; each kind has run keys of its own. A MONOTONIC one is that of an interval schedule,
    fired by periods since boot while the time was not known: its fire time is an estimate."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    BACKFILL = "backfill"
    MONOTONIC = "monotonic"


# Bound once: on Python 3.11 a member that is looked up in its enum costs as much as two function calls.
_LEASED: Final = RunState.LEASED
_DONE: Final = RunState.DONE
_SCHEDULED: Final = RunKind.SCHEDULED


@record
class Run:
    """One row of the ledger: a due instant, or a folded range of them, and what became of it.

    `row` is the integer address of the row, derived from (term, claim number); `run_key` is unique. `fence` is the
    token of the current attempt: it grows from run to run and from attempt to attempt. `attempt` counts executions
    from 1 (0: never executed). `failures` counts attempts that failed, `losses` those whose executor vanished.
    `count` > 1: the row stands for that many instants, from `fire_us` to `until_us`. `covers` lists the fire times
    that were coalesced into this run. `not_before_us` is when a PENDING run may start (UTC). `params` is None for a
    scheduled run (its definition has them). `result` is what the handler returned, as JSON text. `worker` is the id of
    the remote handler that executes or executed the current attempt ("": this process).
    """

    row: int
    run_key: bytes
    schedule_id: str
    fire_us: int
    handler_id: str
    method: str
    state: RunState
    decided_us: int
    kind: RunKind = RunKind.SCHEDULED
    outcome: Outcome | None = None
    reason: str = ""
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    fence: int = 0
    not_before_us: int = 0
    started_us: int | None = None
    finished_us: int | None = None
    count: int = 1
    until_us: int | None = None
    covers: tuple[int, ...] = ()
    params: Mapping[str, Any] | None = None
    result: str | None = None
    error: str | None = None
    worker: str = ""

    @property
    def run_id(self) -> str:
        """The public name of the run: the run key in hexadecimal."""
        return self.run_key.hex()

    def leased(self, attempt: int, fence: int, worker: str = "") -> "Run":
        """The same run, claimed for an attempt. (`evolve` by hand, at a third of its time: this is the hot path.)"""
        return Run(
            self.row,
            self.run_key,
            self.schedule_id,
            self.fire_us,
            self.handler_id,
            self.method,
            _LEASED,
            self.decided_us,
            self.kind,
            self.outcome,
            self.reason,
            attempt,
            self.failures,
            self.losses,
            fence,
            self.not_before_us,
            self.started_us,
            self.finished_us,
            self.count,
            self.until_us,
            self.covers,
            self.params,
            self.result,
            self.error,
            worker,
        )

    def done(
        self,
        outcome: Outcome,
        reason: str,
        started_us: int | None,
        finished_us: int,
        result: str | None = None,
        error: str | None = None,
    ) -> "Run":
        """The same run with its outcome. (`evolve` by hand, as above.)"""
        return Run(
            self.row,
            self.run_key,
            self.schedule_id,
            self.fire_us,
            self.handler_id,
            self.method,
            _DONE,
            self.decided_us,
            self.kind,
            outcome,
            reason,
            self.attempt,
            self.failures,
            self.losses,
            self.fence,
            self.not_before_us,
            started_us,
            finished_us,
            self.count,
            self.until_us,
            self.covers,
            self.params,
            result,
            error,
            self.worker,
        )


INBORN: Final = (
    "row", "run_key", "schedule_id", "fire_us", "handler_id", "method", "decided_us", "kind", "count", "until_us",
    "covers", "params",
)  # fmt: skip
"""What a run is from its insertion to its end; all other fields say where it stands."""


@frozen
class Attempt:
    """An execution that did not end its run: what happened to it before the next attempt was decided."""

    row: int
    attempt: int
    outcome: Outcome
    reason: str
    started_us: int | None
    finished_us: int
    error: str | None = None


def run_key(uid: str, nominal: str, kind: RunKind = RunKind.SCHEDULED) -> bytes:
    """H(schedule uid, nominal), 16 bytes, the same on every node. Manual runs and backfills cannot collide with
    scheduled ones: their kind is hashed in.

    The nominal's own clock in milliseconds goes in front, as in a UUIDv7, so that a unique index grows at its end and
    not all over a ledger of millions. It is read off the name, never off the zone data: what keeps its name when zone
    data change keeps its key. What has no clock (the keys of clients, periods since boot) lies together at 0.
    """
    if kind is _SCHEDULED:
        clock, name = _clock(nominal), f"scheduled\0{uid}\0{nominal}"
    else:
        clock = _clock(nominal) if kind is RunKind.BACKFILL else _NO_CLOCK
        name = f"{kind.value}\0{uid}\0{nominal}"
    return clock + blake2b(name.encode(), digest_size=KEY_BYTES - CLOCK_BYTES).digest()


@lru_cache(maxsize=1024)
def _clock(nominal: str) -> bytes:
    """Microseconds of UTC, or `2026-03-29T02:30:00/0 Europe/Berlin`: the wall time, whatever the zone makes of it."""
    if nominal.isdecimal():
        clock_ms = int(nominal) // 1000
    else:
        try:
            wall = datetime.fromisoformat(nominal.partition("/")[0])
        except ValueError:
            return _NO_CLOCK
        clock_ms = (wall.replace(tzinfo=None) - _EPOCH) // _MILLISECOND
    return min(max(clock_ms, 0), _MOST_CLOCK_MS).to_bytes(CLOCK_BYTES, "big")


def bare_definition(run: Run) -> Definition:
    """The definition of a run that has no schedule: all policies at their defaults."""
    name = run.schedule_id or f"{run.handler_id}.{run.method}"
    return Definition(name, run.handler_id, run.method, Date(run.fire_us), params=run.params or {})
