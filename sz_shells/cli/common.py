"""What every command shares: finding the configuration and its ledger, printing, and ending with the right code.

Exit codes: 0 ok, 1 failed, 2 usage or configuration.
"""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

    from sz_runtime.config import Config
    from sz_runtime.ports import Store

OK, FAILED, USAGE = 0, 1, 2

PIPE_WIDTH = 100_000
"""Whoever reads a pipe reads lines: a row stays one line."""
DEFAULT_CONFIGS = ("schedulezero.yaml", "config.yaml", "deployments/default/config.yaml")


def fail(message: str, code: int = FAILED) -> NoReturn:
    """End with one clear message on standard error."""
    sys.stderr.write(message.rstrip("\n") + "\n")
    raise SystemExit(code)


def find_config(config: str | None) -> str:
    """The configuration that was named, or the first of the usual places."""
    if config is not None:
        return config
    for candidate in DEFAULT_CONFIGS:
        if Path(candidate).is_file():
            return candidate
    fail(f"no configuration named, and none of {', '.join(DEFAULT_CONFIGS)} is here", USAGE)


def load_or_exit(config: str | None, settings: Iterable[str] | None) -> "Config":
    """Load a configuration, as `--set` changes it; located errors end the command with code 2."""
    from sz_runtime.config import ConfigError, load_config

    try:
        return load_config(find_config(config), overrides=read_settings(settings))
    except ConfigError as wrong:
        fail(str(wrong), USAGE)


def load_deployment(config: str | None, settings: Iterable[str] | None) -> "Config":
    """The same for commands that only have to find the server or its store: who is in the middle of editing schedules
    must be able to pause one. Errors below `schedules:` are one line here."""
    from sz_runtime.config import ConfigError, load_config

    path = find_config(config)
    try:
        return load_config(path, overrides=read_settings(settings))
    except ConfigError as wrong:
        if wrong.readable is None or not all(problem.key.startswith("schedules") for problem in wrong.problems):
            fail(str(wrong), USAGE)
        count = f"{len(wrong.problems)} errors" if len(wrong.problems) > 1 else "an error"
        sys.stderr.write(f"{path}: {count} below schedules: `schedulezero check` tells\n")
        return wrong.readable


def innermost(error: BaseException) -> BaseException:
    """The one error inside of groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def read_settings(settings: Iterable[str] | None) -> dict[str, str]:
    """What `--set KEY=VALUE` says; ends the command where that is no such pair, or one key comes twice."""
    return read_pairs(settings, "--set", "scheduler.threads=4")


def read_pairs(pairs: Iterable[str] | None, option: str, example: str) -> dict[str, str]:
    """What an option that takes KEY=VALUE, and may be repeated, says; ends the command where that is wrong."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            fail(f"{option} {pair}: write KEY=VALUE, as in {option} {example}", USAGE)
        if key in found:
            fail(f"{option} {key}: is given twice", USAGE)
        found[key] = value
    return found


def store_of(config: "Config") -> "Store":
    """The store of a configuration, not opened; a type that is not installed ends the command."""
    from sz_runtime.plugins import UnknownPlugin
    from sz_shells.stores.named import make_store

    try:
        return make_store(config)
    except UnknownPlugin as unknown:
        fail(str(unknown), USAGE)


def ledger_of(config: "Config") -> "Store":
    """Like `store_of`, for commands that read the ledger beside a running server; ends the command where there is none
    that another process could read."""
    datastore = config.components.scheduler.datastore
    if datastore.type == "memory":
        fail("datastore type memory keeps its ledger inside the server: there is nothing to read from outside")
    if datastore.type == "sqlite" and not Path(datastore.path).exists():
        fail(f"{datastore.path}: no ledger yet: has `schedulezero run` been started here?")
    return store_of(config)


def iso(us: int | None) -> str | None:
    """UTC microseconds as ISO 8601; microseconds only where they are not zero."""
    if us is None:
        return None
    seconds, rest = divmod(us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest).isoformat()


def emit_json(value: Any) -> None:
    """Print a value as JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    # Only texts can hold what is not printable; there JSON has its own way to write it.
    sys.stdout.write("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n")


def console(*, stderr: bool = False) -> "Console":
    """A console that honours NO_COLOR and does not wrap what goes into a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty()
    return Console(file=stream, width=PIPE_WIDTH if piped else None, soft_wrap=piped, highlight=False)


def visible(text: str, keep: str = "") -> str:
    """Text that others have written, for a terminal: what is not printable is shown by its code, but for the characters
    in `keep`. It could move the cursor, colour what is not its own, or forge a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print rows as a plain table."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        # A time that is folded into two lines cannot be read.
        table.add_column(column, overflow="fold", no_wrap=column.endswith("(UTC)"))
    for row in rows:
        # As Text: what stands in a ledger may look like markup and is none.
        table.add_row(*("" if cell is None else Text(visible(str(cell))) for cell in row))
    console().print(table)
