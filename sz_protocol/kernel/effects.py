"""Orders: what the core wants done. Imperatives, plain values, compared with `==` in tests."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sz_protocol.changes import Change
from sz_protocol.kernel.record import record
from sz_protocol.notices import Notice
from sz_protocol.queries import Query
from sz_protocol.records import RunKind


@record
class Write:
    """Apply all `changes` in one transaction, or none, and answer WriteDone(op) or WriteFailed(op, ...).

    `fence` is the term under which this was decided: a store refuses a write whose term is not the current one.
    Writes of one `stream` stay in order, and after a failure every later one with the same or a smaller positive
    stream number fails too (PREVIOUS): nothing decided on top of what did not happen may happen. Stream 0 makes no
    such promise: its writes stand alone.
    """

    op: int
    changes: tuple[Change, ...]
    fence: int
    stream: int = 0


@record
class Read:
    """Answer ReadDone(op, rows) or ReadFailed(op, reason). A read sees every write that was submitted before it."""

    op: int
    query: Query


@record
class StartRun:
    """One execution to begin. `deadline_us` is on the monotonic clock (None: no time-out)."""

    row: int
    run_id: str
    schedule_id: str
    kind: RunKind
    handler_id: str
    method: str
    params: Mapping[str, Any]
    fire_us: int
    attempt: int
    fence: int
    deadline_us: int | None
    labels: Mapping[str, str]
    at_most_once: bool = False
    exclusive: bool = False


@record
class StartRuns:
    """Begin these executions. Each ends in exactly one RunResult. `worker` names the remote handler that they are
    claimed for; such an order does not leave the node: membership carries it out."""

    runs: tuple[StartRun, ...]
    worker: str = ""


class CancelReason(StrEnum):
    """Why an execution is asked to stop. CUT_OFF: an exclusive run whose server may believe it lost soon (ATT-7)."""

    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    REQUESTED = "requested"
    SUPERSEDED = "superseded"
    SHUTDOWN = "shutdown"
    CUT_OFF = "cut_off"


@record
class CancelRun:
    """Ask one execution to stop. It still answers with its RunResult, if ever it stops."""

    row: int
    attempt: int
    reason: CancelReason
    worker: str = ""


@record
class Send:
    """Hand a message to the link. `to` is the peer's address as `Received` gave it (empty: the one server that this
    side is connected to). It may be lost; nothing answers."""

    to: bytes
    message: Any


@record
class Reply:
    """The answer to the command with this `request_id`; each command gets exactly one."""

    request_id: int
    answer: Any


@record
class Publish:
    """Tell whoever listens: logs, metrics, the other machines of this node."""

    notice: Notice


@record
class Stop:
    """The node has drained: nothing more will be ordered."""


Effect = Write | Read | StartRuns | CancelRun | Send | Reply | Publish | Stop
