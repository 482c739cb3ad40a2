"""taskiq over Redis on the same work: one worker process, results kept. Whoever waits looks every millisecond."""
# mypy: ignore-errors

from redis_rig import URL, main, measured_async
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

broker = ListQueueBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))


@broker.task(task_name="noop")
async def noop():
    return 1


if __name__ == "__main__":
    main(
        ["-m", "taskiq", "worker", "taskiq_peer:broker", "--workers", "1"],
        measured_async(broker.startup, noop.kiq, lambda task: task.wait_result(check_interval=0.001, timeout=20)),
    )
