"""Options that several commands have. Apart from `common`, which a server imports too: it does without cyclopts."""

from typing import Annotated, Literal

from cyclopts import Parameter

Output = Literal["table", "json"]
OutputOption = Annotated[Output, Parameter(name=["--output", "-o"], help="How to print: table or json.")]
SetOption = Annotated[
    list[str] | None,
    Parameter(name="--set", negative=(), help="KEY=VALUE overrides a key of the configuration; may be repeated."),
]
