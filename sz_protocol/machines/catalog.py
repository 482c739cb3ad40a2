"""The schedules themselves: what people add, change, pause and resume, and what is parked for want of a handler.

Rules: specs/scheduling.md. CAT-1 an edit keeps the cursor. CAT-2 nothing is deleted: what leaves its source is RETIRED.
CAT-3 every edit is a compare-and-set on (rev, cursor), decided again on fresh rows when a fire came between. CAT-4
instants that an edit takes away are in the ledger, in the same write.
"""

from collections import deque

from attrs import Factory, define, evolve, frozen

from sz_protocol.changes import Change, InsertRuns, PutSchedules
from sz_protocol.commands import Applied, Apply, Command, Done, Pause, Refusal, RefusalCode, Resume, RunNow, Trigger
from sz_protocol.definition import Definition
from sz_protocol.kernel.effects import Effect, Publish, Read, Reply, Write
from sz_protocol.kernel.events import (
    Commanded,
    Event,
    FailReason,
    HandlersChanged,
    ParkWanted,
    ReadDone,
    ReadFailed,
    RunWanted,
    SchedulesStored,
    StopRequested,
    WriteDone,
    WriteFailed,
)
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.machines.schedule_edits import (
    Context,
    Edit,
    edit_apply,
    edit_park,
    edit_pause,
    edit_resume,
    edit_retire,
    edit_unpark,
    no_such_method,
)
from sz_protocol.notices import Ignored, RunsRecorded, ScheduleParked, ScheduleQuarantined, ScheduleUnparked
from sz_protocol.ops import Ops
from sz_protocol.queries import ScheduleIds, SchedulesById, SchedulesPage
from sz_protocol.records import Run, RunKind, RunState, Schedule, ScheduleState, run_key
from sz_protocol.settings import Settings

CHUNK = 2000
TRIES = 5


@frozen
class Retire:
    """Internal: take schedules of a source out that are not in `keep`."""

    source: str
    keep: dict[str, None]


@frozen
class Unpark:
    """Internal: look at every parked schedule again."""


@frozen
class Recheck:
    """Internal: an edit may have been stored or not, and nobody will try it again: find out how things stand."""


Task = Command | Retire | Unpark | Recheck | ParkWanted


@define
class Job:
    """One task under way: chunks of ids to work on, and what came of it so far. `request_id` None: nobody waits."""

    task: Task
    request_id: int | None = None
    chunks: deque[tuple[str, ...]] = Factory(deque)
    definitions: dict[str, Definition] = Factory(dict)
    edits: tuple[Edit, ...] = ()
    listing: ScheduleIds | SchedulesPage | None = None
    tally: Applied = Factory(Applied)
    tries: int = 0
    doubtful: bool = False
    """Whether the last write of this chunk may have been stored without our knowing."""


@define
class Catalog:
    """Works on jobs, each with at most one operation under way; jobs do not wait for each other."""

    settings: Settings
    ops: Ops
    methods: dict[tuple[str, str], None] | None = None
    jobs: dict[int, Job] = Factory(dict)
    waiting: list[tuple[int, Job]] = Factory(list)
    stopping: bool = False
    outbox: list[SchedulesStored | RunWanted] = Factory(list)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact."""
        effects = self._retry(now)
        match event:
            case Commanded(request_id=request_id, command=command):
                effects += self._on_command(request_id, command, now)
            case ReadDone(op=op, rows=rows) if op in self.jobs:
                effects += self._on_rows(self.jobs.pop(op), rows, now)
            case WriteDone(op=op) if op in self.jobs:
                effects += self._on_written(self.jobs.pop(op))
            case ReadFailed(op=op, detail=detail) if op in self.jobs:
                effects += self._on_unavailable(self.jobs.pop(op), detail, now)
            case WriteFailed(op=op) if op in self.jobs:
                effects += self._on_failed(self.jobs.pop(op), event, now)
            case ParkWanted(schedule_id=schedule_id):
                effects += self._work(Job(event, chunks=deque([(schedule_id,)])))
            case HandlersChanged(methods=methods):
                self.methods = {(m.handler_id, m.method): None for m in methods}
                effects += self._list(Job(Unpark()), SchedulesPage(limit=CHUNK, states=(ScheduleState.PARKED,)))
            case StopRequested():
                self.stopping = True
            case _:
                pass
        return effects

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """Only jobs that the store turned away wait for time."""
        if not self.waiting:
            return None
        return Wakeup(max(self.waiting[0][0], now.mono_us + 1), WakeReason.RETRY)

    # --- what is asked ----------------------------------------------------------------------------------------

    def _on_command(self, request_id: int, command: Command, now: Now) -> list[Effect]:
        if self.stopping:
            return [Reply(request_id, Refusal(RefusalCode.STOPPING, "the node is stopping"))]
        match command:
            case Apply(definitions=definitions):
                wanted = {definition.id: definition for definition in definitions}
                ids = tuple(wanted)
                chunks = deque(ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK))
                return self._work(Job(command, request_id, chunks, wanted))
            case Pause(schedule_id=id_) | Resume(schedule_id=id_) | Trigger(schedule_id=id_):
                return self._work(Job(command, request_id, deque([(id_,)])))
            case RunNow(handler_id=handler_id, method=method):
                if self.methods is None or (handler_id, method) not in self.methods:
                    message = f"handler {handler_id!r} has no method {method!r} here"
                    return [Reply(request_id, Refusal(RefusalCode.UNKNOWN_METHOD, message))]
                nominal = f"{method}\0{command.idempotency_key}"
                run = _manual(handler_id, nominal, "", handler_id, method, now)
                self.outbox.append(RunWanted(request_id, evolve(run, params=dict(command.params)), None))
                return []
            case _:
                return []

    def _work(self, job: Job) -> list[Effect]:
        """Read the job's next chunk, or end it."""
        if job.chunks:
            op = self.ops.next()
            self.jobs[op] = job
            return [Read(op, SchedulesById(job.chunks[0]))]
        if job.listing is not None:
            return self._list(job, job.listing)
        if isinstance(job.task, Apply) and job.task.prune:
            retire = Job(Retire(job.task.source, dict.fromkeys(job.definitions)), job.request_id, tally=job.tally)
            return self._list(retire, ScheduleIds(job.task.source, limit=CHUNK))
        return self._finish(job)

    def _list(self, job: Job, query: ScheduleIds | SchedulesPage) -> list[Effect]:
        """Find out which schedules a job is about, a page at a time."""
        op = self.ops.next()
        job.listing = query
        self.jobs[op] = job
        return [Read(op, query)]

    # --- what the store holds ---------------------------------------------------------------------------------

    def _on_rows(self, job: Job, rows: tuple[Schedule, ...] | tuple[str, ...], now: Now) -> list[Effect]:
        if not job.chunks:
            return self._on_listed(job, rows)
        found = {row.id: row for row in rows if isinstance(row, Schedule)}
        if isinstance(job.task, Trigger):
            return self._on_trigger(job, job.task, found, now)
        if job.doubtful:
            # If it was stored, no edit will follow any more; scheduling has to hear of it all the same.
            job.doubtful = False
            self.outbox.append(SchedulesStored(tuple(found.values())))
        context = Context(now, self.methods, self.ops.next_claim, self.settings.enumerate_instants)
        edits: list[Edit] = []
        for schedule_id in job.chunks[0]:
            edit = self._decide(job, schedule_id, found.get(schedule_id), context)
            if isinstance(edit, Refusal):
                return [Reply(job.request_id, edit)] if job.request_id is not None else []
            if edit is not None:
                edits.append(edit)
        if not edits:
            job.chunks.popleft()
            return self._work(job)
        job.edits = tuple(edits)
        return self._write(job)

    def _on_listed(self, job: Job, rows: tuple[Schedule, ...] | tuple[str, ...]) -> list[Effect]:
        ids = tuple(row if isinstance(row, str) else row.id for row in rows)
        last, full = (ids[-1], len(ids) == CHUNK) if ids else ("", False)
        job.listing = evolve(job.listing, after_id=last) if full and job.listing is not None else None
        if isinstance(job.task, Retire):
            ids = tuple(schedule_id for schedule_id in ids if schedule_id not in job.task.keep)
        if ids:
            job.chunks.append(ids)
        return self._work(job)

    def _decide(self, job: Job, schedule_id: str, existing: Schedule | None, context: Context) -> Edit | Refusal | None:
        match job.task:
            case Apply(source=source):
                edit = edit_apply(existing, job.definitions[schedule_id], source, context)
                if isinstance(edit, str):
                    job.tally = evolve(job.tally, refused=(*job.tally.refused, (schedule_id, edit)))
                    return None
                if edit is None:
                    job.tally = evolve(job.tally, unchanged=job.tally.unchanged + 1)
                return edit
            case _ if existing is None:
                return Refusal(RefusalCode.UNKNOWN_SCHEDULE, f"no schedule {schedule_id!r}")
            case Pause(reason=reason):
                return edit_pause(existing, reason, context)
            case Resume(missed=policy):
                return edit_resume(existing, policy, context)
            case ParkWanted(state=state, reason=reason):
                edit = edit_park(existing, state, reason, context)
                if edit is None:
                    # Nothing to park after all: scheduling, which let go of it, takes it back.
                    self.outbox.append(SchedulesStored((existing,)))
                return edit
            case Retire():
                return edit_retire(existing, context)
            case Recheck():
                return None
            case _:
                return edit_unpark(existing, context)

    def _on_trigger(self, job: Job, trigger: Trigger, found: dict[str, Schedule], now: Now) -> list[Effect]:
        assert job.request_id is not None, "a trigger is always asked for"
        schedule = found.get(trigger.schedule_id)
        if schedule is None:
            refusal = Refusal(RefusalCode.UNKNOWN_SCHEDULE, f"no schedule {trigger.schedule_id!r}")
            return [Reply(job.request_id, refusal)]
        definition = schedule.definition
        if self.methods is None or (definition.handler_id, definition.method) not in self.methods:
            return [Reply(job.request_id, Refusal(RefusalCode.UNKNOWN_METHOD, no_such_method(definition)))]
        key = trigger.idempotency_key
        run = _manual(schedule.uid, key, schedule.id, definition.handler_id, definition.method, now)
        self.outbox.append(RunWanted(job.request_id, run, schedule))
        return []

    # --- what is written --------------------------------------------------------------------------------------

    def _write(self, job: Job) -> list[Effect]:
        op = self.ops.next()
        self.jobs[op] = job
        runs = tuple(run for edit in job.edits for run in edit.runs)
        put = PutSchedules(tuple(e.schedule for e in job.edits), tuple(e.expected_us for e in job.edits))
        changes: tuple[Change, ...] = (put, InsertRuns(runs)) if runs else (put,)
        return [Write(op, changes, self.ops.term)]

    def _on_written(self, job: Job) -> list[Effect]:
        schedules = tuple(edit.schedule for edit in job.edits)
        added = sum(edit.expected_us is None for edit in job.edits)
        if isinstance(job.task, Retire):
            job.tally = evolve(job.tally, retired=job.tally.retired + len(schedules))
        else:
            changed = job.tally.changed + len(schedules) - added
            job.tally = evolve(job.tally, added=job.tally.added + added, changed=changed)
        self.outbox.append(SchedulesStored(schedules))
        runs = tuple(run for edit in job.edits for run in edit.runs)
        effects: list[Effect] = [Publish(RunsRecorded(runs))] if runs else []
        effects += [Publish(notice) for notice in map(_standing_notice, schedules) if notice is not None]
        if isinstance(job.task, Unpark):
            effects += [Publish(ScheduleUnparked(schedule.id)) for schedule in schedules]
        job.edits, job.tries = (), 0
        job.chunks.popleft()
        return effects + self._work(job)

    def _on_failed(self, job: Job, failure: WriteFailed, now: Now) -> list[Effect]:
        job.edits = ()
        job.doubtful = failure.reason is FailReason.UNKNOWN
        match failure.reason:
            case FailReason.REFUSED if job.tries < TRIES:
                # CAT-3: a fire came between. Decide again on what is there now.
                job.tries += 1
                return self._work(job)
            case FailReason.INVALID if failure.refused:
                bad = {name: None for name in failure.refused if isinstance(name, str)}
                refused = tuple((name, failure.detail or "the store cannot hold it") for name in bad)
                job.tally = evolve(job.tally, refused=job.tally.refused + refused)
                job.chunks[0] = tuple(name for name in job.chunks[0] if name not in bad)
                return self._work(job) if refused else self._on_unavailable(job, failure.detail, now)
            case FailReason.FENCED:
                return self._answer(job, Refusal(RefusalCode.UNAVAILABLE, "this node was replaced by another one"))
            case _:
                return self._on_unavailable(job, failure.detail or failure.reason.value, now)

    def _on_unavailable(self, job: Job, detail: str, now: Now) -> list[Effect]:
        """Try again later: for ever when the node itself wants it, a few times when a person waits."""
        job.tries += 1
        if job.request_id is not None and job.tries > TRIES:
            gone = self._answer(job, Refusal(RefusalCode.UNAVAILABLE, f"the store does not take it: {detail}"))
            if not job.doubtful:
                return gone
            job = Job(Recheck(), chunks=deque(job.chunks), tries=job.tries, doubtful=True)
            return gone + self._later(job, now)
        return self._later(job, now)

    def _later(self, job: Job, now: Now) -> list[Effect]:
        self.waiting.append((now.mono_us + self.settings.store_retry_us * min(job.tries, 8), job))
        self.waiting.sort(key=lambda item: item[0])
        return []

    def _retry(self, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        while self.waiting and self.waiting[0][0] <= now.mono_us:
            effects += self._work(self.waiting.pop(0)[1])
        return effects

    def _finish(self, job: Job) -> list[Effect]:
        match job.task:
            case Apply() | Retire():
                return self._answer(job, job.tally)
            case _:
                return self._answer(job, Done())

    def _answer(self, job: Job, answer: Applied | Done | Refusal) -> list[Effect]:
        if job.request_id is not None:
            return [Reply(job.request_id, answer)]
        if isinstance(answer, Refusal):
            return [Publish(Ignored(type(job.task).__name__, answer.message))]
        return []


def _standing_notice(schedule: Schedule) -> ScheduleParked | ScheduleQuarantined | None:
    match schedule.state:
        case ScheduleState.PARKED:
            return ScheduleParked(schedule.id, schedule.reason)
        case ScheduleState.QUARANTINED:
            return ScheduleQuarantined(schedule.id, schedule.reason)
        case _:
            return None


def _manual(uid: str, nominal: str, schedule_id: str, handler_id: str, method: str, now: Now) -> Run:
    key = run_key(uid, nominal, RunKind.MANUAL)
    now_us = now.utc_us
    return Run(
        0,
        key,
        schedule_id,
        now_us,
        handler_id,
        method,
        RunState.PENDING,
        now_us,
        kind=RunKind.MANUAL,
        reason="manual",
    )
