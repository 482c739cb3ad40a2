"""What every node owes: MachinesNeverRaise, BacklogShrinks, WakeupsAhead, EveryCommandAnswered, PauseKept, DrainWaits,
MemoryBounded."""

from attrs import Factory, define, evolve

from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    Answered,
    Asked,
    BacklogEnded,
    CancelAsked,
    CursorMoved,
    ExecutionEnded,
    NodeCrashed,
    NodeRaised,
    NodeStopped,
    Noted,
    Rewound,
    Spun,
    WakeupStale,
    Weighed,
)
from sz_runtime.simulation.worker_facts import WorkerStopped

BASE_OBJECTS = 400
OBJECTS_PER_JOB = 60
OBJECTS_PER_RUN = 40
A_FEW_WORKERS = 5
"""For so many there is room in BASE_OBJECTS;"""
OBJECTS_PER_OFFER = 6
"""for each method of any further one, and for itself, so many more."""
ANSWER_WITHIN_US = 200_000_000
"""A command waits out the store's troubles a few times, then it is refused."""


@define
class Health(Checker):
    """Remembers open commands, kept pauses, and executions that died at this moment."""

    open: dict[tuple[str, int], Asked] = Factory(dict)
    paused: dict[str, int] = Factory(dict)
    """Schedule -> since when a person has its pause confirmed."""
    asked_to_stop: dict[tuple[str, int, int], None] = Factory(dict)
    killed: list[ExecutionEnded] = Factory(list)

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
            NodeStopped: self.on_stopped,
            WorkerStopped: self.on_stopped,
            CursorMoved: self.on_cursor,
            CancelAsked: self.on_cancel,
            ExecutionEnded: self.on_ended,
            Rewound: self.on_rewound,
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
        """A command. From the moment it is asked a pause may be over."""
        self.open[record.node, record.request_id] = record
        if record.command == "Resume":
            self.paused.pop(record.schedule_id, None)
        elif record.command == "Apply":
            self.paused.clear()

    def on_answered(self, record: Answered) -> None:
        """Its answer: exactly one."""
        asked = self.open.pop((record.node, record.request_id), None)
        if asked is None:
            what = f"request {record.request_id} was answered twice, or never asked: {record.answer}"
            self.report.add("EveryCommandAnswered", record, what)
        elif (asked.command, record.answer) == ("Pause", "Done") and not self._resuming(asked.schedule_id):
            self.paused[asked.schedule_id] = record.at_us

    def _resuming(self, schedule_id: str) -> bool:
        """Whether somebody waits for the end of a pause already."""
        return any(
            asked.command == "Apply" or (asked.command == "Resume" and asked.schedule_id == schedule_id)
            for asked in self.open.values()
        )

    def on_cursor(self, record: CursorMoved) -> None:
        """PauseKept."""
        if record.schedule_id in self.paused:
            what = f"{record.schedule_id} was paused at {self.paused[record.schedule_id]} us and decided since"
            self.report.add("PauseKept", record, what)

    def on_rewound(self, record: Rewound) -> None:
        """An older copy may not know of the pause."""
        self.paused.clear()

    def on_cancel(self, record: CancelAsked) -> None:
        """An execution was asked to stop."""
        self.asked_to_stop[record.node, record.row, record.attempt] = None

    def on_ended(self, record: ExecutionEnded) -> None:
        """An execution ended, or died with its process."""
        if record.how == "killed":
            self.killed = [other for other in self.killed if other.at_us == record.at_us]
            self.killed.append(record)
        else:
            self.asked_to_stop.pop((record.node, record.row, record.attempt), None)

    def on_stopped(self, record: NodeStopped | WorkerStopped) -> None:
        """DrainWaits: who stops in order lets handlers end, or asks them to."""
        drained = isinstance(record, WorkerStopped) or record.why == "drained"
        for ended in self.killed:
            asked = (ended.node, ended.row, ended.attempt) in self.asked_to_stop
            if drained and (ended.node, ended.at_us) == (record.node, record.at_us) and not asked:
                what = f"row {ended.row} of {ended.schedule_id} was executing and not asked to stop"
                self.report.add("DrainWaits", record, what)
        self.on_gone(record)

    def on_gone(self, record: NodeCrashed | NodeStopped | WorkerStopped) -> None:
        """Nobody answers any more: whoever asked finds the connection closed."""
        for key in [key for key in self.open if key[0] == record.node]:
            del self.open[key]

    def on_weighed(self, record: Weighed) -> None:
        """MemoryBounded: by the schedules and by what is not over, not by what has been."""
        plan = self.oracle.plan
        bound = BASE_OBJECTS + OBJECTS_PER_JOB * len(plan.jobs) + OBJECTS_PER_RUN * record.unfinished
        for worker in plan.workers[A_FEW_WORKERS:]:
            bound += OBJECTS_PER_OFFER * (1 + len(plan.jobs if worker.has is None else worker.has))
        if record.objects > bound:
            what = f"{record.objects} entries in memory with {record.unfinished} unfinished runs; {bound} are allowed"
            self.report.add("MemoryBounded", record, what)

    def finish(self, end: Noted) -> None:
        """No command is left without an answer."""
        for (node, number), asked in self.open.items():
            if end.at_us - asked.at_us > ANSWER_WITHIN_US:
                what = f"request {number} ({asked.command}) of {asked.at_us} us was never answered"
                self.report.add("EveryCommandAnswered", evolve(end, node=node), what)
