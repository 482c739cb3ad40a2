"""RQ on the same work: one worker process that does not fork for each job, results kept."""
# mypy: ignore-errors

from redis import Redis
from redis_rig import PORT, main, measured
from rq import Queue

queue = Queue(connection=Redis(host="127.0.0.1", port=PORT))


def wait(job):
    assert job.latest_result(timeout=20).return_value == 1


if __name__ == "__main__":
    main(
        ["-m", "rq.cli", "worker", "--worker-class", "rq.worker.SimpleWorker", "--url", "{url}"],
        measured(lambda: queue.enqueue("rq_jobs.noop"), wait),
    )
