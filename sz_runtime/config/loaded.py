"""A configuration that has been read: what holds, and where each value came from."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, get_args

from attrs import field, frozen

from sz_protocol.durations import plain_duration
from sz_runtime.config.keys import Key, table
from sz_runtime.config.kinds import DurationUs, PositiveDurationUs
from sz_runtime.config.model import Components, Deployment
from sz_runtime.config.problems import Mark, Path, Problem
from sz_runtime.config.secret_text import hider, redacted

if TYPE_CHECKING:
    from sz_protocol.definition import Definition


@frozen
class Config:
    """The whole configuration of one deployment.

    `file` is where it was read from ("" when there was no file). `origins` tells for every dotted key where its value
    came from: "FILE:LINE", "environment NAME", "flag", "preset MODE (FILE:LINE)", "preset MODE (built in)" or
    "default"; `schedules.ID` is there for every schedule. `chosen` holds the keys that the owner wrote (in the file's
    components, the environment or a flag), no preset and no default. `warnings` are odd, but do not hinder.
    Secrets print as their reference; `redacted_dict` is what may be shown.
    """

    file: str
    deployment: Deployment
    components: Components
    schedules: "tuple[Definition, ...]" = field(default=(), repr=lambda found: f"<{len(found)}>")
    origins: Mapping[str, str] = field(factory=dict, repr=False)
    chosen: frozenset[str] = frozenset()
    warnings: tuple[Problem, ...] = ()
    marks: Mapping[Path, Mark] = field(factory=dict, repr=False, eq=False)

    def value(self, key: Key) -> Any:
        """What holds for a key of the table."""
        return reduce(getattr, key.attributes, self)

    def is_on(self, name: str) -> bool:
        """Whether a component is to be started: tornado, scheduler, event_broker, handlers.local, handlers.remote,
        registration_server, zmq_client, or a third party's. A link without its server_address and a broker without
        its own address are off: only a preset wants them."""
        components = self.components
        match name:
            case "handlers.local":
                return components.handlers.local.enabled
            case "handlers.remote":
                return components.handlers.remote.enabled
            case "registration_server":
                remote = components.handlers.remote
                return remote.enabled and remote.registration_server.enabled
            case "zmq_client":
                return components.zmq_client.enabled and components.zmq_client.server_address is not None
            case "event_broker":
                return components.event_broker.enabled and not components.event_broker.lacks
            case "tornado" | "scheduler":
                return bool(getattr(components, name).enabled)
        return bool(components.others.get(name, {}).get("enabled", False))

    def hider(self) -> Callable[[str], str]:
        """A function that takes this configuration's secrets out of any text, such as another's error."""
        return hider([*(self.value(key) for key in table()[0].values()), *self.components.others.values()])

    def redacted_dict(self) -> dict[str, Any]:
        """Plain data in the shape of the file, every key spelled out, without secrets."""
        from sz_protocol.definition_wire import definition_to_wire

        shown: dict[str, Any] = {}
        for key in table()[0].values():
            *sections, leaf = key.name.split(".")
            place = shown
            for section in sections:
                place = place.setdefault(section, {})
            place[leaf] = redacted(plain(key, self.value(key)), leaf)
        for name, other in self.components.others.items():
            shown["components"][name] = redacted(other)
        shown["schedules"] = [redacted(definition_to_wire(definition)) for definition in self.schedules]
        return shown


def plain(key: Key, value: Any) -> Any:
    """A value of the model as it would stand in the file."""
    if value is not None and {DurationUs, PositiveDurationUs} & {key.type, *get_args(key.type)}:
        return plain_duration(value)
    if isinstance(value, tuple):
        return list(value)
    return value.value if hasattr(value, "value") else value


@frozen
class Effective:
    """One row of `check --effective`."""

    key: str
    value: Any
    origin: str


def effective(config: Config) -> list[Effective]:
    """Every key with its value, fit to be shown, and where that came from, in the order of the model."""
    rows = []
    for key in table()[0].values():
        shown = redacted(plain(key, config.value(key)), key.name.rpartition(".")[2])
        rows.append(Effective(key.name, shown, config.origins[key.name]))
    for name, section in config.components.others.items():
        for leaf, value in redacted(section).items():
            full = f"components.{name}.{leaf}"
            rows.append(Effective(full, value, config.origins.get(full, "default")))
    for definition in config.schedules:
        full = f"schedules.{definition.id}"
        rows.append(Effective(full, f"{definition.handler_id}.{definition.method}", config.origins[full]))
    return rows
