"""Who hears of what: the table of routes."""

from typing import get_args

from attrs import fields

from sz_protocol.commands import Command, HandlersListed, ListHandlers
from sz_protocol.kernel.effects import Publish, Reply
from sz_protocol.kernel.events import Commanded, Event, LinkChanged, Woke
from sz_protocol.kernel.now import Now
from sz_protocol.node import ROUTES, Node


def test_node_2_every_event_has_its_route() -> None:
    assert set(get_args(Event)) <= set(ROUTES)
    assert set(ROUTES) <= {*get_args(Event), *get_args(Command)}


def test_node_2_routes_lead_to_machines_of_the_node_each_once() -> None:
    machines = {field.name for field in fields(Node)}
    for names in ROUTES.values():
        assert set(names) <= machines
        assert len(set(names)) == len(names)


def test_node_2_every_machine_hears_of_time() -> None:
    named = {name for names in ROUTES.values() for name in names}
    assert set(ROUTES[Woke]) == named


def test_node_2_a_node_without_remote_handlers_says_so() -> None:
    node = Node()
    assert node.handle(Commanded(7, ListHandlers()), Now(0, 0)) == [Reply(7, HandlersListed(()))]
    (said,) = node.handle(LinkChanged(True), Now(0, 0))
    assert isinstance(said, Publish)
