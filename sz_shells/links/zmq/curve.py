"""CURVE: who may connect, and what keeps others from listening."""

from collections.abc import Callable
from typing import Protocol

import zmq
from attrs import field, frozen

DOMAIN = "schedulezero"
"""The ZAP domain. It has to be named: libzmq asks nobody about connections of a socket without one."""


class Allowlist(Protocol):
    """Whose keys may connect."""

    def allows(self, key: str) -> bool:
        """Whether this key (z85) may connect, and be listened to."""
        ...

    async def watch(self, on_revoked: Callable[[str], None]) -> None:
        """Follow changes until cancelled; each key that may no longer connect is said once."""
        ...


@frozen
class ServerSecurity:
    """The server's secret key (z85), and whom it knows."""

    secret_key: bytes = field(repr=False)
    allowlist: Allowlist

    def apply(self, socket: "zmq.Socket[bytes]") -> None:
        """Before bind."""
        socket.curve_server = True
        socket.curve_secretkey = self.secret_key
        socket.zap_domain = DOMAIN.encode()
        # Without this, a ZAP handler that is missing would let everybody in.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


@frozen
class ClientSecurity:
    """The server's public key and our own secret one (z85)."""

    server_key: bytes
    secret_key: bytes = field(repr=False)

    def apply(self, socket: "zmq.Socket[bytes]") -> None:
        """Before connect."""
        socket.curve_serverkey = self.server_key
        socket.curve_secretkey = self.secret_key
        socket.curve_publickey = zmq.curve_public(self.secret_key)
