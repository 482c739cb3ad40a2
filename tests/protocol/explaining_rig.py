"""A real node on a real store, in a time of its own: what the tests of `why` let happen before they ask.

Handlers are functions from a start order to how and when it ends. Nothing sleeps.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from queue import SimpleQueue
from typing import Any

from attrs import Factory, define, frozen

from sz_protocol.commands import Answer, Apply, Command
from sz_protocol.definition import Definition
from sz_protocol.evidence import Question
from sz_protocol.explaining import Explanation, investigate
from sz_protocol.kernel.effects import CancelReason, CancelRun, Effect, Read, Reply, StartRun, StartRuns, Stop, Write
from sz_protocol.kernel.events import (
    Commanded,
    Event,
    HandlersChanged,
    MethodInfo,
    RunResult,
    RunsFinished,
    Started,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.now import MINUTE_US, SECOND_US, Now, WakeReason
from sz_protocol.moments import read_moment
from sz_protocol.node import Node
from sz_protocol.records import Outcome, Reason
from sz_protocol.triggers import Cron
from sz_protocol.triggers import Trigger as When
from sz_runtime.ports import Store
from sz_shells.stores.memory import MemoryStore

MOST_TURNS = 100_000


@frozen
class Ending:
    """How an execution ends when nobody stops it."""

    after_us: int = SECOND_US // 10
    outcome: Outcome = Outcome.SUCCEEDED
    reason: str = ""
    error: str | None = None
    retryable: bool = True


Handler = Callable[[StartRun], Ending | None]


def utc(text: str) -> int:
    """Microseconds of UTC."""
    return read_moment(text).at_us


def works(start: StartRun) -> Ending | None:
    """A handler that succeeds soon."""
    return Ending()


@define
class World:
    """One store, and one node after the other on it. `now_us` is the wall clock of everybody."""

    store: Store
    now_us: int
    handler: Handler = works
    slots: int = 10
    node: Node | None = None
    answers: "SimpleQueue[Sequence[Event]]" = Factory(SimpleQueue)
    open_ops: int = 0
    endings: list[tuple[int, int, int, RunResult]] = Factory(list)
    replies: dict[int, Answer] = Factory(dict)
    requests: int = 0
    stopped: bool = False

    def start(self, *methods: str) -> None:
        """Begin a life with these methods of the handler `h` (none given: `m`)."""
        opened = self.store.open(self.answers.put)
        self.node = Node()
        self.endings.clear()
        self.stopped = False
        self._handle(Started(opened.term, opened.high_water_us))
        self.handlers(*(methods or ("m",)))
        self.until(self.now_us)

    def handlers(self, *methods: str) -> None:
        """What can be executed from here on."""
        infos = tuple(MethodInfo("h", method, "async") for method in methods)
        self._handle(HandlersChanged(infos, (("async", self.slots),)))

    def kill(self) -> None:
        """kill -9: whatever ran is gone."""
        self.node = None
        self.store.close()

    def stop(self, grace_us: int) -> None:
        """SIGTERM: let it drain."""
        self._handle(StopRequested(grace_us))
        while not self.stopped:
            self.until(self.now_us + SECOND_US)
        self.kill()

    def away_until(self, text: str) -> None:
        """Time passes without a server."""
        assert self.node is None
        self.now_us = utc(text)

    def until(self, at: str | int) -> None:
        """Let everything happen that is to happen up to and with this instant."""
        end_us = utc(at) if isinstance(at, str) else at
        for _ in range(MOST_TURNS):
            assert self.node is not None
            wakeup = self.node.next_wakeup(self._now())
            if wakeup is not None and wakeup.reason is WakeReason.BACKLOG:
                self._handle(Woke())
                continue
            wake_us = end_us + 1 if wakeup is None else self.now_us + wakeup.at_us - self._now().mono_us
            end_at_us = self.endings[0][0] if self.endings else end_us + 1
            if min(wake_us, end_at_us) > end_us:
                self.now_us = max(self.now_us, end_us)
                return
            self.now_us = max(self.now_us, min(wake_us, end_at_us))
            if end_at_us <= wake_us:
                self._handle(RunsFinished((heappop(self.endings)[-1],)))
            else:
                self._handle(Woke())
        raise AssertionError("the node never comes to rest")

    def ask(self, command: Command) -> Answer:
        """Put a command to the node and let it be answered."""
        self.requests += 1
        self._handle(Commanded(self.requests, command))
        self.until(self.now_us)
        return self.replies[self.requests]

    def apply(self, *definitions: Definition, prune: bool = False) -> None:
        """Reconcile the stored schedules with these."""
        self.ask(Apply(definitions, prune=prune))

    def why(self, target: str, **more: Any) -> Explanation:
        """What is said about SCHEDULE or SCHEDULE@TIME now."""
        schedule_id, at, text = target.partition("@")
        steps = investigate(Question(schedule_id, self.now_us, read_moment(text) if at else None, **more))
        query = next(steps)
        while True:
            try:
                query = steps.send(self.store.query(query))
            except StopIteration as done:
                explanation: Explanation = done.value
                return explanation

    def _now(self) -> Now:
        return Now(self.now_us - utc("2020-01-01"), self.now_us)

    def _handle(self, event: Event) -> None:
        assert self.node is not None
        self._perform(self.node.handle(event, self._now()))
        while self.open_ops:
            for answer in self.answers.get(timeout=20):
                self.open_ops -= 1
                self._perform(self.node.handle(answer, self._now()))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Write() | Read():
                    self.open_ops += 1
                    self.store.submit(effect)
                case StartRuns(runs=runs):
                    for start in runs:
                        self._begin(start)
                case CancelRun():
                    self._cancel(effect)
                case Stop():
                    self.stopped = True
                case Reply(request_id=request_id, answer=answer):
                    self.replies[request_id] = answer

    def _begin(self, start: StartRun) -> None:
        ending = self.handler(start)
        if ending is None:
            return
        over_us = self.now_us + ending.after_us
        result = RunResult(
            start.row,
            start.attempt,
            ending.outcome,
            ending.reason,
            started_us=self.now_us,
            finished_us=over_us,
            error=ending.error,
            retryable=ending.retryable,
        )
        heappush(self.endings, (over_us, start.row, start.attempt, result))

    def _cancel(self, order: CancelRun) -> None:
        """Well-behaved handlers stop when they are asked to; those that never end do not."""
        for place, (_, row, attempt, result) in enumerate(self.endings):
            if (row, attempt) == (order.row, order.attempt):
                del self.endings[place]
                outcome = Outcome.FAILED if order.reason is CancelReason.TIMEOUT else Outcome.CANCELLED
                ended = RunResult(row, attempt, outcome, order.reason.value, result.started_us, self.now_us)
                heappush(self.endings, (self.now_us, row, attempt, ended))
                return


# --- what the tests of `why` share ---------------------------------------------------------------------------

HOURLY = Cron("0 * * * *", "Europe/Berlin")
FIVE = Cron("*/5 * * * *")


def job(trigger: When = FIVE, method: str = "m", **policies: Any) -> Definition:
    return Definition("job", "h", method, trigger, **policies)


def world_of(
    *definitions: Definition, handler: Handler = works, at: str = "2026-03-01T08:01", slots: int = 10
) -> World:
    found = World(MemoryStore(), utc(at), handler, slots)
    found.start()
    found.apply(*definitions)
    return found


def takes(minutes: float) -> Handler:
    return lambda start: Ending(int(minutes * MINUTE_US))


def fails(reason: Reason = Reason.ERROR, *, until_attempt: int = 99, retryable: bool = True) -> Handler:
    def handler(start: StartRun) -> Ending:
        if start.attempt >= until_attempt:
            return Ending(SECOND_US)
        error = f"ValueError: no luck at attempt {start.attempt}\n  File handlers.py, line 3"
        return Ending(SECOND_US, Outcome.FAILED, reason, error, retryable)

    return handler


def found(answer: Explanation) -> tuple[str, str]:
    return answer.verdict, answer.reason


def steps(answer: Explanation) -> list[str]:
    return [step.what for step in answer.steps]
