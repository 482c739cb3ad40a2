"""How late does the clock wake its task? (T4, without the rest of the node.)

python -m tests.benchmarks.timer_probe [--seconds 5] [--rate 1000]

Wakes are planned `rate` a second, evenly; each is armed when the one before has rung, as the driver does.
"""

import argparse

import anyio

from sz_shells.clocks.boot import BootClock


async def lateness(clock: BootClock, rate: int, seconds: float) -> list[int]:
    """Microseconds after the planned instant, for each planned wake, in ascending order."""
    step_us = 1_000_000 // rate
    count = int(rate * seconds)
    late: list[int] = []
    done = anyio.Event()
    start_us = clock.now().mono_us + 50_000

    def wake() -> None:
        now_us = clock.now().mono_us
        while len(late) < count and start_us + len(late) * step_us <= now_us:
            late.append(now_us - start_us - len(late) * step_us)
        if len(late) == count:
            done.set()
        else:
            clock.arm(start_us + len(late) * step_us)

    async with anyio.create_task_group() as group:
        group.start_soon(clock.run, wake)
        clock.arm(start_us)
        await done.wait()
        group.cancel_scope.cancel()
    return sorted(late)


def main() -> None:
    """Print one line per event loop and timer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=1000)
    options = parser.parse_args()
    print(f"{'loop':8} {'timer':8} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for backend in ("asyncio", "trio"):
        for timerfd in (True, False):
            late = anyio.run(lateness, BootClock(timerfd=timerfd), options.rate, options.seconds, backend=backend)
            p50, p99, worst = (late[int((len(late) - 1) * share)] / 1000 for share in (0.5, 0.99, 1.0))
            print(f"{backend:8} {'timerfd' if timerfd else 'sleep':8} {p50:8.3f} {p99:8.3f} {worst:8.3f}")


if __name__ == "__main__":
    main()
