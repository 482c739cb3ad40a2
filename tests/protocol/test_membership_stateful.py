"""Membership alone, with handlers that know their trade and a network that does not: messages get lost, come twice or
much later, handlers restart, fall silent and leave. MEMB-5, MEMB-8; each run goes to the handler that it is claimed
for, ends once, and succeeds only where that was reported under its fence. (What nobody sends: test_membership_any.)
"""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sz_protocol.kernel.events import Received, ResultsSettled, RunsFinished
from sz_protocol.messages import Accept, Beat, Bye, Dispatch, DispatchedRun, Results, RunReport
from sz_protocol.records import Outcome
from tests.protocol.remote_rig import Desk, Remote, held, ref
from tests.protocol.test_membership_any import ODD

NAMES = "ab"
names = st.sampled_from(NAMES)


class Yard(RuleBasedStateMachine):
    """Plays two handlers, the network between, and execution."""

    @initialize()
    def begin(self) -> None:
        self.desk = Desk(ODD)
        self.claimed: dict[tuple[int, int], tuple[str, int]] = {}
        """Whom each attempt is claimed for, and its fence."""
        self.reported: dict[tuple[int, int, int], None] = {}
        self.said: list[tuple[bytes, Any]] = []
        self.read = self.looked = 0
        self.handlers: dict[str, Remote] = {}
        self.executing: dict[str, dict[tuple[int, int], DispatchedRun]] = {name: {} for name in NAMES}
        self.unacked: dict[str, dict[tuple[int, int], DispatchedRun]] = {name: {} for name in NAMES}
        for name in NAMES:
            self.handlers[name] = Remote(self.desk, name, slots=3)
            self.join(name, False)

    def look(self) -> None:
        """Judge what was sent and told since the last look; handlers begin what they get."""
        for send in self.desk.sent[self.read :]:
            if not isinstance(send.message, Dispatch):
                continue
            name = send.to.decode()
            for run in send.message.runs:
                assert self.claimed[run.row, run.attempt] == (name, run.fence), "it goes where it is claimed for"
                if (run.row, run.attempt) not in self.unacked[name]:
                    self.executing[name][run.row, run.attempt] = run
        self.read = len(self.desk.sent)
        for told in self.desk.told[self.looked :]:
            for result in told.results if isinstance(told, RunsFinished) else ():
                _, fence = self.claimed[result.row, result.attempt]
                assert (result.row, result.attempt, fence) in self.reported, "nobody reported that"
        self.looked = len(self.desk.told)

    def say(self, name: str, message: Any, lost: bool = False) -> None:
        """The message may get lost; it may come again later."""
        address = self.handlers[name].address
        self.said.append((address, message))
        if not lost:
            self.desk.give(Received(address, message))
        self.look()

    @rule(name=names, anew=st.booleans())
    def join(self, name: str, anew: bool) -> None:
        """Register, perhaps in a new life, which executes nothing and has its results."""
        handler = self.handlers[name]
        if anew:
            handler.incarnation += 1
            self.executing[name].clear()
        executing, unacked = self.executing[name].values(), self.unacked[name].values()
        handler.hello(executing=tuple(map(held, executing)), unacked=tuple(map(held, unacked)))
        self.beat(name, 3, False)

    @rule(name=names, room=st.integers(0, 3), lost=st.booleans())
    def beat(self, name: str, room: int, lost: bool) -> None:
        handler = self.handlers[name]
        handler.number += 1
        self.say(name, Beat(handler.session, handler.number, handler.ended + room), lost)

    @rule(name=names, count=st.integers(1, 3), exclusive=st.booleans())
    def assign(self, name: str, count: int, exclusive: bool) -> None:
        starts = [self.desk.start(exclusive=exclusive) for _ in range(count)]
        for start in starts:
            key = (start.row, start.attempt)
            self.claimed[key] = (name, start.fence)
        self.desk.rows -= count
        self.desk.assign(name, count, exclusive=exclusive)
        self.look()

    @rule(name=names, lost=st.booleans())
    def accept(self, name: str, lost: bool) -> None:
        session = self.handlers[name].session
        self.say(name, Accept(session, tuple(map(ref, self.executing[name].values()))), lost)

    @rule(name=names, outcome=st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED]), lost=st.booleans())
    def report(self, name: str, outcome: Outcome, lost: bool) -> None:
        """Everything that is executing ends; what was not acknowledged is told again."""
        handler, now_us = self.handlers[name], self.desk.now.utc_us
        handler.ended += len(self.executing[name])
        self.unacked[name] |= self.executing[name]
        self.executing[name] = {}
        runs = self.unacked[name].values()
        self.reported |= {(run.row, run.attempt, run.fence): None for run in runs}
        reports = tuple(
            RunReport(r.row, r.attempt, r.delivery, r.fence, handler.incarnation, outcome, "", now_us, now_us)
            for r in runs
        )
        self.say(name, Results(handler.session, handler.ended, reports), lost)
        for ack in handler.acks():
            self.unacked[name].pop((ack.row, ack.attempt), None)

    @rule(which=st.integers(0, 30))
    def again(self, which: int) -> None:
        """What was said once comes once more, or at last."""
        if self.said:
            address, message = self.said[-1 - which % len(self.said)]
            self.desk.give(Received(address, message))
            self.look()

    @rule(count=st.integers(1, 9))
    def settle(self, count: int) -> None:
        self.desk.give(ResultsSettled(tuple(self.desk.unsettled)[:count]))
        self.look()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 1.2, 5.0]))
    def silence(self, seconds: float) -> None:
        self.desk.advance(seconds)
        self.look()

    @rule(name=names, lost=st.booleans())
    def leave(self, name: str, lost: bool) -> None:
        self.say(name, Bye(self.handlers[name].session), lost)

    def teardown(self) -> None:
        """All fall silent: each run has ended, and nobody is remembered for ever."""
        if not hasattr(self, "desk"):
            return
        self.desk.settle_results()
        self.desk.advance(60)
        self.desk.settle_results()
        self.look()
        machine = self.desk.machine
        assert not self.desk.fences, "each run has ended"
        assert (machine.leases.all, machine.workers.sessions, machine.workers.all) == ({}, {}, {})
        assert machine.next_wakeup(self.desk.now) is None


Yard.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestYard: Callable[..., None] = Yard.TestCase  # type: ignore[assignment]
