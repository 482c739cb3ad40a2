"""Whatever bytes arrive: a message or a DecodeError. Whatever message leaves: it comes back equal."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgpack
from attrs import fields
from hypothesis import given, settings
from hypothesis import strategies as st

from sz_protocol.codec import decode, encode
from sz_protocol.definition import Definition
from sz_protocol.definition_wire import definition_from_wire
from sz_protocol.kernel.errors import DecodeError
from sz_protocol.messages import TAGS, TO_CONTROL_CLIENT, TO_CONTROL_SERVER, Ask, Told

EVERYTHING = tuple(TAGS)
FILE = Path(__file__).parents[2] / "specs" / "vectors" / "wire.json"
FRAMES = [bytes.fromhex(vector["hex"]) for vector in json.loads(FILE.read_text(encoding="utf-8"))]
INTS = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(max_size=20)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), INTS, TEXT, st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)
DEFINITIONS = st.builds(
    lambda name, seconds: definition_from_wire(
        {"id": name, "handler_id": "h", "method": "m", "trigger": {"type": "interval", "seconds": seconds}}
    ),
    st.text("abcdefgh-", min_size=1, max_size=12),
    st.integers(1, 10_000),
)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation."""
    inner = get_args(hint)
    if get_origin(hint) is tuple:
        if inner[1:] == (...,):
            return st.lists(values(inner[0]), max_size=3).map(tuple)
        return st.tuples(*map(values, inner))
    if get_origin(hint) is not None and issubclass(get_origin(hint) or object, Mapping):
        return st.dictionaries(TEXT, PLAIN, max_size=3) if inner[1] is Any else st.dictionaries(*map(values, inner))
    if inner:
        return st.one_of(*map(values, inner))
    simple: dict[Any, st.SearchStrategy[Any]] = {
        NoneType: st.none(), bool: st.booleans(), int: INTS, str: TEXT, Definition: DEFINITIONS,
    }  # fmt: skip
    if hint in simple:
        return simple[hint]
    if issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    hints = get_type_hints(hint)
    return st.builds(hint, **{attribute.name: values(hints[attribute.name]) for attribute in fields(hint)})


def attempt(data: bytes) -> None:
    """Decode; only the one error may come out, and what was understood can be said again."""
    try:
        message = decode(data, EVERYTHING)
    except DecodeError:
        return
    assert decode(encode(message), EVERYTHING) == message


@settings(max_examples=300, deadline=None)
@given(st.one_of(values(Ask), values(Told)))
def test_every_message_comes_back_equal(message: Ask | Told) -> None:
    assert decode(encode(message), TO_CONTROL_SERVER + TO_CONTROL_CLIENT) == message


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_decode_error(data: bytes) -> None:
    attempt(data)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(FRAMES), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4), st.data())
def test_mutated_frames_raise_nothing_but_decode_error(
    frame: bytes, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    mutant = bytearray(frame)
    for at, byte in changes:
        if mutant:
            mutant[at % len(mutant)] = byte
    cut = data.draw(st.integers(0, len(mutant)))
    attempt(bytes(mutant))
    attempt(bytes(mutant[:cut]))
    attempt(bytes(mutant[cut:] + mutant[:cut]))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([*TAGS.values(), "nothing"]), st.dictionaries(TEXT, PLAIN, max_size=2), st.data())
def test_any_plain_value_in_any_field_raises_nothing_but_decode_error(
    tag: str, extra: dict[str, Any], data: st.DataObject
) -> None:
    record = next((record for record, name in TAGS.items() if name == tag), None)
    names = [attribute.name for attribute in fields(record)] if record else []
    inner = st.one_of(PLAIN, st.tuples(st.sampled_from(list(TAGS.values())), PLAIN).map(list))
    wire = {name: data.draw(inner) for name in names if data.draw(st.booleans())} | extra
    attempt(msgpack.packb([1, tag, wire]))
