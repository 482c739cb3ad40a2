"""Records as rows of tables and back.

Codes are part of the stored format: never renumber one. Rows go in by position, in batches, so the order of columns
in the tuples below is that of the statements in `statements.py`.

Two habits of Python's sqlite3 shape the encoders: it binds int and str of the exact type at once, but None and bytes
take a detour that costs more than the rest of the column. So hot statements name only columns that have values, and
keys go in as bytearray.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgpack

from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.definition_wire import decode_stored, encode_definition
from sz_protocol.records import Attempt, Outcome, Run, RunKind, RunState, Schedule, ScheduleState

Row = tuple[Any, ...]

SCHEDULE_STATES = {
    ScheduleState.ACTIVE: 1,
    ScheduleState.PAUSED: 2,
    ScheduleState.PARKED: 3,
    ScheduleState.QUARANTINED: 4,
    ScheduleState.FINISHED: 5,
    ScheduleState.RETIRED: 6,
}
RUN_STATES = {RunState.PENDING: 1, RunState.LEASED: 2, RunState.DONE: 3}
OUTCOMES: dict[Outcome | None, int | None] = {
    None: None,
    Outcome.SUCCEEDED: 1,
    Outcome.FAILED: 2,
    Outcome.CANCELLED: 3,
    Outcome.SKIPPED: 4,
    Outcome.MISSED: 5,
    Outcome.LOST: 6,
}
KINDS = {RunKind.SCHEDULED: 1, RunKind.MANUAL: 2, RunKind.BACKFILL: 3, RunKind.MONOTONIC: 4}
NOT_PAUSED = -1
CATCH_UPS = {None: 0, MisfirePolicy.SKIP: 1, MisfirePolicy.LATEST: 2, MisfirePolicy.ALL: 3}

ACTIVE = SCHEDULE_STATES[ScheduleState.ACTIVE]
FINISHED = SCHEDULE_STATES[ScheduleState.FINISHED]
RETIRED = SCHEDULE_STATES[ScheduleState.RETIRED]
LEASED = RUN_STATES[RunState.LEASED]
DONE = RUN_STATES[RunState.DONE]

# Bound once: on Python 3.11 a member that is looked up in its enum costs as much as two function calls.
_LEASED: Final = RunState.LEASED
_DONE: Final = RunState.DONE

_SCHEDULE_STATE_OF = {code: state for state, code in SCHEDULE_STATES.items()}
_RUN_STATE_OF = {code: state for state, code in RUN_STATES.items()}
_OUTCOME_OF = {code: outcome for outcome, code in OUTCOMES.items()}
_KIND_OF = {code: kind for kind, code in KINDS.items()}
_CATCH_UP_OF = {code: policy for policy, code in CATCH_UPS.items()}

# --- runs going in ---------------------------------------------------------------------------------------------

_RARE = ("kind", "failures", "losses", "not_before_us", "count", "until_us", "covers", "params", "error", "worker")
_RARE_DEFAULTS = (RunKind.SCHEDULED, 0, 0, 0, 1, None, (), None, None, "")
_TROUBLES = ("error", "failures", "losses", "not_before_us", "worker")
_NO_TROUBLES = (None, 0, 0, 0, "")
_troubles = attrgetter(*_TROUBLES)
_beyond_fresh = attrgetter(*_RARE, "outcome", "started_us", "finished_us", "result")
_FRESH = (*_RARE_DEFAULTS, None, None, None, None)

CLAIMED_COLUMNS = ("row", "run_key", "schedule_id", "fire_us", "handler_id", "method", "decided_us", "reason")
FRESH_COLUMNS = (
    "row", "run_key", "schedule_id", "fire_us", "handler_id", "method", "state", "decided_us", "reason", "attempt",
    "fence",
)  # fmt: skip
RUN_COLUMNS = (
    *FRESH_COLUMNS, "outcome", "started_us", "finished_us", "result", "error", "kind", "failures", "losses",
    "not_before_us", "count", "until_us", "covers", "params", "worker",
)  # fmt: skip
STANDING_COLUMNS = (
    "state", "attempt", "fence", "reason", "outcome", "started_us", "finished_us", "result", "error", "failures",
    "losses", "not_before_us", "worker",
)  # fmt: skip
"""All that changes in the life of a run."""
END_COLUMNS = ("row", "attempt", "fence", "reason", "outcome", "started_us", "finished_us", "result")


def insert_rows(runs: Sequence[Run]) -> tuple[list[Row], list[Row], list[Row]]:
    """CLAIMED_COLUMNS of those ordinary runs that are claimed as they are inserted, under the row's own number;
    FRESH_COLUMNS of those that need no others; RUN_COLUMNS of the rest."""
    claimed: list[Row] = []
    fresh: list[Row] = []
    others: list[Row] = []
    for run in runs:
        if _beyond_fresh(run) != _FRESH:
            others.append(run_row(run))
        elif run.state is _LEASED and run.attempt == 1 and run.fence == run.row:
            claimed.append(
                (
                    run.row,
                    bytearray(run.run_key),
                    run.schedule_id,
                    run.fire_us,
                    run.handler_id,
                    run.method,
                    run.decided_us,
                    run.reason,
                )
            )
        else:
            fresh.append(run_row(run)[: len(FRESH_COLUMNS)])
    return claimed, fresh, others


def run_row(run: Run) -> Row:
    """RUN_COLUMNS of any run."""
    return (
        run.row,
        bytearray(run.run_key),
        run.schedule_id,
        run.fire_us,
        run.handler_id,
        run.method,
        RUN_STATES[run.state],
        run.decided_us,
        run.reason,
        run.attempt,
        run.fence,
        OUTCOMES[run.outcome],
        run.started_us,
        run.finished_us,
        run.result,
        run.error,
        KINDS[run.kind],
        run.failures,
        run.losses,
        run.not_before_us,
        run.count,
        run.until_us,
        json.dumps(run.covers, separators=(",", ":")) if run.covers else None,
        None if run.params is None else _pack(run.params),
        run.worker,
    )


def update_rows(runs: Sequence[Run], expected_attempts: Sequence[int]) -> tuple[list[Row], list[Row]]:
    """END_COLUMNS of the ordinary ends (executed, no trouble left behind), with a missing result as the integer 0,
    which no text equals; and `standing_row` of the others."""
    ends: list[Row] = []
    others: list[Row] = []
    for run, expected in zip(runs, expected_attempts, strict=True):
        started_us, finished_us, outcome = run.started_us, run.finished_us, run.outcome
        if (
            run.state is not _DONE
            or started_us is None
            or finished_us is None
            or outcome is None
            or run.attempt != expected
            or _troubles(run) != _NO_TROUBLES
        ):
            others.append(standing_row(run, expected))
            continue
        result = run.result
        ends.append(
            (
                run.row,
                expected,
                run.fence,
                run.reason,
                OUTCOMES[outcome],
                started_us,
                finished_us,
                0 if result is None else result,
            )
        )
    return ends, others


def standing_row(run: Run, expected_attempt: int) -> Row:
    """Row and expected attempt, then STANDING_COLUMNS."""
    return (
        run.row,
        expected_attempt,
        RUN_STATES[run.state],
        run.attempt,
        run.fence,
        run.reason,
        OUTCOMES[run.outcome],
        run.started_us,
        run.finished_us,
        run.result,
        run.error,
        run.failures,
        run.losses,
        run.not_before_us,
        run.worker,
    )


def attempt_row(attempt: Attempt) -> Row:
    """The columns of `attempts`, in their order."""
    return (
        attempt.row,
        attempt.attempt,
        OUTCOMES[attempt.outcome],
        attempt.reason,
        attempt.started_us,
        attempt.finished_us,
        attempt.error,
    )


# --- schedules going in ----------------------------------------------------------------------------------------


def place_row(schedule: Schedule) -> Row:
    """id, rev, state, cursor, source, next due time (the empty text where there is none)."""
    return (
        schedule.id,
        schedule.rev,
        SCHEDULE_STATES[schedule.state],
        schedule.cursor_us,
        schedule.source,
        "" if schedule.next_due_us is None else schedule.next_due_us,
    )


def definition_row(schedule: Schedule) -> Row:
    """uid, hash, created, since, reason, catch-up policy, catch-up bound, since when and why paused, definition."""
    return (
        schedule.uid,
        bytearray(schedule.hash),
        schedule.created_us,
        schedule.since_us,
        schedule.reason,
        CATCH_UPS[schedule.catch_up],
        schedule.catch_up_until_us,
        NOT_PAUSED if schedule.paused_us is None else schedule.paused_us,
        schedule.paused_reason,
        bytearray(encode_definition(schedule.definition)),
    )


# --- coming out ------------------------------------------------------------------------------------------------
# Rows come out of the database as one JSON text, so blobs travel in hexadecimal (see reads.py).

SCHEDULE_OUT = (
    "s.id", "s.rev", "s.state", "s.cursor_us", "s.next_due_us", "s.source", "d.uid", "hex(d.hash)", "d.created_us",
    "d.since_us", "d.reason", "d.catch_up", "d.catch_up_until_us", "d.paused_us",
    "d.paused_reason", "hex(d.definition)",
)  # fmt: skip
RUN_OUT = (
    "row", "hex(run_key)", "schedule_id", "fire_us", "handler_id", "method", "state", "decided_us", "kind", "outcome",
    "reason", "attempt", "failures", "losses", "fence", "not_before_us", "started_us", "finished_us", "count",
    "until_us", "covers", "iif(params IS NULL, NULL, hex(params))", "result", "error",
    "worker",
)  # fmt: skip
ATTEMPT_OUT = ("row", "attempt", "outcome", "reason", "started_us", "finished_us", "error")


def schedule_from(out: Sequence[Any]) -> Schedule:
    """A row of SCHEDULE_OUT."""
    name, rev, state, cursor_us, next_due_us, source, uid, digest, created_us, since_us, reason, *rest = out
    catch_up, until_us, paused_us, paused_reason, wire = rest
    return Schedule(
        uid,
        _definition(name, wire),
        bytes.fromhex(digest),
        source,
        rev,
        cursor_us,
        next_due_us,
        created_us,
        since_us,
        _SCHEDULE_STATE_OF[state],
        reason,
        _CATCH_UP_OF[catch_up],
        until_us,
        None if paused_us == NOT_PAUSED else paused_us,
        paused_reason,
    )


@lru_cache(maxsize=1024)
def _definition(name: str, wire: str) -> Definition:
    return decode_stored(name, bytes.fromhex(wire))


def run_from(out: Sequence[Any]) -> Run:
    """A row of RUN_OUT."""
    row, run_key, schedule_id, fire_us, handler_id, method, state, decided_us, kind, outcome, reason, *more = out
    attempt, failures, losses, fence, not_before_us, started_us, finished_us, count, until_us, *data = more
    covers, params, result, error, worker = data
    return Run(
        row,
        bytes.fromhex(run_key),
        schedule_id,
        fire_us,
        handler_id,
        method,
        _RUN_STATE_OF[state],
        decided_us,
        _KIND_OF[kind],
        _OUTCOME_OF[outcome],
        reason,
        attempt,
        failures,
        losses,
        fence,
        not_before_us,
        started_us,
        finished_us,
        count,
        until_us,
        tuple(json.loads(covers)) if covers else (),
        None if params is None else _unpack(bytes.fromhex(params)),
        result,
        error,
        worker,
    )


def attempt_from(out: Sequence[Any]) -> Attempt:
    """A row of ATTEMPT_OUT."""
    row, attempt, outcome, *rest = out
    found = _OUTCOME_OF[outcome]
    assert found is not None, "STORE-8: an attempt ended somehow"
    return Attempt(row, attempt, found, *rest)


def group_from(out: Sequence[Any]) -> tuple[str, RunState, Outcome | None, str, int]:
    """A row of LedgerCounts."""
    schedule_id, state, outcome, reason, instants = out
    return schedule_id, _RUN_STATE_OF[state], _OUTCOME_OF[outcome], reason, instants


def _pack(params: Mapping[str, Any]) -> bytearray:
    return bytearray(msgpack.packb(dict(params)))


def _unpack(data: bytes) -> dict[str, Any]:
    params: dict[str, Any] = msgpack.unpackb(data, strict_map_key=False)
    return params
