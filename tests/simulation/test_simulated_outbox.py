"""The simulated outbox passes the contract of the real ones; otherwise the simulator would lie."""

from collections.abc import Callable
from random import Random

import pytest
from attrs import Factory, define

from sz_protocol.attaching import Forget, Keep, KeepFailed, Kept
from sz_runtime.ports import Outbox
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.disk import SimDisk
from sz_runtime.simulation.outbox import SimOutbox
from sz_runtime.simulation.steps import Point
from sz_runtime.simulation.trace import Trace
from tests.contracts.outboxes import DurableOutboxContract, OutboxContract, Session, a_report


@define
class SimWorld:
    """An outbox in simulated time, on its own disk."""

    volatile: bool = False
    agenda: Agenda = Factory(Agenda)
    disk: SimDisk = Factory(lambda: SimDisk(Random(2)))

    def make(self) -> Outbox:
        return SimOutbox("w1", self.agenda, Trace(), self.disk, volatile=self.volatile)

    def reopened(self, outbox: Outbox) -> Outbox:
        return self.make()

    def crashed(self, outbox: Outbox) -> Outbox:
        assert isinstance(outbox, SimOutbox)
        outbox.abandon()
        return self.make()

    def settle(self, done: Callable[[], bool]) -> None:
        for _ in range(1000):
            if done():
                return
            self.agenda.run_until(self.agenda.now_us + 1_000)
        raise AssertionError("the outbox did not answer within a simulated second")


class TestSimOutbox(DurableOutboxContract):
    """The outbox that simulated workers usually have."""

    @pytest.fixture
    def world(self) -> SimWorld:
        return SimWorld()


class TestVolatileSimOutbox(OutboxContract):
    """One in memory."""

    @pytest.fixture
    def world(self) -> SimWorld:
        return SimWorld(volatile=True)


@pytest.mark.parametrize("trouble", ["full", "sync_fails"])
def test_a_disk_in_trouble_is_told_and_what_could_not_be_forgotten_is_later(trouble: str) -> None:
    world = SimWorld()
    session = Session(world, world.make())
    session.kept(a_report(1))
    setattr(world.disk, trouble, True)
    session.forget((a_report(1).row, 1))
    assert isinstance(session.answer(session.keep(a_report(2))), KeepFailed)
    setattr(world.disk, trouble, False)
    again = a_report(1, run_id="f" * 32)
    session.kept(a_report(3), again)
    assert session.crash().left == (a_report(3), again)


def test_a_crash_may_come_between_write_and_sync_and_between_sync_and_answer() -> None:
    for point, survives in ((Point.SYNC, False), (Point.SYNCED, True)):
        world, reached = SimWorld(), list[Point]()

        def strike(here: Point, at: Point = point, seen: list[Point] = reached) -> bool:
            seen.append(here)
            return here is at

        outbox = SimOutbox("w1", world.agenda, Trace(), world.disk, strike)
        answers: list[object] = []
        outbox.open(answers.extend)
        outbox.submit(Keep(1, (a_report(1),)))
        outbox.submit(Forget(((9, 9),)))
        world.agenda.run_until(10_000)
        assert answers == []
        assert reached[-1] is point
        outbox.abandon()
        left = world.make().open(answers.extend)
        assert len(left) <= 1
        assert left == (a_report(1),) or not survives
    assert Kept(1) not in answers
