"""Random and mutated YAML: always a configuration or located problems, never anything else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sz_runtime.config import Config, ConfigError, Plugins, Problem, effective, parse_config
from sz_runtime.config.keys import table

PLUGINS = Plugins(stores=["duck"], brokers=["nats"], components=["metrics"])
SCHEDULES = """\
schedules:
  - id: nightly
    handler_id: reports
    method: build
    trigger: {type: cron, expression: "0 3 * * *", timezone: Europe/Berlin}
    params: {region: eu, sizes: [1, 2.5]}
    misfire: {policy: all, max: 5, grace: 1m, window: 2h, rate: 10/s}
    overlap: queue(3)
    retry: {attempts: 3, base: 1s, max: 1m}
    timeout: 5m
    labels: {team: data}
  - id: once
    handler_id: reports
    method: build
    trigger: {type: any, triggers: [{type: date, run_date: 2030-01-01}, {type: interval, hours: 1}]}
"""
TEXTS = [*(path.read_text() for path in sorted((Path(__file__).parent / "document").glob("*.yaml"))), SCHEDULES]
TREES: list[dict[str, Any]] = [yaml.safe_load(text.replace("2030-01-01", '"2030-01-01"')) for text in TEXTS]
PLACE = re.compile(r"config\.yaml:[1-9][0-9]*: ")
BUDGET = settings(max_examples=500, deadline=None)


def config_or_problems(text: str | bytes, **more: Any) -> Config | None:
    """The property itself."""
    problems: list[Problem] = []
    try:
        config = parse_config(text, plugins=PLUGINS, now_us=1_900_000_000_000_000, **more)
    except ConfigError as error:
        problems = error.problems
    else:
        _all_can_be_shown(config)
        return config
    assert problems
    for problem in problems:
        assert str(problem).isprintable()
        assert len(str(problem)) < 1200
        assert PLACE.match(str(problem)) or str(problem).startswith(("environment ", "flag: "))
    lines = [problem.line for problem in problems]
    assert lines == sorted(lines)
    return None


def _all_can_be_shown(config: Config) -> None:
    assert all(str(problem).isprintable() for problem in config.warnings)
    json.dumps(config.redacted_dict())
    assert all(row.origin for row in effective(config))


@BUDGET
@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    config_or_problems(data)


WORDS = "deployment components tornado schedules trigger id mode full port no 010 12:30 &a *a << !!str !x # > ~ | ? 1e3"
TOKENS = [f"{word} " for word in f"{WORDS} 2024-01-01 ${{X}} file:/x .nan é".split()]
TOKENS += [
    ": ",
    ":\n  ",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    '"',
    "'",
    "|\n",
    "---\n",
    "\t",
    "\x85",
]
YAMLISH = st.lists(st.sampled_from(TOKENS), max_size=40).map("".join)


@BUDGET
@given(YAMLISH)
def test_random_tokens(text: str) -> None:
    config_or_problems(text)


@BUDGET
@given(
    st.sampled_from(TEXTS), st.integers(0, 4000), st.integers(0, 30), st.binary(max_size=6) | YAMLISH.map(str.encode)
)
def test_valid_files_with_a_few_bytes_changed(text: str, at: int, length: int, patch: bytes) -> None:
    data = text.encode()
    at %= len(data)
    config_or_problems(data[:at] + patch + data[at + length :])


@BUDGET
@given(st.sampled_from(TEXTS), st.data())
def test_valid_files_with_lines_moved_dropped_or_doubled(text: str, data: st.DataObject) -> None:
    lines = text.splitlines(keepends=True)
    chosen = data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=len(lines) - 3, max_size=len(lines) + 3))
    order = sorted(chosen) if data.draw(st.booleans()) else chosen
    config_or_problems("".join(lines[index] for index in order))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["full", "sqlite", "tcp://a:1", "5m", "queue(2)", "${A}", "${B", "$${", "file:/nope", "redis://u:p@h"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["enabled", "type", "id"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def _places(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        pairs = list(tree.items())
    elif isinstance(tree, list):
        pairs = list(enumerate(tree))
    found = [above] if above else []
    for key, value in pairs:
        found += _places(value, (*above, key))
    return found


def _mutated(tree: Any, place: tuple[Any, ...], value: Any, rename: str | None) -> Any:
    key, *rest = place
    copied = dict(tree) if isinstance(tree, dict) else list(tree)
    if rest:
        copied[key] = _mutated(tree[key], tuple(rest), value, rename)
    elif rename is not None and isinstance(copied, dict):
        copied[rename] = copied.pop(key)
    else:
        copied[key] = value
    return copied


@BUDGET
@given(st.sampled_from(TREES), st.data())
def test_valid_structures_with_values_replaced_and_keys_renamed(tree: dict[str, Any], data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(_places(tree)))
        rename = data.draw(st.none() | st.text(max_size=6) | st.just("type"))
        tree = _mutated(tree, place, data.draw(VALUES), rename)
        if not _places(tree):
            break
    config_or_problems(yaml.safe_dump(tree, allow_unicode=True), environ={"A": "1"})


KEYS = st.sampled_from(list(table()[0])) | st.text(max_size=10)


@BUDGET
@given(st.dictionaries(KEYS, st.text(max_size=10) | SCALARS.map(str), max_size=4))
def test_any_text_in_the_environment(values: dict[str, str]) -> None:
    environ = {f"SCHEDULEZERO__{key.upper().replace('.', '__')}": value for key, value in values.items()}
    config_or_problems("{}", environ=environ)


@BUDGET
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_anything_as_a_flag(overrides: dict[str, Any]) -> None:
    config_or_problems("{}", overrides=overrides)


@pytest.mark.parametrize("text", TEXTS)
def test_the_seeds_of_the_mutations_are_valid(text: str) -> None:
    assert config_or_problems(text) is not None


@BUDGET
@given(st.sampled_from(list(table()[0])), VALUES)
def test_each_key_with_any_value(name: str, value: Any) -> None:
    tree: Any = value
    for part in reversed(name.split(".")):
        tree = {part: tree}
    config_or_problems(yaml.safe_dump(tree))
