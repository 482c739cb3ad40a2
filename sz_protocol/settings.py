"""The numbers that a node's machines run with. All of them have defaults; the simulation draws odd ones."""

from attrs import frozen

from sz_protocol.kernel.now import DAY_US, MINUTE_US, SECOND_US


@frozen
class Settings:
    """Limits and durations of one node.

    Scheduling: `slice_instants` bounds the ledger rows of one slice; schedules due within `horizon_us` are kept in
    memory, read `page_rows` at a time and no further while more than `crowd_schedules` are there (about 1.4 KB each);
    at most `writes_in_flight` slices wait for the store at once.
    Execution: `late_us` is the delay from which a run counts as late; `loss_limit` crashes end a run as lost;
    `cancel_grace_us` is how long a cancelled execution may take before its outcome is recorded without it. A drain
    gives what executes its own grace, then cancels it, records after `drain_cancel_us` what has not ended, and leaves
    after another `drain_write_us` whatever the store does.
    Store: after a failure the node waits `store_retry_us`, doubling up to `store_retry_max_us`.
    Clock: a wall clock that jumps ahead by more than `clock_step_us` must hold for `clock_settle_us` before due
    times follow it. `retention_us`: how long finished rows stay (None: for ever), `retention_every_us` apart are
    the sweeps of at most `retention_rows`.
    Remote handlers, where there are any (`remote`): both sides say every `heartbeat_us` that they live; a handler that
    was not heard for `missed_beats` of them gets nothing new, and after `lease_us` its runs are lost. Nothing is parked
    for want of a handler that left, or that has not come since the start, before `away_grace_us`. A dispatch that is
    not accepted within `redeliver_us` is repeated; a run that a handler refused waits `return_pause_us`. At most
    `workers` handlers are registered at once.
    """

    slice_instants: int = 256
    horizon_us: int = 2 * MINUTE_US
    page_rows: int = 500
    crowd_schedules: int = 1_000_000
    writes_in_flight: int = 16
    late_us: int = SECOND_US
    loss_limit: int = 5
    cancel_grace_us: int = 10 * SECOND_US
    drain_cancel_us: int = 5 * SECOND_US // 2
    drain_write_us: int = 3 * SECOND_US // 2
    store_retry_us: int = SECOND_US // 4
    store_retry_max_us: int = 5 * SECOND_US
    clock_step_us: int = 2 * SECOND_US
    clock_settle_us: int = 60 * SECOND_US
    retention_us: int | None = 90 * DAY_US
    retention_every_us: int = 10 * MINUTE_US
    retention_rows: int = 2000
    enumerate_instants: int = 100
    remote: bool = False
    heartbeat_us: int = SECOND_US
    missed_beats: int = 3
    lease_us: int = 10 * SECOND_US
    away_grace_us: int = 30 * SECOND_US
    redeliver_us: int = 2 * SECOND_US
    return_pause_us: int = SECOND_US // 2
    workers: int = 1000
