"""The boot clock under the contract of clocks, with either timer; and what its trust means."""

import os
import time
import timeit
from collections.abc import Awaitable, Callable

import anyio
import pytest

from sz_runtime.ports import Clock
from sz_shells.clocks.boot import BootClock
from sz_shells.clocks.timerfd import timer_works
from sz_shells.clocks.trust import TrustPolicy, why_not_synchronised
from tests.contracts.clocks import CLOCK_CONTRACT, serving, until

Check = Callable[[Clock], Awaitable[None]]


@pytest.mark.anyio
@pytest.mark.parametrize("timerfd", [True, False], ids=["timerfd", "sleep"])
@pytest.mark.parametrize("check", CLOCK_CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, timerfd: bool) -> None:
    await check(BootClock(timerfd=timerfd))


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.anyio
async def test_no_descriptor_outlives_its_service() -> None:
    before = open_descriptors()
    for _ in range(20):
        clock = BootClock()
        async with serving(clock):
            await until(lambda: open_descriptors() == before + timer_works())
    assert open_descriptors() == before


@pytest.mark.anyio
async def test_arming_again_and_again_for_later_costs_no_system_call_each() -> None:
    """The driver arms after almost every event: moving the instant away must stay far below a microsecond."""
    clock = BootClock()
    async with serving(clock):
        at_us = clock.now().mono_us + 60_000_000
        clock.arm(at_us)
        assert min(timeit.repeat(lambda: clock.arm(at_us + 1), number=1000, repeat=5)) / 1000 < 2e-6


def test_now_costs_about_a_microsecond() -> None:
    clock = BootClock()
    assert min(timeit.repeat(clock.now, number=2000, repeat=10)) / 2000 < 2e-6


def test_pain_10_monotonic_time_counts_suspends() -> None:
    boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux names the clock that goes on in a suspend
    assert abs(BootClock().now().mono_us - time.clock_gettime(boot) * 1e6) < 100_000


def test_pain_24_a_server_trusts_its_clock_from_the_start() -> None:
    clock = BootClock(TrustPolicy.RTC, why_untrusted=lambda: "never asked")
    assert clock.now().trusted
    assert clock.distrust == ""


def test_pain_24_a_device_waits_until_its_clock_was_synchronised_and_keeps_the_trust() -> None:
    answers = ["nothing has synchronised it yet", ""]
    clock = BootClock(TrustPolicy.SYNCHRONISED, why_untrusted=lambda: answers.pop(0))
    assert not clock.now().trusted
    assert clock.distrust == "nothing has synchronised it yet"
    assert len(answers) == 1, "asked once a second, not at every reading"
    clock._ask_again_us = 0  # a second later
    assert clock.now().trusted
    assert clock.distrust == ""
    clock._ask_again_us = 0
    assert clock.now().trusted, "the third answer would be an IndexError: nobody asks any more"


def test_the_kernel_gives_a_reason_or_none_but_never_raises() -> None:
    assert isinstance(why_not_synchronised(), str)


@pytest.mark.anyio
async def test_closing_a_waiting_timer_hangs_nobody() -> None:
    clock = BootClock()
    with anyio.fail_after(2):
        async with serving(clock):
            await anyio.sleep(0.01)
