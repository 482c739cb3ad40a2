"""The server's end of the control link: a unix socket beside the database, for its owner alone."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup

from sz_protocol.codec import MAX_BYTES
from sz_protocol.kernel.errors import DecodeError
from sz_runtime.control import ControlService
from sz_runtime.ports import StoreError
from sz_shells.links.unix_socket import HEAD, ControlError, is_trusted, listen_at, peer_of
from sz_shells.stores.sqlite.lock import FileLock

MAX_CONNECTIONS = 16
IDLE_S = 60.0
"""How long a connection may say nothing."""
FRAME_S = 10.0
"""How long one frame may take, either way."""
LINGER_S = 1.0
_CHUNK = 64 * 1024
_log = structlog.get_logger("schedulezero.control")


class Stream:
    """One connection. Waits for its socket through anyio, which serves both event loops alike."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        anyio.notify_closing(self._socket)
        self._socket.close()

    async def receive(self, limit: int) -> bytes:
        """Some bytes. Raises EOFError at the end."""
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                data = self._socket.recv(limit)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
                continue
            if not data:
                raise EOFError
            return data

    async def exactly(self, size: int) -> bytes:
        """So many bytes; memory follows what has arrived, not what was announced."""
        data = bytearray()
        while len(data) < size:
            data += await self.receive(min(size - len(data), _CHUNK))
        return bytes(data)

    async def send(self, data: bytes) -> None:
        """All of it."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    def end(self) -> None:
        """Nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)


class ControlServer:
    """Serves one socket. What a client does wrong ends its connection, and nothing else."""

    def __init__(self, service: ControlService, *, idle_s: float = IDLE_S, frame_s: float = FRAME_S) -> None:
        self._service = service
        self._idle_s = idle_s
        self._frame_s = frame_s
        self._connections = 0

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.wait_readable(listener)
                try:
                    connection, _ = listener.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    continue
                except OSError as error:  # no descriptors left, for example
                    _log.warning("control_accept_failed", error=str(error))
                    await anyio.sleep(0.5)
                    continue
                try:
                    self._admit(connection, tasks)
                except OSError:  # it has left already
                    connection.close()

    def _admit(self, connection: socket.socket, tasks: TaskGroup) -> None:
        uid = peer_of(connection)
        if not is_trusted(uid) or self._connections >= MAX_CONNECTIONS:
            why = "too many connections" if is_trusted(uid) else "another user"
            _log.warning("control_connection_refused", because=why, uid=uid)
            connection.close()
            return
        self._connections += 1
        tasks.start_soon(self._converse, Stream(connection))

    async def _converse(self, stream: Stream) -> None:
        try:
            with stream:
                await self._send(stream, self._service.hello())
                try:
                    while True:
                        await self._send(stream, await self._service.answer(await self._receive(stream)))
                except DecodeError as error:
                    _log.warning("control_request_unreadable", error=str(error))
                    await self._send(stream, self._service.misunderstood(error))
                    await _let_it_read(stream)
        except TimeoutError:  # an OSError too: first
            _log.info("control_connection_timed_out")
        except (EOFError, OSError):
            pass  # the client has left
        except Exception:
            # A mistake of ours in answering one request must not take the link from the others.
            _log.exception("control_request_failed")
        finally:
            self._connections -= 1

    async def _send(self, stream: Stream, frame: bytes) -> None:
        with anyio.fail_after(self._frame_s):
            await stream.send(HEAD.pack(len(frame)) + frame)

    async def _receive(self, stream: Stream) -> bytes:
        with anyio.fail_after(self._idle_s):
            head = await stream.receive(1)
        with anyio.fail_after(self._frame_s):
            head += await stream.exactly(HEAD.size - 1)
            (size,) = HEAD.unpack(head)
            if size > MAX_BYTES:
                raise DecodeError(f"a frame of {size} bytes, but {MAX_BYTES} are the limit")
            return await stream.exactly(size)


async def _let_it_read(stream: Stream) -> None:
    """A close that leaves data unread takes the last answer away from the other end: wait a little for its end."""
    stream.end()
    with anyio.move_on_after(LINGER_S):
        while True:
            await stream.receive(_CHUNK)


@asynccontextmanager
async def control_socket(path: Path) -> AsyncIterator[socket.socket]:
    """The listening socket at `path`, guarded by a lock that the operating system takes back when its holder dies: a
    socket that a killed server left behind is replaced, a live server's is not. Raises ControlError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.name}.lock"), path)
    except StoreError as held:
        raise ControlError(str(held)) from held
    except OSError as error:
        raise ControlError(f"{path}: the control socket cannot be made: {error.strerror}") from error
    try:
        try:
            listener = listen_at(path)
        except OSError as error:
            raise ControlError(f"{path}: the control socket cannot be made: {error.strerror}") from error
        ours = os.lstat(path)
        try:
            yield listener
        finally:
            anyio.notify_closing(listener)
            listener.close()
            _remove(path, ours)
    finally:
        lock.release()


def _remove(path: Path, ours: os.stat_result) -> None:
    """Take the socket away, unless somebody has put another one there."""
    try:
        if os.path.samestat(os.lstat(path), ours):
            path.unlink()
    except OSError:
        pass  # gone already, or the directory is read-only by now: the next server replaces it
