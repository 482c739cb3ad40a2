"""T6, the links alone: 100 bytes there and back through a RouterLink and a DealerLink, beside raw blocking pyzmq.

    python -m tests.benchmarks T6-links

Both ends are processes of their own. What is under the messages (machines, ledger, outbox) is T6's business.
"""

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import structlog
import zmq

from sz_runtime.interpreter import tune_interpreter
from sz_shells.links.zmq.curve import ClientSecurity, ServerSecurity
from sz_shells.links.zmq.dealer_link import DealerLink
from sz_shells.links.zmq.key_files import Role, new_keys
from sz_shells.links.zmq.keys_directory import KeysDirectory, server_key
from sz_shells.links.zmq.router_link import RouterLink
from tests.benchmarks.table import Row

SIZE = 100
IN_FLIGHT = 100
ALONE, TOGETHER = f"links: {SIZE} B, one at a time", f"links: {SIZE} B, {IN_FLIGHT} in flight"
Figures = tuple[list[float], float]
"""Milliseconds of each single round trip; and round trips a second with many in flight."""


def serve_raw() -> None:
    """Echo, until the parent ends us."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    while True:
        router.send_multipart(router.recv_multipart())


async def serve_link(keys: str) -> None:
    """The same through our link."""
    security = None
    if keys:
        found = server_key(Path(keys))
        assert found is not None
        security = ServerSecurity(found.secret_key.encode(), KeysDirectory(Path(keys)))

    def received(peer: bytes, key: str, data: bytes) -> None:
        link.send(peer, data)

    link = RouterLink("tcp://127.0.0.1:0", received, security=security)
    async with anyio.create_task_group() as tasks:
        address: str = await tasks.start(link.run)
        print(address.rpartition(":")[2], flush=True)


@contextmanager
def _server(*args: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.benchmarks.t6_links", "serve", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"tcp://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def ask_raw(address: str, alone: int, together: int) -> Figures:
    """The limit: a blocking socket."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(address)
    data, times = b"x" * SIZE, []
    for _ in range(alone):
        began = time.perf_counter()
        dealer.send(data)
        dealer.recv()
        times.append((time.perf_counter() - began) * 1000)
    began = time.perf_counter()
    for number in range(together + IN_FLIGHT):
        if number < together:
            dealer.send(data)
        if number >= IN_FLIGHT:
            dealer.recv()
    rate = together / (time.perf_counter() - began)
    context.destroy(linger=0)
    return times, rate


async def ask_link(address: str, security: ClientSecurity | None, alone: int, together: int) -> Figures:
    """The same through our link."""
    data, times = b"x" * SIZE, []
    up, over = anyio.Event(), anyio.Event()
    began, sent, got = 0.0, 0, 0

    def received(_: bytes) -> None:
        nonlocal began, sent, got
        got += 1
        now = time.perf_counter()
        if got <= alone:
            times.append((now - began) * 1000)
            if got == alone:
                began, sent = now, IN_FLIGHT
                for _i in range(IN_FLIGHT):
                    link.send(data)
            else:
                began = time.perf_counter()
                link.send(data)
        elif sent < together:
            sent += 1
            link.send(data)
        elif got == alone + together:
            over.set()

    link = DealerLink(address, received, lambda is_up: up.set() if is_up else None, security=security)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.run)
        await up.wait()
        began = time.perf_counter()
        link.send(data)
        await over.wait()
        rate = together / (time.perf_counter() - began)
        tasks.cancel_scope.cancel()
    return times, rate


def _rows(who: str, figures: Figures) -> list[Row]:
    times, rate = figures
    times.sort()
    return [
        Row("T6", ALONE, who, statistics.median(times), "ms p50", higher=False),
        Row("T6", ALONE, who, times[int(len(times) * 0.99)], "ms p99", higher=False),
        Row("T6", TOGETHER, who, rate, "round trips/s"),
    ]


def run(alone: int = 3000, together: int = 60_000) -> list[Row]:
    """All rows."""
    tune_interpreter()
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)
    with _server("raw") as address:
        rows = _rows("limit: blocking pyzmq", ask_raw(address, alone, together))
    with tempfile.TemporaryDirectory() as name:
        keys = Path(name)
        server = new_keys(keys, "server", Role.SERVER)
        new_keys(keys, "bench", Role.HANDLER)
        security = ClientSecurity(server.key.encode(), (keys / "bench.secret").read_bytes().strip())
        for backend in ("asyncio", "trio"):
            with _server(backend) as address:
                figures = anyio.run(ask_link, address, None, alone, together, backend=backend)
                rows += _rows(f"schedulezero, {backend}", figures)
            with _server(backend, name) as address:
                figures = anyio.run(ask_link, address, security, alone, together, backend=backend)
                rows += _rows(f"schedulezero, {backend}, CURVE", figures)
    return rows


def main(args: list[str]) -> None:
    """The table, or the server's side of it."""
    if args[:2] == ["serve", "raw"]:
        serve_raw()
    elif args[:1] == ["serve"]:
        tune_interpreter()
        anyio.run(serve_link, args[2] if len(args) > 2 else "", backend=args[1])
    else:
        from tests.benchmarks.table import render

        print(render(run()))


if __name__ == "__main__":
    main(sys.argv[1:])
