"""Keys in files: what a server takes from its directory, and that half a set-up is never taken for none."""

from pathlib import Path

import anyio
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from sz_protocol.kernel.events import AllowedKey
from sz_runtime.config.model import RegistrationServer
from sz_runtime.ports import LinkError
from sz_shells.links.zmq import key_files, keys_directory
from sz_shells.links.zmq.addresses import is_loopback
from sz_shells.links.zmq.key_files import KeyProblem, Role, new_keys, read_public, read_secret, revoke
from sz_shells.links.zmq.keys_directory import KeysDirectory, server_key
from sz_shells.links.zmq.securing import refuses_to_listen, secure_server
from tests.shells.links_zmq.rig import until

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=30)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(NAMES, st.none() | st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, owner: str, methods: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("keys")
    made = new_keys(directory, "k", Role.HANDLER, owner, methods)
    assert (made.handler_id, made.methods) == (owner, None if methods is None else tuple(methods))
    assert read_public(directory / "k.pub") == made
    assert zmq.curve_public(read_secret(directory / "k.secret", made.key).encode()).decode() == made.key
    void = revoke(directory, "k")
    assert void.revoked is not None
    assert read_public(directory / "k.pub") == void


def test_no_key_holds_what_a_configuration_takes_for_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = iter([(b"a${b", b"s"), (b"p", b"s${"), (b"p", b"s")])
    monkeypatch.setattr(zmq, "curve_keypair", lambda: next(pairs))
    assert key_files._pair() == ("p", "s")


def test_a_server_finds_its_key(keys: Path) -> None:
    assert server_key(keys) is None, "no directory: no keys"
    made = new_keys(keys, "mine", Role.SERVER)
    found = server_key(keys)
    assert found is not None
    assert found.public_key == made.key
    assert found.secret_key == (keys / "mine.secret").read_text().strip()
    assert found.secret_key not in repr(found)


def test_half_a_set_up_is_not_taken_for_none(keys: Path) -> None:
    new_keys(keys, "edge", Role.HANDLER)
    with pytest.raises(KeyProblem, match="has keys, but no valid one of the server"):
        server_key(keys)
    (keys / "edge.pub").write_text("role: serv")
    with pytest.raises(KeyProblem, match="role: has to be one of server, handler"):
        server_key(keys)
    new_keys(keys, "server", Role.SERVER)
    for mode in (0o644, 0o660, 0o604):
        (keys / "server.secret").chmod(mode)
        with pytest.raises(KeyProblem, match=rf"others than its owner can use it \(mode {mode:04o}\); chmod 600"):
            server_key(keys)
    (keys / "server.secret").chmod(0o640)
    server_key(keys)
    (keys / "server.secret").write_bytes(zmq.curve_keypair()[1])
    (keys / "server.secret").chmod(0o600)
    with pytest.raises(KeyProblem, match=r"server.secret: is not the secret key to server\.pub"):
        server_key(keys)
    (keys / "server.secret").unlink()
    with pytest.raises(KeyProblem, match=r"server.secret: cannot be read: No such file"):
        server_key(keys)


def test_two_servers_keys_are_one_too_many(keys: Path, tmp_path: Path) -> None:
    new_keys(keys, "one", Role.SERVER)
    new_keys(tmp_path / "other", "two", Role.SERVER)
    (tmp_path / "other" / "two.pub").rename(keys / "two.pub")
    with pytest.raises(KeyProblem, match="has two keys of the server, one and two; revoke one"):
        server_key(keys)


def test_a_public_file_names_what_is_wrong_with_it(keys: Path) -> None:
    made = new_keys(keys, "edge", Role.HANDLER)
    path = keys / "edge.pub"
    text = path.read_text()
    for before, after, message in [
        ("methods: all", "methods: some", 'methods: is the text "some", but has to be all, or a list of methods'),
        ("methods: all", "methods: []", "methods: is a list, but has to be all, or a list of methods"),
        ("methods: all", "methods: [7]", "methods: is the number 7, but has to be text"),
        (made.key, made.key[1:], "public_key: is no public key of 40 characters"),
        ('handler_id: "edge"', "", "handler_id: is missing"),
        ("role: handler", "role: handler\nrole: server", "role: stands on line 2 already"),
    ]:
        path.write_text(text.replace(before, after))
        with pytest.raises(KeyProblem) as caught:
            read_public(path)
        assert str(caught.value).startswith(f"{path}:")
        assert message in str(caught.value)


def test_the_allowlist(keys: Path) -> None:
    one = new_keys(keys, "one", Role.HANDLER, "edge", ["a"])
    two = new_keys(keys, "two", Role.HANDLER)
    server = new_keys(keys, "server", Role.SERVER)
    void = new_keys(keys, "void", Role.HANDLER)
    revoke(keys, "void")
    (keys / "broken.pub").write_text(f"public_key: '{void.key}'")
    # Somebody has copied a public file, and says that the key in it is another handler's; and a revoked one.
    (keys / "zzz.pub").write_text((keys / "one.pub").read_text().replace("edge", "another"))
    (keys / "aaa.pub").write_text((keys / "void.pub").read_text().replace(f'revoked: "{read_void(keys)}"', "revoked:"))
    found = KeysDirectory(keys)
    assert found.allowed == (AllowedKey(one.key, "edge", ("a",)), AllowedKey(two.key, "two"))
    assert [found.allows(key) for key in (one.key, two.key, server.key, void.key, "")] == [True, True, *[False] * 3]


def read_void(keys: Path) -> str | None:
    return read_public(keys / "void.pub").revoked


@pytest.mark.anyio
async def test_the_allowlist_follows_its_directory(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_directory, "WATCH_S", 0.01)
    one = new_keys(keys, "one", Role.HANDLER)
    changes: list[tuple[AllowedKey, ...]] = []
    revoked: list[str] = []
    found = KeysDirectory(keys, changes.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(found.watch, revoked.append)
        two = new_keys(keys, "two", Role.HANDLER)
        await until(lambda: found.allows(two.key))
        revoke(keys, "one")
        await until(lambda: revoked == [one.key])
        assert not found.allows(one.key)
        assert changes[-1] == found.allowed == (AllowedKey(two.key, "two"),)
        keys.rename(keys.with_name("away"))
        await anyio.sleep(0.1)
        assert found.allows(two.key), "a directory that cannot be read changes nothing"
        keys.with_name("away").rename(keys)
        (keys / "two.pub").write_text("gone wrong")
        await until(lambda: revoked == [one.key, two.key])
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("address", "only_here"),
    [
        ("tcp://127.0.0.1:5556", True),
        ("tcp://127.8.9.1:*", True),
        ("tcp://localhost:5556", True),
        ("tcp://[::1]:5556", True),
        ("ipc:///run/sz", True),
        ("tcp://*:5556", False),
        ("tcp://0.0.0.0:5556", False),
        ("tcp://[::]:5556", False),
        ("tcp://10.0.0.1:5556", False),
        ("tcp://eth0:5556", False),
        ("tcp://localhost.example:5556", False),
    ],
)
def test_what_others_can_reach(address: str, only_here: bool) -> None:
    assert is_loopback(address) is only_here


def test_beyond_this_host_nobody_listens_without_keys(keys: Path) -> None:
    """ZMQ-1."""
    local = RegistrationServer(keys=str(keys))  # type: ignore[arg-type]
    public = RegistrationServer(address="tcp://0.0.0.0:5556", keys=str(keys))  # type: ignore[arg-type]
    bold = RegistrationServer(address="tcp://0.0.0.0:5556", keys=str(keys), allow_insecure=True)  # type: ignore[arg-type]
    assert refuses_to_listen(local) == refuses_to_listen(bold) == ""
    refusal = refuses_to_listen(public)
    assert "tcp://0.0.0.0:5556 can be reached from other hosts" in refusal
    assert f"`schedulezero keys new server --server --dir {keys}`" in refusal
    assert refusal.endswith("registration_server.allow_insecure: true")
    with pytest.raises(LinkError, match="can be reached from other hosts"):
        secure_server(public)
    assert secure_server(bold).security is None
    new_keys(keys, "edge", Role.HANDLER)
    for server in (local, public, bold):
        assert "has keys, but no valid one of the server" in refuses_to_listen(server)
    new_keys(keys, "server", Role.SERVER)
    for server in (local, public, bold):
        assert refuses_to_listen(server) == ""
        assert secure_server(server).security is not None
