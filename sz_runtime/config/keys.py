"""The table of all keys, derived from the model: dotted name -> kind, default and help."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, get_type_hints

from attrs import Attribute, fields, frozen

from sz_protocol.wire_values import nearest
from sz_runtime.config.model import Components, Deployment
from sz_runtime.config.third_parties import Plugins, installed

ROOTS: Mapping[str, type] = {"deployment": Deployment, "components": Components}


@frozen
class Key:
    """One leaf. `attributes` lead to it from a Config; `type` is a kind, an optional kind or a tuple of one kind;
    `derive` stands in for `default` where that depends on the deployment."""

    name: str
    attributes: tuple[str, ...]
    type: Any
    default: Any
    doc: str
    derive: Callable[[Deployment], Any] | None = None


@frozen
class Section:
    """A mapping of keys: what the document calls a component or a part of one."""

    name: str
    doc: str
    children: tuple[str, ...]


def file_name(attribute: "Attribute[Any]") -> str:
    """What an attribute is called in the file."""
    return attribute.metadata.get("name") or attribute.name


def _walk(kind: type, prefix: str, above: tuple[str, ...], doc: str) -> Iterator[Key | Section]:
    hints = get_type_hints(kind)
    known = [attribute for attribute in fields(kind) if "doc" in attribute.metadata]
    yield Section(prefix, doc, tuple(map(file_name, known)))
    for attribute in known:
        name, meta = f"{prefix}.{file_name(attribute)}", attribute.metadata
        if "section" in meta:
            yield from _walk(hints[attribute.name], name, (*above, attribute.name), meta["doc"])
        else:
            default = getattr(kind(), attribute.name)
            yield Key(name, (*above, attribute.name), hints[attribute.name], default, meta["doc"], meta["derive"])


@cache
def table() -> tuple[Mapping[str, Key], Mapping[str, Section]]:
    """All keys and all sections, in the order of the model."""
    keys: dict[str, Key] = {}
    sections: dict[str, Section] = {}
    for root, kind in ROOTS.items():
        for found in _walk(kind, root, (root,), (kind.__doc__ or "").strip()):
            if isinstance(found, Key):
                keys[found.name] = found
            else:
                sections[found.name] = found
    return keys, sections


@frozen
class Names:
    """The keys that exist here, those of third-party components included."""

    plugins: Plugins | None = None

    def third_parties(self) -> Plugins:
        """What is installed, or what the caller said is."""
        return installed() if self.plugins is None else self.plugins

    def key(self, name: str) -> Key | None:
        """The key of this dotted name. Every key of a third-party component exists."""
        keys, sections = table()
        if name in keys:
            return keys[name]
        root, _, rest = name.partition(".")
        component, _, leaf = rest.partition(".")
        if root != "components" or not leaf or "." in leaf or f"components.{component}" in sections:
            return None
        if component not in self.third_parties().components:
            return None
        return Key(name, (), bool if leaf == "enabled" else Any, None, "A key of a third-party component.")

    def is_section(self, name: str) -> bool:
        """Whether other keys stand below this name."""
        root, _, component = name.partition(".")
        if name in table()[1]:
            return True
        return root == "components" and "." not in component and component in self.third_parties().components

    def unknown(self, name: str) -> tuple[str, str]:
        """For a name that is neither: what to say, and the name that may have been meant ("" when none is near)."""
        keys, sections = table()
        parent, _, leaf = name.rpartition(".")
        while parent and not self.is_section(parent):
            parent, _, head = parent.rpartition(".")
            leaf = f"{head}.{leaf}"
        children = list(sections[parent].children) if parent in sections else [] if parent else list(ROOTS)
        if parent == "components":
            children += self.third_parties().components
        hint = nearest(leaf, list(dict.fromkeys(children)))  # our own components have entry points too
        meant = hint.split('"')[1] if hint.startswith("did you mean") else ""
        if not meant and leaf in ("host", "port") and "address" in children:
            return "write both into address, as in tcp://HOST:5556", f"{parent}.address"
        elsewhere = [other for other in keys if other.endswith(f".{leaf}")]
        if not meant and len(elsewhere) == 1:
            return f"{hint}; there is {elsewhere[0]}", elsewhere[0]
        if parent == "components" and not meant:
            hint += "; a component of a third party has to be installed"
        return hint, f"{parent}.{meant}" if meant else ""
