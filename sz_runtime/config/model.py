"""What a configuration holds: the sections of the design document, and a few keys of our own.

Every field is one key of the file: its type is its kind, its default the default, its text the help. The loader, the
environment's names, the JSON Schema and the reference are all derived from these classes.
"""

# ruff: noqa: RUF009 - _key and _section give an attrs field to the class, not a default value

from collections.abc import Callable, Mapping
from typing import Any

from attrs import Factory, field, frozen

from sz_protocol.codec import MAX_BYTES
from sz_protocol.kernel.now import DAY_US, MINUTE_US, SECOND_US
from sz_runtime.config.kinds import (
    BindAddress,
    Count,
    DeploymentName,
    DurationUs,
    FilePath,
    FrameBytes,
    Host,
    Mode,
    ModuleName,
    Name,
    Options,
    PeerAddress,
    PluginName,
    Port,
    PositiveDurationUs,
    PublicKey,
    SecretKey,
    Url,
)


def _key(default: Any, doc: str, *, name: str = "", derive: "Callable[[Deployment], Any] | None" = None) -> Any:
    """A key. `name` is what it is called in the file when that differs from the attribute (a unit at its end);
    `derive` gives the default where it depends on the deployment."""
    return field(default=default, metadata={"doc": doc, "name": name, "derive": derive})


def _section(kind: type, doc: str) -> Any:
    return field(factory=kind, metadata={"doc": doc, "name": "", "section": True})


@frozen
class Deployment:
    """Who this deployment is."""

    name: DeploymentName = _key("default", "Names the deployment; the name of its directory where it has one.")
    mode: Mode = _key(Mode.FULL, "Which preset the components start from.")


@frozen
class Tornado:
    """The web server."""

    enabled: bool = _key(False, "Serve the HTTP API and the portal.")
    host: Host = _key("127.0.0.1", "The address to listen on.")
    port: Port = _key(8888, "The port to listen on; 0 takes any free one.")


@frozen
class Datastore:
    """Where schedules and the ledger live."""

    type: PluginName = _key("sqlite", "sqlite, postgresql, memory, or a store of a third party.")
    path: FilePath = _key(
        "deployments/default/schedulezero_jobs.db",
        "sqlite: the database file; a relative path starts at the current directory.",
        derive=lambda deployment: f"deployments/{deployment.name}/schedulezero_jobs.db",
    )
    url: Url | None = _key(None, "postgresql: postgresql://USER:PASSWORD@HOST/DATABASE.")
    options: Options = _key(Factory(dict), "What a store of a third party wants to know.")


@frozen
class Scheduler:
    """What fires."""

    enabled: bool = _key(False, "Fire schedules.")
    datastore: Datastore = _section(Datastore, "Where schedules and the ledger live.")
    retention_us: DurationUs | None = _key(
        90 * DAY_US, "How long finished rows stay in the ledger; empty: for ever.", name="retention"
    )
    horizon_us: PositiveDurationUs = _key(
        2 * MINUTE_US, "Schedules due within this time are kept in memory.", name="horizon"
    )
    concurrency: Count = _key(1000, "How many runs of async handlers execute at once.")
    threads: Count = _key(16, "How many runs of plain functions execute at once.")
    drain_grace_us: DurationUs = _key(
        10 * SECOND_US, "How long a stopping server lets runs finish before it cancels them.", name="drain_grace"
    )


BROKER_NEEDS: Mapping[str, str] = {"zmq": "publish_address", "redis": "redis_url", "mqtt": "mqtt_url"}
"""The key that each type of broker cannot do without."""


@frozen
class EventBroker:
    """What instances tell each other."""

    enabled: bool = _key(False, "Take part in a cluster of instances.")
    type: PluginName = _key("zmq", "zmq, redis, mqtt, local, or a broker of a third party.")
    node_id: Name = _key("default", "Names this instance among its peers.", derive=lambda deployment: deployment.name)
    publish_address: BindAddress | None = _key(None, "zmq: where this instance publishes, as in tcp://0.0.0.0:5555.")
    subscribe_addresses: tuple[PeerAddress, ...] = _key((), "zmq: the publish addresses of the other instances.")
    heartbeat_interval_us: PositiveDurationUs = _key(
        SECOND_US // 4, "How often an instance says that it lives.", name="heartbeat_interval"
    )
    members: tuple[Name, ...] = _key((), "The node ids of all instances, where they are not known by address.")
    redis_url: Url | None = _key(None, "redis: redis://HOST:6379.")
    mqtt_url: Url | None = _key(None, "mqtt: mqtt://HOST:1883, or mqtts:// for TLS.")
    options: Options = _key(Factory(dict), "What a broker of a third party wants to know.")

    @property
    def lacks(self) -> str:
        """The key that a broker of this type needs and that is not given; empty where nothing is missing."""
        key = BROKER_NEEDS.get(self.type, "")
        return key if key and getattr(self, key) is None else ""


@frozen
class LocalHandlers:
    """Handlers in this process."""

    enabled: bool = _key(False, "Run handlers in this process.")
    modules: tuple[ModuleName, ...] = _key((), "Modules to import; their decorators register handlers.")


@frozen
class RegistrationServer:
    """Where remote handlers register."""

    enabled: bool = _key(
        True,
        "Listen for remote handlers (where handlers.remote is enabled). Off by default in mode distributed.",
        derive=lambda deployment: deployment.mode is not Mode.DISTRIBUTED,
    )
    address: BindAddress = _key("tcp://127.0.0.1:5556", "Where it listens.")
    keys: FilePath = _key(
        "deployments/default/keys",
        "The directory of keys; a server key in it turns encryption on: then only keys in it are let in.",
        derive=lambda deployment: f"deployments/{deployment.name}/keys",
    )
    allow_insecure: bool = _key(
        False, "Listen beyond this host without keys too: whoever reaches the port may register handlers."
    )
    max_frame: FrameBytes = _key(MAX_BYTES, "The longest message from a handler, in bytes; a longer one cuts it off.")
    max_connections: Count = _key(1024, "How many connections there may be at once.")
    heartbeat_us: PositiveDurationUs = _key(
        SECOND_US, "How often server and handlers tell each other that they live.", name="heartbeat"
    )
    lease_us: PositiveDurationUs = _key(
        10 * SECOND_US,
        "How long a handler may be silent before its runs are lost; at least four heartbeats.",
        name="lease",
    )
    away_grace_us: DurationUs = _key(
        30 * SECOND_US, "How long a handler may be away before its schedules are parked.", name="away_grace"
    )


@frozen
class RemoteHandlers:
    """Handlers in other processes."""

    enabled: bool = _key(False, "Let handlers in other processes run methods.")
    registration_server: RegistrationServer = _section(RegistrationServer, "Where remote handlers register.")


@frozen
class Handlers:
    """Who runs methods."""

    local: LocalHandlers = _section(LocalHandlers, "Handlers in this process.")
    remote: RemoteHandlers = _section(RemoteHandlers, "Handlers in other processes.")


@frozen
class ZmqClient:
    """The link from an edge to its central server."""

    enabled: bool = _key(False, "Report to a central server, where server_address is given.")
    server_address: PeerAddress | None = _key(None, "The central server, as in tcp://central-server:5556.")
    handler_id: Name = _key("default", "What this instance is called there.", derive=lambda deployment: deployment.name)
    reconnect_interval_us: PositiveDurationUs = _key(
        30 * SECOND_US, "The longest wait between two attempts to connect.", name="reconnect_interval"
    )
    server_public_key: PublicKey | None = _key(None, "The central server's public key; with secret_key.")
    secret_key: SecretKey | None = _key(None, "This instance's own secret key, as in file:/PATH/NAME.secret.")


@frozen
class Components:
    """The parts of a deployment."""

    tornado: Tornado = _section(Tornado, "The web server.")
    scheduler: Scheduler = _section(Scheduler, "What fires.")
    event_broker: EventBroker = _section(EventBroker, "What instances tell each other.")
    handlers: Handlers = _section(Handlers, "Who runs methods.")
    zmq_client: ZmqClient = _section(ZmqClient, "The link from an edge to its central server.")
    others: Mapping[str, Mapping[str, Any]] = Factory(dict)
    """Sections of third-party components, by the name of their entry point; `enabled` is always there."""
