"""The client's end of the control link: plain blocking sockets, since a command has nothing else to do."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from sz_protocol.codec import MAX_BYTES, decode, encode
from sz_protocol.kernel.errors import DecodeError, LocalProtocolError
from sz_protocol.messages import TO_CONTROL_CLIENT, Answer, Ask, ControlHello, Request, Told
from sz_shells.links.unix_socket import HEAD, ControlError, address_of, is_trusted, peer_of

TIMEOUT_S = 130.0
"""A little longer than a server waits for its own node."""


GREETING_S = 10.0
"""A server that lives says hello at once."""
RETRY_S = 0.02


class NoServer(ControlError):
    """Nobody listens there."""


class WrongServer(ControlError):
    """Somebody listens there, but serves another deployment, or is another user's."""


@frozen
class Expected:
    """The deployment whose server is meant."""

    deployment: str
    store: str


class ControlClient:
    """One connection: `with ControlClient(path, expected) as client: client.ask(request)`. Raises ControlError."""

    def __init__(self, path: Path, expected: Expected | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._until = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._asked = 0
        self._socket = self._connect()
        try:
            until, self._until = self._until, min(self._until, time.monotonic() + GREETING_S)
            self.hello = self._greeted(expected)
            self._until = until
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "ControlClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def ask(self, request: Request) -> Answer:
        """Send one request and wait for its answer. Raises ControlError."""
        self._asked += 1
        try:
            frame = encode(Ask(self._asked, request))
        except LocalProtocolError as wrong:
            raise ControlError(str(wrong)) from wrong
        with self._guarded():
            self._socket.sendall(HEAD.pack(len(frame)) + frame)
        told = self._receive()
        if not isinstance(told, Told) or told.request_id not in (0, self._asked):
            raise ControlError(f"{self._path}: the server answered something else")
        return told.answer

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._timeout_s)
            with address_of(self._path) as address:
                self._reach(connection, address)
            uid = peer_of(connection)
            if not is_trusted(uid) and os.geteuid() != 0:
                raise WrongServer(f"{self._path}: is served by another user (uid {uid}); refusing to talk to it")
        except FileNotFoundError:
            connection.close()
            raise NoServer(f"no server runs here: there is no {self._path}") from None
        except ConnectionRefusedError:
            connection.close()
            raise NoServer(f"no server runs here: the one that made {self._path} is gone") from None
        except OSError as error:
            connection.close()
            raise ControlError(f"{self._path}: cannot be used: {error.strerror or error}") from error
        except ControlError:
            connection.close()
            raise
        return connection

    def _reach(self, connection: socket.socket, address: str) -> None:
        """Connect; where the line of those who wait is full, stand in line."""
        while True:
            try:
                return connection.connect(address)
            except BlockingIOError:
                if time.monotonic() > self._until:
                    raise ControlError(
                        f"{self._path}: the server accepts nobody within {self._timeout_s:.0f} s"
                    ) from None
                time.sleep(RETRY_S)

    def _greeted(self, expected: Expected | None) -> ControlHello:
        hello = self._receive()
        if not isinstance(hello, ControlHello):
            raise WrongServer(f"{self._path}: what answers there is no ScheduleZero server")
        if expected is not None and (hello.deployment, hello.store) != (expected.deployment, expected.store):
            raise WrongServer(
                f"{self._path}: the server there (process {hello.pid}) runs deployment {hello.deployment!r} on "
                f"{hello.store}, not {expected.deployment!r} on {expected.store}"
            )
        return hello

    def _receive(self) -> ControlHello | Told:
        (size,) = HEAD.unpack(self._exactly(HEAD.size))
        if size > MAX_BYTES:
            raise ControlError(
                f"{self._path}: the server sends a frame of {size} bytes; what answers is something else"
            )
        try:
            message: ControlHello | Told = decode(self._exactly(size), TO_CONTROL_CLIENT)
        except DecodeError as error:
            raise ControlError(f"{self._path}: the server's answer cannot be read: {error}") from error
        return message

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            with self._guarded():
                part = self._socket.recv(min(size - len(data), 65536))
            if not part:
                raise ControlError(f"{self._path}: the server closed the connection; it is stopping, or too busy")
            data += part
        return bytes(data)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One step on the socket, within what is left of the time."""
        self._socket.settimeout(max(self._until - time.monotonic(), 0.001))
        try:
            yield
        except TimeoutError:
            raise ControlError(f"{self._path}: the server does not answer in time") from None
        except OSError as error:
            raise ControlError(f"{self._path}: the connection broke: {error.strerror or error}") from error
