"""Definitions as plain data and as bytes.

The plain form is what stands under `schedules:` in a configuration and what the API takes. Reading is strict and
reports every problem at once. Writing is canonical: defaults are left out, so that a definition that spells a default
out has the same bytes, and the same hash, as one that does not.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, cast

import msgpack
from attrs import fields

from sz_protocol.definition import (
    AwayPolicy,
    Definition,
    Misfire,
    MisfirePolicy,
    Overlap,
    OverlapPolicy,
    Retry,
    Semantics,
)
from sz_protocol.durations import plain_duration
from sz_protocol.kernel.errors import DecodeError, LocalProtocolError
from sz_protocol.triggers import Trigger, TriggerError, Unreadable, trigger_from_wire, trigger_to_wire
from sz_protocol.wire_values import (
    Field,
    Optional,
    Path,
    Problems,
    Word,
    describe,
    nearest,
    quote,
    read_count,
    read_duration,
    read_flag,
    read_labels,
    read_mapping,
    read_name,
    read_plain_mapping,
    read_positive_duration,
)

MAX_PARAMS_BYTES = 256 * 1024
MOST_BESIDE_TRIGGER = 14
"""msgpack counts up to 15 keys of a mapping in one byte."""
MAX_WHY = 1000
RATE_PATTERN = "^([0-9]{1,9}(?:\\.[0-9]{1,9})?)/(s|min|h)$"
OVERLAP_PATTERN = "^(skip|cancel_running|queue|(?:queue|allow)\\([1-9][0-9]{0,5}\\))$"
_RATE = re.compile(RATE_PATTERN.replace("$", r"\Z"))
_LIMITED = re.compile(r"(queue|allow)\(([0-9]{1,9})\)\Z")
_PER_S = {"s": 1, "min": 60, "h": 3600}
_LIMITS = (OverlapPolicy.QUEUE, OverlapPolicy.ALLOW)

_MISFIRE = cast(Misfire, fields(Definition).misfire.default)
_OVERLAP = cast(Overlap, fields(Definition).overlap.default)
_RETRY = cast(Retry, fields(Definition).retry.default)


class DefinitionError(ValueError):
    """Plain data that is no definition. `problems` holds every (path, message), the path from the definition down."""

    def __init__(self, problems: Problems) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, path)) or 'schedule'}: {text}" for path, text in problems))
        self.problems = problems


# --- from plain data -------------------------------------------------------------------------------------------


def definition_from_wire(obj: object) -> Definition:
    """Read a definition from plain data. Raises DefinitionError with all problems."""
    problems: Problems = []
    values = read_mapping(obj, (), problems, FIELDS)
    if values is not None:
        for key in REQUIRED:
            if key not in values and not any(path[:1] == (key,) for path, _ in problems):
                problems.append(((), f'the key "{key}" is missing; {FIELDS[key].doc}'))
    if problems or values is None:
        raise DefinitionError(problems)
    return Definition(**values)


def read_schedule_id(value: Any, path: Path, problems: Problems) -> Any:
    """A name without the sign that separates a schedule from a time in commands (`why SCHEDULE@TIME`)."""
    if type(value) is str and "@" in value:
        problems.append((path, 'holds "@", which separates a schedule from a time in commands; use another sign'))
    return read_name(value, path, problems)


def read_trigger(value: Any, path: Path, problems: Problems) -> Any:
    """A trigger, as `triggers` reads it."""
    try:
        return trigger_from_wire(value)
    except TriggerError as error:
        problems.extend(((*path, *inner), message) for inner, message in error.problems)


def read_params(value: Any, path: Path, problems: Problems) -> Any:
    """Plain values, not more than a message can carry."""
    before = len(problems)
    params = read_plain_mapping(value, path, problems)
    if params and len(problems) == before:
        size = len(msgpack.packb(params))
        if size > MAX_PARAMS_BYTES:
            limit = f"at most {MAX_PARAMS_BYTES // 1024} KiB are carried; pass a reference to the data instead"
            problems.append((path, f"is {size // 1024} KiB, but {limit}"))
    return params


def read_rate(value: Any, path: Path, problems: Problems) -> Any:
    """Runs per second: a number, or text such as "10/s", "30/min"."""
    rate = value
    if type(value) is str:
        match = _RATE.match(value)
        rate = float(match[1]) / _PER_S[match[2]] if match else None
    if type(rate) not in (int, float) or not 0 < rate <= 1e9:
        example = 'a rate is runs per second, above zero, as in 5, "10/s" or "30/min"'
        problems.append((path, f"is {describe(value)}, but {example}"))
        return None
    return float(rate)


def read_misfire(value: Any, path: Path, problems: Problems) -> Any:
    """A policy alone, or a mapping."""
    if type(value) is str:
        policy = _MISFIRE_FIELDS["policy"].read(value, path, problems)
        return _MISFIRE if policy is None else Misfire(policy=policy)
    return Misfire(**(read_mapping(value, path, problems, _MISFIRE_FIELDS) or {}))


def read_overlap(value: Any, path: Path, problems: Problems) -> Any:
    """A policy alone, with its limit in brackets, or a mapping."""
    if type(value) is str:
        match = _LIMITED.match(value)
        found: dict[str, Any] | None = {"policy": match[1], "limit": int(match[2])} if match else {"policy": value}
        if not match and value not in list(OverlapPolicy):
            known = ["skip", "queue(3)", "allow(2)", "cancel_running"]
            problems.append((path, f"{quote(value)} is no overlap policy; {nearest(value, known)}"))
            return _OVERLAP
        value = found
    inner: Problems = []
    values = read_mapping(value, path, inner, _OVERLAP_FIELDS) or {}
    policy = values.get("policy", OverlapPolicy.SKIP)
    if not inner and "limit" in values and policy not in _LIMITS:
        inner.append(((*path, "limit"), f'has no meaning with the policy "{policy}"; it belongs to queue and allow'))
    if not inner and "limit" not in values and policy is OverlapPolicy.ALLOW:
        inner.append((path, "has to say how many runs may be active at once, as in allow(2)"))
    problems.extend(inner)
    return Overlap(**values)


def read_retry(value: Any, path: Path, problems: Problems) -> Any:
    """A mapping."""
    return Retry(**(read_mapping(value, path, problems, _RETRY_FIELDS) or {}))


_MISFIRE_FIELDS = {
    "policy": Field("policy", Word(MisfirePolicy), "skip, run the latest, or run all of what was missed"),
    "grace": Field("grace_us", Optional(read_duration), "how late a fire time may start without being a misfire"),
    "max": Field("max", read_count, "the most missed instants that policy all runs; the latest are kept"),
    "window": Field("window_us", read_duration, "older instants are recorded as missed and never run"),
    "rate": Field("rate_per_s", Optional(read_rate), "at most so many catch-up runs a second"),
}
_OVERLAP_FIELDS = {
    "policy": Field("policy", Word(OverlapPolicy), "what a fire time does while an earlier run is active"),
    "limit": Field("limit", read_count, "how many runs may wait (queue) or be active at once (allow)"),
}
_RETRY_FIELDS = {
    "attempts": Field("attempts", read_count, "how many executions may fail in all (1: no retry)"),
    "base": Field("base_us", read_duration, "the longest first back-off; it doubles with each failure"),
    "max": Field("max_us", read_duration, "the longest back-off of all"),
}
POLICIES: dict[Any, dict[str, Field]] = {
    read_misfire: _MISFIRE_FIELDS,
    read_overlap: _OVERLAP_FIELDS,
    read_retry: _RETRY_FIELDS,
}
"""The keys of each policy by its reader, for the JSON Schema."""

FIELDS = {
    "id": Field("id", read_schedule_id, "names the schedule for ever"),
    "handler_id": Field("handler_id", read_name, 'names the handler that has the method; "*" is any handler'),
    "method": Field("method", read_name, "names what is called at each fire time"),
    "trigger": Field("trigger", read_trigger, 'says when it fires, as in {type: cron, expression: "0 3 * * *"}'),
    "params": Field("params", read_params, "the keyword arguments of the call"),
    "misfire": Field("misfire", read_misfire, "what becomes of fire times that passed unserved"),
    "overlap": Field("overlap", read_overlap, "what becomes of a fire time while an earlier run is active"),
    "retry": Field("retry", read_retry, "what follows a failed execution"),
    "timeout": Field("timeout_us", Optional(read_positive_duration), "bounds one attempt"),
    "deadline": Field("deadline_us", Optional(read_positive_duration), "bounds all attempts of a run"),
    "spread": Field("spread_us", read_duration, "the window of the stable offset from the fire time"),
    "semantics": Field("semantics", Word(Semantics), "whether a run whose executor vanished is executed again"),
    "labels": Field("labels", read_labels, "names and text to select schedules by"),
    "tags": Field("tags", read_labels, "names and text that the handler which executes has to have"),
    "away": Field("away", Word(AwayPolicy), "what a fire time does while the handler is away"),
    "exclusive": Field("exclusive", read_flag, "whether a run stops itself before another one could begin"),
}
REQUIRED = ("id", "handler_id", "method", "trigger")


# --- to plain data and bytes -----------------------------------------------------------------------------------


def definition_to_wire(d: Definition) -> dict[str, Any]:
    """The canonical plain form: defaults left out, durations as `plain_duration` has them."""
    wire = {"id": d.id, "handler_id": d.handler_id, "method": d.method, "trigger": trigger_to_wire(d.trigger)}
    return wire | _without_trigger(d)


def _without_trigger(d: Definition) -> dict[str, Any]:
    wire: dict[str, Any] = {"id": d.id, "handler_id": d.handler_id, "method": d.method}
    if d.params:
        wire["params"] = dict(d.params)
    # Identity first: nearly every definition has the default objects, and comparing records costs.
    if d.misfire is not _MISFIRE and d.misfire != _MISFIRE:
        wire["misfire"] = _misfire_to_wire(d.misfire)
    if d.overlap is not _OVERLAP and d.overlap.policy is not OverlapPolicy.SKIP:
        wire["overlap"] = _overlap_to_wire(d.overlap)
    if d.retry is not _RETRY and d.retry != _RETRY:
        wire["retry"] = _retry_to_wire(d.retry)
    if d.timeout_us is not None:
        wire["timeout"] = plain_duration(d.timeout_us)
    if d.deadline_us is not None:
        wire["deadline"] = plain_duration(d.deadline_us)
    if d.spread_us:
        wire["spread"] = plain_duration(d.spread_us)
    if d.semantics is not Semantics.AT_LEAST_ONCE:
        wire["semantics"] = d.semantics.value
    if d.labels:
        wire["labels"] = dict(d.labels)
    if d.tags:
        wire["tags"] = dict(d.tags)
    if d.away is not AwayPolicy.WAIT:
        wire["away"] = d.away.value
    if d.exclusive:
        wire["exclusive"] = True
    return wire


def _misfire_to_wire(misfire: Misfire) -> dict[str, Any]:
    wire: dict[str, Any] = {}
    if misfire.policy is not _MISFIRE.policy:
        wire["policy"] = misfire.policy.value
    if misfire.grace_us is not None:
        wire["grace"] = plain_duration(misfire.grace_us)
    if misfire.max != _MISFIRE.max:
        wire["max"] = misfire.max
    if misfire.window_us != _MISFIRE.window_us:
        wire["window"] = plain_duration(misfire.window_us)
    if misfire.rate_per_s is not None:
        wire["rate"] = float(misfire.rate_per_s)
    return wire


def _overlap_to_wire(overlap: Overlap) -> str:
    return f"{overlap.policy}({overlap.limit})" if overlap.policy in _LIMITS else overlap.policy.value


def _retry_to_wire(retry: Retry) -> dict[str, Any]:
    wire: dict[str, Any] = {}
    if retry.attempts != _RETRY.attempts:
        wire["attempts"] = retry.attempts
    if retry.base_us != _RETRY.base_us:
        wire["base"] = plain_duration(retry.base_us)
    if retry.max_us != _RETRY.max_us:
        wire["max"] = plain_duration(retry.max_us)
    return wire


def encode_definition(d: Definition) -> bytes:
    """Canonical bytes: msgpack of the plain form with the keys of every mapping sorted; of one that could not be read,
    the bytes that it was read from. Raises LocalProtocolError for a definition, made by a program, whose parameters
    are no plain values."""
    if isinstance(d.trigger, Unreadable):
        return d.trigger.data
    try:
        plain = _without_trigger(d)
        if len(plain) > MOST_BESIDE_TRIGGER:
            return _pack(definition_to_wire(d))
        # "trigger" is the last key in order: its bytes, shared by all that fire alike, go behind the others, and the
        # first byte, which counts the keys, counts one more.
        most = _pack(plain)
        return bytes((most[0] + 1,)) + most[1:] + _packed_trigger(d.trigger)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalProtocolError(f"schedule {quote(d.id)} cannot be stored: {error}") from error


@lru_cache(maxsize=1024)
def _packed_trigger(trigger: Trigger) -> bytes:
    return _pack({"trigger": trigger_to_wire(trigger)})[1:]


def _pack(mapping: Mapping[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(_sorted(mapping))
    return packed


def _sorted(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _sorted_inside(mapping[key]) for key in sorted(mapping)}


def _sorted_inside(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int:
        return value
    if isinstance(value, Mapping):
        return _sorted(value)
    if kind is list or kind is tuple:
        return [_sorted_inside(item) for item in value]
    return value


def decode_definition(data: bytes) -> Definition:
    """Read back what `encode_definition` wrote. Raises DecodeError for anything else."""
    try:
        return definition_from_wire(msgpack.unpackb(data))
    except DefinitionError as error:
        raise DecodeError(f"stored definition: {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DecodeError(f"stored definition: not the expected bytes ({error})") from error


def decode_stored(schedule_id: str, data: bytes) -> Definition:
    """Like `decode_definition`, but one that this version cannot read comes back too, as a definition that cannot
    advance: so it stands still alone, and nothing of it is lost."""
    try:
        return decode_definition(data)
    except DecodeError as error:
        why = f"this version cannot read it: {error}"[:MAX_WHY]
    return Definition(schedule_id, *_names_in(data), trigger=Unreadable(data, why))


def _names_in(data: bytes) -> tuple[str, str]:
    """The handler id and the method of a definition that cannot be read, as far as they can be found in it."""
    try:
        fields_of = msgpack.unpackb(data)
    except (ValueError, TypeError, RecursionError):
        return "", ""
    found = [fields_of.get(key) if isinstance(fields_of, dict) else None for key in ("handler_id", "method")]
    handler_id, method = (name if isinstance(name, str) else "" for name in found)
    return handler_id, method


def definition_hash(d: Definition) -> bytes:
    """16 bytes, equal exactly when the canonical bytes are."""
    return blake2b(encode_definition(d), digest_size=16).digest()
