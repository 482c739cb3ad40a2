"""Peers that speak ZMTP by hand, or not at all."""

import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"


def greeting(mechanism: bytes = b"NULL", version: bytes = b"\x03\x01") -> bytes:
    """The 64 bytes that each side of a ZMTP 3 connection begins with."""
    return SIGNATURE + version + mechanism.ljust(20, b"\0") + bytes(32)


def command(name: bytes, body: bytes) -> bytes:
    """A short command frame."""
    data = bytes([len(name)]) + name + body
    return bytes([4, len(data)]) + data


def ready(**properties: bytes) -> bytes:
    """The READY command of mechanism NULL."""
    fields = {b"Socket-Type": b"DEALER"} | {name.encode(): value for name, value in properties.items()}
    body = b"".join(bytes([len(n)]) + n + struct.pack("!I", len(v)) + v for n, v in fields.items())
    return command(b"READY", body)


def frame(data: bytes, more: bool = False) -> bytes:
    """A short message frame."""
    return bytes([1 if more else 0, len(data)]) + data


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def connect(address: str) -> socket.socket:
    """A TCP connection that has said nothing."""
    return socket.create_connection(("127.0.0.1", port_of(address)), timeout=10)


def peer(address: str, **properties: bytes) -> socket.socket:
    """A connection whose handshake is over (libzmq's own thread answers: no event loop is needed for it)."""
    connection = connect(address)
    connection.sendall(greeting())
    _exactly(connection, 64)
    connection.sendall(ready(**properties))
    flags, size = _exactly(connection, 2)
    assert flags == 4, "a short command"
    assert _exactly(connection, size).startswith(b"\x05READY")
    return connection


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, "it was closed"
        data += part
    return data


def is_ended(connection: socket.socket) -> bool:
    """Whether the other end has closed or reset it; whatever it had sent is read."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def many(address: str, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that have said nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * count + 500
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
    connections: list[socket.socket] = []
    try:
        for _ in range(count):
            connections.append(connect(address))
        yield connections
    finally:
        for connection in connections:
            connection.close()
