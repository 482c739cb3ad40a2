"""Keys that do not fit each other: what cannot run is refused, what is odd is a warning."""

from collections import Counter
from collections.abc import Callable, Mapping

from attrs import Factory, define

from sz_protocol.wire_values import nearest, quote
from sz_runtime.config.kinds import Mode
from sz_runtime.config.layers import Given, Reading
from sz_runtime.config.model import BROKER_NEEDS, Components, Deployment
from sz_runtime.config.problems import Mark, Path, Problem, problem_at
from sz_runtime.config.third_parties import BROKERS, STORES

DATASTORE = "components.scheduler.datastore"
BROKER = "components.event_broker"
REMOTE = "components.handlers.remote"
CLIENT = "components.zmq_client"


@define
class View:
    """What holds, and where it was written."""

    deployment: Deployment
    components: Components
    given: Mapping[str, Given]
    reading: Reading
    schedules: bool
    warnings: list[Problem] = Factory(list)

    def chosen(self, key: str) -> bool:
        """Whether the owner wrote this key, and not a preset."""
        return key in self.given and self.given[key].chosen

    def refuse(self, key: str, message: str, at: str = "") -> None:
        """An error about a key, shown where `at` (or the key itself) was written."""
        self.reading.problems.append(self._problem(key, message, at))

    def warn(self, key: str, message: str) -> None:
        """A warning about a key."""
        self.warnings.append(self._problem(key, message, ""))

    def _problem(self, key: str, message: str, at: str) -> Problem:
        given = self.given.get(at or key)
        if given is not None and given.file:
            return problem_at(given.file, Mark(given.line, given.column), key, message)
        return problem_at(self.reading.document.file, self._mark(tuple(key.split("."))), key, message)

    def _mark(self, path: Path) -> Mark:
        """The section where a missing key belongs; else the mode, whose preset asks for it."""
        marks = self.reading.document.marks
        while len(path) > 1 and path not in marks:
            path = path[:-1]
        if len(path) == 1 and ("deployment", "mode") in marks:
            path = ("deployment", "mode")
        return self.reading.document.mark(path)


def _store(view: View) -> None:
    store = view.components.scheduler.datastore
    plugins = view.reading.names
    if store.type not in STORES and store.type not in plugins.third_parties().stores:
        known = list(dict.fromkeys((*STORES, *plugins.third_parties().stores)))
        view.refuse(f"{DATASTORE}.type", f"{quote(store.type)} is no known store; {nearest(store.type, known)}")
        return
    path_chosen, url_chosen = view.chosen(f"{DATASTORE}.path"), store.url is not None
    if store.type == "sqlite" and url_chosen and not path_chosen:
        view.refuse(f"{DATASTORE}.url", "does not belong to type sqlite, which keeps a file: give path instead")
    elif store.type == "sqlite" and url_chosen:
        view.warn(f"{DATASTORE}.url", "is not used by type sqlite")
    elif store.type == "postgresql":
        if store.url is None:
            example = "url: postgresql://USER:${DB_PASSWORD}@HOST/DATABASE"
            view.refuse(
                f"{DATASTORE}.url", f"is missing, but type postgresql needs it, as in {example}", f"{DATASTORE}.type"
            )
        elif not store.url.startswith(("postgresql://", "postgres://", "postgresql+")):
            view.refuse(f"{DATASTORE}.url", "has to begin with postgresql:// for type postgresql")
        if path_chosen:
            view.warn(f"{DATASTORE}.path", "is not used by type postgresql")
    elif store.type == "memory" and (path_chosen or url_chosen):
        view.warn(f"{DATASTORE}.{'path' if path_chosen else 'url'}", "is not used: type memory keeps nothing")


def _broker(view: View) -> None:
    broker = view.components.event_broker
    plugins = view.reading.names
    if broker.type not in BROKERS and broker.type not in plugins.third_parties().brokers:
        known = list(dict.fromkeys((*BROKERS, *plugins.third_parties().brokers)))
        view.refuse(f"{BROKER}.type", f"{quote(broker.type)} is no known broker; {nearest(broker.type, known)}")
        return
    if not broker.enabled:
        if view.deployment.mode is Mode.DISTRIBUTED:
            view.warn(f"{BROKER}.enabled", "is false in mode distributed: fail-over takes seconds longer without it")
        return
    if broker.lacks and not any(key.startswith(f"{BROKER}.") and view.chosen(key) for key in view.given):
        message = (
            f"is missing, so that the event broker of type {broker.type}, which only the preset wants, does not start"
        )
        view.warn(f"{BROKER}.{broker.lacks}", message)
        return
    schemes = {"redis": ("redis://", "rediss://", "unix://"), "mqtt": ("mqtt://", "mqtts://")}
    for kind, key in BROKER_NEEDS.items():
        value = getattr(broker, key)
        if kind == broker.type and value is None:
            view.refuse(f"{BROKER}.{key}", f"is missing, but an enabled broker of type {kind} needs it")
        elif kind == broker.type and not value.startswith(schemes.get(kind, "")):
            view.refuse(f"{BROKER}.{key}", f"has to begin with {' or '.join(schemes[kind])}")
        elif kind != broker.type and value is not None and broker.type in BROKERS:
            view.warn(f"{BROKER}.{key}", f"is not used by type {broker.type}")
    if broker.type == "zmq" and not broker.subscribe_addresses:
        view.warn(f"{BROKER}.subscribe_addresses", "is empty: this instance hears no other one")
    for address, count in Counter(broker.subscribe_addresses).items():
        if count > 1:
            view.warn(f"{BROKER}.subscribe_addresses", f"names {address} {count} times")
        if str(address) == broker.publish_address:
            view.warn(f"{BROKER}.subscribe_addresses", f"names this instance's own address {address}")


def _shared_store(view: View) -> None:
    """Instances that keep a store each would all lead: everything would run as often as there are instances."""
    broker, kind = view.components.event_broker, view.components.scheduler.datastore.type
    others = [member for member in broker.members if member != broker.node_id]
    if not view.components.scheduler.enabled or not broker.enabled or kind not in ("memory", "sqlite"):
        return
    if broker.type == "local" or not (others or broker.subscribe_addresses):
        return
    one_host = bool(broker.subscribe_addresses) and all(map(_is_here, broker.subscribe_addresses))
    message = f"is {kind}, which these instances cannot share, so that each would run everything"
    if kind == "sqlite" and one_host:
        view.warn(f"{DATASTORE}.type", "is sqlite: all instances have to use this very file, on this host")
    else:
        view.refuse(f"{DATASTORE}.type", f"{message}; several instances need type postgresql")


def _is_here(address: str) -> bool:
    return address.startswith(("ipc://", "tcp://127.", "tcp://localhost:", "tcp://[::1]"))


def _client(view: View) -> None:
    client = view.components.zmq_client
    if client.enabled and client.server_address is None and view.chosen(f"{CLIENT}.enabled"):
        example = "as in tcp://central-server:5556"
        view.refuse(f"{CLIENT}.server_address", f"is missing, but zmq_client is enabled: give it, {example}")
    keys = {"server_public_key": client.server_public_key, "secret_key": client.secret_key}
    for name, other in (("server_public_key", "secret_key"), ("secret_key", "server_public_key")):
        if client.enabled and keys[name] is None and keys[other] is not None:
            view.refuse(f"{CLIENT}.{name}", f"is missing, but {other} is given: a link is encrypted with both")


def _handlers(view: View) -> None:
    local, remote = view.components.handlers.local, view.components.handlers.remote
    server = f"{REMOTE}.registration_server"
    if view.schedules and not local.enabled and not remote.enabled:
        view.warn("components.handlers", "are all disabled, so that no schedule can run")
    if view.schedules and not view.components.scheduler.enabled:
        view.warn("components.scheduler.enabled", "is false, so that no schedule fires")
    if not remote.enabled and view.chosen(f"{server}.enabled") and remote.registration_server.enabled:
        view.warn(f"{server}.enabled", "is true, but handlers.remote is disabled, so that it does not start")
    if remote.enabled and not remote.registration_server.enabled and view.chosen(f"{server}.address"):
        view.warn(f"{server}.address", "is not used: registration_server.enabled is false")
    listening = remote.registration_server
    if listening.lease_us < 4 * listening.heartbeat_us:
        # Three missed beats make a handler suspect; to be lost has to come after that.
        view.refuse(f"{server}.lease", "is shorter than four heartbeats; give it more, or a shorter heartbeat")
    for module, count in Counter(local.modules).items():
        if count > 1:
            view.warn("components.handlers.local.modules", f"names {module} {count} times")


def _ports(view: View) -> None:
    components = view.components
    server = components.handlers.remote.registration_server
    bound: list[tuple[str, str]] = []
    if components.tornado.enabled:
        bound.append(("components.tornado.port", f"tcp://{components.tornado.host}:{components.tornado.port}"))
    if components.event_broker.enabled and components.event_broker.type == "zmq":
        bound.append((f"{BROKER}.publish_address", components.event_broker.publish_address or ""))
    if components.handlers.remote.enabled and server.enabled:
        bound.append((f"{REMOTE}.registration_server.address", server.address))
    for index, (key, address) in enumerate(bound):
        for earlier, taken in bound[:index]:
            if _clash(taken, address):
                view.refuse(key, f"takes {address}, but {earlier} takes it already; give one of them another port")


def _clash(one: str, other: str) -> bool:
    host, _, port = one.rpartition(":")
    other_host, _, other_port = other.rpartition(":")
    if not one.startswith("tcp://") or port != other_port or port in ("*", "0"):
        return one == other and one.startswith("ipc://")
    everywhere = ("tcp://0.0.0.0", "tcp://*", "tcp://[::]", "tcp://::")
    return host == other_host or host in everywhere or other_host in everywhere


_CHECKS: tuple[tuple[Callable[[View], None], tuple[str, ...]], ...] = (
    (_store, (DATASTORE,)),
    (_broker, (BROKER, "deployment.mode")),
    (_shared_store, (BROKER, DATASTORE, "components.scheduler.enabled", "deployment.mode")),
    (_client, (CLIENT,)),
    (_handlers, ("components.handlers", "components.scheduler.enabled", "deployment.mode")),
    (_ports, (BROKER, REMOTE, "components.tornado", "deployment.mode")),
)


def check_contradictions(view: View) -> None:
    """Run every check whose keys could all be read; what was misread cannot contradict anything."""
    doubtful = [name for name in view.reading.doubtful if name]
    for check, prefixes in _CHECKS:
        if not any(_overlap(name, prefix) for name in doubtful for prefix in prefixes):
            check(view)


def _overlap(name: str, prefix: str) -> bool:
    return f"{name}.".startswith(f"{prefix}.") or f"{prefix}.".startswith(f"{name}.")
