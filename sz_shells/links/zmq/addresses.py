"""Addresses of links: which are of this machine alone, and how names in them become numbers."""

import ipaddress
import socket

import anyio

from sz_runtime.ports import LinkError


def is_loopback(address: str) -> bool:
    """Whether nobody but processes of this machine can reach what is bound there."""
    if address.startswith("ipc://"):
        return True
    host = split_tcp(address)[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def split_tcp(address: str) -> tuple[str, str]:
    """Host and port of a tcp:// address, without brackets."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


async def bindable(address: str) -> str:
    """The address as libzmq can bind it: it takes numbers and `*` only, and as a port `*` for any. Raises LinkError."""
    if not address.startswith("tcp://"):
        return address
    host, port = split_tcp(address)
    if port == "0":
        port = "*"
    if host == "*":
        return f"tcp://*:{port}"
    return f"tcp://{_written((await numbers(host))[0])}:{port}"


async def numbers(host: str) -> list[str]:
    """The numeric addresses of a host. Raises LinkError."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
        return [host]
    except ValueError:
        pass
    try:
        found = await anyio.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LinkError(f"{host}: the name cannot be resolved: {error.strerror or error}") from error
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def connectable(address: str, attempt: int) -> str:
    """The address with its name resolved; where the name has several numbers, each attempt takes the next. Raises
    LinkError."""
    if not address.startswith("tcp://"):
        return address
    host, port = split_tcp(address)
    found = await numbers(host)
    return f"tcp://{_written(found[attempt % len(found)])}:{port}"
