"""Which components a configuration runs, which it cannot run here, and who says so."""

from pathlib import Path

import pytest

from sz_runtime.components import ComponentManager
from sz_runtime.config import Config, ConfigError, Plugins, load_config, parse_config
from sz_runtime.config.kinds import Mode
from tests.runtime.odd_components import install

DOCUMENT = Path(__file__).parent / "config" / "document"
PLUGINS = Plugins(components=("odd", "user", "needs_web", "nonsense", "missing", "broken", "picky", "ghost", "control"))


@pytest.fixture(autouse=True)
def odd_components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dist").mkdir()
    install(tmp_path / "dist", monkeypatch)


def names(config: Config) -> list[str]:
    return [standing.name for standing in ComponentManager(config).states]


def refused(text: str) -> list[str]:
    config = parse_config(text, file="sz.yaml", plugins=PLUGINS)
    with pytest.raises(ConfigError) as wrong:
        ComponentManager(config)
    return [str(problem) for problem in wrong.value.problems]


@pytest.mark.parametrize("components", ["", "components: {}", "components: {handlers: {local: {modules: []}}}"])
@pytest.mark.parametrize("mode", list(Mode))
def test_a_mode_alone_runs_and_warns_of_what_only_its_preset_wants(mode: Mode, components: str) -> None:
    manager = ComponentManager(parse_config(f"deployment: {{mode: {mode}}}\n{components}\n"))
    remote = ["registration_server"] if mode is Mode.FULL else []
    assert [standing.name for standing in manager.states] == ["handlers", "scheduler", *remote, "control"]
    missing = ["tornado"] if mode is not Mode.AUTONOMOUS else []
    assert len(manager.warnings) == len(missing)
    for name, warning in zip(missing, manager.warnings, strict=True):
        assert f"preset {mode} (built in)" in warning
        assert f"the component {name} is not part of this version" in warning


def test_what_the_owner_enables_and_cannot_run_is_refused_by_name_and_place_all_at_once() -> None:
    problems = refused(
        """\
deployment: {mode: autonomous}
components:
  tornado:
    enabled: true
  event_broker:
    enabled: true
    type: redis
    redis_url: redis://localhost:6379
  handlers:
    remote:
      enabled: true
  zmq_client:
    server_address: tcp://central:5556
"""
    )
    assert problems == [
        "sz.yaml:4: components.tornado.enabled: the component tornado is not part of this version; "
        "components.tornado.enabled: false goes on without it",
        "sz.yaml:6: components.event_broker.enabled: the component event_broker cannot run: event brokers of type "
        "redis are not part of this version (type local is); components.event_broker.enabled: false goes on without it",
    ]


def test_the_environment_and_flags_ask_as_loudly_as_the_file() -> None:
    for config, said in (
        (load_config(None, environ={"SCHEDULEZERO__TORNADO__ENABLED": "true"}), "environment SCHEDULEZERO__TORNADO__"),
        (load_config(None, environ={}, overrides={"tornado.enabled": True}), "flag: components.tornado.enabled"),
    ):
        with pytest.raises(ConfigError, match=said):
            ComponentManager(config)


def test_the_documents_edge_device_runs_with_its_link() -> None:
    manager = ComponentManager(load_config(DOCUMENT / "edge-device.yaml", environ={}))
    assert "zmq_client" in [standing.name for standing in manager.states]
    assert not manager.warnings


def test_without_an_address_there_is_no_link_and_no_error() -> None:
    manager = ComponentManager(parse_config("deployment: {mode: autonomous}"))
    assert "zmq_client" not in [standing.name for standing in manager.states]
    assert not manager.warnings


def test_a_preset_of_the_file_is_a_preset_too() -> None:
    text = "presets: {minimal: {components: {event_broker.enabled: true, event_broker.type: mqtt}}}"
    config = parse_config(
        f"deployment: {{mode: minimal}}\n{text}\ncomponents: {{event_broker: {{mqtt_url: mqtt://b}}}}"
    )
    manager = ComponentManager(config)
    assert "event_broker" not in [standing.name for standing in manager.states]
    assert any("event brokers of type mqtt" in warning for warning in manager.warnings)


def test_a_store_that_is_not_installed_is_refused() -> None:
    (problem,) = refused("components: {scheduler: {datastore: {type: postgresql, url: 'postgresql://u:p@h/d'}}}")
    assert problem.startswith("sz.yaml:1: components.scheduler.datastore.type: the component scheduler cannot run: ")
    assert "postgresql" in problem


def test_what_is_switched_off_is_not_looked_at() -> None:
    off = "{enabled: false}"
    text = (
        f"components: {{tornado: {off}, scheduler: {off}, control: {off}, handlers: {{local: {off}, remote: {off}}}}}"
    )
    manager = ComponentManager(parse_config(text, plugins=PLUGINS))
    assert manager.states == ()
    assert manager.warnings == ["no component is enabled: there is nothing to run"]


def test_a_local_event_broker_runs() -> None:
    assert "event_broker" in names(parse_config("components: {event_broker: {enabled: true, type: local}}"))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("needs_web: {enabled: true}", "the component needs_web needs tornado, which does not run"),
        ("nonsense: {enabled: true}", "the entry point of the component nonsense holds no Component but a list"),
        ("missing: {enabled: true}", "components 'missing' needs a package that is not installed"),
        ("broken: {enabled: true}", "components 'broken' cannot be imported: RuntimeError: no such device"),
        ("picky: {enabled: true}", "the component picky cannot run: KeyError: 'not there'"),
        ("ghost: {enabled: true}", "no components plugin 'ghost' is installed"),
        ("user: {enabled: true}", "the component user needs odd, which does not run"),
    ],
)
def test_third_parties_that_cannot_run_are_refused(section: str, said: str) -> None:
    (problem,) = refused(f"components:\n  {section}\n")
    assert problem.startswith("sz.yaml:2: ")
    assert said in problem
