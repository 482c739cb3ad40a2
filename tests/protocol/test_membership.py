"""The server's side of remote handlers: who is here. MEMB-1 to MEMB-4, MEMB-10 to MEMB-12 (specs/remote.md)."""

from typing import Any

import pytest
from attrs import evolve

from sz_protocol.commands import HandlersListed, HandlerState, ListHandlers
from sz_protocol.kernel.events import (
    AllowedKey,
    Commanded,
    Garbled,
    HandlersChanged,
    KeysChanged,
    MethodInfo,
    Received,
    RunsRecovered,
    Started,
    StopRequested,
    Woke,
)
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.membership import Membership, MembershipState
from sz_protocol.messages import Beat, Echo, OfferedMethod, Reject, RejectCode, Stop, Welcome
from sz_protocol.notices import (
    HandlerHeard,
    HandlerLeft,
    HandlerLost,
    HandlerRegistered,
    HandlerRejected,
    HandlerSuspect,
    Ignored,
)
from tests.protocol.remote_rig import REMOTE, Desk, Remote

# --- registration ----------------------------------------------------------------------------------------------


def test_a_hello_is_welcomed_and_the_first_beat_registers() -> None:
    desk = Desk()
    handler = Remote(desk)
    welcome = handler.hello()
    assert welcome == Welcome(1, handler.session, 1, REMOTE.heartbeat_us, REMOTE.lease_us, term=1)
    assert desk.state() is None, "a Hello alone may be an old one that was late"
    assert handler.beat() == [Echo(handler.session, 1, term=1)]
    assert desk.state() is HandlerState.PRESENT
    assert desk.seen(HandlerRegistered) == [HandlerRegistered("h", handler.session, 1, 10)]
    desk.advance(0.1)
    assert desk.sizes() == {"h": 10}
    assert desk.changes()[-1].methods == (MethodInfo("h", "m", "worker:h", None, "h"),)


def test_what_a_handler_offers_is_told_with_tags_and_concurrency() -> None:
    desk = Desk()
    offer = (OfferedMethod("m", 2), OfferedMethod("n"))
    Remote(desk, methods=offer, tags={"zone": "north", "gpu": "yes"}, slots=4).join()
    desk.advance(0.1)
    tags = (("gpu", "yes"), ("zone", "north"))
    assert desk.changes()[-1].methods == (
        MethodInfo("h", "m", "worker:h", 2, "h", tags),
        MethodInfo("h", "n", "worker:h", None, "h", tags),
    )


def test_the_same_hello_that_comes_twice_gets_the_same_session() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    session = handler.session
    handler.nonce -= 1
    assert handler.hello().session == session
    assert desk.machine.workers.registered() == 1
    assert not desk.machine.workers.offered


def test_sessions_of_two_lives_of_the_server_are_never_the_same() -> None:
    first, second = Remote(Desk(term=1)).join(), Remote(Desk(term=2)).join()
    assert first.session != second.session
    assert all(0 < session < 1 << 63 for session in (first.session, second.session))


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"proto_min": 2, "proto_max": 3}, RejectCode.VERSION),
        ({"proto_min": 0, "proto_max": 0}, RejectCode.VERSION),
        ({"handler_id": ""}, RejectCode.INVALID),
        ({"handler_id": "*"}, RejectCode.INVALID),
        ({"handler_id": "ev\x1b[31mil\nroof present"}, RejectCode.INVALID),
        ({"methods": (OfferedMethod("m\r"),)}, RejectCode.INVALID),
        ({"tags": {"site": "a\x9bb"}}, RejectCode.INVALID),
        ({"software": "js\u202e"}, RejectCode.INVALID),
        ({"handler_id": "x" * 201}, RejectCode.INVALID),
        ({"slots": 0}, RejectCode.INVALID),
        ({"slots": -1}, RejectCode.INVALID),
        ({"slots": 1 << 40}, RejectCode.INVALID),
        ({"methods": (OfferedMethod("m"), OfferedMethod("m", 1))}, RejectCode.INVALID),
        ({"methods": (OfferedMethod(""),)}, RejectCode.INVALID),
        ({"methods": (OfferedMethod("m", 0),)}, RejectCode.INVALID),
        ({"methods": tuple(OfferedMethod(f"m{i}") for i in range(2001))}, RejectCode.INVALID),
        ({"tags": {"": "x"}}, RejectCode.INVALID),
        ({"tags": {str(i): "" for i in range(51)}}, RejectCode.INVALID),
        ({"software": "x" * 201}, RejectCode.INVALID),
    ],
)
def test_a_hello_that_cannot_be_is_rejected_with_its_reason(more: dict[str, Any], code: RejectCode) -> None:
    desk = Desk()
    handler = Remote(desk)
    reject = handler.hello(**more)
    assert isinstance(reject, Reject)
    assert (reject.code, reject.nonce) == (code, handler.nonce)
    assert desk.seen(HandlerRejected)
    assert not desk.machine.workers.sessions


def test_a_handler_without_methods_may_register() -> None:
    desk = Desk()
    Remote(desk, methods=()).join()
    assert desk.state() is HandlerState.PRESENT


def test_a_version_range_that_holds_ours_is_fine() -> None:
    assert isinstance(Remote(Desk()).hello(proto_min=0, proto_max=9), Welcome)


def test_no_more_handlers_than_allowed_are_registered() -> None:
    desk = Desk(evolve(REMOTE, workers=2))
    one, _ = Remote(desk, "a").join(), Remote(desk, "b").join()
    third = Remote(desk, "c")
    assert third.hello().code is RejectCode.FULL
    one.bye()
    assert isinstance(third.hello(), Welcome)


def test_no_more_handlers_than_allowed_are_registered_even_if_all_of_them_ask_first() -> None:
    desk = Desk(evolve(REMOTE, workers=2))
    handlers = [Remote(desk, name) for name in "abc"]
    assert all(isinstance(handler.hello(), Welcome) for handler in handlers)
    answers = [handler.beat()[0] for handler in handlers]
    assert [type(answer) for answer in answers] == [Echo, Echo, Reject]
    assert answers[2].code is RejectCode.FULL
    assert answers[2].session == handlers[2].session


def test_a_name_of_the_servers_own_handlers_is_taken() -> None:
    desk = Desk()
    remote = Remote(desk, "own").join()
    desk.give(HandlersChanged((MethodInfo("own", "m", "async"),), (("async", 4),)))
    assert remote.rejects()[-1].code is RejectCode.NOT_ALLOWED, "whoever had it before has it no more"
    assert remote.hello().code is RejectCode.NOT_ALLOWED


# --- MEMB-1: sessions ------------------------------------------------------------------------------------------


def test_memb_1_a_message_of_no_session_is_ignored_and_its_sender_told() -> None:
    desk = Desk()
    desk.give(Received(b"x", Beat(77, 1, 5)))
    (send,) = desk.sent
    assert send.to == b"x"
    assert (send.message.code, send.message.session, send.message.nonce) == (RejectCode.UNKNOWN_SESSION, 77, 0)
    assert desk.seen(Ignored)


@pytest.mark.parametrize("more", [{"sender": b"elsewhere"}, {"key": "another"}])
def test_memb_1_a_session_counts_only_from_its_own_address_and_key(more: dict[str, Any]) -> None:
    desk = Desk()
    handler = Remote(desk, key="k").join()
    fact = Received(b"h", Beat(handler.session, 2, 99), "k")
    news = desk.give(evolve(fact, **more))
    assert [message.code for message in news] == [RejectCode.UNKNOWN_SESSION]
    session = desk.machine.workers.all["h"].session
    assert session is not None
    assert session.granted == 10


def test_memb_1_an_old_session_ends_with_the_first_message_of_the_new_one() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    old = handler.session
    handler.hello()
    assert desk.give(Received(b"h", Beat(old, 5, 10))) == [Echo(old, 5, 1)], "until then the Hello may be an old one"
    handler.beat()
    assert [message.code for message in desk.give(Received(b"h", Beat(old, 6, 10)))] == [RejectCode.UNKNOWN_SESSION]


def test_memb_1_a_hello_that_was_late_takes_nothing_from_the_session_that_is() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    run = desk.assign("h")[0]
    handler.take()
    handler.accept(handler.runs[0])
    session, handler.nonce = handler.session, 100
    handler.hello()
    handler.session = session
    desk.advance(1)
    handler.beat()
    assert desk.state() is HandlerState.PRESENT
    assert (run.row, 1) not in desk.ends()
    desk.advance(2)
    handler.beat()
    handler.beat_for(12)
    assert not desk.machine.workers.offered, "what nobody takes up is taken back"


def test_strangers_who_came_in_numbers_and_say_nothing_more_are_forgotten_together() -> None:
    desk = Desk()
    strangers = 200
    for number in range(strangers):
        Remote(desk, id=f"stranger{number}").hello()
        desk.now = evolve(desk.now, mono_us=desk.now.mono_us + 1000, utc_us=desk.now.utc_us + 1000)
    assert len(desk.machine.workers.offered) == strangers
    wakes = 0
    while desk.machine.workers.offered:
        wakeup = desk.machine.next_wakeup(desk.now)
        assert wakeup is not None
        later_us = wakeup.at_us - desk.now.mono_us
        desk.now = evolve(desk.now, mono_us=wakeup.at_us, utc_us=desk.now.utc_us + later_us)
        desk.give(Woke())
        wakes += 1
    assert wakes <= 2


# --- MEMB-2: twins ---------------------------------------------------------------------------------------------


def test_memb_2_a_twin_is_rejected_while_the_first_is_heard() -> None:
    desk = Desk()
    first = Remote(desk).join()
    twin = Remote(desk, incarnation=2, address=b"h2")
    desk.advance(1)
    reject = twin.hello()
    assert (reject.code, reject.retry_us) == (RejectCode.DUPLICATE, 2 * SECOND_US)
    first.beat()
    desk.advance(2)
    assert twin.hello().code is RejectCode.DUPLICATE
    desk.advance(1)
    assert isinstance(twin.hello(), Welcome)
    twin.beat()
    assert [message.code for message in first.beat()] == [RejectCode.UNKNOWN_SESSION]
    assert first.hello().code is RejectCode.DUPLICATE


def test_memb_2_two_that_ask_at_once_do_not_both_get_in() -> None:
    desk = Desk()
    first, twin = Remote(desk), Remote(desk, incarnation=2, address=b"h2")
    assert isinstance(first.hello(), Welcome)
    assert isinstance(twin.hello(), Welcome)
    first.beat()
    (answer,) = twin.beat()
    assert (answer.code, answer.session) == (RejectCode.DUPLICATE, twin.session)
    assert first.beat() == [Echo(first.session, 2, 1)]


def test_memb_2_the_same_life_on_a_new_connection_is_no_twin() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    handler.address = b"again"
    assert isinstance(handler.hello(), Welcome)


def test_memb_2_who_said_good_bye_is_free_at_once() -> None:
    desk = Desk()
    Remote(desk).join().bye()
    assert isinstance(Remote(desk, incarnation=2, address=b"h2").hello(), Welcome)


# --- MEMB-3, MEMB-4: silence -----------------------------------------------------------------------------------


def test_memb_3_silence_makes_suspect_and_then_lost() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    desk.advance(0.1)
    desk.advance(2.9)
    assert desk.state() is HandlerState.SUSPECT
    assert desk.sizes() == {"h": 0}
    assert desk.seen(HandlerSuspect) == [HandlerSuspect("h", 3 * SECOND_US)]
    desk.advance(6.9)
    assert desk.state() is HandlerState.SUSPECT
    desk.advance(0.1)
    assert desk.state() is HandlerState.LOST
    assert desk.seen(HandlerLost) == [HandlerLost("h", 10 * SECOND_US, 0)]
    assert [message.code for message in handler.beat()] == [RejectCode.UNKNOWN_SESSION]


def test_memb_3_a_suspect_comes_back_with_any_message() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    desk.advance(9)
    assert desk.state() is HandlerState.SUSPECT
    handler.accept()
    assert desk.state() is HandlerState.PRESENT
    desk.advance(0.1)
    assert desk.sizes() == {"h": 10}
    assert desk.seen(HandlerHeard) == [HandlerHeard("h", 9 * SECOND_US)]


def test_memb_3_a_suspect_that_was_heard_is_suspect_again_after_as_short_a_silence() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    desk.advance(4)
    handler.accept()
    desk.advance(2.9)
    assert desk.state() is HandlerState.PRESENT
    desk.advance(0.1)
    assert desk.state() is HandlerState.SUSPECT


def test_memb_3_a_message_that_comes_at_the_very_end_of_the_lease_is_too_late() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    for _ in range(9):
        desk.advance(1)
    desk.pass_us(SECOND_US)
    assert [message.code for message in handler.beat()] == [RejectCode.UNKNOWN_SESSION]
    assert desk.state() is HandlerState.LOST


def test_memb_4_a_server_that_stood_still_blames_nobody() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    desk.advance(1)
    desk.pass_us(60 * SECOND_US)
    desk.give(Woke())
    assert desk.state() is HandlerState.PRESENT
    desk.advance(2.5)
    assert handler.beat() == [Echo(handler.session, 2, 1)]
    desk.advance(2.9)
    assert desk.state() is HandlerState.PRESENT, "a full span begins anew"


def test_memb_4_a_server_that_is_only_quiet_does_not_take_itself_for_one_that_stood_still() -> None:
    desk = Desk()
    Remote(desk).join()
    desk.advance(30)
    assert desk.seen(HandlerLost) == [HandlerLost("h", 10 * SECOND_US, 0)]


# --- farewells -------------------------------------------------------------------------------------------------


def test_memb_12_a_handler_that_left_is_known_without_slots_for_a_while() -> None:
    desk = Desk()
    Remote(desk).join().bye()
    desk.advance(0.1)
    assert desk.state() is HandlerState.AWAY
    assert desk.sizes() == {"h": 0}
    assert desk.seen(HandlerLeft) == [HandlerLeft("h", 0)]
    desk.advance(29.8)
    assert desk.sizes() == {"h": 0}
    desk.advance(0.2)
    assert desk.sizes() == {}
    assert desk.state() is None


def test_memb_12_a_handler_that_was_lost_is_known_without_slots_for_a_while() -> None:
    desk = Desk()
    Remote(desk).join()
    desk.advance(10 + 29.9)
    assert desk.sizes() == {"h": 0}
    desk.advance(0.2)
    assert desk.sizes() == {}


def test_memb_12_after_a_start_handlers_are_expected_for_a_while() -> None:
    desk = Desk()
    assert desk.changes()[0].expecting
    desk.advance(29.9)
    assert desk.changes()[-1].expecting
    desk.advance(0.2)
    assert not desk.changes()[-1].expecting


def test_memb_12_the_wait_begins_when_handlers_can_register() -> None:
    desk = Desk()
    desk.machine = Membership(REMOTE, desk.machine.ops, desk.machine.rng)
    desk.give(Started(1))
    assert Remote(desk).hello().code is RejectCode.STARTING
    desk.advance(120)
    assert desk.changes()[-1].expecting
    desk.give(RunsRecovered())
    desk.advance(29)
    assert desk.changes()[-1].expecting


def test_a_draining_handler_gets_nothing_new_and_may_leave() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    handler.drain()
    desk.advance(0.1)
    assert desk.state() is HandlerState.DRAINING
    assert desk.sizes() == {"h": 0}
    handler.drain()
    handler.bye()
    assert desk.state() is HandlerState.AWAY


def test_a_handler_that_comes_back_from_a_drain_is_present_again() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    handler.drain()
    handler.join()
    assert desk.state() is HandlerState.PRESENT


def test_a_draining_handler_that_falls_silent_is_lost_after_its_lease() -> None:
    desk = Desk()
    Remote(desk).join().drain()
    desk.advance(9.9)
    assert desk.state() is HandlerState.DRAINING
    desk.advance(0.2)
    assert desk.state() is HandlerState.LOST


def test_handlers_that_come_together_are_told_together() -> None:
    desk = Desk(evolve(REMOTE, workers=300))
    before = len(desk.changes())
    for number in range(200):
        Remote(desk, f"h{number}").join()
        desk.advance(0.001)
    desk.advance(1)
    assert len(desk.sizes()) == 200
    assert len(desk.changes()) - before <= 11


def test_a_stopping_server_takes_no_new_sessions_and_hears_the_old_ones() -> None:
    desk = Desk()
    handler = Remote(desk).join()
    desk.give(StopRequested(SECOND_US))
    assert desk.machine.state is MembershipState.STOPPING
    assert handler.beat() == [Echo(handler.session, 2, 1)]
    assert Remote(desk, "late").hello().code is RejectCode.STOPPING


# --- MEMB-10: keys ---------------------------------------------------------------------------------------------

KEYS = KeysChanged((AllowedKey("key-a", "a"), AllowedKey("key-b", "b", ("m",)), AllowedKey("key-b", "b2")))


@pytest.mark.parametrize(
    ("handler", "key", "methods", "allowed"),
    [
        ("a", "key-a", ("m", "n"), True),
        ("b", "key-b", ("m",), True),
        ("b2", "key-b", ("n",), True),
        ("b", "key-b", ("m", "n"), False),
        ("a", "key-b", ("m",), False),
        ("b", "key-a", ("m",), False),
        ("a", "", ("m",), False),
        ("c", "key-c", ("m",), False),
    ],
)
def test_memb_10_a_key_speaks_for_its_own_handlers_and_methods(
    handler: str, key: str, methods: tuple[str, ...], allowed: bool
) -> None:
    desk = Desk()
    desk.give(KEYS)
    answer = Remote(desk, handler, key=key, methods=tuple(map(OfferedMethod, methods))).hello()
    assert isinstance(answer, Welcome) is allowed
    assert allowed or answer.code is RejectCode.NOT_ALLOWED
    unknown = "it was revoked or removed, or never was allowed" in getattr(answer, "message", "")
    assert unknown is (key in ("", "key-c"))


def test_memb_10_a_key_that_is_taken_away_ends_its_session_at_once() -> None:
    desk = Desk()
    desk.give(KEYS)
    handler, other = Remote(desk, "a", key="key-a").join(), Remote(desk, "b", key="key-b").join()
    desk.assign("a")
    handler.take()
    handler.accept(*handler.runs)
    news = desk.give(KeysChanged((AllowedKey("key-b", "b"),)))
    assert [(m.code, m.session) for m in news] == [(RejectCode.NOT_ALLOWED, handler.session)]
    assert news[0].message == "this key is not allowed: it was revoked or removed, or never was allowed"
    assert [m.code for m in handler.report(handler.runs[0])] == [RejectCode.UNKNOWN_SESSION]
    assert handler.hello().code is RejectCode.NOT_ALLOWED
    assert other.beat() == [Echo(other.session, 2, 1)]
    assert not desk.ends(), "it may be executing yet: its run has its lease"
    desk.advance(10)
    assert list(desk.ends().values()) == ["vanished"]


def test_memb_10_an_offer_to_a_key_that_is_taken_away_is_taken_back() -> None:
    desk = Desk()
    desk.give(KEYS)
    handler = Remote(desk, "a", key="key-a")
    handler.hello()
    desk.give(KeysChanged(()))
    assert [message.code for message in handler.beat()] == [RejectCode.UNKNOWN_SESSION]
    desk.give(KeysChanged(None))
    assert isinstance(handler.hello(), Welcome), "without keys everybody may"


# --- MEMB-11: floods -------------------------------------------------------------------------------------------


def test_memb_11_who_says_hello_too_often_is_not_heard() -> None:
    desk = Desk()
    handler, other = Remote(desk), Remote(desk, "other")
    answers = [handler.hello() for _ in range(30)]
    assert sum(answer is not None for answer in answers) == 10
    assert isinstance(other.hello(), Welcome)
    desk.advance(3.5)
    assert [handler.hello() is not None for _ in range(5)] == [True, True, True, False, False]


def test_memb_11_a_flood_from_ever_new_senders_is_bounded_in_all() -> None:
    desk = Desk(evolve(REMOTE, workers=50))
    heard = sum(Remote(desk, f"h{i}", address=str(i).encode()).hello() is not None for i in range(5000))
    assert heard == 60
    assert len(desk.machine.workers.sessions) <= 100
    desk.advance(1)
    assert isinstance(Remote(desk, "honest").hello(), Welcome)


def test_memb_11_one_key_for_many_handlers_has_their_allowance() -> None:
    desk = Desk()
    desk.give(KeysChanged(tuple(AllowedKey("k", f"h{i}") for i in range(50))))
    handlers = [Remote(desk, f"h{i}", key="k") for i in range(50)]
    assert all(isinstance(handler.hello(), Welcome) for handler in handlers)


def test_memb_11_complaints_are_counted_when_they_are_too_many() -> None:
    desk = Desk()
    for number in range(1000):
        desk.give(Garbled(str(number).encode(), "no msgpack of ours"))
    assert len(desk.seen(Ignored)) == 100
    assert len(desk.sent) == 100, "nor is every frame of a flood answered"
    desk.advance(1)
    desk.give(Garbled(b"x", "no msgpack of ours"))
    assert desk.seen(Ignored)[-1].reason.endswith("(and 900 more that were not told)")


def test_memb_11_messages_that_are_for_the_other_side_are_ignored() -> None:
    desk = Desk()
    for message in (Welcome(1, 2, 1, 1, 1, 1), Echo(1, 1, 1), Stop(1, 1, 1, "requested"), "text", None, 7):  # type: ignore[arg-type]
        assert desk.give(Received(b"x", message)) == []
    assert len(desk.seen(Ignored)) == 6


# --- the list --------------------------------------------------------------------------------------------------


def test_the_list_of_handlers_says_how_each_stands() -> None:
    desk = Desk()
    Remote(desk, "b", tags={"zone": "north"}, slots=3).join(software="1.2")
    gone = Remote(desk, "a", key="k").join()
    desk.assign("b")
    gone.bye()
    desk.advance(2)
    desk.give(Commanded(5, ListHandlers()))
    (answer,) = desk.replies
    assert isinstance(answer, HandlersListed)
    a, b = answer.handlers
    assert (a.handler_id, a.state, a.key, a.session) == ("a", HandlerState.AWAY, "k", 0)
    assert (b.handler_id, b.state, b.slots, b.executing, b.silent_us) == (
        "b",
        HandlerState.PRESENT,
        3,
        1,
        2 * SECOND_US,
    )
    assert (b.methods, b.tags, b.software) == (("m",), {"zone": "north"}, "1.2")


def test_a_long_list_of_handlers_stays_within_bounds() -> None:
    desk = Desk(evolve(REMOTE, workers=100))
    offer = tuple(OfferedMethod(f"method{i}") for i in range(2000))
    for number in range(100):
        Remote(desk, f"h{number}", methods=offer).join()
    desk.give(Commanded(5, ListHandlers()))
    assert sum(len(status.methods) for status in desk.replies[0].handlers) == 10_000
