"""flag > environment > file > the file's presets > built-in presets > default, and where each value came from."""

from typing import Any

import pytest

from sz_runtime.config import Config, ConfigError, Plugins, effective, load_config, parse_config

PRESET = "presets: {minimal: {components: {tornado.port: 1003}}}\n"
FILE = "components: {tornado: {port: 1002}}\n"
MODE = "deployment: {mode: minimal}\n"
ENVIRON = {"SCHEDULEZERO__TORNADO__PORT": "1001"}
FLAG = {"tornado.port": 1000}
PORT = "components.tornado.port"


@pytest.mark.parametrize(
    ("text", "environ", "flags", "port", "origin"),
    [
        (MODE + FILE + PRESET, ENVIRON, FLAG, 1000, "flag"),
        (MODE + FILE + PRESET, ENVIRON, {}, 1001, "environment SCHEDULEZERO__TORNADO__PORT"),
        (MODE + FILE + PRESET, {}, {}, 1002, "config.yaml:2"),
        (MODE + PRESET, {}, {}, 1003, "preset minimal (config.yaml:2)"),
        (MODE, {}, {}, 8888, "default"),
    ],
)
def test_precedence(text: str, environ: dict[str, str], flags: dict[str, Any], port: int, origin: str) -> None:
    config = parse_config(text, environ=environ, overrides=flags)
    assert config.components.tornado.port == port
    assert config.origins[PORT] == origin
    assert (PORT in config.chosen) is (port < 1003)


def test_a_preset_of_the_file_overrides_the_built_in_one() -> None:
    text = "deployment: {mode: minimal}\npresets:\n  minimal:\n    components:\n      handlers.remote.enabled: true\n"
    config = parse_config(text)
    assert config.is_on("handlers.remote")
    assert config.origins["components.handlers.remote.enabled"] == "preset minimal (config.yaml:5)"
    assert config.origins["components.tornado.enabled"] == "preset minimal (built in)"


def test_presets_may_be_nested_too() -> None:
    config = parse_config("presets: {full: {components: {tornado: {port: 9}, handlers.local: {enabled: false}}}}")
    assert config.components.tornado.port == 9
    assert not config.is_on("handlers.local")


def test_presets_of_other_modes_do_nothing() -> None:
    config = parse_config("presets: {minimal: {components: {tornado.port: 9}}}")
    assert config.components.tornado.port == 8888


@pytest.mark.parametrize(
    ("environ", "flags"),
    [({"SCHEDULEZERO__DEPLOYMENT__MODE": "autonomous"}, {}), ({}, {"deployment.mode": "autonomous"})],
)
def test_the_mode_itself_can_be_overridden(environ: dict[str, str], flags: dict[str, Any]) -> None:
    config = parse_config("deployment: {mode: full}", environ=environ, overrides=flags)
    assert not config.is_on("tornado")
    assert config.origins["components.tornado.enabled"] == "preset autonomous (built in)"


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("TORNADO__ENABLED", "false", "tornado.enabled", False),
        ("COMPONENTS__TORNADO__HOST", "10.0.0.1", "tornado.host", "10.0.0.1"),
        ("DEPLOYMENT__NAME", "123", "deployment.name", "123"),
        ("SCHEDULER__RETENTION", "30d", "scheduler.retention", 30 * 86_400),
        ("SCHEDULER__RETENTION", "null", "scheduler.retention", None),
        ("EVENT_BROKER__HEARTBEAT_INTERVAL", "2", "event_broker.heartbeat_interval", 2),
        ("HANDLERS__LOCAL__MODULES", "a.b, c", "handlers.local.modules", ["a.b", "c"]),
        ("HANDLERS__LOCAL__MODULES", "[a.b, c]", "handlers.local.modules", ["a.b", "c"]),
        ("HANDLERS__LOCAL__MODULES", "", "handlers.local.modules", []),
        ("SCHEDULER__DATASTORE__OPTIONS", "{a: 1}", "scheduler.datastore.options", {"a": 1}),
    ],
)
@pytest.mark.parametrize("way", ["environment", "flag"])
def test_text_from_outside_is_read_as_its_key_wants(name: str, text: str, key: str, value: Any, way: str) -> None:
    flag = name.lower().replace("__", ".")
    config = (
        parse_config("{}", environ={f"SCHEDULEZERO__{name}": text})
        if way == "environment"
        else parse_config("{}", overrides={flag: text})
    )
    found: Any = config.redacted_dict()
    for part in key.split(".") if key.startswith("deployment") else ["components", *key.split(".")]:
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("environ", "flags", "message"),
    [
        ({"TORNADO__PROT": "1"}, {}, 'environment SCHEDULEZERO__TORNADO__PROT: tornado.prot: there is no such key; did you mean "port"?'),  # noqa: E501
        ({"TORNADO__PORT": "http"}, {}, "components.tornado.port: is the text \"http\", but has to be a port number"),
        ({"TORNADO__ENABLED": "yes"}, {}, "read as true by YAML; write true"),
        ({"TORNADO__ENABLED": ""}, {}, "components.tornado.enabled: is empty"),
        ({"TORNADO__PORT": "1", "COMPONENTS__TORNADO__PORT": "2"}, {}, "is given twice"),
        ({"NAME": "x"}, {}, "there is no such key"),
        ({}, {"tornado.port": "x"}, 'flag: components.tornado.port: is the text "x"'),
        ({}, {"tornado.port": True}, "flag: components.tornado.port: is true, but has to be a port number"),
        ({}, {"tornado": {}}, "flag: tornado: there is no such key"),
        ({}, {"deployment.nmae": "x"}, 'did you mean "name"?'),
        ({}, {"schedules": []}, "there is no such key"),
    ],
)  # fmt: skip
def test_what_is_wrong_outside_the_file_says_where(
    environ: dict[str, str], flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("{}", environ={f"SCHEDULEZERO__{name}": text for name, text in environ.items()}, overrides=flags)
    assert len(caught.value.problems) == 1
    assert message in str(caught.value)


def test_an_overridden_value_has_to_be_right_all_the_same() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("components: {tornado: {port: http}}", overrides=FLAG)
    assert str(caught.value).startswith("config.yaml:1: components.tornado.port: ")


def test_other_variables_of_the_environment_are_left_alone() -> None:
    assert parse_config("{}", environ={"SCHEDULEZERO_HOME": "x", "TORNADO__PORT": "1"}).components.tornado.port == 8888


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULEZERO__TORNADO__PORT", "1234")
    assert load_config(None).components.tornado.port == 1234


def test_a_program_needs_no_file() -> None:
    config = load_config(None, environ={}, overrides={"deployment.mode": "autonomous", "deployment.name": "edge"})
    assert config.file == ""
    assert config.components.zmq_client.handler_id == "edge"
    assert config.components.event_broker.node_id == "edge"
    with pytest.raises(ConfigError, match=r"^flag: components.scheduler.datastore.url: is missing") as caught:
        load_config(None, environ={}, overrides={"scheduler.datastore.type": "postgresql"})
    assert len(caught.value.problems) == 1


# --- third-party components ------------------------------------------------------------------------------------

NATS = Plugins(stores=["duck"], brokers=["nats"], components=["metrics"])


def third_party(text: str, **more: Any) -> Config:
    return parse_config(text, plugins=NATS, **more)


def test_sections_of_installed_components_are_taken() -> None:
    config = third_party("components: {metrics: {port: 9100, deep: {a: [1]}}}", overrides={"metrics.token": "x"})
    assert config.components.others == {"metrics": {"enabled": True, "port": 9100, "deep": {"a": [1]}, "token": "x"}}
    assert config.is_on("metrics")
    assert config.origins["components.metrics.port"] == "config.yaml:1"
    assert config.redacted_dict()["components"]["metrics"]["token"] == "***"


def test_a_third_party_component_can_be_disabled_by_a_preset_or_the_environment() -> None:
    text = "presets: {full: {components: {metrics.enabled: false}}}\ncomponents: {metrics: {port: 1}}"
    assert not third_party(text).is_on("metrics")
    assert third_party(text, environ={"SCHEDULEZERO__METRICS__ENABLED": "true"}).is_on("metrics")


def test_types_of_third_parties_are_known_where_they_are_installed() -> None:
    text = (
        "components: {scheduler: {datastore: {type: duck, options: {x: 1}}}, event_broker: {type: nats, enabled: true}}"
    )
    config = third_party(text)
    assert config.components.scheduler.datastore.options == {"x": 1}
    assert config.components.event_broker.type == "nats"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, plugins=Plugins())
    assert [problem.key for problem in caught.value.problems] == [
        "components.scheduler.datastore.type",
        "components.event_broker.type",
    ]


def test_unknown_components_say_that_they_have_to_be_installed() -> None:
    with pytest.raises(ConfigError, match=r"known here: .*metrics; a component of a third party has to be installed"):
        third_party("components: {xyz: {}}")


def test_without_a_list_the_entry_points_are_asked() -> None:
    with pytest.raises(ConfigError, match=r'components.zzz: unknown key "zzz"'):
        parse_config("components: {zzz: {}}")


# --- check --effective -----------------------------------------------------------------------------------------


def test_effective_has_a_row_for_every_key_with_its_origin() -> None:
    text = (
        "components: {scheduler: {datastore: {type: postgresql, url: 'postgresql://u:pw@h/d'}}, metrics: {port: 1}}\n"
        "schedules:\n- {id: s, handler_id: h, method: m, trigger: {type: interval, minutes: 1}}\n"
    )
    rows = {row.key: row for row in effective(third_party(text))}
    assert rows["components.scheduler.datastore.url"].value == "postgresql://u:***@h/d"
    assert rows["components.scheduler.retention"].value == 90 * 86_400
    assert rows["components.metrics.enabled"].origin == "default"
    assert (rows["schedules.s"].value, rows["schedules.s"].origin) == ("h.m", "config.yaml:3")
    assert all(row.origin for row in rows.values())
    assert len(rows) == len(effective(parse_config("{}"))) + 3
