"""The control link as its server sees it: frames in, frames out. Sockets are a shell's business.

Rules and messages: specs/control.md. Whoever carries the frames decides who may ask at all.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
import structlog
from attrs import asdict, evolve, frozen

from sz_protocol.codec import decode, encode
from sz_protocol.commands import HandlersListed, ListHandlers, Refusal, RefusalCode, RunNote
from sz_protocol.kernel.errors import DecodeError, LocalProtocolError
from sz_protocol.messages import (
    TO_CONTROL_SERVER,
    Answer,
    Ask,
    ComponentStatus,
    ControlHello,
    ExecutingRun,
    GetStatus,
    HeldSchedule,
    NextFire,
    Reload,
    Reloaded,
    Request,
    Status,
    Told,
)
from sz_protocol.queries import DueSchedules, Query, RunsPage, SchedulesPage
from sz_protocol.records import RunState, Schedule, ScheduleState
from sz_protocol.triggers import Unreadable
from sz_runtime.components import ComponentManager, ReloadRefused
from sz_runtime.config import Config, ConfigError
from sz_runtime.config.secret_text import redacted
from sz_runtime.ports import StoreError

ANSWER_S = 120.0
COUNT_PAGE = 1000
COUNT_LIMIT = 10_000
"""Schedules that a status counts; beyond that it says that there are more."""
MAX_ROWS = 1000
HELD = (ScheduleState.QUARANTINED, ScheduleState.PARKED, ScheduleState.PAUSED)
"""What does not fire and may not be known to everybody, the most surprising first."""
_END_OF_TIME_US = 1 << 62
_log = structlog.get_logger("schedulezero.control")


def control_path(config: Config) -> str | None:
    """Where the control socket of a deployment is: beside its database, else beside its configuration. None for a
    node that has neither."""
    datastore = config.components.scheduler.datastore
    beside = datastore.path if datastore.type == "sqlite" else config.file
    return os.path.join(os.path.dirname(os.path.abspath(beside)), "control.sock") if beside else None


def store_name(config: Config) -> str:
    """The address of the store, fit to be shown."""
    datastore = config.components.scheduler.datastore
    match datastore.type:
        case "sqlite":
            return f"sqlite:{os.path.realpath(datastore.path)}"
        case "postgresql":
            return str(redacted(datastore.url))
    return datastore.type


class ControlService:
    """Answers requests of the control link with a ComponentManager."""

    def __init__(self, manager: ComponentManager) -> None:
        self._manager = manager

    def hello(self) -> bytes:
        """The first frame of a connection."""
        config = self._manager.config
        return encode(ControlHello(software(), config.deployment.name, store_name(config), os.getpid()))

    async def answer(self, frame: bytes) -> bytes:
        """The answer to one frame. Raises DecodeError for a frame that is none."""
        ask: Ask = decode(frame, TO_CONTROL_SERVER)
        answer: Answer = Refusal(RefusalCode.UNAVAILABLE, f"no answer within {ANSWER_S:.0f} s; it may still happen")
        with anyio.move_on_after(ANSWER_S):
            answer = await self._answer(ask.request)
        try:
            return encode(Told(ask.request_id, answer))
        except LocalProtocolError as too_large:
            return encode(Told(ask.request_id, Refusal(RefusalCode.INVALID, str(too_large))))

    def misunderstood(self, error: DecodeError) -> bytes:
        """The last frame to somebody whose frame could not be read."""
        return encode(Told(0, Refusal(RefusalCode.INVALID, f"the request cannot be read: {error}")))

    async def _answer(self, request: Request) -> Answer:
        match request:
            case Reload():
                return await self._reload()
            case GetStatus():
                return await self._status(request)
        scheduler = self._manager.scheduler
        if scheduler is None:
            return Refusal(RefusalCode.UNAVAILABLE, "the scheduler of this node does not run now")
        answer: Answer = await scheduler.ask(request)
        return answer

    async def _reload(self) -> Answer:
        try:
            lines = await self._manager.reload()
        except ConfigError as wrong:
            # A broken file must not harm a running node: it goes on with what it has.
            return Refusal(RefusalCode.INVALID, str(wrong))
        except ReloadRefused as refused:
            return Refusal(RefusalCode.UNAVAILABLE, str(refused))
        for line in lines:
            _log.info("reloaded", what=line)
        return Reloaded(tuple(lines))

    async def _status(self, asked: GetStatus) -> Answer:
        manager = self._manager
        status = Status(
            deployment=manager.config.deployment.name,
            mode=str(manager.config.deployment.mode),
            software=software(),
            pid=os.getpid(),
            started_us=manager.started_us,
            components=tuple(ComponentStatus(s.name, s.state, s.since_us, s.lives, s.reason) for s in manager.states),
            warnings=tuple(manager.warnings),
        )
        scheduler = manager.scheduler
        if scheduler is None:
            return status
        try:
            view = await anyio.to_thread.run_sync(view_store, scheduler.store.query, asked)
        except StoreError as broken:
            return evolve(status, warnings=(*status.warnings, str(broken)))
        if any(run.worker for run in view.executing):
            listed = await scheduler.ask(ListHandlers())
            if isinstance(listed, HandlersListed):
                view = evolve(view, executing=with_progress(view.executing, listed.progress))
        return evolve(status, term=scheduler.term, **asdict(view, recurse=False))


@frozen
class StoreView:
    """The part of a status that a store knows, with or without a server: the fields of Status."""

    schedules: Mapping[ScheduleState, int]
    partial: bool
    next_fires: tuple[NextFire, ...]
    executing: tuple[ExecutingRun, ...]
    held: tuple[HeldSchedule, ...]


def view_store(query: Callable[[Query], tuple[Any, ...]], asked: GetStatus) -> StoreView:
    """Look at a store (blocking). Raises StoreError."""
    counts: Counter[ScheduleState] = Counter()
    held: dict[str, HeldSchedule] = {}
    after = ""
    while (page := query(SchedulesPage(after, COUNT_PAGE))) and counts.total() < COUNT_LIMIT:
        standing = [*map(_standing, page)]
        counts.update(each.state for each in standing)
        held.update((each.schedule_id, each) for each in standing if each.state is ScheduleState.QUARANTINED)
        after = page[-1].id
    for state in HELD:
        still = query(SchedulesPage(limit=_rows(asked.held - len(held)), states=(state,)))
        held.update((schedule.id, _standing(schedule)) for schedule in still)
    due = query(DueSchedules(_END_OF_TIME_US, None, _rows(asked.next_fires)))
    leased = query(RunsPage(_rows(asked.executing), state=RunState.LEASED))
    return StoreView(
        {state: counts[state] for state in ScheduleState if counts[state]},
        bool(page),
        tuple(NextFire(s.id, s.next_due_us) for s in due if _standing(s).state is ScheduleState.ACTIVE),
        tuple(
            ExecutingRun(r.run_id, r.schedule_id, r.handler_id, r.method, r.fire_us, r.attempt, r.started_us, r.worker)
            for r in leased
        ),
        tuple(held.values())[: _rows(asked.held)],
    )


def with_progress(runs: tuple[ExecutingRun, ...], notes: tuple[RunNote, ...]) -> tuple[ExecutingRun, ...]:
    """How far runs are, where their handlers have said so."""
    said = {(note.run_id, note.attempt): note for note in notes}
    found = [(run, said.get((run.run_id, run.attempt))) for run in runs]
    return tuple(run if note is None else evolve(run, note=note.note, percent=note.percent) for run, note in found)


def _standing(schedule: Schedule) -> HeldSchedule:
    """How a schedule stands. One that cannot be read will be quarantined as soon as a server sees it."""
    trigger = schedule.definition.trigger
    if isinstance(trigger, Unreadable) and schedule.state is ScheduleState.ACTIVE:
        return HeldSchedule(schedule.id, ScheduleState.QUARANTINED, schedule.since_us, trigger.why)
    return HeldSchedule(schedule.id, schedule.state, schedule.since_us, schedule.reason)


def _rows(asked: int) -> int:
    return max(0, min(asked, MAX_ROWS))


def software() -> str:
    """This version of ScheduleZero."""
    from importlib.metadata import version

    return version("schedulezero")
