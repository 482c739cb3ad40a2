"""A handler's side against a server and an outbox that know their trade, over a link that comes and goes, through lives
that end anywhere. `Rig` judges each order by the rules; here stands what must have become of every execution.
"""

from typing import Any

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sz_protocol.attaching import AttachmentSettings, Forget, Keep, KeepFailed, Kept, Key
from sz_protocol.kernel.effects import CancelReason, CancelRun
from sz_protocol.kernel.events import LinkChanged, StopRequested
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.messages import Accept, AckCode, Dispatch, DispatchedRun, Hello, Refuse, RejectCode, Results, RunReport
from sz_protocol.messages import Stop as StopRun
from tests.protocol.attachment_rig import Rig, a_run

SHORT = AttachmentSettings(
    accept_us=0, window=2, message_bytes=900, window_bytes=1500, backlog=3, resend_us=3 * SECOND_US, leave_us=SECOND_US
)
ROWS = st.integers(1, 4)


class Trade(RuleBasedStateMachine):
    """`outbox` is what survives a life; `finished` are executions that ended in this life, `known` the results that the
    server has, durably; `sessions` counts those that it gave."""

    @initialize(slots=st.integers(1, 3))
    def begin(self, slots: int) -> None:
        self.slots = slots
        self.outbox: dict[Key, RunReport] = {}
        self.known: dict[Key, None] = {}
        self.ever_finished: dict[Key, None] = {}
        self.attempts: dict[int, int] = {}
        self.deliveries = 0
        self.sent: dict[Key, DispatchedRun] = {}
        """What the server has given away, and has no result of."""
        self.sessions = 0
        self.live()

    def live(self) -> None:
        """A life begins, with what the outbox holds."""
        self.rig = Rig(self.slots, settings=SHORT, kept=tuple(self.outbox.values()), auto_keep=False)
        self.keeps: dict[int, tuple[RunReport, ...]] = {}
        self.unkept: dict[Key, None] = {}
        """Finished in this life, not yet in the outbox."""
        self.failed: dict[Key, None] = {}
        """The outbox has said that it cannot keep them; now in memory only."""
        self.drained = False
        self.given: list[tuple[DispatchedRun, int, int]] = []
        """Whatever was sent to this life, in which session and under which beat."""
        self.seen = 0

    # --- what it orders ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """Take the orders since the last look."""
        orders, self.seen = self.rig.orders[self.seen :], len(self.rig.orders)
        for order in orders:
            match order:
                case Keep(op=op, reports=reports):
                    self.keeps[op] = reports
                case Forget(keys=keys):
                    for key in keys:
                        assert key in self.known, "ATT-5: forgotten, and the server does not have it"
                        self.outbox.pop(key, None)
                    # An outbox does what it is told in that order: what it is still to keep is gone as soon as it is.
                    for op, reports in self.keeps.items():
                        self.keeps[op] = tuple(each for each in reports if (each.row, each.attempt) not in keys)
                case CancelRun(row=row, attempt=attempt):
                    assert (row, attempt) in self.rig.checks.started

    def hear_results(self) -> list[RunReport]:
        """What the server finds in the mail; the rest of it is dropped."""
        found = [report for message in self.rig.take(Results) for report in message.results]
        for report in found:
            assert (report.row, report.attempt) in self.ever_finished, "a result of what never ended"
        return found

    @property
    def attached(self) -> bool:
        return self.rig.machine.session is not None and self.rig.machine.link_up

    # --- the link and the server --------------------------------------------------------------------------------

    @precondition(lambda self: not self.rig.machine.link_up)
    @rule()
    def connect(self) -> None:
        self.rig.tell(LinkChanged(True))
        self.look()

    @rule(what=st.sampled_from(["link", "session", "life", "nothing", "drain"]))
    def trouble(self, what: str) -> None:
        """Each now and then: much has to happen between two of them."""
        before = len(self.rig.orders)
        if what == "link":
            self.rig.tell(LinkChanged(False))
        elif what == "session" and self.attached:
            self.rig.reject(RejectCode.UNKNOWN_SESSION)
            assert not self.attached
        elif what == "drain" and not self.drained and self.sessions > 1:
            self.drained = True
            self.rig.tell(StopRequested(3 * SECOND_US))
        elif what == "life":
            # kill -9: what was executing, and what was not kept yet, is gone with it.
            self.sent = {key: run for key, run in self.sent.items() if key in self.outbox}
            self.live()
            return
        asked = [order for order in self.rig.orders[before:] if isinstance(order, CancelRun)]
        assert not asked, "ATT-7, ATT-8: what executes goes on, whatever the link does, and for a grace in a drain"
        self.look()

    @precondition(lambda self: self.rig.machine.link_up and not self.attached and not self.drained)
    @rule(hears=st.sampled_from([True, True, True, False]))
    def call(self, hears: bool) -> None:
        """ATT-1: it goes on calling; a Hello lists what executes, and which results wait."""
        self.rig.said.clear()  # What was said before has gone with its connection, or says what was then.
        hello = self.rig.hello()
        self.look()
        executing = {(held.row, held.attempt) for held in hello.executing}
        assert executing == set(self.rig.checks.executing), "ATT-1: what executes, no more and no less"
        unacked = {(held.row, held.attempt) for held in hello.unacked}
        assert unacked <= set(self.ever_finished)
        assert set(self.outbox) - set(self.known) <= unacked, "ATT-5: what the outbox holds is not forgotten"
        if hears:
            self.sessions += 1
            self.rig.welcome(hello, self.sessions)
            # What it does not list was not begun, and will not be.
            self.sent = {key: run for key, run in self.sent.items() if key in executing | unacked}
        self.look()

    @precondition(lambda self: self.attached)
    @rule()
    def echo(self) -> None:
        self.rig.echo()
        self.look()

    @precondition(lambda self: self.attached)
    @rule(row=ROWS, exclusive=st.booleans())
    def dispatch(self, row: int, exclusive: bool) -> None:
        """A new attempt, as far as the server knows: of what it has given away and has no result of, another one is
        decided only when that is lost."""
        if any(key[0] == row for key in self.sent):
            return
        self.attempts[row] = attempt = self.attempts.get(row, 0) + 1
        self.deliveries += 1
        run = a_run(row, attempt, self.deliveries, exclusive=exclusive)
        self.sent[row, attempt] = run
        self.given.append((run, self.rig.session, self.rig.last_beat))
        self.give(run)

    @precondition(lambda self: self.attached and self.given)
    @rule(data=st.data())
    def dispatch_again(self, data: st.DataObject) -> None:
        """ATT-2: its answer was lost, so the server says it again; or the line doubles it, long after it has ended."""
        run, session, beat = data.draw(st.sampled_from(self.given))
        if (run.row, run.attempt) in self.sent and data.draw(st.booleans()):
            self.deliveries += 1
            self.give(evolve(run, delivery=self.deliveries))
        else:
            self.give(run, session, beat)

    @precondition(lambda self: self.attached and self.rig.checks.executing)
    @rule(data=st.data())
    def dispatch_newer(self, data: st.DataObject) -> None:
        """ATT-3: the server has given the older attempt up. That one is stopped, and the newer one has to wait."""
        row, attempt = data.draw(st.sampled_from(sorted(self.rig.checks.executing)))
        self.sent.pop((row, attempt), None)
        self.attempts[row] = max(self.attempts[row], attempt) + 1
        self.deliveries += 1
        newer = a_run(row, self.attempts[row], self.deliveries)
        self.give(newer)
        assert (row, newer.attempt) not in self.rig.checks.started
        assert any(isinstance(o, CancelRun) and (o.row, o.attempt) == (row, attempt) for o in self.rig.orders)

    @precondition(lambda self: self.attached)
    @rule(row=ROWS)
    def dispatch_stale(self, row: int) -> None:
        """ATT-4: under a beat that was never sent."""
        if any(key[0] == row for key in self.sent):
            return
        self.attempts[row] = attempt = self.attempts.get(row, 0) + 1
        self.deliveries += 1
        self.rig.dispatch(a_run(row, attempt, self.deliveries), beat=self.rig.last_beat + 100)
        assert (row, attempt) not in self.rig.checks.started
        self.look()

    def give(self, run: DispatchedRun, session: int | None = None, beat: int | None = None) -> None:
        key = run.row, run.attempt
        before = dict(self.rig.checks.started)
        self.rig.said.clear()
        session = self.rig.session if session is None else session
        self.rig.hear(Dispatch(session, self.rig.last_beat if beat is None else beat, (run,)))
        self.look()
        answers = list(self.rig.said)
        refused = any(isinstance(said, Refuse) and said.run.row == run.row for said in answers)
        accepted = any(isinstance(said, Accept) and run.row in [one.row for one in said.runs] for said in answers)
        assert not (refused and accepted)
        if refused:
            assert key in before or key not in self.rig.checks.started, "a refused run was begun"
            if key not in before:
                self.sent.pop(key, None)
        if key not in before and key in self.rig.checks.started:
            assert not self.drained, "ATT-8: a worker that drains begins nothing"

    @precondition(lambda self: self.rig.checks.executing)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.5]))
    def finish(self, data: st.DataObject, seconds: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.rig.checks.executing)))
        self.ever_finished[key] = None
        self.unkept[key] = None
        self.rig.finish(*key)
        self.look()
        self.rig.pass_time(seconds)
        self.look()

    @precondition(lambda self: self.rig.checks.executing and self.attached)
    @rule(data=st.data(), reason=st.sampled_from([CancelReason.REQUESTED, CancelReason.SUPERSEDED]))
    def stop(self, data: st.DataObject, reason: CancelReason) -> None:
        row, attempt = data.draw(st.sampled_from(sorted(self.rig.checks.executing)))
        before = len(self.rig.orders)
        asked = any(isinstance(o, CancelRun) and (o.row, o.attempt) == (row, attempt) for o in self.rig.orders)
        self.rig.hear(StopRun(self.rig.session, row, attempt, reason))
        self.look()
        ordered = [
            o for o in self.rig.orders[before:] if isinstance(o, CancelRun) and (o.row, o.attempt) == (row, attempt)
        ]
        assert ordered or asked, "it was told to stop it"

    # --- the outbox ---------------------------------------------------------------------------------------------

    @precondition(lambda self: self.keeps)
    @rule(works=st.sampled_from([True, True, True, False]))
    def answer_keep(self, works: bool) -> None:
        op = min(self.keeps)
        for report in self.keeps.pop(op):
            key = report.row, report.attempt
            self.unkept.pop(key, None)
            if works:
                self.failed.pop(key, None)
                self.outbox[key] = report
            else:
                self.failed[key] = None
        self.rig.tell(Kept(op) if works else KeepFailed(op, "full"))
        self.look()

    @precondition(lambda self: self.attached and any(isinstance(said, Results) for said in self.rig.said))
    @rule(durable=st.booleans(), lost=st.booleans())
    def take_results(self, durable: bool, lost: bool) -> None:
        """The server reads its mail: what it has made durable it acknowledges, unless that is lost on the way."""
        for report in self.hear_results():
            key = report.row, report.attempt
            if not durable:
                continue
            code = AckCode.DUPLICATE if key in self.known else AckCode.OK
            self.known[key] = None
            self.sent.pop(key, None)
            if not lost:
                self.rig.ack(key, code=code)
        self.look()

    # --- time, and the end of lives -----------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 15.0]))
    def pass_time(self, seconds: float) -> None:
        self.rig.pass_time(seconds)
        self.look()

    # --- what always holds --------------------------------------------------------------------------------------

    @invariant()
    def no_result_is_forgotten(self) -> None:
        """ATT-5: whatever ended in this life, or was in the outbox, and is not acknowledged is still known."""
        if not hasattr(self, "rig") or self.rig.checks.stopped:
            return
        files = self.rig.machine.reporting.files
        for key in (*self.unkept, *self.failed, *self.outbox):
            if key not in self.rig.checks.acked:
                assert key in files, f"{key} is forgotten"

    def teardown(self) -> None:
        """Everything works again: every result reaches the server, and nothing waits."""
        if not hasattr(self, "rig"):
            return
        if self.rig.checks.stopped:
            self.live()
        self.rig.said.clear()
        for _ in range(60):
            if not self.rig.machine.link_up:
                self.rig.tell(LinkChanged(True))
            self.look()
            while self.keeps:
                self.answer_keep_well()
            if self.rig.checks.stopped:
                break
            for message in list(self.rig.said):
                if isinstance(message, Hello):
                    self.sessions += 1
                    self.rig.welcome(message, self.sessions)
            for key in list(self.rig.checks.executing):
                self.ever_finished[key] = None
                self.unkept[key] = None
                self.rig.finish(*key)
            if self.attached:
                self.rig.echo()
                for report in self.hear_results():
                    key = report.row, report.attempt
                    self.known[key] = None
                    self.rig.ack(key)
            else:
                self.rig.said.clear()
            self.look()
            self.rig.pass_time(1.0)
        left = [key for key in self.outbox if key not in self.known]
        if not self.rig.checks.stopped:
            assert not self.outbox, "ATT-5: acknowledged, and not let go of"
            assert not left, "a result did not reach the server"
            assert not self.rig.machine.reporting.files

    def answer_keep_well(self) -> None:
        op = min(self.keeps)
        for report in self.keeps.pop(op):
            self.unkept.pop((report.row, report.attempt), None)
            self.failed.pop((report.row, report.attempt), None)
            self.outbox[report.row, report.attempt] = report
        self.rig.tell(Kept(op))
        self.look()


Trade.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestTrade: Any = Trade.TestCase
