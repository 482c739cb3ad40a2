"""APScheduler 4 on the same work. Prints a JSON list of figures. Run by tests.benchmarks.peers."""
# mypy: ignore-errors

import asyncio
import json
import logging
import sys
import time
from datetime import UTC, datetime, timedelta

from apscheduler import AsyncScheduler
from apscheduler.datastores.memory import MemoryDataStore
from apscheduler.triggers.interval import IntervalTrigger

logging.disable(logging.CRITICAL)
ran = 0
done = None
wanted = 0


async def job():
    global ran
    ran += 1
    if ran == wanted:
        done.set()


def store_of(kind):
    if kind == "memory":
        return MemoryDataStore()
    from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
    from sqlalchemy.ext.asyncio import create_async_engine

    return SQLAlchemyDataStore(create_async_engine("sqlite+aiosqlite:///a4.db"))


async def fires(kind, count):
    global done, wanted
    done, wanted = asyncio.Event(), count
    async with AsyncScheduler(data_store=store_of(kind), max_concurrent_jobs=100) as scheduler:
        due = datetime.now(UTC) + timedelta(seconds=1.5 + count / (900 if kind == "memory" else 30))
        for n in range(count):
            await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=due), id=str(n))
        assert datetime.now(UTC) < due, "added too late"
        await scheduler.start_in_background()
        await done.wait()
        elapsed = time.time() - due.timestamp()
    return [count / elapsed]


what, count = sys.argv[1], int(sys.argv[2])
print(json.dumps(asyncio.run(fires(what, count))), flush=True)
