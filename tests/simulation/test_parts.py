"""The parts of a simulated world, each alone: agenda, clocks, disk, network, pipes, random streams."""

from collections import Counter
from functools import partial
from random import Random

import pytest

from sz_protocol.kernel.now import SECOND_US, Now
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.clock import SimClock
from sz_runtime.simulation.disk import DiskFull, SimDisk, SyncFailed
from sz_runtime.simulation.network import SimNetwork, Weather, draw_weather
from sz_runtime.simulation.pipe import LINGER_US, Pipe
from sz_runtime.simulation.scenario_text import text_to_plan
from sz_runtime.simulation.streams import stream
from sz_runtime.simulation.trace import Trace
from sz_runtime.simulation.worker_facts import LinkDown, LinkUp
from sz_runtime.simulation.world import World


def test_agenda_takes_entries_by_time_and_ties_by_plan() -> None:
    agenda, seen = Agenda(), list[str]()
    agenda.at(20, seen.append, "late")
    agenda.at(10, seen.append, "first")
    agenda.at(10, seen.append, "second")
    agenda.at(10, lambda: agenda.at(5, seen.append, "not in the past"))
    agenda.run_until(15)
    assert (seen, agenda.now_us) == (["first", "second", "not in the past"], 15)
    agenda.run_until(30)
    assert (seen[-1], agenda.now_us) == ("late", 30)


def test_streams_are_the_same_everywhere_and_independent_of_each_other() -> None:
    assert stream(7, "network").random() == stream(7, "network").random()
    assert stream(7, "network").random() != stream(7, "disk").random() != stream(8, "disk").random()
    # The very number: it may not depend on the process, the hash seed or the platform.
    assert stream(1, "run", "a", 2).randint(0, 1 << 30) == 619_206_299


def test_clock_drifts_steps_and_reboots() -> None:
    clock = SimClock(utc_us=1_000_000)
    assert clock.now(500) == Now(500, 1_000_500)
    clock.drift(1_000_000, 200)
    assert clock.now(2_000_000) == Now(2_000_200, 3_000_200)
    clock.step(2_000_000, -SECOND_US)
    assert clock.now(2_000_000) == Now(2_000_200, 2_000_200)
    clock.set_utc(3_000_000, 77, trusted=False)
    assert clock.now(3_000_000).utc_us == 77
    assert not clock.now(3_000_000).trusted
    clock.reboot(4_000_000)
    assert clock.now(4_000_000).mono_us == 0


@pytest.mark.parametrize("ppm", [-200, -1, 0, 1, 200])
def test_clock_finds_the_first_true_time_of_a_monotonic_one(ppm: int) -> None:
    clock = SimClock(utc_us=0)
    clock.drift(123_456, ppm)
    for mono_us in (123_456, 123_457, 9_999_999, 86_400_000_000):
        true_us = clock.true_at(mono_us)
        assert clock.now(true_us).mono_us >= mono_us
        assert true_us == 123_456 or clock.now(true_us - 1).mono_us < mono_us


def test_disk_loses_or_tears_only_what_is_unsynced() -> None:
    outcomes: Counter[tuple[int, bool]] = Counter()
    for seed in range(200):
        disk = SimDisk(Random(seed))
        disk.append(1, "log", "kept")
        disk.sync("log")
        for value in ("x", "y", "z"):
            disk.append(2, "log", value)
        assert disk.unsynced("log") == ["x", "y", "z"]
        lost = disk.crash("log")
        survivors = disk.entries("log")
        assert survivors == ["kept", "x", "y", "z"][: len(survivors)]
        assert [entry.value for entry in reversed(lost)] == ["x", "y", "z"][len(survivors) - 1 :]
        assert all(not entry.torn for entry in lost[:-1]), "only the first lost entry can be half written"
        outcomes[len(lost), any(entry.torn for entry in lost)] += 1
    assert {count for count, _ in outcomes} == {0, 1, 2, 3}
    assert {torn for _, torn in outcomes} == {True, False}


def test_disk_that_is_full_or_fails_says_so_and_can_be_rewound() -> None:
    disk = SimDisk(Random(1))
    disk.append(10, "log", "a")
    disk.sync("log")
    disk.append(20, "log", "b")
    disk.sync_fails = True
    with pytest.raises(SyncFailed):
        disk.sync("log")
    assert disk.take_back("log") == ["b"]
    disk.full = True
    with pytest.raises(DiskFull):
        disk.append(30, "log", "c")
    disk.full = disk.sync_fails = False
    disk.append(30, "log", "d")
    disk.sync("log")
    assert disk.rewind("log", 10) == ["d"]
    assert disk.entries("log") == ["a"]
    disk.forget("log", 100)
    assert disk.rewind("log", 0) == []


class Post:
    """Places on a network, and what arrived there, as bytes: whoever talks does so through the codec."""

    def __init__(self, weather: Weather, seed: int = 1) -> None:
        self.agenda = Agenda()
        self.network = SimNetwork(self.agenda, Trace(), Random(seed), weather)
        self.arrived: dict[str, list[bytes]] = {"a": [], "b": [], "c": []}
        for place in self.arrived:
            self.network.attach(place, partial(self.take, place))

    def take(self, place: str, sender: str, payload: bytes) -> None:
        assert sender != place
        self.arrived[place].append(payload)

    def send(self, count: int, sender: str = "a", to: str = "b") -> None:
        for number in range(count):
            self.network.send(sender, to, number.to_bytes(2, "big"))

    def wait(self, us: int = 60 * SECOND_US) -> None:
        self.agenda.run_until(self.agenda.now_us + us)


def test_network_loses_duplicates_and_reorders_as_the_weather_says() -> None:
    post = Post(Weather(loss=0.3, duplication=0.5, mean_us=50_000, tail=0.05, tail_us=5 * SECOND_US))
    post.send(1000)
    post.wait()
    arrived = post.arrived["b"]
    assert 600 < len(set(arrived)) < 800, "about 30 % are lost"
    assert len(arrived) - len(set(arrived)) > 200, "about half of the others come twice"
    assert arrived != sorted(arrived), "delays differ, so messages overtake each other"


def test_calm_network_loses_nothing() -> None:
    post = Post(Weather())
    post.send(500)
    post.wait()
    assert sorted(post.arrived["b"]) == [number.to_bytes(2, "big") for number in range(500)]


def test_drawn_weather_stays_within_its_bounds() -> None:
    drawn = [draw_weather(Random(seed)) for seed in range(300)]
    assert max(weather.loss for weather in drawn) <= 0.3
    assert max(weather.duplication for weather in drawn) <= 0.5
    assert {weather.mean_us // 1000 in range(30, 101) for weather in drawn} == {True}


def test_partitions_cut_both_ways_and_one_way_cuts_do_not() -> None:
    post = Post(Weather())
    post.network.partition([["a"], ["b", "c"]])
    post.send(1, "a", "b")
    post.send(1, "b", "a")
    post.send(1, "b", "c")
    post.wait()
    assert (post.arrived["a"], post.arrived["b"], len(post.arrived["c"])) == ([], [], 1)
    post.network.heal()
    post.network.cut("a", "b")
    post.send(1, "a", "b")
    post.send(1, "b", "a")
    post.wait()
    assert (len(post.arrived["a"]), post.arrived["b"]) == (1, [])


def test_swizzled_healing_mends_links_one_by_one_in_random_order() -> None:
    orders = set()
    for seed in range(20):
        post = Post(Weather(), seed)
        post.network.partition([["a"], ["b"], ["c"]])
        post.network.heal_swizzled(6_000)
        order = []
        before = post.network.cuts
        for _ in range(6):
            post.wait(1_000)
            order += [link for link in before if link not in post.network.cuts]
            before = post.network.cuts
        assert (len(order), post.network.cuts) == (6, ())
        orders.add(tuple(order))
    assert len(orders) > 10


def test_pipe_delivers_in_order_waits_out_a_cut_and_gives_up_at_last() -> None:
    post = Post(Weather(mean_us=50_000, tail=0.1, tail_us=SECOND_US))
    got: list[int] = []
    pipe = Pipe(post.agenda, post.network, "a", "b", got.append)
    for number in range(100):
        pipe.send(number)
    post.wait()
    assert got == list(range(100))
    post.network.cut("a", "b")
    pipe.send(100)
    post.wait(LINGER_US // 2)
    assert len(got) == 100
    post.network.heal()
    post.wait(SECOND_US)
    assert got[-1] == 100
    post.network.cut("a", "b")
    pipe.send(101)
    post.wait(2 * LINGER_US)
    assert pipe.broken
    assert got[-1] == 100


WORKED = "seed 1\nnode a store db\nworker w1\njob s {handler_id: w1, trigger: {type: interval, seconds: 60}}\n"


def links(steps: str) -> list[tuple[str, str]]:
    """What became of a worker's connections: (what, why)."""
    world = World(1, text_to_plan(WORKED + steps), keep=True)
    world.begin()
    for step in world.plan.steps:
        world.do(step)
    seen = [record for record in world.trace.records if isinstance(record, LinkUp | LinkDown)]
    return [("down", record.why) if isinstance(record, LinkDown) else ("up", "") for record in seen]


def test_a_server_that_dies_before_it_listens_is_not_there_to_be_called() -> None:
    assert links("crash a before read\nstart a\nstart w1\nadvance 5s\n") == []


def test_a_connection_to_a_server_that_died_behind_a_cut_is_reset_when_something_is_sent() -> None:
    steps = "start a\nstart w1\nadvance 5s\ncut a -> w1\ncrash a\nmend\nadvance 20s\n"
    assert links(steps) == [("up", ""), ("down", "reset")]
