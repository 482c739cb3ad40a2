"""A configuration from its file, the environment and flags: every problem found in one pass."""

import os
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from attrs import evolve

from sz_protocol.wire_values import describe, unknown_key
from sz_runtime.config.contradictions import View, check_contradictions
from sz_runtime.config.keys import Names, table
from sz_runtime.config.kinds import Mode, takes_text
from sz_runtime.config.layers import (
    PREFIX,
    Given,
    Layer,
    Reading,
    built_in_layer,
    environment_layer,
    file_layer,
    flag_layer,
    preset_layers,
)
from sz_runtime.config.loaded import Config
from sz_runtime.config.locate import deployment_name, read_config_file
from sz_runtime.config.model import Components, Deployment
from sz_runtime.config.problems import ConfigError, Mark, dotted, in_order
from sz_runtime.config.references import has_reference, resolve
from sz_runtime.config.schedules import read_schedules, schedule_warnings
from sz_runtime.config.structure import Refused, structure
from sz_runtime.config.third_parties import Plugins
from sz_runtime.config.yaml_lines import Document, read_document

TOP = ("deployment", "components", "presets", "schedules")


def load_config(
    path: str | os.PathLike[str] | None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
    now_us: int | None = None,
) -> Config:
    """Read a configuration.

    `path` is a file, a directory with a config.yaml, the bare name of a directory below ./deployments, or None: no
    file. `environ` (default: this process's) and `overrides` (dotted key -> value) come before the file; `plugins`
    says which third-party names exist (default: the entry points). With `now_us`, schedules that have no fire time
    left are warned of. Raises ConfigError with all problems.
    """
    if path is None:
        document = Document("(no file)", {}, {(): Mark(0, 0)}, complete=True)
    else:
        file, data = read_config_file(path)
        document = _checked(read_document(data, file))
    return _load(document, os.environ if environ is None else environ, overrides or {}, plugins, now_us)


def parse_config(
    text: str | bytes,
    *,
    file: str = "config.yaml",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
    now_us: int | None = None,
) -> Config:
    """The same for a text; `file` is what its problems are said of. No environment is read unless it is given."""
    document = _checked(read_document(text, file))
    return _load(document, environ or {}, overrides or {}, plugins, now_us)


def _checked(document: Document) -> Document:
    """Refuse at once what leaves nothing to look at."""
    if document.complete and document.value is None and not document.problems:
        document.report((), "is empty; a configuration begins with deployment:, components: or schedules:")
    elif document.complete and not isinstance(document.value, dict):
        document.report((), f"is {describe(document.value)}, but has to be a mapping of {', '.join(TOP)}")
    if not document.complete or not isinstance(document.value, dict):
        raise ConfigError(document.problems)
    return document


def _load(
    document: Document,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any],
    plugins: Plugins | None,
    now_us: int | None,
) -> Config:
    reading = Reading(Names(plugins), document, list(document.problems))
    for key in document.value:
        if key not in TOP:
            reading.report_path((key,), unknown_key(key, TOP))
    outer = (flag_layer(reading, overrides), environment_layer(reading, environ), file_layer(reading))
    presets = preset_layers(reading)
    mode = _mode(reading, outer, environ)
    layers = (*outer, presets.get(mode, {}), built_in_layer(mode))
    given = {key: layer[key] for layer in reversed(layers) for key in layer}
    values = _settle(reading, given, environ)
    _check_losers(reading, chain(outer, presets.values()), given)

    file = "" if document.file == "(no file)" else document.file
    deployment = _deployment(values, file)
    components = _components(values, deployment)
    placed = read_schedules(reading)
    view = View(deployment, components, given, reading, bool(placed))
    check_contradictions(view)
    origins = {name: given[name].origin if name in given else "default" for name in (*table()[0], *given)}
    origins |= {f"schedules.{item.definition.id}": f"{document.file}:{item.line}" for item in placed}
    config = Config(
        file=file,
        deployment=deployment,
        components=components,
        schedules=tuple(item.definition for item in placed),
        origins=origins,
        chosen=frozenset(name for name in given if given[name].chosen),
        warnings=tuple(in_order(view.warnings + schedule_warnings(reading, placed, now_us))),
        marks=document.marks,
    )
    if reading.problems:
        raise ConfigError(reading.problems, config)
    return config


def _mode(reading: Reading, layers: Iterable[Layer], environ: Mapping[str, str]) -> Mode:
    """The mode decides which presets there are, so it is looked up first; what is wrong with it is reported with
    everything else."""
    for layer in layers:
        if "deployment.mode" in layer:
            try:
                return Mode(structure(resolve(layer["deployment.mode"].value, environ), Mode))
            except (Refused, ValueError):
                reading.doubtful.add("deployment.mode")
                break
    return Mode.FULL


def _settle(reading: Reading, given: Mapping[str, Given], environ: Mapping[str, str]) -> dict[str, Any]:
    """The plain value of each key that was given, with references replaced and known to be of its kind."""
    values: dict[str, Any] = {}
    for name, item in given.items():
        try:
            value = resolve(item.value, environ)
        except ValueError as error:
            reading.report(item, name, str(error))
            continue
        if _fits(reading, name, item, value):
            values[name] = value
    return values


def _check_losers(reading: Reading, layers: Iterable[Layer], winners: Mapping[str, Given]) -> None:
    """A value that another layer overrides has to be right all the same; its references stay unread."""
    for layer in layers:
        for name, item in layer.items():
            if winners.get(name) is not item and not has_reference(item.value):
                _fits(reading, name, item, item.value)


def _fits(reading: Reading, name: str, item: Given, value: Any) -> bool:
    key = reading.names.key(name)
    assert key is not None, name
    try:
        structure(value, key.type)
    except Refused as refused:
        for path, message in refused.problems:
            place = item
            if path and item.path:
                mark = reading.document.mark((*item.path, *path))
                place = evolve(item, path=(*item.path, *path), line=mark.line, column=mark.column)
            if isinstance(value, str) and has_reference(item.value) and not takes_text(key.type):
                variable = f"{PREFIX}{name.removeprefix('components.').replace('.', '__').upper()}"
                message += f"; a reference gives text, but {variable} in the environment is read as what it looks like"
            reading.report(place, dotted((name, *path)), message)
        reading.doubtful.add(name)
        return False
    return True


def _deployment(values: Mapping[str, Any], file: str) -> Deployment:
    tree = {key: values[f"deployment.{key}"] for key in ("name", "mode") if f"deployment.{key}" in values}
    if "name" not in tree:
        tree["name"] = deployment_name(file)
        try:
            structure(tree, Deployment)
        except Refused:  # a directory can be called what a deployment cannot
            tree["name"] = "default"
    deployment: Deployment = structure(tree, Deployment)
    return deployment


def _components(values: Mapping[str, Any], deployment: Deployment) -> Components:
    keys, sections = table()
    tree: dict[str, Any] = {}
    for key in keys.values():
        _, *above, leaf = key.name.split(".")
        if key.name.startswith("components.") and (key.name in values or key.derive):
            place = tree
            for section in above:
                place = place.setdefault(section, {})
            place[leaf] = values[key.name] if key.name in values or not key.derive else key.derive(deployment)
    others: dict[str, dict[str, Any]] = {}
    for name in values:
        root, component, leaf = (*name.split(".", 2), "", "")[:3]
        if root == "components" and f"components.{component}" not in sections:
            others.setdefault(component, {"enabled": True})[leaf] = values[name]
    components: Components = structure(tree, Components)
    return evolve(components, others=others)
