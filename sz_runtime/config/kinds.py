"""The kinds of values that a configuration holds: what each accepts, in words, for the loader and for editors."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NewType, get_args

from attrs import frozen

from sz_protocol.codec import MAX_BYTES
from sz_protocol.durations import DURATION_PATTERN, MAX_DURATION_US
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.wire_values import (
    MAX_COUNT,
    MAX_NAME,
    Path,
    Problems,
    Reader,
    Word,
    describe,
    read_count,
    read_duration,
    read_name,
    read_plain_mapping,
    read_positive_duration,
)
from sz_runtime.config.secret_text import hiding_password

Name = NewType("Name", str)
DeploymentName = NewType("DeploymentName", str)
PluginName = NewType("PluginName", str)
ModuleName = NewType("ModuleName", str)
Host = NewType("Host", str)
Port = NewType("Port", int)
Count = NewType("Count", int)
DurationUs = NewType("DurationUs", int)
PositiveDurationUs = NewType("PositiveDurationUs", int)
FilePath = NewType("FilePath", str)
BindAddress = NewType("BindAddress", str)
PeerAddress = NewType("PeerAddress", str)
Url = NewType("Url", str)
FrameBytes = NewType("FrameBytes", int)
PublicKey = NewType("PublicKey", str)
SecretKey = NewType("SecretKey", str)
Options = NewType("Options", Mapping[str, Any])


class Mode(StrEnum):
    """Which preset of the design a deployment starts from."""

    FULL = "full"
    MINIMAL = "minimal"
    AUTONOMOUS = "autonomous"
    DISTRIBUTED = "distributed"


@frozen
class Kind:
    """`text` completes "has to be ..."; `schema` is the JSON Schema of what the reader accepts. A value of a kind that
    is `by_reference` must not stand in the file itself."""

    text: str
    read: Reader
    schema: Mapping[str, Any]
    by_reference: bool = False


_DEPLOYMENT = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_MODULE = "^[^\\W\\d]\\w*(\\.[^\\W\\d]\\w*)*$"
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\])"
_PORT = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
"""From 1 to 65535."""
_BIND = rf"^(tcp://(?:\*|{_HOST}):(?:\*|{_PORT})|ipc://\S+)$"
_PEER = rf"^(tcp://{_HOST}:{_PORT}|ipc://\S+)$"
_Z85 = r"[0-9A-Za-z.:+=^!/*?&<>(){}@%$#\[\]-]{40}"
"""A CURVE key."""
MIN_FRAME = 1024 * 1024
"""No single message of a handler is longer."""
_URL = r"^[A-Za-z][A-Za-z0-9+.-]*://\S+$"


def takes_text(wanted: Any) -> bool:
    """Whether any text can be right for a kind, or for an optional one."""
    return any(KINDS[kind].schema.get("type") == "string" for kind in (wanted, *get_args(wanted)) if kind in KINDS)


def _pattern(pattern: str, text: str) -> Kind:
    compiled = re.compile(pattern.replace("$", r"\Z"))

    def read(value: Any, path: Path, problems: Problems) -> Any:
        if type(value) is not str:
            read_name(value, path, problems)
        elif not compiled.match(value) or not value.isprintable():
            problems.append((path, f"is {describe(value)}, but has to be {text}"))
        return value

    return Kind(text, read, {"type": "string", "pattern": pattern})


def _read_bool(value: Any, path: Path, problems: Problems) -> Any:
    if type(value) is not bool:
        hint = "; take away the quotes" if value in ("true", "false") else ""
        problems.append((path, f"is {describe(value)}, but has to be true or false{hint}"))
    return value


def _read_port(value: Any, path: Path, problems: Problems) -> Any:
    if type(value) is not int:
        hint = "; take away the quotes" if type(value) is str and value.isdigit() else ""
        problems.append((path, f"is {describe(value)}, but has to be a port number{hint}"))
    elif not 0 <= value <= 65535:
        problems.append((path, f"is {describe(value)}, but a port is a number from 0 (any free one) to 65535"))
    return value


def _read_url(value: Any, path: Path, problems: Problems) -> Any:
    if type(value) is not str:
        read_name(value, path, problems)
    elif not re.match(_URL.replace("$", r"\Z"), value) or not value.isprintable():
        problems.append((path, "is no URL; one is written as SCHEME://HOST..."))  # may hold a password: not repeated
    else:
        return hiding_password(value)
    return value


def _read_frame_bytes(value: Any, path: Path, problems: Problems) -> Any:
    if type(value) is not int:
        hint = "; take away the quotes" if type(value) is str and value.isdigit() else ""
        problems.append((path, f"is {describe(value)}, but has to be a number of bytes{hint}"))
    elif not MIN_FRAME <= value <= MAX_BYTES:
        problems.append((path, f"is {describe(value)}, but has to be from {MIN_FRAME} to {MAX_BYTES}"))
    return value


def _read_public_key(value: Any, path: Path, problems: Problems) -> Any:
    if type(value) is not str:
        read_name(value, path, problems)
    elif not re.fullmatch(_Z85, value):
        # Somebody may have taken the wrong file: not repeated.
        problems.append((path, "is no public key: 40 characters, as `schedulezero keys list` shows them"))
    return value


def _read_secret_key(value: Any, path: Path, problems: Problems) -> Any:
    if type(value) is not str:
        read_name(value, path, problems)
    elif not re.fullmatch(_Z85, value):
        problems.append((path, "is no secret key: the one line of NAME.secret, made by `schedulezero keys new`"))
    return value


def _read_path(value: Any, path: Path, problems: Problems) -> Any:
    if type(value) is not str:
        read_name(value, path, problems)
    elif not value or "\0" in value or not value.isprintable():
        problems.append((path, f"is {describe(value)}, but has to be the path of a file"))
    return value


def _read_plain(value: Any, path: Path, problems: Problems) -> Any:
    return read_plain_mapping({"value": value}, path, problems)["value"]


_NAME_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
_ADDRESS = "an address such as"
DURATION_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": MAX_DURATION_US // SECOND_US},
        {"type": "string", "pattern": DURATION_PATTERN},
    ]
}
_DURATION_TEXT = 'a duration: seconds, or text as in "250ms", "5m", "1h30m"'

KINDS: dict[Any, Kind] = {
    bool: Kind("true or false", _read_bool, {"type": "boolean"}),
    Any: Kind("a plain value", _read_plain, {}),
    Mode: Kind(f"one of {', '.join(Mode)}", Word(Mode), {"enum": list(map(str, Mode))}),
    Name: Kind("a name", read_name, _NAME_SCHEMA),
    DeploymentName: _pattern(_DEPLOYMENT, "a name of letters, digits, dots, dashes and underscores"),
    PluginName: Kind("the name of a type", read_name, _NAME_SCHEMA),
    ModuleName: _pattern(_MODULE, "a module as it is imported, such as my_app.handlers"),
    Host: _pattern(rf"^(?:{_HOST}|::|::1)$", 'a host name or address, such as "127.0.0.1"'),
    Port: Kind("a port number", _read_port, {"type": "integer", "minimum": 0, "maximum": 65535}),
    Count: Kind("a whole number from 1", read_count, {"type": "integer", "minimum": 1, "maximum": MAX_COUNT}),
    DurationUs: Kind(_DURATION_TEXT, read_duration, DURATION_SCHEMA),
    PositiveDurationUs: Kind(_DURATION_TEXT, read_positive_duration, DURATION_SCHEMA),
    FilePath: Kind("the path of a file", _read_path, {"type": "string", "minLength": 1}),
    BindAddress: _pattern(_BIND, f"{_ADDRESS} tcp://127.0.0.1:5555 (ports up to 65535) or ipc:///PATH"),
    PeerAddress: _pattern(_PEER, f"{_ADDRESS} tcp://HOST:5555 (ports up to 65535) or ipc:///PATH"),
    Url: Kind("a URL", _read_url, {"type": "string", "pattern": _URL}),
    FrameBytes: Kind(
        f"a number of bytes from {MIN_FRAME} to {MAX_BYTES}",
        _read_frame_bytes,
        {"type": "integer", "minimum": MIN_FRAME, "maximum": MAX_BYTES},
    ),
    PublicKey: Kind("a public key", _read_public_key, {"type": "string", "pattern": f"^{_Z85}$"}),
    SecretKey: Kind(
        "a secret key, as in file:/PATH/NAME.secret",
        _read_secret_key,
        {"type": "string", "pattern": r"^file:|\$\{"},
        by_reference=True,
    ),
    Options: Kind("a mapping of plain values", read_plain_mapping, {"type": "object"}),
}
