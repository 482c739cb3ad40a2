"""`schedulezero handlers`: the remote handlers that are registered with a running server."""

import sys
from typing import TYPE_CHECKING, Any

from sz_shells.cli.common import FAILED, OK, emit_json, fail, iso, load_deployment, print_table
from sz_shells.cli.options import OutputOption, SetOption

if TYPE_CHECKING:
    from sz_protocol.commands import HandlerStatus

SHOWN_METHODS = 8


def handlers(
    config: str | None = None,
    /,
    *,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Show the remote handlers: their methods, load, last sign of life, and the key that they proved.

    Parameters
    ----------
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_protocol.commands import HandlersListed, ListHandlers, Refusal
    from sz_shells.cli.control import connected
    from sz_shells.links.unix_socket import ControlError

    loaded = load_deployment(config, settings)
    try:
        with connected(loaded) as client:
            answer = client.ask(ListHandlers())
    except ControlError as error:
        fail(str(error))
    if isinstance(answer, Refusal):
        sys.stderr.write(f"{answer.message}\n")
        return FAILED
    if not isinstance(answer, HandlersListed):
        fail(f"the server answered something else: {type(answer).__name__}")
    if output == "json":
        emit_json([as_object(handler) for handler in answer.handlers])
    elif answer.handlers:
        _print(answer.handlers)
    else:
        sys.stdout.write(_nobody(loaded.is_on("registration_server")))
    return OK


def as_object(handler: "HandlerStatus") -> dict[str, Any]:
    """One handler as plain data; instants as ISO 8601 in UTC."""
    return {
        "handler_id": handler.handler_id,
        "state": handler.state.value,
        "since": iso(handler.since_us),
        "silent_seconds": handler.silent_us / 1e6,
        "methods": list(handler.methods),
        "tags": dict(handler.tags),
        "slots": handler.slots,
        "executing": handler.executing,
        "key": handler.key or None,
        "version": handler.software or None,
    }


def _print(found: "tuple[HandlerStatus, ...]") -> None:
    from sz_protocol.durations import format_duration

    rows = []
    for handler in found:
        methods = ", ".join(handler.methods[:SHOWN_METHODS])
        more = len(handler.methods) - SHOWN_METHODS
        tags = ", ".join(f"{name}={text}" for name, text in sorted(handler.tags.items()))
        heard = format_duration(handler.silent_us // 100_000 * 100_000)
        rows.append(
            (
                handler.handler_id,
                handler.state.value,
                iso(handler.since_us),
                f"{heard} ago",
                f"{handler.executing}/{handler.slots}",
                f"{methods} and {more} more" if more > 0 else methods,
                tags,
                f"{handler.key[:8]}..." if handler.key else "",
            )
        )
    columns = ("handler", "state", "since (UTC)", "last heard", "load", "methods", "tags", "key")
    print_table("", columns, rows)


def _nobody(listens: bool) -> str:
    if listens:
        return "no remote handler is registered; start one with: schedulezero worker --server ... --handler-id ...\n"
    return (
        "no remote handler is registered, and by this configuration none can: it has no registration server; set\n"
        "components.handlers.remote.enabled: true\n"
    )
