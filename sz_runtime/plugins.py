"""Shells by name. A third party adds `type: nats` with an entry point, without touching this repository."""

from importlib.metadata import entry_points
from typing import Any


class UnknownPlugin(Exception):
    """No entry point of that name, or one that cannot be imported; the message names what there is."""


def plugin_names(group: str) -> list[str]:
    """The names that are installed for `schedulezero.<group>`, sorted."""
    return sorted({point.name for point in entry_points(group=f"schedulezero.{group}")})


def load_plugin(group: str, name: str) -> Any:
    """The object behind an entry point. Raises UnknownPlugin."""
    for point in entry_points(group=f"schedulezero.{group}", name=name):
        try:
            return point.load()
        except ImportError as missing:
            raise UnknownPlugin(f"{group} {name!r} needs a package that is not installed: {missing}") from missing
        except Exception as broken:  # a third party's module runs here, and may raise anything
            raise UnknownPlugin(f"{group} {name!r} cannot be imported: {type(broken).__name__}: {broken}") from broken
    known = ", ".join(plugin_names(group)) or "none"
    raise UnknownPlugin(f"no {group} plugin {name!r} is installed (there are: {known})")
