"""The small machines alone, under whatever may happen to them: recovery (RUN-6), retention (KEEP-1 to KEEP-3),
timekeeping (TIME-1 to TIME-4)."""

from collections.abc import Callable
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sz_protocol.changes import DropRuns
from sz_protocol.definition_wire import definition_hash
from sz_protocol.kernel.effects import Effect, Read, Write
from sz_protocol.kernel.events import (
    Event,
    FailReason,
    ReadDone,
    ReadFailed,
    RunsFound,
    RunsRecovered,
    Started,
    StopRequested,
    Woke,
    WriteDone,
    WriteFailed,
)
from sz_protocol.kernel.now import HOUR_US, MINUTE_US, SECOND_US, Now
from sz_protocol.machines.recovery import Recovery
from sz_protocol.machines.retention import FIRST_WITHIN_US, Retention
from sz_protocol.machines.timekeeping import Timekeeping
from sz_protocol.ops import Ops
from sz_protocol.records import CLAIMS_PER_TERM, Run, RunKind, RunState, Schedule
from sz_protocol.settings import Settings
from tests.protocol.harness import T0_US, ModelStore, at, every

QUICK = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def a_run(row: int, schedule_id: str) -> Run:
    return Run(row, row.to_bytes(16, "big"), schedule_id, T0_US, "h", "m", RunState.PENDING, T0_US, RunKind.MANUAL)


class Finding(RuleBasedStateMachine):
    """A life begins on a store with unfinished runs of earlier ones, while people ask for new ones."""

    @initialize(
        rows=st.lists(
            st.tuples(st.integers(1, 2), st.integers(1, 9), st.sampled_from(["", "a", "b", "gone"])), max_size=9
        )
    )
    def begin(self, rows: list[tuple[int, int, str]]) -> None:
        self.store = ModelStore(term=2)
        for name in ("a", "b"):
            definition = every(10, id=name)
            where = (definition_hash(definition), "config", 1, T0_US, None, T0_US, T0_US)
            self.store.schedules[name] = Schedule(name, definition, *where)
        for term, claim, schedule_id in rows:
            row = term * CLAIMS_PER_TERM + claim
            self.store.runs[row] = a_run(row, schedule_id)
        self.left = sorted(self.store.runs)
        self.now = at(0)
        self.machine = Recovery(Settings(page_rows=2), Ops())
        self.waiting: list[Read] = []
        self.found: list[int] = []
        self.recovered = 0
        self.give(self.store.open())

    def give(self, event: Event) -> None:
        for effect in self.machine.handle(event, self.now):
            if isinstance(effect, Read):
                self.waiting.append(effect)
        for notice in self.machine.outbox:
            match notice:
                case RunsFound(runs=runs, schedules=schedules):
                    assert not self.recovered
                    self.found += [run.row for run in runs]
                    for run, schedule in zip(runs, schedules, strict=True):
                        assert schedule == self.store.schedules.get(run.schedule_id)
                case RunsRecovered():
                    self.recovered += 1
                    assert self.found == self.left, "RUN-6: each run of an earlier life is found, once, in order"
        self.machine.outbox.clear()
        assert self.recovered <= 1
        assert len(self.waiting) <= 1, "one question at a time"
        wakeup = self.machine.next_wakeup(self.now)
        assert wakeup is None or wakeup.at_us > self.now.mono_us

    @precondition(lambda self: self.waiting)
    @rule(fails=st.booleans())
    def answer(self, fails: bool) -> None:
        asked = self.waiting.pop()
        failed = ReadFailed(asked.op, FailReason.UNAVAILABLE)
        self.give(failed if fails else ReadDone(asked.op, self.store.read(asked.query)))

    @rule(claim=st.integers(1, 99))
    def somebody_wants_a_run(self, claim: int) -> None:
        """A run of this life is nobody's loss."""
        row = 3 * CLAIMS_PER_TERM + claim
        self.store.runs.setdefault(row, a_run(row, "a"))
        self.give(WriteDone(1000 + claim))

    @rule(op=st.integers(1, 99))
    def others_read(self, op: int) -> None:
        if all(asked.op != op for asked in self.waiting):
            self.give(ReadDone(op, ()))

    @rule(seconds=st.sampled_from([0.1, 1]))
    def time_passes(self, seconds: float) -> None:
        self.now = Now(self.now.mono_us + round(seconds * SECOND_US), self.now.utc_us)
        self.give(Woke())

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            for _ in range(40):
                if self.waiting:
                    self.answer(False)
                else:
                    self.time_passes(1)
            assert self.recovered == 1, "RUN-6: it ends"
            assert self.machine.next_wakeup(self.now) is None


class Sweeping(RuleBasedStateMachine):
    """A node that makes rows, busily or not, for a long time."""

    @initialize(rows=st.sampled_from([2, 5, 2000]), keeps=st.booleans(), seed=st.integers(0, 5))
    def begin(self, rows: int, keeps: bool, seed: int) -> None:
        self.settings = Settings(retention_us=HOUR_US if keeps else None, retention_rows=rows)
        self.ops = Ops(term=3)
        self.machine = Retention(self.settings, self.ops, Random(seed))
        self.now = at(0)
        self.since_us: int | None = None
        """When the last sweep was, or might have been; None: no sweep may be."""
        self.claims = 0
        self.swept = False
        self.give(Started(3))

    def give(self, event: Event) -> None:
        busy = self.ops.claims - self.claims > self.settings.retention_rows // 2
        wanted = self.machine.next_wakeup(self.now)
        effects = self.machine.handle(event, self.now)
        for effect in effects:
            self.judge(effect, busy)
        if isinstance(event, Woke) and not effects and wanted is not None:
            assert not (busy and self.now.trusted), "KEEP-2: a busy node sweeps"
            assert not self.now.trusted or wanted.at_us > self.now.mono_us, "KEEP-2: what is due is swept"
            if busy or wanted.at_us <= self.now.mono_us + 1:
                self.looked()  # It was its time, and nothing could be done without knowing the time.
        wakeup = self.machine.next_wakeup(self.now)
        assert (wakeup is None) is (self.since_us is None)
        if wakeup is not None and self.since_us is not None:
            first_us = FIRST_WITHIN_US if not self.swept else self.settings.retention_every_us
            assert self.now.mono_us < wakeup.at_us <= max(self.since_us + first_us, self.now.mono_us + 1), "KEEP-3"

    def judge(self, effect: Effect, busy: bool) -> None:
        assert isinstance(effect, Write)
        assert effect.fence == 3
        assert effect.stream == 0, "whatever comes of it, no decision rests on it"
        (drop,) = effect.changes
        assert isinstance(drop, DropRuns)
        assert drop == DropRuns(self.now.utc_us - HOUR_US, self.settings.retention_rows), "KEEP-1: only what is old"
        assert self.now.trusted, "who does not know the time does not know what is old"
        assert self.since_us is not None, "no sweep before the start is over, none after a stop"
        assert busy or not self.swept or self.now.mono_us >= self.since_us + self.settings.retention_every_us, "KEEP-2"
        self.looked()

    def looked(self) -> None:
        self.since_us, self.claims, self.swept = self.now.mono_us, self.ops.claims, True

    @rule()
    def recovered(self) -> None:
        if self.since_us is None and self.settings.retention_us is not None:
            self.since_us = self.now.mono_us
            self.swept = False
            self.give(RunsRecovered())

    @rule(claims=st.integers(1, 8), minutes=st.sampled_from([0, 0.1, 2, 15]), fails=st.booleans())
    def time_passes(self, claims: int, minutes: float, fails: bool) -> None:
        for _ in range(claims):
            self.ops.next_claim()
        self.now = Now(self.now.mono_us + round(minutes * MINUTE_US), self.now.utc_us, self.now.trusted)
        self.give(Woke())
        self.give(WriteFailed(1, FailReason.UNAVAILABLE) if fails else WriteDone(1))

    @rule(trusted=st.booleans(), step_s=st.sampled_from([0, -7200, 7200]))
    def clock(self, trusted: bool, step_s: int) -> None:
        self.now = Now(self.now.mono_us, self.now.utc_us + step_s * SECOND_US, trusted)

    @rule()
    def stop(self) -> None:
        self.since_us = None
        self.give(StopRequested(0))


class Clocks(RuleBasedStateMachine):
    """Wall clocks that jump, devices that do not know the time, lives on a store that remembers the latest one."""

    @initialize(error_s=st.sampled_from([0, -3600]), trusted=st.booleans(), known=st.booleans())
    def begin(self, error_s: int, trusted: bool, known: bool) -> None:
        self.now = Now(1000 * SECOND_US, T0_US + error_s * SECOND_US, trusted)
        self.high_water_us = T0_US if known else 0
        self.live()

    def live(self) -> None:
        """The next life: it has seen nothing yet but what the store remembers."""
        self.machine = Timekeeping(Settings())
        self.machine.start(self.now, self.high_water_us)
        self.known_base_us = self.high_water_us - self.now.mono_us if self.high_water_us else None
        self.shown: list[Now] = []
        self.remembered_us = self.high_water_us
        behind = self.now.utc_us + Settings().clock_step_us < self.remembered_us
        self.behind_until_us = self.now.mono_us + Settings().clock_settle_us if behind else 0
        """Until then a clock is not trusted that shows less than the store remembers."""
        self.read()

    def read(self) -> None:
        """Read the clocks, as the node does at each event, and judge what it is to go by."""
        raw, limit_us = self.now, Settings().clock_step_us
        self.shown.append(raw)
        seen = self.machine.read(raw)
        assert seen.mono_us == raw.mono_us
        behind = raw.mono_us < self.behind_until_us and seen.utc_us < self.remembered_us
        assert seen.trusted is (raw.trusted and not behind), "TIME-3"
        if raw.trusted:
            assert seen.utc_us <= raw.utc_us, "TIME-1, TIME-2: never ahead of the clock"
        elif self.known_base_us is not None:
            assert seen.utc_us == raw.mono_us + self.known_base_us, "TIME-4: the latest known time, carried on"
        if not seen.trusted:
            return
        base_us = seen.utc_us - seen.mono_us
        before = self.shown[-2] if len(self.shown) > 1 else None
        if before is not None and before.trusted and self.known_base_us is not None and not self.behind_until_us:
            if base_us > self.known_base_us + limit_us:
                since_us = raw.mono_us - Settings().clock_settle_us
                held = [s for s in self.shown if s.mono_us > since_us]
                assert all(s.trusted and abs(s.utc_us - s.mono_us - base_us) <= limit_us for s in held), "TIME-1"
            if raw.utc_us - raw.mono_us < self.known_base_us - limit_us:
                assert seen == raw, "TIME-2: back at once"
        self.known_base_us, self.behind_until_us = base_us, 0
        self.high_water_us = max(self.high_water_us, seen.utc_us)

    @rule(seconds=st.sampled_from([0, 1, 20, 40, 61, 600]))
    def time_passes(self, seconds: int) -> None:
        us = seconds * SECOND_US
        self.now = Now(self.now.mono_us + us, self.now.utc_us + us, self.now.trusted)
        self.read()

    @rule(seconds=st.sampled_from([-86_400, -3600, -1, 1, 3600, 86_400]))
    def step(self, seconds: int) -> None:
        self.now = Now(self.now.mono_us, self.now.utc_us + seconds * SECOND_US, self.now.trusted)
        self.read()

    @rule(trusted=st.booleans())
    def trust(self, trusted: bool) -> None:
        self.now = Now(self.now.mono_us, self.now.utc_us, trusted)
        self.read()

    @rule(rebooted=st.booleans())
    def restart(self, rebooted: bool) -> None:
        self.now = Now(SECOND_US if rebooted else self.now.mono_us, self.now.utc_us, self.now.trusted)
        self.live()

    def teardown(self) -> None:
        """A clock that goes right for long enough is gone by."""
        if hasattr(self, "machine"):
            self.trust(True)
            for _ in range(3):
                self.time_passes(40)
            assert self.machine.read(self.now) == self.now
            assert self.machine.next_check_us() is None, "nothing is on probation any more"


Finding.TestCase.settings = Sweeping.TestCase.settings = Clocks.TestCase.settings = QUICK
TestFinding: Callable[..., None] = Finding.TestCase  # type: ignore[assignment]
TestSweeping: Callable[..., None] = Sweeping.TestCase  # type: ignore[assignment]
TestClocks: Callable[..., None] = Clocks.TestCase  # type: ignore[assignment]
