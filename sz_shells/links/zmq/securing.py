"""From the configuration to the keys of a link, and whether it may do without."""

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from sz_protocol.kernel.events import AllowedKey
from sz_runtime.config.model import RegistrationServer, ZmqClient
from sz_runtime.ports import LinkError
from sz_shells.links.zmq.addresses import is_loopback
from sz_shells.links.zmq.curve import ClientSecurity, ServerSecurity
from sz_shells.links.zmq.key_files import KeyProblem, secret_key_of, server_key_of
from sz_shells.links.zmq.keys_directory import KeysDirectory, server_key


@frozen
class Secured:
    """A server's security and the directory behind it; both None: it does without."""

    security: ServerSecurity | None
    directory: KeysDirectory | None


def refuses_to_listen(server: RegistrationServer) -> str:
    """Why a server with this configuration must not start; "" where it may (ZMQ-1). Reads the directory of keys."""
    try:
        found = server_key(Path(server.keys))
    except KeyProblem as problem:
        return str(problem)
    if found is not None or server.allow_insecure or is_loopback(server.address):
        return ""
    return (
        f"{server.address} can be reached from other hosts, and {server.keys} holds no key of the server, so that "
        f"whoever reaches it could register handlers. Make keys (`schedulezero keys new server --server --dir "
        f"{server.keys}`, then one for each handler), or listen on tcp://127.0.0.1 alone, or set "
        "components.handlers.remote.registration_server.allow_insecure: true"
    )


def secure_server(
    server: RegistrationServer, on_changed: Callable[[tuple[AllowedKey, ...]], None] = lambda allowed: None
) -> Secured:
    """The keys of a server. Raises LinkError where it must not start."""
    refusal = refuses_to_listen(server)
    if refusal:
        raise LinkError(refusal)
    try:
        found = server_key(Path(server.keys))
        if found is None:
            return Secured(None, None)
        directory = KeysDirectory(Path(server.keys), on_changed)
    except KeyProblem as problem:
        raise LinkError(str(problem)) from problem
    return Secured(ServerSecurity(found.secret_key.encode(), directory), directory)


def client_security(server_key: str | Path | None, secret_key: str | Path | None) -> ClientSecurity | None:
    """The keys of a client, each as its text or the path of its file; None: it does without. Raises KeyProblem."""
    if server_key is None and secret_key is None:
        return None
    if server_key is None or secret_key is None:
        missing = "the server's public key" if server_key is None else "a secret key of its own"
        raise KeyProblem(f"an encrypted link needs two keys: {missing} is missing")
    return ClientSecurity(server_key_of(server_key).encode(), secret_key_of(secret_key).encode())


def secure_client(client: ZmqClient) -> ClientSecurity | None:
    """The keys of a client; None: it does without."""
    if client.server_public_key is None or client.secret_key is None:
        return None
    return ClientSecurity(str(client.server_public_key).encode(), str.__str__(client.secret_key).encode())
