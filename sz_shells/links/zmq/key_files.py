"""Keys in a directory: for each a public file, NAME.pub, and where it was made a secret one, NAME.secret.

The public file says whose key it is and what it may do; in a server's directory it is what lets the key in. It is YAML,
may be shown and copied, and is replaced as a whole. The secret file is one line, made for its owner
alone; his group may be let read it.
"""

import json
import os
import re
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

import zmq
from attrs import evolve, frozen

from sz_protocol.wire_values import Problems, describe, nearest, read_name
from sz_runtime.config.yaml_lines import Document, read_document

PUBLIC, SECRET = ".pub", ".secret"
MAX_FILE = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>(){}@%$#\[\]-]{40}\Z")
_FIELDS = ("role", "public_key", "handler_id", "methods", "created", "revoked")
_HEAD = """\
# A public key of ScheduleZero. It may be shown, mailed and copied; the secret one lies in {secret}.
"""


class KeyProblem(Exception):
    """Keys cannot be read or written; the message is for a person, and holds no secret."""


class Role(StrEnum):
    """Whose key it is."""

    SERVER = "server"
    HANDLER = "handler"


@frozen
class PublicKey:
    """What a public file says. `methods` None: all; `created` and `revoked` are texts in ISO 8601."""

    name: str
    role: Role
    key: str
    handler_id: str | None
    methods: tuple[str, ...] | None
    created: str
    revoked: str | None = None


def new_keys(
    directory: Path, name: str, role: Role, handler_id: str | None = None, methods: Iterable[str] | None = None
) -> PublicKey:
    """Make a pair and write both files, in a directory that is made where it is missing. Raises KeyProblem."""
    if not _NAME.match(name):
        raise KeyProblem(f"{name!r} cannot name a key: use letters, digits, dots, dashes and underscores")
    public, secret = _pair()
    listed = None if methods is None else tuple(dict.fromkeys(methods))
    owner = None if role is Role.SERVER else name if handler_id is None else handler_id
    made = PublicKey(name, role, public, owner, listed, now())
    _check(made, directory)
    paths = directory / f"{name}{SECRET}", directory / f"{name}{PUBLIC}"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in paths:
            if os.path.lexists(path):
                raise KeyProblem(f"{path}: is there already; a key is never overwritten: choose another name")
        _create(paths[0], f"{secret}\n", 0o600)
        try:
            _create(paths[1], _text(made), 0o644)
        except BaseException:
            paths[0].unlink()
            raise
    except OSError as error:
        raise KeyProblem(f"{error.filename or directory}: cannot be written: {error.strerror or error}") from error
    return made


def revoke(directory: Path, name: str) -> PublicKey:
    """Note in its public file that a key is void from now on; one that is void already stays as it is. Raises
    KeyProblem."""
    path = directory / f"{name}{PUBLIC}"
    if not _NAME.match(name) or not path.is_file():
        known = [file.stem for file in public_files(directory)]
        raise KeyProblem(f"{directory} has no key {name!r}; {nearest(name, known) if known else 'it has none at all'}")
    found = read_public(path)
    if found.revoked is not None:
        return found
    void = evolve(found, revoked=now())
    fresh = directory / f".{name}{PUBLIC}.new"
    try:
        fresh.unlink(missing_ok=True)
        _create(fresh, _text(void), 0o644)
        fresh.replace(path)
    except OSError as error:
        raise KeyProblem(f"{path}: cannot be written: {error.strerror or error}") from error
    return void


def public_files(directory: Path) -> list[Path]:
    """The public files of a directory, by name; none where there is no such directory. Raises KeyProblem."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == PUBLIC and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeyProblem(f"{directory}: cannot be read: {error.strerror or error}") from error


def read_directory(directory: Path) -> tuple[list[PublicKey], list[str]]:
    """All public keys of a directory, and what is wrong with files that hold none. Raises KeyProblem."""
    keys, problems = [], []
    for path in public_files(directory):
        try:
            keys.append(read_public(path))
        except KeyProblem as problem:
            problems.append(str(problem))
    return keys, problems


def read_public(path: Path) -> PublicKey:
    """One public file. Raises KeyProblem."""
    document = read_document(_content(path), str(path))
    if document.problems or not isinstance(document.value, dict):
        raise KeyProblem(
            str(document.problems[0]) if document.problems else f"{path}: is no public key of ScheduleZero"
        )
    return _Fields(document).key(path.stem)


def server_key_of(known: str | Path) -> str:
    """The public key of a server: its text, or the path of its public file. Raises KeyProblem."""
    if isinstance(known, str) and _KEY.match(known):
        return known
    if not Path(known).is_file():
        raise KeyProblem(f"{known}: is neither a public key of 40 characters nor a file of one")
    found = read_public(Path(known))
    if found.role is not Role.SERVER:
        raise KeyProblem(f"{known}: is the key of {found.role} {found.handler_id}, not that of a server")
    return found.key


def secret_key_of(known: str | Path) -> str:
    """A secret key: its text, or the path of its file. Raises KeyProblem, which does not repeat it."""
    if isinstance(known, str) and _KEY.match(known):
        return known
    return read_secret(Path(known))


def read_secret(path: Path, public: str | None = None) -> str:
    """The secret key in a file, which has to belong to `public` where that is given. Raises KeyProblem."""
    text = _content(path).decode("ascii", "replace").strip()
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o027:
        raise KeyProblem(f"{path}: others than its owner can use it (mode {mode:04o}); chmod 600 {path}")
    if not _KEY.match(text):
        raise KeyProblem(f"{path}: holds no secret key: one line of 40 characters")
    if public is not None and zmq.curve_public(text.encode()).decode() != public:
        raise KeyProblem(f"{path}: is not the secret key to {path.with_suffix(PUBLIC).name}")
    return text


def now() -> str:
    """This second, as public files have it."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def _pair() -> tuple[str, str]:
    """A new public and secret key that can stand in a configuration: `${` would be a reference there."""
    while True:
        public, secret = (key.decode("ascii") for key in zmq.curve_keypair())
        if "${" not in public + secret:
            return public, secret


def _check(key: PublicKey, directory: Path) -> None:
    problems: Problems = []
    for path, name in (("handler id", key.handler_id), *(("method", method) for method in key.methods or ())):
        if name is not None:
            read_name(name, (path,), problems)
    if problems:
        raise KeyProblem(f"{problems[0][0][0]}: {problems[0][1]}")
    if key.methods == ():
        raise KeyProblem("a key without any method is of no use; leave the methods out for all")
    if key.role is Role.SERVER and (active := server_keys(read_directory(directory)[0])):
        raise KeyProblem(
            f"{directory}: has a server key already, {active[0].name}; to replace it, revoke it first "
            f"(`schedulezero keys revoke {active[0].name}`)"
        )


def server_keys(keys: Iterable[PublicKey]) -> list[PublicKey]:
    """The keys of servers that are not revoked."""
    return [key for key in keys if key.role is Role.SERVER and key.revoked is None]


def _text(key: PublicKey) -> str:
    # JSON texts are YAML texts, whatever they hold.
    methods = "all" if key.methods is None else json.dumps(list(key.methods), ensure_ascii=False)
    lines = [f"role: {key.role}", f"public_key: {json.dumps(key.key)}"]
    if key.role is Role.HANDLER:
        lines += [f"handler_id: {json.dumps(key.handler_id, ensure_ascii=False)}", f"methods: {methods}"]
    lines += [f"created: {json.dumps(key.created)}", f"revoked: {json.dumps(key.revoked)}"]
    return _HEAD.format(secret=f"{key.name}{SECRET}") + "\n".join(lines) + "\n"


def _create(path: Path, text: str, mode: int) -> None:
    """Write a new file, to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _content(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise KeyProblem(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_FILE:
        raise KeyProblem(f"{path}: is too large for a key")
    return data


class _Fields:
    """The fields of one public file, strictly read."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._value: dict[str, Any] = document.value

    def key(self, name: str) -> PublicKey:
        for field in self._value:
            if field not in _FIELDS:
                self._refuse(field, f"unknown key; {nearest(field, _FIELDS)}")
        role = self._text("role")
        if role not in list(Role):
            self._refuse("role", f"has to be one of {', '.join(Role)}")
        key = self._text("public_key")
        if not _KEY.match(key):
            self._refuse("public_key", "is no public key of 40 characters")
        handler = role == Role.HANDLER
        owner, methods = (self._text("handler_id"), self._methods()) if handler else (None, None)
        revoked = None if self._value.get("revoked") is None else self._text("revoked")
        return PublicKey(name, Role(role), key, owner, methods, self._text("created"), revoked)

    def _methods(self) -> tuple[str, ...] | None:
        found = self._value.get("methods")
        if found == "all":
            return None
        if not isinstance(found, list) or not found:
            self._refuse("methods", f"is {describe(found)}, but has to be all, or a list of methods")
        for method in found:
            self._name("methods", method)
        return tuple(found)

    def _text(self, field: str) -> str:
        if field not in self._value:
            self._refuse(field, "is missing")
        return self._name(field, self._value[field])

    def _name(self, field: str, value: Any) -> str:
        problems: Problems = []
        read_name(value, (), problems)
        if problems:
            self._refuse(field, problems[0][1])
        return str(value)

    def _refuse(self, field: str, message: str) -> NoReturn:
        self._document.report((field,), message)
        raise KeyProblem(str(self._document.problems[-1]))
