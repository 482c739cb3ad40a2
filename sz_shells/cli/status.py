"""`schedulezero status`: how a deployment stands, asked of its server, or read from its store where none runs."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sz_shells.cli.common import FAILED, OK, emit_json, iso, load_deployment, print_table, store_of
from sz_shells.cli.options import OutputOption, SetOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sz_protocol.messages import ExecutingRun, GetStatus, Status
    from sz_protocol.records import ScheduleState
    from sz_runtime.config import Config
    from sz_runtime.control import StoreView


def status(
    config: str | None = None,
    /,
    *,
    next_: Annotated[int, Parameter(name="--next", help="How many of the next fire times to show.")] = 10,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Show how a deployment stands: its components, its schedules by state, which of them do not fire and
    why, what fires next, what executes now.

    Without a running server the store alone is read, and the exit code is 1.

    Parameters
    ----------
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_protocol.messages import GetStatus, Status
    from sz_shells.cli.control import connected
    from sz_shells.links.unix_socket import ControlError

    loaded = load_deployment(config, settings)
    asked = GetStatus(next_fires=next_)
    try:
        with connected(loaded) as client:
            answer = client.ask(asked)
        if not isinstance(answer, Status):
            raise ControlError(getattr(answer, "message", "the server answered something else"))
    except ControlError as unreachable:
        return _without_server(loaded, asked, str(unreachable), output)
    if output == "json":
        emit_json(as_object(answer))
    else:
        _print_server(answer)
        _print_store(answer)
        for warning in answer.warnings:
            sys.stdout.write(f"warning: {warning}\n")
    return OK


def _without_server(config: "Config", asked: "GetStatus", why: str, output: str) -> int:
    view = _read_store(config, asked)
    if output == "json":
        shown = {} if view is None else _store_part(view)
        emit_json({"running": False, "reason": why, "deployment": config.deployment.name, **shown})
        return FAILED
    sys.stderr.write(f"{why}\n")
    if view is not None:
        _print_store(view)
    return FAILED


def _read_store(config: "Config", asked: "GetStatus") -> "StoreView | None":
    """What the store says by itself; None where there is nothing to read."""
    from pathlib import Path

    from sz_runtime.control import view_store
    from sz_runtime.ports import StoreError

    datastore = config.components.scheduler.datastore
    if datastore.type == "memory" or (datastore.type == "sqlite" and not Path(datastore.path).is_file()):
        return None
    try:
        return view_store(store_of(config).query, asked)
    except StoreError as broken:
        sys.stderr.write(f"{broken}\n")
        return None


def as_object(status: "Status") -> dict[str, Any]:
    """The whole status as plain data; instants as ISO 8601 in UTC."""
    return {
        "running": True,
        "deployment": status.deployment,
        "mode": status.mode,
        "version": status.software,
        "pid": status.pid,
        "started_at": iso(status.started_us),
        "term": status.term,
        "components": [
            {
                "name": c.name,
                "state": c.state.value,
                "since": iso(c.since_us) if c.since_us else None,
                "starts": c.lives,
                "reason": c.reason,
            }
            for c in status.components
        ],
        **_store_part(status),
        "warnings": list(status.warnings),
    }


def _store_part(view: "Status | StoreView") -> dict[str, Any]:
    return {
        "schedules": {state.value: count for state, count in view.schedules.items()},
        "schedules_partial": view.partial,
        "held": [
            {
                "schedule_id": h.schedule_id,
                "state": h.state.value,
                "since": iso(h.since_us) if h.since_us else None,
                "reason": h.reason,
            }
            for h in view.held
        ],
        "next_fires": [{"schedule_id": f.schedule_id, "due_at": iso(f.due_us)} for f in view.next_fires],
        "executing": [
            {
                "run_id": r.run_id,
                "schedule_id": r.schedule_id,
                "handler_id": r.handler_id,
                "method": r.method,
                "fire_time": iso(r.fire_us),
                "attempt": r.attempt,
                "started_at": iso(r.started_us),
                "worker": r.worker or None,
                "progress": r.note or None,
                "percent": r.percent,
            }
            for r in view.executing
        ],
    }


def _print_server(status: "Status") -> None:
    up = _ago(status.started_us)
    scheduler = "the scheduler does not run" if status.term is None else f"term {status.term}"
    head = f"{status.deployment}: mode {status.mode}, process {status.pid}, up {up}, {scheduler}"
    sys.stdout.write(f"{head} (schedulezero {status.software})\n")
    rows = [
        (c.name, c.state.value, _ago(c.since_us) if c.since_us else "", c.lives, c.reason) for c in status.components
    ]
    print_table("", ("component", "state", "since", "starts", "reason"), rows)


def _print_store(view: "Status | StoreView") -> None:
    sys.stdout.write(f"schedules: {_counts(view.schedules, view.partial)}\n")
    if view.held:
        _print_held(view)
    if view.next_fires:
        rows = [(iso(fire.due_us), _ahead(fire.due_us), fire.schedule_id) for fire in view.next_fires]
        print_table("", ("next fire (UTC)", "in", "schedule"), rows)
    if view.executing:
        columns = ("executing", "schedule", "method", "fire time (UTC)", "attempt", "says")
        runs = [
            (r.run_id, r.schedule_id, f"{r.handler_id}.{r.method}", iso(r.fire_us), r.attempt, _progress(r))
            for r in view.executing
        ]
        print_table("", columns, runs)


def _progress(run: "ExecutingRun") -> str:
    done = "" if run.percent is None else f"{run.percent}%"
    return " ".join(part for part in (run.worker and f"({run.worker})", done, run.note) if part)


def _print_held(view: "Status | StoreView") -> None:
    from sz_runtime.control import HELD

    rows = [(h.schedule_id, h.state.value, _ago(h.since_us) if h.since_us else "", h.reason) for h in view.held]
    print_table("", ("does not fire", "state", "since", "reason"), rows)
    more = sum(view.schedules.get(state, 0) for state in HELD) - len(view.held)
    if more > 0:
        sys.stdout.write(f"and {more} more that do not fire\n")


def _counts(schedules: "Mapping[ScheduleState, int]", partial: bool) -> str:
    said = ", ".join(f"{count} {state.value}" for state, count in schedules.items()) or "none"
    return f"{said}, and more that were not counted" if partial else said


def _ago(since_us: int) -> str:
    return _length(time.time_ns() // 1000 - since_us)


def _ahead(until_us: int) -> str:
    left_us = until_us - time.time_ns() // 1000
    return _length(left_us) if left_us > 0 else "now"


def _length(length_us: int) -> str:
    from sz_protocol.durations import format_duration
    from sz_protocol.kernel.now import SECOND_US

    return format_duration(max(0, length_us) // SECOND_US * SECOND_US)
