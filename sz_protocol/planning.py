"""What a set of definitions would do: every fire time of a stretch, in order, with what there is to say about it.

Pure and lazy: rows are made as they are taken, however many there are. Nothing is read from a store; the state of a
schedule and what its runs took are handed in where they are known.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from heapq import merge

from attrs import define, evolve, field, frozen

from sz_protocol.definition import Definition
from sz_protocol.foreseeing import Foresight, Past, foresee
from sz_protocol.kernel.now import DAY_US, HOUR_US, MINUTE_US
from sz_protocol.moments import show_time, zone_of
from sz_protocol.policy import spread_offset
from sz_protocol.triggers import CannotAdvance, describe_dst, dst_notes_between, fires_between, local_time, next_fire

WIDTHS_US = (
    MINUTE_US,
    5 * MINUTE_US,
    15 * MINUTE_US,
    HOUR_US,
    3 * HOUR_US,
    6 * HOUR_US,
    DAY_US,
    7 * DAY_US,
    28 * DAY_US,
    364 * DAY_US,
)
"""What one bar of the load may stand for."""


class PlannedKind(StrEnum):
    """FIRE fires. LEFT_OUT is an instant that a gap or a fold takes away. STUCK: no further fire time can be found,
    the schedule would be quarantined."""

    FIRE = "fire"
    LEFT_OUT = "left_out"
    STUCK = "stuck"


@frozen
class Planned:
    """One row of a plan. `at_us` is the fire time, `due_us` that plus spread; `local_time` is the fire time on the
    wall of the schedule's zone.

    `left_out` of a fire repeats the (instant, note) of what a gap or a fold takes away between this fire and the next
    one of its schedule (before the first one: with the first), for readers that only want to see fires. What is left
    out of a schedule without any fire is `alone`.
    """

    schedule_id: str
    at_us: int
    due_us: int
    local_time: str
    notes: tuple[str, ...] = ()
    kind: PlannedKind = PlannedKind.FIRE
    left_out: tuple[tuple[int, str], ...] = ()
    alone: bool = False


@frozen
class Known:
    """What a store can add to a plan: `remark` says why the schedule does not fire at present, `past` what its runs
    took."""

    remark: str = ""
    past: Past | None = None


@frozen
class Outlook:
    """The stretch of time that is planned, from_us <= fire < to_us, and what is known of schedules by their ids."""

    from_us: int
    to_us: int
    known: Mapping[str, Known] = field(factory=dict)


def plan_of(definitions: Iterable[Definition], outlook: Outlook) -> Iterator[Planned]:
    """All rows of all definitions, by fire time, then by id, found as they are taken."""
    return merge(*(plan_one(definition, outlook) for definition in definitions), key=_order)


def _order(row: Planned) -> tuple[int, str]:
    return row.at_us, row.schedule_id


def plan_one(definition: Definition, outlook: Outlook) -> Iterator[Planned]:
    """The rows of one definition, ascending."""
    left_out = deque(dst_notes_between(definition.trigger, outlook.from_us, outlook.to_us))
    last_us = outlook.from_us
    fired = False
    try:
        ahead: Planned | None = None
        for row in _fires(definition, outlook):
            if ahead is not None:
                yield from _with_left_out(definition, ahead, left_out, row.at_us, first=not fired)
                fired = True
            ahead, last_us = row, row.at_us
        if ahead is not None:
            yield from _with_left_out(definition, ahead, left_out, outlook.to_us, first=not fired)
        else:
            yield from (_left_out(definition, at_us, note, alone=True) for at_us, note in left_out)
            # The search of a short stretch may end before it is given up: look once whether it ever fires.
            next_fire(definition.trigger, outlook.to_us - 1)
    except CannotAdvance as stuck:
        note = f"would be quarantined: {stuck.reason}"
        yield Planned(definition.id, last_us, last_us, _local(definition, last_us), (note,), PlannedKind.STUCK)


def _fires(definition: Definition, outlook: Outlook) -> Iterator[Planned]:
    trigger = definition.trigger
    known = outlook.known.get(definition.id, Known())
    offset_us = spread_offset(definition.id, definition.spread_us)
    foresight = foresee(definition, outlook.from_us, known.past)
    remarks = (known.remark,) if known.remark else ()
    for at_us in fires_between(trigger, outlook.from_us, outlook.to_us):
        notes = remarks + _notes(describe_dst(trigger, at_us), foresight, at_us)
        yield Planned(definition.id, at_us, at_us + offset_us, local_time(trigger, at_us), notes)


def _notes(dst: str, foresight: Foresight | None, at_us: int) -> tuple[str, ...]:
    overlap = foresight.meet(at_us) if foresight is not None else ""
    return tuple(note for note in (dst, overlap) if note)


def _with_left_out(
    definition: Definition, fire: Planned, left_out: deque[tuple[int, str]], before_us: int, *, first: bool
) -> Iterator[Planned]:
    """A fire between the rows of what was left out around it, up to the next fire."""
    held: list[tuple[int, str]] = []
    while left_out and left_out[0][0] < before_us:
        held.append(left_out.popleft())
    assert first or all(at_us >= fire.at_us for at_us, _ in held), "what lies before a fire goes with the one before"
    yield from (_left_out(definition, at_us, note) for at_us, note in held if at_us < fire.at_us)
    yield evolve(fire, left_out=tuple(held)) if held else fire
    yield from (_left_out(definition, at_us, note) for at_us, note in held if at_us >= fire.at_us)


def _left_out(definition: Definition, at_us: int, note: str, alone: bool = False) -> Planned:
    kind = PlannedKind.LEFT_OUT
    return Planned(definition.id, at_us, at_us, _local(definition, at_us), (note,), kind, alone=alone)


def _local(definition: Definition, at_us: int) -> str:
    return show_time(at_us, zone_of(definition.trigger))


class Change(StrEnum):
    """What the second of two plans does to a row of the first."""

    ADDED = "added"
    REMOVED = "removed"


def diff_plans(old: Iterable[Planned], new: Iterable[Planned]) -> Iterator[tuple[Change, Planned]]:
    """The fires that only one of two plans has, in order. A fire whose due time moved (its spread changed) is removed
    and added; notes make no difference."""
    before, after = _only_fires(old), _only_fires(new)
    left, right = next(before, None), next(after, None)
    while left is not None or right is not None:
        if right is None or (left is not None and _place(left) < _place(right)):
            assert left is not None
            yield Change.REMOVED, left
            left = next(before, None)
        elif left is None or _place(right) < _place(left):
            yield Change.ADDED, right
            right = next(after, None)
        else:
            left, right = next(before, None), next(after, None)


def _only_fires(rows: Iterable[Planned]) -> Iterator[Planned]:
    return (row for row in rows if row.kind is PlannedKind.FIRE)


def _place(row: Planned) -> tuple[int, str, int]:
    return row.at_us, row.schedule_id, row.due_us


def changed_otherwise(old: Iterable[Definition], new: Iterable[Definition]) -> list[str]:
    """The ids of schedules that both have, with the same fire times and something else that differs."""
    before = {definition.id: definition for definition in old}
    found: list[str] = []
    for definition in new:
        other = before.get(definition.id)
        if other is None or other == definition:
            continue
        if (other.trigger, other.spread_us) == (definition.trigger, definition.spread_us):
            found.append(definition.id)
    return found


@frozen
class Load:
    """The starts within [at_us, at_us + width_us), and the busiest minute among them."""

    at_us: int
    width_us: int
    starts: int
    peak: int
    peak_us: int


@define
class LoadCount:
    """Counts starts per minute, spread included. Of a plan without end it keeps the latest minutes one by one, and of
    each day before them the number and the busiest minute."""

    minutes: dict[int, int] = field(factory=dict)
    days: dict[int, Load] = field(factory=dict)
    most_minutes: int = 100_000

    def add(self, row: Planned) -> None:
        """Count one fire."""
        minute_us = row.due_us - row.due_us % MINUTE_US
        self.minutes[minute_us] = self.minutes.get(minute_us, 0) + 1
        if len(self.minutes) > self.most_minutes:
            oldest = sorted(self.minutes)[: self.most_minutes // 2]
            folded = {minute_us: self.minutes.pop(minute_us) for minute_us in oldest}
            self.days = _merged([*self.days.values(), *_bars(folded)], DAY_US)

    def bars(self, most: int) -> list[Load]:
        """Starts as bars, ascending; stretches without any have none. Where one bar a minute would be more than
        `most`, each stands for a longer stretch."""
        counted = [*self.days.values(), *_bars(self.minutes)]
        for width_us in WIDTHS_US:
            found = _merged(counted, width_us)
            if len(found) <= most and (width_us >= DAY_US or not self.days):
                break
        return list(found.values())


def _bars(minutes: Mapping[int, int]) -> list[Load]:
    return [Load(at_us, MINUTE_US, count, count, at_us) for at_us, count in minutes.items()]


def _merged(loads: Iterable[Load], width_us: int) -> dict[int, Load]:
    bars: dict[int, Load] = {}
    for load in sorted(loads, key=lambda load: load.at_us):
        begin_us = load.at_us - load.at_us % width_us
        bar = bars.get(begin_us, Load(begin_us, width_us, 0, 0, begin_us))
        peak, peak_us = (load.peak, load.peak_us) if load.peak > bar.peak else (bar.peak, bar.peak_us)
        bars[begin_us] = Load(begin_us, width_us, bar.starts + load.starts, peak, peak_us)
    return bars
