"""Remote handlers over lines that lose, double and delay whole messages: a real server, real workers, and a relay
between them (`zmq_relay`). Whatever the lines do, each run comes to one outcome, and nothing is begun twice."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sz_protocol.queries import RunsPage
from sz_protocol.records import Outcome, Run
from sz_shells.stores.sqlite import SqliteStore
from tests.faults.fleet import Fleet
from tests.faults.test_remote import every, kill_server
from tests.faults.zmq_relay import FAIR, GONE, Weather, ZmqRelay, relaying

STORM = Weather(lose=0.15, double=0.2, late=0.5, late_s=0.6)
LEASE = "heartbeat: 200ms, lease: 3s, away_grace: 10s"
FAR = ", tags: {site: far}, away: elsewhere"


@pytest.fixture
def fleet(tmp_path: Path, anyio_backend: str) -> Iterator[Fleet]:
    made = Fleet(tmp_path, anyio_backend)
    yield made
    made.kill()


@pytest.fixture
def lines(fleet: Fleet, anyio_backend: str) -> Iterator[tuple[ZmqRelay, ZmqRelay]]:
    """Two: so that one worker can be out of reach while others are not."""
    seed = len(anyio_backend)
    with ExitStack() as ending:
        yield (ending.enter_context(relaying(fleet.port, seed)), ending.enter_context(relaying(fleet.port, seed + 1)))


def test_lines_that_lose_double_and_delay_leave_each_run_one_outcome(
    fleet: Fleet, lines: tuple[ZmqRelay, ZmqRelay]
) -> None:
    one, other = lines
    fleet.configure(
        every("named", "edge-1", "nap", ", params: {seconds: 0.5}"),
        every("any", "'*'", "nap", ", params: {seconds: 0.3}" + FAR),
        every("most", "edge-2", "nap", ", params: {seconds: 0.3}, semantics: at_most_once" + FAR),
        every("alone", "edge-3", "guarded", ", params: {seconds: 0.8}, exclusive: true" + FAR),
        remote=LEASE,
    )
    fleet.start()
    workers = [
        fleet.worker(name, "--tag", "site=far", "--reconnect", "1", port=line.port)
        for name, line in (("edge-1", one), ("edge-2", one), ("edge-3", other))
    ]
    fleet.wait_registered("edge-1", "edge-2", "edge-3")

    weather(lines, STORM)
    time.sleep(3)
    at_once = [fleet.run_now(f"edge-{number % 3 + 1}", "noop") for number in range(30)]
    time.sleep(2)
    # A server and a worker die under way: what the others execute is found again by lines as bad as before.
    kill_server(fleet)
    fleet.start()
    time.sleep(3)
    workers[1].kill9()
    with fleet.diary.open("a") as diary:
        diary.write("killed edge-2 - 0 0 -\n")
    workers[1].start()
    time.sleep(2)
    # One worker is not heard for longer than its lease, and hears everything all the while.
    other.up = GONE
    fleet.wait_for(lambda: fleet.registered()["edge-3"] == "lost")
    time.sleep(1)
    weather(lines, FAIR)
    healed_us = time.time_ns() // 1000

    fleet.wait_registered("edge-1", "edge-2", "edge-3")
    fleet.wait_for(lambda: not [run for run in due_before(fleet, healed_us) if run.outcome is None], 30)
    happened = lines[0].counts + lines[1].counts
    assert len(happened) == 8, happened
    assert min(happened.values()) > 10, happened
    check(fleet, due_before(fleet, healed_us), at_once)


def test_a_worker_that_hears_and_is_not_heard_ends_its_exclusive_run_before_another_begins_it(
    fleet: Fleet, lines: tuple[ZmqRelay, ZmqRelay]
) -> None:
    one, other = lines
    # What the server says proves nothing to a worker: its lease runs from what the server has heard of it.
    fleet.configure(every("alone", "edge", "guarded", ", params: {seconds: 60}, exclusive: true" + FAR), remote=LEASE)
    fleet.start()
    fleet.worker("edge", "--tag", "site=far", port=one.port)
    fleet.wait_for(lambda: fleet.entries("start", "alone"))
    fleet.worker("spare", "--tag", "site=far", port=other.port)
    fleet.wait_registered("edge", "spare")
    one.up = GONE
    fleet.wait_for(lambda: len(fleet.entries("start", "alone")) == 2)
    weather(lines, FAIR)
    fleet.wait_registered("edge", "spare")
    first, end, second = fleet.entries(schedule_id="alone")
    assert (first.what, first.who, first.attempt) == ("start", "edge", 1)
    assert (end.what, end.who, end.run_id) == ("end", "edge", first.run_id)
    assert (second.what, second.who, second.run_id, second.attempt) == ("start", "spare", first.run_id, 2)
    assert second.fence > first.fence
    assert fleet.outcome(first.run_id) is None, "the end of the first attempt came too late to be its outcome"


def weather(lines: tuple[ZmqRelay, ZmqRelay], what: Weather) -> None:
    for line in lines:
        line.up = line.down = what


def due_before(fleet: Fleet, until_us: int) -> tuple[Run, ...]:
    runs: tuple[Run, ...] = SqliteStore(fleet.database).query(RunsPage(limit=100_000))
    return tuple(run for run in runs if run.fire_us < until_us)


def check(fleet: Fleet, runs: tuple[Run, ...], at_once: list[str]) -> None:
    """What is promised, in what the ledger and the workers themselves wrote down."""
    by_id = {run.run_id: run for run in runs}
    instants = Counter((run.schedule_id, run.fire_us) for run in runs if run.schedule_id)
    assert set(instants.values()) == {1}, "one row, and so one outcome, per due instant"
    assert all(run.outcome is not None for run in runs)
    assert {by_id[run_id].outcome for run_id in at_once} == {Outcome.SUCCEEDED}

    starts = [entry for entry in fleet.entries("start") if entry.run_id in by_id]
    twice = {key: n for key, n in Counter((entry.run_id, entry.attempt) for entry in starts).items() if n > 1}
    assert not twice, "an attempt is begun once, by one worker"
    executed = {(entry.run_id, entry.attempt): entry for entry in starts}
    assert all(entry.who != "server" for entry in starts)
    assert all(entry.attempt <= by_id[entry.run_id].attempt for entry in starts)
    ends = {(entry.run_id, entry.attempt) for entry in fleet.entries("end")}
    for run in runs:
        if run.outcome is Outcome.SUCCEEDED:
            # What was accepted is what the latest attempt came to, where that was executed, and to its end.
            assert json.loads(run.result or "") == executed[run.run_id, run.attempt].who, run
            assert (run.run_id, run.attempt) in ends
    most = Counter(entry.run_id for entry in starts if entry.schedule_id == "most")
    assert set(most.values()) == {1}
    for run_id in {entry.run_id for entry in starts}:
        run = by_id[run_id]
        may = {Outcome.SUCCEEDED, Outcome.LOST} if run.schedule_id == "most" else {Outcome.SUCCEEDED}
        assert run.outcome in may, (run, starts)

    # The diary is in the order of what happened: lines are appended whole.
    inside: dict[tuple[str, int], str] = {}
    for entry in fleet.entries():
        match entry.what:
            case "killed":
                inside = {key: who for key, who in inside.items() if who != entry.who}
            case "start" if entry.schedule_id == "alone":
                inside[entry.run_id, entry.attempt] = entry.who
                assert len(inside) == 1, "two exclusive runs at once"
            case "end":
                inside.pop((entry.run_id, entry.attempt), None)
    succeeded = Counter(run.schedule_id for run in runs if run.outcome is Outcome.SUCCEEDED)
    assert min(succeeded[name] for name in ("named", "any", "most", "alone")) >= 1, succeeded
