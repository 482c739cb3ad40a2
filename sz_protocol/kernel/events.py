"""Facts: what happened. Past participles, plain values."""

from enum import StrEnum
from typing import Any

from sz_protocol.commands import Command
from sz_protocol.kernel.effects import CancelReason, StartRun
from sz_protocol.kernel.record import record
from sz_protocol.policy import Verdict
from sz_protocol.records import Outcome, Run, Schedule, ScheduleState


@record
class Started:
    """The node begins a life. `term` is greater than that of every earlier life on the same store and fences its
    writes. `high_water_us` is the latest wall time that the store has seen (0: a new store)."""

    term: int
    high_water_us: int = 0


@record
class Woke:
    """The time that `next_wakeup` asked for has come (or nearly: the driver also wakes to look at the clocks)."""


@record
class WriteDone:
    """The transaction of this operation is durable."""

    op: int


class FailReason(StrEnum):
    """REFUSED: a compare-and-set or a unique key said no. PREVIOUS: an earlier write of the stream failed.
    UNAVAILABLE: nothing was written, try again later. UNKNOWN: it may or may not be durable. FENCED: the term is
    over. INVALID: the store cannot hold this data."""

    REFUSED = "refused"
    PREVIOUS = "previous"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    FENCED = "fenced"
    INVALID = "invalid"


@record
class WriteFailed:
    """Nothing of this operation is durable (UNKNOWN: perhaps all of it). `refused` names schedule ids (str) or run
    rows (int) that caused REFUSED or INVALID."""

    op: int
    reason: FailReason
    refused: tuple[str | int, ...] = ()
    detail: str = ""


@record
class ReadDone:
    """The rows that a query asked for."""

    op: int
    rows: tuple[Any, ...]


@record
class ReadFailed:
    """A query could not be answered now."""

    op: int
    reason: FailReason
    detail: str = ""


@record
class RunResult:
    """How one execution ended. `outcome` is SUCCEEDED, FAILED or CANCELLED; `retryable` is False where another
    attempt cannot help (unknown method, invalid parameters, a result that cannot be stored). `started_us` (None: the
    handler was never called) and `finished_us` are UTC; `result` is JSON text."""

    row: int
    attempt: int
    outcome: Outcome
    reason: str
    started_us: int | None
    finished_us: int
    result: str | None = None
    error: str | None = None
    retryable: bool = True


@record
class RunsFinished:
    """Executions that ended, in any order."""

    results: tuple[RunResult, ...]


@record
class RunProgress:
    """How far an execution is, in its handler's own words; `percent` if it knows."""

    row: int
    attempt: int
    note: str
    percent: int | None = None


@record
class RunsProgressed:
    """The latest progress of executions that go on. Each is told now and then, never for every call."""

    progress: tuple[RunProgress, ...]


@record
class MethodInfo:
    """One method that this node can execute, or have executed. `pool` names the slots it shares with others;
    `concurrency` bounds how many runs of this one method execute at once (None: only the pool does). `worker` is the
    remote handler that has it ("": this process), `tags` are that handler's, sorted."""

    handler_id: str
    method: str
    pool: str
    concurrency: int | None = None
    worker: str = ""
    tags: tuple[tuple[str, str], ...] = ()


@record
class HandlersChanged:
    """The whole of what can be executed from now on, and how many runs each pool holds at once (0: its handler is away
    for the moment). `expecting`: more handlers may register soon, so that nothing is parked for want of one."""

    methods: tuple[MethodInfo, ...]
    pools: tuple[tuple[str, int], ...]
    expecting: bool = False


@record
class Commanded:
    """Somebody asks for something; exactly one Reply with this id follows."""

    request_id: int
    command: Command


@record
class Received:
    """A message came over a link. `sender` is where answers go, nothing else: who it is stands in the message, and is
    believed only as far as `key`, the public key that the link has verified, allows ("": the link verifies nobody)."""

    sender: bytes
    message: Any
    key: str = ""


@record
class Garbled:
    """Bytes came over a link that are no message for this side."""

    sender: bytes
    problem: str
    key: str = ""


@record
class LinkChanged:
    """The connection to the server is there, or is gone. Only the side that connects is told."""

    up: bool


@record
class AllowedKey:
    """A public key that may speak, whose it is, and which methods it may offer (None: all)."""

    key: str
    handler_id: str
    methods: tuple[str, ...] | None = None


@record
class KeysChanged:
    """The whole of who may speak from now on. None: the link verifies nobody, and everybody may."""

    allowed: tuple[AllowedKey, ...] | None


@record
class StopRequested:
    """Drain: start nothing new, give running executions `grace_us` to end, write what they report, then Stop."""

    grace_us: int


# --- facts that machines tell each other through the node ------------------------------------------------------


@record
class Firing:
    """What became due of one schedule: the verdicts on its instants, and the cursor that they carry it to from
    `from_us`. `key` is the run key of its only verdict, where it is known already."""

    schedule: Schedule
    verdicts: tuple[Verdict, ...]
    from_us: int
    cursor_us: int
    next_due_us: int | None
    key: bytes = b""


@record
class FiringsDecided:
    """scheduling, monotonic -> execution: write these instants and move these cursors, together (SCHED-2).
    `monotonic` says which of the two decided, and gets the answer."""

    firings: tuple[Firing, ...]
    monotonic: bool = False


@record
class FiringsSettled:
    """execution -> scheduling, monotonic: one decided slice is durable."""

    monotonic: bool = False


@record
class FiringsUndone:
    """execution -> scheduling, monotonic: nothing of this slice is durable; read these schedules again. `unavailable`
    asks for a pause before that."""

    schedule_ids: tuple[str, ...]
    unavailable: bool
    monotonic: bool = False


@record
class SchedulesStored:
    """catalog -> scheduling: these schedules now stand in the store like this."""

    schedules: tuple[Schedule, ...]


@record
class ParkWanted:
    """scheduling, monotonic, execution -> catalog: these schedules cannot fire: their method is not here, or
    (QUARANTINED) their trigger cannot advance, or the store cannot hold their rows."""

    schedule_ids: tuple[str, ...]
    state: ScheduleState
    reason: str


@record
class SettleWanted:
    """scheduling -> catalog: the time is known; bring these unsettled schedules to the present."""

    schedule_ids: tuple[str, ...]


@record
class RunWanted:
    """catalog -> execution: a run that a person asked for; execution answers the command. `schedule` is None for a
    method without a schedule."""

    request_id: int
    run: Run
    schedule: Schedule | None


@record
class RunsFound:
    """recovery -> execution: runs that the previous life left unfinished, each with its schedule (None: it had
    none)."""

    runs: tuple[Run, ...]
    schedules: tuple[Schedule | None, ...]


@record
class RunsRecovered:
    """recovery -> execution, scheduling: every run of the previous life is accounted for, so overlap can be judged."""


@record
class RunsAssigned:
    """execution -> membership: these runs are claimed for a worker, durably; have it execute them."""

    worker: str
    runs: tuple[StartRun, ...]


@record
class StopAssigned:
    """execution -> membership: have the worker stop one run. It still ends in a RunResult, or vanishes."""

    worker: str
    row: int
    attempt: int
    reason: CancelReason


@record
class LeasedRun:
    """A run that a worker was executing in an earlier life of this node. `exclusive` as in its definition."""

    worker: str
    row: int
    attempt: int
    fence: int
    exclusive: bool = False
    run_id: str = ""


@record
class RunsLeftBehind:
    """execution -> membership: runs that workers were executing when the last life ended, to be found again with them
    (MEMB-6)."""

    runs: tuple[LeasedRun, ...]


@record
class ResultsSettled:
    """execution -> membership: what came of these (row, attempt) is durable, or void for ever: their workers may
    forget them."""

    runs: tuple[tuple[int, int], ...]


@record
class RunsVanished:
    """membership -> execution: the worker of these (row, attempt) is lost, or knows nothing of them."""

    runs: tuple[tuple[int, int], ...]
    reason: str


@record
class RunsReturned:
    """membership -> execution: the worker did not begin these (row, attempt) and will not."""

    runs: tuple[tuple[int, int], ...]
    reason: str


@record
class RemoteHandlersChanged:
    """membership -> node: the remote part of what can be executed from now on, as in HandlersChanged."""

    methods: tuple[MethodInfo, ...]
    pools: tuple[tuple[str, int], ...]
    expecting: bool


Event = (
    Started
    | Woke
    | WriteDone
    | WriteFailed
    | ReadDone
    | ReadFailed
    | RunsFinished
    | RunsProgressed
    | HandlersChanged
    | Commanded
    | StopRequested
    | FiringsDecided
    | FiringsSettled
    | FiringsUndone
    | SchedulesStored
    | ParkWanted
    | SettleWanted
    | RunWanted
    | RunsFound
    | RunsRecovered
    | Received
    | Garbled
    | LinkChanged
    | KeysChanged
    | RunsAssigned
    | StopAssigned
    | RunsLeftBehind
    | ResultsSettled
    | RunsVanished
    | RunsReturned
    | RemoteHandlersChanged
)
