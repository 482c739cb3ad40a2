"""What a fire is called, how it is shown, and what a change of the clock did to it."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from .firing import fires_between, is_blacked_out, local_fires, within
from .instants import DAY_S, SECOND_US, clock, iso_local, wall_datetime
from .local_fires import LocalFires
from .records import AllOf, AnyOf, Calendar, Cron, Date, EveryNth, Except, Interval, Trigger, Unreadable
from .zones import Zone, zone


def nominal_key(trigger: Trigger, fire_us: int) -> str:
    """The nominal's name, from which run keys are made; it differs for any two fires of a trigger.

    What follows a wall clock is named by wall time, pass and zone (`2026-03-29T02:30:00/0 Europe/Berlin`), which stays
    when zone data change; a fire that makes up for a gap is named by the wall time that did not exist. Intervals are
    named by their microseconds of UTC. Combinations use the name of the member that fires, the first in order.
    """
    if isinstance(trigger, Interval):
        return str(fire_us)
    match trigger:
        case Unreadable():
            return str(fire_us)
        case Cron(timezone=key) | Calendar(timezone=key) | Date(timezone=key):
            where = zone(key)
            second_s, micro_us = divmod(fire_us, SECOND_US)
            index = where.segment(second_s)
            wall_s = second_s + where.offsets[index]
            fold = int(wall_s < where.shown[index])
            if second_s == where.begins[index] and not micro_us and not isinstance(trigger, Date):
                fires = local_fires(trigger)
                if fires.made_up(index, second_s):
                    wall_s = fires.lost(index)[0]
            return f"{wall_datetime(wall_s * SECOND_US + micro_us).isoformat()}/{fold} {key}"
        case AnyOf():
            return next((nominal_key(member, fire_us) for member in _firing(trigger, fire_us)), str(fire_us))
        case AllOf(triggers=members):
            return nominal_key(members[0], fire_us)
        case Except(trigger=inner) | EveryNth(trigger=inner):
            return nominal_key(inner, fire_us)


def local_time(trigger: Trigger, fire_us: int) -> str:
    """The fire on the trigger's own wall, with its offset: `2026-03-29T03:00:00+02:00`; intervals show UTC."""
    match trigger:
        case Interval() | Unreadable():
            return iso_local(fire_us, 0)
        case Cron(timezone=key) | Calendar(timezone=key) | Date(timezone=key):
            where = zone(key)
            return iso_local(fire_us, where.offsets[where.segment(fire_us // SECOND_US)])
        case AnyOf(triggers=members):
            return local_time(next(_firing(trigger, fire_us), members[0]), fire_us)
        case AllOf(triggers=members):
            return local_time(members[0], fire_us)
        case Except(trigger=inner) | EveryNth(trigger=inner):
            return local_time(inner, fire_us)


def describe_dst(trigger: Trigger, fire_us: int) -> str:
    """What a gap or a fold did to this fire, in words; empty when nothing."""
    match trigger:
        case Interval() | Unreadable():
            return ""
        case Cron() | Calendar():
            fires = local_fires(trigger)
            return _describe_gap(fires, fire_us) or _describe_fold(fires.zone, fire_us)
        case Date(timezone=key):
            return _describe_fold(zone(key), fire_us)
        case AnyOf():
            return _first_note(_firing(trigger, fire_us), fire_us)
        case AllOf(triggers=members):
            return _first_note(members, fire_us)
        case Except(trigger=inner) | EveryNth(trigger=inner):
            return describe_dst(inner, fire_us)


def dst_notes_between(trigger: Trigger, from_us: int, to_us: int) -> list[tuple[int, str]]:
    """What was left out because of a gap or a fold at from_us <= instant < to_us, ascending: (utc_us, note).

    A wall time that does not exist is noted at the instant when the clock was put forward, a second pass at the
    instant when it would have fired. What was moved did fire: `describe_dst` tells of it.
    """
    from_us, to_us = within(trigger, from_us, to_us)
    match trigger:
        case Interval() | Date() | Unreadable():
            return []
        case Cron() | Calendar():
            return [note for note in _left_out(local_fires(trigger), from_us, to_us) if from_us <= note[0] < to_us]
        case AnyOf(triggers=members) | AllOf(triggers=members):
            notes = [note for member in members for note in dst_notes_between(member, from_us, to_us)]
            return sorted(dict.fromkeys(notes))
        case Except(trigger=inner):
            return [note for note in dst_notes_between(inner, from_us, to_us) if not is_blacked_out(trigger, note[0])]
        case EveryNth(trigger=inner):
            return dst_notes_between(inner, from_us, to_us)


def _first_note(members: Iterable[Trigger], fire_us: int) -> str:
    return next((note for member in members if (note := describe_dst(member, fire_us))), "")


def _firing(trigger: AnyOf, fire_us: int) -> Iterator[Trigger]:
    """The members that fire at this instant, in order."""
    return (member for member in trigger.triggers if any(True for _ in fires_between(member, fire_us, fire_us + 1)))


def _describe_gap(fires: LocalFires, fire_us: int) -> str:
    second_s = fire_us // SECOND_US
    index = fires.zone.segment(second_s)
    if fires.zone.begins[index] != second_s or not fires.makes_up:
        return ""
    lost = fires.lost(index)
    if not lost:
        return ""
    opens = clock(fires.zone.opens[index])
    if fires.made_up(index, second_s):
        return f"gap: {_does_not_exist(fires.zone, index, lost)}, moved to {opens}"
    return f"gap: {_does_not_exist(fires.zone, index, lost)}, one fire with {opens}"


def _describe_fold(where: Zone, fire_us: int) -> str:
    second_s = fire_us // SECOND_US
    index = where.segment(second_s)
    wall_s = second_s + where.offsets[index]
    if wall_s < where.shown[index]:
        return f"fold: second pass of {clock(wall_s)}"
    later = index + 1
    # A wall time comes again when a later segment opens at or before it; none does after two days.
    while later < len(where.begins) and where.begins[later] <= second_s + 2 * DAY_S:
        if where.opens[later] <= wall_s < where.end(later) + where.offsets[later]:
            return f"fold: first pass of {clock(wall_s)}"
        later += 1
    return ""


def _left_out(fires: LocalFires, from_us: int, to_us: int) -> list[tuple[int, str]]:
    notes: list[tuple[int, str]] = []
    if from_us >= to_us:
        return notes
    where = fires.zone
    for index in range(where.segment(from_us // SECOND_US), where.segment((to_us - 1) // SECOND_US) + 1):
        begin_us = where.begins[index] * SECOND_US
        if not fires.makes_up and (fires.literal or fires.pattern.pace == "rhythm"):
            why = "skipped: dst is literal" if fires.literal else "skipped: it fires round the clock"
            notes += [(begin_us, f"gap: {_does_not_exist(where, index, [wall])}, {why}") for wall in fires.lost(index)]
        if not fires.both_passes:
            passes = ((wall - where.offsets[index], clock(wall)) for wall in fires.repeated(index))
            notes += [(at_s * SECOND_US, f"fold: second pass of {shown}, left out") for at_s, shown in passes]
    return notes


def _does_not_exist(where: Zone, index: int, lost: list[int]) -> str:
    """`02:30 does not exist`, with the date where the gap reaches back into an earlier day."""
    days = {wall // DAY_S for wall in lost} | {where.opens[index] // DAY_S}
    shown = [clock(wall) if len(days) == 1 else _with_date(wall) for wall in (lost[0], lost[-1])]
    match len(lost):
        case 1:
            return f"{shown[0]} does not exist"
        case 2:
            return f"{shown[0]} and {shown[1]} do not exist"
        case many:
            return f"{shown[0]} to {shown[1]} ({many} times) do not exist"


def _with_date(wall_s: int) -> str:
    return f"{(wall_datetime(0) + timedelta(seconds=wall_s)).date().isoformat()} {clock(wall_s)}"
