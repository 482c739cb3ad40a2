"""JSON Schema of the triggers, as `sz_protocol.triggers` reads them."""

from typing import Any, get_args

from sz_protocol.triggers.calendar_pattern import MonthEnd
from sz_protocol.triggers.cron_pattern import DayRule
from sz_protocol.triggers.local_fires import Dst
from sz_protocol.triggers.records import LARGEST_STEP, MOST_BLACKOUTS, MOST_MEMBERS, MOST_NTH
from sz_protocol.triggers.wire import UNITS_US

Schema = dict[str, Any]

_ZONE: Schema = {"type": "string", "default": "UTC", "description": "An IANA zone, such as Europe/Berlin."}
_INSTANT: Schema = {"type": "string", "pattern": "^[0-9]{4}-", "description": "ISO 8601, as in 2026-03-29T02:30:00."}
_DAY: Schema = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
_TIME: Schema = {"type": "string", "pattern": "^[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?$", "default": "00:00"}
_DST: Schema = {"enum": list(get_args(Dst)), "default": "default", "description": "What the clock change does."}
_TRIGGER: Schema = {"$ref": "#/$defs/trigger"}
_MEMBERS: Schema = {"type": "array", "items": _TRIGGER, "minItems": 1, "maxItems": MOST_MEMBERS}
_WINDOW: Schema = {
    "type": "object",
    "properties": {"from": _INSTANT, "to": _INSTANT},
    "required": ["from", "to"],
    "additionalProperties": False,
}
_BOUNDS: Schema = {
    "start": _INSTANT | {"description": "The first instant at which it may fire."},
    "end": _INSTANT | {"description": "The last instant at which it may fire."},
}


def _blackout(items: Schema) -> Schema:
    return {"type": "array", "items": items, "maxItems": MOST_BLACKOUTS}


TRIGGER_KEYS: dict[str, tuple[Schema, tuple[str, ...]]] = {
    "cron": (
        {
            "expression": {"type": "string", "examples": ["*/5 * * * *", "0 3 * * MON-FRI"]},
            "timezone": _ZONE,
            "dst": _DST,
            "day_rule": {"enum": list(get_args(DayRule)), "default": "or"},
            **_BOUNDS,
        },
        ("expression",),
    ),
    "interval": (
        {unit: {"type": "number", "minimum": 0} for unit in UNITS_US}
        | {"anchor": _INSTANT | {"description": "An instant at which it fires."}, **_BOUNDS},
        (),
    ),
    "date": ({"run_date": _INSTANT, "timezone": _ZONE}, ("run_date",)),
    "calendar": (
        {unit: {"type": "integer", "minimum": 1, "maximum": most} for unit, most in LARGEST_STEP.items()}
        | {"time": _TIME, "start_date": _DAY, "timezone": _ZONE}
        | {"month_end": {"enum": list(get_args(MonthEnd)), "default": "clamp"}, "dst": _DST, **_BOUNDS},
        (),
    ),
    "any": ({"triggers": _MEMBERS, **_BOUNDS}, ("triggers",)),
    "all": ({"triggers": _MEMBERS, **_BOUNDS}, ("triggers",)),
    "except": (
        {"trigger": _TRIGGER, "dates": _blackout(_DAY), "windows": _blackout(_WINDOW), "timezone": _ZONE, **_BOUNDS},
        ("trigger",),
    ),
    "every_nth": (
        {
            "trigger": _TRIGGER,
            "n": {"type": "integer", "minimum": 1, "maximum": MOST_NTH},
            "offset": {"type": "integer", "minimum": 0, "maximum": MOST_NTH - 1, "default": 0},
            **_BOUNDS,
        },
        ("trigger", "n"),
    ),
}
"""type -> (the schemas of its keys, those that are required)."""


def trigger_schema() -> Schema:
    """One of the types, told apart by `type`."""
    return {
        "oneOf": [
            {
                "type": "object",
                "properties": {"type": {"const": kind}, **keys},
                "required": ["type", *required],
                "additionalProperties": False,
            }
            for kind, (keys, required) in TRIGGER_KEYS.items()
        ]
    }
