"""MEMB-11: whatever arrives, in whatever order, however often. The desk judges every step (MEMB-5, MEMB-8, one end for
each run, wake-ups in the future); at the end nothing is left behind.
"""

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from sz_protocol.kernel.effects import CancelReason
from sz_protocol.kernel.events import (
    AllowedKey,
    Garbled,
    HandlersChanged,
    KeysChanged,
    LeasedRun,
    MethodInfo,
    Received,
    ResultsSettled,
    StopAssigned,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.messages import (
    Accept,
    Beat,
    Bye,
    DispatchedRun,
    Drain,
    HeldRun,
    Hello,
    OfferedMethod,
    Progress,
    Refuse,
    RefuseCode,
    Results,
    RunRef,
    RunReport,
    Welcome,
)
from sz_protocol.records import Outcome
from sz_protocol.settings import Settings
from tests.protocol.remote_rig import Desk

ODD = Settings(
    remote=True,
    heartbeat_us=SECOND_US // 2,
    missed_beats=2,
    lease_us=3 * SECOND_US,
    away_grace_us=4 * SECOND_US,
    redeliver_us=SECOND_US,
    workers=2,
)
NAMES = ("a", "b", "c")
SMALL = st.integers(-1, 8)
WHICH = st.integers(0, 60)
ANY_INT = st.one_of(SMALL, st.integers(-(1 << 63), (1 << 63) - 1))


class Chaos:
    """Draws messages from what really happened, so that most of them nearly make sense."""

    def __init__(self) -> None:
        left = tuple(LeasedRun(NAMES[row % 2], row, 1, 900 + row, row % 2 == 0) for row in (901, 902, 903))
        self.desk = Desk(ODD, left=left)
        self.known = [DispatchedRun(run.row, run.attempt, 0, run.fence, "", "s", "m", 0) for run in left]
        self.sessions: list[tuple[int, bytes, str]] = [(5, b"x", "")]
        self.hellos: list[tuple[bytes, str, Hello]] = []
        self.read = 0

    def look(self) -> None:
        for send in self.desk.sent[self.read :]:
            match send.message:
                case Welcome(session=session, nonce=nonce):
                    key = next((k for _, k, hello in reversed(self.hellos) if hello.nonce == nonce), "")
                    self.sessions.append((session, send.to, key))
                case _:
                    self.known += getattr(send.message, "runs", ())
        self.read = len(self.desk.sent)

    def run(self, which: int) -> DispatchedRun:
        return self.known[-1 - which % len(self.known)]

    def session(self, which: int) -> tuple[int, bytes, str]:
        return self.sessions[-1 - which % len(self.sessions)]

    def hello(self, name: str, incarnation: int, listed: list[int], odd: dict[str, Any], key: str) -> None:
        runs = [self.run(which) for which in listed]
        holds = tuple(HeldRun(run.row, run.attempt, run.delivery, run.fence) for run in runs)
        hello = Hello(name, incarnation, len(self.hellos) + 1, 1, 1, (OfferedMethod("m"), OfferedMethod("n", 1)), 3)
        hello = evolve(hello, **{"executing": holds[::2], "unacked": holds[1::2], **odd})
        self.hellos.append((f"{name}{incarnation % 3}".encode(), key, hello))
        self.desk.give(Received(*_fact(self.hellos[-1])))

    def join(self, name: str, incarnation: int, listed: list[int], granted: int) -> None:
        """Like a handler that knows its trade."""
        self.hello(name, incarnation, listed, {}, "")
        self.look()
        self.say(0, Beat(0, 1, granted))
        self.look()

    def all_live(self, granted: int) -> None:
        """Every handler that is there says so."""
        for session in list(self.desk.machine.workers.sessions):
            known = next((known for known in self.sessions if known[0] == session), None)
            if known is not None:
                self.desk.give(Received(known[1], Beat(session, 9, granted), known[2]))

    def again(self, which: int) -> None:
        if self.hellos:
            self.desk.give(Received(*_fact(self.hellos[which % len(self.hellos)])))

    def say(self, which: int, message: Any) -> None:
        session, sender, key = self.session(which)
        self.desk.give(Received(sender, evolve(message, session=session), key))


def _fact(said: tuple[bytes, str, Hello]) -> tuple[bytes, Hello, str]:
    return said[0], said[2], said[1]


odd_hellos = st.fixed_dictionaries(
    {},
    optional={
        "handler_id": st.sampled_from(["", "*", "a", "own"]),
        "slots": SMALL,
        "proto_min": SMALL,
        "proto_max": SMALL,
        "nonce": ANY_INT,
        "methods": st.just(()),
        "tags": st.just({"": ""}),
    },
)
keys = st.sampled_from(["", "", "k", "l"])
refs = st.tuples(WHICH, st.sampled_from([0, 0, 0, 1, -1]))
outcomes = st.sampled_from([*Outcome, Outcome.SUCCEEDED])
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("hello"),
            st.sampled_from(NAMES),
            st.integers(1, 2),
            st.lists(WHICH, max_size=4),
            st.one_of(st.just({}), odd_hellos),
            keys,
        ),
        st.tuples(st.just("join"), st.sampled_from(NAMES), st.integers(1, 2), st.lists(WHICH, max_size=4), WHICH),
        st.tuples(st.just("live"), st.integers(0, 9)),
        st.tuples(st.just("live"), st.integers(5, 9)),
        st.tuples(st.just("again"), WHICH),
        st.tuples(st.just("beat"), st.integers(0, 5), SMALL, st.one_of(st.integers(0, 9), ANY_INT)),
        st.tuples(st.just("beat"), st.integers(0, 1), SMALL, st.integers(2, 9)),
        st.tuples(st.just("accept"), st.integers(0, 3), st.lists(refs, max_size=3)),
        st.tuples(st.just("refuse"), st.integers(0, 3), refs, st.sampled_from(RefuseCode)),
        st.tuples(st.just("results"), st.integers(0, 3), st.lists(st.tuples(refs, outcomes), max_size=3), ANY_INT),
        st.tuples(st.just("progress"), st.integers(0, 3), refs),
        st.tuples(st.just("drain"), st.integers(0, 3)),
        st.tuples(st.just("bye"), st.integers(0, 3)),
        st.tuples(st.just("assign"), st.sampled_from(NAMES), st.integers(1, 4), st.booleans(), st.booleans()),
        st.tuples(st.just("assign"), st.sampled_from(NAMES), st.integers(1, 4), st.booleans(), st.booleans()),
        st.tuples(st.just("stop"), WHICH, st.sampled_from(CancelReason)),
        st.tuples(st.just("settle"), st.integers(1, 3)),
        st.tuples(st.just("settle"), st.just(99)),
        st.tuples(st.just("advance"), st.sampled_from([0.1, 0.4, 0.5, 0.5, 1.0, 2.0, 3.0])),
        st.tuples(st.just("stand still"), st.sampled_from([0.5, 2.0, 20.0])),
        st.tuples(st.just("keys"), st.sampled_from([None, None, None, ("a",), ("a", "b", "c"), ()])),
        st.tuples(st.just("local"), st.sampled_from([(), (), (), ("own",), ("a",)])),
        st.tuples(st.just("garbage"), st.binary(max_size=4)),
    ),
    max_size=50,
)


@given(steps, st.booleans())
def test_memb_11_whatever_arrives_each_run_ends_once_and_nothing_raises(
    work: list[tuple[Any, ...]], stopping: bool
) -> None:
    chaos = Chaos()
    desk = chaos.desk
    for name in NAMES[:2]:
        chaos.join(name, 1, [0, 1, 2], 5)
    for step in work:
        chaos.look()
        _do(chaos, step)
    if stopping:
        desk.give(StopRequested(SECOND_US))
    # In the end all fall silent: everything has its end, and nobody is remembered for ever.
    desk.settle_results()
    desk.advance(60)
    assert not desk.fences, "each run has ended"
    desk.settle_results()
    machine = desk.machine
    assert not machine.leases.all
    assert not machine.workers.sessions
    assert not machine.workers.all
    assert desk.changes()[-1].methods == ()
    assert not desk.changes()[-1].expecting
    assert machine.next_wakeup(desk.now) is None


def _do(chaos: Chaos, step: tuple[Any, ...]) -> None:
    desk = chaos.desk
    match step:
        case "hello", name, incarnation, listed, odd, key:
            chaos.hello(name, incarnation, listed, odd, key)
        case "join", name, incarnation, listed, granted:
            chaos.join(name, incarnation, listed, granted)
        case "live", granted:
            chaos.all_live(granted)
        case "again", which:
            chaos.again(which)
        case "beat", which, number, granted:
            chaos.say(which, Beat(0, number, granted))
        case "accept", which, runs:
            chaos.say(which, Accept(0, tuple(_ref(chaos, run) for run in runs)))
        case "refuse", which, run, code:
            chaos.say(which, Refuse(0, _ref(chaos, run), code))
        case "results", which, ended, number:
            reports = tuple(_report(chaos, run, outcome, number) for run, outcome in ended)
            chaos.say(which, Results(0, number % 7, reports))
        case "progress", which, run:
            chaos.say(which, Progress(0, _ref(chaos, run), "so far", 3))
        case "drain", which:
            chaos.say(which, Drain(0))
        case "bye", which:
            chaos.say(which, Bye(0))
        case "assign", name, count, exclusive, hurry:
            deadline_us = desk.now.mono_us + SECOND_US if hurry else None
            desk.assign(name, count, exclusive=exclusive, deadline_us=deadline_us)
        case "stop", which, reason:
            run = chaos.run(which)
            desk.give(StopAssigned("whoever", run.row, run.attempt, reason))
        case "settle", count:
            desk.give(ResultsSettled(tuple(desk.unsettled)[:count]))
        case "advance", seconds:
            desk.advance(seconds)
        case "stand still", seconds:
            desk.pass_us(round(seconds * SECOND_US))
            desk.give(Woke())
        case "keys", names:
            desk.give(KeysChanged(None if names is None else tuple(AllowedKey("k", name) for name in names)))
        case "local", names:
            desk.give(HandlersChanged(tuple(MethodInfo(name, "m", "async") for name in names), (("async", 1),)))
        case "garbage", data:
            desk.give(Garbled(data, "?"))


def _ref(chaos: Chaos, choice: tuple[int, int]) -> RunRef:
    run = chaos.run(choice[0])
    return RunRef(run.row, run.attempt, run.delivery + choice[1])


def _report(chaos: Chaos, choice: tuple[int, int], outcome: Outcome, number: int) -> RunReport:
    run = chaos.run(choice[0])
    return RunReport(run.row, run.attempt, run.delivery, run.fence + choice[1], 1, outcome, "", number, -number)
