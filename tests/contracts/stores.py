"""What every store owes the node, whatever it is made of. The rules are those of specs/stores.md.

A store joins by a subclass with a fixture `world`: StoreContract for any store, DurableStoreContract for one that
promises to survive a crash.
"""

import pytest

from sz_protocol.changes import CursorMove, InsertRuns, MoveCursors, UpdateRuns
from sz_protocol.queries import SchedulesById, UnfinishedRuns
from tests.contracts.store_contents import ContentsContract
from tests.contracts.store_world import T0, Session, StoreWorld, a_run, a_schedule, done, everything, put
from tests.contracts.store_writes import WriteContract


class StoreContract(WriteContract, ContentsContract):
    """Rules of every store."""

    @pytest.fixture
    def session(self, world: StoreWorld) -> Session:
        return Session.begin(world, world.make())

    def test_store_11_what_was_closed_opens_with_all_of_it(self, session: Session) -> None:
        session.do(put(a_schedule("a")), InsertRuns((a_run(1), done(a_run(2)))))
        before = everything(session)
        assert everything(Session.begin(session.world, session.end())) == before


class DurableStoreContract(StoreContract):
    """Rules of a store that survives the death of its process and of its machine."""

    def test_store_11_what_was_answered_survives_a_crash(self, session: Session) -> None:
        session.do(put(a_schedule("a")))
        for number in range(30):
            session.do(InsertRuns((a_run(number),)))
        session.do(UpdateRuns((done(a_run(3)),), (1,)))
        before = everything(session)
        later = Session.begin(session.world, session.world.crashed(session.store))
        assert everything(later) == before
        assert later.term > session.term
        assert later.high_water_us == a_run(29).decided_us

    def test_store_11_a_crash_keeps_each_write_whole_or_not_at_all(self, session: Session) -> None:
        """SCHED-2: a run without its cursor's move would fire again, a move without its run would lose the fire."""
        start = a_schedule("a")
        session.do(put(start))
        cursor_us = start.cursor_us
        for number in range(1, 200):
            move = CursorMove("a", 1, cursor_us, T0 + number, T0 + number + 1)
            session.submit(InsertRuns((a_run(number),)), MoveCursors((move,)), stream=1)
            cursor_us = T0 + number
        session.answer(40)
        later = Session.begin(session.world, session.world.crashed(session.store))
        (stored,) = later.read(SchedulesById(("a",)))
        survived = stored.cursor_us - T0
        assert survived >= 39
        assert [run.row for run in later.read(UnfinishedRuns())] == [a_run(n).row for n in range(1, survived + 1)]
