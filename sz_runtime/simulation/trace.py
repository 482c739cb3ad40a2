"""The trace of a run: an append-only list of records and a running hash over their canonical encoding."""

from collections.abc import Callable
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgpack
from attrs import Factory, define, fields

from sz_runtime.simulation.facts import Noted

Listener = Callable[[Any], None]

_values: dict[type[Noted], Callable[[Any], tuple[Any, ...]]] = {}


def encode(record: Noted) -> bytes:
    """The canonical bytes of a record: its kind and its fields, in order, as msgpack. Contains no hash, address or
    set, so that the same run has the same bytes in every process."""
    kind = type(record)
    values = _values.get(kind)
    if values is None:
        values = _values[kind] = attrgetter(*(field.name for field in fields(kind)))
    packed: bytes = msgpack.packb((kind.__name__, values(record)))
    return packed


@define
class Trace:
    """Takes records, hashes them, hands each to those who listen for its kind, and keeps them where asked to
    (`keep`): a soak run listens only, so that its memory stays flat."""

    keep: bool = True
    records: list[Noted] = Factory(list)
    count: int = 0
    last_us: int = 0
    _hash: Any = Factory(lambda: blake2b(digest_size=16))
    _listeners: dict[type[Noted], list[Listener]] = Factory(dict)

    def add(self, record: Noted) -> None:
        """Append one record."""
        self.count += 1
        self.last_us = record.at_us
        self._hash.update(encode(record))
        if self.keep:
            self.records.append(record)
        for listener in self._listeners.get(type(record), ()):
            listener(record)

    def listen(self, kind: type[Noted], listener: Listener) -> None:
        """Call `listener` with every record of `kind` from now on, in the order of listening."""
        self._listeners.setdefault(kind, []).append(listener)

    @property
    def hash(self) -> str:
        """Names everything that has happened so far, in hexadecimal."""
        digest: str = self._hash.hexdigest()
        return digest
