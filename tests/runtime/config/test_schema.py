"""The JSON Schema says what the loader says: checked by structure, by validation, and against the loader itself."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sz_protocol.definition_wire import FIELDS, REQUIRED
from sz_protocol.triggers import TriggerError, trigger_from_wire
from sz_runtime.config import ConfigError, Plugins, json_schema, parse_config
from sz_runtime.config.keys import table
from sz_runtime.config.trigger_schema import TRIGGER_KEYS
from sz_runtime.config.yaml_lines import read_document

SCHEMA = json_schema(Plugins(components=["metrics"]))
VALIDATOR = Draft202012Validator(SCHEMA)
DOCUMENT = sorted((Path(__file__).parent / "document").glob("*.yaml"))
SCHEDULE = {"id": "s", "handler_id": "h", "method": "m", "trigger": {"type": "interval", "minutes": 1}}


def complaints(value: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(value)]


def test_it_is_a_schema_and_plain_json() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("path", DOCUMENT, ids=lambda path: path.stem)
def test_the_document_s_blocks_validate(path: Path) -> None:
    assert complaints(read_document(path.read_bytes(), "f").value) == []


def test_every_key_of_the_loader_is_in_it_with_its_help_and_default() -> None:
    keys, _ = table()
    for key in keys.values():
        place = SCHEMA
        for part in key.name.split("."):
            place = place["properties"][part]
        assert place["description"] == key.doc
        assert ("default" in place) is (key.derive is None and key.default is not None)
        if "default" in place:
            assert Draft202012Validator({**place, "$defs": SCHEMA["$defs"]}).is_valid(place["default"]), key.name
    assert len(re.findall('"description"', json.dumps(SCHEMA["properties"]["components"]))) > len(keys)


def test_presets_take_dotted_keys_of_components() -> None:
    for mode in ("full", "minimal", "autonomous", "distributed"):
        known = SCHEMA["properties"]["presets"]["properties"][mode]["properties"]["components"]["properties"]
        dotted = {name.removeprefix("components.") for name in table()[0] if name.startswith("components.")}
        assert dotted <= set(known)


def test_schedules_have_the_keys_of_definitions() -> None:
    schedule = SCHEMA["$defs"]["schedule"]
    assert list(schedule["properties"]) == list(FIELDS)
    assert schedule["required"] == list(REQUIRED)


@pytest.mark.parametrize("kind", list(TRIGGER_KEYS))
def test_triggers_have_exactly_the_keys_that_the_reader_knows(kind: str) -> None:
    with pytest.raises(TriggerError) as caught:
        trigger_from_wire({"type": kind, "qqqqqqqqqq": 1})
    (known,) = [text.partition("known here: ")[2] for path, text in caught.value.problems if path == ("qqqqqqqqqq",)]
    assert set(known.split(", ")) == set(TRIGGER_KEYS[kind][0])


def test_the_schema_has_exactly_the_types_of_triggers_that_the_reader_knows() -> None:
    with pytest.raises(TriggerError) as caught:
        trigger_from_wire({"type": "qqqqqqqqqq"})
    assert str(caught.value).partition("one of ")[2].split(", ") == list(TRIGGER_KEYS)


@pytest.mark.parametrize(
    "trigger",
    [
        {"type": "cron", "expression": "*/5 * * * *", "timezone": "Europe/Berlin", "dst": "literal", "day_rule": "and"},
        {
            "type": "interval",
            "hours": 1.5,
            "anchor": "2030-01-01",
            "start": "2030-01-01T00:00:00Z",
            "end": "2031-01-01",
        },
        {"type": "date", "run_date": "2030-01-01T12:00:00", "timezone": "Asia/Tokyo"},
        {"type": "calendar", "months": 1, "start_date": "2030-01-31", "time": "02:30", "month_end": "skip"},
        {"type": "any", "triggers": [{"type": "interval", "minutes": 5}, {"type": "cron", "expression": "1 * * * *"}]},
        {"type": "all", "triggers": [{"type": "interval", "minutes": 5}]},
        {
            "type": "except",
            "trigger": {"type": "interval", "minutes": 5},
            "dates": ["2030-12-24"],
            "windows": [{"from": "2030-01-01", "to": "2030-01-02T12:00:00"}],
        },
        {"type": "every_nth", "n": 2, "offset": 1, "trigger": {"type": "interval", "minutes": 5}},
    ],
    ids=lambda trigger: trigger["type"],
)
def test_triggers_that_the_loader_takes_validate(trigger: dict[str, Any]) -> None:
    trigger_from_wire(trigger)
    assert complaints({"schedules": [SCHEDULE | {"trigger": trigger}]}) == []
    assert complaints({"schedules": [SCHEDULE | {"trigger": trigger | {"x": 1}}]})


def schedule(**keys: Any) -> dict[str, Any]:
    return {"schedules": [SCHEDULE | keys]}


def component(**keys: Any) -> dict[str, Any]:
    return {"components": keys}


GOOD = [
    {},
    {"deployment": None, "components": None, "presets": None, "schedules": None},
    {"deployment": {"name": "a-b.c", "mode": "minimal"}},
    component(tornado={"enabled": True, "host": "::1", "port": 0}),
    component(scheduler={"retention": None, "horizon": "1m30s", "drain_grace": 0.5, "datastore": {"type": "memory"}}),
    component(scheduler={"datastore": {"type": "sqlite", "options": {"a": [1]}}}),
    component(
        handlers={"local": {"modules": ["a.b", "c"]}, "remote": {"registration_server": {"address": "ipc:///x"}}}
    ),
    component(event_broker={"publish_address": "tcp://*:5555", "subscribe_addresses": ["tcp://[::1]:1"]}),
    component(zmq_client={"server_address": None, "reconnect_interval": 5}),
    component(metrics={"enabled": False, "anything": [1]}),
    {"presets": {"full": {"components": {"tornado.port": 1, "scheduler": {"threads": 2}, "metrics": {"x": 1}}}}},
    schedule(
        params={"a": [1, None]}, labels={"a": "b"}, timeout="5m", deadline=None, spread=0, semantics="at_most_once"
    ),
    schedule(misfire="skip", overlap="queue(3)", retry={"attempts": 3, "base": "1s", "max": 60}),
    schedule(misfire={"policy": "all", "rate": "10/s", "grace": None}, overlap={"policy": "allow", "limit": 2}),
]
BAD: list[Any] = [
    [],
    {"deploymnt": {}},
    {"deployment": {"mode": "ful"}},
    {"deployment": {"name": "a/b"}},
    component(torado={}),
    component(tornado={"port": "80"}),
    component(tornado={"port": 70_000}),
    component(tornado={"enabled": "no"}),
    component(tornado={"prt": 80}),
    component(tornado={"host": ""}),
    component(scheduler={"horizon": "5 minutes"}),
    component(scheduler={"threads": 0}),
    component(handlers={"local": {"modules": "a"}}),
    component(handlers={"local": {"modules": ["my/app.py"]}}),
    component(event_broker={"publish_address": "0.0.0.0:5555"}),
    {"presets": {"ful": {"components": {}}}},
    {"presets": {"full": {"tornado.port": 1}}},
    {"presets": {"full": {"components": {"tornado.port": "x"}}}},
    schedule(id="a@b"),
    schedule(id=3),
    schedule(misfire="later"),
    schedule(misfire={"policy": "later"}),
    schedule(misfire={"rate": "10/day"}),
    schedule(overlap="queue(0)"),
    schedule(overlap={"limit": 0}),
    schedule(retry={"attempts": True}),
    schedule(timeout="5 m"),
    schedule(semantics="once"),
    schedule(labels={"a": 1}),
    schedule(params=[]),
    schedule(extra=1),
    schedule(trigger={"type": "cron"}),
    schedule(trigger={"type": "crom", "expression": "* * * * *"}),
    {"schedules": [{}]},
]


@pytest.mark.parametrize("value", GOOD, ids=lambda value: json.dumps(value)[:60])
def test_what_the_loader_takes_validates(value: Any) -> None:
    parse_config(json.dumps(value), plugins=Plugins(components=["metrics"]))
    assert complaints(value) == []


@pytest.mark.parametrize("value", BAD, ids=lambda value: json.dumps(value)[:60])
def test_what_the_loader_refuses_does_not_validate(value: Any) -> None:
    with pytest.raises(ConfigError):
        parse_config(json.dumps(value), plugins=Plugins(components=["metrics"]))
    assert complaints(value)


def test_references_are_no_mistakes_for_an_editor() -> None:
    broker = {"publish_address": "tcp://${HOST}:5555", "redis_url": "${URL}", "type": "${TYPE}"}
    assert complaints(component(tornado={"host": "${HOST}"}, event_broker=broker)) == []
    assert complaints({"deployment": {"name": "${NAME}", "mode": "file:/mode"}}) == []
    assert complaints(component(tornado={"port": "${PORT}"}))
