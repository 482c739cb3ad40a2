"""What attachment, the handler's side of a remote handler, is told and what it orders; and the numbers it runs with."""

from collections.abc import Iterable, Mapping

from attrs import Factory

from sz_protocol.kernel.effects import CancelRun, Publish, Send, StartRuns, Stop
from sz_protocol.kernel.events import (
    Garbled,
    HandlersChanged,
    LinkChanged,
    MethodInfo,
    Received,
    RunsFinished,
    RunsProgressed,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.now import MINUTE_US, SECOND_US
from sz_protocol.kernel.record import record
from sz_protocol.messages import RunReport

Key = tuple[int, int]
"""(row, attempt): which execution of which run."""


@record
class Identity:
    """Who this handler is to its server. `incarnation` is random per start of the process, `slots` is how many runs it
    executes at once; `durable` says whether its outbox survives the process."""

    handler_id: str
    incarnation: int
    slots: int = 16
    tags: Mapping[str, str] = Factory(dict)
    software: str = ""
    durable: bool = True


@record
class AttachmentSettings:
    """Limits and durations of a handler's side; heartbeat and lease come from the server.

    A Hello is answered within `answer_us`, else it is said again; before each but the first there is a wait with full
    jitter, up to `pause_us`, doubling to `pause_max_us`. A server that rejects one can ask for `retry_max_us` at most.
    An Accept waits for others for `accept_us`, and is left out where the result of its run goes first.
    An exclusive run stops when 1/`margin_share` of the lease is left. Results: at most `message_bytes` in one message,
    `window` of them and `window_bytes` on their way at once, again after `resend_us` without an answer; while `backlog`
    of them wait, nothing new is taken. What the outbox could not keep is tried again after `keep_retry_us`, doubling to
    `keep_retry_max_us`. Executions that are cancelled at the end of a drain, and answers that are still to come, get
    `leave_us`.
    """

    answer_us: int = 2 * SECOND_US
    pause_us: int = SECOND_US // 2
    pause_max_us: int = 30 * SECOND_US
    retry_max_us: int = 5 * MINUTE_US
    accept_us: int = SECOND_US // 50
    margin_share: int = 4
    message_bytes: int = 1 << 20
    window: int = 1024
    window_bytes: int = 4 << 20
    resend_us: int = 5 * SECOND_US
    backlog: int = 10_000
    keep_retry_us: int = SECOND_US // 2
    keep_retry_max_us: int = 10 * SECOND_US
    leave_us: int = 5 * SECOND_US


def offer_of(methods: Iterable[MethodInfo], handler_id: str) -> tuple[dict[str, MethodInfo], tuple[str, ...]]:
    """What a handler offers its server, by method, and the methods that two local handlers have.

    What is registered under `handler_id` itself is offered, and nothing else; where nothing is, everything is, so that
    one module can serve many handlers. Of two that share a method's name the first, by its id, is offered.
    """
    ordered = sorted(methods, key=lambda info: (info.handler_id, info.method))
    own = [info for info in ordered if info.handler_id == handler_id]
    offer: dict[str, MethodInfo] = {}
    twice: dict[str, None] = {}
    for info in own or ordered:
        if offer.setdefault(info.method, info) is not info:
            twice[info.method] = None
    return offer, tuple(twice)


# --- facts -----------------------------------------------------------------------------------------------------


@record
class WorkerStarted:
    """This life begins. `kept` are the results that earlier lives could not report, oldest first."""

    kept: tuple[RunReport, ...] = ()


@record
class Kept:
    """The outbox holds the reports of this operation, as safely as it can."""

    op: int


@record
class KeepFailed:
    """The outbox could not keep the reports of this operation."""

    op: int
    detail: str


KeepAnswer = Kept | KeepFailed

Event = (
    WorkerStarted
    | Woke
    | LinkChanged
    | Received
    | Garbled
    | HandlersChanged
    | RunsFinished
    | RunsProgressed
    | Kept
    | KeepFailed
    | StopRequested
)


# --- orders ----------------------------------------------------------------------------------------------------


@record
class Keep:
    """Keep these reports, together, and answer Kept(op) or KeepFailed(op). One that is there already is replaced."""

    op: int
    reports: tuple[RunReport, ...]


@record
class Forget:
    """These reports need not be kept any more. Not answered."""

    keys: tuple[Key, ...]


Effect = Send | StartRuns | CancelRun | Keep | Forget | Publish | Stop
