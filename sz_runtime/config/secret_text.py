"""Text that must not be shown: it behaves as its value, and prints as what may be seen of it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/?#\s:@]*:)([^/?#\s]*)(?=@)")
_SECRET_KEY = re.compile(r"passw|secret|token|api_?key|credential", re.IGNORECASE)


class SecretText(str):
    """A string whose repr, and whose place in every dump of a configuration, is `shown`. `parts` are the pieces of it
    that are secret."""

    shown: str
    parts: tuple[str, ...]

    def __new__(cls, value: str, shown: str = HIDDEN, parts: tuple[str, ...] | None = None) -> "SecretText":
        """`shown` holds nothing secret; without `parts` all of the value is."""
        text = super().__new__(cls, value)
        text.shown = shown
        text.parts = (value,) if parts is None else parts
        return text

    def __repr__(self) -> str:
        return repr(self.shown)


def bare(value: Any) -> Any:
    """Plain data with its secrets as ordinary text."""
    if isinstance(value, SecretText):
        return str.__str__(value)
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items()}
    return [bare(item) for item in value] if isinstance(value, list) else value


def without_password(text: str) -> str:
    """The text with the password of every URL in it hidden."""
    return _PASSWORD.sub(rf"\g<1>{HIDDEN}", text) if "://" in text else text


def hiding_password(text: str) -> str:
    """The same text; a SecretText when it holds a URL with a password."""
    if isinstance(text, SecretText):
        return text
    shown = without_password(text)
    return text if shown == text else SecretText(text, shown, tuple(found[2] for found in _PASSWORD.finditer(text)))


SHORTEST_HIDDEN = 4
"""Shorter secrets are not looked for in texts: what they stand in by chance would become unreadable."""


def hider(values: Any) -> Callable[[str], str]:
    """A function that takes the secrets among these values, and passwords of URLs, out of any text: of errors and logs
    that others wrote. It knows a secret also as repr(), JSON and URLs spell it."""
    parts = {spelt: None for part in _parts(values) for spelt in _spellings(part) if len(spelt) >= SHORTEST_HIDDEN}
    longest_first = sorted(parts, key=len, reverse=True)

    def hide(text: str) -> str:
        for part in longest_first:
            text = text.replace(part, HIDDEN)
        return without_password(text)

    return hide


def _spellings(part: str) -> tuple[str, ...]:
    escaped = repr(part)[1:-1], json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]
    in_urls = quote(part, safe="", errors="replace"), quote_plus(part, errors="replace"), unquote(part)
    return part, *escaped, *in_urls


def _parts(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, SecretText):
        for part in value.parts:
            yield part
            yield from (found[2] for found in _PASSWORD.finditer(part))
    elif isinstance(value, str):
        if _SECRET_KEY.search(key):
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _parts(item, str(name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item, key)


def redacted(value: Any, key: str = "") -> Any:
    """Plain data as it may be shown: secrets as their reference, passwords of URLs and what stands under a key that
    sounds like a secret hidden."""
    if isinstance(value, SecretText):
        return value.shown
    if isinstance(value, str):
        return HIDDEN if value and _SECRET_KEY.search(key) else without_password(value)
    if isinstance(value, Mapping):
        return {name: redacted(item, str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item, key) for item in value]
    return value
