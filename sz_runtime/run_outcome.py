"""From what a handler did to the result that the core is told: outcome, reason, JSON text, error text. All bounded."""

import asyncio
import inspect
import json
import math
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final

from sz_protocol.kernel.effects import CancelReason
from sz_protocol.kernel.events import RunResult
from sz_protocol.records import MOST_ERROR, MOST_RESULT, Outcome, Reason
from sz_runtime.live_run import LiveRun, clean
from sz_runtime.run_context import DoNotRetry, RunCancelled

_SUCCEEDED: Final = Outcome.SUCCEEDED  # bound once: a look-up costs as much as a call on Python 3.11
_MESSAGE_LIMIT = 1000
_READ_LIMIT = 64 * 1024
"""Characters of a message that are looked at. Secrets are taken out before it is cut: half of one is one too."""
_FRAMES = 8
_LEAVES = 5
_PATH_LIMIT = 80
_DEPTH = 200
_OURS = ("sz_runtime/executor", "sz_runtime\\executor")
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def returned(live: LiveRun, value: Any, finished_us: int) -> RunResult:
    """The handler came back with a value."""
    start = live.start
    if live.noticed and live.asked is not None:
        return _cancelled(live, live.asked, finished_us, "the handler returned after it was asked to stop")
    if value is None:
        return RunResult(start.row, start.attempt, _SUCCEEDED, "", live.started_us, finished_us)
    try:
        text = _encode(value)
    except BaseException as error:  # whatever a foreign object's methods may raise
        return not_stored(live, _why_not_encoded(value, error, live.board.hide), finished_us)
    if len(text) > MOST_RESULT:
        return not_stored(live, f"the result takes {len(text)} bytes as JSON; {MOST_RESULT} can be stored", finished_us)
    return RunResult(start.row, start.attempt, Outcome.SUCCEEDED, "", live.started_us, finished_us, text)


def raised(live: LiveRun, error: BaseException, finished_us: int) -> RunResult:
    """The handler came back with an exception, its own or the cancellation that was asked for."""
    if live.noticed and live.asked is not None:
        wanted = isinstance(error, RunCancelled) or _is_cancellation(error)
        return _cancelled(live, live.asked, finished_us, None if wanted else describe(error, live.board.hide))
    text = describe(error, live.board.hide)
    return RunResult(
        row=live.start.row,
        attempt=live.start.attempt,
        outcome=Outcome.FAILED,
        reason=Reason.ERROR.value,
        started_us=live.started_us,
        finished_us=finished_us,
        error=f"cancelled, but not by the scheduler: {text}" if _is_cancellation(error) else text,
        retryable=not isinstance(error, DoNotRetry),
    )


def not_stored(live: LiveRun, why: str, finished_us: int) -> RunResult:
    """The handler did its work, but what it returned cannot be kept: doing it again would not help."""
    return RunResult(
        row=live.start.row,
        attempt=live.start.attempt,
        outcome=Outcome.FAILED,
        reason=Reason.UNSTORABLE.value,
        started_us=live.started_us,
        finished_us=finished_us,
        error=clean(live.board.hide(why)),
        retryable=False,
    )


def refused(row: int, attempt: int, reason: Reason, why: str, at_us: int) -> RunResult:
    """The handler was not called, and could not be another time either."""
    return RunResult(
        row=row,
        attempt=attempt,
        outcome=Outcome.FAILED,
        reason=reason.value,
        started_us=None,
        finished_us=at_us,
        error=clean(why),
        retryable=False,
    )


def cancelled_unstarted(row: int, attempt: int, reason: CancelReason, at_us: int) -> RunResult:
    """The handler was not called: the run was cancelled before its turn came."""
    return RunResult(row, attempt, Outcome.CANCELLED, reason.value, None, at_us)


def why_unstorable(value: Any) -> str:
    """Type and path of the first thing in `value` that JSON cannot hold; empty when there is none."""
    for path, problem in _problems(value, "$", 0):
        place = path if len(path) <= _PATH_LIMIT else path[:_PATH_LIMIT] + "..."
        return f"the result cannot be stored as JSON: {place} is {problem}"
    return ""


def describe(error: BaseException, hide: Callable[[str], str]) -> str:
    """Type and message, the innermost frames, and the cause; at most MOST_ERROR characters, and no secrets."""
    try:
        return clean(hide(_described(error, hide)))[:MOST_ERROR]
    except Exception as broken:  # a foreign exception may be broken in any way
        return f"an exception that cannot be described ({type(broken).__name__})"


def _described(error: BaseException, hide: Callable[[str], str]) -> str:
    lines = [_headline(error, hide)]
    innermost = traceback.extract_tb(error.__traceback__, limit=-_FRAMES)
    shown = traceback.format_list([frame for frame in innermost if not _is_ours(frame.filename)])
    lines += [line.rstrip("\n") for line in shown]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        lines.append(f"caused by {_headline(cause, hide)}")
    return "\n".join(lines)


def _why_not_encoded(value: Any, error: BaseException, hide: Callable[[str], str]) -> str:
    try:
        why = why_unstorable(value)
    except BaseException:  # the same foreign methods once more
        why = ""
    return why or f"the result cannot be stored as JSON: {describe(error, hide)}"


def _cancelled(live: LiveRun, reason: CancelReason, finished_us: int, error: str | None) -> RunResult:
    return RunResult(
        row=live.start.row,
        attempt=live.start.attempt,
        outcome=Outcome.CANCELLED,
        reason=reason.value,
        started_us=live.started_us,
        finished_us=finished_us,
        error=error,
    )


def _headline(error: BaseException, hide: Callable[[str], str]) -> str:
    if not isinstance(error, BaseExceptionGroup):
        return f"{_type_name(error)}: {_message(error, hide)}"
    leaves = list(_leaves(error))
    shown = "; ".join(f"{_type_name(leaf)}: {_message(leaf, hide)[:200]}" for leaf in leaves[:_LEAVES])
    more = f"; and {len(leaves) - _LEAVES} more" if len(leaves) > _LEAVES else ""
    return f"{_type_name(error)}: {hide(str(error.message)[:_READ_LIMIT])[:200]}: {shown}{more}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _message(error: BaseException, hide: Callable[[str], str]) -> str:
    try:
        return hide(str(error)[:_READ_LIMIT])[:_MESSAGE_LIMIT]
    except Exception as broken:  # an exception whose own __str__ fails
        return f"(its message cannot be read: {type(broken).__name__})"


def _is_cancellation(error: BaseException) -> bool:
    """A cancellation of either event loop, alone or as all that a group holds."""
    return all(
        isinstance(leaf, asyncio.CancelledError) or type(leaf).__qualname__ == "Cancelled" for leaf in _leaves(error)
    )


def _is_ours(filename: str) -> bool:
    return any(part in filename for part in _OURS)


def _problems(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _DEPTH:
        yield path, f"nested more than {_DEPTH} levels deep (or contains itself)"
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str | int | float | bool | None):
                yield f"{path}[{str(key)[:50]!r}]", f"under a key of type {type(key).__qualname__}"
            else:
                yield from _problems(inner, f"{path}.{str(key)[:50]}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _problems(inner, f"{path}[{index}]", depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"the number {value!r}"
    elif not isinstance(value, str | int | bool | None):
        kind = type(value)
        hint = "; a plain function returned it unawaited: declare it async" if inspect.iscoroutine(value) else ""
        name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        yield path, f"of type {name}{hint}"
