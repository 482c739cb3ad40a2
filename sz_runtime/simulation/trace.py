"""The trace of a run: an append-only list of records and a running hash over their canonical encoding.

Records are encoded in batches: who only listens waits for no bytes.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgpack
from attrs import Factory, define, fields

from sz_runtime.simulation.facts import Noted

Listener = Callable[[Any], None]

BATCH = 1024

_packer: Any = msgpack.Packer(autoreset=False)
"""Packs a batch into one buffer, which costs less than joining the bytes of each record."""
_forms: dict[type[Noted], tuple[str, Callable[[Any], tuple[Any, ...]]]] = {}
"""The name of each kind, and how its values are read."""


def encode(records: Iterable[Noted]) -> bytes:
    """The canonical bytes of records: of each its kind and its fields, in order, as msgpack. Contains no hash, address
    or set, so that the same run has the same bytes in every process."""
    _packer.reset()
    pack = _packer.pack
    for record in records:
        kind = type(record)
        try:
            name, values_of = _forms[kind]
        except KeyError:
            name, values_of = _forms[kind] = kind.__name__, attrgetter(*(field.name for field in fields(kind)))
        pack((name, values_of(record)))
    data: bytes = _packer.bytes()
    return data


@define
class Trace:
    """Takes records, hashes them, hands each to those who listen for its kind, and keeps them where asked to
    (`keep`): a soak run listens only, so that its memory stays flat."""

    keep: bool = True
    records: list[Noted] = Factory(list)
    _fresh: list[Noted] = Factory(list)
    """Records that are not in the hash yet."""
    _folded: int = 0
    _last_us: int = 0
    """When the last one that is in the hash happened."""
    _hash: Any = Factory(lambda: blake2b(digest_size=16))
    _listeners: dict[type[Noted], list[Listener]] = Factory(dict)

    def add(self, record: Noted) -> None:
        """Append one record."""
        fresh = self._fresh
        fresh.append(record)
        if len(fresh) >= BATCH:
            self._fold()
        if self.keep:
            self.records.append(record)
        for listener in self._listeners.get(type(record), ()):
            listener(record)

    def listen(self, kind: type[Noted], listener: Listener) -> None:
        """Call `listener` with every record of `kind` from now on, in the order of listening."""
        self._listeners.setdefault(kind, []).append(listener)

    def _fold(self) -> None:
        if not self._fresh:
            return
        self._last_us = self._fresh[-1].at_us
        self._hash.update(encode(self._fresh))
        self._folded += len(self._fresh)
        self._fresh.clear()

    @property
    def last_us(self) -> int:
        """When the last record happened."""
        return self._fresh[-1].at_us if self._fresh else self._last_us

    @property
    def count(self) -> int:
        """How many records there have been."""
        return self._folded + len(self._fresh)

    @property
    def hash(self) -> str:
        """Names everything that has happened so far, in hexadecimal."""
        self._fold()
        digest: str = self._hash.hexdigest()
        return digest
