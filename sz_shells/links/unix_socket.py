"""Unix sockets that only their owner can use: where they are, who is at the other end, and what they carry."""

import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

MAX_ADDRESS = 107 if sys.platform == "linux" else 103
"""Bytes that fit into sockaddr_un, its final zero not counted."""
BACKLOG = 128
HEAD = struct.Struct("!I")
"""A frame follows its length."""


class ControlError(Exception):
    """The control link cannot be used; the message is for a person."""


@contextmanager
def address_of(path: Path, *, meant: Path | None = None) -> Iterator[str]:
    """An address for bind and connect, also where the path is longer than a socket address may be (on Linux: through
    an open descriptor of its directory). Raises ControlError, which names the path that is `meant`, and OSError."""
    raw = os.fsencode(path)
    if len(raw) <= MAX_ADDRESS:
        yield str(path)
        return
    if not os.path.isdir("/proc/self/fd"):
        shorter = "put the deployment into a shorter directory, or set components.control.enabled: false"
        raise ControlError(f"{meant or path}: is too long: a socket's path has at most {MAX_ADDRESS} bytes; {shorter}")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen_at(path: Path) -> socket.socket:
    """A listening socket at `path`, which only its owner can connect to, from its first moment on; a socket that stood
    there is replaced. The caller holds the lock that says that nobody listens there. Raises ControlError, OSError."""
    _refuse_what_is_no_socket(path)
    # It is made and restricted in a directory where nobody else can reach it, and moved out when it is ready.
    nursery = path.with_name(f".{path.name}.new")
    _make_private(nursery)
    inner = nursery / "socket"
    inner.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_of(inner, meant=path) as address:
            listener.bind(address)
        os.chmod(inner, 0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        _listening.add(listener)
        os.rename(inner, path)
        os.rmdir(nursery)
    except BaseException:
        listener.close()
        raise
    return listener


def _refuse_what_is_no_socket(path: Path) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path}: is in the way of the control socket, and is no socket; move it away")


def _make_private(directory: Path) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        # Left behind by a server that was killed here; nobody else's will do.
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ControlError(f"{directory}: is in the way of the control socket; remove it") from None
        os.chmod(directory, 0o700)


def peer_of(connection: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel knows it."""
    if sys.platform == "linux":
        size = struct.calcsize("3i")
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    else:
        # struct xucred of macOS and the BSDs: its version, then the effective user id.
        _, uid = struct.unpack("2I", connection.getsockopt(0, 0x001, 8))
    return int(uid)


def is_trusted(uid: int) -> bool:
    """Whether a process of this user may be at the other end: our own user, or root."""
    return uid in (os.geteuid(), 0)


_listening: WeakSet[socket.socket] = WeakSet()


def _let_go_in_child() -> None:
    for listener in list(_listening):
        listener.close()


# A forked child (a handler's worker pool, say) would hold the socket of a server that was killed: clients could
# connect, and nobody would answer.
os.register_at_fork(after_in_child=_let_go_in_child)
