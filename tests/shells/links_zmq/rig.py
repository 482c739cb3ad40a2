"""Both ends of a link in one test, and waiting for what they do."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus
from attrs import Factory, define

from sz_shells.links.zmq.dealer_link import DealerLink
from sz_shells.links.zmq.router_link import RouterLink
from tests.faults.fleet import free_port

LOCAL = "tcp://127.0.0.1:0"
PATIENCE_S = 20.0


def lasting_address() -> str:
    """One to come back to."""
    return f"tcp://127.0.0.1:{free_port()}"


async def until(true: Callable[[], object], what: str = "") -> None:
    """Wait for a condition."""
    with anyio.move_on_after(PATIENCE_S):
        while not true():
            await anyio.sleep(0.005)
        return
    raise AssertionError(f"did not come about within {PATIENCE_S} s: {what}")


@define
class Server:
    """A RouterLink that remembers."""

    link: RouterLink
    address: str = ""
    frames: list[tuple[bytes, str, bytes]] = Factory(list)
    gone: list[bytes] = Factory(list)
    scope: anyio.CancelScope = Factory(anyio.CancelScope)
    ended: anyio.Event = Factory(anyio.Event)

    async def live(self, *, task_status: TaskStatus[str]) -> None:
        with self.scope:
            await self.link.run(task_status=task_status)
        self.ended.set()

    async def stop(self) -> None:
        """End this life of the server."""
        self.scope.cancel()
        await self.ended.wait()

    def texts(self) -> list[bytes]:
        return [data for _, _, data in self.frames]

    def peer(self) -> bytes:
        """Who spoke last."""
        return self.frames[-1][0]


@asynccontextmanager
async def serving(address: str = LOCAL, echo: bool = False, **options: Any) -> AsyncIterator[Server]:
    """A server for the time of a block."""

    def received(peer: bytes, key: str, data: bytes) -> None:
        server.frames.append((peer, key, data))
        if echo:
            link.send(peer, data)

    link = RouterLink(address, received, gone=lambda peer: server.gone.append(peer), **options)
    server = Server(link)
    async with anyio.create_task_group() as tasks:
        server.address = await tasks.start(server.live)
        yield server
        tasks.cancel_scope.cancel()


@define
class Client:
    """A DealerLink that remembers."""

    link: DealerLink
    tasks: TaskGroup
    frames: list[bytes] = Factory(list)
    changes: list[bool] = Factory(list)

    @property
    def up(self) -> bool:
        return bool(self.changes) and self.changes[-1]


@asynccontextmanager
async def connecting(
    address: str, *, hello: bytes | None = b"hello", wait: bool = True, **options: Any
) -> AsyncIterator[Client]:
    """A client for the time of a block; says hello at each connection."""

    def changed(up: bool) -> None:
        client.changes.append(up)
        if up and hello is not None:
            link.send(hello)

    options.setdefault("retry_s", (0.02, 0.2))
    link = DealerLink(address, lambda data: client.frames.append(data), changed, **options)
    async with anyio.create_task_group() as tasks:
        client = Client(link, tasks)
        tasks.start_soon(link.run)
        if wait:
            await until(lambda: client.up, f"a connection: {link.why_down}")
        yield client
        tasks.cancel_scope.cancel()
