"""Which components a configuration wants, and which of them cannot run here."""

import re
from collections.abc import Mapping

from attrs import Factory, define

from sz_protocol.components import ComponentSpec, in_order
from sz_protocol.kernel.errors import LocalProtocolError
from sz_runtime.components.component import Component
from sz_runtime.config.loaded import Config
from sz_runtime.config.problems import ConfigError, Problem
from sz_runtime.plugins import UnknownPlugin, load_plugin, plugin_names

DECIDED_BY: Mapping[str, tuple[str, ...]] = {
    "handlers": ("handlers.local.enabled",),
    "event_broker": ("event_broker.enabled",),
    "scheduler": ("scheduler.enabled", "scheduler.datastore.type"),
    "registration_server": ("handlers.remote.enabled", "handlers.remote.registration_server.enabled"),
    "zmq_client": ("zmq_client.enabled", "zmq_client.server_address"),
    "tornado": ("tornado.enabled",),
    "control": ("control.enabled",),
}
"""The components of the design document and our control link, in the order in which they are looked at, with the keys
that switch them on. A third party's component is switched on by `enabled` in its own section."""

_PLACE = re.compile(r"(.+):([0-9]+)\Z")


@define
class Choice:
    """The components to run, what lifecycle has to know of them, and a warning for each that only a preset wants and
    that cannot run."""

    components: dict[str, Component] = Factory(dict)
    specs: list[ComponentSpec] = Factory(list)
    warnings: list[Problem] = Factory(list)


def choose(config: Config) -> Choice:
    """Look at every component that is on. Raises ConfigError, with all of them, for those that the owner of the
    configuration asked for and that cannot run."""
    found = {name: _find(name, config) for name in wanted(config)}
    _leave_out_what_lacks_something(found)
    choice = Choice()
    refused: list[Problem] = []
    for name, component in found.items():
        if isinstance(component, Component):
            choice.components[name] = component
            choice.specs.append(_spec(name, component, config))
            continue
        keys = tuple(f"components.{key}" for key in DECIDED_BY.get(name, (f"{name}.enabled",)))
        asked_for = [key for key in keys if key in config.chosen]
        problem = _problem(config, asked_for[-1] if asked_for else keys[0], component)
        (refused if asked_for or name not in DECIDED_BY else choice.warnings).append(problem)
    try:
        in_order(choice.specs)
    except LocalProtocolError as contradiction:
        refused.append(Problem(config.file, 0, 0, "components", str(contradiction)))
    if refused:
        raise ConfigError(refused)
    return choice


def _leave_out_what_lacks_something(found: dict[str, Component | str]) -> None:
    """A component that needs one which is off, or cannot run, cannot run either."""
    changed = True
    while changed:
        changed = False
        for name, component in found.items():
            for need in component.needs if isinstance(component, Component) else ():
                if not isinstance(found.get(need), Component) and isinstance(found[name], Component):
                    found[name] = f"the component {name} needs {need}, which does not run"
                    changed = True


def _spec(name: str, component: Component, config: Config) -> ComponentSpec:
    limits = component.limits(config)
    return ComponentSpec(
        name,
        needs=component.needs,
        after=component.after,
        required=component.required,
        start_timeout_us=limits.start_us,
        stop_timeout_us=limits.stop_us,
        cancel_timeout_us=limits.cancel_us,
        restart=component.restart,
    )


def wanted(config: Config) -> list[str]:
    """The names of the components that are on."""
    others = config.components.others
    names = [name for name in DECIDED_BY if name != "control" and config.is_on(_switch(name))]
    if others.get("control", {}).get("enabled", True):
        names.append("control")
    return names + [name for name, section in others.items() if name not in DECIDED_BY and section.get("enabled", True)]


def _switch(name: str) -> str:
    return "handlers.local" if name == "handlers" else name


def _find(name: str, config: Config) -> Component | str:
    """The component, or why it cannot run."""
    if name in DECIDED_BY and name not in plugin_names("components"):
        return f"the component {name} is not part of this version"
    try:
        component = load_plugin("components", name)
    except UnknownPlugin as unknown:
        return str(unknown)
    if not isinstance(component, Component):
        return f"the entry point of the component {name} holds no Component but a {type(component).__name__}"
    try:
        refusal = component.refuses(config)
    except Exception as broken:  # a third party's code; what it makes of its own section may be anything
        refusal = f"{type(broken).__name__}: {broken}"
    return f"the component {name} cannot run: {refusal}" if refusal else component


def _problem(config: Config, key: str, why: str) -> Problem:
    """A refusal at the place where the key was written."""
    origin = config.origins.get(key, config.file)
    place = _PLACE.match(origin)
    mark = config.marks.get(tuple(key.split(".")))
    file, line = (place[1], int(place[2])) if place else (origin, 0)
    switch = "components.zmq_client.enabled" if key == "components.zmq_client.server_address" else key
    hint = f"; {switch}: false goes on without it" if switch.endswith(".enabled") else ""
    return Problem(file, line, mark.column if mark else 0, key, why + hint)
