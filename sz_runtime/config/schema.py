"""A JSON Schema (draft 2020-12) for editors, derived from the tables that the loader uses.

It says what can be said of one value at a time. Contradictions between keys, impossible triggers and duplicate ids
are found by the loader alone.
"""

from typing import Any, get_args, get_origin

from sz_protocol.definition_wire import (
    FIELDS,
    OVERLAP_PATTERN,
    POLICIES,
    RATE_PATTERN,
    REQUIRED,
    read_misfire,
    read_overlap,
    read_params,
    read_rate,
    read_retry,
    read_schedule_id,
    read_trigger,
)
from sz_protocol.wire_values import (
    MAX_COUNT,
    MAX_NAME,
    Field,
    Optional,
    Reader,
    Word,
    read_count,
    read_duration,
    read_flag,
    read_labels,
    read_name,
    read_positive_duration,
)
from sz_runtime.config.keys import Key, Names, Section, table
from sz_runtime.config.kinds import DURATION_SCHEMA, KINDS, Mode, PluginName
from sz_runtime.config.loaded import plain
from sz_runtime.config.third_parties import BROKERS, STORES, Plugins
from sz_runtime.config.trigger_schema import trigger_schema

Schema = dict[str, Any]

_REFERENCE: Schema = {"$ref": "#/$defs/reference"}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
_READERS: dict[Any, Schema] = {
    read_schedule_id: _NAME | {"pattern": "^[^@]*$"},
    read_name: _NAME,
    read_trigger: {"$ref": "#/$defs/trigger"},
    read_params: {"type": "object"},
    read_flag: {"type": "boolean"},
    read_labels: {"type": "object", "additionalProperties": {"type": "string", "maxLength": MAX_NAME}},
    read_count: {"type": "integer", "minimum": 1, "maximum": MAX_COUNT},
    read_duration: DURATION_SCHEMA,
    read_positive_duration: DURATION_SCHEMA,
    read_rate: {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": RATE_PATTERN}]},
}
_ALONE: dict[Any, Schema] = {
    read_misfire: {"enum": [word.value for word in POLICIES[read_misfire]["policy"].read.kind]},  # type: ignore[attr-defined]
    read_overlap: {"type": "string", "pattern": OVERLAP_PATTERN},
}
"""Policies that may be written as one word."""


def json_schema(plugins: Plugins | None = None) -> Schema:
    """The schema of a configuration file. `plugins` says which third-party components exist (default: those that are
    installed)."""
    names = Names(plugins)
    components = _section("components", "")
    for name in names.third_parties().components:
        properties = {"enabled": {"type": "boolean", "default": True}}
        components["properties"][name] = {"type": ["object", "null"], "properties": properties}
    presets = {mode.value: _preset(mode, components["properties"]) for mode in Mode}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ScheduleZero configuration",
        "type": "object",
        "properties": {
            "deployment": _section("deployment", ""),
            "components": components,
            "presets": {"type": ["object", "null"], "properties": presets, "additionalProperties": False},
            "schedules": {"type": ["array", "null"], "items": {"$ref": "#/$defs/schedule"}},
        },
        "additionalProperties": False,
        "$defs": {
            "schedule": _fields(FIELDS, REQUIRED),
            "trigger": trigger_schema(),
            "reference": {
                "description": "A value from the environment (${NAME}) or from a file (file:/path).",
                "type": "string",
                "pattern": "^file:|\\$\\{",
            },
        },
    }


def _section(name: str, prefix: str) -> Schema:
    """The keys of a section; with a prefix their dotted names below it."""
    keys, sections = table()
    section = sections[name]
    properties: Schema = {}
    for child in section.children:
        full = f"{name}.{child}"
        properties[prefix + child] = _section(full, prefix) if full in sections else _leaf(keys[full])
    return _object(section, properties)


def _object(section: Section, properties: Schema) -> Schema:
    return {
        "type": ["object", "null"],
        "description": section.doc,
        "properties": properties,
        "additionalProperties": False,
    }


def _preset(mode: Mode, sections: Schema) -> Schema:
    leaves = {
        key.name.removeprefix("components."): _leaf(key)
        for key in table()[0].values()
        if key.name.startswith("components.")
    }
    return {
        "type": "object",
        "description": f"What mode {mode} starts from, with dotted keys.",
        "properties": {
            "components": {
                "type": ["object", "null"],
                "properties": leaves
                | {name: {"$ref": f"#/properties/components/properties/{name}"} for name in sections},
            }
        },
        "required": ["components"],
        "additionalProperties": False,
    }


def _leaf(key: Key) -> Schema:
    schema = _kind(key, key.type) | {"description": key.doc}
    if key.derive is None and key.default is not None:
        schema["default"] = plain(key, key.default)
    return schema


def _kind(key: Key, wanted: Any) -> Schema:
    if get_origin(wanted) is tuple:
        return {"type": "array", "items": _kind(key, get_args(wanted)[0])}
    if wanted not in KINDS:
        inner = next(kind for kind in get_args(wanted) if kind in KINDS)
        return {"anyOf": [*_choices(_kind(key, inner)), {"type": "null"}]}
    if wanted is PluginName:
        usual = STORES if "datastore" in key.name else BROKERS
        return {"anyOf": [{"enum": list(usual)}, _NAME]}
    schema = dict(KINDS[wanted].schema)
    takes_text = any(choice.get("type") == "string" or "enum" in choice for choice in _choices(schema))
    return {"anyOf": [*_choices(schema), _REFERENCE]} if takes_text and wanted not in _FREE else schema


_FREE = tuple(
    kind for kind in KINDS if KINDS[kind].schema.get("type") == "string" and "pattern" not in KINDS[kind].schema
)
"""Kinds that take any text, a reference too."""


def _choices(schema: Schema) -> list[Schema]:
    return list(schema["anyOf"]) if "anyOf" in schema else [schema]


def _fields(fields: dict[str, Field], required: tuple[str, ...] = ()) -> Schema:
    properties = {key: _reader(field.read) | {"description": field.doc} for key, field in fields.items()}
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | {"required": list(required)} if required else schema


def _reader(read: Reader) -> Schema:
    if isinstance(read, Optional):
        return {"anyOf": [*_choices(_reader(read.read)), {"type": "null"}]}
    if isinstance(read, Word):
        return {"enum": [word.value for word in read.kind]}
    if read in POLICIES:
        mapping = _fields(POLICIES[read])
        return {"anyOf": [_ALONE[read], mapping]} if read is not read_retry else mapping
    return dict(_READERS[read])
