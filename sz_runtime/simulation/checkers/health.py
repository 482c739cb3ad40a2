"""What no node may ever do: MachinesNeverRaise, BacklogShrinks, WakeupsAhead, EveryCommandAnswered, MemoryBounded."""

from attrs import Factory, define, evolve

from sz_runtime.simulation.checkers.base import Checker, Routes
from sz_runtime.simulation.facts import (
    Answered,
    Asked,
    BacklogEnded,
    NodeCrashed,
    NodeRaised,
    NodeStopped,
    Noted,
    Spun,
    WakeupStale,
    Weighed,
)

BASE_OBJECTS = 400
OBJECTS_PER_JOB = 60
OBJECTS_PER_RUN = 40
ANSWER_WITHIN_US = 200_000_000
"""A command waits out the store's troubles a few times, then it is refused."""


@define
class Health(Checker):
    """Needs no history but the open commands."""

    open: dict[tuple[str, int], Asked] = Factory(dict)

    def routes(self) -> Routes:
        """What nodes report of themselves, and what is asked of them."""
        return {
            NodeRaised: self.on_raised,
            BacklogEnded: self.on_backlog,
            WakeupStale: self.on_stale,
            Spun: self.on_spun,
            Asked: self.on_asked,
            Answered: self.on_answered,
            NodeCrashed: self.on_gone,
            NodeStopped: self.on_gone,
            Weighed: self.on_weighed,
        }

    def on_raised(self, record: NodeRaised) -> None:
        """A machine raised."""
        self.report.add("MachinesNeverRaise", record, f"{record.event}: {record.error}")

    def on_backlog(self, record: BacklogEnded) -> None:
        """A backlog that does not shrink."""
        self.report.count("backlog wakes", record.wakes)
        if record.endless:
            self.report.add("BacklogShrinks", record, f"{record.wakes} wakes in a row did not end the backlog")

    def on_stale(self, record: WakeupStale) -> None:
        """A wake-up in the past that is no backlog makes a driver spin."""
        self.report.add("WakeupsAhead", record, f"{record.reason} lies {record.late_us} us in the past")

    def on_spun(self, record: Spun) -> None:
        """A wake-up that brings nothing, at once, for ever: the same, disguised."""
        self.report.add("WakeupsAhead", record, f"{record.wakes} wakes in a row came at once and had nothing to do")

    def on_asked(self, record: Asked) -> None:
        """A command."""
        self.open[record.node, record.request_id] = record

    def on_answered(self, record: Answered) -> None:
        """Its answer: exactly one."""
        asked = self.open.pop((record.node, record.request_id), None)
        if asked is None:
            what = f"request {record.request_id} was answered twice, or never asked: {record.answer}"
            self.report.add("EveryCommandAnswered", record, what)

    def on_gone(self, record: NodeCrashed | NodeStopped) -> None:
        """Nobody answers any more: whoever asked finds the connection closed."""
        for key in [key for key in self.open if key[0] == record.node]:
            del self.open[key]

    def on_weighed(self, record: Weighed) -> None:
        """MemoryBounded: by the schedules and by what is not over, not by what has been."""
        bound = BASE_OBJECTS + OBJECTS_PER_JOB * len(self.oracle.plan.jobs) + OBJECTS_PER_RUN * record.unfinished
        if record.objects > bound:
            what = f"{record.objects} entries in memory with {record.unfinished} unfinished runs; {bound} are allowed"
            self.report.add("MemoryBounded", record, what)

    def finish(self, end: Noted) -> None:
        """No command is left without an answer."""
        for (node, number), asked in self.open.items():
            if end.at_us - asked.at_us > ANSWER_WITHIN_US:
                what = f"request {number} ({asked.command}) of {asked.at_us} us was never answered"
                self.report.add("EveryCommandAnswered", evolve(end, node=node), what)
