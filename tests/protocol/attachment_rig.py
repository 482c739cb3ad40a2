"""A handler's side on a bench: a server, an executor and an outbox that a test steps by hand. Every order is checked
against the rules as it comes.
"""

from collections import deque
from random import Random
from typing import Any

from attrs import Factory, define

from sz_protocol.attaching import (
    AttachmentSettings,
    Effect,
    Event,
    Forget,
    Identity,
    Keep,
    KeepFailed,
    Kept,
    Key,
    WorkerStarted,
)
from sz_protocol.kernel.effects import CancelRun, Publish, Send, StartRun, StartRuns, Stop
from sz_protocol.kernel.events import HandlersChanged, LinkChanged, MethodInfo, Received, RunResult, RunsFinished, Woke
from sz_protocol.kernel.now import SECOND_US, Now, WakeReason
from sz_protocol.machines.attachment import Attachment
from sz_protocol.messages import (
    Ack,
    AckCode,
    Beat,
    Dispatch,
    DispatchedRun,
    Echo,
    Hello,
    RejectCode,
    ResultAck,
    Results,
    RunReport,
    Welcome,
)
from sz_protocol.messages import Reject as RejectMessage
from sz_protocol.notices import Attached, Notice
from sz_protocol.records import Outcome

LEASE_US, HEARTBEAT_US = 10 * SECOND_US, SECOND_US
INCARNATION = 77
METHODS = (
    MethodInfo("tasks", "work", "async"),
    MethodInfo("tasks", "narrow", "async", concurrency=1),
)


def handlers(*methods: MethodInfo) -> HandlersChanged:
    """What the executor can do."""
    return HandlersChanged(methods or METHODS, (("async", 16),))


def a_run(row: int = 1, attempt: int = 1, delivery: int = 1, **more: Any) -> DispatchedRun:
    """A run as a server sends it."""
    values: dict[str, Any] = {
        "fence": 1000 * row + attempt,
        "run_id": f"{row:032x}",
        "schedule_id": "nightly",
        "method": "work",
        "fire_us": 1_700_000_000 * SECOND_US,
    }
    return DispatchedRun(row, attempt, delivery, **(values | more))


def a_report(row: int, attempt: int = 1, **more: Any) -> RunReport:
    """A result that an earlier life left in the outbox."""
    values: dict[str, Any] = {
        "delivery": 1,
        "fence": 1000 * row + attempt,
        "incarnation": 5,
        "outcome": Outcome.SUCCEEDED,
        "reason": "",
        "started_us": 1,
        "finished_us": 2,
    }
    return RunReport(row, attempt, **(values | more))


@define
class Checks:
    """What must hold of every order, whatever came before it."""

    started: dict[Key, int] = Factory(dict)
    executing: dict[Key, StartRun] = Factory(dict)
    answered: dict[Key, None] = Factory(dict)
    """Reports that the outbox has answered for."""
    open_keeps: dict[int, tuple[Key, ...]] = Factory(dict)
    granted: dict[int, int] = Factory(dict)
    acked: dict[Key, None] = Factory(dict)
    stopped: bool = False

    def see(self, effect: Effect, slots: int) -> None:
        """Judge one order."""
        assert not self.stopped, "ATT-8: an order after the end"
        match effect:
            case StartRuns(runs=runs):
                for start in runs:
                    key = start.row, start.attempt
                    assert key not in self.started, "ATT-2: an attempt was started twice"
                    assert all(row != start.row for row, _ in self.executing), "ATT-3: two attempts at once"
                    self.started[key] = 1
                    self.executing[key] = start
                assert len(self.executing) <= slots, "ATT-6: more than the slots"
            case Keep(op=op, reports=reports):
                assert op not in self.open_keeps
                self.open_keeps[op] = tuple((report.row, report.attempt) for report in reports)
            case Forget(keys=keys):
                assert all(key in self.acked for key in keys), "ATT-5: forgotten before it was acknowledged"
            case Send(to=to, message=message):
                assert to == b""
                self._see_message(message)
            case Stop():
                self.stopped = True
            case CancelRun(row=row, attempt=attempt):
                assert (row, attempt) in self.started, "a run that was never started was cancelled"
            case Publish(notice=Attached(session=session)):
                self.granted.pop(session, None)
            case Publish():
                pass

    def _see_message(self, message: object) -> None:
        match message:
            case Results(session=session, granted=granted, results=results):
                for report in results:
                    assert (report.row, report.attempt) in self.answered, "ATT-5: sent before it was kept"
                self._see_grant(session, granted)
            case Beat(session=session, granted=granted):
                self._see_grant(session, granted)
            case _:
                pass

    def _see_grant(self, session: int, granted: int) -> None:
        assert granted >= self.granted.get(session, 0), "ATT-6: granted shrank"
        self.granted[session] = granted


class Rig:
    """Feeds an Attachment and remembers what it orders. `said` are the messages since the last look."""

    def __init__(
        self,
        slots: int = 4,
        seed: int = 0,
        *,
        settings: AttachmentSettings | None = None,
        durable: bool = True,
        kept: tuple[RunReport, ...] = (),
        auto_keep: bool = True,
    ) -> None:
        identity = Identity("edge-1", INCARNATION, slots, {"zone": "a"}, "test", durable)
        self.machine = Attachment(identity, Random(seed), settings or AttachmentSettings(accept_us=0))
        self.checks = Checks()
        self.now_us = 1000 * SECOND_US
        self.said: deque[Any] = deque()
        self.orders: list[Effect] = []
        self.notices: list[Notice] = []
        self.auto_keep = auto_keep
        self.session = 0
        self.last_beat = 0
        for report in kept:
            self.checks.answered[report.row, report.attempt] = None
        self.tell(WorkerStarted(kept))
        self.tell(handlers())

    @property
    def state(self) -> str:
        """Where the machine stands."""
        return self.machine.state.name

    @property
    def now(self) -> Now:
        """The clocks."""
        return Now(self.now_us, 1_700_000_000 * SECOND_US + self.now_us)

    def tell(self, *events: Event) -> list[Effect]:
        """Feed facts; the orders that followed. An outbox that works answers by itself."""
        found: list[Effect] = []
        queue = deque(events)
        while queue:
            event = queue.popleft()
            self._note(event)
            effects = self.machine.handle(event, self.now)
            for effect in effects:
                self.checks.see(effect, self.machine.identity.slots)
                if isinstance(effect, Keep) and self.auto_keep:
                    queue.append(Kept(effect.op))
                elif isinstance(effect, Send):
                    self.said.append(effect.message)
                    if isinstance(effect.message, Beat):
                        self.last_beat = effect.message.number
                elif isinstance(effect, Publish):
                    self.notices.append(effect.notice)
            found += effects
            wakeup = self.machine.next_wakeup(self.now)
            if wakeup is not None and wakeup.reason is WakeReason.BACKLOG and not queue:
                queue.append(Woke())
            else:
                assert wakeup is None or wakeup.reason is WakeReason.BACKLOG or wakeup.at_us > self.now_us
        self.orders += found
        return found

    def _note(self, event: Event) -> None:
        match event:
            case Kept(op=op) | KeepFailed(op=op):
                for key in self.checks.open_keeps.pop(op):
                    self.checks.answered[key] = None
            case RunsFinished(results=results):
                for result in results:
                    self.checks.executing.pop((result.row, result.attempt), None)
            case Received(message=ResultAck(acks=acks)):
                for ack in acks:
                    self.checks.acked[ack.row, ack.attempt] = None

    def hear(self, message: object) -> list[Effect]:
        """A message of the server comes."""
        return self.tell(Received(b"", message))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, wake-up by wake-up."""
        until_us = self.now_us + round(seconds * SECOND_US)
        for _ in range(100_000):
            wakeup = self.machine.next_wakeup(self.now)
            if wakeup is None or wakeup.at_us > until_us:
                self.now_us = until_us
                return
            self.now_us = max(wakeup.at_us, self.now_us)
            self.tell(Woke())
        raise AssertionError("it does not come to rest")

    def jump(self, seconds: float) -> None:
        """Time passes without a wake-up: the process stood still."""
        self.now_us += round(seconds * SECOND_US)

    # --- a server that behaves --------------------------------------------------------------------------------

    def attach(self, session: int = 7) -> Hello:
        """Bring the link up, take the Hello, welcome it, and echo its first beat; the Hello."""
        if not self.machine.link_up:
            self.tell(LinkChanged(True))
        hello = self.hello()
        self.welcome(hello, session)
        self.echo()
        self.said.clear()
        return hello

    def hello(self) -> Hello:
        """The next Hello, as soon as it comes."""
        for _ in range(100):
            found = [message for message in self.said if isinstance(message, Hello)]
            if found:
                self.said.clear()
                return found[-1]
            self.pass_time(0.5)
        raise AssertionError("no Hello came")

    def welcome(self, hello: Hello | int, session: int = 7, **more: Any) -> list[Effect]:
        """Register it; also by its nonce."""
        self.session = session
        self.last_beat = 0
        values: dict[str, Any] = {"proto": 1, "heartbeat_us": HEARTBEAT_US, "lease_us": LEASE_US, "term": 1}
        nonce = hello if isinstance(hello, int) else hello.nonce
        return self.hear(Welcome(nonce, session, **(values | more)))

    def echo(self) -> None:
        """The server has heard the last beat."""
        self.hear(Echo(self.session, self.last_beat, 1))

    def live(self, seconds: float) -> None:
        """Let time pass with a server that echoes every beat."""
        for _ in range(round(seconds * 2)):
            self.pass_time(0.5)
            self.echo()

    def dispatch(self, *runs: DispatchedRun, beat: int | None = None) -> list[Effect]:
        """Send runs."""
        return self.hear(Dispatch(self.session, self.last_beat if beat is None else beat, runs))

    def ack(self, *keys: Key, code: AckCode = AckCode.OK) -> list[Effect]:
        """Acknowledge results."""
        return self.hear(ResultAck(self.session, tuple(Ack(row, attempt, code) for row, attempt in keys)))

    def reject(self, code: RejectCode, retry_us: int = 0, nonce: int = 0) -> list[Effect]:
        """Turn a Hello, or this session, away."""
        return self.hear(RejectMessage(code, "no", retry_us, nonce, self.session if not nonce else 0))

    def finish(self, row: int, attempt: int = 1, **more: Any) -> list[Effect]:
        """An execution ends."""
        return self.tell(RunsFinished((a_result(row, attempt, **more),)))

    def take(self, kind: type[Any]) -> list[Any]:
        """The messages of this kind since the last look; the others are dropped."""
        found = [message for message in self.said if isinstance(message, kind)]
        self.said.clear()
        return found

    def told(self, kind: type[Any]) -> list[Any]:
        """The notices of this kind so far."""
        return [notice for notice in self.notices if isinstance(notice, kind)]


def a_result(row: int, attempt: int = 1, outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> RunResult:
    """How an execution ended."""
    values: dict[str, Any] = {"reason": "", "started_us": 10, "finished_us": 20}
    return RunResult(row, attempt, outcome, **(values | more))


def of_kind(effects: list[Effect], kind: type[Any]) -> list[Any]:
    """The orders of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]
