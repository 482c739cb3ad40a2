"""One server on one database file: a lock that the operating system takes back when its holder dies, however it dies.

The file stays when the lock is let go: removing it could take another server's lock from under it.
"""

import fcntl
import os
from pathlib import Path
from threading import RLock
from weakref import WeakSet

from sz_runtime.ports import StoreError, StoreInUse


class FileLock:
    """An exclusive lock on `path`; the file says which process holds it. Raises StoreInUse, StoreError, which call the
    holder a `who`."""

    def __init__(self, path: Path, guarded: Path, who: str = "server") -> None:
        self._fd: int | None = None
        with _no_fork:
            self._take(path, guarded, who)
            _held.add(self)

    def _take(self, path: Path, guarded: Path, who: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{guarded}: its lock file cannot be made: {error.strerror}: {path}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(self._fd, 0)
            os.write(self._fd, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            holder = _read_holder(self._fd)
            self._close()
            raise StoreInUse(f"{guarded} is in use by another {who} ({holder}); stop it first") from None
        except OSError as error:
            self._close()
            raise StoreError(f"{guarded} cannot be locked: {error.strerror}: {path}") from error

    def release(self) -> None:
        """Let go. In a forked child the copy is closed already, and the parent's lock is left alone."""
        with _no_fork:
            self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _read_holder(fd: int) -> str:
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return f"process {text}" if text.isdigit() else "process unknown"


_held: WeakSet[FileLock] = WeakSet()
_no_fork = RLock()


def _let_go_in_child() -> None:
    _no_fork.release()
    for lock in list(_held):
        lock._close()


# A lock is shared with forked children (a handler's worker pool, say) and would outlive a killed server in them. A fork
# in another thread waits while a lock is being taken: its child would have a copy that it does not know of.
os.register_at_fork(before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_let_go_in_child)
