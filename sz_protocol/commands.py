"""What a person or a program may ask of a running node. Each command is answered by exactly one `Reply`.

Answers are `Applied`, `Done`, `HandlersListed`, or `Refusal`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import Factory

from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.kernel.record import record


@record
class Apply:
    """Reconcile the stored schedules of `source` with `definitions` by hash. New ones are added, changed ones edited
    with their cursor kept, unchanged ones untouched; with `prune` those of the same source that are absent are
    RETIRED, never deleted. Answer: Applied."""

    definitions: tuple[Definition, ...]
    source: str = "config"
    prune: bool = False


@record
class Pause:
    """Stop firing a schedule until Resume; the reason is shown wherever the schedule is. Answer: Done | Refusal."""

    schedule_id: str
    reason: str = ""


@record
class Resume:
    """Fire again. `missed` says what becomes of the instants that passed meanwhile. Answer: Done (detail: what that
    leaves out all the same, for a person) | Refusal."""

    schedule_id: str
    missed: MisfirePolicy = MisfirePolicy.SKIP


@record
class Trigger:
    """Run a schedule's method once, now, beside its plan. The same `idempotency_key` runs once only.
    Answer: Done (detail: the run id) | Refusal."""

    schedule_id: str
    idempotency_key: str


@record
class RunNow:
    """Run a method once, now, without a schedule. Answer: Done (detail: the run id) | Refusal."""

    handler_id: str
    method: str
    idempotency_key: str
    params: Mapping[str, Any] = Factory(dict)


@record
class Cancel:
    """Stop a run that is waiting or executing. Answer: Done | Refusal."""

    run_id: str


@record
class ListHandlers:
    """Which remote handlers are registered, or were lost a short while ago? Answer: HandlersListed."""


Command = Apply | Pause | Resume | Trigger | RunNow | Cancel | ListHandlers


@record
class Applied:
    """What Apply did, as counts."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    retired: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    """(schedule id, why) of definitions that could not be stored."""


@record
class Done:
    """It happened, durably."""

    detail: str = ""


class HandlerState(StrEnum):
    """PRESENT is heard and takes runs. SUSPECT missed some heartbeats and gets nothing new. LOST is gone, and what it
    executed with it. DRAINING finishes what it has. AWAY said good-bye."""

    PRESENT = "present"
    SUSPECT = "suspect"
    LOST = "lost"
    DRAINING = "draining"
    AWAY = "away"


@record
class HandlerStatus:
    """One remote handler. `since_us` (UTC) is when its state began, `silent_us` how long nothing was heard of it, `key`
    the public key that it proved (empty: the link verifies nobody)."""

    handler_id: str
    state: HandlerState
    since_us: int
    silent_us: int
    methods: tuple[str, ...]
    tags: Mapping[str, str]
    slots: int
    executing: int
    key: str = ""
    software: str = ""
    session: int = 0


@record
class RunNote:
    """How far a run is that a remote handler executes, in that handler's own words."""

    run_id: str
    attempt: int
    handler_id: str
    note: str
    percent: int | None = None


@record
class HandlersListed:
    """The remote handlers, by id, and what was last heard of how far their runs are."""

    handlers: tuple[HandlerStatus, ...]
    progress: tuple[RunNote, ...] = ()


class RefusalCode(StrEnum):
    """Why a command was not carried out."""

    UNKNOWN_SCHEDULE = "unknown_schedule"
    UNKNOWN_METHOD = "unknown_method"
    UNKNOWN_RUN = "unknown_run"
    WRONG_STATE = "wrong_state"
    CONFLICT = "conflict"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"
    STOPPING = "stopping"


@record
class Refusal:
    """It did not happen; `code` is for programs, `message` for people."""

    code: RefusalCode
    message: str


Answer = Applied | Done | HandlersListed | Refusal
