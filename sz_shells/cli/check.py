"""`schedulezero check`: is this configuration right, and will its handlers be found?"""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from sz_shells.cli.common import FAILED, OK, USAGE, emit_json, fail, find_config, print_table, read_settings
from sz_shells.cli.options import OutputOption, SetOption

if TYPE_CHECKING:
    from sz_runtime.config import Config


def check(
    config: str | None = None,
    /,
    *,
    effective: Annotated[bool, Parameter(help="Show every value and where it came from.")] = False,
    schema: Annotated[bool, Parameter(help="Print the JSON Schema of configurations and stop.")] = False,
    imports: Annotated[bool, Parameter(help="Also import the handler modules and look for each method.")] = True,
    strict: Annotated[bool, Parameter(help="Let warnings fail the check too.")] = False,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Check a configuration: errors with file, line and key end with code 2, all of them in one pass.

    Handler modules and methods that cannot be found are warnings: their schedules would be parked, not lost. So are
    components that this version cannot run: the configuration is right, but `run` would refuse it or do without them.

    Parameters
    ----------
    config
        Configuration file, or the directory or name of a deployment.
    """
    if schema:
        from sz_runtime.config import json_schema

        emit_json(json_schema())
        return OK
    from sz_runtime.config import check_modules

    loaded = load_or_say_everything(find_config(config), read_settings(settings))
    warnings = [str(problem) for problem in loaded.warnings] + component_warnings(loaded)
    warnings += [str(problem) for problem in check_modules(loaded)]
    if imports:
        warnings += handler_warnings(loaded)
    if output == "json":
        emit_json(
            {
                "config": find_config(config),
                "mode": str(loaded.deployment.mode),
                "schedules": len(loaded.schedules),
                "warnings": warnings,
                **({"effective": effective_rows(loaded)} if effective else {}),
            }
        )
    else:
        for line in warnings:
            sys.stderr.write(f"{line}\n")
        if effective:
            rows = effective_rows(loaded)
            print_table("", ("key", "value", "from"), ((r["key"], as_yaml(r["value"]), r["from"]) for r in rows))
        count = len(loaded.schedules)
        noun = "schedule" if count == 1 else "schedules"
        mode = loaded.deployment.mode
        odd = f"{len(warnings)} warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
        sys.stdout.write(f"{find_config(config)}: ok: mode {mode}, {count} {noun}, {odd}\n")
    return FAILED if strict and warnings else OK


def load_or_say_everything(path: str, overrides: dict[str, str]) -> "Config":
    """Load a configuration; where it has errors, modules that cannot be found are said in the same pass."""
    from sz_runtime.config import ConfigError, check_modules, load_config

    try:
        return load_config(path, overrides=overrides)
    except ConfigError as wrong:
        missing = check_modules(wrong.readable) if wrong.readable else []
        fail(str(ConfigError([*wrong.problems, *missing])), USAGE)


def component_warnings(config: "Config") -> list[str]:
    """The components that this version cannot run, whoever enabled them."""
    from sz_runtime.components.choosing import choose
    from sz_runtime.config import ConfigError

    try:
        return [str(problem) for problem in choose(config).warnings]
    except ConfigError as refused:
        return [f"{problem} (`run` would refuse this)" for problem in refused.problems]


def as_yaml(value: object) -> object:
    """A value as it would stand in the file, where Python writes it another way."""
    return str(value).lower() if isinstance(value, bool) else value


def handler_warnings(config: "Config") -> list[str]:
    """What would keep schedules from firing: modules that do not import, methods that nobody registers."""
    from sz_runtime.config.modules import missing_module
    from sz_runtime.handler_modules import import_handler_modules
    from sz_runtime.handlers import DEFAULT_REGISTRY

    if not config.components.handlers.local.enabled:
        return []
    modules = [name for name in config.components.handlers.local.modules if not missing_module(name)]
    warnings = [str(problem) for problem in import_handler_modules(modules)]
    for definition in config.schedules:
        method = DEFAULT_REGISTRY.get(definition.handler_id, definition.method)
        if method is None:
            called = f"handler {definition.handler_id!r} has no method {definition.method!r}"
            warnings.append(f"schedule {definition.id!r} would be parked: {called}")
        elif (problem := method.plan.problem(definition.params)) is not None:
            warnings.append(f"schedule {definition.id!r} would fail: {method.where}: {problem}")
    return warnings


def effective_rows(config: "Config") -> list[dict[str, object]]:
    """Every value of the configuration with its origin, secrets redacted."""
    from sz_runtime.config import effective

    return [{"key": row.key, "value": row.value, "from": row.origin} for row in effective(config)]
