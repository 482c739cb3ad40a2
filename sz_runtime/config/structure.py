"""From plain values to the model's classes, with cattrs; every hook takes exact types.

cattrs is lax by default (`"no"` becomes True, `3` a string, `"abc"` a list of letters), so that each kind has a hook
of its own here, unknown keys are errors, and nothing is converted that was not written that way.
"""

from functools import cache
from typing import Any, get_args, get_origin

from attrs import fields, has
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override

from sz_protocol.wire_values import Problems, describe
from sz_runtime.config.keys import file_name
from sz_runtime.config.kinds import KINDS, Kind
from sz_runtime.config.secret_text import SecretText, bare


class Refused(Exception):
    """A value that is not of its kind. `problems` holds (path inside the value, message)."""

    def __init__(self, problems: Problems) -> None:
        super().__init__(problems)
        self.problems = problems


@cache
def converter() -> Converter:
    """The strict converter. A third-party component can structure its own section into a class of its own with it."""
    strict = Converter(detailed_validation=False, forbid_extra_keys=True)
    for kind, reading in KINDS.items():
        strict.register_structure_hook(kind, _hook(reading))
    strict.register_structure_hook_func(_is_tuple, _tuple_hook)
    strict.register_structure_hook_factory(has, _class_hook)
    return strict


def structure(value: Any, wanted: Any) -> Any:
    """The value as `wanted`, a kind or a class of the model. Raises Refused."""
    return converter().structure(value, wanted)


def _hook(kind: Kind) -> Any:
    def read(value: Any, _: Any) -> Any:
        problems: Problems = []
        secret = isinstance(value, SecretText)
        if kind.by_reference and isinstance(value, str) and not secret:
            raise Refused([((), f"must not stand here itself; it has to be {kind.text}")])
        result = kind.read(bare(value), (), problems)
        if problems and secret:  # the reader's messages quote the value
            raise Refused([((), f"what {value.shown} stands for does not fit: it has to be {kind.text}")])
        if problems:
            raise Refused(problems)
        if isinstance(value, (dict, list)):
            return value  # free plain data is kept as it is, with the secrets in it
        return SecretText(result, value.shown, value.parts) if secret and isinstance(result, str) else result

    return read


def _is_tuple(wanted: Any) -> bool:
    origin: Any = get_origin(wanted)
    return origin is tuple


def _tuple_hook(value: Any, wanted: Any) -> tuple[Any, ...]:
    inner = get_args(wanted)[0]
    if type(value) is not list:
        raise Refused([((), f"is {describe(value)}, but has to be a list, each item {KINDS[inner].text}")])
    items, problems = [], []
    for index, item in enumerate(value):
        try:
            items.append(structure(item, inner))
        except Refused as refused:
            problems += [((index, *path), message) for path, message in refused.problems]
    if problems:
        raise Refused(problems)
    return tuple(items)


def _class_hook(kind: type) -> Any:
    names = {attribute.name: override(rename=file_name(attribute)) for attribute in fields(kind)}
    return make_dict_structure_fn(kind, converter(), **names)  # type: ignore[arg-type]
