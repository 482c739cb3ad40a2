"""Catalog alone, against a store with every kind of answer: people who apply, pause, resume and order, wishes of
scheduling, handlers that come and go, fires between, drains and lives that end. CAT-1 to CAT-6, CAT-10, CAT-11; each
request has one answer, and at the end scheduling was told of all that stands.
"""

from collections import Counter, deque
from collections.abc import Callable

from attrs import evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sz_protocol.changes import InsertRuns, PutSchedules
from sz_protocol.commands import Applied, Apply, Command, Done, Pause, Refusal, Resume, RunNow, Trigger
from sz_protocol.definition import Definition, MisfirePolicy
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.effects import Effect, Publish, Read, Reply, Write
from sz_protocol.kernel.events import (
    Commanded,
    Event,
    FailReason,
    HandlersChanged,
    MethodInfo,
    ParkWanted,
    ReadDone,
    ReadFailed,
    RunWanted,
    SchedulesStored,
    SettleWanted,
    StopRequested,
    Woke,
    WriteDone,
    WriteFailed,
)
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.catalog import Catalog
from sz_protocol.ops import Ops
from sz_protocol.records import UNSETTLED_US, Run, Schedule, ScheduleState
from sz_protocol.settings import Settings
from sz_protocol.triggers import Interval
from tests.protocol.harness import T0_US, ModelStore, at

NAMES = "abcd"
HERE = MethodInfo("h", "m", "pool")
ALL_THERE = HandlersChanged((HERE, MethodInfo("g", "m", "pool")), (("pool", 2),))
SOME_GONE = HandlersChanged((HERE,), (("pool", 2),))
FATES = ("true", "true", "true", "away", "done unknown", "lost unknown")
jobs = st.builds(
    Definition,
    st.sampled_from(NAMES),
    st.sampled_from("hhg"),
    st.just("m"),
    st.sampled_from([10, 30]).map(lambda seconds: Interval(seconds * SECOND_US, T0_US)),
    params=st.sampled_from([{}, {"a": 1}]),
)
names = st.sampled_from(NAMES)
commands = st.one_of(
    st.builds(
        Apply,
        st.lists(jobs, max_size=4).map(tuple),
        source=st.sampled_from(["config", "config", "api"]),
        prune=st.booleans(),
    ),
    st.builds(Pause, names, st.sampled_from(["", "why"])),
    st.builds(Resume, names, st.sampled_from(MisfirePolicy)),
    st.builds(Trigger, names, st.just("k")),
    st.builds(RunNow, st.sampled_from("hg"), st.just("m"), st.just("k")),
)
wishes = st.one_of(
    st.builds(
        ParkWanted,
        st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
        st.sampled_from([ScheduleState.PARKED, ScheduleState.QUARANTINED]),
        st.just("because"),
    ),
    st.builds(SettleWanted, st.lists(names, min_size=1, max_size=3, unique=True).map(tuple)),
)


def instants(schedule: Schedule, until_us: int) -> list[int]:
    """What its trigger names after its cursor and up to an instant."""
    trigger = schedule.definition.trigger
    assert isinstance(trigger, Interval)
    first = schedule.cursor_us - (schedule.cursor_us - T0_US) % trigger.period_us + trigger.period_us
    return list(range(first, until_us + 1, trigger.period_us))


class Office(RuleBasedStateMachine):
    """Plays everybody round catalog. The store answers in order; anything else happens whenever it likes."""

    @initialize(first=st.lists(jobs, min_size=3, max_size=4).map(tuple))
    def begin(self, first: tuple[Definition, ...]) -> None:
        self.store = ModelStore()
        self.now = at(0)
        self.requests = 0
        self.versions: dict[str, list[Schedule]] = {name: [] for name in NAMES}
        """Every row that ever stood, in this order."""
        self.handlers = ALL_THERE
        self.live()
        self.ask(Apply(first))
        self.work(["true"], 9)

    def live(self) -> None:
        """The next life."""
        self.store.open()
        self.machine = Catalog(Settings(enumerate_instants=3), Ops(self.store.term))
        self.queue: deque[Read | Write] = deque()
        self.open: dict[int, tuple[Command, dict[str, int]]] = {}
        """Requests that nobody has answered, and how many versions of each schedule there were when they came."""
        self.told: dict[str, Schedule] = dict(self.store.schedules)
        """What scheduling knows: it has read what stands."""
        self.answered: list[Event] = []
        self.stopping = self.failed = False
        self.give(self.handlers)

    # --- driving ----------------------------------------------------------------------------------------------

    def give(self, event: Event) -> None:
        """Hand over one fact, file the orders and what it tells."""
        effects = self.machine.handle(event, self.now)
        for told in self.machine.outbox:
            match told:
                case SchedulesStored(schedules=schedules):
                    self.told.update({schedule.id: schedule for schedule in schedules})
                case RunWanted(request_id=request_id):
                    command, _ = self.open.pop(request_id)  # Execution answers this one.
                    assert isinstance(command, Trigger | RunNow)
        self.machine.outbox.clear()
        for effect in effects:
            self.file(effect)
        assert sorted(self.machine.jobs) == sorted(operation.op for operation in self.queue), (
            "an operation for each job"
        )
        assert self.machine.ops.edits == sum(isinstance(operation, Write) for operation in self.queue), "CAT-6"
        self.one_job_for_each_wish()
        if not self.machine.jobs and not self.machine.waiting and not self.stopping:
            for name, row in self.store.schedules.items():
                assert self.told[name].rev == row.rev, "CAT-5: scheduling was told of what stands"
        wakeup = self.machine.next_wakeup(self.now)
        assert wakeup is None or wakeup.at_us > self.now.mono_us, "KERNEL-4: a wake-up lies in the future"

    def file(self, effect: Effect) -> None:
        match effect:
            case Write():
                assert not self.stopping, "CAT-6: a drain begins no write"
                self.queue.append(effect)
            case Read():
                self.queue.append(effect)
            case Reply(request_id=request_id, answer=answer):
                command, since = self.open.pop(request_id)  # Once.
                self.judge_answer(command, since, answer)
            case Publish():
                pass
            case _:
                raise AssertionError(f"no order of catalog's: {effect}")

    def stood(self, name: str, since: dict[str, int]) -> list[Schedule]:
        """What stood of a schedule at some time since."""
        return self.versions[name][max(since[name] - 1, 0) :]

    def judge_answer(self, command: Command, since: dict[str, int], answer: object) -> None:
        """What is answered has happened, durably, between question and answer."""
        if isinstance(answer, Refusal):
            unavailable = answer.code.value == "unavailable"
            assert not unavailable or self.failed, "refused without need"
            assert answer.code.value != "stopping" or self.stopping
            return
        match command:
            case Pause(schedule_id=name):
                assert isinstance(answer, Done)
                assert any(row.state is ScheduleState.PAUSED for row in self.stood(name, since)), "it was paused"
            case Resume(schedule_id=name):
                assert isinstance(answer, Done)
                states = [(row.state, row.paused_us) for row in self.stood(name, since)]
                assert any(state is not ScheduleState.PAUSED and not us for state, us in states), "it was resumed"
            case Apply(definitions=definitions):
                assert isinstance(answer, Applied)
                wanted = {job.id: job for job in definitions}
                refused = [name for name, why in answer.refused if "belongs" in why]
                through = answer.added + answer.changed + answer.unchanged + len(refused)
                assert through == len(wanted), "each definition is counted once"
                for name, job in wanted.items():
                    hashes = [row.hash for row in self.stood(name, since) if row.state is not ScheduleState.RETIRED]
                    assert name in refused or definition_hash(job) in hashes, "it was applied"
            case _:
                raise AssertionError(f"{command} is answered by execution")

    def one_job_for_each_wish(self) -> None:
        """CAT-11."""
        found: Counter[tuple[str, str]] = Counter()
        for job in (*self.machine.jobs.values(), *(job for _, job in self.machine.waiting)):
            if isinstance(job.task, ParkWanted | SettleWanted):
                kind = job.task.state.value if isinstance(job.task, ParkWanted) else "settle"
                found.update((kind, name) for chunk in job.chunks for name in chunk)
        assert all(count == 1 for count in found.values()), "CAT-11: wishes do not multiply"

    # --- what is asked ----------------------------------------------------------------------------------------

    @rule(command=commands)
    def ask(self, command: Command) -> None:
        self.requests += 1
        self.open[self.requests] = (command, {name: len(rows) for name, rows in self.versions.items()})
        self.give(Commanded(self.requests, command))
        assert not self.stopping or self.requests not in self.open, "CAT-6: a drain takes nothing on"

    @rule(command=commands, away=st.integers(0, 8))
    def ask_in_doubt(self, command: Command, away: int) -> None:
        """What was asked becomes durable, and nobody says so; and then the store is away for a while."""
        self.work(["true"], 30)
        self.ask(command)
        for _ in range(6):
            if self.queue and isinstance(self.queue[0], Read):
                self.answer("true")
            elif self.queue:
                self.answer("done unknown")
                self.work(["away"], 2 * away)
                break

    @rule(wish=wishes)
    def wish(self, wish: ParkWanted | SettleWanted) -> None:
        """Scheduling lets go of what it wants out of its way."""
        known = tuple(name for name in wish.schedule_ids if name in self.store.schedules)
        if known:
            self.give(evolve(wish, schedule_ids=known))

    @rule(there=st.booleans())
    def handlers_change(self, there: bool) -> None:
        self.handlers = ALL_THERE if there else SOME_GONE
        self.give(self.handlers)

    # --- what the store does ----------------------------------------------------------------------------------

    @rule(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=4), steps=st.integers(1, 30))
    def work(self, fates: list[str], steps: int) -> None:
        """The store answers for a while; what was turned away comes again."""
        for step in range(steps):
            if self.queue:
                self.answer(fates[step % len(fates)])
            elif self.machine.waiting:
                self.time_passes(1)

    @precondition(lambda self: self.queue)
    @rule(fate=st.sampled_from(FATES), ahead=st.integers(0, 3))
    def answers(self, fate: str, ahead: int) -> None:
        """Jobs do not wait for each other: a read may be answered before an older one."""
        if isinstance(self.queue[ahead % len(self.queue)], Read):
            self.queue.rotate(-(ahead % len(self.queue)))
        self.answer(fate)

    def answer(self, fate: str) -> None:
        operation = self.queue.popleft()
        self.failed = self.failed or fate != "true"
        if isinstance(operation, Read):
            failed = ReadFailed(operation.op, FailReason.UNAVAILABLE)
            event: Event = failed if fate != "true" else ReadDone(operation.op, self.store.read(operation.query))
        else:
            done = self.write(operation) if fate in ("true", "done unknown") else WriteDone(0)
            if fate == "true" or isinstance(done, WriteFailed):
                event = done
                self.failed = self.failed or isinstance(done, WriteFailed)
            else:
                reason = FailReason.UNAVAILABLE if fate == "away" else FailReason.UNKNOWN
                event = WriteFailed(operation.op, reason)
        self.answered.append(event)
        self.give(event)

    def write(self, write: Write) -> WriteDone | WriteFailed:
        """Every row that is taken is judged by what stood before."""
        before = dict(self.store.schedules)
        answer = self.store.write(write)
        if isinstance(answer, WriteDone):
            put = [change for change in write.changes if isinstance(change, PutSchedules)]
            rows = [run for change in write.changes if isinstance(change, InsertRuns) for run in change.runs]
            assert len(put) == 1
            for schedule in put[0].schedules:
                self.judge(before.get(schedule.id), schedule, [run for run in rows if run.schedule_id == schedule.id])
                self.versions[schedule.id].append(schedule)
        return answer

    def judge(self, old: Schedule | None, new: Schedule, rows: list[Run]) -> None:
        """CAT-1, CAT-2, CAT-4, CAT-10."""
        if old is None:
            assert (new.rev, rows) == (1, [])
            return
        assert (new.rev, new.source, new.uid) == (old.rev + 1, old.source, old.uid)
        again = new.state is old.state is ScheduleState.PAUSED
        assert again or evolve(new, rev=old.rev) != old, "what is as it should be is not written"
        assert new.cursor_us >= old.cursor_us, "SCHED-1"
        changed = new.definition.trigger != old.definition.trigger
        ended = ScheduleState.PAUSED is old.state or ScheduleState.RETIRED in (old.state, new.state)
        assert new.cursor_us == old.cursor_us or changed or ended or old.next_due_us == UNSETTLED_US, "CAT-1"
        about: list[int] = []
        for run in rows:
            until_us = run.fire_us if run.until_us is None else run.until_us
            found = instants(evolve(old, cursor_us=run.fire_us - 1), until_us)
            assert len(found) == run.count
            about += found
        gone = instants(old, new.cursor_us) if old.created_us else []  # Nobody knew the present: nothing was due.
        assert sorted(about) == gone, "CAT-4: what is taken away is in the ledger"
        if old.state is ScheduleState.PAUSED and new.state is ScheduleState.RETIRED:
            assert new.paused_us is not None, "CAT-10"
        if old.state is ScheduleState.RETIRED and new.state is not ScheduleState.RETIRED:
            assert (new.state is ScheduleState.PAUSED) is (old.paused_us is not None), "CAT-10"

    @precondition(lambda self: self.answered)
    @rule(which=st.integers(0, 9))
    def replay(self, which: int) -> None:
        """What nobody waits for changes nothing."""
        if not self.machine.waiting:
            before = repr(self.machine)
            assert self.machine.handle(self.answered[-1 - which % len(self.answered)], self.now) == []
            assert repr(self.machine) == before

    @rule(name=names)
    def fire(self, name: str) -> None:
        """CAT-3: a fire comes between."""
        row = self.store.schedules.get(name)
        if row is None or row.state is not ScheduleState.ACTIVE or not row.next_due_us:
            return
        passed = instants(row, self.now.utc_us)
        if passed:
            cursor_us = passed[-1]
            due_us = instants(row, cursor_us + 60 * SECOND_US)[len(passed)]
            self.store.schedules[name] = evolve(row, cursor_us=cursor_us, next_due_us=due_us)

    # --- time, and ends ---------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1, 3, 9, 60]))
    def time_passes(self, seconds: float) -> None:
        us = round(seconds * SECOND_US)
        self.now = evolve(self.now, mono_us=self.now.mono_us + us, utc_us=self.now.utc_us + us)
        self.give(Woke())

    @rule(trusted=st.booleans())
    def trust(self, trusted: bool) -> None:
        self.now = evolve(self.now, trusted=trusted)

    @rule(durable=st.integers(0, 4), sure=st.integers(0, 3))
    def crash(self, durable: int, sure: int) -> None:
        if sure:
            return
        for operation in list(self.queue)[:durable]:
            if isinstance(operation, Write):
                self.write(operation)
        self.live()

    @rule(sure=st.integers(0, 3))
    def drain(self, sure: int) -> None:
        """CAT-6: whoever waits is answered once what is under way has ended; what was turned away, at once."""
        if sure > 1:
            return
        self.work(["away"], sure)
        self.stopping = True
        self.give(StopRequested(SECOND_US))
        for _ in range(50):
            if self.queue:
                self.answer("true")
        assert not self.queue
        assert not self.open, "each request is answered"
        self.live()

    def teardown(self) -> None:
        """Heal everything: each request is answered, nothing is kept, and scheduling knows what stands."""
        if not hasattr(self, "machine"):
            return
        self.now = evolve(self.now, trusted=True)
        for _ in range(400):
            if self.queue:
                self.answer("true")
            elif self.machine.waiting:
                self.time_passes(3)
            else:
                break
        assert not self.open, "each request is answered"
        assert (self.machine.jobs, self.machine.waiting) == ({}, [])


Office.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestOffice: Callable[..., None] = Office.TestCase  # type: ignore[assignment]
