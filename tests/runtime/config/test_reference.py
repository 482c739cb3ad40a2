"""specs/configuration.md is the reference: it has every key, every preset and every example of errors as they are."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml

from sz_protocol.definition_wire import FIELDS
from sz_runtime.config import ConfigError, parse_config
from sz_runtime.config.keys import Key, table
from sz_runtime.config.kinds import KINDS, Mode
from sz_runtime.config.loaded import plain
from sz_runtime.config.presets import PRESETS

SPEC = Path(__file__).parents[3] / "specs" / "configuration.md"


def kind_text(wanted: Any) -> str:
    if get_origin(wanted) is tuple:
        return f"a list, each item {kind_text(get_args(wanted)[0])}"
    if wanted not in KINDS:
        return f"{kind_text(next(kind for kind in get_args(wanted) if kind in KINDS))}, or empty"
    return KINDS[wanted].text.partition(":")[0] if "duration" in KINDS[wanted].text else KINDS[wanted].text


def default_text(key: Key) -> str:
    if key.name == "components.scheduler.datastore.path":
        return "`deployments/NAME/schedulezero_jobs.db`"
    if key.name.endswith("registration_server.keys"):
        return "`deployments/NAME/keys`"
    if key.name.endswith("registration_server.enabled"):
        return "`true`, in mode distributed `false`"
    if key.derive is not None:
        return "the deployment's name"
    value = plain(key, key.default)
    return "empty" if value in (None, [], {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def rows() -> Iterator[str]:
    for key in table()[0].values():
        name = key.name.removeprefix("components.")
        yield f"| `{name}` | {kind_text(key.type)} | {default_text(key)} | {key.doc} |"


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SPEC.read_text(), re.DOTALL)


def test_the_table_of_keys_is_the_loader_s() -> None:
    found = [line for line in SPEC.read_text().splitlines() if re.match(r"\| `[a-z_.]+` \| .* \| .* \| .*\. \|$", line)]
    assert found == list(rows())


def test_the_table_of_presets_is_the_loader_s() -> None:
    text = SPEC.read_text()
    for name in sorted({name for preset in PRESETS.values() for name in preset}):
        cells = [PRESETS[mode].get(name, "") for mode in Mode]
        shown = " | ".join(f"`{cell}`" if isinstance(cell, str) and cell else str(cell).lower() for cell in cells)
        assert f"| `{name}` | {shown} |" in text


def test_every_key_of_a_schedule_is_explained() -> None:
    for key in FIELDS:
        assert f"| `{key}` |" in SPEC.read_text()


@pytest.mark.parametrize("text", examples("yaml"))
def test_the_examples_load(text: str) -> None:
    config = parse_config(text, environ={"DB_PASSWORD": "x"})
    assert config.warnings == ()
    assert yaml.safe_load(text)


def test_the_example_of_errors_is_what_is_printed() -> None:
    (bad,) = examples("yaml-with-mistakes")
    (printed,) = examples("text")
    with pytest.raises(ConfigError) as caught:
        parse_config(bad, file="deployments/shop/config.yaml")
    assert str(caught.value).splitlines() == printed.splitlines()
