"""The server's end of the control link: a unix socket beside the database, for its owner alone."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup, UNIXSocketStream

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
_CHUNK = 64 * 1024
_log = structlog.get_logger("schedulezero.control")


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
                    await self._admit(connection, tasks)
                except (OSError, ValueError):  # it has left already
                    connection.close()

    async def _admit(self, connection: socket.socket, tasks: TaskGroup) -> None:
        uid = peer_of(connection)
        if not is_trusted(uid) or self._connections >= MAX_CONNECTIONS:
            why = "too many connections" if is_trusted(uid) else "another user"
            _log.warning("control_connection_refused", because=why, uid=uid)
            connection.close()
            return
        connection.setblocking(False)
        stream = await UNIXSocketStream.from_socket(connection)
        self._connections += 1
        tasks.start_soon(self._converse, stream)

    async def _converse(self, stream: UNIXSocketStream) -> None:
        try:
            async with stream:
                await self._send(stream, self._service.hello())
                try:
                    while True:
                        await self._send(stream, await self._service.answer(await self._receive(stream)))
                except DecodeError as error:
                    _log.warning("control_request_unreadable", error=str(error))
                    await self._send(stream, self._service.misunderstood(error))
        except TimeoutError:
            _log.info("control_connection_timed_out")
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the client has left
        finally:
            self._connections -= 1

    async def _send(self, stream: UNIXSocketStream, frame: bytes) -> None:
        with anyio.fail_after(self._frame_s):
            await stream.send(HEAD.pack(len(frame)) + frame)

    async def _receive(self, stream: UNIXSocketStream) -> bytes:
        with anyio.fail_after(self._idle_s):
            head = await stream.receive(1)
        with anyio.fail_after(self._frame_s):
            head += await _exactly(stream, HEAD.size - 1)
            (size,) = HEAD.unpack(head)
            if size > MAX_BYTES:
                raise DecodeError(f"a frame of {size} bytes, but {MAX_BYTES} are the limit")
            return await _exactly(stream, size)


async def _exactly(stream: UNIXSocketStream, size: int) -> bytes:
    """So many bytes; memory follows what has arrived, not what was announced."""
    parts: list[bytes] = []
    left = size
    while left:
        part = await stream.receive(min(left, _CHUNK))
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


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
