"""Peers that lie, repeat themselves, or talk nonsense to a real registration server: they hurt nobody else."""

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from sz_protocol.codec import decode, encode
from sz_protocol.messages import (
    HANDLER_PROTO,
    TO_HANDLER,
    Accept,
    Ack,
    AckCode,
    Beat,
    Dispatch,
    DispatchedRun,
    Hello,
    OfferedMethod,
    Reject,
    ResultAck,
    Results,
    RunRef,
    RunReport,
    Welcome,
)
from sz_protocol.records import Outcome
from tests.faults.fleet import Fleet


class Peer:
    """A handler made of a plain blocking socket, which can say whatever it likes."""

    def __init__(self, fleet: Fleet, handler_id: str, incarnation: int = 1) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(f"tcp://127.0.0.1:{fleet.port}")
        self.handler_id = handler_id
        self.incarnation = incarnation
        self.session = 0
        self.beat = 0
        self.beaten = 0.0

    def say(self, message: object) -> None:
        self.socket.send(encode(message))

    def hello(self) -> Any:
        """Register; the answer."""
        methods = (OfferedMethod("work"),)
        self.say(Hello(self.handler_id, self.incarnation, 1, HANDLER_PROTO, HANDLER_PROTO, methods, 4))
        answer = self.hear(Welcome, Reject)
        if isinstance(answer, Welcome):
            self.session = answer.session
            self.live()
        return answer

    def live(self) -> None:
        """Say that we live, once in a while."""
        if self.session and time.monotonic() - self.beaten > 0.2:
            self.beat += 1
            self.beaten = time.monotonic()
            self.say(Beat(self.session, self.beat, 1000))

    def hear(self, *kinds: type, timeout_s: float = 15) -> Any:
        """The next message of these kinds."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            self.live()
            if self.socket.poll(100):
                message = decode(self.socket.recv(), TO_HANDLER)
                if isinstance(message, kinds):
                    return message
        raise AssertionError(f"none of {kinds} came")

    def take(self) -> DispatchedRun:
        """A run, accepted."""
        dispatch: Dispatch = self.hear(Dispatch)
        run = dispatch.runs[0]
        self.say(Accept(self.session, (RunRef(run.row, run.attempt, run.delivery),)))
        return run

    def report(self, run: DispatchedRun, **changes: Any) -> Results:
        """What it came to."""
        fields: dict[str, Any] = {"row": run.row, "attempt": run.attempt, "fence": run.fence} | changes
        now_us = time.time_ns() // 1000
        report = RunReport(
            delivery=run.delivery,
            incarnation=self.incarnation,
            outcome=Outcome.SUCCEEDED,
            reason="",
            started_us=now_us,
            finished_us=now_us,
            result='"mine"',
            **fields,
        )
        return Results(self.session, 1000, (report,))

    def acked(self) -> tuple[Ack, ...]:
        """The next acknowledgements."""
        acks: tuple[Ack, ...] = self.hear(ResultAck).acks
        return acks

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def fleet(tmp_path: Path, anyio_backend: str) -> Iterator[Fleet]:
    made = Fleet(tmp_path, anyio_backend)
    made.configure(remote="heartbeat: 3s, lease: 30s, away_grace: 10s")
    made.start()
    made.wait_for(lambda: "registration_server_listens" in made.tail())
    yield made
    made.kill()


@pytest.fixture
def peers(fleet: Fleet) -> Iterator[list[Peer]]:
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.close()


def welcome(fleet: Fleet, peers: list[Peer], name: str) -> Peer:
    peer = Peer(fleet, name)
    peers.append(peer)
    assert isinstance(peer.hello(), Welcome)
    return peer


def test_a_foreign_run_s_result_is_stale_and_changes_nothing(fleet: Fleet, peers: list[Peer]) -> None:
    owner, thief = welcome(fleet, peers, "owner"), welcome(fleet, peers, "thief")
    run_id = fleet.run_now("owner", "work")
    run = owner.take()
    thief.say(thief.report(run))
    assert thief.acked() == (Ack(run.row, run.attempt, AckCode.STALE),)
    owner.live()
    for wrong in ({"attempt": 2}, {"fence": run.fence + 1}, {"row": run.row + 1}):
        owner.say(owner.report(run, **wrong))
        (ack,) = owner.acked()
        assert ack.code is AckCode.STALE, wrong
    assert fleet.outcome(run_id) is None
    owner.say(owner.report(run))
    assert owner.acked() == (Ack(run.row, run.attempt, AckCode.OK),)
    assert fleet.wait_outcome(run_id) == "succeeded"


def test_a_replayed_frame_is_answered_and_counts_once(fleet: Fleet, peers: list[Peer]) -> None:
    peer = welcome(fleet, peers, "edge")
    run_id = fleet.run_now("edge", "work")
    result = peer.report(peer.take())
    peer.say(result)
    (first,) = peer.acked()
    assert first.code is AckCode.OK
    before = next(run for run in fleet.runs() if run.run_id == run_id)
    for _ in range(3):
        peer.say(result)
        (ack,) = peer.acked()
        assert ack.code is AckCode.DUPLICATE
    assert next(run for run in fleet.runs() if run.run_id == run_id) == before


def test_words_of_another_session_are_turned_away(fleet: Fleet, peers: list[Peer]) -> None:
    peer, stranger = welcome(fleet, peers, "edge"), Peer(fleet, "stranger")
    peers.append(stranger)
    stranger.say(Beat(peer.session, 99, 0))
    assert stranger.hear(Reject).code == "unknown_session"
    assert fleet.registered() == {"edge": "present"}


def test_an_old_or_new_version_is_told_so(fleet: Fleet, peers: list[Peer]) -> None:
    peer = Peer(fleet, "edge")
    peers.append(peer)
    peer.say(Hello("edge", 1, 1, HANDLER_PROTO + 1, HANDLER_PROTO + 3, (OfferedMethod("work"),), 4))
    assert peer.hear(Reject).code == "version"


def test_random_bytes_and_oversize_frames_hurt_nobody_else(fleet: Fleet, peers: list[Peer]) -> None:
    peer, fool, giant = welcome(fleet, peers, "edge"), Peer(fleet, "fool"), Peer(fleet, "giant")
    peers += (fool, giant)
    rng = random.Random(5)
    for size in (0, 1, 10, 1000, 100_000):
        for _ in range(20):
            fool.socket.send(rng.randbytes(size))
    assert fool.hear(Reject).code == "invalid"
    with ended(giant, peer), socket.create_connection(("127.0.0.1", fleet.port), timeout=0.1) as noise:
        giant.socket.send(b"\x93" + os.urandom(5 << 20))
        noise.sendall(rng.randbytes(4096))
        run_id = fleet.run_now("edge", "work")
        peer.say(peer.report(peer.take()))
        assert fleet.wait_outcome(run_id) == "succeeded"
        until = time.monotonic() + 20
        while not is_closed(noise):
            assert time.monotonic() < until, "what is no ZeroMQ is not kept"
            peer.live()
    assert fleet.registered() == {"edge": "present"}


@contextmanager
def ended(loser: Peer, winner: Peer) -> Iterator[None]:
    """The server ends the one's connection during the block, and not the other's."""
    monitors = [peer.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) for peer in (loser, winner)]
    yield
    assert monitors[0].poll(15_000), "too long a frame ends its connection"
    assert not monitors[1].poll(0)
    for peer in (loser, winner):
        peer.socket.disable_monitor()


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end has closed or reset it; its greeting comes first."""
    try:
        return not connection.recv(4096)
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_a_thousand_half_open_connections_keep_nobody_out(fleet: Fleet, peers: list[Peer]) -> None:
    peer = welcome(fleet, peers, "edge")
    idle = [socket.create_connection(("127.0.0.1", fleet.port)) for _ in range(1000)]
    try:
        late = welcome(fleet, peers, "late")
        for name, each in (("edge", peer), ("late", late)):
            run_id = fleet.run_now(name, "work")
            each.say(each.report(each.take()))
            assert fleet.wait_outcome(run_id) == "succeeded"
            peer.live()
            late.live()
    finally:
        for connection in idle:
            connection.close()
