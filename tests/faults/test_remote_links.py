"""Remote handlers over bad links: a real server, a real worker, and a proxy between them that delays, cuts, closes one
direction, and lets nothing through. (TCP neither loses nor doubles: messages that are lost, doubled or late are in
test_remote_weather.)"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.faults.fleet import Fleet
from tests.faults.tcp_proxy import TcpProxy, proxying
from tests.faults.test_remote import every, successes, wait_for_the_end_of

LEASE = "heartbeat: 300ms, lease: 3s, away_grace: 1m"


@pytest.fixture
def fleet(tmp_path: Path, anyio_backend: str) -> Iterator[Fleet]:
    made = Fleet(tmp_path, anyio_backend)
    yield made
    made.kill()


class Line:
    """The proxy, driven from a test that is no coroutine."""

    def __init__(self, portal: object, proxy: TcpProxy) -> None:
        self._portal = portal
        self._proxy = proxy

    def do(self, what: str, *args: object) -> None:
        """Call a method of the proxy where it lives."""
        self._portal.call(getattr(self._proxy, what), *args)  # type: ignore[attr-defined]

    @property
    def port(self) -> int:
        """Where to connect."""
        return self._proxy.port


@pytest.fixture
def line(fleet: Fleet) -> Iterator[Line]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(proxying(fleet.port)) as proxy:
        yield Line(portal, proxy)


def test_a_link_that_is_slow_is_cut_and_closes_halfway_repeats_nothing(fleet: Fleet, line: Line) -> None:
    fleet.configure(every("tick", "edge"), remote=LEASE)
    fleet.start()
    fleet.worker("edge", "--reconnect", "1", port=line.port)
    fleet.wait_for(lambda: successes(fleet, "tick") >= 1)
    run_id = fleet.run_now("edge", "nap", '{"seconds": 7}')
    fleet.wait_for(lambda: fleet.starts_of(run_id))
    line.do("delay", 0.3)
    time.sleep(1)
    line.do("heal")
    line.do("cut")
    time.sleep(1.5)
    line.do("half_close", "up")
    time.sleep(1.5)
    line.do("half_close", "down")
    time.sleep(1)
    line.do("hold")
    time.sleep(1)
    line.do("heal")
    assert fleet.wait_outcome(run_id) == "succeeded"
    assert fleet.starts_of(run_id) == 1
    before = successes(fleet, "tick")
    fleet.wait_for(lambda: successes(fleet, "tick") > before)
    started = [entry.run_id for entry in fleet.entries("start")]
    assert len(started) == len(set(started)), "nothing was begun twice"


def test_pain_22_a_reconnect_neither_kills_nor_repeats_what_went_on_without_a_link(fleet: Fleet, line: Line) -> None:
    """The lease says how long a worker owns its runs without being heard. Within it they go on, end, and are reported
    later, by their ids, over another connection."""
    fleet.configure(remote="heartbeat: 200ms, lease: 12s, away_grace: 12s")
    fleet.start()
    worker = fleet.worker("edge", "--reconnect", "1", port=line.port)
    fleet.wait_registered("edge")
    goes_on = fleet.run_now("edge", "nap", '{"seconds": 7}')
    ends_meanwhile = fleet.run_now("edge", "nap", '{"seconds": 2}')
    fleet.wait_for(lambda: fleet.starts_of(goes_on) and fleet.starts_of(ends_meanwhile))
    line.do("hold")
    fleet.wait_for(lambda: fleet.registered()["edge"] == "suspect")
    wait_for_the_end_of(fleet, ends_meanwhile)
    time.sleep(1)
    assert fleet.outcome(ends_meanwhile) is None, "nobody has heard of it yet"
    line.do("cut")
    line.do("heal")
    fleet.wait_for(lambda: worker.tail().count("event=registered") == 2)
    assert fleet.wait_outcome(ends_meanwhile) == "succeeded"
    assert not [entry for entry in fleet.entries("end") if entry.run_id == goes_on], "the link is back, and it goes on"
    assert fleet.wait_outcome(goes_on) == "succeeded"
    assert fleet.starts_of(goes_on) == fleet.starts_of(ends_meanwhile) == 1
    assert [run.attempt for run in fleet.runs()] == [1, 1]


def test_a_partition_longer_than_the_lease_ends_an_exclusive_run_and_takes_no_late_result(
    fleet: Fleet, line: Line
) -> None:
    fleet.configure(
        every("alone", "edge", "nap", ", params: {seconds: 60}, exclusive: true"),
        every("plain", "edge", "nap", ", params: {seconds: 5}"),
        remote=LEASE,
    )
    fleet.start()
    fleet.worker("edge", "--reconnect", "1", port=line.port)
    fleet.wait_for(lambda: fleet.entries("start", "alone") and fleet.entries("start", "plain"))
    (plain,) = fleet.entries("start", "plain")
    alone = fleet.entries("start", "alone")[0]
    line.do("hold")
    fleet.wait_for(lambda: fleet.registered()["edge"] == "lost")
    assert fleet.outcome(plain.run_id) is None
    wait_for_the_end_of(fleet, plain.run_id)
    line.do("heal")
    fleet.wait_for(lambda: fleet.starts_of(plain.run_id) == 2)
    assert fleet.wait_outcome(plain.run_id) == "succeeded"
    (stored,) = (run for run in fleet.runs("plain") if run.run_id == plain.run_id)
    assert stored.attempt == 2, "the result of the first attempt came too late"
    fleet.wait_for(lambda: fleet.starts_of(alone.run_id) == 2)
    assert not fleet.entries("end", "alone")
