"""What the core tells whoever listens: logs, metrics, the portal, the simulation's checkers. Nobody has to answer."""

from sz_protocol.kernel.record import record
from sz_protocol.records import Outcome, Run


@record
class Ignored:
    """Something came that means nothing here; dropped with a reason, never silently."""

    what: str
    reason: str


@record
class RunsRecorded:
    """These ledger rows are now durable (fires with their state, skips, outcomes)."""

    runs: tuple[Run, ...]


@record
class ScheduleParked:
    """A schedule waits, visible, for a handler method that is not here."""

    schedule_id: str
    reason: str


@record
class ScheduleUnparked:
    """Its handler method is here now; it fires again."""

    schedule_id: str


@record
class ScheduleQuarantined:
    """Its trigger cannot advance; it alone stands still."""

    schedule_id: str
    reason: str


@record
class StoreTroubled:
    """The store fails; nothing new fires, running executions go on, their results wait."""

    reason: str
    detail: str


@record
class StoreRecovered:
    """The store answers again, after this many microseconds."""

    after_us: int


@record
class ClockStepped:
    """The wall clock moved against the monotonic one. `held` says that due times wait until the new time has proven
    itself."""

    step_us: int
    held: bool


@record
class TrustChanged:
    """The wall clock became trusted, or ceased to be (TIME-4, TIME-5). Until it is, interval schedules fire on
    monotonic time and all others wait. `utc_us` is what the node goes by from here on."""

    trusted: bool
    utc_us: int


@record
class AttemptFailed:
    """An attempt ended without ending its run; the next one may start at `retry_at_us` (UTC)."""

    row: int
    schedule_id: str
    attempt: int
    outcome: Outcome
    reason: str
    retry_at_us: int
    error: str | None = None


@record
class RunUnresponsive:
    """An execution was asked to stop and has not; its outcome is recorded, its slot stays taken until it ends."""

    row: int
    schedule_id: str
    attempt: int


@record
class RunProgressed:
    """An execution says how far it is. `worker` is the remote handler that executes it ("": this process)."""

    row: int
    attempt: int
    note: str
    percent: int | None = None
    worker: str = ""


@record
class SteppedDown:
    """The store refused our term: another node decides now. Nothing more is decided here."""

    term: int


@record
class ComponentChanged:
    """A component of this node entered a state (one of lifecycle's, as text); the reason is for a person."""

    name: str
    state: str
    reason: str = ""


@record
class NodeFailed:
    """The node cannot go on without this component: every other one is being stopped."""

    component: str
    reason: str


@record
class Attached:
    """A server has registered this handler: it may send runs from now on."""

    session: int
    lease_us: int
    methods: tuple[str, ...]
    held: int = 0


@record
class AttachRefused:
    """A server does not take this handler, or ended its session. It will be asked again."""

    code: str
    message: str
    again_us: int


@record
class Detached:
    """This handler has lost its server, and goes on asking for it; what it executes goes on."""

    reason: str
    executing: int
    unreported: int


@record
class OutboxTroubled:
    """The outbox cannot keep results: they are in memory only, and are reported all the same."""

    detail: str
    waiting: int


@record
class OutboxRecovered:
    """The outbox keeps results again."""


@record
class ResultsLeft:
    """This handler ends before its server has acknowledged these results. `kept` of them come with its next life; the
    others are lost, and their runs will count as lost."""

    kept: int
    lost: int


@record
class HandlerRegistered:
    """A remote handler is here, or here again. `adopted` runs of earlier sessions are still with it."""

    handler_id: str
    session: int
    methods: int
    slots: int
    adopted: int = 0
    key: str = ""
    software: str = ""


@record
class HandlerRejected:
    """Somebody who wanted to register may not, or somebody's session was ended; `code` is that of the Reject."""

    handler_id: str
    code: str
    message: str


@record
class HandlerSuspect:
    """A remote handler missed its heartbeats: it gets nothing new. What it executes has its lease yet."""

    handler_id: str
    silent_us: int


@record
class HandlerHeard:
    """A remote handler that was suspect is heard again."""

    handler_id: str
    silent_us: int


@record
class HandlerLost:
    """A remote handler was silent for a whole lease: its runs are lost to it."""

    handler_id: str
    silent_us: int
    runs: int


@record
class HandlerDraining:
    """A remote handler takes nothing new, and finishes what it has."""

    handler_id: str


@record
class HandlerLeft:
    """A remote handler said good-bye. `runs`: of so many the end is still to be told, by its next life."""

    handler_id: str
    runs: int


Notice = (
    Ignored
    | RunsRecorded
    | ScheduleParked
    | ScheduleUnparked
    | ScheduleQuarantined
    | StoreTroubled
    | StoreRecovered
    | ClockStepped
    | TrustChanged
    | AttemptFailed
    | RunUnresponsive
    | RunProgressed
    | SteppedDown
    | ComponentChanged
    | NodeFailed
    | Attached
    | AttachRefused
    | Detached
    | OutboxTroubled
    | OutboxRecovered
    | ResultsLeft
    | HandlerRegistered
    | HandlerRejected
    | HandlerSuspect
    | HandlerHeard
    | HandlerLost
    | HandlerDraining
    | HandlerLeft
)
