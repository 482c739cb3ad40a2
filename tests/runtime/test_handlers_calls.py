"""How parameters and the run context reach a handler."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Optional

import anyio
import pytest
from structlog.testing import capture_logs

from sz_runtime import run_context
from sz_runtime.call_plan import plan_call
from sz_runtime.run_context import RunContext, current_run
from tests.runtime.executor_rig import Rig


def none() -> None: ...
def needs(a: int, b: int = 2) -> None: ...
def anything(a: int, **rest: int) -> None: ...
def keyword_only(*, a: int) -> None: ...
def run_bare(run, a: int) -> None: ...  # type: ignore[no-untyped-def]
def run_typed(a: int, run: RunContext) -> None: ...
def run_as_text(run: "RunContext") -> None: ...
def run_optional(run: RunContext | None = None) -> None: ...
def run_old_optional(run: Optional[RunContext] = None) -> None: ...  # noqa: UP045
def run_qualified(run: "run_context.RunContext") -> None: ...
def context_by_type(ctx: RunContext) -> None: ...
def run_of_ones_own(run: int) -> None: ...
def run_and_anything(run: RunContext, **rest: int) -> None: ...


CALLS: list[tuple[Callable[..., Any], dict[Any, Any], str | None]] = [
    (none, {}, None),
    (none, {"a": 1}, "unknown parameter 'a'"),
    (needs, {"a": 1}, None),
    (needs, {"a": 1, "b": 1}, None),
    (needs, {}, "missing parameter 'a'"),
    (needs, {"b": 1}, "missing parameter 'a'"),
    (needs, {"a": 1, "c": 1, "d": 2}, "unknown parameter 'c', 'd' (it takes 'a', 'b')"),
    (anything, {"a": 1, "z": 1}, None),
    (anything, {"z": 1}, "missing parameter 'a'"),
    (anything, {"a": 1, 5: 1}, "unknown parameter 5"),
    (keyword_only, {}, "missing parameter 'a'"),
    (run_bare, {"a": 1}, None),
    (run_bare, {"a": 1, "run": 1}, "unknown parameter 'run' (it takes 'a')"),
    (run_typed, {"a": 1}, None),
    (run_of_ones_own, {"run": 1}, None),
    (run_of_ones_own, {}, "missing parameter 'run'"),
    (run_and_anything, {"z": 1}, None),
    (run_and_anything, {"run": 1}, "unknown parameter 'run'"),
    (none, {f"p{n}": n for n in range(7)}, "unknown parameter 'p0', 'p1', 'p2', 'p3', 'p4' and 2 more"),
]


@pytest.mark.parametrize(("func", "params", "problem"), CALLS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_parameters_are_checked_without_calling(
    func: Callable[..., Any], params: dict[Any, Any], problem: str | None
) -> None:
    assert plan_call(func).problem(params) == problem


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (none, None),
        (run_bare, "run"),
        (run_typed, "run"),
        (run_as_text, "run"),
        (run_optional, "run"),
        (run_old_optional, "run"),
        (run_qualified, "run"),
        (context_by_type, "ctx"),
        (run_of_ones_own, None),
    ],
)
def test_the_context_is_given_by_name_or_by_type(func: Callable[..., Any], name: str | None) -> None:
    assert plan_call(func).run_parameter == name


def test_a_function_that_does_not_tell_its_parameters_accepts_any() -> None:
    assert plan_call(min).problem({"whatever": 1}) is None


@pytest.fixture(params=["asyncio", "trio"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig(request.param) as rig:
        yield rig


def test_the_context_says_what_the_run_is(rig: Rig) -> None:
    seen: list[RunContext] = []

    async def by_parameter(run: RunContext, n: int) -> None:
        await anyio.sleep(0)
        seen.append(run)
        assert current_run() is run

    def by_call() -> None:
        seen.append(current_run())

    rig.handler(by_parameter)
    rig.handler(by_call)
    deadline_us = rig.clock.now().mono_us + 5_000_000
    rows = [
        rig.start("by_parameter", params={"n": 1}, deadline_us=deadline_us),
        rig.start("by_call", deadline_us=deadline_us),
    ]
    results = [rig.result(row) for row in rows]
    for row, result, run, method in zip(
        rows, results, sorted(seen, key=lambda r: r.run_id), ("by_parameter", "by_call"), strict=True
    ):
        assert (run.run_id, run.schedule_id, run.handler_id, run.method) == (f"{row:032x}", f"s{row}", "h", method)
        assert run.idempotency_key == run.run_id
        assert (run.attempt, run.fence, dict(run.labels)) == (1, 100 + row, {"team": "blue"})
        assert run.fire_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
        assert run.started_us == result.started_us
        assert run.started.tzinfo is UTC
        assert run.deadline_us == deadline_us
        remaining = run.remaining()
        assert remaining is not None
        assert 0 < remaining < 5
        assert not run.cancel_requested


def test_the_trace_parent_is_well_formed_stable_and_differs_by_attempt() -> None:
    def context(run_id: str, attempt: int) -> RunContext:
        return RunContext(
            run_id=run_id, schedule_id="s", handler_id="h", method="m", fire_us=0, started_us=0, attempt=attempt
        )

    first, again, other = (context(*key).trace_parent.split("-") for key in (("a", 1), ("a", 2), ("b", 1)))
    assert [len(part) for part in first] == [2, 32, 16, 2]
    assert first[1] == again[1] != other[1]
    assert first[2] != again[2]
    assert context("a", 1).trace_parent == "-".join(first)


def test_a_context_built_by_hand_serves_a_handlers_own_test() -> None:
    run = RunContext(run_id="r", schedule_id="s", handler_id="h", method="m", fire_us=0, started_us=0)
    run.check_cancelled()
    run.sleep(0)
    assert run.remaining() is None
    assert not run.cancel_requested
    assert run.cancel_reason is None


def test_the_logger_carries_the_runs_names(rig: Rig) -> None:
    def talks(run: RunContext) -> None:
        run.logger.info("working", step=1)

    with capture_logs() as logs:
        row = rig.run(talks).row
    assert logs == [
        {
            "event": "working",
            "log_level": "info",
            "step": 1,
            "run_id": f"{row:032x}",
            "schedule_id": f"s{row}",
            "handler": "h.talks",
            "attempt": 1,
        }
    ]


def test_outside_of_a_run_there_is_no_current_one(rig: Rig) -> None:
    with pytest.raises(RuntimeError, match="no current run here"):
        current_run()

    def plain() -> None: ...

    rig.run(plain)
    with pytest.raises(RuntimeError):
        current_run()
