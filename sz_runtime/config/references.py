"""Secrets by reference: `${NAME}` anywhere in a text, or a text that is `file:/path` as a whole."""

import re
from collections.abc import Mapping
from typing import Any

from sz_protocol.wire_values import nearest, quote
from sz_runtime.config.secret_text import SecretText, without_password

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MAX_BYTES = 64 * 1024


def has_reference(value: Any) -> bool:
    """Whether the value, or a text inside it, needs to be resolved (an escaped `$${` too)."""
    if isinstance(value, str):
        return value.startswith("file:") or "${" in value
    if isinstance(value, list):
        return any(map(has_reference, value))
    if isinstance(value, dict):
        return any(map(has_reference, value.values()))
    return False


def resolve(value: Any, environ: Mapping[str, str]) -> Any:
    """The same plain value with its references replaced, each by a SecretText that shows the reference. `$${` stands
    for `${`. Raises ValueError naming the variable or file that is missing."""
    if isinstance(value, str):
        return _text(value, environ)
    if isinstance(value, list):
        return [resolve(item, environ) for item in value]
    if isinstance(value, dict):
        return {key: resolve(item, environ) for key, item in value.items()}
    return value


def _text(text: str, environ: Mapping[str, str]) -> str:
    if text.startswith("file:"):
        return SecretText(_file(text.removeprefix("file:")), text)
    parts: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        parts.append(_variable(match, environ))
        return parts[-1]

    result = _REFERENCE.sub(replace, text)
    return SecretText(result, without_password(text), tuple(parts)) if parts else result


def _variable(match: re.Match[str], environ: Mapping[str, str]) -> str:
    name = match[1]
    if not match[0].endswith("}"):
        raise ValueError('holds "${" without "}"; write $${ where ${ is meant as text')
    if not _VARIABLE.match(name):
        raise ValueError(
            f"{quote('${' + name + '}')} names no environment variable; write $${{ where ${{ is meant as text"
        )
    if name not in environ:
        close = nearest(name, sorted(environ))
        hint = f"; {close}" if close.startswith("did you mean") else ""
        raise ValueError(f"the environment variable {name} is not set{hint}")
    return environ[name]


def _file(path: str) -> str:
    if not path or "\0" in path:
        raise ValueError("a file: reference needs a path, as in file:/run/secrets/password")
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the file {quote(path)} cannot be read: {error.strerror or error}") from None
    if len(data) > _MAX_BYTES:
        raise ValueError(f"the file {quote(path)} is too large for a secret (64 KiB at most)")
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"the file {quote(path)} is not UTF-8 text") from None
