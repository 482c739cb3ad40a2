"""What a handler does, and the one result that the core is told about it."""

import asyncio
import datetime
import json
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from sz_protocol.records import MOST_ERROR, MOST_RESULT, Outcome
from sz_runtime.run_context import DoNotRetry
from sz_runtime.run_outcome import why_unstorable
from tests.runtime.executor_rig import Rig


@pytest.fixture(params=["asyncio", "trio"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig(request.param) as rig:
        yield rig


def test_an_async_and_a_plain_handler_succeed(rig: Rig) -> None:
    async def waits(n: int) -> dict[str, int]:
        await anyio.sleep(0.001)
        return {"n": n}

    def plain(n: int) -> list[int]:
        return [n]

    async def silent() -> None:
        pass

    result = rig.run(waits, {"n": 3})
    assert (result.outcome, result.reason, result.result, result.error) == (Outcome.SUCCEEDED, "", '{"n":3}', None)
    assert result.started_us is not None
    assert result.started_us < result.finished_us
    assert abs(result.started_us - rig.clock.now().utc_us) < 10_000_000
    assert rig.run(plain, {"n": 4}).result == "[4]"
    assert rig.run(silent).result is None


def test_a_plain_handler_runs_on_the_backend_of_no_one_and_an_async_one_on_the_nodes(rig: Rig) -> None:
    async def which() -> str:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return "trio"
        return "asyncio"

    def own_loop() -> str:
        return asyncio.run(which())

    assert rig.run(which).result == json.dumps(rig.executor._backend)
    assert rig.run(own_loop).result == '"asyncio"'


def fails() -> None:
    raise KeyError("no such customer")


async def fails_later() -> None:
    await anyio.sleep(0)
    fails()


async def fails_at_once() -> None:
    fails()


@pytest.mark.parametrize("func", [fails, fails_later, fails_at_once])
def test_a_raising_handler_fails_with_type_message_and_line(rig: Rig, func: Any) -> None:
    result = rig.run(func)
    assert (result.outcome, result.reason, result.retryable) == (Outcome.FAILED, "error", True)
    assert result.error is not None
    assert result.error.startswith("KeyError: 'no such customer'")
    assert "test_executor_outcomes.py" in result.error
    assert 'raise KeyError("no such customer")' in result.error
    assert "sz_runtime" not in result.error, "only the handler's own frames"


def test_a_handler_can_forbid_another_attempt(rig: Rig) -> None:
    class GoneForEver(DoNotRetry):
        pass

    def gone() -> None:
        raise GoneForEver("deleted")

    result = rig.run(gone)
    assert (result.outcome, result.reason, result.retryable) == (Outcome.FAILED, "error", False)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_base_exceptions_fail_the_run_and_nothing_else(rig: Rig, error: BaseException) -> None:
    async def at_once() -> None:
        raise error

    def plain() -> None:
        raise error

    async def fine() -> str:
        return "alive"

    for func in (at_once, plain):
        result = rig.run(func)
        assert (result.outcome, result.reason) == (Outcome.FAILED, "error")
        assert str(result.error).startswith(type(error).__name__)
    assert rig.run(fine).result == '"alive"'


def test_system_exit_after_waiting_fails_the_run_and_nothing_else(rig: Rig) -> None:
    async def exits() -> None:
        await anyio.sleep(0.001)
        sys.exit("bye")

    async def fine() -> str:
        await anyio.sleep(0.001)
        return "alive"

    assert str(rig.run(exits).error).startswith("SystemExit: bye")
    assert rig.run(fine).result == '"alive"'


def test_an_exception_group_is_summarised(rig: Rig) -> None:
    async def group() -> None:
        async def bad(n: int) -> None:
            raise ValueError(f"part {n}")

        async with anyio.create_task_group() as tasks:
            for n in range(7):
                tasks.start_soon(bad, n)

    result = rig.run(group)
    assert result.outcome is Outcome.FAILED
    headline = str(result.error).splitlines()[0]
    assert headline.startswith("ExceptionGroup: ")
    assert headline.count("ValueError: part") == 5
    assert headline.endswith("and 2 more")


def test_a_cancellation_that_nobody_asked_for_is_a_failure() -> None:
    """asyncio lets anybody raise it; trio's cannot be made by hand."""

    async def cancels() -> None:
        raise asyncio.CancelledError

    async def awaits_a_cancelled_future() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    with Rig("asyncio") as rig:
        for func in (cancels, awaits_a_cancelled_future):
            result = rig.run(func)
            assert (result.outcome, result.reason) == (Outcome.FAILED, "error")
            assert str(result.error).startswith("cancelled, but not by the scheduler: ")


def test_errors_are_bounded_and_storable(rig: Rig) -> None:
    def long() -> None:
        raise ValueError("x" * 100_000 + "\0")

    def odd() -> None:
        raise ValueError("\ud800\0")

    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no message")

    def silent() -> None:
        raise Silent

    assert len(str(rig.run(long).error)) <= MOST_ERROR
    text = str(rig.run(odd).error)
    assert text.startswith("ValueError: \\ud800\\0")
    text.encode()
    assert "its message cannot be read: RuntimeError" in str(rig.run(silent).error)


def test_the_cause_is_told(rig: Rig) -> None:
    def orders() -> None:
        try:
            raise OSError("disk")
        except OSError as cause:
            raise ValueError("order") from cause

    assert str(rig.run(orders).error).splitlines()[-1] == "caused by OSError: disk"


class Opaque:
    pass


UNSTORABLE: list[tuple[Any, str]] = [
    (Opaque(), "$ is of type tests.runtime.test_executor_outcomes.Opaque"),
    ({"a": [1, {"b": datetime.datetime(2024, 1, 1)}]}, "$.a[1].b is of type datetime.datetime"),
    ([1, float("nan")], "$[1] is the number nan"),
    ({"n": float("inf")}, "$.n is the number inf"),
    ({("x", "y"): 1}, "$[\"('x', 'y')\"] is under a key of type tuple"),
    (b"bytes", "$ is of type bytes"),
    ({1, 2}, "$ is of type set"),
]


@pytest.mark.parametrize(("value", "why"), UNSTORABLE, ids=[why for _, why in UNSTORABLE])
def test_a_result_that_cannot_be_stored_says_type_and_path(value: Any, why: str) -> None:
    with Rig("asyncio") as rig:

        def gives() -> Any:
            return value

        result = rig.run(gives)
    assert (result.outcome, result.reason, result.retryable) == (Outcome.FAILED, "unstorable_result", False)
    assert result.error == f"the result cannot be stored as JSON: {why}"


def test_a_result_that_contains_itself_or_is_too_deep_or_too_large_is_refused(rig: Rig) -> None:
    loop: list[Any] = []
    loop.append(loop)

    def circular() -> Any:
        return loop

    async def large() -> str:
        return "x" * MOST_RESULT

    async def just_fits() -> str:
        return "x" * (MOST_RESULT - 2)

    error = str(rig.run(circular).error)
    assert "contains itself" in error
    assert len(error) < 200, "the path is cut: 200 levels tell nobody anything"
    result = rig.run(large)
    assert (result.reason, result.retryable) == ("unstorable_result", False)
    assert "65538 bytes as JSON; 65536 can be stored" in str(result.error)
    assert rig.run(just_fits).outcome is Outcome.SUCCEEDED


def test_a_result_whose_methods_raise_is_refused(rig: Rig) -> None:
    class Trap(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("trap")

    def trap() -> Any:
        return Trap(a=1)

    assert rig.run(trap).reason == "unstorable_result"


def test_what_json_holds_has_no_problem() -> None:
    assert why_unstorable({"a": [1, 2.5, None, True, "x", (1,)], 3: {}}) == ""


def test_a_plain_function_that_returns_a_coroutine_is_told_so(rig: Rig) -> None:
    async def real() -> None:
        pass

    def forgot_async() -> Any:
        return real()

    result = rig.run(forgot_async)
    assert result.reason == "unstorable_result"
    assert "a plain function returned it unawaited" in str(result.error)


def test_an_unknown_method_and_wrong_parameters_never_call_anything(rig: Rig) -> None:
    called: list[str] = []

    async def greet(name: str, loud: bool = False) -> None:
        called.append(name)

    rig.handler(greet)
    unknown = rig.result(rig.start("nowhere"))
    assert (unknown.outcome, unknown.reason, unknown.retryable) == (Outcome.FAILED, "unknown_method", False)
    assert unknown.error == "no handler h.nowhere is registered here"
    missing = rig.result(rig.start("greet"))
    assert (missing.outcome, missing.reason, missing.retryable) == (Outcome.FAILED, "invalid_params", False)
    assert missing.error == "h.greet: missing parameter 'name'"
    extra = rig.result(rig.start("greet", params={"name": "Ada", "lood": True}))
    assert extra.error == "h.greet: unknown parameter 'lood' (it takes 'loud', 'name')"
    assert called == []
    assert rig.result(rig.start("greet", params={"name": "Ada"})).outcome is Outcome.SUCCEEDED
    assert called == ["Ada"]


def test_a_handler_may_change_its_nested_parameters_without_changing_the_definition(rig: Rig) -> None:
    def changes(items: list[int], options: dict[str, Any]) -> int:
        items.append(4)
        options["deep"]["x"] = 1
        return len(items)

    params = {"items": [1, 2, 3], "options": {"deep": {}}}
    rig.handler(changes)
    for _ in range(2):
        assert rig.result(rig.start("changes", params=params)).result == "4"
    assert params == {"items": [1, 2, 3], "options": {"deep": {}}}


def test_a_type_error_inside_a_handler_is_the_handlers_error(rig: Rig) -> None:
    async def confused(n: int) -> None:
        len(n)  # type: ignore[arg-type]

    result = rig.run(confused, {"n": 1})
    assert (result.reason, result.retryable) == ("error", True)


PEM = "-----BEGIN-----\n" + "x" * 3000
"""Longer than what is kept of a message: it has to be found before the message is cut."""


def hides(backend: str) -> Rig:
    return Rig(backend, hide=lambda text: text.replace(PEM, "***").replace("hunter2", "***"))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_a_handler_raises_is_stored_without_secrets(backend: str) -> None:
    def plain() -> None:
        raise OSError(f"login failed: hunter2 {PEM}")

    async def group() -> None:
        raise ExceptionGroup("of hunter2", [ValueError(f"{'-' * 195}hunter2"), OSError("hunter2")])

    async def caused() -> None:
        try:
            plain()
        except OSError as error:
            raise RuntimeError(f"{'-' * 995}hunter2") from error

    def key() -> dict[Any, Any]:
        return {("hunter2",): 1}

    with hides(backend) as rig:
        for handler in (plain, group, caused, key):
            error = rig.run(handler).error or ""
            assert "***" in error
            assert "hunter" not in error
            assert "BEGIN" not in error
