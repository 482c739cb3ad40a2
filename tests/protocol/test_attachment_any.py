"""ATT-9: whatever arrives, in whatever order, however often, nothing raises and no rule breaks. The rig judges."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sz_protocol.attaching import AttachmentSettings, Keep, KeepFailed, Kept
from sz_protocol.kernel.effects import CancelReason, Stop
from sz_protocol.kernel.events import Garbled, LinkChanged, RunProgress, RunsProgressed, StopRequested, Woke
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.messages import (
    Ack,
    AckCode,
    Beat,
    Dispatch,
    Echo,
    Reject,
    RejectCode,
    ResultAck,
    Welcome,
)
from sz_protocol.messages import Stop as StopRun
from tests.protocol.attachment_rig import METHODS, Rig, a_report, a_run, handlers

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
SMALL = st.integers(0, 4)
NUMBER = st.one_of(SMALL, INT64)
RUN = st.builds(
    a_run,
    row=NUMBER,
    attempt=NUMBER,
    delivery=NUMBER,
    fence=NUMBER,
    method=st.sampled_from(["work", "narrow", "gone"]),
    timeout_us=st.one_of(st.none(), NUMBER),
    exclusive=st.booleans(),
)
SESSION = st.one_of(st.integers(1, 3), INT64)
TIME = st.one_of(st.sampled_from([1, 1000, SECOND_US, 10 * SECOND_US]), INT64)
MESSAGE = st.one_of(
    st.builds(Welcome, NUMBER, SESSION, st.sampled_from([1, 1, 1, 0, 2]), TIME, TIME, NUMBER),
    st.builds(Reject, st.sampled_from(list(RejectCode)), st.just("no"), TIME, NUMBER, SESSION),
    st.builds(Echo, SESSION, NUMBER, NUMBER),
    st.builds(Dispatch, SESSION, NUMBER, st.lists(RUN, max_size=4).map(tuple)),
    st.builds(
        ResultAck,
        SESSION,
        st.lists(st.builds(Ack, NUMBER, NUMBER, st.sampled_from(list(AckCode))), max_size=4).map(tuple),
    ),
    st.builds(StopRun, SESSION, NUMBER, NUMBER, st.sampled_from(list(CancelReason))),
    st.just(Beat(1, 1, 1)),
    st.just("gibberish"),
)
SHORT = AttachmentSettings(
    window=2, message_bytes=900, window_bytes=1500, backlog=3, resend_us=3 * SECOND_US, leave_us=2 * SECOND_US
)


class Chaos:
    """One run of one example: a rig, and a server that is right now and then."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        kept = tuple(a_report(row) for row in data.draw(st.lists(SMALL, max_size=2, unique=True)))
        self.rig = Rig(slots=data.draw(st.integers(1, 3)), settings=SHORT, kept=kept, auto_keep=False)
        self.steps: dict[str, Any] = {
            "hear": lambda: self.rig.hear(data.draw(MESSAGE)),
            "link": lambda: self.rig.tell(LinkChanged(data.draw(st.sampled_from([True, True, False])))),
            "welcome": self.welcome,
            "echo": self.rig.echo,
            "dispatch": self.dispatch,
            "finish": self.finish,
            "outbox": self.answer_outbox,
            "ack": self.ack,
            "pass": lambda: self.rig.pass_time(data.draw(st.sampled_from([0.0, 0.1, 1.0, 4.0, 15.0]))),
            "jump": lambda: self.rig.jump(data.draw(st.sampled_from([0.5, 3.0, 30.0]))),
            "woke": lambda: self.rig.tell(Woke()),
            "garbled": lambda: self.rig.tell(Garbled(b"", "no msgpack of ours")),
            "methods": lambda: self.rig.tell(handlers(*data.draw(st.sampled_from([METHODS, METHODS[:1]])))),
            "progress": lambda: self.rig.tell(RunsProgressed((RunProgress(1, 1, "half", 50),))),
        }

    def welcome(self) -> None:
        if self.rig.machine.calling.open:
            self.rig.welcome(self.rig.machine.calling.open, session=self.data.draw(st.integers(1, 3)))

    def dispatch(self) -> None:
        rows = st.builds(
            a_run, row=st.integers(1, 4), attempt=st.integers(1, 2), delivery=st.integers(1, 3), exclusive=st.booleans()
        )
        self.rig.dispatch(*self.data.draw(st.lists(rows, max_size=3)))

    def finish(self) -> None:
        if self.rig.checks.executing:
            self.rig.finish(*self.data.draw(st.sampled_from(sorted(self.rig.checks.executing))))

    def answer_outbox(self) -> None:
        if self.rig.checks.open_keeps:
            op = min(self.rig.checks.open_keeps)
            self.rig.tell(Kept(op) if self.data.draw(st.booleans()) else KeepFailed(op, "full"))

    def ack(self) -> None:
        waiting = sorted(self.rig.machine.reporting.files)
        if waiting:
            self.rig.ack(self.data.draw(st.sampled_from(waiting)))

    def go(self, steps: int) -> None:
        names = sorted(self.steps)
        for _ in range(steps):
            self.steps[self.data.draw(st.sampled_from(names))]()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_att_9_whatever_arrives_no_rule_breaks(data: st.DataObject) -> None:
    Chaos(data).go(40)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_att_8_whatever_came_before_a_drain_comes_to_its_end(data: st.DataObject) -> None:
    chaos = Chaos(data)
    chaos.go(15)
    rig = chaos.rig
    rig.tell(StopRequested(3 * SECOND_US))
    for _ in range(40):
        for order in [order for order in rig.orders if isinstance(order, Keep)]:
            if order.op in rig.checks.open_keeps:
                rig.tell(Kept(order.op))
        rig.pass_time(0.25)
    assert any(isinstance(order, Stop) for order in rig.orders)
