"""Time as an argument. The core never reads a clock: every call brings the present with it."""

from enum import StrEnum

from sz_protocol.kernel.record import record

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US


@record
class Now:
    """One reading of a node's clocks.

    `mono_us` counts since boot, suspends included, and never steps: leases, time-outs and elections read it.
    `utc_us` is the wall clock, microseconds since 1970: only fire times read it. `trusted` is False while the
    device does not know the wall time yet.
    """

    mono_us: int
    utc_us: int
    trusted: bool = True


class WakeReason(StrEnum):
    """Why a machine wants to be called again."""

    BACKLOG = "backlog"
    DUE = "due"
    PAGE = "page"
    DEADLINE = "deadline"
    RETRY = "retry"
    HOUSEKEEPING = "housekeeping"
    CLOCK = "clock"


@record
class Wakeup:
    """The next instant, on the monotonic clock, at which a machine has something to do, and why.

    A query over the state, never a timer handle: nothing has to be cancelled, nothing can leak.
    """

    at_us: int
    reason: WakeReason
