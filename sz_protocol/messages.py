"""The whole wire contract on one page: every message that leaves a process, by link, and the name it has there.

A message is a frozen record; its annotations are its schema. How it becomes bytes stands in `codec`, and as a table
with test vectors in specs/wire.md. The rule for changing anything here: a field may be added when it has a default,
since readers ignore fields that they do not know and take the default where one is missing; nothing is renamed, retyped
or taken away without a new WIRE_VERSION. Instants are microseconds since 1970, UTC.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, get_args

from attrs import Factory

from sz_protocol.commands import (
    Applied,
    Apply,
    Cancel,
    Command,
    Done,
    HandlersListed,
    ListHandlers,
    Pause,
    Refusal,
    Resume,
    RunNow,
    Trigger,
)
from sz_protocol.components import ComponentState
from sz_protocol.kernel.effects import CancelReason
from sz_protocol.kernel.record import record
from sz_protocol.records import Outcome, RunKind, ScheduleState

WIRE_VERSION = 1

# --- the local control link: a person's commands to the node on this machine -------------------------------------


@record
class ControlHello:
    """The server's first frame. `deployment` and `store` (its address, without secrets) let a client refuse to talk to
    another deployment's server."""

    software: str
    deployment: str
    store: str
    pid: int


@record
class Reload:
    """Read the configuration again and apply it. Answer: Reloaded | Refusal."""


@record
class GetStatus:
    """How does this node stand? Answer: Status | Refusal."""

    next_fires: int = 10
    executing: int = 100
    held: int = 20


@record
class Reloaded:
    """What the new configuration changed, and what needs a restart, in lines for a person."""

    lines: tuple[str, ...]


@record
class ComponentStatus:
    """One component. `since_us` is when its state began, `lives` how often it was started."""

    name: str
    state: ComponentState
    since_us: int
    lives: int
    reason: str = ""


@record
class NextFire:
    """When a schedule will be due, its spread included."""

    schedule_id: str
    due_us: int


@record
class HeldSchedule:
    """A schedule that does not fire: paused, parked or quarantined, since when and why."""

    schedule_id: str
    state: ScheduleState
    since_us: int
    reason: str = ""


@record
class ExecutingRun:
    """A run that is (or may be) executing. `started_us` None: it was handed over and has not reported. `worker` is the
    remote handler that it was handed to ("": the server executes it), `note` and `percent` how far it says it is."""

    run_id: str
    schedule_id: str
    handler_id: str
    method: str
    fire_us: int
    attempt: int
    started_us: int | None = None
    worker: str = ""
    note: str = ""
    percent: int | None = None


@record
class Status:
    """`term` is None while the scheduler does not run, and the rest is empty then. `schedules` counts them by state;
    `partial` says that there are more than were counted. `held` are some of those that do not fire, the quarantined
    first."""

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
    held: tuple[HeldSchedule, ...] = ()


Request = Command | Reload | GetStatus
Answer = Applied | Done | HandlersListed | Refusal | Reloaded | Status


@record
class Ask:
    """The client's frame. Exactly one Told with the same number follows."""

    request_id: int
    request: Request


@record
class Told:
    """The server's answer."""

    request_id: int
    answer: Answer


# --- the handler link: a server and the handlers that registered with it (specs/remote.md) -----------------------
#
# A run on its way is named by (row, attempt), and `fence` is the token of that attempt. `delivery` names one hand-over:
# it grows from each to the next, also from one life of the server to the next.
# Every message but the first two carries the session that the server gave to this life of the handler.

HANDLER_PROTO = 1
"""The version of what follows; a Hello offers a range of them, and the server chooses."""


@record
class OfferedMethod:
    """A method, and how many runs of it execute at once there (None: the slots bound it)."""

    method: str
    concurrency: int | None = None


@record
class HeldRun:
    """A run that a handler has: it executes it, or keeps its result. `delivery` is the highest that it has seen.
    Numbers begin anew with a new ledger, so the `run_id` has to be the same too ("": the handler does not say)."""

    row: int
    attempt: int
    delivery: int
    fence: int
    run_id: str = ""


@record
class Hello:
    """handler -> server: register. `incarnation` is random per start, `nonce` per Hello. `executing` are the runs under
    way, `unacked` those whose results wait to be acknowledged, results of earlier incarnations too."""

    handler_id: str
    incarnation: int
    nonce: int
    proto_min: int
    proto_max: int
    methods: tuple[OfferedMethod, ...]
    slots: int
    tags: Mapping[str, str] = Factory(dict)
    executing: tuple[HeldRun, ...] = ()
    unacked: tuple[HeldRun, ...] = ()
    software: str = ""


@record
class Welcome:
    """server -> handler: registered. `nonce` is that of the Hello."""

    nonce: int
    session: int
    proto: int
    heartbeat_us: int
    lease_us: int
    term: int


class RejectCode(StrEnum):
    """Why a Hello, or a message of a session, is turned away."""

    VERSION = "version"
    NOT_ALLOWED = "not_allowed"
    DUPLICATE = "duplicate"
    FULL = "full"
    STARTING = "starting"
    STOPPING = "stopping"
    UNKNOWN_SESSION = "unknown_session"
    INVALID = "invalid"


@record
class Reject:
    """server -> handler: no. `nonce` is that of the Hello (0: it was another message), `session` that of the message.
    Say Hello again, not before `retry_us`."""

    code: RejectCode
    message: str
    retry_us: int
    nonce: int = 0
    session: int = 0


@record
class Beat:
    """handler -> server: I live. `number` grows by one; the server echoes it. `granted` is how many runs the server may
    have sent in this session so far, counted from its start: it never shrinks."""

    session: int
    number: int
    granted: int


@record
class Echo:
    """server -> handler: I live, and have heard your beat `number`: your leases run from when you sent it."""

    session: int
    number: int
    term: int


@record
class DispatchedRun:
    """A run to be executed. `timeout_us` is what is left for this attempt (None: no limit)."""

    row: int
    attempt: int
    delivery: int
    fence: int
    run_id: str
    schedule_id: str
    method: str
    fire_us: int
    kind: RunKind = RunKind.SCHEDULED
    params: Mapping[str, Any] = Factory(dict)
    timeout_us: int | None = None
    at_most_once: bool = False
    exclusive: bool = False
    labels: Mapping[str, str] = Factory(dict)


@record
class Dispatch:
    """server -> handler: execute these. `beat` is the last beat that the server has heard: the lease of these runs runs
    from when the handler sent it, and if it is over they are refused as stale."""

    session: int
    beat: int
    runs: tuple[DispatchedRun, ...]


@record
class RunRef:
    """Which hand-over of which attempt."""

    row: int
    attempt: int
    delivery: int


@record
class Accept:
    """handler -> server: these are mine now, executing or about to."""

    session: int
    runs: tuple[RunRef, ...]


class RefuseCode(StrEnum):
    """Why a handler does not take a run."""

    BUSY = "busy"
    UNKNOWN_METHOD = "unknown_method"
    STALE = "stale"
    DRAINING = "draining"


@record
class Refuse:
    """handler -> server: this run was not begun and will not be."""

    session: int
    run: RunRef
    code: RefuseCode


@record
class Progress:
    """handler -> server: how far an execution is, in the handler's own words; `percent` if it knows."""

    session: int
    run: RunRef
    note: str
    percent: int | None = None


@record
class RunReport:
    """How one execution ended, as in RunResult. `incarnation` is the life of the handler that executed it; `run_id` as
    in HeldRun."""

    row: int
    attempt: int
    delivery: int
    fence: int
    incarnation: int
    outcome: Outcome
    reason: str
    started_us: int | None
    finished_us: int
    result: str | None = None
    error: str | None = None
    retryable: bool = True
    run_id: str = ""


@record
class Results:
    """handler -> server: what executions came to; sent again until each is acknowledged."""

    session: int
    granted: int
    results: tuple[RunReport, ...]


class AckCode(StrEnum):
    """OK: durable. DUPLICATE: it was, before. STALE: another attempt counts, or none: forget it."""

    OK = "ok"
    DUPLICATE = "duplicate"
    STALE = "stale"


@record
class Ack:
    """What became of the result of one attempt."""

    row: int
    attempt: int
    code: AckCode


@record
class ResultAck:
    """server -> handler: these results need not be kept any more."""

    session: int
    acks: tuple[Ack, ...]


@record
class Stop:
    """server -> handler: stop this run. Its result follows, cancelled unless it ended first."""

    session: int
    row: int
    attempt: int
    reason: CancelReason


@record
class Drain:
    """handler -> server: send me nothing new; I finish what I have."""

    session: int


@record
class Bye:
    """handler -> server: I am gone, and execute nothing; results that I still have come with my next life."""

    session: int


ToServer = Hello | Beat | Accept | Refuse | Progress | Results | Drain | Bye
ToHandler = Welcome | Reject | Echo | Dispatch | ResultAck | Stop

# --- names on the wire -------------------------------------------------------------------------------------------

TO_CONTROL_SERVER: tuple[type, ...] = (Ask,)
TO_CONTROL_CLIENT: tuple[type, ...] = (ControlHello, Told)

TO_HANDLER_SERVER: tuple[type, ...] = get_args(ToServer)
TO_HANDLER: tuple[type, ...] = get_args(ToHandler)

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
    ListHandlers: "list_handlers",
    HandlersListed: "handlers_listed",
    Hello: "hello",
    Welcome: "welcome",
    Reject: "reject",
    Beat: "beat",
    Echo: "echo",
    Dispatch: "dispatch",
    Accept: "accept",
    Refuse: "refuse",
    Progress: "progress",
    Results: "results",
    ResultAck: "result_ack",
    Stop: "stop",
    Drain: "drain",
    Bye: "bye",
}
"""What a record is called where the wire says which one it is: in the envelope, and in a field that takes several."""
