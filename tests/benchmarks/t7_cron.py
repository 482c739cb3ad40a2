"""T7: the next occurrence of a cron expression, ours beside croniter, cronsim and APScheduler 3.

    python -m tests.benchmarks.t7_cron

Each figure is the best of three rounds on the same work in one process, so the ratios hold where the absolute figures
drift. *warm* asks an expression again and again from its last answer; *cold* makes the trigger with nothing cached and
asks once; *shared* asks once for each of 100,000 schedules that share 100 pairs of expression and zone, with nothing
cached at first (peers keep no such thing: for them one iterator per schedule, asked once).
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from itertools import islice
from time import perf_counter
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from sz_protocol.triggers import Cron, Interval, missed, next_fire, nominal_key
from sz_protocol.triggers.cron_expression import parse_cron
from sz_protocol.triggers.cron_pattern import cron_pattern
from sz_protocol.triggers.local_fires import of_cron, piece

Row = tuple[str, str, float, str]
Ask = Callable[[str, str], Iterator[object]]  # expression, zone -> its fires after START, one by one

START = datetime(2026, 2, 1, 10, 17, 30, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
DAY_US = 86_400_000_000
WARM = ["*/5 * * * *", "30 2 * * *", "0 9 * * 1-5", "0 0 1 * *", "15 */4 * * *"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney"]
RESTS = ["* * * *", "2 * * *", "9 * * 1-5", "0 1 * *", "*/6 * * *"]
SHARED = [f"{minute} {rest}" for minute in (0, 15, 30, 45) for rest in RESTS]
ROUNDS = 3


def best_us(work: Callable[[], int], before: Callable[[], object] = lambda: None) -> float:
    """Microseconds per call, of a `work` that says how many calls it made; `before` is not counted."""
    best = float("inf")
    for _ in range(ROUNDS):
        before()
        start = perf_counter()
        calls = work()
        best = min(best, (perf_counter() - start) / calls * 1e6)
    return best


def forget() -> None:
    """Start with nothing parsed and nothing computed."""
    for cache in (parse_cron, cron_pattern, of_cron, piece):
        cache.cache_clear()


def ask_ours(expression: str, key: str) -> Iterator[object]:
    trigger, at_us = Cron(expression, key), START_US
    while (fire_us := next_fire(trigger, at_us)) is not None:
        at_us = fire_us
        yield fire_us


def ask_croniter(expression: str, key: str) -> Iterator[object]:
    return iter(croniter(expression, START.astimezone(ZoneInfo(key)), ret_type=datetime))


def ask_cronsim(expression: str, key: str) -> Iterator[object]:
    return CronSim(expression, START.astimezone(ZoneInfo(key)))


def ask_apscheduler() -> Ask | None:
    """APScheduler 3's trigger, when it is installed."""
    try:
        make = import_module("apscheduler.triggers.cron").CronTrigger.from_crontab
    except ImportError:
        return None

    def ask(expression: str, key: str) -> Iterator[object]:
        trigger, previous, now = make(expression, ZoneInfo(key)), None, START
        while True:
            previous = now = trigger.get_next_fire_time(previous, now)
            yield now

    return ask


def warm(ask: Ask, count: int) -> float:
    def work() -> int:
        return sum(1 for fires in iterators for _ in islice(fires, count))

    iterators = [ask(expression, "Europe/Berlin") for expression in WARM]
    return best_us(work)


def cold(ask: Ask, count: int) -> float:
    def work() -> int:
        for number in range(count):
            next(ask(f"{number % 60} {number // 60} * * 1-5", "Europe/Berlin"))
        return count

    return best_us(work, forget)


def shared(count: int) -> float:
    triggers = [Cron(expression, key) for expression in SHARED for key in ZONES]
    schedules = [triggers[number % len(triggers)] for number in range(count)]

    def work() -> int:
        for trigger in schedules:
            next_fire(trigger, START_US)
        return count

    return best_us(work, forget)


def each(call: Callable[[], object], count: int) -> float:
    """Microseconds for one `call`, repeated."""

    def work() -> int:
        for _ in range(count):
            call()
        return count

    return best_us(work)


def run() -> list[Row]:
    """The rows of the table: what was asked, of whom, the figure, its unit."""
    peers: list[tuple[str, Ask]] = [("croniter", ask_croniter), ("cronsim", ask_cronsim)]
    if apscheduler := ask_apscheduler():
        peers.append(("APScheduler 3", apscheduler))
    next(ask_ours("0 0 * * *", "Europe/Berlin"))  # read the zone, as the peers' zoneinfo has been read
    rows: list[Row] = [("T7 warm", "ScheduleZero", warm(ask_ours, 20_000), "us")]
    rows += [("T7 warm", name, warm(ask, 500), "us") for name, ask in peers]
    rows += [("T7 cold", "ScheduleZero", cold(ask_ours, 500), "us")]
    rows += [("T7 cold", name, cold(ask, 500), "us") for name, ask in peers]
    rows += [("T7 shared, 100,000 schedules", "ScheduleZero", shared(100_000), "us")]
    rows += [("T7 shared, 100,000 schedules", name, cold(ask, 500), "us") for name, ask in peers]
    minutely, often = Cron("* * * * *", "Europe/Berlin"), Interval(60_000_000)
    fire_us = next_fire(minutely, START_US)
    assert fire_us is not None
    calls: list[tuple[str, Callable[[], object], int]] = [
        ("T7 next of an interval", lambda: next_fire(often, START_US), 50_000),
        ("T7 name of a cron fire", lambda: nominal_key(minutely, fire_us), 20_000),
        ("T7 name of an interval fire", lambda: nominal_key(often, fire_us), 50_000),
        ("T7 100,800 missed, 100 kept", lambda: missed(minutely, START_US, START_US + 70 * DAY_US, 100), 20),
    ]
    rows += [(name, "ScheduleZero", each(call, count), "us") for name, call, count in calls]
    return rows


def main() -> None:
    rows = run()
    ours = {name: figure for name, who, figure, _ in rows if who == "ScheduleZero"}
    for name, who, figure, unit in rows:
        ratio = "" if who == "ScheduleZero" else f"{figure / ours[name]:8.1f} times ours"
        print(f"{name:32} {who:16} {figure:10.2f} {unit} {ratio}")


if __name__ == "__main__":
    main()
