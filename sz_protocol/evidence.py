"""What the ledger knows about one instant of one schedule: which queries to ask, and what to keep of the answers.

Sans-IO: generators that yield queries and are sent the rows, so that a command line, a server and a test can drive
them over whatever store they have. What the evidence means is said by `explaining`.
"""

from collections.abc import Generator, Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

from attrs import frozen

from sz_protocol.definition import Definition
from sz_protocol.kernel.now import DAY_US, HOUR_US, SECOND_US
from sz_protocol.moments import Moment, spans_of, zone_of
from sz_protocol.policy import spread_offset
from sz_protocol.queries import AttemptsOf, Query, RunsPage
from sz_protocol.records import Attempt, Outcome, Reason, Run, RunKind, RunState, Schedule
from sz_protocol.triggers import CannotAdvance, Trigger, dst_notes_between, fires_between, missed, next_fire

PAGE = 200
MOST_PAGES = 20
MOST_MATCHES = 100
BACK_US = (HOUR_US, DAY_US, 31 * DAY_US, 400 * DAY_US, 9 * 366 * DAY_US)

Asking = Generator[Query, tuple[Any, ...], "Evidence"]


@frozen
class Question:
    """What is asked: a schedule, and a moment or its standing. `definition` is what the configuration says of it now
    (None: nothing), `retention_us` how long rows stay, `late_us` the delay that is worth a word."""

    schedule_id: str
    now_us: int
    moment: Moment | None = None
    definition: Definition | None = None
    retention_us: int | None = None
    late_us: int = SECOND_US


@frozen
class Evidence:
    """What was found. `fire_us` is None when nothing fires at the moment: then `begin_us` is the moment itself.

    `others` are further fire times that the moment may have meant. `run` is the row that accounts for the instant;
    `active` the runs of the schedule that were not over when it was decided, `covered_by` the run that stands for it,
    `replaced_by` the run that took its place, `earlier` the last row decided before this one was due, `executed` the
    last run before it that was executed. `busy` says
    that something else was decided between due and decided; `last_us` is the ledger's last sign of life.
    """

    question: Question
    schedule: Schedule
    begin_us: int
    fire_us: int | None = None
    others: tuple[int, ...] = ()
    dst_notes: tuple[str, ...] = ()
    run: Run | None = None
    attempts: tuple[Attempt, ...] = ()
    active: tuple[Run, ...] = ()
    earlier: Run | None = None
    executed: Run | None = None
    covered_by: Run | None = None
    replaced_by: Run | None = None
    busy: bool = False
    last_us: int | None = None

    @property
    def due_us(self) -> int:
        """When the instant was due: fire time plus spread, or the moment itself."""
        if self.fire_us is None:
            return self.begin_us
        return self.fire_us + spread_of(self.schedule)

    @property
    def zone(self) -> str:
        """The zone in which times are told."""
        return zone_of(self.schedule.definition.trigger)


def spread_of(schedule: Schedule) -> int:
    """The schedule's own offset within its spread window."""
    return spread_offset(schedule.uid, schedule.definition.spread_us)


def gather(question: Question, schedule: Schedule, moment: Moment) -> Asking:
    """Everything that the ledger has about the moment."""
    trigger = schedule.definition.trigger
    spans = spans_of(moment, zone_of(trigger))
    found = yield from _matches(schedule, spans)
    if not found and spread_of(schedule):
        # Whoever reads the log sees when it was due, not its fire time.
        spread_us = spread_of(schedule)
        found = yield from _matches(schedule, [(begin - spread_us, end - spread_us) for begin, end in spans])
    notes = tuple(note for begin, end in spans for _, note in dst_notes_between(trigger, begin, end))
    begin_us = spans[0][0]
    if not found:
        return Evidence(question, schedule, begin_us, dst_notes=notes, last_us=(yield from _last_sign()))
    recorded = [at_us for at_us, run in found.items() if run is not None and run.kind is RunKind.SCHEDULED]
    planned = [at_us for at_us, run in found.items() if run is None]
    fire_us = min(recorded or planned or found)
    others = tuple(sorted(at_us for at_us in found if at_us != fire_us))
    run = found[fire_us]
    if run is None:
        run = yield from _folded_over(schedule.id, fire_us)
    if run is None:
        last_us = yield from _last_sign()
        return Evidence(question, schedule, begin_us, fire_us, others, notes, last_us=last_us)
    return (yield from _about(question, schedule, run, fire_us, others, notes))


def about_run(question: Question, schedule: Schedule, run: Run) -> Asking:
    """Everything that the ledger has about one row."""
    return (yield from _about(question, schedule, run, run.fire_us, (), ()))


def _matches(
    schedule: Schedule, spans: list[tuple[int, int]]
) -> Generator[Query, tuple[Any, ...], dict[int, Run | None]]:
    """The instants within the spans that have a row, or at which the schedule fires."""
    found: dict[int, Run | None] = {}
    for begin_us, end_us in spans:
        for at_us in fires_within(schedule.definition.trigger, begin_us, end_us, MOST_MATCHES):
            found[at_us] = None
        rows = yield RunsPage(MOST_MATCHES, schedule_id=schedule.id, from_us=begin_us, to_us=end_us)
        for run in rows:
            other = found.get(run.fire_us)
            if other is None or other.kind is not RunKind.SCHEDULED:
                found[run.fire_us] = run
    return found


def _folded_over(schedule_id: str, fire_us: int) -> Generator[Query, tuple[Any, ...], Run | None]:
    """The row that stands for a range in which the instant lies. Ranges and rows do not interleave, so it can only be
    the latest scheduled row that begins at or before the instant."""
    before: tuple[int, int] | None = None
    for _ in range(MOST_PAGES):
        rows = yield RunsPage(PAGE, before=before, schedule_id=schedule_id, to_us=fire_us + 1)
        for run in rows:
            if run.kind is RunKind.SCHEDULED:
                return run if run.until_us is not None and run.until_us >= fire_us else None
        if len(rows) < PAGE:
            return None
        before = (rows[-1].fire_us, rows[-1].row)
    return None


def _about(
    question: Question,
    schedule: Schedule,
    run: Run,
    fire_us: int,
    others: tuple[int, ...],
    notes: tuple[str, ...],
) -> Asking:
    """What stood around a row when it was decided, and what happened to it since."""
    attempts: tuple[Attempt, ...] = (yield AttemptsOf(run.row)) if run.attempt else ()
    earlier, executed, active = yield from _before(schedule, run, fire_us)
    covered_by, replaced_by = yield from _after(run, fire_us)
    due_us, decided_us = fire_us + spread_of(schedule), run.decided_us
    busy = False
    if decided_us - due_us > question.late_us:
        around = yield RunsPage(PAGE, to_us=decided_us)
        low_us, high_us = due_us + question.late_us, decided_us - question.late_us
        busy = any(low_us <= other.decided_us <= high_us for other in around)
    last_us = None if run.state is RunState.DONE else (yield from _last_sign())
    return Evidence(
        question,
        schedule,
        fire_us,
        fire_us,
        others,
        notes,
        run=run,
        attempts=attempts,
        active=active,
        earlier=earlier,
        executed=executed,
        covered_by=covered_by,
        replaced_by=replaced_by,
        busy=busy,
        last_us=last_us,
    )


def _before(
    schedule: Schedule, run: Run, fire_us: int
) -> Generator[Query, tuple[Any, ...], tuple[Run | None, Run | None, tuple[Run, ...]]]:
    """The last row decided before this one was due, the last executed run, and the runs that were not over when it
    was decided. Where it had to give way to one, that one is looked for behind however many gave way to it too."""
    wanted = run.reason in (Reason.OVERLAP, Reason.QUEUE_FULL)
    due_us = fire_us + spread_of(schedule)
    earlier = executed = None
    active: list[Run] = []
    position = (run.fire_us, run.row)
    for _ in range(MOST_PAGES if wanted else 1):
        rows: tuple[Run, ...] = yield RunsPage(PAGE, before=position, schedule_id=schedule.id)
        active += [other for other in rows if _was_active(other, run.decided_us)]
        earlier = earlier or next((other for other in rows if other.decided_us < due_us), None)
        executed = executed or next((other for other in rows if _executed(other)), None)
        if active or executed or len(rows) < PAGE:
            break
        position = (rows[-1].fire_us, rows[-1].row)
    return earlier, executed, tuple(reversed(active))


def _after(run: Run, fire_us: int) -> Generator[Query, tuple[Any, ...], tuple[Run | None, Run | None]]:
    """The later run that stands for this one, and the one that took its place, where there is such a run."""
    if run.reason not in (Reason.COALESCED, Reason.SUPERSEDED) or run.finished_us is None:
        return None, None
    over_us = run.finished_us
    rows = yield RunsPage(PAGE, schedule_id=run.schedule_id, from_us=fire_us + 1, to_us=over_us + 1)
    if run.reason == Reason.COALESCED:
        return next((other for other in rows if fire_us in other.covers), None), None
    if run.outcome is not Outcome.CANCELLED:
        return None, None
    replacing = (other for other in rows if _executed(other) and other.decided_us <= over_us)
    return None, max(replacing, key=lambda other: other.decided_us, default=None)


def _executed(run: Run) -> bool:
    return run.attempt > 0 or run.state is not RunState.DONE


def _was_active(run: Run, at_us: int) -> bool:
    """Whether a run was waiting, executing or between attempts when something else was decided."""
    over = run.finished_us is not None and run.finished_us <= at_us
    return _executed(run) and run.decided_us <= at_us and not over


def _last_sign() -> Generator[Query, tuple[Any, ...], int | None]:
    """When anything was last written to the ledger, as far as its newest rows tell."""
    rows: tuple[Run, ...] = yield RunsPage(PAGE)
    return last_sign(rows)


def last_sign(rows: Iterable[Run]) -> int | None:
    """The latest time that rows tell of; None where there are none."""
    stamps = (at for run in rows for at in (run.decided_us, run.started_us, run.finished_us) if at is not None)
    return max(stamps, default=None)


def fires_within(trigger: Trigger, from_us: int, to_us: int, limit: int) -> list[int]:
    """At most `limit` fires with from_us <= fire < to_us; those found so far when the search cannot advance."""
    found: list[int] = []
    with suppress(CannotAdvance):
        found.extend(islice(fires_between(trigger, from_us, to_us), limit))
    return found


def nearest_fires(trigger: Trigger, at_us: int) -> tuple[int | None, int | None]:
    """The last fire before `at_us` and the first one after it, where there are any."""
    try:
        after_us = next_fire(trigger, at_us)
        for back_us in BACK_US:
            kept = missed(trigger, at_us - back_us, at_us - 1, 1).kept
            if kept:
                return kept[0], after_us
    except CannotAdvance:
        return None, None
    return None, after_us
