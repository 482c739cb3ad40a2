"""Configuration: the design document's YAML, presets, environment and flags, read into one `Config`.

Names are looked up when they are first used, so that a command line that only prints its help does not pay for YAML,
cattrs and the triggers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sz_runtime.config.load import load_config, parse_config
    from sz_runtime.config.loaded import Config, Effective, effective
    from sz_runtime.config.modules import check_modules
    from sz_runtime.config.problems import ConfigError, Mark, Problem
    from sz_runtime.config.schema import json_schema
    from sz_runtime.config.third_parties import Plugins

__all__ = [
    "Config",
    "ConfigError",
    "Effective",
    "Mark",
    "Plugins",
    "Problem",
    "check_modules",
    "effective",
    "json_schema",
    "load_config",
    "parse_config",
]

_HOMES = {
    "Config": "loaded",
    "ConfigError": "problems",
    "Effective": "loaded",
    "Mark": "problems",
    "Plugins": "third_parties",
    "Problem": "problems",
    "check_modules": "modules",
    "effective": "loaded",
    "json_schema": "schema",
    "load_config": "load",
    "parse_config": "load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
