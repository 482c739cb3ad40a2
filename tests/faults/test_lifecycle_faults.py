"""Faults of the components' life, on real server processes: kills, hangs and deaths at awkward moments."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sz_protocol.messages import GetStatus, Status
from sz_protocol.records import Outcome, RunState
from sz_shells.links.control_client import ControlClient, NoServer
from sz_shells.links.unix_socket import ControlError
from tests.faults.server import ROOT, Server

TICK = "{id: tick, handler_id: h, method: tick, trigger: {type: interval, seconds: 0.2}}"
HANDLERS = """
import time, anyio
from sz_runtime.handlers import register_local

@register_local("h")
async def tick():
    return "tick"

@register_local("h")
def deaf(seconds):
    time.sleep(seconds)

@register_local("h")
async def shielded(seconds):
    with anyio.CancelScope(shield=True):
        await anyio.sleep(seconds)
"""
ODD = """
import anyio
from sz_protocol.components import Restart
from sz_runtime.components import Component, Limits

async def mortal(context):
    context.started("at work")
    await anyio.sleep(0.3)
    raise RuntimeError("it died")

async def deaf(context):
    context.started("at work")
    with anyio.CancelScope(shield=True):
        await anyio.sleep(3600)

LIMITS = Limits(300_000, 300_000, 300_000)
OPTIONAL = Component(mortal, required=False, restart=Restart(base_us=10_000, max_us=20_000))
REQUIRED = Component(mortal, after=("control",), restart=Restart(base_us=10_000, max_us=20_000, limit=3))
DEAF = Component(deaf, limits=lambda config: LIMITS)
"""
ENTRY_POINTS = """\
[schedulezero.components]
optional = sz_odd_components:OPTIONAL
required = sz_odd_components:REQUIRED
deaf = sz_odd_components:DEAF
"""


@pytest.fixture
def server(tmp_path: Path, anyio_backend: str) -> Iterator[Server]:
    made = Server(tmp_path, anyio_backend)
    made.write(TICK, h=HANDLERS)
    yield made
    made.kill()


@pytest.fixture
def plain_server(tmp_path: Path) -> Iterator[Server]:
    """On asyncio alone, where the loop makes no difference."""
    made = Server(tmp_path)
    yield made
    made.kill()


def add_component(server: Server, name: str) -> None:
    """Install a third party's component beside the server, and switch it on."""
    info = server.folder / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (server.folder / "sz_odd_components.py").write_text(ODD)
    text = server.config.read_text()
    server.config.write_text(text.replace("components:\n", f"components:\n  {name}: {{enabled: true}}\n"))


def is_up(server: Server) -> Status | None:
    try:
        with ControlClient(server.folder / "control.sock", timeout_s=5) as client:
            answer = client.ask(GetStatus())
    except ControlError:
        return None
    return answer if isinstance(answer, Status) and answer.term is not None else None


def test_kill_9_leaves_a_socket_that_the_next_server_replaces(server: Server) -> None:
    for life in (1, 2):
        process = server.start()
        server.wait_for(lambda: is_up(server))
        status = is_up(server)
        assert status is not None
        assert (status.pid, status.term) == (process.pid, life)
        server.stop(signal.SIGKILL)
        assert (server.folder / "control.sock").is_socket()
    server.start()
    server.wait_for(lambda: is_up(server))
    assert server.stop() == 0
    assert not (server.folder / "control.sock").exists()


def test_kill_9_and_sigterm_at_any_moment_of_start_and_stop_leave_a_node_that_starts_again(server: Server) -> None:
    rng = random.Random(server.backend)
    for _ in range(4):
        process = server.start()
        time.sleep(rng.uniform(0.05, 1.0))
        if rng.random() < 0.5:
            process.send_signal(signal.SIGTERM)
            time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.wait(10)
    server.start()
    server.wait_for(lambda: is_up(server))
    server.wait_for(lambda: sum(run.state is RunState.DONE for run in server.runs()) >= 3)
    assert server.stop() == 0
    fires = [run.fire_us for run in server.runs("tick") if run.count == 1]
    assert len(fires) == len(set(fires)), "no instant twice"


def test_sigterm_with_clients_connected_ends_in_good_time(server: Server) -> None:
    server.start()
    server.wait_for(lambda: is_up(server))
    clients = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for n, client in enumerate(clients):
        client.connect(str(server.folder / "control.sock"))
        client.sendall(b"\0\0\0\5abc"[: n * 2])
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 5
    for client in clients:
        client.close()


def test_sighup_applies_a_changed_file_and_refuses_a_broken_one(server: Server) -> None:
    process = server.start()
    server.wait_for(lambda: is_up(server))
    good = server.config.read_text()
    server.config.write_text(f"{good}  - {TICK.replace('tick, h', 'second, h')}\n")
    process.send_signal(signal.SIGHUP)
    server.wait_for(lambda: "second" in server.schedules())
    server.config.write_text(good + "  - {id: broken}\n")
    process.send_signal(signal.SIGHUP)
    server.wait_for(lambda: "reload_refused" in server.tail())
    assert set(server.schedules()) == {"tick", "second"}
    assert is_up(server) is not None
    assert server.stop() == 0


def test_a_second_sigterm_does_not_wait_for_deaf_handlers(plain_server: Server) -> None:
    server = plain_server
    deaf = "{id: deaf, handler_id: h, method: deaf, params: {seconds: 60}, trigger: {type: interval, seconds: 1}}"
    server.write(deaf, h=HANDLERS)
    process = server.start()
    server.wait_for(lambda: any(run.state is RunState.LEASED for run in server.runs()))
    process.send_signal(signal.SIGTERM)
    server.wait_for(lambda: "draining" in server.tail())
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert "stopping_now" not in server.tail(), "timeout(1) signals the process and its group: that is one wish"
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert time.monotonic() - begun < 8, "neither the ten seconds of grace nor the sixty of the handler"


def test_run_9_sigterm_waits_for_deaf_handlers_no_longer_than_the_grace_and_five_seconds(server: Server) -> None:
    more = "semantics: at_most_once, trigger: {type: interval, seconds: 1}"
    server.write(
        f"{{id: plain, handler_id: h, method: deaf, params: {{seconds: 60}}, {more}}}\n"
        f"{{id: async, handler_id: h, method: shielded, params: {{seconds: 60}}, {more}}}",
        grace="1s",
        h=HANDLERS,
    )
    server.start()
    executing = ("plain", "async")
    server.wait_for(lambda: all(any(r.state is RunState.LEASED for r in server.runs(name)) for name in executing))
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 1 + 5 + 3, "and some seconds for a busy machine"
    for name in executing:
        (cut,) = (run for run in server.runs(name) if run.outcome is Outcome.CANCELLED)
        assert (cut.reason, cut.error) == ("shutdown", "the handler did not stop when it was asked to")


def test_an_optional_component_that_keeps_dying_hinders_nobody(server: Server) -> None:
    add_component(server, "optional")
    server.start()
    server.wait_for(lambda: (status := is_up(server)) and any(c.lives > 3 for c in status.components))
    fired = len(server.runs())
    server.wait_for(lambda: len(server.runs()) > fired + 3)
    assert "component_backing_off" in server.tail()
    assert server.stop() == 0


def test_a_required_component_that_keeps_dying_ends_the_server_in_order_with_code_1(server: Server) -> None:
    add_component(server, "required")
    process = server.start()
    assert process.wait(20) == 1
    log = server.tail()
    assert "node_failed" in log
    assert "RuntimeError: it died" in log
    assert "Traceback" not in log
    assert not (server.folder / "control.sock").exists()
    assert all(run.state is not RunState.LEASED for run in server.runs())


def test_a_handler_module_that_never_finishes_its_import_does_not_outlast_sigterm(server: Server) -> None:
    server.write(TICK, h="import time\nopen('importing', 'w').close()\ntime.sleep(3600)\n")
    process = server.start()
    server.wait_for((server.folder / "importing").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0, "it was told to go, and went"


def test_a_socket_in_the_hands_of_a_forked_child_does_not_keep_the_next_server_from_its_own(server: Server) -> None:
    server.write("{id: f, handler_id: h, method: fork, trigger: {type: interval, seconds: 0.2}}", h=_FORKING)
    process = server.start()
    server.wait_for(lambda: (server.folder / "child.pid").exists())
    server.wait_for(lambda: is_up(server))
    server.stop(signal.SIGKILL)
    child = int((server.folder / "child.pid").read_text())
    try:
        os.kill(child, 0)  # it lives, with what it has inherited
        with pytest.raises(NoServer):
            ControlClient(server.folder / "control.sock", timeout_s=5)
        server.start()
        server.wait_for(lambda: (status := is_up(server)) and status.pid != process.pid)
        assert server.stop() == 0
    finally:
        os.kill(child, signal.SIGKILL)


EMBEDDED = """
import sys
from sz_runtime.components import ComponentManager
from sz_runtime.config import load_config

async def main():
    async with ComponentManager(load_config("schedulezero.yaml")):
        print("up", flush=True)
        await loop.sleep(3600)

if sys.argv[1] == "asyncio":
    import asyncio as loop
    loop.run(main())
else:
    import trio as loop
    loop.run(main)
"""


def test_ctrl_c_in_a_program_that_embeds_a_node_stops_it_in_order(server: Server) -> None:
    (server.folder / "embedded.py").write_text(EMBEDDED)
    process = subprocess.Popen(
        [sys.executable, "embedded.py", server.backend],
        cwd=server.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell has SIGINT ignored, and so would this child.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        while process.stdout.readline() != "up\n":
            assert process.poll() is None
        server.wait_for(lambda: server.runs())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not (server.folder / "control.sock").exists()
    assert all(run.state is RunState.DONE for run in server.runs())


_FORKING = """
import os, time
from sz_runtime.handlers import register_local

@register_local("h")
def fork():
    if not os.path.exists("child.pid"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        with open("child.tmp", "w") as file:
            file.write(str(child))
        os.rename("child.tmp", "child.pid")
"""
