"""Commands to a running server, through the control link of its deployment: pause, resume, trigger, cancel, run-now,
reload.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from sz_shells.cli.common import FAILED, OK, USAGE, emit_json, fail, load_deployment, load_or_exit
from sz_shells.cli.options import OutputOption, SetOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sz_protocol.messages import Answer, Request
    from sz_runtime.config import Config
    from sz_shells.links.control_client import ControlClient

Missed = Literal["skip", "latest", "all"]
KeyOption = Annotated[
    str | None,
    Parameter(help="An idempotency key: the same key runs once only. Default: a new one."),
]


def pause(
    schedule: str,
    config: str | None = None,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why; it is shown wherever the schedule is.")] = "",
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Stop firing a schedule until it is resumed. Runs that are under way go on.

    Parameters
    ----------
    schedule
        The id of the schedule.
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_protocol.commands import Pause

    return _do(load_deployment(config, settings), Pause(schedule, reason), output, f"{schedule}: paused")


def resume(
    schedule: str,
    config: str | None = None,
    /,
    *,
    missed: Annotated[Missed, Parameter(help="What becomes of the instants that passed meanwhile.")] = "skip",
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Let a paused schedule fire again; one that has left its file since it was paused will be active when it returns.

    With --missed all, the newest `misfire.max` of what it missed are run, and it is said how many that leaves out.

    Parameters
    ----------
    schedule
        The id of the schedule.
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_protocol.commands import Resume
    from sz_protocol.definition import MisfirePolicy

    request = Resume(schedule, MisfirePolicy(missed))
    return _do(load_deployment(config, settings), request, output, f"{schedule}: resumed", "; ", "left_out")


def trigger(
    schedule: str,
    config: str | None = None,
    /,
    *,
    key: KeyOption = None,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Run a schedule's method once, now, beside its plan. Prints the id of the run.

    Parameters
    ----------
    schedule
        The id of the schedule.
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_protocol.commands import Trigger

    return _do(load_deployment(config, settings), Trigger(schedule, key or _new_key()), output, f"{schedule}: run", " ")


def run_now(
    handler: str,
    method: str,
    config: str | None = None,
    /,
    *,
    params: Annotated[str, Parameter(help="The parameters of the call, as a JSON object.")] = "{}",
    key: KeyOption = None,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Run a method of a handler once, now, without a schedule. Prints the id of the run.

    Parameters
    ----------
    handler
        The id of the handler.
    method
        Its method.
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_protocol.commands import RunNow

    request = RunNow(handler, method, key or _new_key(), _parameters(params))
    return _do(load_deployment(config, settings), request, output, f"{handler}.{method}: run", " ")


def cancel(
    run: str, config: str | None = None, /, *, settings: SetOption = None, output: OutputOption = "table"
) -> int:
    """Stop a run that is waiting or executing.

    Parameters
    ----------
    run
        The id of the run, as `status` and `runs -o json` show it.
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_protocol.commands import Cancel

    return _do(load_deployment(config, settings), Cancel(run), output, f"run {run}: asked to stop")


def reload(config: str | None = None, /, *, settings: SetOption = None, output: OutputOption = "table") -> int:
    """Let the server read its configuration again. Schedules change at once and keep their place; what needs a restart
    is said. A configuration with errors is refused, and the server goes on with what it has.

    Parameters
    ----------
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_protocol.messages import Reload

    return _do(load_or_exit(config, settings), Reload(), output, "nothing has changed")


@contextmanager
def connected(config: "Config") -> "Iterator[ControlClient]":
    """A connection to the server of a deployment. Raises ControlError."""
    from sz_runtime.control import control_path, store_name
    from sz_shells.links.control_client import ControlClient, Expected
    from sz_shells.links.unix_socket import ControlError

    path = control_path(config)
    if path is None:
        raise ControlError("this deployment has neither a database file nor a configuration file, so no control link")
    expected = Expected(config.deployment.name, store_name(config))
    with ControlClient(Path(path), expected) as client:
        yield client


def _do(
    config: "Config", request: "Request", output: str, done: str, before: str = "", detail_is: str = "run_id"
) -> int:
    """Ask, print the answer, and say how it went by the exit code. What the answer says beside that it is `done` is
    called `detail_is` in JSON, and follows `before` in text, if that is given."""
    from sz_shells.links.unix_socket import ControlError

    try:
        with connected(config) as client:
            answer = client.ask(request)
    except ControlError as error:
        fail(str(error))
    return _print(answer, output, done, before, detail_is)


def _print(answer: "Answer", output: str, done: str, before: str, detail_is: str) -> int:
    from sz_protocol.commands import Done, Refusal, RefusalCode
    from sz_protocol.messages import Reloaded

    match answer:
        case Refusal(code=code, message=message):
            if output == "json":
                emit_json({"ok": False, "code": code.value, "message": message})
            else:
                sys.stderr.write(f"{message}\n")
            return USAGE if code is RefusalCode.INVALID else FAILED
        case Reloaded(lines=lines):
            if output == "json":
                emit_json({"ok": True, "changes": list(lines)})
            else:
                sys.stdout.write("".join(f"{line}\n" for line in lines or (done,)))
        case Done(detail=detail):
            if output == "json":
                emit_json({"ok": True, **({detail_is: detail} if detail else {})})
            else:
                sys.stdout.write(f"{done}{before}{detail}\n" if before and detail else f"{done}\n")
        case _:
            fail(f"the server answered something else: {type(answer).__name__}")
    return OK


def _new_key() -> str:
    from uuid import uuid4

    return uuid4().hex


def _parameters(text: str) -> dict[str, Any]:
    try:
        params = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        fail(f"--params: is no JSON: {error}", USAGE)
    if not isinstance(params, dict):
        fail('--params: has to be a JSON object, as in \'{"customer": "acme"}\'', USAGE)
    return params


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
