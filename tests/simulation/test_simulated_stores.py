"""The simulated stores pass the contract of the real ones; otherwise the simulator would lie."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from attrs import Factory, define, evolve

from sz_protocol.changes import InsertRuns, UpdateRuns
from sz_protocol.kernel.effects import Read, Write
from sz_protocol.kernel.events import Event, FailReason, ReadDone, WriteFailed
from sz_protocol.queries import RunsByRow
from sz_protocol.records import INBORN
from sz_runtime.ports import Store
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.disk import SimDisk
from sz_runtime.simulation.network import SimNetwork
from sz_runtime.simulation.store import RemoteStore, SimStore
from sz_runtime.simulation.store_server import StoreServer
from sz_runtime.simulation.tables import Tables
from sz_runtime.simulation.trace import Trace
from tests.contracts.store_world import StoreWorld, a_run
from tests.contracts.stores import DurableStoreContract

LONG_US = 60_000_000


@define
class SimWorld:
    """A store in simulated time, beside its node or behind a calm network."""

    remote: bool
    agenda: Agenda = Factory(Agenda)
    trace: Trace = Factory(Trace)
    server: StoreServer = Factory(
        lambda self: StoreServer("db", self.agenda, self.trace, Random(1), SimDisk(Random(2))), takes_self=True
    )
    network: SimNetwork = Factory(lambda self: SimNetwork(self.agenda, self.trace, Random(3)), takes_self=True)

    def make(self) -> Store:
        return RemoteStore(self.server, "a", self.agenda, self.network) if self.remote else SimStore(self.server, "a")

    def reopened(self, store: Store) -> Store:
        self.agenda.run_until(self.agenda.now_us + LONG_US)
        return self.make()

    def crashed(self, store: Store) -> Store:
        self.server.crash()
        return self.make()

    def settle(self, done: Callable[[], bool]) -> None:
        for _ in range(1000):
            if done():
                return
            self.agenda.run_until(self.agenda.now_us + 1_000)
        raise AssertionError("the store did not answer within a simulated second")


class TestLocalSimStore(DurableStoreContract):
    """The store of a node's own disk."""

    @pytest.fixture
    def world(self) -> StoreWorld:
        return SimWorld(remote=False)


class TestRemoteSimStore(DurableStoreContract):
    """The store behind the network."""

    @pytest.fixture
    def world(self) -> StoreWorld:
        return SimWorld(remote=True)


def test_store_3_a_refusal_that_rests_on_a_commit_that_fails_fails_with_it() -> None:
    world = SimWorld(remote=False)
    store = world.make()
    answers: list[Event] = []
    opened = store.open(answers.extend)
    world.server.disk.sync_fails = True
    store.submit(Write(1, (InsertRuns((a_run(1),)),), opened.term))
    store.submit(Write(2, (InsertRuns((a_run(1),)),), opened.term))
    store.submit(Read(3, RunsByRow((a_run(1).row,))))
    store.submit(Write(4, (InsertRuns((a_run(2),)),), opened.term - 1))
    world.settle(lambda: len(answers) == 4)
    reasons = [answer.reason for answer in answers if isinstance(answer, WriteFailed)]
    assert reasons[0] is reasons[1]
    assert reasons[0] in (FailReason.UNKNOWN, FailReason.UNAVAILABLE)
    assert reasons[2] is FailReason.FENCED
    assert ReadDone(3, ()) in answers


@pytest.mark.parametrize("name", INBORN[1:])
def test_store_14_the_simulated_store_notices_an_update_that_makes_another_run_of_a_row(name: str) -> None:
    tables, run = Tables(), a_run(1)
    tables.apply((InsertRuns((run,)),))
    foreign: dict[str, Any] = {name: "of another run"}
    other = evolve(run, **foreign)
    with pytest.raises(AssertionError, match="STORE-14"):
        tables.apply((UpdateRuns((other,), (1,)),))
