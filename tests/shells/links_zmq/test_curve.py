"""Keys over real connections: who is let in, as whom, and for how long."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
import zmq
from structlog.testing import capture_logs
from zmq.utils import z85

from sz_protocol.kernel.events import AllowedKey
from sz_runtime.config import parse_config
from sz_runtime.config.model import RegistrationServer
from sz_shells.links.zmq import keys_directory
from sz_shells.links.zmq.connections import MOST_OF_A_KEY
from sz_shells.links.zmq.curve import DOMAIN, ClientSecurity, ServerSecurity
from sz_shells.links.zmq.key_files import PublicKey, Role, new_keys, revoke
from sz_shells.links.zmq.limits import Limits
from sz_shells.links.zmq.monitor import Happened, why_failed
from sz_shells.links.zmq.securing import secure_client, secure_server
from sz_shells.links.zmq.zap import zap_reply
from tests.shells.links_zmq import raw
from tests.shells.links_zmq.rig import connecting, serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keys_directory, "WATCH_S", 0.02)
    directory = tmp_path / "keys"
    new_keys(directory, "server", Role.SERVER)
    return directory


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as found:
        yield found


def levels(lines: list[Any], event: str) -> dict[str, str]:
    """How loudly it was said, by the reason."""
    return {line["because"]: line["log_level"] for line in lines if line["event"] == event}


def securing(keys: Path) -> ServerSecurity:
    found = secure_server(RegistrationServer(keys=str(keys))).security  # type: ignore[arg-type]
    assert found is not None
    return found


def client_of(keys: Path, name: str) -> ClientSecurity:
    """As a worker's configuration would have it."""
    server = [line for line in (keys / "server.pub").read_text().splitlines() if line.startswith("public_key: ")]
    text = f"""
components:
  zmq_client:
    enabled: true
    server_address: tcp://127.0.0.1:1
    server_{server[0]}
    secret_key: file:{keys / name}.secret
"""
    found = secure_client(parse_config(text).components.zmq_client)
    assert found is not None
    return found


def worker(keys: Path, name: str) -> tuple[PublicKey, ClientSecurity]:
    return new_keys(keys, name, Role.HANDLER), client_of(keys, name)


async def test_each_frame_says_whose_key_it_came_with(keys: Path) -> None:
    one, one_s = worker(keys, "one")
    two, two_s = worker(keys, "two")
    async with (
        serving(security=securing(keys), echo=True) as server,
        connecting(server.address, hello=b"1", security=one_s) as first,
        connecting(server.address, hello=b"2", security=two_s) as second,
    ):
        await until(lambda: first.frames == [b"1"] and second.frames == [b"2"])
        assert {data: key for _, key, data in server.frames} == {b"1": one.key, b"2": two.key}


async def test_a_key_that_is_not_in_the_directory_is_refused_until_it_is(keys: Path, tmp_path: Path) -> None:
    stranger = new_keys(tmp_path / "elsewhere", "stranger", Role.HANDLER)
    (tmp_path / "elsewhere" / "stranger.secret").rename(keys / "stranger.secret")
    security = client_of(keys, "stranger")
    async with (
        serving(security=securing(keys)) as server,
        connecting(server.address, security=security, wait=False) as client,
    ):
        await until(lambda: client.link.why_down == "the key is not allowed")
        await until(lambda: server.link.counts["handshake_failed"] > 1)
        assert (client.changes, server.frames) == ([], [])
        (tmp_path / "elsewhere" / "stranger.pub").rename(keys / "stranger.pub")
        await until(lambda: client.up)
        await until(lambda: server.frames)
        assert server.frames[0][1] == stranger.key


async def test_a_revoked_key_is_cut_off_and_nobody_else_is(keys: Path, lines: list[Any]) -> None:
    one, one_s = worker(keys, "one")
    _, two_s = worker(keys, "two")
    revoked: list[str] = []
    async with (
        serving(security=securing(keys), on_revoked=revoked.append) as server,
        connecting(server.address, hello=b"1", security=one_s) as first,
        connecting(server.address, hello=b"2", security=two_s) as second,
    ):
        await until(lambda: len(server.frames) == 2)
        peers = {data: peer for peer, _, data in server.frames}
        revoke(keys, "one")
        await until(lambda: first.changes == [True, False])
        await until(lambda: first.link.why_down == "the key is not allowed")
        assert revoked == [one.key]
        await until(lambda: levels(lines, "zmq_not_connected").get("the key is not allowed") == "warning")
        await until(lambda: not server.link.send(peers[b"1"], b"for one alone"))
        assert first.frames == []
        assert server.link.send(peers[b"2"], b"still here")
        await until(lambda: second.frames == [b"still here"])
        assert second.changes == [True]


async def test_one_key_keeps_nobody_else_out(keys: Path, lines: list[Any]) -> None:
    greedy, greedy_s = worker(keys, "greedy")
    _, other_s = worker(keys, "other")
    limits = Limits(max_connections=MOST_OF_A_KEY + 4)
    async with serving(security=securing(keys), limits=limits, echo=True) as server, AsyncExitStack() as clients:
        for number in range(MOST_OF_A_KEY + 12):
            said = b"%d" % number
            made = connecting(server.address, hello=said, security=greedy_s, retry_s=(60, 60))
            await clients.enter_async_context(made)
            with anyio.fail_after(10):
                while said not in [data for _, _, data in server.frames]:
                    await anyio.sleep(0.01)
        assert server.link.counts["cut"] == 12
        assert all(key == greedy.key for _, key, _ in server.frames)
        other = await clients.enter_async_context(connecting(server.address, hello=b"me too", security=other_s))
        await until(lambda: other.frames == [b"me too"])
        assert levels(lines, "zmq_connection_cut") == {"too many connections with its key": "warning"}


async def test_a_key_that_was_revoked_before_it_spoke_is_not_heard(keys: Path) -> None:
    _, security = worker(keys, "one")
    async with (
        serving(security=securing(keys)) as server,
        connecting(server.address, hello=None, security=security, retry_s=(5, 5)) as client,
    ):
        revoke(keys, "one")
        # Until the server has seen it. Nothing says so from outside: this connection is silent.
        await anyio.sleep(0.5)
        client.link.send(b"me")
        await until(lambda: client.changes == [True, False])
        assert server.frames == []
        assert server.link.counts["refused_key"] == 1


async def test_no_keys_and_wrong_ones_do_not_get_in_and_are_told_so(keys: Path, lines: list[Any]) -> None:
    _, right = worker(keys, "one")
    other, _ = zmq.curve_keypair()
    wrong_server = ClientSecurity(other, right.secret_key)
    async with (
        serving(security=securing(keys)) as server,
        connecting(server.address, wait=False) as open_one,
        connecting(server.address, security=wrong_server, wait=False) as misled,
        connecting(server.address, security=right) as client,
    ):
        with raw.connect(server.address) as liar:
            liar.sendall(raw.greeting(b"CURVE") + raw.command(b"HELLO", bytes(194)))
            await until(lambda: server.link.counts["handshake_failed"] > 3)
        assert open_one.changes == misled.changes == []
        assert open_one.link.why_down.endswith("(does the server want a key? This end was given none)")
        assert misled.link.why_down.endswith("(is the server's public key the right one?)")
        assert client.up
        assert server.texts() == [b"hello"]
    refused = levels(lines, "zmq_not_connected")
    assert len(refused) >= 2
    assert set(refused.values()) == {"warning"}, "a person has to mend it"


def test_a_server_says_which_strangers_have_no_keys() -> None:
    """Where it is the one that notices; else all it sees is that the other end left."""
    mismatch = Happened(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
    assert why_failed(mismatch) == "one end has keys, and the other has none"


async def test_a_client_with_keys_does_not_talk_to_a_server_without(keys: Path) -> None:
    _, security = worker(keys, "one")
    async with serving() as server, connecting(server.address, security=security, wait=False) as client:
        await until(lambda: client.link.why_down not in ("not connected yet", ""))
        await anyio.sleep(0.2)
        assert (client.changes, server.frames) == ([], [])


class Everybody:
    def allows(self, key: str) -> bool:
        return key == z85.encode(bytes(32)).decode()


REQUEST = [b"1.0", b"7", DOMAIN.encode(), b"127.0.0.1", b"", b"CURVE", bytes(32)]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, b"1.1"),
        (2, b""),
        (2, b"*"),
        (2, b"other"),
        (5, b"NULL"),
        (5, b"PLAIN"),
        (6, b""),
        (6, bytes(31)),
        (6, b"x" * 32),
    ],
)
def test_zap_lets_in_exactly_whom_it_should(place: int, value: bytes) -> None:
    allowlist = Everybody()
    assert zap_reply(REQUEST, allowlist) == (  # type: ignore[arg-type]
        [b"1.0", b"7", b"200", b"OK", z85.encode(bytes(32)), b""],
        "",
    )
    request = [*REQUEST[:place], value, *REQUEST[place + 1 :]]
    reply, refused = zap_reply(request, allowlist)  # type: ignore[arg-type]
    assert refused
    assert reply == [b"1.0", b"7", b"400", refused.encode(), b"", b""]


def test_zap_answers_what_is_no_request() -> None:
    for length in range(len(REQUEST)):
        reply, refused = zap_reply(REQUEST[:length], Everybody())  # type: ignore[arg-type]
        assert refused
        assert reply[2] == b"400"
    assert zap_reply([*REQUEST, b"more"], Everybody())[1]  # type: ignore[arg-type]


def test_an_allowed_key_is_plain_data(keys: Path) -> None:
    made = new_keys(keys, "edge", Role.HANDLER, "edge-7", ["collect"])
    found = secure_server(RegistrationServer(keys=str(keys))).directory  # type: ignore[arg-type]
    assert found is not None
    assert found.allowed == (AllowedKey(made.key, "edge-7", ("collect",)),)
