"""`schedulezero runs`: the ledger, one row per due instant."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sz_shells.cli.common import emit_json, fail, iso, ledger_of, load_deployment, print_table
from sz_shells.cli.options import OutputOption, SetOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sz_protocol.records import Run
    from sz_runtime.ports import Store

PAGE = 1000


def runs(
    config: str | None = None,
    /,
    *,
    limit: Annotated[int, Parameter(help="At most so many rows, the newest; 0 for all.")] = 50,
    schedule: Annotated[str | None, Parameter(help="Only this schedule.")] = None,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Show what became of every due instant, the newest first.

    Reads the ledger beside a running server, or without one. Instants that were skipped, coalesced or missed are rows
    too; a row whose count is above 1 stands for a range of instants.

    Parameters
    ----------
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_runtime.ports import StoreError

    store = ledger_of(load_deployment(config, settings))
    try:
        found = list(_ledger(store, limit, schedule))
    except StoreError as broken:
        fail(str(broken))
    if output == "json":
        emit_json([as_row(run) for run in found])
    else:
        columns = ("fire time (UTC)", "schedule", "method", "outcome", "reason", "attempt", "late s", "took s", "error")
        print_table("", columns, (cells(run) for run in found))
    return 0


def _ledger(store: "Store", limit: int, schedule: str | None) -> "Iterator[Run]":
    from sz_protocol.queries import RunsPage

    before: tuple[int, int] | None = None
    left = limit if limit > 0 else None
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page: tuple[Run, ...] = store.query(RunsPage(limit=size, before=before, schedule_id=schedule))
        yield from page
        if len(page) < size:
            return
        before = (page[-1].fire_us, page[-1].row)
        if left is not None:
            left -= len(page)


def as_row(run: "Run") -> dict[str, Any]:
    """One ledger row as plain data; `outcome` is null while the run is not over."""
    row: dict[str, Any] = {
        "schedule_id": run.schedule_id,
        "fire_time": iso(run.fire_us),
        "outcome": None if run.outcome is None else str(run.outcome),
        "reason": str(run.reason),
        "attempt": run.attempt,
        "started_at": iso(run.started_us),
        "finished_at": iso(run.finished_us),
        "state": str(run.state),
        "run_id": run.run_id,
        "kind": str(run.kind),
        "handler_id": run.handler_id,
        "method": run.method,
        "worker": run.worker or None,
        "decided_at": iso(run.decided_us),
        "count": run.count,
        "until": iso(run.until_us),
        "covers": [iso(at_us) for at_us in run.covers],
        "result": run.result,
        "error": run.error,
    }
    return row


def cells(run: "Run") -> tuple[object, ...]:
    """One ledger row of the table."""
    late = None if run.started_us is None else f"{(run.started_us - run.fire_us) / 1e6:.3f}"
    took = None
    if run.started_us is not None and run.finished_us is not None:
        took = f"{(run.finished_us - run.started_us) / 1e6:.3f}"
    outcome = str(run.state) if run.outcome is None else str(run.outcome)
    if run.count > 1:
        outcome = f"{outcome} ×{run.count}"
    error = run.error.partition("\n")[0] if run.error else None
    schedule = run.schedule_id or "(run-now)"
    method = f"{run.handler_id}.{run.method}" + (f" ({run.worker})" if run.worker not in ("", run.handler_id) else "")
    return iso(run.fire_us), schedule, method, outcome, run.reason, run.attempt, late, took, error
