"""The schedules themselves: what people add, change, pause and resume, and what is parked for want of a handler.

Rules: specs/scheduling.md. CAT-1 an edit keeps the cursor. CAT-2 nothing is deleted: what leaves its source is RETIRED.
CAT-3 every edit is a compare-and-set on (rev, cursor), decided again on fresh rows when a fire came between. CAT-4
instants that an edit takes away are in the ledger, in the same write. CAT-5 an edit of which nobody knows whether it is
durable is looked up before anything else. CAT-6 a drain begins no write, and waits for those under way.
"""

from collections import deque

from attrs import Factory, define, evolve

from sz_protocol.changes import Change, InsertRuns, PutSchedules
from sz_protocol.commands import Applied, Apply, Command, Done, Pause, Refusal, RefusalCode, Resume, RunNow, Trigger
from sz_protocol.definition import Definition, MisfirePolicy
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
    SettleWanted,
    StopRequested,
    Woke,
    WriteDone,
    WriteFailed,
)
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.kernel.record import record
from sz_protocol.machines.backlog import left_out
from sz_protocol.machines.schedule_edits import (
    Context,
    Edit,
    edit_apply,
    edit_park,
    edit_pause,
    edit_resume,
    edit_retire,
    edit_settle,
    edit_unpark,
)
from sz_protocol.notices import Ignored, RunsRecorded, ScheduleParked, ScheduleQuarantined, ScheduleUnparked
from sz_protocol.ops import Ops
from sz_protocol.policy import no_such_method, spread_offset
from sz_protocol.queries import ScheduleIds, SchedulesById, SchedulesPage
from sz_protocol.records import Run, RunKind, RunState, Schedule, ScheduleState, run_key
from sz_protocol.routing import Routes
from sz_protocol.settings import Settings
from sz_protocol.triggers import Unreadable

CHUNK = 500
"""So many schedules are read, decided and written at once: some milliseconds of work."""
TRIES = 5
"""How often the store may turn an edit away, or fires come between, before somebody who waits is told so."""


@record
class Retire:
    """Internal: take schedules of a source out that are not in `keep`."""

    source: str
    keep: dict[str, None]


@record
class Unpark:
    """Internal: look at every parked schedule again."""


@record
class Recheck:
    """Internal: an edit may have been stored or not, and nobody will try it again: find out how things stand."""


Task = Command | Retire | Unpark | Recheck | ParkWanted | SettleWanted


@define
class Job:
    """One task under way: chunks of ids to work on, and what came of it so far. `request_id` None: nobody waits."""

    task: Task
    request_id: int | None = None
    chunks: deque[tuple[str, ...]] = Factory(deque)
    definitions: dict[str, Definition] = Factory(dict)
    edits: tuple[Edit, ...] = ()
    doubtful: bool = False
    """Whether `edits` may be durable: the next rows tell."""
    listing: ScheduleIds | SchedulesPage | None = None
    tally: Applied = Factory(Applied)
    counted: Applied = Factory(Applied)
    """What the chunk at hand adds to the tally once it is through."""
    recorded: dict[bytes, None] = Factory(dict)
    """Run keys of rows that the ledger has already."""
    tries: int = 0
    detail: str = ""
    """What the answer says beside that it is done."""

    def next_chunk(self) -> None:
        """The chunk at hand is through."""
        self.chunks.popleft()
        total, more = self.tally, self.counted
        self.tally = Applied(
            total.added + more.added,
            total.changed + more.changed,
            total.unchanged + more.unchanged,
            total.retired + more.retired,
            total.refused + more.refused,
        )
        self.counted, self.edits, self.tries = Applied(), (), 0


@define
class Catalog:
    """Works on jobs, each with at most one operation under way; jobs do not wait for each other."""

    settings: Settings
    ops: Ops
    routes: Routes | None = None
    jobs: dict[int, Job] = Factory(dict)
    waiting: list[tuple[int, Job]] = Factory(list)
    stopping: bool = False
    outbox: list[SchedulesStored | RunWanted] = Factory(list)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one fact."""
        effects = self._retry(now) if self.waiting else []
        match event:
            case Woke():
                pass
            case Commanded(request_id=request_id, command=command):
                effects += self._on_command(request_id, command, now)
            case ReadDone(op=op, rows=rows) if op in self.jobs:
                effects += self._on_rows(self.jobs.pop(op), rows, now)
            case WriteDone(op=op) if op in self.jobs:
                self.ops.edits -= 1
                job = self.jobs.pop(op)
                effects += self._on_written(job, tuple(edit.schedule for edit in job.edits))
            case ReadFailed(op=op, detail=detail) if op in self.jobs:
                effects += self._on_unavailable(self.jobs.pop(op), detail, now)
            case WriteFailed(op=op) if op in self.jobs:
                self.ops.edits -= 1
                effects += self._on_failed(self.jobs.pop(op), event, now)
            case ParkWanted() | SettleWanted():
                effects += self._on_wish(event)
            case HandlersChanged():
                before = self.routes
                self.routes = Routes(event) if before is None else before.after(event)
                if before is None or not self.routes.lets_the_same_fire_as(before):
                    effects += self._list(Job(Unpark()), SchedulesPage(limit=CHUNK, states=(ScheduleState.PARKED,)))
            case StopRequested():
                self.stopping = True
                waiting, self.waiting = self.waiting, []
                effects += [effect for _, job in waiting for effect in self._stop(job)]
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
                twice = dict.fromkeys(d.id for d in definitions if wanted[d.id] is not d)
                ids = tuple(wanted)
                chunks = deque(ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK))
                tally = Applied(refused=tuple((name, "given twice: the last one counts") for name in twice))
                return self._work(Job(command, request_id, chunks, wanted, tally=tally))
            case Pause(schedule_id=id_) | Resume(schedule_id=id_) | Trigger(schedule_id=id_):
                return self._work(Job(command, request_id, deque([(id_,)])))
            case RunNow(handler_id=handler_id, method=method):
                if self.routes is None or not self.routes.candidates((handler_id, method, (), False)):
                    message = f"handler {handler_id!r} has no method {method!r} here"
                    return [Reply(request_id, Refusal(RefusalCode.UNKNOWN_METHOD, message))]
                nominal = f"{method}\0{command.idempotency_key}"
                run = _manual(handler_id, nominal, "", handler_id, method, now)
                self.outbox.append(RunWanted(request_id, evolve(run, params=dict(command.params)), None))
                return []
            case _:
                return []

    def _on_wish(self, wish: ParkWanted | SettleWanted) -> list[Effect]:
        """CAT-11: scheduling wants these out of its way. What a job of the same wish has under way is told of when that
        is through: each doubtful write tells scheduling what stands, and would bring forth another job."""
        under_way: dict[str, None] = {}
        for job in (*self.jobs.values(), *(job for _, job in self.waiting)):
            if type(job.task) is type(wish) and evolve(job.task, schedule_ids=()) == evolve(wish, schedule_ids=()):
                under_way.update(dict.fromkeys(name for chunk in job.chunks for name in chunk))
        ids = tuple(name for name in wish.schedule_ids if name not in under_way)
        return self._work(Job(wish, chunks=deque([ids]))) if ids else []

    def _work(self, job: Job) -> list[Effect]:
        """Read the job's next chunk, or end it."""
        prune = isinstance(job.task, Apply) and job.task.prune
        if self.stopping and not job.doubtful and (job.chunks or job.listing is not None or prune):
            return self._stop(job)
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
        if job.doubtful:
            job.doubtful = False
            if all(_stands(edit.schedule, found.get(edit.schedule.id)) for edit in job.edits):
                return self._on_written(job, tuple(found[edit.schedule.id] for edit in job.edits))
            # Others may have edited some of them since. What stands is not decided again: it has to be told of here.
            self.outbox.append(SchedulesStored(tuple(found.values())))
        if isinstance(job.task, Recheck):
            return []
        if self.stopping:
            return self._stop(job)
        if isinstance(job.task, Trigger):
            return self._on_trigger(job, job.task, found, now)
        context = Context(now, self.routes, self.ops.next_claim, self.settings.enumerate_instants)
        job.counted = Applied()
        edits: list[Edit] = []
        for schedule_id in job.chunks[0]:
            edit = self._decide(job, schedule_id, found.get(schedule_id), context)
            if isinstance(edit, Refusal):
                return self._answer(job, edit)
            if edit is not None:
                runs = tuple(run for run in edit.runs if run.run_key not in job.recorded)
                edits.append(edit if runs == edit.runs else evolve(edit, runs=runs))
        if not edits:
            job.next_chunk()
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
                    job.counted = evolve(job.counted, refused=(*job.counted.refused, (schedule_id, edit)))
                    return None
                if edit is None:
                    job.counted = evolve(job.counted, unchanged=job.counted.unchanged + 1)
                return edit
            case _ if existing is None:
                return Refusal(RefusalCode.UNKNOWN_SCHEDULE, f"no schedule {schedule_id!r}")
            case Pause(reason=reason):
                return edit_pause(existing, reason, context)
            case Resume(missed=policy):
                if policy is MisfirePolicy.ALL and context.now.trusted and existing.state is ScheduleState.PAUSED:
                    spread_us = spread_offset(existing.uid, existing.definition.spread_us)
                    job.detail = left_out(existing, context.now.utc_us - spread_us)
                return edit_resume(existing, policy, context)
            case ParkWanted(state=state, reason=reason):
                edit = edit_park(existing, state, reason, context)
                if edit is None:
                    # Nothing to park after all: scheduling, which let go of it, takes it back.
                    self.outbox.append(SchedulesStored((existing,)))
                return edit
            case SettleWanted():
                edit = edit_settle(existing, context)
                if edit is None:
                    self.outbox.append(SchedulesStored((existing,)))
                return edit
            case Retire():
                return edit_retire(existing, context)
            case _:
                return edit_unpark(existing, context)

    def _on_trigger(self, job: Job, trigger: Trigger, found: dict[str, Schedule], now: Now) -> list[Effect]:
        assert job.request_id is not None, "a trigger is always asked for"
        schedule = found.get(trigger.schedule_id)
        if schedule is None:
            refusal = Refusal(RefusalCode.UNKNOWN_SCHEDULE, f"no schedule {trigger.schedule_id!r}")
            return [Reply(job.request_id, refusal)]
        if schedule.state is ScheduleState.RETIRED:
            message = f"schedule {schedule.id!r} is retired: {schedule.reason}"
            return [Reply(job.request_id, Refusal(RefusalCode.WRONG_STATE, message))]
        definition = schedule.definition
        if isinstance(definition.trigger, Unreadable):
            message = f"schedule {schedule.id!r} cannot run: {definition.trigger.why}"
            return [Reply(job.request_id, Refusal(RefusalCode.WRONG_STATE, message))]
        if self.routes is None or not self.routes.has(definition):
            return [Reply(job.request_id, Refusal(RefusalCode.UNKNOWN_METHOD, no_such_method(definition)))]
        key = trigger.idempotency_key
        run = _manual(schedule.uid, key, schedule.id, definition.handler_id, definition.method, now)
        self.outbox.append(RunWanted(job.request_id, run, schedule))
        return []

    # --- what is written --------------------------------------------------------------------------------------

    def _write(self, job: Job) -> list[Effect]:
        op = self.ops.next()
        self.jobs[op] = job
        self.ops.edits += 1
        runs = tuple(run for edit in job.edits for run in edit.runs)
        put = PutSchedules(tuple(e.schedule for e in job.edits), tuple(e.expected_us for e in job.edits))
        changes: tuple[Change, ...] = (put, InsertRuns(runs)) if runs else (put,)
        return [Write(op, changes, self.ops.term)]

    def _on_written(self, job: Job, schedules: tuple[Schedule, ...]) -> list[Effect]:
        again = tuple(edit.schedule.id for edit in job.edits if edit.partial)
        if again:
            job.chunks.insert(1, again)
        whole = [schedule for schedule, edit in zip(schedules, job.edits, strict=True) if not edit.partial]
        added = sum(edit.expected_us is None for edit in job.edits)
        if isinstance(job.task, Retire):
            job.counted = evolve(job.counted, retired=len(whole))
        else:
            job.counted = evolve(job.counted, added=added, changed=len(whole) - added)
        self.outbox.append(SchedulesStored(schedules))
        runs = tuple(run for edit in job.edits for run in edit.runs)
        effects: list[Effect] = [Publish(RunsRecorded(runs))] if runs else []
        effects += [Publish(notice) for notice in map(_standing_notice, whole) if notice is not None]
        if isinstance(job.task, Unpark):
            free = [schedule for schedule in whole if schedule.state is not ScheduleState.QUARANTINED]
            effects += [Publish(ScheduleUnparked(schedule.id)) for schedule in free]
        job.next_chunk()
        return effects + self._work(job)

    def _on_failed(self, job: Job, failure: WriteFailed, now: Now) -> list[Effect]:
        match failure.reason:
            case FailReason.REFUSED if job.tries < TRIES:
                return self._on_refused(job, failure.refused)
            case FailReason.INVALID if failure.refused:
                bad = {name: None for name in failure.refused if isinstance(name, str)}
                refused = tuple((name, failure.detail or "the store cannot hold it") for name in bad)
                job.tally = evolve(job.tally, refused=job.tally.refused + refused)
                job.chunks[0] = tuple(name for name in job.chunks[0] if name not in bad)
                return self._work(job) if refused else self._on_unavailable(job, failure.detail, now)
            case FailReason.FENCED:
                return self._answer(job, Refusal(RefusalCode.UNAVAILABLE, "this node was replaced by another one"))
            case reason:
                job.doubtful = reason is FailReason.UNKNOWN
                return self._on_unavailable(job, failure.detail or reason.value, now)

    def _on_refused(self, job: Job, refused: tuple[str | int, ...]) -> list[Effect]:
        """CAT-3: a fire came between. What it did not touch is written as it is; the rest is decided again."""
        names = dict.fromkeys(refused)
        job.recorded.update({run.run_key: None for edit in job.edits for run in edit.runs if run.row in names})
        touched = tuple(e for e in job.edits if e.schedule.id in names or any(run.row in names for run in e.runs))
        if len(touched) in (0, len(job.edits)):
            job.tries += 1
            return self._work(job)
        job.edits = tuple(edit for edit in job.edits if edit not in touched)
        job.chunks[0] = tuple(edit.schedule.id for edit in job.edits)
        job.chunks.insert(1, tuple(edit.schedule.id for edit in touched))
        return self._write(job)

    def _on_unavailable(self, job: Job, detail: str, now: Now) -> list[Effect]:
        """Try again later: for ever when the node itself wants it, a few times when a person waits."""
        if self.stopping and not job.doubtful:
            return self._stop(job)
        job.tries += 1
        effects: list[Effect] = []
        if job.request_id is not None and job.tries > TRIES:
            effects = self._answer(job, Refusal(RefusalCode.UNAVAILABLE, f"the store does not take it: {detail}"))
            if not job.doubtful:
                return effects
            job = evolve(job, task=Recheck(), request_id=None, chunks=deque([job.chunks[0]]), listing=None)
        self.waiting.append((now.mono_us + self.settings.store_retry_us * min(job.tries, 8), job))
        self.waiting.sort(key=lambda item: item[0])
        return effects

    def _stop(self, job: Job) -> list[Effect]:
        """CAT-6: the node drains, and what is left of the job is not begun."""
        if job.doubtful:
            message = "the node is stopping, and does not know whether the store has it"
            return self._answer(job, Refusal(RefusalCode.UNAVAILABLE, message))
        done = job.tally.added + job.tally.changed + job.tally.retired
        message = "the node is stopping" + (f": {done} schedules were stored before that" if done else "")
        return self._answer(job, Refusal(RefusalCode.STOPPING, message))

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
                return self._answer(job, Done(job.detail))

    def _answer(self, job: Job, answer: Applied | Done | Refusal) -> list[Effect]:
        if job.request_id is not None:
            return [Reply(job.request_id, answer)]
        if isinstance(answer, Refusal):
            return [Publish(Ignored(type(job.task).__name__, answer.message))]
        return []


def _stands(wanted: Schedule, found: Schedule | None) -> bool:
    """Whether the store holds this edit; fires may have moved its cursor since."""
    if found is None:
        return False
    return (found.rev, found.hash, found.since_us) == (wanted.rev, wanted.hash, wanted.since_us)


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
