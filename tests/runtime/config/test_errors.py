"""Every problem in one pass, each `file:line: key: what is wrong, what would be right`."""

# ruff: noqa: E501 - tables with one case to a line

from typing import Any

import pytest

from sz_runtime.config import ConfigError, Problem, parse_config

SCHEDULE = "{id: s, handler_id: h, method: m, trigger: {type: interval, minutes: 1}}"


def errors(text: str | bytes, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, **more)
    assert str(caught.value).split("\n") == [str(problem) for problem in caught.value.problems]
    return [str(problem) for problem in caught.value.problems]


def warnings(text: str, **more: Any) -> list[str]:
    return [str(problem) for problem in parse_config(text, **more).warnings]


def test_all_problems_of_a_bad_file_in_one_pass_sorted_by_line() -> None:
    text = """\
deploymnt: {}
deployment: {name: x/y, mode: ful}
components:
  tornado: {enabled: "no", prt: 3, port: 70000}
  scheduler:
    datastore: {type: postgresql}
    retention: 5 days
  event_broker:
    publish_adress: tcp://x:1
  handlers: {local: {modules: [a.b, my/app.py, 3]}}
  tornado: {}
presets:
  fll: {components: {}}
  full: {components: {tornado.port: 1, tornado: {port: 2}, tornado.prot: 4}}
schedules:
- id: a
  handler_id: h
  method: m
  trigger: {type: cron, expression: "61 * * * *"}
- id: a
  method: m
  trigger: {type: interval, minuts: 5}
"""
    found = errors(text)
    assert [(line.split(": ")[0], line.split(": ")[1]) for line in found] == [
        ("config.yaml:1", "deploymnt"),
        ("config.yaml:2", "deployment.name"),
        ("config.yaml:2", "deployment.mode"),
        ("config.yaml:4", "components.tornado.enabled"),
        ("config.yaml:4", "components.tornado.prt"),
        ("config.yaml:4", "components.tornado.port"),
        ("config.yaml:6", "components.scheduler.datastore.url"),
        ("config.yaml:7", "components.scheduler.retention"),
        ("config.yaml:9", "components.event_broker.publish_adress"),
        ("config.yaml:10", "components.handlers.local.modules[1]"),
        ("config.yaml:10", "components.handlers.local.modules[2]"),
        ("config.yaml:11", "components.tornado"),
        ("config.yaml:13", "presets.fll"),
        ("config.yaml:14", "presets.full.components.tornado.port"),
        ("config.yaml:14", "presets.full.components.tornado.prot"),
        ("config.yaml:19", "schedules[0].trigger.expression"),
        ("config.yaml:20", "schedules[1].id"),
        ("config.yaml:20", "schedules[1]"),
        ("config.yaml:22", "schedules[1].trigger.seconds"),
        ("config.yaml:22", "schedules[1].trigger.minuts"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "config.yaml:1: is empty; a configuration begins with deployment:, components: or schedules:"),
        ("- a", "config.yaml:1: is a list, but has to be a mapping of deployment, components, presets, schedules"),
        ("text", 'config.yaml:1: is the text "text", but has to be a mapping of'),
        ("deployment: full", 'config.yaml:1: deployment: is the text "full", but has to be a mapping of name, mode'),
        ("components: [tornado]", "components: is a list, but has to be a mapping of tornado, scheduler"),
        ("components: {handlers: {local: [a]}}", "components.handlers.local: is a list, but has to be a mapping of"),
        ("components: {tornado.port: 1}", "dots are for presets, here it is tornado: {port: ...}"),
        ("components: {torado: {}}", 'unknown key "torado"; did you mean "tornado"?'),
        ("components: {modules: [a]}", "there is components.handlers.local.modules"),
        (
            "components: {handlers: {remote: {registration_server: {host: 0.0.0.0}}}}",
            'unknown key "host"; write both into address, as in tcp://HOST:5556',
        ),
        (
            "components: {handlers: {remote: {registration_server: {port: 7000}}}}",
            'unknown key "port"; write both into address, as in tcp://HOST:5556',
        ),
        ("deployment: {mode: hybrid}", "deployment.mode: \"hybrid\" is not known; known here: full, minimal, autonomous"),
        ("deployment: {mode: 1}", "deployment.mode: is the number 1, but has to be one of full, minimal"),
        ("deployment: {name: ''}", "deployment.name: is the text \"\", but has to be a name of letters, digits"),
        ("deployment: {name: 007}", "the octal number 7"),
        ("components: {tornado: {enabled: 'no'}}", 'is the text "no", but has to be true or false'),
        ("components: {tornado: {enabled: 'true'}}", "take away the quotes"),
        ("components: {tornado: {enabled: no}}", 'write false, or "no" for the text'),
        ("components: {tornado: {enabled: 1}}", "is the number 1, but has to be true or false"),
        ("components: {tornado: {port: 8888.0}}", "is the number 8888.0, but has to be a port number"),
        ("components: {tornado: {port: true}}", "is true, but has to be a port number"),
        ("components: {tornado: {port: 65536}}", "from 0 (any free one) to 65535"),
        ("components: {tornado: {host: 3}}", "is the number 3, but has to be text; quote it"),
        ("components: {tornado: {host: 'a b'}}", "has to be a host name or address"),
        ("components: {tornado: {host: }}", "components.tornado.host: is empty, but has to be text"),
        ("components: {scheduler: {threads: 0}}", "has to be from 1"),
        ("components: {scheduler: {horizon: 0}}", "is zero"),
        ("components: {handlers: {local: {modules: a.b}}}", 'is the text "a.b", but has to be a list, each item a module'),
        ("components: {event_broker: {subscribe_addresses: ['h:1']}}", "[0]: is the text \"h:1\", but has to be an address such as"),
        ("components: {event_broker: {publish_address: 'tcp://h'}}", "tcp://127.0.0.1:5555"),
        ("components: {event_broker: {options: [1]}}", "is a list, but has to be a mapping"),
        ("components: {event_broker: {options: {a: 2024-01-01}}}", "is a date for YAML"),
        ("components: {event_broker: {redis_url: 'user:secret@host'}}", "redis_url: is no URL"),
        ("presets: [1]", "presets: is a list, but has to be a mapping of full, minimal, autonomous, distributed"),
        ("presets: {full: {tornado.port: 1}}", 'presets.full.tornado.port: a preset is a mapping with the one key "components"'),
        ("presets: {full: 3}", 'a preset is a mapping with the one key "components"'),
        ("presets: {full: {components: 3}}", "presets.full.components: is the number 3, but has to be a mapping"),
        ("presets: {minimal: {components: {tornado.port: x}}}", "components.tornado.port: is the text \"x\""),
        ("schedules: {a: 1}", "schedules: is a mapping, but has to be a list of schedules"),
        ("schedules: [3]", "schedules[0]: is the number 3, but has to be a mapping of id, handler_id"),
        ("deployment: {name: a, name: b}", "deployment.name: stands on line 1 already"),
        ("components: {tornado: {port: *http}}", "*http is an alias"),
    ],
)  # fmt: skip
def test_one_problem(text: str, line: str) -> None:
    (found,) = errors(text)
    assert line in found
    assert found.startswith("config.yaml:1: ")
    assert "secret" not in str(found)


def test_problems_of_schedules_stand_on_their_own_lines() -> None:
    text = """\
schedules:
  - id: good
    handler_id: h
    method: m
    trigger: {type: interval, minutes: 1}
  - id: bad
    handler_id: h
    method: m
    trigger:
      type: cron
      expression: "*/61 * * * *"
      timezone: Europe/Berln
    misfire:
      grce: 1m
    params:
      day: 2024-01-01
"""
    found = errors(text)
    assert [line.split(": ")[0] for line in found] == [f"config.yaml:{line}" for line in (11, 12, 14, 16)]
    assert "Europe/Berlin" in found[1]
    assert 'did you mean "grace"?' in found[2]


def test_a_schedule_id_that_is_taken_names_both_lines() -> None:
    text = f"schedules:\n  - {SCHEDULE}\n  - {SCHEDULE}\n"
    expected = "config.yaml:3: schedules[1].id: the schedule on line 2 has this id already; each needs its own"
    assert errors(text) == [expected]
    on_one_line = errors(f"schedules: [{SCHEDULE}, {SCHEDULE}]")
    assert on_one_line == [
        "config.yaml:1: schedules[1].id: the schedule on line 1 has this id already; each needs its own"
    ]


def test_messages_are_single_lines_of_bounded_length() -> None:
    hostile = '"\\n\\u202e\\e[31m' + "x" * 5000 + '"'
    text = f"{hostile}: 1\ndeployment: {{name: {hostile}, mode: {hostile}}}\ncomponents: {{{hostile}: 1}}\n"
    text += f"schedules: [{{id: {hostile}, trigger: {{type: {hostile}, {hostile}: 1}}, misfire: {hostile}}}]"
    for line in errors(text):
        assert line.isprintable()
        assert len(line) < 1000


def test_a_problem_prints_its_place() -> None:
    assert str(Problem("f", 3, 1, "a.b", "is wrong")) == "f:3: a.b: is wrong"
    assert str(Problem("flag", 0, 0, "", "is wrong")) == "flag: is wrong"


# --- contradictions --------------------------------------------------------------------------------------------

BROKER = "components: {event_broker: {enabled: true, "
PEERS = "publish_address: 'tcp://a:1', subscribe_addresses: ['tcp://b:1']"
POSTGRES = "scheduler: {datastore: {type: postgresql, url: 'postgresql://h/d'}}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("components: {scheduler: {datastore: {type: postgresql}}}", "datastore.url: is missing, but type postgresql needs it"),
        ("components: {scheduler: {datastore: {type: postgresql, url: 'mysql://h'}}}", "has to begin with postgresql://"),
        ("components: {scheduler: {datastore: {url: 'postgresql://h'}}}", "does not belong to type sqlite"),
        ("components: {scheduler: {datastore: {type: sqlit}}}", '"sqlit" is no known store; did you mean "sqlite"?'),
        ("components: {event_broker: {type: zeromq}}", '"zeromq" is no known broker; did you mean "zmq"?'),
        (BROKER + "}}", "publish_address: is missing, but an enabled broker of type zmq needs it"),
        (BROKER + "type: redis}}", "redis_url: is missing"),
        (BROKER + "type: mqtt}}", "mqtt_url: is missing"),
        (BROKER + "type: mqtt, mqtt_url: 'http://h'}}", "has to begin with mqtt:// or mqtts://"),
        (BROKER + PEERS + "}}", "datastore.type: is sqlite, which these instances cannot share"),
        (BROKER + PEERS + "}, scheduler: {datastore: {type: memory}}}", "is memory, which these instances cannot share"),
        (BROKER + "type: redis, redis_url: 'redis://h', members: [a, b]}}", "which these instances cannot share"),
        ("components: {zmq_client: {enabled: true}}", "zmq_client.server_address: is missing, but zmq_client is enabled"),
        ("components: {tornado: {port: 5556}}", "registration_server.address: takes tcp://127.0.0.1:5556, but components.tornado.port takes it already"),
        ("components: {handlers: {remote: {registration_server: {address: 'tcp://*:8888'}}}}", "takes it already"),
        ("components: {handlers: {remote: {registration_server: {lease: 3s}}}}", "lease: is shorter than four heartbeats"),
        (BROKER + "publish_address: 'tcp://0.0.0.0:5556', type: zmq}, " + POSTGRES + "}", "takes it already"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(text: str, line: str) -> None:
    (found,) = errors(text)
    assert line in found
    assert found.startswith("config.yaml:1: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("components: {scheduler: {datastore: {path: x.db, url: 'a://b'}}}", "url: is not used by type sqlite"),
        ("components: {scheduler: {datastore: {type: memory, path: x.db}}}", "path: is not used: type memory keeps nothing"),
        ("components: {scheduler: {datastore: {type: postgresql, url: 'postgresql://h', path: x}}}", "path: is not used"),
        (BROKER + PEERS.replace("//b", "//localhost") + "}}", "all instances have to use this very file"),
        (BROKER + "publish_address: 'tcp://a:1'}, " + POSTGRES + "}", "subscribe_addresses: is empty"),
        (BROKER + PEERS.replace("//b", "//a") + "}, " + POSTGRES + "}", "names this instance's own address tcp://a:1"),
        (BROKER + PEERS + ", redis_url: 'redis://h'}, " + POSTGRES + "}", "redis_url: is not used by type zmq"),
        (BROKER + PEERS.replace("['", "['tcp://b:1', '") + "}, " + POSTGRES + "}", "names tcp://b:1 2 times"),
        ("deployment: {mode: distributed}", "publish_address: is missing, so that the event broker of type zmq, which only"),
        ("deployment: {mode: distributed}\ncomponents: {event_broker: {enabled: false}}", "is false in mode distributed"),
        ("components: {handlers: {local: {modules: [a, a]}}}", "names a 2 times"),
        ("components: {handlers: {remote: {enabled: false, registration_server: {enabled: true}}}}", "does not start"),
        ("components: {handlers: {remote: {registration_server: {enabled: false, address: 'tcp://a:1'}}}}", "is not used"),
        (f"components: {{scheduler: {{enabled: false}}}}\nschedules: [{SCHEDULE}]", "no schedule fires"),
        (f"components: {{handlers: {{local: {{enabled: false}}, remote: {{enabled: false}}}}}}\nschedules: [{SCHEDULE}]", "no schedule can run"),
        (f"schedules: [{SCHEDULE[:-1]}, timeout: 5m, deadline: 1m}}]", "schedules[0].timeout: is longer than the deadline (1m)"),
        (f"schedules: [{SCHEDULE[:-1]}, retry: {{attempts: 2, base: 10m}}}}]", "schedules[0].retry.base: is longer than max (5m)"),
        (f"schedules: [{SCHEDULE[:-1]}, params: {{a: [{{b: '${{X}}'}}]}}}}]", "schedules[0].params.a[0].b: holds a reference"),
    ],
)  # fmt: skip
def test_what_is_odd_but_runs_is_a_warning(text: str, line: str) -> None:
    (found,) = warnings(text)
    assert line in found
    assert found.startswith("config.yaml:")


def test_a_date_in_the_past_is_a_warning_where_the_time_is_known() -> None:
    text = "schedules: [{id: s, handler_id: h, method: m, trigger: {type: date, run_date: 2020-01-01}}]"
    assert warnings(text) == []
    now_us = 1_700_000_000_000_000
    assert warnings(text, now_us=now_us) == ["config.yaml:1: schedules[0].trigger: has no fire time left"]
    assert warnings(f"schedules: [{SCHEDULE}]", now_us=now_us) == []


def test_what_could_not_be_read_contradicts_nothing() -> None:
    assert len(errors("components: {event_broker: {enabled: true, publish_address: 5}}")) == 1
    assert len(errors("components: {event_broker: {enabled: true, publish_adres: 'tcp://a:1'}}")) == 1
    assert len(errors("components: {event_broker: {enabled: 'true'}}")) == 1
    assert len(errors("deployment: {mode: distribted}")) == 1


def test_a_broker_that_the_file_says_anything_about_needs_its_address() -> None:
    (found,) = errors("deployment: {mode: distributed}\ncomponents: {event_broker: {node_id: a}}")
    assert found.startswith("config.yaml:2: components.event_broker.publish_address: is missing, but")


def test_a_problem_of_a_preset_points_at_the_mode() -> None:
    (found,) = warnings("schedules: []\ndeployment:\n  mode: distributed\n")
    assert found.startswith("config.yaml:3: components.event_broker.publish_address: ")
