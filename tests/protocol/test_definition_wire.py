"""Definitions as plain data and bytes: strict, all problems at once, canonical (pains 16, 17: stable hashes)."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from sz_protocol.definition_wire import (
    FIELDS,
    DefinitionError,
    decode_definition,
    decode_stored,
    definition_from_wire,
    definition_hash,
    definition_to_wire,
    encode_definition,
)
from sz_protocol.durations import MAX_DURATION_US, format_duration, parse_duration, plain_duration
from sz_protocol.kernel.errors import DecodeError, LocalProtocolError
from sz_protocol.triggers import CannotAdvance, next_fire, trigger_from_wire

SIMPLE: dict[str, Any] = {
    "id": "nightly",
    "handler_id": "reports",
    "method": "build",
    "trigger": {"type": "cron", "expression": "0 3 * * *"},
}
FULL: dict[str, Any] = SIMPLE | {
    "params": {"region": "eu", "sizes": [1, 2.5, None, True], "deep": {"a": {"b": "c"}}},
    "misfire": {"policy": "all", "grace": "1m", "max": 7, "window": "2h", "rate": "30/min"},
    "overlap": "queue(3)",
    "retry": {"attempts": 4, "base": "250ms", "max": "1h30m"},
    "timeout": "5m",
    "deadline": 3600,
    "spread": 0.5,
    "semantics": "at_most_once",
    "labels": {"team": "data"},
    "tags": {"site": "north"},
    "away": "elsewhere",
    "exclusive": True,
}


def problems_of(obj: object) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(DefinitionError) as caught:
        definition_from_wire(obj)
    return caught.value.problems


def test_every_key_is_read() -> None:
    definition = definition_from_wire(FULL)
    assert definition.misfire == Misfire(MisfirePolicy.ALL, 60_000_000, 7, 7_200_000_000, 0.5)
    assert definition.overlap == Overlap(OverlapPolicy.QUEUE, 3)
    assert definition.retry == Retry(4, 250_000, 5_400_000_000)
    assert (definition.timeout_us, definition.deadline_us, definition.spread_us) == (
        300_000_000,
        3_600_000_000,
        500_000,
    )
    assert definition.semantics is Semantics.AT_MOST_ONCE
    assert definition.labels == {"team": "data"}
    assert (definition.tags, definition.away, definition.exclusive) == ({"site": "north"}, AwayPolicy.ELSEWHERE, True)
    assert definition.params == FULL["params"]
    assert set(FULL) == set(FIELDS)


def test_defaults_are_those_of_the_record() -> None:
    trigger = trigger_from_wire(SIMPLE["trigger"])
    assert definition_from_wire(SIMPLE) == Definition("nightly", "reports", "build", trigger)


@pytest.mark.parametrize(
    ("written", "overlap"),
    [
        ("skip", Overlap()),
        ("queue", Overlap(OverlapPolicy.QUEUE, 1)),
        ("queue(3)", Overlap(OverlapPolicy.QUEUE, 3)),
        ("allow(2)", Overlap(OverlapPolicy.ALLOW, 2)),
        ("cancel_running", Overlap(OverlapPolicy.CANCEL_RUNNING)),
        ({"policy": "allow", "limit": 2}, Overlap(OverlapPolicy.ALLOW, 2)),
    ],
)
def test_overlap_in_each_spelling(written: object, overlap: Overlap) -> None:
    assert definition_from_wire(SIMPLE | {"overlap": written}).overlap == overlap


@pytest.mark.parametrize(("written", "rate"), [(10, 10.0), (0.5, 0.5), ("10/s", 10.0), ("30/min", 0.5), ("36/h", 0.01)])
def test_rates(written: object, rate: float) -> None:
    assert definition_from_wire(SIMPLE | {"misfire": {"rate": written}}).misfire.rate_per_s == rate


def test_a_misfire_policy_alone_and_empty_values_where_they_mean_no_limit() -> None:
    assert definition_from_wire(SIMPLE | {"misfire": "skip"}).misfire == Misfire(MisfirePolicy.SKIP)
    empty = {"misfire": {"grace": None, "rate": None}, "timeout": None, "deadline": None}
    assert definition_from_wire(SIMPLE | empty) == definition_from_wire(SIMPLE)


BAD: list[tuple[dict[str, Any], tuple[str | int, ...], str]] = [
    ({"methd": "x"}, ("methd",), 'did you mean "method"?'),
    ({"id": 3}, ("id",), "the number 3, but has to be text; quote it"),
    ({"id": ""}, ("id",), "empty"),
    ({"id": "a@b"}, ("id",), '"@"'),
    ({"id": " a"}, ("id",), "space"),
    ({"id": "a\n"}, ("id",), "invisible"),
    ({"id": "x" * 201}, ("id",), "at most 200"),
    ({"handler_id": True}, ("handler_id",), "true, but has to be text"),
    ({"method": None}, ("method",), "empty, but has to be text"),
    ({"params": []}, ("params",), "has to be a mapping"),
    ({"params": {3: 4}}, ("params", "the number 3"), "quote it"),
    ({"params": {"a": [float("inf")]}}, ("params", "a", 0), "no finite number"),
    ({"params": {"a": 1 << 64}}, ("params", "a"), "64 bits"),
    ({"params": {"a": "\ud800"}}, ("params", "a"), "surrogate"),
    ({"params": {"a": b"x"}}, ("params", "a"), "no plain value"),
    ({"params": {"a": "x" * 300_000}}, ("params",), "256 KiB"),
    ({"misfire": "never"}, ("misfire",), "known here: skip, latest, all"),
    ({"misfire": {"polcy": "all"}}, ("misfire", "polcy"), '"policy"'),
    ({"misfire": {"max": "3"}}, ("misfire", "max"), "take away the quotes"),
    ({"misfire": {"max": True}}, ("misfire", "max"), "true, but has to be a whole number"),
    ({"misfire": {"max": 2.0}}, ("misfire", "max"), "whole number"),
    ({"misfire": {"max": 0}}, ("misfire", "max"), "from 1"),
    ({"misfire": {"grace": "5 minutes"}}, ("misfire", "grace"), '"5m"'),
    ({"misfire": {"rate": "10/day"}}, ("misfire", "rate"), '"30/min"'),
    ({"misfire": {"rate": 0}}, ("misfire", "rate"), "above zero"),
    ({"overlap": "alow(2)"}, ("overlap",), '"allow(2)"'),
    ({"overlap": "allow"}, ("overlap",), "allow(2)"),
    ({"overlap": "queue(0)"}, ("overlap", "limit"), "from 1"),
    ({"overlap": {"policy": "skip", "limit": 2}}, ("overlap", "limit"), "belongs to queue and allow"),
    ({"overlap": {"policy": "queue", "limt": 2}}, ("overlap", "limt"), '"limit"'),
    ({"retry": 3}, ("retry",), "mapping of attempts, base, max"),
    ({"retry": {"attempts": 0}}, ("retry", "attempts"), "from 1"),
    ({"retry": {"base": "-1s"}}, ("retry", "base"), "negative"),
    ({"timeout": 0}, ("timeout",), "zero"),
    ({"timeout": True}, ("timeout",), "true; a duration is"),
    ({"deadline": "40000d"}, ("deadline",), "hundred years"),
    ({"spread": float("nan")}, ("spread",), "hundred years"),
    ({"semantics": "exactly_once"}, ("semantics",), "at_least_once"),
    ({"labels": {"a": 3}}, ("labels", "a"), "quote it"),
    ({"trigger": 5}, ("trigger",), ""),
    ({"trigger": {"type": "cron", "expression": "61 * * * *"}}, ("trigger",), ""),
]


@pytest.mark.parametrize(("change", "path", "message"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_says_where_and_what_would_be_right(change: Any, path: Any, message: str) -> None:
    (problem,) = problems_of(SIMPLE | change)
    assert problem[0][: len(path)] == path
    assert message in problem[1]


def test_dates_in_params_ask_for_quotes() -> None:
    class Date:
        def isoformat(self) -> str:
            return "2024-01-01"

    (problem,) = problems_of(SIMPLE | {"params": {"day": Date()}})
    assert problem[0] == ("params", "day")
    assert "quote it" in problem[1]


def test_params_that_nest_too_deep_are_refused() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    (problem,) = problems_of(SIMPLE | {"params": {"a": deep}})
    assert "deeper than 12" in problem[1]


def test_all_problems_are_reported_in_one_pass() -> None:
    found = problems_of(dict.fromkeys(FIELDS, object()))
    assert {path[0] for path, _ in found} == set(FIELDS)
    assert [path for path, _ in problems_of({})] == [()] * 4
    assert len(problems_of("text")) == 1


def test_the_definition_does_not_share_its_params_with_the_source() -> None:
    source = SIMPLE | {"params": {"a": [1]}, "labels": {"k": "v"}}
    definition = definition_from_wire(source)
    before = definition_hash(definition)
    source["params"]["a"].append(2)
    source["labels"]["k"] = "w"
    assert definition_hash(definition) == before


# --- canonical form --------------------------------------------------------------------------------------------


def test_pain_17_the_hash_depends_on_meaning_alone() -> None:
    spelled_out = SIMPLE | {
        "params": {},
        "misfire": {"policy": "latest", "max": 100, "window": "1d"},
        "overlap": {"policy": "skip"},
        "retry": {"attempts": 1, "base": "1s", "max": "5m"},
        "spread": 0,
        "semantics": "at_least_once",
        "labels": {},
    }
    assert definition_hash(definition_from_wire(spelled_out)) == definition_hash(definition_from_wire(SIMPLE))
    one = definition_from_wire(SIMPLE | {"params": {"a": 1, "b": {"x": 1, "y": 2}}})
    other = definition_from_wire(dict(reversed((SIMPLE | {"params": {"b": {"y": 2, "x": 1}, "a": 1}}).items())))
    assert encode_definition(one) == encode_definition(other)


@pytest.mark.parametrize("key", sorted(set(FULL) - set(SIMPLE)))
def test_pain_17_the_hash_sees_every_key(key: str) -> None:
    changed = definition_from_wire(SIMPLE | {key: FULL[key]})
    assert definition_hash(changed) != definition_hash(definition_from_wire(SIMPLE))
    assert len(definition_hash(changed)) == 16


def test_the_hash_is_the_same_in_every_process() -> None:
    assert definition_to_wire(definition_from_wire(SIMPLE)) == SIMPLE
    encoded = encode_definition(definition_from_wire(FULL))
    assert list(msgpack.unpackb(encoded)) == sorted(FULL)


def test_what_a_program_made_and_cannot_be_stored_is_refused() -> None:
    trigger = trigger_from_wire(SIMPLE["trigger"])
    with pytest.raises(LocalProtocolError, match='"x" cannot be stored'):
        encode_definition(Definition("x", "h", "m", trigger, params={"a": object()}))


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="@", exclude_categories=("C", "Z")), min_size=1, max_size=20
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
DURATIONS = st.integers(0, 10**15)
COUNTS = st.integers(1, 1_000_000)
TRIGGERS = st.sampled_from(
    [
        trigger_from_wire({"type": "cron", "expression": "*/5 * * * *"}),
        trigger_from_wire({"type": "cron", "expression": "0 3 * * 1", "timezone": "Europe/Berlin"}),
        trigger_from_wire({"type": "interval", "minutes": 7}),
    ]
)
DEFINITIONS = st.builds(
    Definition,
    id=NAMES.filter(str.isprintable),
    handler_id=NAMES.filter(str.isprintable),
    method=NAMES.filter(str.isprintable),
    trigger=TRIGGERS,
    params=st.dictionaries(st.text(st.characters(codec="utf-8")), PLAIN, max_size=4),
    misfire=st.builds(
        Misfire,
        policy=st.sampled_from(MisfirePolicy),
        grace_us=st.none() | DURATIONS,
        max=COUNTS,
        window_us=DURATIONS,
        rate_per_s=st.none() | st.floats(1e-9, 1e9),
    ),
    overlap=st.builds(Overlap, st.sampled_from([OverlapPolicy.QUEUE, OverlapPolicy.ALLOW]), COUNTS)
    | st.sampled_from([Overlap(), Overlap(OverlapPolicy.CANCEL_RUNNING)]),
    retry=st.builds(Retry, attempts=COUNTS, base_us=DURATIONS, max_us=DURATIONS),
    timeout_us=st.none() | DURATIONS.filter(bool),
    deadline_us=st.none() | DURATIONS.filter(bool),
    spread_us=DURATIONS,
    semantics=st.sampled_from(Semantics),
    labels=st.dictionaries(NAMES.filter(str.isprintable), st.text("abc é", max_size=5), max_size=3),
)


@settings(deadline=None)
@given(DEFINITIONS)
def test_round_trip(definition: Definition) -> None:
    encoded = encode_definition(definition)
    assert decode_definition(encoded) == definition
    assert encode_definition(decode_definition(encoded)) == encoded
    assert definition_from_wire(definition_to_wire(definition)) == definition
    assert list(msgpack.unpackb(encoded).items()) == sorted(definition_to_wire(definition).items())


@settings(deadline=None)
@given(st.binary(max_size=60) | PLAIN.map(msgpack.packb), st.integers(0, 200), st.integers(0, 255))
def test_bytes_that_are_no_definition_raise_decode_error_alone(junk: bytes, at: int, byte: int) -> None:
    good = bytearray(encode_definition(definition_from_wire(FULL)))
    good[at % len(good)] = byte
    for data in (junk, bytes(good), bytes(good[: at % len(good)])):
        try:
            again = decode_definition(data)
        except DecodeError:
            continue
        assert isinstance(again, Definition)


@pytest.mark.parametrize("data", [b"", b"\x91" * 100_000, b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc7\x01\x05a", b"\x80"])
def test_hostile_bytes(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_definition(data)


# --- durations -------------------------------------------------------------------------------------------------


WRITTEN = {"250ms": 250_000, "30s": 30_000_000, "5m": 300_000_000, "2h": 7_200_000_000, "1d": 86_400_000_000}
WRITTEN |= {"1h30m": 5_400_000_000, "1.5h": 5_400_000_000, "7us": 7, "2w": 14 * 86_400_000_000, "0s": 0}


@pytest.mark.parametrize(("written", "us"), [*WRITTEN.items(), (30, 30_000_000), (0.25, 250_000), (0, 0)])
def test_durations(written: object, us: int) -> None:
    assert parse_duration(written) == us


@pytest.mark.parametrize(
    "written",
    [True, None, "", "5", "30m1h", "1e3", "5 m", "5M", "1m1m", "٣s", "5s\n", 10**400, -(10**400), [], "9" * 50],
)
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(written)


@given(st.integers(0, MAX_DURATION_US))
def test_durations_round_trip(us: int) -> None:
    assert parse_duration(plain_duration(us)) == us
    assert parse_duration(format_duration(us)) == us


@pytest.mark.parametrize(
    ("data", "names", "why"),
    [
        (b"\xc1", ("", ""), "not the expected bytes"),
        (b"", ("", ""), "not the expected bytes"),
        (msgpack.packb([1]), ("", ""), "a mapping"),
        (msgpack.packb({"handler_id": "h", "method": 7, "trigger": {}}), ("h", ""), 'the key "id" is missing'),
        (
            msgpack.packb({"id": "s", "handler_id": "h", "method": "m", "trigger": {"type": "lunar"}}),
            ("h", "m"),
            "lunar",
        ),
        (
            msgpack.packb(
                {
                    "id": "s",
                    "handler_id": "h",
                    "method": "m",
                    "trigger": {"type": "cron", "expression": "0 5 * * *", "timezone": "Europe/Atlantis"},
                }
            ),
            ("h", "m"),
            "Europe/Atlantis",
        ),
    ],
)
def test_a_stored_definition_that_cannot_be_read_comes_back_as_one_that_cannot_advance(
    data: bytes, names: tuple[str, str], why: str
) -> None:
    definition = decode_stored("s", data)
    assert (definition.id, definition.handler_id, definition.method) == ("s", *names)
    assert encode_definition(definition) == data
    with pytest.raises(CannotAdvance) as stuck:
        next_fire(definition.trigger, 0)
    assert str(stuck.value).startswith("this version cannot read it: stored definition: ")
    assert why in str(stuck.value)
    assert decode_stored("s", encode_definition(definition)) == definition


def test_a_stored_definition_that_can_be_read_is_itself() -> None:
    definition = definition_from_wire(
        {"id": "s", "handler_id": "h", "method": "m", "trigger": {"type": "interval", "seconds": 1}}
    )
    assert decode_stored("s", encode_definition(definition)) == definition
