"""The whole wire contract on one page: every message that leaves a process, by link, and the name it has there.

A message is a frozen record; its annotations are its schema. How it becomes bytes stands in `codec`, and as a table
with test vectors in specs/wire.md. The rule for changing anything here: a field may be added when it has a default,
since readers ignore fields that they do not know and take the default where one is missing; nothing is renamed, retyped
or taken away without a new WIRE_VERSION. Instants are microseconds since 1970, UTC.
"""

from collections.abc import Mapping

from attrs import Factory, frozen

from sz_protocol.commands import Applied, Apply, Cancel, Command, Done, Pause, Refusal, Resume, RunNow, Trigger
from sz_protocol.components import ComponentState
from sz_protocol.records import ScheduleState

WIRE_VERSION = 1

# --- the local control link: a person's commands to the node on this machine -------------------------------------


@frozen
class ControlHello:
    """The server's first frame. `deployment` and `store` (its address, without secrets) let a client refuse to talk to
    another deployment's server."""

    software: str
    deployment: str
    store: str
    pid: int


@frozen
class Reload:
    """Read the configuration again and apply it. Answer: Reloaded | Refusal."""


@frozen
class GetStatus:
    """How does this node stand? Answer: Status | Refusal."""

    next_fires: int = 10
    executing: int = 100


@frozen
class Reloaded:
    """What the new configuration changed, and what needs a restart, in lines for a person."""

    lines: tuple[str, ...]


@frozen
class ComponentStatus:
    """One component. `since_us` is when its state began, `lives` how often it was started."""

    name: str
    state: ComponentState
    since_us: int
    lives: int
    reason: str = ""


@frozen
class NextFire:
    """When a schedule will be due, its spread included."""

    schedule_id: str
    due_us: int


@frozen
class ExecutingRun:
    """A run that is (or may be) executing. `started_us` None: it was handed over and has not reported."""

    run_id: str
    schedule_id: str
    handler_id: str
    method: str
    fire_us: int
    attempt: int
    started_us: int | None = None


@frozen
class Status:
    """`term` is None while the scheduler does not run, and the rest is empty then. `schedules` counts them by state;
    `partial` says that there are more than were counted."""

    deployment: str
    mode: str
    software: str
    pid: int
    started_us: int
    components: tuple[ComponentStatus, ...]
    term: int | None = None
    schedules: Mapping[ScheduleState, int] = Factory(dict)
    partial: bool = False
    next_fires: tuple[NextFire, ...] = ()
    executing: tuple[ExecutingRun, ...] = ()
    warnings: tuple[str, ...] = ()


Request = Command | Reload | GetStatus
Answer = Applied | Done | Refusal | Reloaded | Status


@frozen
class Ask:
    """The client's frame. Exactly one Told with the same number follows."""

    request_id: int
    request: Request


@frozen
class Told:
    """The server's answer."""

    request_id: int
    answer: Answer


# --- names on the wire -------------------------------------------------------------------------------------------

TO_CONTROL_SERVER: tuple[type, ...] = (Ask,)
TO_CONTROL_CLIENT: tuple[type, ...] = (ControlHello, Told)

TAGS: Mapping[type, str] = {
    ControlHello: "control_hello",
    Ask: "ask",
    Told: "told",
    Apply: "apply",
    Pause: "pause",
    Resume: "resume",
    Trigger: "trigger",
    RunNow: "run_now",
    Cancel: "cancel",
    Reload: "reload",
    GetStatus: "get_status",
    Applied: "applied",
    Done: "done",
    Refusal: "refusal",
    Reloaded: "reloaded",
    Status: "status",
}
"""What a record is called where the wire says which one it is: in the envelope, and in a field that takes several."""
