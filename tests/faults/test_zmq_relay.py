"""The relay does to messages what it says."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq

from tests.faults.zmq_relay import GONE, Weather, ZmqRelay, relaying

Socket = zmq.Socket[bytes]


class Ends:
    """A server that answers with what it was told, clients, and the relay between them."""

    def __init__(self, ending: ExitStack, seed: int) -> None:
        self.context: zmq.Context[Socket] = ending.enter_context(zmq.Context())
        self.ending = ending
        self.server = ending.enter_context(self.context.socket(zmq.ROUTER))
        self.relay: ZmqRelay = ending.enter_context(relaying(self.server.bind_to_random_port("tcp://127.0.0.1"), seed))

    def client(self) -> Socket:
        made = self.ending.enter_context(self.context.socket(zmq.DEALER))
        made.linger = 0
        made.connect(f"tcp://127.0.0.1:{self.relay.port}")
        return made

    def arrived(self) -> list[bytes]:
        """What the server is told; each is answered."""
        found = []
        while self.server.poll(500):
            peer, message = self.server.recv_multipart()
            found.append(message)
            self.server.send_multipart((peer, message))
        return found


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ExitStack() as ending:
        yield Ends(ending, 1)


def said(client: Socket, count: int) -> list[bytes]:
    messages = [str(number).encode() for number in range(count)]
    for message in messages:
        client.send(message)
    return messages


def answers(client: Socket) -> list[bytes]:
    found = []
    while client.poll(300):
        found.append(client.recv())
    return found


def test_in_fair_weather_everything_arrives_once_in_order_and_answers_find_their_client(ends: Ends) -> None:
    one, other = ends.client(), ends.client()
    messages = said(one, 20)
    other.send(b"other")
    assert sorted(ends.arrived()) == sorted([*messages, b"other"])
    assert answers(one) == messages
    assert answers(other) == [b"other"]


def test_what_is_lost_does_not_arrive_in_one_direction_or_the_other(ends: Ends) -> None:
    client = ends.client()
    ends.relay.up = GONE
    said(client, 5)
    assert ends.arrived() == []
    ends.relay.up, ends.relay.down = Weather(), GONE
    messages = said(client, 5)
    assert ends.arrived() == messages
    assert answers(client) == []
    assert ends.relay.counts["up", "lost"] == ends.relay.counts["down", "lost"] == 5


def test_what_is_doubled_arrives_twice(ends: Ends) -> None:
    client = ends.client()
    ends.relay.up = Weather(double=1.0)
    messages = said(client, 5)
    assert ends.arrived() == [message for message in messages for _ in range(2)]


def test_what_is_late_is_overtaken(ends: Ends) -> None:
    client = ends.client()
    ends.relay.up = Weather(late=0.5, late_s=0.3)
    messages = said(client, 30)
    found = ends.arrived()
    assert sorted(found) == sorted(messages)
    assert found != messages


def test_the_same_seed_loses_the_same() -> None:
    lost = []
    for seed in (7, 7, 8):
        with ExitStack() as ending:
            ends = Ends(ending, seed)
            ends.relay.up = Weather(lose=0.5)
            client = ends.client()
            said(client, 40)
            lost.append(ends.arrived())
    assert lost[0] == lost[1] != lost[2]
    assert 5 < len(lost[0]) < 35
