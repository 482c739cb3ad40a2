"""What a trace is made of: plain records of what happened in a simulated world, seen from outside the nodes.

Every record begins with the true time (`at_us`) and the name of the node or store that it concerns. Checkers and the
report read these records and nothing else.
"""

from sz_runtime.simulation.fact import fact


@fact
class Noted:
    """Base of all records."""

    at_us: int
    node: str


# --- the run itself ------------------------------------------------------------------------------------------


@fact
class Phase(Noted):
    """`name`: faults (they may strike), calm (none are planned), healed (none may strike any more), end."""

    name: str


@fact
class Fault(Noted):
    """Something was done to the node or its surroundings; `what` is the line of a scenario that does it."""

    what: str


# --- lives of nodes ------------------------------------------------------------------------------------------


@fact
class NodeStarted(Noted):
    """A node began a life with this term. `utc_us` is what its wall clock said, `wall_high_us` what the store
    remembered."""

    incarnation: int
    term: int
    utc_us: int
    wall_high_us: int


@fact
class StartFailed(Noted):
    """The store could not be opened; the node tries again later."""

    incarnation: int
    why: str


@fact
class NodeCrashed(Noted):
    """The process vanished at `point` (any: between two events)."""

    incarnation: int
    point: str


@fact
class NodeStopped(Noted):
    """The node ended by its own will: it had drained, or another node had taken its store."""

    incarnation: int
    why: str


@fact
class NodeRaised(Noted):
    """A machine raised: always a violation."""

    event: str
    error: str


@fact
class Stalled(Noted):
    """The node did nothing until `until_us`; `kind`: pause (the process), stall (the protocol loop alone, between a
    check and its effect), suspend (the machine)."""

    kind: str
    until_us: int


@fact
class ClockChanged(Noted):
    """The wall clock moved by `step_us` against true time, or the rate or the trust in it changed. `error_us` is
    what it is wrong by from now on."""

    step_us: int
    drift_ppm: int
    trusted: bool
    error_us: int


@fact
class BacklogEnded(Noted):
    """A streak of `wakes` calls in a row, each of which was promised to shrink a backlog, has come to its end;
    `endless`: it was ended by us."""

    wakes: int
    endless: bool


@fact
class WakeupStale(Noted):
    """The node asked to be woken at a time that had passed, and not for a backlog."""

    reason: str
    late_us: int


@fact
class Spun(Noted):
    """The node asked to be woken again and again, at once, and had nothing to do each time."""

    wakes: int


@fact
class Weighed(Noted):
    """`objects`: how many containers' entries the node held when it was quiet; `unfinished` how many rows of its
    store were not done then."""

    objects: int
    unfinished: int


@fact
class Asked(Noted):
    """A person asked for something."""

    request_id: int
    command: str
    schedule_id: str


@fact
class Answered(Noted):
    """The reply to a command, `answer` being its kind."""

    request_id: int
    answer: str
    detail: str


@fact
class Told(Noted):
    """The node published a notice."""

    notice: str
    about: str
    detail: str


# --- stores --------------------------------------------------------------------------------------------------


@fact
class TermTaken(Noted):
    """`node` (a store) gave this term to a node's life."""

    holder: str
    term: int


@fact
class Committed(Noted):
    """A transaction of `writer` became durable in the store `node`. `current` is the term that the store had given
    last when it was applied."""

    writer: str
    op: int
    term: int
    current: int


@fact
class RunWritten(Noted):
    """A row of the ledger became durable, inserted or updated, as part of the writer's operation `op`.
    `expected_attempt`: for updates, the attempt that the row had before."""

    writer: str
    op: int
    inserted: bool
    row: int
    run_key: str
    schedule_id: str
    kind: str
    fire_us: int
    state: str
    outcome: str
    reason: str
    attempt: int
    failures: int
    losses: int
    fence: int
    count: int
    until_us: int
    covers: tuple[int, ...]
    not_before_us: int
    decided_us: int
    before_state: str
    before_attempt: int
    worker: str
    """The remote handler that the current attempt is claimed for."""


@fact
class AttemptWritten(Noted):
    """The history of an attempt became durable, as part of the writer's operation `op`: another one may follow."""

    writer: str
    op: int
    row: int
    attempt: int
    outcome: str
    reason: str


@fact
class CursorMoved(Noted):
    """A cursor became durable at `cursor_us`; `from_us` is where it stood in the store."""

    writer: str
    op: int
    schedule_id: str
    from_us: int
    cursor_us: int
    next_due_us: int | None


@fact
class SchedulePut(Noted):
    """A schedule was inserted or replaced. `digest` names its definition."""

    writer: str
    op: int
    schedule_id: str
    digest: str
    rev: int
    state: str
    reason: str
    cursor_us: int
    from_us: int | None
    created_us: int
    catch_up: str
    catch_up_until_us: int


@fact
class RowsDropped(Noted):
    """Retention deleted these rows."""

    writer: str
    rows: tuple[int, ...]


@fact
class TransactionLost(Noted):
    """A transaction that had been applied did not survive the crash; `torn`: half of it was found and thrown away."""

    writer: str
    op: int
    torn: bool


@fact
class Failed(Noted):
    """The store `node` answered an operation with a failure."""

    writer: str
    op: int
    reason: str
    committed: bool


@fact
class Rewound(Noted):
    """The store was replaced by the copy that had been made at `to_us`; what it holds now follows."""

    to_us: int


# --- executions, as the handlers wrote them down -------------------------------------------------------------


@fact
class ExecutionStarted(Noted):
    """A handler began. `utc_us` is the wall clock of its machine."""

    incarnation: int
    row: int
    attempt: int
    schedule_id: str
    kind: str
    fire_us: int
    fence: int
    utc_us: int
    pool: str


@fact
class ExecutionEnded(Noted):
    """A handler ended; `how` is its outcome, or `killed` when its process vanished."""

    incarnation: int
    row: int
    attempt: int
    schedule_id: str
    how: str
    reason: str
    pool: str


@fact
class CancelAsked(Noted):
    """An execution was asked to stop."""

    row: int
    attempt: int
    reason: str


# --- the network ---------------------------------------------------------------------------------------------


@fact
class MessageSent(Noted):
    """`copies` is how many of it the network will deliver: 0 lost, 2 duplicated."""

    to: str
    number: int
    size: int
    copies: int


@fact
class MessageDelivered(Noted):
    """A copy arrived at `node`."""

    sender: str
    number: int


# --- the end -------------------------------------------------------------------------------------------------


@fact
class RunKept(Noted):
    """A row of the ledger as the store `node` holds it at the end, or after it was restored from a copy."""

    row: int
    run_key: str
    schedule_id: str
    kind: str
    fire_us: int
    state: str
    outcome: str
    reason: str
    attempt: int
    failures: int
    losses: int
    count: int
    until_us: int
    covers: tuple[int, ...]
    not_before_us: int


@fact
class ScheduleKept(Noted):
    """A schedule as the store `node` holds it at the end, or after it was restored from a copy."""

    schedule_id: str
    digest: str
    state: str
    cursor_us: int
    next_due_us: int | None
