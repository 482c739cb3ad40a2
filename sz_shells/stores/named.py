"""The store that a configuration names."""

from typing import TYPE_CHECKING

from sz_runtime.plugins import load_plugin

if TYPE_CHECKING:
    from sz_runtime.config import Config
    from sz_runtime.ports import Store


def make_store(config: "Config") -> "Store":
    """The store, not opened: `query` works already. Entry points (group `schedulezero.stores`) are called with the path
    (sqlite), the URL (postgresql), nothing (memory), or for a third party with its `options`. Raises UnknownPlugin."""
    datastore = config.components.scheduler.datastore
    factory = load_plugin("stores", datastore.type)
    store: Store
    match datastore.type:
        case "sqlite":
            store = factory(datastore.path)
        case "postgresql":
            store = factory(datastore.url)
        case "memory":
            store = factory()
        case _:
            store = factory(**datastore.options)
    return store
