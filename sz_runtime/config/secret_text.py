"""Text that must not be shown: it behaves as its value, and prints as what may be seen of it."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/?#\s:@]*:)([^/?#\s]*)(?=@)")
_SECRET_KEY = re.compile(r"passw|secret|token|api_?key|credential", re.IGNORECASE)


class SecretText(str):
    """A string whose repr, and whose place in every dump of a configuration, is `shown`."""

    shown: str

    def __new__(cls, value: str, shown: str = HIDDEN) -> "SecretText":
        """`shown` holds nothing secret."""
        text = super().__new__(cls, value)
        text.shown = shown
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
    return text if shown == text else SecretText(text, shown)


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
