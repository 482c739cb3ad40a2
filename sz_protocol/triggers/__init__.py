"""When things fire: triggers as frozen records, and pure functions over them.

No clock, no randomness: every answer depends on the arguments and on the pinned zone data alone.
"""

from .errors import CannotAdvance, TriggerError
from .firing import fires_between, next_fire
from .instants import DEFAULT_ANCHOR_US, FIRST_US, LAST_US
from .naming import describe_dst, dst_notes_between, local_time, nominal_key
from .passed import Missed, is_quick, missed, missed_in_part
from .records import AllOf, AnyOf, Calendar, Cron, Date, EveryNth, Except, Interval, Trigger, Unreadable, countable
from .wire import trigger_from_wire, trigger_to_wire
from .zones import tzdata_version, zone_names

__all__ = [
    "DEFAULT_ANCHOR_US",
    "FIRST_US",
    "LAST_US",
    "AllOf",
    "AnyOf",
    "Calendar",
    "CannotAdvance",
    "Cron",
    "Date",
    "EveryNth",
    "Except",
    "Interval",
    "Missed",
    "Trigger",
    "TriggerError",
    "Unreadable",
    "countable",
    "describe_dst",
    "dst_notes_between",
    "fires_between",
    "is_quick",
    "local_time",
    "missed",
    "missed_in_part",
    "next_fire",
    "nominal_key",
    "trigger_from_wire",
    "trigger_to_wire",
    "tzdata_version",
    "zone_names",
]
