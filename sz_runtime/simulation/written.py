"""What a transaction wrote, as records of the trace."""

from collections.abc import Iterator

from sz_protocol.records import Run, Schedule
from sz_runtime.simulation.facts import (
    AttemptWritten,
    CursorMoved,
    Noted,
    RowsDropped,
    RunKept,
    RunWritten,
    ScheduleKept,
    SchedulePut,
)
from sz_runtime.simulation.tables import AttemptStep, RunStep, ScheduleStep, Step, Tables


def written(at_us: int, store: str, writer: str, op: int, steps: list[Step]) -> Iterator[Noted]:
    """One record for each row that changed; the rows that retention dropped in one."""
    dropped: list[int] = []
    for step in steps:
        if isinstance(step, RunStep):
            if step.after is not None:
                yield _run_written(at_us, store, writer, op, step.before, step.after)
            elif step.before is not None:
                dropped.append(step.before.row)
        elif isinstance(step, ScheduleStep):
            assert step.after is not None, "schedules are retired, never deleted"
            yield _schedule_written(at_us, store, writer, op, step.before, step.after)
        elif isinstance(step, AttemptStep) and step.after is not None:
            past = step.after
            yield AttemptWritten(at_us, store, writer, op, past.row, past.attempt, past.outcome, past.reason)
    if dropped:
        yield RowsDropped(at_us, store, writer, tuple(dropped))


def kept(at_us: int, store: str, tables: Tables) -> Iterator[Noted]:
    """One record for each row of the tables, in the order of their addresses."""
    for name in sorted(tables.schedules):
        schedule = tables.schedules[name]
        yield ScheduleKept(
            at_us, store, name, schedule.hash.hex(), schedule.state, schedule.cursor_us, schedule.next_due_us
        )
    for row in sorted(tables.runs):
        run = tables.runs[row]
        yield RunKept(
            at_us,
            store,
            row,
            run.run_id,
            run.schedule_id,
            run.kind,
            run.fire_us,
            run.state,
            run.outcome or "",
            run.reason,
            run.attempt,
            run.failures,
            run.losses,
            run.count,
            run.until_us if run.until_us is not None else run.fire_us,
            run.covers,
            run.not_before_us,
        )


def _run_written(at_us: int, store: str, writer: str, op: int, before: Run | None, run: Run) -> RunWritten:
    return RunWritten(
        at_us,
        store,
        writer,
        op,
        before is None,
        run.row,
        run.run_id,
        run.schedule_id,
        run.kind,
        run.fire_us,
        run.state,
        run.outcome or "",
        run.reason,
        run.attempt,
        run.failures,
        run.losses,
        run.fence,
        run.count,
        run.until_us if run.until_us is not None else run.fire_us,
        run.covers,
        run.not_before_us,
        run.decided_us,
        "" if before is None else before.state,
        0 if before is None else before.attempt,
        run.worker,
    )


def _schedule_written(
    at_us: int, store: str, writer: str, op: int, before: Schedule | None, schedule: Schedule
) -> Noted:
    if before is not None and before.rev == schedule.rev:
        return CursorMoved(
            at_us, store, writer, op, schedule.id, before.cursor_us, schedule.cursor_us, schedule.next_due_us
        )
    return SchedulePut(
        at_us,
        store,
        writer,
        op,
        schedule.id,
        schedule.hash.hex(),
        schedule.rev,
        schedule.state,
        schedule.reason,
        schedule.cursor_us,
        None if before is None else before.cursor_us,
        schedule.created_us,
        schedule.catch_up or "",
        schedule.catch_up_until_us,
    )
