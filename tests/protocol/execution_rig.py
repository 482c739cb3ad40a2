"""execution alone, with its store answered by hand."""

from random import Random
from typing import Any

from attrs import Factory, define

from sz_protocol.changes import InsertRuns, UpdateRuns
from sz_protocol.definition import Definition
from sz_protocol.kernel.effects import CancelRun, Effect, Publish, Reply, StartRun, StartRuns, Stop, Write
from sz_protocol.kernel.events import (
    Event,
    Firing,
    FiringsDecided,
    HandlersChanged,
    RunResult,
    RunsFinished,
    RunsRecovered,
    Started,
    WriteDone,
)
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.execution import Execution
from sz_protocol.machines.run_writer import RunWriter
from sz_protocol.ops import Ops
from sz_protocol.policy import Verdict
from sz_protocol.records import Outcome, Run
from sz_protocol.settings import Settings
from tests.protocol.harness import T0_US, at, every
from tests.protocol.machine_rig import METHODS, TERM, stored

SETTINGS = Settings(cancel_grace_us=10 * SECOND_US)


@define
class Rig:
    """`seconds` is the time of every event that is given."""

    machine: Execution
    seconds: float = 60.0
    effects: list[Effect] = Factory(list)

    def give(self, event: Event) -> list[Effect]:
        """Hand over one fact."""
        self.effects = self.machine.handle(event, at(self.seconds))
        return self.effects

    def fires(self, *fire_s: float, of: Definition | None = None, **verdict: Any) -> list[Effect]:
        """These instants of one schedule became due."""
        schedule = stored(of)
        verdicts = tuple(Verdict(T0_US + round(s * SECOND_US), **verdict) for s in fire_s)
        firing = Firing(schedule, verdicts, T0_US, verdicts[-1].fire_us, None)
        return self.give(FiringsDecided((firing,)))

    def durable(self) -> list[Effect]:
        """What was asked for last is in the store."""
        (write,) = self.of(Write)
        return self.give(WriteDone(write.op))

    def ends(self, run: StartRun, outcome: Outcome = Outcome.SUCCEEDED, reason: str = "", **more: Any) -> list[Effect]:
        """One execution ended."""
        now_us = at(self.seconds).utc_us
        return self.give(RunsFinished((RunResult(run.row, run.attempt, outcome, reason, now_us, now_us, **more),)))

    def starts(self, *fire_s: float, of: Definition | None = None) -> list[StartRun]:
        """These instants became due and are durable: what starts."""
        self.fires(*fire_s, of=of)
        self.durable()
        return self.started

    def of(self, kind: type[Any]) -> list[Any]:
        """The last effects of one kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def started(self) -> list[StartRun]:
        """What was to be started last."""
        return [run for effect in self.of(StartRuns) for run in effect.runs]

    @property
    def written(self) -> list[Run]:
        """The rows that the store was asked to take last."""
        rows = [c for write in self.of(Write) for c in write.changes if isinstance(c, InsertRuns | UpdateRuns)]
        return [run for change in rows for run in change.runs]

    @property
    def cancels(self) -> list[CancelRun]:
        """What was to be stopped last."""
        return self.of(CancelRun)

    @property
    def answers(self) -> dict[int, Any]:
        """What was replied last."""
        return {reply.request_id: reply.answer for reply in self.of(Reply)}

    @property
    def notices(self) -> list[Any]:
        """What was published last."""
        return [publish.notice for publish in self.of(Publish)]

    @property
    def stopped(self) -> bool:
        """Whether it said that it is over."""
        return bool(self.of(Stop))


def recovering(handlers: HandlersChanged = METHODS, settings: Settings = SETTINGS) -> Rig:
    """Started, and waiting for the runs of the last life."""
    rig = Rig(Execution(settings, Random(1), RunWriter(settings, Ops())))
    for event in (Started(TERM), handlers):
        assert rig.give(event) == []
    return rig


def running(handlers: HandlersChanged = METHODS, settings: Settings = SETTINGS) -> Rig:
    """At work. There is room for two runs."""
    rig = recovering(handlers, settings)
    assert rig.give(RunsRecovered()) == []
    return rig


def lane(overlap: Any = None, id: str = "s", **more: Any) -> Definition:
    """A schedule with this overlap policy."""
    return every(60, id, **({} if overlap is None else {"overlap": overlap}), **more)
