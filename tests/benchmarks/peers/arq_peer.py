"""arq on the same work: one worker process, results kept. Its worker and whoever waits look every millisecond (half a
second is the default of both)."""
# mypy: ignore-errors

from arq import create_pool
from arq.connections import RedisSettings
from redis_rig import PORT, main, measured_async

SETTINGS = RedisSettings(host="127.0.0.1", port=PORT)
pools = []


async def noop(ctx):
    return 1


class WorkerSettings:
    functions = (noop,)
    redis_settings = SETTINGS
    poll_delay = 0.001
    max_jobs = 100


async def open_():
    pools.append(await create_pool(SETTINGS))


async def send():
    return await pools[0].enqueue_job("noop")


if __name__ == "__main__":
    main(
        ["-m", "arq", "arq_peer.WorkerSettings"],
        measured_async(open_, send, lambda job: job.result(timeout=20, poll_delay=0.001)),
    )
