"""The design document's own YAML, verbatim, and its table of modes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sz_runtime.config import Config, load_config, parse_config
from sz_runtime.config.kinds import Mode
from sz_runtime.config.presets import PRESETS

DOCUMENT = Path(__file__).parent / "document"
BLOCKS = sorted(DOCUMENT.glob("*.yaml"))

# The lists of enabled components that the document draws for each mode. "optional" ones are off until configured.
TABLE = {
    "full": {"tornado", "scheduler", "handlers.local", "handlers.remote", "registration_server"},
    "minimal": {"tornado", "scheduler", "handlers.local"},
    "autonomous": {"scheduler", "handlers.local"},
    "distributed": {"tornado", "scheduler", "event_broker", "handlers.local", "handlers.remote"},
}
NEEDED = {"distributed": {"event_broker.publish_address": "tcp://127.0.0.1:5555"}}
ALL = ("tornado", "scheduler", "event_broker", "handlers.local", "handlers.remote", "registration_server", "zmq_client")


def load(name: str) -> Config:
    return load_config(DOCUMENT / f"{name}.yaml", environ={})


@pytest.mark.parametrize("path", BLOCKS, ids=lambda path: path.stem)
def test_each_block_of_the_document_loads_verbatim_without_a_warning(path: Path) -> None:
    assert load_config(path, environ={}).warnings == ()


def test_there_are_three_blocks() -> None:
    assert [path.stem for path in BLOCKS] == ["distributed", "edge-device", "schema"]


def test_every_value_of_the_schema_block_arrives() -> None:
    raw = yaml.safe_load((DOCUMENT / "schema.yaml").read_text())
    shown = load("schema").redacted_dict()
    for dotted, value in _leaves(raw["components"]):
        found: Any = shown["components"]
        for part in dotted:
            found = found[part]
        assert found == value, dotted
    assert shown["deployment"] == raw["deployment"]


def _leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in tree.items():
        found += _leaves(value, (*above, key)) if isinstance(value, dict) else [((*above, key), value)]
    return found


def test_the_presets_are_exactly_those_of_the_document() -> None:
    raw = yaml.safe_load((DOCUMENT / "schema.yaml").read_text())["presets"]
    assert {mode.value: dict(preset) for mode, preset in PRESETS.items()} == {
        mode: preset["components"] for mode, preset in raw.items()
    }


@pytest.mark.parametrize("mode", list(TABLE))
def test_the_mode_table_of_the_document(mode: str) -> None:
    config = parse_config(f"deployment: {{mode: {mode}}}", overrides=NEEDED.get(mode))
    assert {name for name in ALL if config.is_on(name)} == TABLE[mode]
    assert set(TABLE) == set(Mode)


def test_the_edge_device() -> None:
    config = load("edge-device")
    client = config.components.zmq_client
    assert config.is_on("zmq_client")
    assert (client.server_address, client.handler_id) == ("tcp://central-server.local:5556", "edge-device-001")
    assert client.reconnect_interval_us == 60_000_000
    assert config.components.handlers.local.modules == ("edge_device.handlers",)
    assert not config.is_on("tornado")


def test_the_distributed_cluster() -> None:
    config = load("distributed")
    store, broker = config.components.scheduler.datastore, config.components.event_broker
    assert (store.type, store.url) == ("postgresql", "postgresql+asyncpg://user:pass@db-cluster/schedules")
    assert broker.subscribe_addresses == ("tcp://prod-2.internal:5555", "tcp://prod-3.internal:5555")
    assert config.is_on("event_broker")
    assert not config.is_on("handlers.remote")


def test_a_configuration_without_components_is_mode_full() -> None:
    config = parse_config("deployment: {name: old}")
    assert config.deployment.mode is Mode.FULL
    assert {name for name in ALL if config.is_on(name)} == TABLE["full"]


def test_autonomous_without_a_server_means_no_link_and_no_error() -> None:
    config = parse_config("deployment: {mode: autonomous}")
    assert config.components.zmq_client.enabled
    assert not config.is_on("zmq_client")
    assert config.warnings == ()


def test_distributed_without_an_address_means_no_broker_and_no_error() -> None:
    config = parse_config("deployment: {mode: distributed}")
    assert config.components.event_broker.enabled
    assert not config.is_on("event_broker")
    assert len(config.warnings) == 1


def test_the_default_database_is_the_document_s() -> None:
    config = parse_config("deployment: {name: production}")
    assert config.components.scheduler.datastore.path == "deployments/production/schedulezero_jobs.db"
