"""Whom a server lets in: the public keys in its directory, followed while it runs."""

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from attrs import field, frozen

from sz_protocol.kernel.events import AllowedKey
from sz_shells.links.zmq.key_files import (
    SECRET,
    KeyProblem,
    Role,
    public_files,
    read_directory,
    read_secret,
    server_keys,
)

WATCH_S = 1.0
"""How often the directory is looked at: so soon a revocation holds."""
_log = structlog.get_logger("schedulezero.zmq")
Signature = tuple[tuple[str, int, int, int, int], ...]


@frozen
class Contents:
    """What a directory holds at one moment."""

    signature: Signature
    allowed: tuple[AllowedKey, ...]
    problems: tuple[str, ...]


class KeysDirectory:
    """An allowlist that follows the files of a directory.

    A file that cannot be read lets nobody in; a directory that cannot be read changes nothing until it can be.
    """

    def __init__(self, directory: Path, on_changed: Callable[[tuple[AllowedKey, ...]], None] = lambda allowed: None):
        """Reads the directory. Raises KeyProblem."""
        self._directory = directory
        self._on_changed = on_changed
        self._contents = _contents(directory)
        self._keys = frozenset(entry.key for entry in self._contents.allowed)
        self._said = ""
        self._complain(self._contents)

    @property
    def allowed(self) -> tuple[AllowedKey, ...]:
        """Who is let in, by the names of the files."""
        return self._contents.allowed

    def allows(self, key: str) -> bool:
        """Whether this key may connect, and be listened to."""
        return key in self._keys

    async def watch(self, on_revoked: Callable[[str], None]) -> None:
        """Follow changes until cancelled; each key that is no longer let in is said once."""
        # A limiter of our own: handlers may have taken all the usual threads.
        limiter = anyio.CapacityLimiter(1)
        while True:
            await anyio.sleep(WATCH_S)
            try:
                changed = await anyio.to_thread.run_sync(self._look, limiter=limiter, abandon_on_cancel=True)
            except KeyProblem as problem:
                self._say(str(problem))
                continue
            if changed is not None:
                self._take(changed, on_revoked)

    def _look(self) -> Contents | None:
        """What is there now, if it is not what was there before."""
        if _signature(self._directory) == self._contents.signature:
            return None
        return _contents(self._directory)

    def _take(self, contents: Contents, on_revoked: Callable[[str], None]) -> None:
        before, self._contents = self._contents, contents
        keys_before, self._keys = self._keys, frozenset(entry.key for entry in contents.allowed)
        self._complain(contents)
        if before.allowed == contents.allowed:
            return
        _log.info("zmq_keys_changed", directory=str(self._directory), allowed=len(contents.allowed))
        self._on_changed(contents.allowed)
        for key in sorted(keys_before - self._keys):
            on_revoked(key)

    def _complain(self, contents: Contents) -> None:
        for problem in contents.problems:
            _log.error("zmq_key_unusable", problem=problem)
        self._said = ""

    def _say(self, problem: str) -> None:
        """Once, not at every look."""
        if problem != self._said:
            self._said = problem
            _log.error("zmq_keys_unreadable", problem=problem)


def _contents(directory: Path) -> Contents:
    # Before the files: what changes while they are read is seen at the next look.
    signature = _signature(directory)
    keys, problems = read_directory(directory)
    void = {key.key for key in keys if key.revoked is not None}
    allowed: dict[str, AllowedKey] = {}
    for key in keys:
        if key.role is not Role.HANDLER or key.key in void:
            continue
        entry = AllowedKey(key.key, key.handler_id or "", key.methods)
        if allowed.setdefault(key.key, entry) != entry:
            problems.append(f"{directory / key.name}.pub: holds a key that another file gives to somebody else")
    return Contents(signature, tuple(allowed.values()), tuple(problems))


def _signature(directory: Path) -> Signature:
    if not directory.is_dir():
        raise KeyProblem(f"{directory}: is gone, or no directory; keys stay as they are")
    found = []
    for path in public_files(directory):
        try:
            status = os.stat(path)
        except OSError:
            found.append((path.name, 0, 0, 0, 0))
        else:
            found.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


@frozen
class ServerKeys:
    """What a server needs for CURVE: its own secret key, and its directory."""

    public_key: str
    secret_key: str = field(repr=False)


def server_key(directory: Path) -> ServerKeys | None:
    """The key of the server whose directory this is; None where there are no keys at all. Raises KeyProblem: half a
    set-up must not be taken for none."""
    keys, problems = read_directory(directory)
    active = server_keys(keys)
    if not active:
        if problems:
            raise KeyProblem(problems[0])
        if keys:
            raise KeyProblem(
                f"{directory}: has keys, but no valid one of the server: `schedulezero keys new server --server`"
            )
        return None
    if len(active) > 1:
        raise KeyProblem(f"{directory}: has two keys of the server, {active[0].name} and {active[1].name}; revoke one")
    secret = read_secret(directory / f"{active[0].name}{SECRET}", active[0].key)
    return ServerKeys(active[0].key, secret)
