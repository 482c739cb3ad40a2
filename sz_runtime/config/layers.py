"""Where values come from: flags, the environment, the file, its presets, the built-in presets. Each layer is read
into a flat mapping from dotted key to what was given there; the first layer that has a key wins.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_origin

from attrs import Factory, define, frozen

from sz_protocol.wire_values import describe, nearest, quote
from sz_runtime.config.keys import Names, table
from sz_runtime.config.kinds import Mode, takes_text
from sz_runtime.config.presets import PRESETS
from sz_runtime.config.problems import Mark, Path, Problem, dotted, problem_at
from sz_runtime.config.yaml_lines import Document, read_document

PREFIX = "SCHEDULEZERO__"


@frozen
class Given:
    """A value as it was written. `origin` is what people are told; `path` leads to it in the file (() elsewhere);
    `chosen` says that the owner of this deployment wrote it (no preset did)."""

    value: Any
    origin: str
    file: str
    line: int = 0
    column: int = 0
    path: Path = ()
    chosen: bool = True


Layer = dict[str, Given]


@define
class Reading:
    """What the layers are read with. `doubtful` has the keys that a misspelt or refused key may have meant."""

    names: Names
    document: Document
    problems: list[Problem] = Factory(list)
    doubtful: set[str] = Factory(set)

    def report(self, given: Given, key: str, message: str) -> None:
        """A problem at a value."""
        self.doubtful.add(key)
        if given.path not in self.document.trapped:
            self.problems.append(problem_at(given.file, Mark(given.line, given.column), key, message))

    def report_path(self, path: Path, message: str) -> None:
        """A problem at a place of the file."""
        if path not in self.document.trapped:
            self.problems.append(problem_at(self.document.file, self.document.mark(path), dotted(path), message))


def file_layer(reading: Reading) -> Layer:
    """What `deployment:` and `components:` of the file say."""
    layer: Layer = {}
    for root in ("deployment", "components"):
        tree = reading.document.value.get(root)
        for path, name, value in _leaves(reading, tree, (root,), root, dots=False):
            layer[name] = _in_file(reading, path, value)
    return layer


def preset_layers(reading: Reading) -> dict[Mode, Layer]:
    """What `presets:` of the file says, for each mode."""
    tree = reading.document.value.get("presets")
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        reading.report_path(("presets",), f"is {describe(tree)}, but has to be a mapping of {', '.join(Mode)}")
        return {}
    layers: dict[Mode, Layer] = {}
    for mode, preset in tree.items():
        path: Path = ("presets", mode)
        if mode not in list(Mode):
            reading.report_path(path, f"is no mode; {nearest(mode, list(Mode))}")
        elif not isinstance(preset, dict) or list(preset) != ["components"]:
            found = [key for key in preset if key != "components"] if isinstance(preset, dict) else []
            at: Path = (*path, found[0]) if found else path
            reading.report_path(at, 'a preset is a mapping with the one key "components"')
        else:
            layer = layers[Mode(mode)] = {}
            leaves = _leaves(reading, preset["components"], (*path, "components"), "components", dots=True)
            for leaf, name, value in leaves:
                if name in layer:
                    reading.report_path(leaf, f"is given twice; first on line {layer[name].line}")
                else:
                    layer[name] = _in_file(reading, leaf, value, preset=mode)
    return layers


def built_in_layer(mode: Mode) -> Layer:
    """The design's preset for this mode."""
    origin = f"preset {mode} (built in)"
    return {f"components.{name}": Given(value, origin, "", chosen=False) for name, value in PRESETS[mode].items()}


def environment_layer(reading: Reading, environ: Mapping[str, str]) -> Layer:
    """SCHEDULEZERO__SECTION__KEY, with or without COMPONENTS after the prefix."""
    layer: Layer = {}
    for variable in sorted(environ):
        if variable.startswith(PREFIX):
            name = variable.removeprefix(PREFIX).lower().replace("__", ".")
            origin = f"environment {variable}"
            _add_text(reading, layer, name, Given(environ[variable], origin, origin))
    return layer


def flag_layer(reading: Reading, overrides: Mapping[str, Any]) -> Layer:
    """What the command line or a program says, by dotted key."""
    layer: Layer = {}
    for name, value in overrides.items():
        given = Given(value, "flag", "flag")
        if isinstance(value, str):
            _add_text(reading, layer, name, given)
        else:
            _add(reading, layer, name, given)
    return layer


def _in_file(reading: Reading, path: Path, value: Any, preset: str = "") -> Given:
    mark, file = reading.document.mark(path), reading.document.file
    place = f"{file}:{mark.line}"
    origin = f"preset {preset} ({place})" if preset else place
    return Given(value, origin, file, mark.line, mark.column, path, chosen=not preset)


def _leaves(reading: Reading, tree: Any, path: Path, name: str, *, dots: bool) -> Iterator[tuple[Path, str, Any]]:
    """(path, dotted key, value) of every known key below a section; the others are reported."""
    if tree is None:
        return
    if not isinstance(tree, dict):
        section = table()[1].get(name)
        choices = f" of {', '.join(section.children)}" if section else ""
        reading.report_path(path, f"is {describe(tree)}, but has to be a mapping{choices}")
        reading.doubtful.add(name)
        return
    for key, value in tree.items():
        inner, place = f"{name}.{key}", (*path, key)
        if "." in key and not dots:
            nested = key.replace(".", ": {", 1)
            reading.report_path(place, f"unknown key {quote(key)}; dots are for presets, here it is {nested}: ...}}")
        elif reading.names.is_section(inner):
            yield from _leaves(reading, value, place, inner, dots=dots)
        elif reading.names.key(inner) is not None:
            yield place, inner, value
        else:
            hint, meant = reading.names.unknown(inner)
            reading.report_path(place, f"unknown key {quote(key)}; {hint}")
            reading.doubtful.add(meant)


def _full_name(reading: Reading, name: str) -> str:
    """`components.` may be left out in flags and in the environment."""
    return name if reading.names.key(name) is not None else f"components.{name}"


def _add(reading: Reading, layer: Layer, name: str, given: Given) -> None:
    full = _full_name(reading, name)
    if reading.names.key(full) is None:
        root = name.partition(".")[0]
        hint, _ = reading.names.unknown(name if root in ("components", "deployment") else full)
        reading.report(given, name, f"there is no such key; {hint}")
    elif full in layer:
        reading.report(given, full, f"is given twice, also by {layer[full].origin}")
    else:
        layer[full] = given


def _add_text(reading: Reading, layer: Layer, name: str, given: Given) -> None:
    """Text from outside a file: what the key wants decides how it is read."""
    key = reading.names.key(_full_name(reading, name))
    if key is None:
        _add(reading, layer, name, given)
        return
    value, trouble = text_value(given.value, key.type)
    if trouble:
        reading.report(given, key.name, trouble)
    else:
        _add(reading, layer, name, Given(value, given.origin, given.file))


def text_value(text: str, wanted: Any) -> tuple[Any, str]:
    """The plain value that a text stands for where `wanted` is expected, and a complaint ("" when there is none).
    Text stays text where text is wanted; lists may be written with commas; the rest is read as YAML."""
    if get_origin(wanted) is tuple:
        if not text.lstrip().startswith("["):
            return [item.strip() for item in text.split(",") if item.strip()], ""
    elif takes_text(wanted):
        return text, ""
    if not text.strip():
        return None, "is empty"
    document = read_document(text, "")
    if document.problems or not document.complete:
        return None, document.problems[0].message if document.problems else "cannot be read"
    return document.value, ""
