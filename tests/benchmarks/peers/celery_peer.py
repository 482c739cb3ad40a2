"""Celery over Redis on the same work: one worker process with 8 threads, results kept."""
# mypy: ignore-errors

import time

from celery import Celery
from redis_rig import URL, main, measured

app = Celery("celery_peer", broker=URL, backend=URL)


@app.task(name="noop")
def noop():
    return 1


def wait(result):
    # Not `get`: with many results under way it does not return.
    until = time.monotonic() + 20
    while not result.ready():
        assert time.monotonic() < until
        time.sleep(0.0005)


if __name__ == "__main__":
    main(
        [
            "-m",
            "celery",
            "-A",
            "celery_peer",
            "worker",
            "--pool",
            "threads",
            "--concurrency",
            "8",
            "--loglevel",
            "error",
        ],
        measured(noop.delay, wait),
    )
