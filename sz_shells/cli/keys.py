"""`schedulezero keys new | list | revoke`: the keys that servers and remote handlers know each other by."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sz_shells.cli.common import FAILED, OK, USAGE, emit_json, fail, load_or_exit, print_table
from sz_shells.cli.options import OutputOption, SetOption

if TYPE_CHECKING:
    from sz_shells.links.zmq.key_files import PublicKey

DirOption = Annotated[
    str | None,
    Parameter(name="--dir", help="The directory of keys. Default: the one that the configuration names."),
]


def new(
    name: str,
    config: str | None = None,
    /,
    *,
    handler_id: Annotated[str | None, Parameter(help="The handler whose key it is. Default: NAME.")] = None,
    method: Annotated[
        list[str] | None, Parameter(negative=(), help="A method that it may offer; may be repeated. Default: all.")
    ] = None,
    server: Annotated[bool, Parameter(negative=(), help="A key for the server itself.")] = False,
    directory: DirOption = None,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Make a pair of keys, NAME.pub and NAME.secret, and say what belongs where. The secret one is never printed.

    A server lets in the handlers whose public keys lie in its directory. A running server sees a new one within
    seconds.

    Parameters
    ----------
    name
        What the two files are called.
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_shells.links.zmq.key_files import SECRET, KeyProblem, Role, new_keys

    if server and (handler_id is not None or method):
        fail("--server makes a key for the server: it has neither --handler-id nor --method", USAGE)
    place = _directory(directory, config, settings)
    try:
        made = new_keys(place, name, Role.SERVER if server else Role.HANDLER, handler_id, method)
        known = _server_key(place)
    except KeyProblem as problem:
        fail(str(problem))
    secret = place / f"{name}{SECRET}"
    if output == "json":
        emit_json(as_object(made, place) | {"secret_file": str(secret), "server_public_key": known})
    elif server:
        sys.stdout.write(_about_server(made, place, secret))
    else:
        sys.stdout.write(_about_handler(made, place, secret, known, directory))
    return OK


def list_(
    config: str | None = None,
    /,
    *,
    directory: DirOption = None,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Show the public keys of a directory: whose they are, and whether they are still let in.

    Ends with code 1 where a file cannot be read: a server lets nobody in for it.

    Parameters
    ----------
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_shells.links.zmq.key_files import KeyProblem, read_directory

    place = _directory(directory, config, settings)
    try:
        keys, problems = read_directory(place)
    except KeyProblem as problem:
        fail(str(problem))
    if output == "json":
        emit_json([as_object(key, place) for key in keys])
    elif keys:
        columns = ("name", "role", "handler", "methods", "created (UTC)", "revoked (UTC)", "public key")
        print_table("", columns, map(_cells, keys))
    else:
        sys.stdout.write(f"{place}: no keys\n")
    for line in problems:
        sys.stderr.write(f"{line}\n")
    return FAILED if problems else OK


def revoke(
    name: str,
    config: str | None = None,
    /,
    *,
    directory: DirOption = None,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Make a key void, for good: a running server ends its connections within seconds, and lets it in no more.

    Parameters
    ----------
    name
        The name of the key, as `keys list` shows it.
    config
        Configuration file, or the directory or name of a deployment.
    """
    from sz_shells.links.zmq.key_files import KeyProblem, Role
    from sz_shells.links.zmq.key_files import revoke as make_void

    place = _directory(directory, config, settings)
    try:
        void = make_void(place, name)
    except KeyProblem as problem:
        fail(str(problem))
    if output == "json":
        emit_json(as_object(void, place))
        return OK
    sys.stdout.write(f"{name}: void since {void.revoked}\n")
    if void.role is Role.SERVER:
        sys.stdout.write(
            "A server takes its key when it starts: make a new one (`schedulezero keys new NAME --server`), give its\n"
            "public key to every handler, and restart the server.\n"
        )
    return OK


def as_object(key: "PublicKey", directory: Path) -> dict[str, Any]:
    """One public key as plain data."""
    return {
        "name": key.name,
        "role": str(key.role),
        "handler_id": key.handler_id,
        "methods": None if key.methods is None else list(key.methods),
        "created": key.created,
        "revoked": key.revoked,
        "public_key": key.key,
        "public_file": str(directory / f"{key.name}.pub"),
    }


def _directory(directory: str | None, config: str | None, settings: list[str] | None) -> Path:
    if directory is not None:
        return Path(directory)
    return Path(load_or_exit(config, settings).components.handlers.remote.registration_server.keys)


def _server_key(directory: Path) -> str | None:
    from sz_shells.links.zmq.key_files import read_directory, server_keys

    active = server_keys(read_directory(directory)[0])
    return active[0].key if active else None


def _cells(key: "PublicKey") -> tuple[object, ...]:
    methods = "" if key.handler_id is None else "all" if key.methods is None else ", ".join(key.methods)
    return key.name, key.role, key.handler_id, methods, key.created, key.revoked, key.key


def _about_server(made: "PublicKey", directory: Path, secret: Path) -> str:
    return f"""\
{made.name}: the key of the server
  {secret}   stays here: it is nobody else's business
  {directory / f"{made.name}.pub"}   says its public key, which every handler needs:
    server_public_key: "{made.key}"
The server takes it when it starts. From then on it lets in those alone whose keys lie in {directory}:
make one for each handler, with `schedulezero keys new NAME`.
"""


def _about_handler(made: "PublicKey", directory: Path, secret: Path, server_key: str | None, given: str | None) -> str:
    there = "" if given is None else f" --dir {shlex.quote(given)}"
    methods = "all methods" if made.methods is None else f"the methods {', '.join(made.methods)}"
    text = f"""\
{made.name}: a key for handler {made.handler_id}, {methods}
  {directory / f"{made.name}.pub"}   belongs into the server's directory of keys: it lets this key in
  {secret}   belongs to the handler's host alone: move it there (mode 0600), keep no copy elsewhere
"""
    if server_key is None:
        return f"""{text}\
{directory} holds no key of a server. On the handler's host that is as it should be: send {made.name}.pub to the server,
and get the server's public key from there. On the server, make its key:
    schedulezero keys new server --server{there}
"""
    # A key holds no quotes of either kind.
    return f"""{text}\
The handler needs it, and the server's public key. In a configuration, below zmq_client:
    server_public_key: "{server_key}"
    secret_key: file:/PATH/{secret.name}
For a worker: --server-key '{server_key}' --secret-key {secret.name}
"""
