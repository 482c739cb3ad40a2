"""What can be done to a simulated world, one step at a time. A plan is a list of steps; so is a scenario script.

Each step has one line of text, see `scenario_text`.
"""

from enum import StrEnum

from attrs import frozen

from sz_protocol.definition import MisfirePolicy
from sz_runtime.simulation.network import Weather


class Point(StrEnum):
    """Where in the work of a node or a worker a crash or a stall can strike exactly. The first five, and before a
    message is sent or a result kept, lie between a check and its effect; the others in the store (the outbox): before
    it applies a round of writes, before it syncs, when it has synced, and when its answer has not yet been handed
    over."""

    WRITE = "before write"
    READ = "before read"
    START = "before start"
    CANCEL = "before cancel"
    RESULT = "before result"
    COMMIT = "before commit"
    SYNC = "before sync"
    SYNCED = "after sync"
    ANSWER = "before answer"
    KEEP = "before keep"
    SEND = "before send"


NODE_POINTS = (Point.WRITE, Point.READ, Point.START, Point.CANCEL, Point.RESULT)
STORE_POINTS = (Point.COMMIT, Point.SYNC, Point.SYNCED, Point.ANSWER)
WORKER_POINTS = (Point.START, Point.CANCEL, Point.RESULT, Point.KEEP, Point.SEND)
OUTBOX_POINTS = (Point.SYNC, Point.SYNCED)
HOLDING_POINTS = (*NODE_POINTS, Point.KEEP, Point.SEND)
"""Where somebody can be held up: between a check and its effect."""


@frozen
class Advance:
    """Let this much true time pass."""

    us: int


@frozen
class Start:
    """Start a node. `by_force`: although another one holds its store (the lock was lost)."""

    node: str
    by_force: bool = False


@frozen
class Crash:
    """Kill a node: now, or when it next reaches `point`. It starts again after `restart_us` (None: not by itself).
    `power`: its machine loses power, so that its monotonic clock begins again."""

    node: str
    point: Point | None = None
    restart_us: int | None = None
    power: bool = False


@frozen
class Drain:
    """Ask a node to stop in order. It starts again after `restart_us` (None: not by itself)."""

    node: str
    grace_us: int
    restart_us: int | None = None


class StallKind(StrEnum):
    """PAUSE stops the process, handlers too; STALL the protocol loop alone; SUSPEND the machine (like PAUSE, from
    inside: clocks go on)."""

    PAUSE = "pause"
    STALL = "stall"
    SUSPEND = "suspend"


@frozen
class Stall:
    """A node stands still for a while: now, or when it next reaches `point`."""

    node: str
    kind: StallKind
    us: int
    point: Point | None = None


@frozen
class StepClock:
    """The wall clock of a node jumps."""

    node: str
    us: int


@frozen
class DriftClock:
    """Both clocks of a node run faster than true time by this many millionths."""

    node: str
    ppm: int


@frozen
class TrustClock:
    """A node begins or ceases to know the wall time. Ceasing sets its wall clock `error_us` off, as a device without
    a battery does at boot; beginning sets it right."""

    node: str
    trusted: bool
    error_us: int = 0


class DiskState(StrEnum):
    """What a store's disk does."""

    OK = "ok"
    FULL = "full"
    FAILING = "failing"


@frozen
class SetDisk:
    """The disk under a store changes its ways."""

    store: str
    state: DiskState


@frozen
class SetStore:
    """A store becomes slow by a factor, doubtful by a chance, or goes down."""

    store: str
    slow: float = 1.0
    unknown: float = 0.0
    down: bool = False


@frozen
class Rewind:
    """A node crashes and its store is restored from the copy made `us` ago; it starts again after `restart_us`."""

    node: str
    us: int
    restart_us: int


@frozen
class Partition:
    """Cut every link between places of different groups."""

    groups: tuple[tuple[str, ...], ...]


@frozen
class Cut:
    """Cut one link in one direction."""

    sender: str
    to: str


@frozen
class Mend:
    """Heal the network: at once, or link by link in random order over `swizzle_us`."""

    swizzle_us: int = 0


@frozen
class SetWeather:
    """The network changes its ways."""

    weather: Weather


@frozen
class PauseSchedule:
    """A person pauses a schedule."""

    node: str
    schedule_id: str


@frozen
class ResumeSchedule:
    """A person resumes a schedule."""

    node: str
    schedule_id: str
    missed: MisfirePolicy


@frozen
class TriggerSchedule:
    """A person runs a schedule's method once, now."""

    node: str
    schedule_id: str
    key: str


@frozen
class CancelRuns:
    """A person cancels whatever runs or waits of a schedule."""

    node: str
    schedule_id: str


@frozen
class Configure:
    """A new configuration is applied that holds only the jobs with these indices (into the plan's jobs)."""

    node: str
    jobs: tuple[int, ...]


@frozen
class SetMethods:
    """The handlers of a node change: those of `without` (schedule ids) are gone until the next such step."""

    node: str
    without: tuple[str, ...] = ()


@frozen
class SetKeys:
    """Who may speak changes, at all servers: the keys of `without` (handler ids) are taken away until the next such
    step."""

    without: tuple[str, ...] = ()


class Meddling(StrEnum):
    """NOISE: bytes that are no message, most of them a message of theirs with a few bytes changed. REPLAY: one of their
    earlier messages once more. FORGE: results of runs that the sender does not execute, or in somebody else's name."""

    NOISE = "noise"
    REPLAY = "replay"
    FORGE = "forge"


@frozen
class Meddle:
    """Somebody puts a frame on the link between a worker and a server, as if `sender` had sent it."""

    kind: Meddling
    sender: str
    to: str


@frozen
class HalfClose:
    """One direction of the connection between a worker and a server is closed for good; the other one works on."""

    sender: str
    to: str


@frozen
class Strangers:
    """So many connections to a node by nobody who is known: a quarter each say nothing at all, half a Hello, random
    bytes (one of them too many of them), and a Hello with never another word. All of them stay open."""

    node: str
    count: int


@frozen
class Heal:
    """Everything is put right: network, disks, clocks, handlers; dead nodes are started."""


ANY_MACHINE = (Start, Crash, Drain, Stall, StepClock, DriftClock, TrustClock, SetMethods)
"""What can be done to a worker as well as to a node."""

Step = (
    Advance
    | Start
    | Crash
    | Drain
    | Stall
    | StepClock
    | DriftClock
    | TrustClock
    | SetDisk
    | SetStore
    | Rewind
    | Partition
    | Cut
    | Mend
    | SetWeather
    | PauseSchedule
    | ResumeSchedule
    | TriggerSchedule
    | CancelRuns
    | Configure
    | SetMethods
    | SetKeys
    | Meddle
    | HalfClose
    | Strangers
    | Heal
)
