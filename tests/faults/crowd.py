"""Many workers in one process, each with a link, a session and an outbox of its own.

Arguments: the server's address, the backend, the first number, how many, the diary, and the file that lets `hold` end.
"""

import os
import sys
from pathlib import Path

import anyio

from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.run_context import RunContext
from sz_runtime.worker import Worker


def main() -> None:
    """Run them until killed."""
    server, backend, first, count, diary, gate = sys.argv[1:]
    workers = [one(server, f"edge-{int(first) + number:03}", diary, Path(gate)) for number in range(int(count))]

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(worker.run)

    anyio.run(all_of_them, backend=backend)


def one(server: str, name: str, diary: str, gate: Path) -> Worker:
    """A worker whose runs are written down in the diary; `hold` goes on until the gate is there."""
    registry = LocalHandlerRegistry()

    def write_down(what: str, run: RunContext) -> None:
        fd = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, f"{what} {name} {run.run_id} {run.attempt} {run.fence} -\n".encode())
        os.close(fd)

    async def hold(run: RunContext) -> str:
        write_down("start", run)
        while not gate.exists():
            await anyio.sleep(0.25)
        write_down("end", run)
        return name

    registry.register(name, hold)
    return Worker(server, name, registry=registry, concurrency=4, threads=1, observers=())


if __name__ == "__main__":
    main()
