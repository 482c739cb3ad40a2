"""Both machines together: nothing is executed twice or lost, whatever the link and the processes do; and all of it ends
once the weather is fair again."""

import pytest

from sz_protocol.kernel.now import SECOND_US
from tests.protocol.remote_pair import Weather, World

STORM = Weather(
    loss=0.15,
    copies=0.2,
    tail=0.05,
    break_every_s=10,
    cut_every_s=8,
    worker_dies_every_s=40,
    server_dies_every_s=40,
    stubborn=0.3,
)


def settled(world: World) -> bool:
    """Every run has ended, and nobody keeps anything of it."""
    return (
        len(world.ended) == len(world.rows)
        and not world.server.machine.leases.all
        and all(not h.outbox and not h.at_work and not h.machine.reporting.files for h in world.handlers.values())
    )


def go(world: World, seconds: int, each_s: int = 1, runs: int = 2, *, exclusive: bool = False) -> None:
    """Let runs come while the weather is what it is, then demand that everything ends."""
    for second in range(0, seconds, each_s):
        world.after(second, lambda: world.server.submit(runs, exclusive))
    world.run(seconds)
    world.heal()
    world.run(120, until=lambda: settled(world))
    assert settled(world), {
        "unfinished": [row for row in world.rows.values() if row.row not in world.ended],
        "leases": world.server.machine.leases.all,
        "outboxes": {name: (h.outbox, h.machine.state) for name, h in world.handlers.items()},
        "log": world.log,
    }


def test_in_fair_weather_everything_is_executed_at_once_and_only_once() -> None:
    world = World(0, Weather())
    go(world, 60)
    assert len(world.executed) == len(world.rows) == 120
    assert all(attempt == 1 for _, attempt in world.executed)
    assert all(outcome == "succeeded" for outcome in world.ended.values())


@pytest.mark.parametrize("seed", range(4))
def test_a_link_that_loses_doubles_and_delays_repeats_nothing(seed: int) -> None:
    """Without crashes, and with no silence of a lease, every run is executed by its first attempt."""
    world = World(seed, Weather(loss=0.1, copies=0.3, tail=0.02))
    go(world, 60)
    again = [key for key in world.executed if key[1] > 1]
    assert not again, world.log


@pytest.mark.parametrize("seed", range(4))
def test_a_server_that_dies_finds_what_executes_again(seed: int) -> None:
    """As long as it is back within the lease, nothing is repeated."""
    world = World(seed, Weather(server_dies_every_s=15))
    go(world, 90)
    assert any("server dies" in line for line in world.log)
    assert not [key for key in world.executed if key[1] > 1], world.log


@pytest.mark.parametrize("seed", range(10))
def test_in_a_storm_no_attempt_is_executed_twice_and_everything_ends(seed: int) -> None:
    go(World(seed, STORM, handlers=3), 60)


@pytest.mark.parametrize("seed", range(10))
def test_in_a_storm_an_exclusive_run_never_executes_twice_at_once(seed: int) -> None:
    world = World(seed, STORM, handlers=3)
    go(world, 60, exclusive=True)


@pytest.mark.parametrize("seed", range(4))
def test_in_a_storm_what_is_cancelled_ends(seed: int) -> None:
    world = World(seed, STORM)
    for second in range(3, 60, 2):
        world.after(second, lambda: world.server.stop(world.rng.choice(sorted(world.rows))))
    go(world, 60)
    assert world.now_us > 1000 * SECOND_US
