"""The simulated disk: append-only files whose unsynced tail a crash loses or tears."""

from random import Random
from typing import Any

from attrs import Factory, define

from sz_protocol.kernel.record import record


class DiskFull(Exception):
    """No space left: nothing was written."""


class SyncFailed(Exception):
    """The sync reported an error; what was unsynced is not there (and a second sync proves nothing)."""


@record
class Entry:
    """One appended record, written at the true time `at_us`. The disk does not look into `value`."""

    at_us: int
    value: Any


@record
class Lost:
    """An entry that a crash took. `torn`: a part of it reached the disk; recovery finds its checksum wrong and throws
    it away."""

    value: Any
    torn: bool


@define
class File:
    """Entries that survive anything, and entries that a crash may take."""

    durable: list[Entry] = Factory(list)
    pending: list[Entry] = Factory(list)


@define
class SimDisk:
    """What one machine has written down. Appended entries are readable at once and durable after `sync`."""

    rng: Random
    full: bool = False
    sync_fails: bool = False
    _files: dict[str, File] = Factory(dict)

    def append(self, at_us: int, name: str, value: Any) -> None:
        """Write one entry to the file `name`. Raises DiskFull."""
        if self.full:
            raise DiskFull(f"{name}: no space left on device")
        self._file(name).pending.append(Entry(at_us, value))

    def sync(self, name: str) -> None:
        """Make everything durable that was appended to the file. Raises SyncFailed."""
        if self.sync_fails:
            raise SyncFailed(f"{name}: input/output error")
        file = self._file(name)
        file.durable += file.pending
        file.pending.clear()

    def take_back(self, name: str) -> list[Any]:
        """Roll back what is unsynced; returns it, the last first."""
        file = self._file(name)
        taken = [entry.value for entry in reversed(file.pending)]
        file.pending.clear()
        return taken

    def crash(self, name: str) -> list[Lost]:
        """The process died: a prefix of the unsynced entries may have reached the disk, the rest is lost, and the
        first of the rest may be torn. Returns the lost ones, the last first."""
        file = self._file(name)
        survivors = self.rng.randint(0, len(file.pending)) if file.pending else 0
        torn = bool(self.rng.getrandbits(1))
        lost = [Lost(entry.value, torn and not place) for place, entry in enumerate(file.pending[survivors:])]
        file.durable += file.pending[:survivors]
        file.pending.clear()
        lost.reverse()
        return lost

    def rewind(self, name: str, to_us: int) -> list[Any]:
        """The file is replaced by the copy that was made at `to_us`; returns what the copy lacks, the last first."""
        file = self._file(name)
        gone = self.take_back(name)
        while file.durable and file.durable[-1].at_us > to_us:
            gone.append(file.durable.pop().value)
        return gone

    def forget(self, name: str, before_us: int) -> None:
        """Fold durable entries older than this into the base image: no rewind will ask for them."""
        durable = self._file(name).durable
        keep = 0
        while keep < len(durable) and durable[keep].at_us < before_us:
            keep += 1
        del durable[:keep]

    def wipe(self, name: str) -> None:
        """The file is gone."""
        self._files.pop(name, None)

    def entries(self, name: str) -> list[Any]:
        """What a reader of the file sees, in order."""
        file = self._file(name)
        return [entry.value for entry in (*file.durable, *file.pending)]

    def unsynced(self, name: str) -> list[Any]:
        """What a crash might take, in order."""
        return [entry.value for entry in self._file(name).pending]

    def _file(self, name: str) -> File:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = File()
        return file
