"""Messages to bytes and back: msgpack, strictly typed by the annotations of the records in `messages`.

A frame is one msgpack array `[version, tag, fields]`, `fields` a map from field name to value. A field that takes one
of several records holds `[tag, fields]`. A definition travels as its canonical bytes, whose hash is its identity.
Whatever else arrives raises DecodeError: nothing is converted, nothing is guessed.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgpack
from attrs import NOTHING, fields, frozen, has

from sz_protocol.definition import Definition
from sz_protocol.definition_wire import decode_definition, encode_definition
from sz_protocol.kernel.errors import DecodeError, LocalProtocolError
from sz_protocol.messages import TAGS, WIRE_VERSION
from sz_protocol.wire_values import Problems, describe, quote, read_plain_mapping

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 16
MAX_ITEMS = 65_536
"""Of one array or map."""
MAX_CONTAINERS = 100_000
"""Arrays and maps in one frame: an empty one is a byte on the wire and sixty in memory."""
_INT64 = 1 << 63

_NAMED = {tag: record for record, tag in TAGS.items()}


@frozen
class Form:
    """How one type is written and read. `text` is what the specs call it; `free`: its values decide how deep they
    nest, not the type."""

    text: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    free: bool = False


def encode(message: Any) -> bytes:
    """The frame of a message. Raises LocalProtocolError for one that no peer would take."""
    record: Any = type(message)
    try:
        tag, form = TAGS[record], _record(record)
        wire = [WIRE_VERSION, tag, form.write(message)]
        data: bytes = msgpack.packb(wire)
        if form.free:
            _check_depth(wire)
    except KeyError:
        raise LocalProtocolError(f"{record.__name__} is no message") from None
    except (DecodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalProtocolError(f"{record.__name__} cannot be sent: {error}") from error
    if len(data) > MAX_BYTES:
        raise LocalProtocolError(f"{record.__name__} cannot be sent: {len(data)} bytes, but {MAX_BYTES} are the limit")
    return data


def decode(data: bytes, expected: Iterable[type]) -> Any:
    """The message in a frame, one of the `expected` classes. Raises DecodeError, and nothing else."""
    frame = _unpack(data)
    if type(frame) is not list or len(frame) != 3:
        raise DecodeError(f"a frame is [version, tag, fields], not {describe(frame)}")
    version, tag, body = frame
    if type(version) is not int or version != WIRE_VERSION:
        raise DecodeError(f"wire version {_shown(version)} is not spoken here; {WIRE_VERSION} is")
    record = _NAMED.get(tag) if type(tag) is str else None
    if record is None or record not in expected:
        raise DecodeError(f"{_shown(tag)} is no message for this link")
    return _record(record).read(body)


def _unpack(data: bytes) -> Any:
    """Plain values within the limits; keys are text and stand once."""
    if len(data) > MAX_BYTES:
        raise DecodeError(f"a frame of {len(data)} bytes, but {MAX_BYTES} are the limit")
    left = MAX_CONTAINERS

    def on_map(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        found = dict(on_array(pairs))
        if len(found) != len(pairs):
            raise DecodeError("a map has a key twice")
        for key in found:
            if type(key) is not str:
                raise DecodeError("a map has a key that is no text")
        return found

    def on_array(items: list[Any]) -> list[Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise DecodeError(f"more than {MAX_CONTAINERS} arrays and maps")
        return items

    try:
        value = msgpack.unpackb(
            data,
            object_pairs_hook=on_map,
            list_hook=on_array,
            ext_hook=_no_ext,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except DecodeError:
        raise
    except (ValueError, TypeError, RecursionError, MemoryError, OverflowError) as error:
        raise DecodeError(f"no msgpack of ours: {str(error)[:100] or type(error).__name__}") from error
    if MAX_CONTAINERS - left > MAX_DEPTH:  # So few cannot be nested deeper; most messages are small.
        _check_depth(value)
    return value


def _no_ext(code: int, data: bytes) -> Any:
    raise DecodeError("extension types are not spoken here")


def _check_depth(value: Any) -> None:
    """Level by level, so that no nesting can exhaust our own stack."""
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for item in level:
            if type(item) is list:
                inner += item
            elif type(item) is dict:
                inner += item.values()
        level = [item for item in inner if type(item) is list or type(item) is dict]
        depth += 1
        if level and depth >= MAX_DEPTH:
            raise DecodeError(f"nested deeper than {MAX_DEPTH} levels")


def _shown(value: object) -> str:
    return quote(value) if type(value) is str else describe(value)


# --- one form for each type of annotation ------------------------------------------------------------------------


@cache
def form_of(hint: Any) -> Form:
    """The form of an annotation. Raises TypeError for one that the wire has no form for."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _optional(inner) if NoneType in inner else _choice(inner)
    if origin is tuple:
        return _sequence(form_of(inner[0])) if inner[1:] == (...,) else _pair(tuple(map(form_of, inner)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _PLAIN if inner[1] is Any else _mapping(form_of(inner[0]), form_of(inner[1]))
    if hint in _SCALARS:
        return _SCALARS[hint]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _word(hint)
    if has(hint):
        return _record(hint)
    raise TypeError(f"the wire has no form for {hint}")


def _exactly(kind: type, text: str) -> Form:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise DecodeError(f"is {describe(value)}, but has to be {text}")
        return value

    return Form(text, check, check)


def _read_int(value: Any) -> Any:
    if type(value) is not int:
        raise DecodeError(f"is {describe(value)}, but has to be a whole number")
    if not -_INT64 <= value < _INT64:
        raise DecodeError("is beyond 64 bits with a sign")
    return value


def _read_definition(value: Any) -> Definition:
    if type(value) is not bytes:
        raise DecodeError(f"is {describe(value)}, but has to be the bytes of a definition")
    return decode_definition(value)


def _read_plain(value: Any) -> Any:
    problems: Problems = []
    plain = read_plain_mapping(value, (), problems)
    if problems:
        path, message = problems[0]
        raise DecodeError(" ".join(("".join(f"[{part}]" for part in path), message)).lstrip())
    return plain


_PLAIN = Form("map from text to plain values", lambda value: _read_plain(dict(value)), _read_plain, free=True)
_SCALARS: Mapping[Any, Form] = {
    bool: _exactly(bool, "true or false"),
    str: _exactly(str, "text"),
    int: Form("integer", _read_int, _read_int),
    Definition: Form("canonical bytes of a definition", encode_definition, _read_definition),
}


def _word(kind: type[StrEnum]) -> Form:
    words = {str(member): member for member in kind}

    def read(value: Any) -> Any:
        found = words.get(value) if type(value) is str else None
        if found is None:
            raise DecodeError(f"is {_shown(value)}, but has to be one of {', '.join(words)}")
        return found

    return Form(" \\| ".join(f'"{word}"' for word in words), lambda member: kind(member).value, read)


def _optional(inner: tuple[Any, ...]) -> Form:
    form = form_of(Union[tuple(hint for hint in inner if hint is not NoneType)])  # noqa: UP007 - made at run time
    return Form(
        f"{form.text}, or nil",
        lambda value: None if value is None else form.write(value),
        lambda value: None if value is None else form.read(value),
        form.free,
    )


def _sequence(form: Form) -> Form:
    def read(value: Any) -> Any:
        if type(value) is not list:
            raise DecodeError(f"is {describe(value)}, but has to be an array")
        return tuple(_each(form, enumerate(value)))

    return Form(f"array of {form.text}", lambda items: [form.write(item) for item in items], read, form.free)


def _pair(forms: tuple[Form, ...]) -> Form:
    def read(value: Any) -> Any:
        if type(value) is not list or len(value) != len(forms):
            raise DecodeError(f"is {describe(value)}, but has to be an array of {len(forms)}")
        return tuple(form.read(item) for form, item in zip(forms, value, strict=True))

    def write(items: Any) -> list[Any]:
        return [form.write(item) for form, item in zip(forms, items, strict=True)]

    return Form(f"[{', '.join(form.text for form in forms)}]", write, read, any(form.free for form in forms))


def _mapping(key: Form, item: Form) -> Form:
    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise DecodeError(f"is {describe(value)}, but has to be a map")
        return {key.read(name): inner for name, inner in zip(value, _each(item, value.items()), strict=True)}

    def write(mapping: Any) -> dict[Any, Any]:
        return {key.write(name): item.write(value) for name, value in mapping.items()}

    return Form(f"map from {key.text} to {item.text}", write, read, item.free)


def _each(form: Form, items: Iterable[tuple[Any, Any]]) -> Iterable[Any]:
    for place, item in items:
        try:
            yield form.read(item)
        except DecodeError as error:
            raise DecodeError(f"[{place if type(place) is int else _shown(place)}] {error}") from None


def _choice(records: tuple[type, ...]) -> Form:
    """One of several records: `[tag, fields]`."""
    forms = {TAGS[record]: _record(record) for record in records}

    def read(value: Any) -> Any:
        if type(value) is not list or len(value) != 2:
            raise DecodeError(f"is {describe(value)}, but has to be [tag, fields]")
        form = forms.get(value[0]) if type(value[0]) is str else None
        if form is None:
            raise DecodeError(f"is tagged {_shown(value[0])}, but has to be one of {', '.join(forms)}")
        return form.read(value[1])

    def write(record: Any) -> list[Any]:
        tag = TAGS[type(record)]
        return [tag, forms[tag].write(record)]

    text = "[tag, fields] of " + ", ".join(f"`{tag}`" for tag in forms)
    return Form(text, write, read, any(form.free for form in forms.values()))


@frozen
class Slot:
    """One field of a record: its form, and its default where it has one (it is left out while it holds that)."""

    name: str
    form: Form
    default: Any = NOTHING


@cache
def slots(record: type) -> tuple[Slot, ...]:
    """The fields of a record, in order."""
    hints = get_type_hints(record)
    found = []
    for attribute in fields(record):
        default = attribute.default
        if default is not NOTHING and hasattr(default, "factory"):
            default = default.factory()
        found.append(Slot(attribute.name, form_of(hints[attribute.name]), default))
    return tuple(found)


@cache
def _record(record: Any) -> Form:
    # Unpacked once: every message is read and written by these loops.
    readers = [(slot.name, slot.form.read, slot.default) for slot in slots(record)]
    writers = [(slot.name, slot.form.write, slot.default) for slot in slots(record)]

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise DecodeError(f"{record.__name__} is {describe(value)}, but has to be a map of fields")
        found = {}
        for name, read_field, default in readers:
            if name in value:
                try:
                    found[name] = read_field(value[name])
                except DecodeError as error:
                    raise DecodeError(f"{record.__name__}.{name} {error}") from None
            elif default is NOTHING:
                raise DecodeError(f"{record.__name__} lacks the field {name}")
        return record(**found)

    def write(message: Any) -> dict[str, Any]:
        wire = {}
        for name, write_field, default in writers:
            value = getattr(message, name)
            if default is NOTHING or value != default:
                wire[name] = write_field(value)
        return wire

    return Form(f"fields of {record.__name__}", write, read, any(slot.form.free for slot in slots(record)))


def as_markdown() -> str:
    """The table of all records as the specs print it, in the order of `TAGS`; nested ones without a tag at the end."""
    records = list(TAGS)
    for record in records:
        records += [inner for inner in dict.fromkeys(_nested(record)) if inner not in records]
    lines = ["| tag | field | value | default |", "|---|---|---|---|"]
    for record in records:
        name = f"`{TAGS[record]}`" if record in TAGS else record.__name__
        lines += [f"| {name} | `{s.name}` | {s.form.text} | {_default(s)} |" for s in slots(record)]
        if not slots(record):
            lines.append(f"| {name} | | | |")
    return "\n".join(lines)


def _nested(record: type) -> list[type]:
    hints = [get_type_hints(record)[attribute.name] for attribute in fields(record)]
    inner = [argument for hint in hints for argument in get_args(hint)]
    return [found for found in inner if isinstance(found, type) and has(found) and found is not Definition]


def _default(slot: Slot) -> str:
    if slot.default is NOTHING:
        return "required"
    value = slot.form.write(slot.default)
    if type(value) is str:
        return f'`"{value}"`'
    return "nil" if value is None else f"`{str(value).lower()}`"
