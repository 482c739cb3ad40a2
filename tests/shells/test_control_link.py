"""The control link over a real socket: who may use it, what it survives, and what its clients are told."""

import json
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
import structlog

from sz_protocol.codec import MAX_BYTES, encode
from sz_protocol.commands import Applied, Apply, Cancel, Done, Pause, Refusal, RefusalCode, Resume, RunNow, Trigger
from sz_protocol.components import ComponentState
from sz_protocol.messages import Ask, GetStatus, Reload, Reloaded, Status
from sz_protocol.records import ScheduleState
from sz_runtime import control
from sz_runtime.components import ComponentManager
from sz_runtime.config import Config, load_config
from sz_runtime.control import control_path, store_name
from sz_runtime.handlers import LocalHandlerRegistry
from sz_shells.links import control_server, unix_socket
from sz_shells.links.control_client import ControlClient, Expected, NoServer, WrongServer
from sz_shells.links.control_server import control_socket
from sz_shells.links.unix_socket import HEAD, MAX_ADDRESS, ControlError

pytestmark = pytest.mark.anyio
T = TypeVar("T")
VECTORS = Path(__file__).parents[2] / "specs" / "vectors" / "wire.json"
YAML = """\
deployment: {name: office, mode: autonomous}
components:
  scheduler: {datastore: {type: sqlite, path: "%s/jobs.db"}}
schedules:
  - {id: yearly, handler_id: h, method: tick, trigger: {type: cron, expression: "0 0 1 1 *"}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schedulezero.yaml").write_text(YAML % tmp_path)
    return tmp_path


@pytest.fixture
def config(folder: Path) -> Config:
    return load_config(folder / "schedulezero.yaml", environ={})


def manager_of(config: Config) -> ComponentManager:
    registry = LocalHandlerRegistry()
    registry.register("h", lambda: "tick", methods=["tick"])

    async def nap(seconds: float) -> None:
        await anyio.sleep(seconds)

    registry.register("h", nap)
    return ComponentManager(config, registry=registry)


async def ask(path: Path, *requests: Any, expected: Expected | None = None, timeout_s: float = 20) -> list[Any]:
    """Ask over one connection, in a thread, as a command would."""

    def work() -> list[Any]:
        with ControlClient(path, expected, timeout_s) as client:
            return [client.ask(request) for request in requests]

    return await anyio.to_thread.run_sync(work)


async def in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work)


@contextmanager
def raw(path: Path) -> Iterator[socket.socket]:
    """A client that keeps to no rule."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(str(path))
    with connection:
        yield connection


def read_frame(connection: socket.socket) -> bytes:
    head = connection.recv(HEAD.size, socket.MSG_WAITALL)
    return connection.recv(HEAD.unpack(head)[0], socket.MSG_WAITALL) if head else b""


def framed(data: bytes) -> bytes:
    return HEAD.pack(len(data)) + data


# --- what it serves --------------------------------------------------------------------------------------------------


async def test_every_command_reaches_the_node(config: Config, folder: Path) -> None:
    async with manager_of(config) as manager:
        path = Path(manager.components["control"])
        assert path == folder / "control.sock" == Path(control_path(config) or "")
        answers = await ask(
            path,
            Pause("yearly", "holidays"),
            Resume("yearly"),
            Trigger("yearly", "once"),
            RunNow("h", "nap", "k", {"seconds": 30}),
            Pause("nobody"),
            Apply((), source="api", prune=True),
        )
        assert answers[:2] == [Done(), Done()]
        assert isinstance(answers[2], Done)
        assert isinstance(answers[3], Done)
        assert answers[4] == Refusal(RefusalCode.UNKNOWN_SCHEDULE, "no schedule 'nobody'")
        assert answers[5] == Applied()
        run_id = answers[3].detail
        with anyio.fail_after(10):
            while True:
                (status,) = await ask(path, GetStatus())
                if [run.run_id for run in status.executing] == [run_id]:
                    break
        assert await ask(path, Cancel(run_id)) == [Done(run_id)]
        manager.stop(0)
        await manager.wait()


async def test_status_tells_how_the_node_stands(config: Config, folder: Path) -> None:
    async with manager_of(config) as manager:
        (status,) = await ask(folder / "control.sock", GetStatus())
        assert isinstance(status, Status)
        assert (status.deployment, status.mode, status.pid, status.term) == ("office", "autonomous", os.getpid(), 1)
        assert {c.name: c.state for c in status.components} == dict.fromkeys(
            ("handlers", "scheduler", "control"), ComponentState.RUNNING
        )
        assert status.schedules == {ScheduleState.ACTIVE: 1}
        assert [fire.schedule_id for fire in status.next_fires] == ["yearly"]
        assert not status.partial
        (bare,) = await ask(folder / "control.sock", GetStatus(next_fires=0, executing=-5))
        assert bare.next_fires == ()
        await manager.stop_component("scheduler")


async def test_a_status_counts_up_to_its_limit_and_says_so(
    config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "COUNT_PAGE", 2)
    monkeypatch.setattr(control, "COUNT_LIMIT", 4)
    text = (folder / "schedulezero.yaml").read_text()
    line = text.splitlines()[-1]
    (folder / "many.yaml").write_text(text + "".join(line.replace("yearly", f"y{n}") + "\n" for n in range(6)))
    async with manager_of(load_config(folder / "many.yaml", environ={})):
        (status,) = await ask(folder / "control.sock", GetStatus())
        assert status.schedules == {ScheduleState.ACTIVE: 4}
        assert status.partial


async def test_without_a_scheduler_status_answers_and_commands_are_refused(config: Config, folder: Path) -> None:
    (folder / "schedulezero.yaml").write_text((YAML % folder).replace("scheduler: {", "scheduler: {enabled: false, "))
    async with manager_of(load_config(folder / "schedulezero.yaml", environ={})):
        status, refused = await ask(folder / "control.sock", GetStatus(), Pause("yearly"))
        assert status.term is None
        assert refused == Refusal(RefusalCode.UNAVAILABLE, "the scheduler of this node does not run now")


async def test_reload_over_the_link(config: Config, folder: Path) -> None:
    file = folder / "schedulezero.yaml"
    async with manager_of(config):
        file.write_text(file.read_text() + (YAML % folder).splitlines()[-1].replace("yearly", "other") + "\n")
        assert await ask(folder / "control.sock", Reload()) == [Reloaded(("schedules: 1 added",))]
        file.write_text("schedules: 7\n")
        (refused,) = await ask(folder / "control.sock", Reload())
        assert refused.code is RefusalCode.INVALID
        assert "schedulezero.yaml:1: schedules: is the number 7" in refused.message


# --- who may use it --------------------------------------------------------------------------------------------------


async def test_only_its_owner_can_reach_it_from_the_first_moment_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watch every system call that could leave it open: when it becomes visible it is closed to others already."""
    seen: list[tuple[str, int]] = []
    os.umask(os.umask(0))  # whatever the umask is, it does not matter
    before = os.umask(0)
    rename = os.rename

    def watching(source: Path, target: Path) -> None:
        seen.append(("directory", stat.S_IMODE(os.stat(Path(source).parent).st_mode)))
        seen.append(("socket", stat.S_IMODE(os.stat(source).st_mode)))
        assert not Path(target).exists()
        rename(source, target)

    monkeypatch.setattr(os, "rename", watching)
    try:
        async with control_socket(tmp_path / "control.sock"):
            assert seen == [("directory", 0o700), ("socket", 0o600)]
            assert stat.S_IMODE(os.stat(tmp_path / "control.sock").st_mode) == 0o600
            assert sorted(p.name for p in tmp_path.iterdir()) == ["control.sock", "control.sock.lock"]
    finally:
        os.umask(before)
    assert [p.name for p in tmp_path.iterdir()] == ["control.sock.lock"]


async def test_another_user_is_turned_away(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "peer_of", lambda connection: 12345)
    monkeypatch.setattr(control_server, "is_trusted", lambda uid: uid == os.geteuid())
    async with manager_of(config):
        with pytest.raises(ControlError, match="the server closed the connection"):
            await ask(folder / "control.sock", GetStatus())


async def test_the_kernel_says_who_the_other_end_is() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert unix_socket.peer_of(one) == os.geteuid()
    assert unix_socket.is_trusted(os.geteuid())
    assert unix_socket.is_trusted(0)
    assert not unix_socket.is_trusted(os.geteuid() + 4321)


async def test_a_client_refuses_a_server_of_another_user(
    config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sz_shells.links import control_client

    async with manager_of(config):
        monkeypatch.setattr(control_client, "peer_of", lambda connection: 12345)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(WrongServer, match="is served by another user"):
            ControlClient(folder / "control.sock")


async def test_a_client_refuses_the_server_of_another_deployment(config: Config, folder: Path) -> None:
    path = folder / "control.sock"
    mine = Expected("office", store_name(config))
    async with manager_of(config):
        assert len(await ask(path, GetStatus(), expected=mine)) == 1
        with pytest.raises(WrongServer, match=r"runs deployment 'office' on sqlite:.*/jobs.db, not 'home' on"):
            await ask(path, GetStatus(), expected=Expected("home", mine.store))


# --- stale, live, foreign sockets ------------------------------------------------------------------------------------


async def test_a_socket_that_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    (tmp_path / ".control.sock.new").mkdir()
    (tmp_path / ".control.sock.new" / "socket").write_text("half made")
    with pytest.raises(NoServer, match=r"the one that made .* is gone"):
        ControlClient(path)
    async with control_socket(path):
        with raw(path):
            pass
    with pytest.raises(NoServer, match="there is no"):
        ControlClient(path)


async def test_a_live_servers_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with control_socket(path):
        with pytest.raises(ControlError, match=rf"in use by another server \(process {os.getpid()}\)"):
            async with control_socket(path):
                pytest.fail("it cannot get here")
        with raw(path):
            pass


@pytest.mark.parametrize("what", ["file", "directory", "nursery"])
async def test_what_is_no_socket_is_left_alone(tmp_path: Path, what: str) -> None:
    path = tmp_path / "control.sock"
    if what == "file":
        path.write_text("somebody's letter")
    elif what == "directory":
        path.mkdir()
    else:
        (tmp_path / ".control.sock.new").write_text("somebody's letter")
    with pytest.raises(ControlError, match="in the way of the control socket"):
        async with control_socket(path):
            pytest.fail("it cannot get here")
    assert what != "file" or path.read_text() == "somebody's letter"


async def test_a_node_lives_without_a_control_link_that_cannot_be_made(config: Config, folder: Path) -> None:
    (folder / "control.sock").write_text("somebody's letter")
    async with manager_of(config) as manager:
        states = {standing.name: standing for standing in manager.states}
        assert states["scheduler"].state is ComponentState.RUNNING
        assert states["control"].state is ComponentState.BACKING_OFF
        assert "in the way" in states["control"].reason


@pytest.mark.parametrize("length", [MAX_ADDRESS, MAX_ADDRESS + 1, 400])
async def test_a_path_of_any_length_works(tmp_path: Path, length: int) -> None:
    path = tmp_path
    while len(str(path)) < length - 60:
        path = path / ("x" * 40)
    path = path / ("y" * (length - len(str(path)) - len("//control.sock"))) / "control.sock"
    assert len(str(path)) == length
    async with control_socket(path) as listener:
        with unix_socket.address_of(path) as address, socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
            await anyio.wait_readable(listener)
    assert not path.exists()


async def test_a_path_that_is_too_long_for_the_system_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    path = tmp_path / ("z" * 120) / "control.sock"
    with pytest.raises(ControlError, match=r"control\.sock: is too long: .* components\.control\.enabled: false"):
        async with control_socket(path):
            pytest.fail("it cannot get here")


# --- slow and hostile clients ----------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs that a test can wait for."""
    make = control_server.ControlServer
    monkeypatch.setattr("sz_shells.components.control.ControlServer", partial(make, idle_s=0.3, frame_s=0.3))


async def still_serves(folder: Path) -> None:
    (status,) = await ask(folder / "control.sock", GetStatus())
    assert status.term == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\0\1", framed(b"x" * 100)[:50]], ids=["nothing", "1", "3", "half"])
async def test_a_client_that_says_nothing_or_half_is_put_out(config: Config, folder: Path, sent: bytes) -> None:
    def work() -> bytes:
        with raw(folder / "control.sock") as connection:
            read_frame(connection)
            connection.sendall(sent)
            return connection.recv(1)

    async with manager_of(config):
        assert await in_thread(work) == b"", "the server has closed it"
        await still_serves(folder)


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_does_not_read_is_put_out(config: Config, folder: Path) -> None:
    frame = framed(encode(Ask(1, GetStatus())))

    def work() -> None:
        with raw(folder / "control.sock") as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                connection.sendall(frame * 100_000)

    async with manager_of(config):
        await in_thread(work)
        await still_serves(folder)


async def test_what_cannot_be_read_is_answered_and_the_connection_closed(config: Config, folder: Path) -> None:
    def work(frame: bytes) -> tuple[bytes, bytes]:
        with raw(folder / "control.sock") as connection:
            read_frame(connection)
            connection.sendall(frame)
            return read_frame(connection), connection.recv(1)

    vectors = [v for v in json.loads(VECTORS.read_text()) if v["to"] == "server"]
    refused = [bytes.fromhex(v["hex"]) for v in vectors if v.get("refused")]
    async with manager_of(config):
        for frame in [*map(framed, refused), HEAD.pack(MAX_BYTES + 1), b"GET / HTTP/1.1\r\n\r\n"]:
            answer, end = await in_thread(partial(work, frame))
            assert b"the request cannot be read" in answer
            assert end == b""
        await still_serves(folder)


async def test_random_bytes_and_sudden_ends_leave_it_unmoved(config: Config, folder: Path) -> None:
    def work() -> None:
        for n in range(60):
            with raw(folder / "control.sock") as connection:
                if n % 3:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if n % 2:
                    connection.sendall(os.urandom(n * 7 % 50))

    async with manager_of(config) as manager:
        await in_thread(work)
        await still_serves(folder)
        assert all(standing.lives == 1 for standing in manager.states)


async def test_connections_are_capped_and_free_again(config: Config, folder: Path) -> None:
    path = folder / "control.sock"

    def crowd() -> tuple[int, int]:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(control_server.MAX_CONNECTIONS + 20)]
        served = 0
        for client in clients:
            client.settimeout(10)
            client.connect(str(path))
            served += bool(read_frame(client))
        for client in clients:
            client.close()
        return served, len(clients)

    async with manager_of(config):
        served, tried = await in_thread(crowd)
        assert served == control_server.MAX_CONNECTIONS < tried
        with anyio.fail_after(5):
            while True:
                try:
                    await still_serves(folder)
                    break
                except ControlError:
                    await anyio.sleep(0.02)


async def test_pain_8_a_blocked_handler_does_not_keep_the_link_from_answering(config: Config, folder: Path) -> None:
    manager = manager_of(config)
    release = threading.Event()

    async def block() -> None:
        release.wait(20)

    manager.registry.register("h", block)
    async with manager:
        await manager.scheduler.ask(RunNow("h", "block", "k"))
        begun = time.monotonic()
        await still_serves(folder)
        assert time.monotonic() - begun < 2
        release.set()


# --- what clients are told -------------------------------------------------------------------------------------------


async def serve_once(path: Path, talk: Callable[[socket.socket], None]) -> "Callable[[], Awaitable[None]]":
    """Something else that listens there, for one connection."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def work() -> None:
        connection, _ = listener.accept()
        with connection, listener:
            talk(connection)

    thread = threading.Thread(target=work)
    thread.start()

    async def finish() -> None:
        await in_thread(thread.join)

    return finish


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (lambda c: None, "the server closed the connection"),
        (lambda c: c.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "what answers is something else"),
        (lambda c: c.sendall(framed(b"\xc1")), "the server's answer cannot be read"),
        (lambda c: c.sendall(framed(bytes.fromhex("9301a4746f6c64820100"))), "the server's answer cannot be read"),
        (lambda c: time.sleep(0.5), "does not answer in time"),
    ],
    ids=["closes", "speaks ssh", "no msgpack", "odd fields", "silent"],
)
async def test_a_client_says_what_is_wrong_at_the_other_end(
    tmp_path: Path, talk: Callable[[socket.socket], None], said: str
) -> None:
    path = tmp_path / "control.sock"
    finish = await serve_once(path, talk)
    with pytest.raises(ControlError, match=said):
        await ask(path, GetStatus(), timeout_s=0.3)
    await finish()


async def test_nothing_is_logged_that_a_client_could_forge(config: Config, folder: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with manager_of(config):
            with raw(folder / "control.sock") as connection:
                await in_thread(partial(read_frame, connection))
                connection.sendall(framed(b"\x93\x01\xa8evil\nlog\x80"))
                await in_thread(partial(read_frame, connection))
    (line,) = (line for line in lines if line["event"] == "control_request_unreadable")
    assert "\n" not in line["error"]
