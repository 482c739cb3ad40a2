"""Facts: what happened. Past participles, plain values."""

from enum import StrEnum
from typing import Any

from attrs import define, frozen
from attrs.setters import frozen as refuse

from sz_protocol.commands import Command
from sz_protocol.kernel.effects import CancelReason, StartRun
from sz_protocol.policy import Verdict
from sz_protocol.records import Outcome, Run, Schedule, ScheduleState


@frozen
class Started:
    """The node begins a life. `term` is greater than that of every earlier life on the same store and fences its
    writes. `high_water_us` is the latest wall time that the store has seen (0: a new store)."""

    term: int
    high_water_us: int = 0


@frozen
class Woke:
    """The time that `next_wakeup` asked for has come (or nearly: the driver also wakes to look at the clocks)."""


@frozen
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


@frozen
class WriteFailed:
    """Nothing of this operation is durable (UNKNOWN: perhaps all of it). `refused` names schedule ids (str) or run
    rows (int) that caused REFUSED or INVALID."""

    op: int
    reason: FailReason
    refused: tuple[str | int, ...] = ()
    detail: str = ""


@frozen
class ReadDone:
    """The rows that a query asked for."""

    op: int
    rows: tuple[Any, ...]


@frozen
class ReadFailed:
    """A query could not be answered now."""

    op: int
    reason: FailReason
    detail: str = ""


@define(on_setattr=refuse, unsafe_hash=True)
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


@frozen
class RunsFinished:
    """Executions that ended, in any order."""

    results: tuple[RunResult, ...]


@frozen
class RunProgress:
    """How far an execution is, in its handler's own words; `percent` if it knows."""

    row: int
    attempt: int
    note: str
    percent: int | None = None


@frozen
class RunsProgressed:
    """The latest progress of executions that go on. Each is told now and then, never for every call."""

    progress: tuple[RunProgress, ...]


@frozen
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


@frozen
class HandlersChanged:
    """The whole of what can be executed from now on, and how many runs each pool holds at once (0: its handler is away
    for the moment). `expecting`: more handlers may register soon, so that nothing is parked for want of one."""

    methods: tuple[MethodInfo, ...]
    pools: tuple[tuple[str, int], ...]
    expecting: bool = False


@frozen
class Commanded:
    """Somebody asks for something; exactly one Reply with this id follows."""

    request_id: int
    command: Command


@frozen
class Received:
    """A message came over a link. `sender` is where answers go, nothing else: who it is stands in the message, and is
    believed only as far as `key`, the public key that the link has verified, allows ("": the link verifies nobody)."""

    sender: bytes
    message: Any
    key: str = ""


@frozen
class Garbled:
    """Bytes came over a link that are no message for this side."""

    sender: bytes
    problem: str
    key: str = ""


@frozen
class LinkChanged:
    """The connection to the server is there, or is gone. Only the side that connects is told."""

    up: bool


@frozen
class AllowedKey:
    """A public key that may speak, whose it is, and which methods it may offer (None: all)."""

    key: str
    handler_id: str
    methods: tuple[str, ...] | None = None


@frozen
class KeysChanged:
    """The whole of who may speak from now on. None: the link verifies nobody, and everybody may."""

    allowed: tuple[AllowedKey, ...] | None


@frozen
class StopRequested:
    """Drain: start nothing new, give running executions `grace_us` to end, write what they report, then Stop."""

    grace_us: int


# --- facts that machines tell each other through the node ------------------------------------------------------


@define(on_setattr=refuse, unsafe_hash=True)
class Firing:
    """What became due of one schedule: the verdicts on its instants, and the cursor that they carry it to from
    `from_us`."""

    schedule: Schedule
    verdicts: tuple[Verdict, ...]
    from_us: int
    cursor_us: int
    next_due_us: int | None


@frozen
class FiringsDecided:
    """scheduling, monotonic -> execution: write these instants and move these cursors, together (SCHED-2).
    `monotonic` says which of the two decided, and gets the answer."""

    firings: tuple[Firing, ...]
    monotonic: bool = False


@frozen
class FiringsSettled:
    """execution -> scheduling, monotonic: one decided slice is durable."""

    monotonic: bool = False


@frozen
class FiringsUndone:
    """execution -> scheduling, monotonic: nothing of this slice is durable; read these schedules again. `unavailable`
    asks for a pause before that."""

    schedule_ids: tuple[str, ...]
    unavailable: bool
    monotonic: bool = False


@frozen
class SchedulesStored:
    """catalog -> scheduling: these schedules now stand in the store like this."""

    schedules: tuple[Schedule, ...]


@frozen
class ParkWanted:
    """scheduling, monotonic, execution -> catalog: these schedules cannot fire: their method is not here, or
    (QUARANTINED) their trigger cannot advance, or the store cannot hold their rows."""

    schedule_ids: tuple[str, ...]
    state: ScheduleState
    reason: str


@frozen
class SettleWanted:
    """scheduling -> catalog: the time is known; bring these unsettled schedules to the present."""

    schedule_ids: tuple[str, ...]


@frozen
class RunWanted:
    """catalog -> execution: a run that a person asked for; execution answers the command. `schedule` is None for a
    method without a schedule."""

    request_id: int
    run: Run
    schedule: Schedule | None


@frozen
class RunsFound:
    """recovery -> execution: runs that the previous life left unfinished, each with its schedule (None: it had
    none)."""

    runs: tuple[Run, ...]
    schedules: tuple[Schedule | None, ...]


@frozen
class RunsRecovered:
    """recovery -> execution, scheduling: every run of the previous life is accounted for, so overlap can be judged."""


@frozen
class RunsAssigned:
    """execution -> membership: these runs are claimed for a worker, durably; have it execute them."""

    worker: str
    runs: tuple[StartRun, ...]


@frozen
class StopAssigned:
    """execution -> membership: have the worker stop one run. It still ends in a RunResult, or vanishes."""

    worker: str
    row: int
    attempt: int
    reason: CancelReason


@frozen
class LeasedRun:
    """A run that a worker was executing in an earlier life of this node. `exclusive` as in its definition."""

    worker: str
    row: int
    attempt: int
    fence: int
    exclusive: bool = False
    run_id: str = ""


@frozen
class RunsLeftBehind:
    """execution -> membership: runs that workers were executing when the last life ended, to be found again with them
    (MEMB-6)."""

    runs: tuple[LeasedRun, ...]


@frozen
class ResultsSettled:
    """execution -> membership: what came of these (row, attempt) is durable, or void for ever: their workers may
    forget them."""

    runs: tuple[tuple[int, int], ...]


@frozen
class RunsVanished:
    """membership -> execution: the worker of these (row, attempt) is lost, or knows nothing of them."""

    runs: tuple[tuple[int, int], ...]
    reason: str


@frozen
class RunsReturned:
    """membership -> execution: the worker did not begin these (row, attempt) and will not."""

    runs: tuple[tuple[int, int], ...]
    reason: str


@frozen
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
