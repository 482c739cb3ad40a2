"""Strict reading of plain data (what YAML, JSON and msgpack give): exact types, and every problem collected.

A reader takes a value, the path where it stands and the list of problems. It returns what it read, or appends to the
list and returns something that is never used, since a list that is not empty ends in an error.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from attrs import frozen

from sz_protocol.durations import parse_duration

Path = tuple[str | int, ...]
Problems = list[tuple[Path, str]]
Reader = Callable[[Any, Path, Problems], Any]

MAX_NAME = 200
MAX_DEPTH = 12
"""Of nested parameters: a definition inside a message must stay within the wire's depth of 16."""
MAX_COUNT = 1_000_000
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1


def describe(value: object) -> str:
    """What stands there, in the words of the person who wrote it; never long."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case float():
            return f"the number {value}"
        case int():
            return f"the number {value}" if abs(value) < 1 << 64 else "a huge number"
        case str():
            return f"the text {quote(value)}"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return f"a {type(value).__name__}"


def quote(text: str) -> str:
    """The text between double quotes, cut to 40 characters, invisible ones escaped."""
    short = text if len(text) <= 40 else f"{text[:40]}..."
    return f'"{short if short.isprintable() else ascii(short)[1:-1]}"'


def place(path: Path, key: object) -> Path:
    """The path of a key, also of one that is no text or not fit to be printed."""
    if type(key) is str and key.isprintable():
        return (*path, key)
    return (*path, quote(key) if type(key) is str else describe(key))


def nearest(word: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, else the known ones."""
    names = list(known)
    from difflib import get_close_matches  # for mistakes only: 140 kB that no server needs

    close = get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known here: {', '.join(names)}" if names else "no key is known here"


def unknown_key(key: object, known: Iterable[str]) -> str:
    """The message for a key that nobody reads."""
    if type(key) is not str:
        return f"{describe(key)} cannot be a key here; quote it if it is meant as text"
    return f"unknown key {quote(key)}; {nearest(key, known)}"


def read_name(value: Any, path: Path, problems: Problems) -> Any:
    """An identifier: 1 to 200 printable characters, no space at either end."""
    if type(value) is not str:
        problems.append((path, f"is {describe(value)}, but has to be text{_quote_hint(value)}"))
    elif not value:
        problems.append((path, "is empty text, but has to name something"))
    elif len(value) > MAX_NAME:
        problems.append((path, f"is {len(value)} characters long, but at most {MAX_NAME} are allowed"))
    elif not value.isprintable():
        problems.append((path, "holds control or other invisible characters; use printable ones"))
    elif value[0] == " " or value[-1] == " ":
        problems.append((path, "begins or ends with a space; take it away"))
    return value


def read_flag(value: Any, path: Path, problems: Problems) -> Any:
    """True or false, nothing that looks like it."""
    if type(value) is not bool:
        hint = " without quotes" if type(value) is str else ""
        problems.append((path, f"is {describe(value)}, but has to be true or false{hint}"))
    return value


def read_count(value: Any, path: Path, problems: Problems) -> Any:
    """A whole number from 1 to a million."""
    if type(value) is not int:
        problems.append((path, f"is {describe(value)}, but has to be a whole number{_unquote_hint(value)}"))
    elif not 1 <= value <= MAX_COUNT:
        problems.append((path, f"is {describe(value)}, but has to be from 1 to {MAX_COUNT}"))
    return value


def read_duration(value: Any, path: Path, problems: Problems) -> Any:
    """Microseconds, zero allowed."""
    try:
        return parse_duration(value)
    except ValueError as error:
        found = "" if type(value) in (str, int, float) else f"is {describe(value)}; "
        problems.append((path, f"{found}{error}"))


def read_positive_duration(value: Any, path: Path, problems: Problems) -> Any:
    """Microseconds, more than zero."""
    duration_us = read_duration(value, path, problems)
    if duration_us == 0:
        problems.append((path, "is zero, but has to be longer; leave the key out for no limit"))
    return duration_us


@frozen
class Optional:
    """A reader that also takes an empty value (None)."""

    read: Reader

    def __call__(self, value: Any, path: Path, problems: Problems) -> Any:
        """None, or what the inner reader makes of it."""
        return None if value is None else self.read(value, path, problems)


@frozen
class Word:
    """A reader of one of the values of an enumeration."""

    kind: type[StrEnum]

    def __call__(self, value: Any, path: Path, problems: Problems) -> Any:
        """The member of the enumeration."""
        words = [member.value for member in self.kind]
        if type(value) is not str:
            problems.append((path, f"is {describe(value)}, but has to be one of {', '.join(words)}"))
        elif value not in words:
            problems.append((path, f"{quote(value)} is not known; {nearest(value, words)}"))
        else:
            return self.kind(value)
        return None


class Field(NamedTuple):
    """One key of a mapping: the attribute that it fills, its reader, and its meaning for a person."""

    attribute: str
    read: Reader
    doc: str


def read_mapping(value: Any, path: Path, problems: Problems, fields: Mapping[str, Field]) -> dict[str, Any] | None:
    """Read the keys that stand there; the result has attributes as keys. Keys that `fields` lacks are unknown."""
    if type(value) is not dict:
        problems.append((path, f"is {describe(value)}, but has to be a mapping of {', '.join(fields)}"))
        return None
    found: dict[str, Any] = {}
    for key, item in value.items():
        field = fields.get(key) if type(key) is str else None
        if field is None:
            problems.append((place(path, key), unknown_key(key, fields)))
        else:
            found[field.attribute] = field.read(item, (*path, key), problems)
    return found


def read_plain_mapping(value: Any, path: Path, problems: Problems) -> Any:
    """A mapping from text to plain values, copied."""
    if type(value) is not dict:
        problems.append((path, f"is {describe(value)}, but has to be a mapping"))
        return value
    return _plain(value, path, problems, 0)


def read_labels(value: Any, path: Path, problems: Problems) -> Any:
    """A mapping from names to text."""
    if type(value) is not dict:
        problems.append((path, f"is {describe(value)}, but has to be a mapping from names to text"))
        return value
    for key, text in value.items():
        where = place(path, key)
        read_name(key, where, problems)
        if type(text) is not str:
            problems.append((where, f"is {describe(text)}, but has to be text{_quote_hint(text)}"))
        elif len(text) > MAX_NAME or not text.isprintable():
            problems.append((where, f"has to be at most {MAX_NAME} printable characters"))
    return dict(value)


def _plain(value: Any, path: Path, problems: Problems, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        if not value.isascii() and not _encodable(value):
            problems.append((path, "holds half a character (a lone surrogate); write the whole character"))
    elif kind is int:
        if not _INT_MIN <= value <= _INT_MAX:
            problems.append((path, "is a number beyond 64 bits; quote it to pass it as text"))
    elif kind is float:
        if value - value != 0.0:
            problems.append((path, "is no finite number, and JSON has no word for it; pass it as text"))
    elif kind is dict or kind is list:
        return _plain_container(value, path, problems, depth + 1)
    elif value is not None and kind is not bool:
        hint = (
            "; quote it to pass it as text" if hasattr(value, "isoformat") else "; use text, numbers, lists, mappings"
        )
        problems.append((path, f"is {describe(value)}, which is no plain value{hint}"))
    return value


def _plain_container(value: Any, path: Path, problems: Problems, depth: int) -> Any:
    if depth > MAX_DEPTH:
        problems.append((path, f"is nested deeper than {MAX_DEPTH} levels"))
        return None
    if type(value) is list:
        return [_plain(item, (*path, i), problems, depth) for i, item in enumerate(value)]
    for key in value:
        if type(key) is not str:
            problems.append((place(path, key), f"{describe(key)} cannot be a key here; quote it"))
        elif not key.isascii() and not _encodable(key):
            problems.append((place(path, key), "is a key with half a character (a lone surrogate)"))
    return {key: _plain(item, (*path, key), problems, depth) for key, item in value.items()}


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quote_hint(value: object) -> str:
    return "; quote it" if value is not None and not isinstance(value, (Mapping, list, tuple)) else ""


def _unquote_hint(value: object) -> str:
    return "; take away the quotes" if type(value) is str and value.isdigit() else ""
