"""What a YAML scalar means. YAML 1.1 reads `no`, `010`, `12:30` and dates in ways that nobody who writes a
configuration expects: those are refused with both ways to say what may have been meant.
"""

import re
from typing import Any

import yaml
from attrs import frozen

PREFIX = "tag:yaml.org,2002:"
_MAX_DIGITS = 40


class Trap(Exception):
    """A scalar that YAML reads otherwise than it looks; the message says how to write it."""


@frozen
class Date:
    """A plain scalar that YAML takes for a date; what it may be depends on where it stands."""

    text: str


_RESOLVERS: dict[str | None, list[tuple[str, re.Pattern[str]]]] = yaml.SafeLoader.yaml_implicit_resolvers


def plain_tag(text: str) -> str:
    """The tag, without its prefix, that YAML 1.1 gives to a plain scalar."""
    for tag, pattern in (*_RESOLVERS.get(text[:1], ()), *_RESOLVERS.get(None, ())):
        if pattern.match(text):
            return str(tag).removeprefix(PREFIX)
    return "str"


def scalar_value(tag: str, text: str) -> Any:
    """None, bool, int, float, str or Date. Raises Trap."""
    match tag:
        case "null":
            return None
        case "bool":
            return _bool(text)
        case "int":
            return _int(text)
        case "float":
            return _float(text)
        case "timestamp":
            return Date(text)
        case "str" | "value" | "merge":
            return text
    raise Trap(f"the tag !{tag[:40]} is not read here; take it away")


def _bool(text: str) -> bool:
    word = text.lower()
    if word in ("true", "false"):
        return word == "true"
    if word in ("yes", "no", "on", "off"):
        meaning = "true" if word in ("yes", "on") else "false"
        raise Trap(f'{text} is read as {meaning} by YAML; write {meaning}, or "{text}" for the text')
    raise Trap(f"{text[:40]} is neither true nor false")


def _int(text: str) -> int:
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    bare = digits.lstrip("+-")
    if ":" in bare:
        raise _sexagesimal(text, bare, sign)
    if len(bare) > _MAX_DIGITS:
        raise Trap(f"is a number of {len(bare)} digits; quote it if it is meant as text")
    try:
        if bare.isdigit() and bare.startswith("0") and len(bare) > 1:
            octal = sign * int(bare, 8)
            decimal = sign * int(bare, 10)
            raise Trap(
                f'{text} is the octal number {octal} for YAML; write {decimal} or {octal}, or "{text}" for the text'
            )
        return sign * int(bare, 0)
    except ValueError:
        raise Trap(f"{text[:40]} is no whole number") from None


def _float(text: str) -> float:
    digits = text.replace("_", "").lower()
    bare = digits.lstrip("+-")
    if ":" in bare:
        raise _sexagesimal(text, bare, -1 if digits.startswith("-") else 1)
    try:
        return float(digits.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise Trap(f"{text[:40]} is no number") from None


def _sexagesimal(text: str, bare: str, sign: int) -> Trap:
    try:
        value = 0.0
        for part in bare.split(":"):
            value = value * 60 + float(part)
        meaning = f"{sign * value:g}"
    except (ValueError, OverflowError):
        meaning = "one number"
    return Trap(f'{text[:40]} is read as {meaning} (base sixty) by YAML; quote it: "{text[:40]}"')
