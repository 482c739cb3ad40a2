"""Options that several commands have. Apart from `common`, which a server imports too: it does without cyclopts."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

from sz_protocol.durations import parse_duration

Output = Literal["table", "json"]
OutputOption = Annotated[Output, Parameter(name=["--output", "-o"], help="How to print: table or json.")]


def _seconds(_: Any, tokens: Sequence[Token]) -> float:
    """Written as in a configuration: 2.5, 250ms, 1m30s."""
    (text,) = [token.value for token in tokens]
    return parse_duration(float(text) if text.replace(".", "", 1).isdecimal() else text) / 1e6


Seconds = Annotated[float, Parameter(converter=_seconds)]
"""A duration, in seconds or with its units."""
SetOption = Annotated[
    list[str] | None,
    Parameter(name="--set", negative=(), help="KEY=VALUE overrides a key of the configuration; may be repeated."),
]
