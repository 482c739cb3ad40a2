"""ZAP (ZeroMQ RFC 27): libzmq asks about each connection, before it is let in."""

import zmq
from zmq.utils import z85

from sz_shells.links.zmq.curve import DOMAIN, Allowlist, ServerSecurity
from sz_shells.links.zmq.fd_socket import FdSocket
from sz_shells.links.zmq.limited_log import LimitedLog

ENDPOINT = "inproc://zeromq.zap.01"
VERSION = b"1.0"


def zap_socket(context: "zmq.Context[zmq.Socket[bytes]]") -> FdSocket:
    """Where libzmq asks; made before anything binds, since libzmq refuses everybody while it finds nobody to ask."""
    socket = FdSocket(context.socket(zmq.REP, socket_class=zmq.Socket))
    socket.socket.bind(ENDPOINT)
    return socket


async def serve_zap(socket: FdSocket, security: ServerSecurity, log: LimitedLog) -> None:
    """Answer for all sockets of the context, until cancelled."""
    while True:
        request = await socket.recv_multipart()
        reply, refused = zap_reply(request, security.allowlist)
        if refused:
            log.warning("zmq_connection_refused", because=refused, address=_address(request))
        socket.send(reply)


def zap_reply(request: list[bytes], allowlist: Allowlist) -> tuple[list[bytes], str]:
    """The answer to one request, and why it is a refusal; "" where it is none."""
    request_id = request[1] if len(request) > 1 else b""
    user, refused = _user(request, allowlist)
    if refused:
        return [VERSION, request_id, b"400", refused.encode(), b"", b""], refused
    return [VERSION, request_id, b"200", b"OK", user.encode(), b""], ""


def _user(request: list[bytes], allowlist: Allowlist) -> tuple[str, str]:
    """The key that is let in, or why it is not."""
    if len(request) != 7 or request[0] != VERSION:
        return "", "no CURVE request of version 1.0"
    _, _, domain, _, _, mechanism, credential = request
    if domain != DOMAIN.encode() or mechanism != b"CURVE" or len(credential) != 32:
        return "", "no CURVE request of this domain"
    key = z85.encode(credential).decode("ascii")
    if not allowlist.allows(key):
        return "", f"key {key} is not allowed"
    return key, ""


def _address(request: list[bytes]) -> str:
    return request[3].decode("ascii", "replace") if len(request) > 3 else "?"
