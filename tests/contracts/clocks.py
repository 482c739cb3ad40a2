"""What every clock owes the driver, whatever its timer is made of. Each check takes a fresh clock."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from sz_runtime.ports import Clock

MS = 1000
SOON_US = 60 * MS  # a shared, busy machine; the probe of the timers measures the real lateness


@asynccontextmanager
async def serving(clock: Clock) -> AsyncIterator[list[int]]:
    """Serve the clock; the list collects the instants at which it called."""
    woken: list[int] = []
    async with anyio.create_task_group() as group:
        group.start_soon(clock.run, lambda: woken.append(clock.now().mono_us))
        await anyio.lowlevel.checkpoint()
        yield woken
        group.cancel_scope.cancel()


async def until(reached: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not reached():
            await anyio.sleep(0.001)


async def monotonic_time_never_steps_back(clock: Clock) -> None:
    readings = [clock.now().mono_us for _ in range(2000)]
    assert readings == sorted(readings)
    assert readings[-1] > readings[0]


async def wall_time_is_microseconds_since_1970(clock: Clock) -> None:
    assert abs(clock.now().utc_us - time.time() * 1e6) < 1_000_000


async def it_wakes_once_and_never_early(clock: Clock) -> None:
    async with serving(clock) as woken:
        at_us = clock.now().mono_us + 20 * MS
        clock.arm(at_us)
        await until(lambda: bool(woken))
        await anyio.sleep(0.03)
    assert len(woken) == 1
    assert at_us <= woken[0] < at_us + SOON_US


async def an_instant_in_the_past_wakes_at_once(clock: Clock) -> None:
    async with serving(clock) as woken:
        for at_us in (clock.now().mono_us - 1, 0):
            woken.clear()
            clock.arm(at_us)
            await until(lambda: bool(woken))


async def an_earlier_instant_replaces_a_later_one(clock: Clock) -> None:
    async with serving(clock) as woken:
        start_us = clock.now().mono_us
        clock.arm(start_us + 5_000 * MS)
        await anyio.sleep(0.005)
        clock.arm(start_us + 20 * MS)
        await until(lambda: bool(woken))
        await anyio.sleep(0.02)
    assert len(woken) == 1
    assert woken[0] < start_us + 20 * MS + SOON_US


async def a_later_instant_replaces_an_earlier_one(clock: Clock) -> None:
    async with serving(clock) as woken:
        start_us = clock.now().mono_us
        clock.arm(start_us + 10 * MS)
        clock.arm(start_us + 60 * MS)
        await until(lambda: bool(woken))
    assert len(woken) == 1
    assert woken[0] >= start_us + 60 * MS


async def none_disarms(clock: Clock) -> None:
    async with serving(clock) as woken:
        clock.arm(clock.now().mono_us + 10 * MS)
        clock.arm(None)
        await anyio.sleep(0.04)
        assert woken == []
        clock.arm(clock.now().mono_us)
        await until(lambda: bool(woken))


async def what_was_armed_before_run_is_served(clock: Clock) -> None:
    clock.arm(clock.now().mono_us + 10 * MS)
    async with serving(clock) as woken:
        await until(lambda: bool(woken))
    assert len(woken) == 1


async def a_wake_may_arm_the_next_one_without_drift(clock: Clock) -> None:
    start_us = clock.now().mono_us
    due = [start_us + n * 5 * MS for n in range(1, 21)]
    woken: list[int] = []

    def wake() -> None:
        woken.append(clock.now().mono_us)
        clock.arm(due[len(woken)] if len(woken) < len(due) else None)

    async with anyio.create_task_group() as group:
        group.start_soon(clock.run, wake)
        clock.arm(due[0])
        await until(lambda: len(woken) == len(due))
        group.cancel_scope.cancel()
    assert all(at >= planned for at, planned in zip(woken, due, strict=True))
    assert woken[-1] < due[-1] + SOON_US


async def it_can_be_served_again_after_it_was_cancelled(clock: Clock) -> None:
    for _ in range(2):
        async with serving(clock) as woken:
            clock.arm(clock.now().mono_us + 5 * MS)
            await until(lambda: bool(woken))


CLOCK_CONTRACT: tuple[Callable[[Clock], Awaitable[None]], ...] = (
    monotonic_time_never_steps_back,
    wall_time_is_microseconds_since_1970,
    it_wakes_once_and_never_early,
    an_instant_in_the_past_wakes_at_once,
    an_earlier_instant_replaces_a_later_one,
    a_later_instant_replaces_an_earlier_one,
    none_disarms,
    what_was_armed_before_run_is_served,
    a_wake_may_arm_the_next_one_without_drift,
    it_can_be_served_again_after_it_was_cancelled,
)
