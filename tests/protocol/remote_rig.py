"""Handlers on a bench: what a well-behaved remote handler says, driven by hand, against a node that has membership."""

from typing import Any

from attrs import Factory, define, evolve

from sz_protocol.kernel.effects import Send
from sz_protocol.kernel.events import HandlersChanged, Received
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.messages import (
    Accept,
    Ack,
    Beat,
    Bye,
    Dispatch,
    DispatchedRun,
    Drain,
    HeldRun,
    Hello,
    OfferedMethod,
    Refuse,
    RefuseCode,
    Reject,
    ResultAck,
    Results,
    RunRef,
    RunReport,
    Stop,
    Welcome,
)
from sz_protocol.records import Outcome
from sz_protocol.settings import Settings
from tests.protocol.harness import Bench, ModelStore

NO_HANDLERS = HandlersChanged((), ())
REMOTE = Settings(remote=True)


def remote_bench(store: ModelStore | None = None, settings: Settings = REMOTE, seed: int = 0) -> Bench:
    """A node without handlers of its own, started."""
    return Bench(store, settings, NO_HANDLERS, seed=seed).start()


def ref(run: DispatchedRun) -> RunRef:
    """How a handler names what it was handed."""
    return RunRef(run.row, run.attempt, run.delivery)


def held(run: DispatchedRun) -> HeldRun:
    """How a Hello lists it."""
    return HeldRun(run.row, run.attempt, run.delivery, run.fence)


@define
class Remote:
    """One handler as its server sees it. `take` reads what was sent to it; nothing is answered by itself."""

    bench: Bench
    id: str = "h"
    incarnation: int = 1
    methods: tuple[OfferedMethod, ...] = (OfferedMethod("m"),)
    slots: int = 10
    tags: dict[str, str] = Factory(dict)
    address: bytes = b""
    key: str = ""
    nonce: int = 0
    session: int = 0
    number: int = 0
    begun: int = 0
    read: int = 0
    got: list[Any] = Factory(list)
    """Everything that was sent to it, in this order."""
    runs: list[DispatchedRun] = Factory(list)
    """Every hand-over, in this order."""

    def __attrs_post_init__(self) -> None:
        self.address = self.address or self.id.encode()

    def say(self, message: Any) -> list[Any]:
        """Say something; what comes back at once."""
        self.take()
        before = len(self.got)
        self.bench.give(Received(self.address, message, self.key))
        self.take()
        return self.got[before:]

    def take(self) -> list[Any]:
        """What has been sent to it since the last look."""
        news = [send.message for send in self.bench.sent[self.read :] if send.to == self.address]
        self.read = len(self.bench.sent)
        self.got += news
        for message in news:
            if isinstance(message, Dispatch):
                self.runs += message.runs
        return news

    def hello(self, **more: Any) -> Any:
        """Say Hello; the answer."""
        self.nonce += 1
        hello = Hello(self.id, self.incarnation, self.nonce, 1, 1, self.methods, self.slots, self.tags)
        answers = self.say(evolve(hello, **more))
        for answer in answers:
            if isinstance(answer, Welcome):
                self.session, self.number, self.begun = answer.session, 0, 0
        return answers[0] if answers else None

    def join(self, **more: Any) -> "Remote":
        """Register, and be heard."""
        answer = self.hello(**more)
        assert isinstance(answer, Welcome), answer
        self.beat()
        return self

    def beat(self, granted: int | None = None) -> list[Any]:
        """One heartbeat; what comes back."""
        self.number += 1
        return self.say(Beat(self.session, self.number, self.slots if granted is None else granted))

    def accept(self, *runs: DispatchedRun) -> list[Any]:
        """These are mine."""
        return self.say(Accept(self.session, tuple(map(ref, runs))))

    def refuse(self, run: DispatchedRun, code: RefuseCode = RefuseCode.BUSY) -> list[Any]:
        """This one is not."""
        return self.say(Refuse(self.session, ref(run), code))

    def report(self, run: DispatchedRun, outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> list[Any]:
        """It ended."""
        now_us = self.bench.now.utc_us
        report = RunReport(
            run.row, run.attempt, run.delivery, run.fence, self.incarnation, outcome, "", now_us, now_us, **more
        )
        return self.say(Results(self.session, 0, (report,)))

    def drain(self) -> list[Any]:
        """Nothing new, please."""
        return self.say(Drain(self.session))

    def bye(self) -> list[Any]:
        """Gone."""
        return self.say(Bye(self.session))

    def acks(self) -> list[Ack]:
        """Every acknowledgement that it got."""
        self.take()
        return [ack for message in self.got if isinstance(message, ResultAck) for ack in message.acks]

    def stops(self) -> list[Stop]:
        """Every stop that it got."""
        self.take()
        return [message for message in self.got if isinstance(message, Stop)]

    def rejects(self) -> list[Reject]:
        """Every time it was turned away."""
        self.take()
        return [message for message in self.got if isinstance(message, Reject)]

    def beat_for(self, seconds: float, every_s: float = 1.0) -> None:
        """Let time pass, and say all the while that it lives."""
        for _ in range(round(seconds / every_s)):
            self.bench.advance(every_s)
            self.beat()
        self.bench.settle()


def sends(effects: list[Any]) -> list[Any]:
    """The messages among some effects."""
    return [effect.message for effect in effects if isinstance(effect, Send)]


def seconds(value: float) -> int:
    """Microseconds."""
    return round(value * SECOND_US)
