"""Which stores, brokers and components exist: the built-in ones, and those that installed packages bring."""

from collections.abc import Collection
from functools import cache

from attrs import frozen

STORES = ("sqlite", "postgresql", "memory")
BROKERS = ("zmq", "redis", "mqtt", "local")


@frozen
class Plugins:
    """Names of entry points, as `type:` and the sections below `components:` use them."""

    stores: Collection[str] = ()
    brokers: Collection[str] = ()
    components: Collection[str] = ()


@cache
def installed() -> Plugins:
    """What this environment has. Looking costs milliseconds, so ask only when a name is not built in."""
    from sz_runtime.plugins import plugin_names  # so does importing what looks

    return Plugins(*(tuple(plugin_names(group)) for group in ("stores", "brokers", "components")))
