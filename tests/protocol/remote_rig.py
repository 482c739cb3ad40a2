"""Handlers on a bench: what a well-behaved remote handler says, driven by hand, against a node that has membership."""

from random import Random
from typing import Any

from attrs import Factory, define, evolve

from sz_protocol.commands import HandlerState
from sz_protocol.kernel.effects import Publish, Reply, Send, StartRun
from sz_protocol.kernel.events import (
    Event,
    HandlersChanged,
    LeasedRun,
    Received,
    RemoteHandlersChanged,
    ResultsSettled,
    RunsAssigned,
    RunsFinished,
    RunsLeftBehind,
    RunsRecovered,
    RunsReturned,
    RunsVanished,
    Started,
    Woke,
)
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.membership import Membership
from sz_protocol.messages import (
    Accept,
    Ack,
    AckCode,
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
from sz_protocol.ops import Ops
from sz_protocol.records import Outcome, RunKind
from sz_protocol.settings import Settings
from tests.protocol.harness import T0_US, Bench, ModelStore, at

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

    bench: "Bench | Desk"
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
    ended: int = 0
    read: int = 0
    got: list[Any] = Factory(list)
    """Everything that was sent to it, in this order."""
    runs: list[DispatchedRun] = Factory(list)
    """Every hand-over, in this order."""

    def __attrs_post_init__(self) -> None:
        self.address = self.address or self.id.encode()
        self.read = len(self.bench.sent)

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
                self.session, self.number, self.ended = answer.session, 0, 0
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
        return self.say(Beat(self.session, self.number, self.grant() if granted is None else granted))

    def grant(self) -> int:
        """What has come and ended in this session, and what there is room for."""
        return self.slots + self.ended

    def accept(self, *runs: DispatchedRun) -> list[Any]:
        """These are mine."""
        return self.say(Accept(self.session, tuple(map(ref, runs))))

    def refuse(self, run: DispatchedRun, code: RefuseCode = RefuseCode.BUSY) -> list[Any]:
        """This one is not."""
        self.ended += 1
        return self.say(Refuse(self.session, ref(run), code))

    def report(self, run: DispatchedRun, outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> list[Any]:
        """It ended."""
        now_us = self.bench.now.utc_us
        times = {"started_us": now_us, "finished_us": now_us}
        fields: dict[str, Any] = {**times, "fence": run.fence, "reason": "", **more}
        report = RunReport(run.row, run.attempt, run.delivery, incarnation=self.incarnation, outcome=outcome, **fields)
        self.ended += 1
        return self.say(Results(self.session, self.grant(), (report,)))

    def drain(self) -> list[Any]:
        """Nothing new, please."""
        return self.say(Drain(self.session))

    def bye(self) -> list[Any]:
        """Gone."""
        return self.say(Bye(self.session))

    def rows(self) -> list[int]:
        """The runs that it was handed, each once."""
        self.take()
        return list(dict.fromkeys(run.row for run in self.runs))

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

    def beat_for(self, seconds: float) -> None:
        """Let time pass, and say all the while that it lives."""
        both(self).beat_for(seconds)


@define
class Several:
    """Handlers of one server that live side by side."""

    handlers: tuple[Remote, ...]

    def beat_for(self, seconds: float) -> None:
        """Let time pass, and have all of them say all the while that they live."""
        bench = self.handlers[0].bench
        for _ in range(round(seconds)):
            bench.advance(1)
            for handler in self.handlers:
                handler.beat()
            bench.settle()
            for handler in self.handlers:
                handler.take()


def both(*handlers: Remote) -> Several:
    """All of these."""
    return Several(handlers)


# --- membership alone ------------------------------------------------------------------------------------------


class Desk:
    """Membership without the rest of a node. What it says and orders is checked against the rules as it comes."""

    def __init__(self, settings: Settings = REMOTE, term: int = 1, left: tuple[LeasedRun, ...] = ()) -> None:
        self.machine = Membership(settings, Ops(term), Random(term))
        self.now = at(0)
        self.sent: list[Send] = []
        self.notices: list[Any] = []
        self.replies: list[Any] = []
        self.told: list[Any] = []
        """What it told the other machines, in this order."""
        self.rows = 0
        self.granted: dict[int, int] = {}
        self.counted: dict[int, dict[tuple[int, int, int], None]] = {}
        self.fences: dict[tuple[int, int], int] = {}
        """The fence of every run that has not ended."""
        self.unsettled: dict[tuple[int, int], None] = {}
        self.give(Started(term))
        if left:
            self.fences.update({(run.row, run.attempt): run.fence for run in left})
            self.give(RunsLeftBehind(left))
        self.give(RunsRecovered())

    def give(self, event: Event) -> list[Any]:
        """Hand over one fact; the messages that it leads to."""
        self._note(event)
        effects = self.machine.handle(event, self.now)
        news: list[Any] = []
        for told in self.machine.outbox:
            self._check_told(told)
        self.told += self.machine.outbox
        self.machine.outbox.clear()
        for effect in effects:
            match effect:
                case Send(message=message):
                    self._check_sent(message)
                    self.sent.append(effect)
                    news.append(message)
                case Publish(notice=notice):
                    self.notices.append(notice)
                case Reply(answer=answer):
                    self.replies.append(answer)
                case _:
                    raise AssertionError(f"membership orders nothing else: {effect}")
        wakeup = self.machine.next_wakeup(self.now)
        assert wakeup is None or wakeup.at_us > self.now.mono_us, "KERNEL-4"
        return news

    def _note(self, event: Event) -> None:
        match event:
            case Received(message=Beat(session=session, granted=granted) | Results(session=session, granted=granted)):
                self.granted[session] = max(self.granted.get(session, 0), granted)
            case ResultsSettled(runs=runs):
                for key in runs:
                    self.unsettled.pop(key, None)

    def _check_sent(self, message: Any) -> None:
        match message:
            case Dispatch(session=session, runs=runs):
                counted = self.counted.setdefault(session, {})
                for run in runs:
                    assert self.fences.get((run.row, run.attempt)) == run.fence, "what has ended is not sent"
                    counted[run.row, run.attempt, run.fence] = None
                assert len(counted) <= self.granted.get(session, 0), "MEMB-5: more was sent than granted"
            case ResultAck(acks=acks):
                for ack in acks:
                    if ack.code is not AckCode.STALE:
                        assert (ack.row, ack.attempt) not in self.unsettled, "MEMB-8: acknowledged, not settled"

    def _check_told(self, told: Any) -> None:
        match told:
            case RunsFinished(results=results):
                for result in results:
                    self._end((result.row, result.attempt))
                    self.unsettled[result.row, result.attempt] = None
            case RunsReturned(runs=runs) | RunsVanished(runs=runs):
                for key in runs:
                    self._end(key)

    def _end(self, key: tuple[int, int]) -> None:
        assert key in self.fences, f"{key} ended twice, or was never assigned"
        del self.fences[key]

    # --- what the other machines do ---------------------------------------------------------------------------

    def assign(self, worker: str, count: int = 1, **more: Any) -> list[StartRun]:
        """Claims for a worker have become durable."""
        starts = [self.start(**more) for _ in range(count)]
        self.fences.update({(start.row, start.attempt): start.fence for start in starts})
        self.give(RunsAssigned(worker, tuple(starts)))
        return starts

    def start(self, **more: Any) -> StartRun:
        """A run to be executed."""
        self.rows += 1
        row = more.pop("row", self.rows)
        fields: dict[str, Any] = {"attempt": 1, "params": {}, "deadline_us": None, "fence": 1000 + self.rows, **more}
        return StartRun(row, f"{row:032x}", "s", RunKind.SCHEDULED, "h", "m", fire_us=T0_US, labels={}, **fields)

    def settle_results(self) -> None:
        """What was reported so far has become durable."""
        done = tuple(self.unsettled)
        if done:
            self.give(ResultsSettled(done))

    def settle(self) -> None:
        """As the bench has it."""

    def advance(self, seconds: float) -> None:
        """Let time pass, waking it whenever it asks for that."""
        until_us = self.now.mono_us + round(seconds * SECOND_US)
        while True:
            wakeup = self.machine.next_wakeup(self.now)
            if wakeup is None or wakeup.at_us > until_us:
                break
            self.pass_us(wakeup.at_us - self.now.mono_us)
            self.give(Woke())
        self.pass_us(until_us - self.now.mono_us)

    def pass_us(self, us: int) -> None:
        """Move both clocks, and wake nobody."""
        self.now = evolve(self.now, mono_us=self.now.mono_us + us, utc_us=self.now.utc_us + us)

    def ends(self) -> dict[tuple[int, int], str]:
        """How each run ended that did."""
        found: dict[tuple[int, int], str] = {}
        for told in self.told:
            match told:
                case RunsFinished(results=results):
                    found.update({(r.row, r.attempt): str(r.outcome) for r in results})
                case RunsReturned(runs=runs):
                    found.update(dict.fromkeys(runs, "returned"))
                case RunsVanished(runs=runs):
                    found.update(dict.fromkeys(runs, "vanished"))
        return found

    def sizes(self) -> dict[str, int]:
        """The slots of each handler, as was told last."""
        return {name.partition(":")[2]: size for name, size in self.changes()[-1].pools}

    def changes(self) -> list[RemoteHandlersChanged]:
        """Everything that was told of what can be executed."""
        return [told for told in self.told if isinstance(told, RemoteHandlersChanged)]

    def seen(self, kind: type[Any]) -> list[Any]:
        """The notices of one kind, in order."""
        return [notice for notice in self.notices if isinstance(notice, kind)]

    def state(self, name: str = "h") -> HandlerState | None:
        """How a handler stands."""
        worker = self.machine.workers.all.get(name)
        return None if worker is None else worker.state
