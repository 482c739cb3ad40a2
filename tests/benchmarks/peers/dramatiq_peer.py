"""dramatiq over Redis on the same work: one worker process with 8 threads, results kept."""
# mypy: ignore-errors

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis_rig import PORT, main, measured

broker = RedisBroker(host="127.0.0.1", port=PORT)
broker.add_middleware(Results(backend=RedisBackend(host="127.0.0.1", port=PORT)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop():
    return 1


if __name__ == "__main__":
    main(
        ["-m", "dramatiq", "dramatiq_peer", "-p", "1", "-t", "8"],
        measured(noop.send, lambda message: message.get_result(block=True, timeout=20_000)),
    )
