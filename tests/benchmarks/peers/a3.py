"""APScheduler 3 on the same work. Prints a JSON list of figures. Run by tests.benchmarks.peers."""
# mypy: ignore-errors

import asyncio
import json
import logging
import sys
import time
from datetime import datetime, timedelta

from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler

logging.disable(logging.CRITICAL)
ran = 0
done = None
wanted = 0
late = []


async def job():
    global ran
    ran += 1
    if ran == wanted:
        done.set()


async def late_job(due):
    late.append(time.time() - due)
    if len(late) == wanted:
        done.set()


def store_of(kind):
    if kind == "memory":
        return MemoryJobStore()
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

    return SQLAlchemyJobStore(url="sqlite:///a3.db")


def make(kind):
    return AsyncIOScheduler(
        jobstores={"default": store_of(kind)},
        executors={"default": AsyncIOExecutor()},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )


async def fires(kind, count):
    global done, wanted
    done, wanted = asyncio.Event(), count
    scheduler = make(kind)
    due = datetime.now() + timedelta(seconds=1.5 + count / (5_000 if kind == "memory" else 50))
    for n in range(count):
        scheduler.add_job(job, "interval", hours=1, start_date=due, id=str(n))
    scheduler.start()
    assert datetime.now() < due, "added too late"
    await done.wait()
    elapsed = time.time() - due.timestamp()
    scheduler.shutdown(wait=False)
    return [count / elapsed]


async def lateness(seconds):
    global done, wanted
    rate = 1000
    done, wanted = asyncio.Event(), rate * seconds
    scheduler = make("memory")
    scheduler.start()
    start = time.time() + 3 + wanted / 20_000
    for n in range(wanted):
        due = start + n / rate
        scheduler.add_job(late_job, "date", run_date=datetime.fromtimestamp(due), args=[due])
    await done.wait()
    late.sort()
    return [late[len(late) // 2] * 1000, late[int(len(late) * 0.99)] * 1000]


async def adds(kind, count):
    scheduler = make(kind)
    scheduler.start(paused=True)
    due = datetime.now() + timedelta(hours=1)
    started = time.perf_counter()
    for n in range(count):
        scheduler.add_job(job, "interval", hours=1, start_date=due, id=str(n))
    return [count / (time.perf_counter() - started)]


what, count = sys.argv[1], int(sys.argv[2])
if what == "lateness":
    figures = asyncio.run(lateness(count))
elif what.startswith("add-"):
    figures = asyncio.run(adds(what.removeprefix("add-"), count))
else:
    figures = asyncio.run(fires(what, count))
print(json.dumps(figures))
