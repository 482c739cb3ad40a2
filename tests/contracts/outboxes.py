"""What every outbox owes a handler's process, whatever it is made of (ATT-5, and the port `Outbox`).

An outbox joins by a subclass with a fixture `world`: OutboxContract for any, DurableOutboxContract for one that
promises to survive its process.
"""

from collections.abc import Callable, Sequence
from threading import Condition
from typing import Any, Protocol

import pytest

from sz_protocol.attaching import Forget, Keep, KeepAnswer, KeepFailed, Kept, Key
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.messages import RunReport
from sz_protocol.records import CLAIMS_PER_TERM, Outcome
from sz_runtime.ports import Outbox

T0 = 1_700_000_000_000_000


class OutboxWorld(Protocol):
    """One place where an outbox can live, die and live again."""

    def make(self) -> Outbox:
        """The outbox of this world, not open yet and with nothing in it. Called once."""
        ...

    def reopened(self, outbox: Outbox) -> Outbox:
        """An outbox over the same contents, not open yet, after `outbox` was closed."""
        ...

    def crashed(self, outbox: Outbox) -> Outbox:
        """Pull the plug now: nothing that `outbox` still does counts. An outbox over what survived, not open yet. Asked
        of durable ones only."""
        ...

    def settle(self, done: Callable[[], bool]) -> None:
        """Let the world go on until `done()`; fail when it does not come to that."""
        ...


class ThreadedWorld:
    """The part of a world whose outbox answers from a thread of its own."""

    def __init__(self) -> None:
        self.changed = Condition()

    def settle(self, done: Callable[[], bool]) -> None:
        """Wait for it."""
        with self.changed:
            assert self.changed.wait_for(done, 10), "the outbox did not answer"


class Session:
    """One life of an outbox under test."""

    def __init__(self, world: OutboxWorld, outbox: Outbox) -> None:
        self.world = world
        self.outbox = outbox
        self.answers: list[KeepAnswer] = []
        self.last_op = 0
        self.left = outbox.open(self._complete)

    def _complete(self, answers: Sequence[KeepAnswer]) -> None:
        condition = getattr(self.world, "changed", None) or Condition()
        with condition:
            self.answers += answers
            condition.notify_all()

    def keep(self, *reports: RunReport) -> int:
        """Submit one Keep; its operation."""
        self.last_op += 1
        self.outbox.submit(Keep(self.last_op, reports))
        return self.last_op

    def forget(self, *keys: Key) -> None:
        """Submit one Forget."""
        self.outbox.submit(Forget(keys))

    def answer(self, op: int) -> KeepAnswer:
        """Wait for the answer to one operation."""
        self.world.settle(lambda: any(answer.op == op for answer in self.answers))
        return next(answer for answer in self.answers if answer.op == op)

    def kept(self, *reports: RunReport) -> None:
        """Keep, and wait until it is."""
        op = self.keep(*reports)
        assert self.answer(op) == Kept(op)

    def end(self) -> "Session":
        """Close; the next life."""
        self.outbox.close()
        return Session(self.world, self.world.reopened(self.outbox))

    def crash(self) -> "Session":
        """Pull the plug; the next life."""
        return Session(self.world, self.world.crashed(self.outbox))


def a_report(number: int, attempt: int = 1, **more: Any) -> RunReport:
    """The result of one execution, with everything that one can have."""
    row = CLAIMS_PER_TERM + number
    values: dict[str, Any] = {
        "delivery": number,
        "fence": (1 << 62) + number,
        "incarnation": (1 << 63) - 1,
        "outcome": Outcome.FAILED,
        "reason": "error",
        "started_us": T0,
        "finished_us": T0 + number,
        "result": '{"n": [1, null]}',
        "error": "ValueError: Grüße, ☃\n  at line 3",
        "retryable": False,
        "run_id": f"{row:032x}",
    }
    return RunReport(row, attempt, **(values | more))


def plain(number: int) -> RunReport:
    """A result with nothing to say."""
    return a_report(
        number, outcome=Outcome.SUCCEEDED, reason="", started_us=None, result=None, error=None, retryable=True
    )


def key_of(report: RunReport) -> Key:
    """Whose it is."""
    return report.row, report.attempt


class OutboxContract:
    """Rules of every outbox."""

    @pytest.fixture
    def session(self, world: OutboxWorld) -> Session:
        return Session(world, world.make())

    def test_a_new_one_is_empty(self, session: Session) -> None:
        assert session.left == ()

    def test_every_keep_is_answered_once_and_in_order(self, session: Session) -> None:
        ops = []
        for number in range(1, 301):
            ops.append(session.keep(a_report(number)))
            if number % 3 == 0:
                session.forget(key_of(a_report(number - 1)))
        session.answer(ops[-1])
        assert session.answers == [Kept(op) for op in ops]

    def test_after_close_everything_has_been_answered(self, session: Session) -> None:
        ops = [session.keep(a_report(number)) for number in range(1, 200)]
        session.outbox.close()
        assert session.answers == [Kept(op) for op in ops]

    def test_close_may_be_called_twice_and_nothing_is_taken_after_it(self, session: Session) -> None:
        session.outbox.close()
        session.outbox.close()
        with pytest.raises(LocalProtocolError, match="not open"):
            session.keep(a_report(1))

    def test_to_forget_what_is_not_there_is_no_error(self, session: Session) -> None:
        session.forget((1, 1), (2, 2))
        session.kept(a_report(1))


class DurableOutboxContract(OutboxContract):
    """Rules of an outbox that survives the death of its process and of its machine."""

    def test_what_was_closed_opens_with_all_of_it_in_its_order(self, session: Session) -> None:
        assert session.outbox.durable
        reports = (a_report(3), plain(1), a_report(2, attempt=7))
        session.kept(reports[0])
        session.kept(*reports[1:])
        assert session.end().left == reports

    def test_what_was_forgotten_does_not_come_back(self, session: Session) -> None:
        session.kept(a_report(1), a_report(2), a_report(3))
        session.forget(key_of(a_report(1)), key_of(a_report(3)))
        later = session.end()
        assert later.left == (a_report(2),)
        later.forget(key_of(a_report(2)))
        assert later.end().left == ()

    def test_one_that_is_kept_again_is_replaced(self, session: Session) -> None:
        session.kept(a_report(1))
        session.kept(a_report(1, delivery=99))
        assert session.end().left == (a_report(1, delivery=99),)

    def test_what_is_kept_after_its_number_was_forgotten_is_another_run(self, session: Session) -> None:
        again = a_report(1, run_id="f" * 32)
        session.keep(a_report(1))
        session.forget(key_of(a_report(1)))
        session.kept(again)
        assert session.end().left == (again,)

    def test_attempts_of_one_run_are_kept_apart(self, session: Session) -> None:
        session.kept(a_report(1), a_report(1, attempt=2))
        session.forget(key_of(a_report(1)))
        assert session.end().left == (a_report(1, attempt=2),)

    def test_what_was_answered_survives_a_crash(self, session: Session) -> None:
        for number in range(1, 31):
            session.kept(a_report(number))
        assert session.crash().left == tuple(a_report(number) for number in range(1, 31))

    def test_a_crash_keeps_each_operation_whole_or_not_at_all(self, session: Session) -> None:
        ops = [session.keep(a_report(2 * number), a_report(2 * number + 1)) for number in range(200)]
        session.answer(ops[40])
        left = {report.row for report in session.crash().left}
        for number in range(200):
            pair = {a_report(2 * number).row, a_report(2 * number + 1).row}
            assert len(pair & left) in (0, 2)
            assert number > 40 or pair <= left

    def test_one_that_cannot_be_kept_fails_alone(self, session: Session) -> None:
        good, bad, after = session.keep(a_report(1)), session.keep(a_report(1 << 63)), session.keep(a_report(2))
        assert isinstance(session.answer(bad), KeepFailed)
        assert session.answer(good) == Kept(good)
        assert session.answer(after) == Kept(after)
        assert session.end().left == (a_report(1), a_report(2))
