"""What a status says of the schedules in a store, with or without a server."""

import pytest
from attrs import evolve

from sz_protocol.changes import PutSchedules
from sz_protocol.commands import RunNote
from sz_protocol.definition_wire import decode_stored, encode_definition
from sz_protocol.kernel.effects import Write
from sz_protocol.messages import ExecutingRun, GetStatus
from sz_protocol.records import Schedule, ScheduleState
from sz_runtime import control
from sz_runtime.control import StoreView, view_store, with_progress
from sz_shells.cli.status import _print_store, _store_part
from sz_shells.stores.memory import MemoryStore
from tests.contracts.store_world import T0, a_schedule

S = ScheduleState


def stored(*schedules: Schedule) -> MemoryStore:
    store = MemoryStore()
    opened = store.open(lambda events: None)
    store.submit(Write(1, (PutSchedules(schedules, (None,) * len(schedules)),), opened.term))
    store.close()
    return store


def view(store: MemoryStore, asked: GetStatus | None = None) -> StoreView:
    return view_store(store.query, asked or GetStatus())


def held(seen: StoreView) -> list[tuple[str, str, str]]:
    return [(each.schedule_id, str(each.state), each.reason) for each in seen.held]


def unreadable(name: str, **more: object) -> Schedule:
    schedule = a_schedule(name, **more)
    data = encode_definition(schedule.definition).replace(b"interval", b"lunarity")
    return evolve(schedule, definition=decode_stored(name, data))


def test_it_names_what_does_not_fire_with_the_reason_the_most_surprising_first() -> None:
    states = {"a": S.PAUSED, "b": S.PARKED, "c": S.QUARANTINED, "d": S.ACTIVE, "e": S.RETIRED, "f": S.FINISHED}
    store = stored(*(a_schedule(name, state=state, reason=f"because {name}") for name, state in states.items()))
    seen = view(store)
    assert held(seen) == [
        ("c", "quarantined", "because c"),
        ("b", "parked", "because b"),
        ("a", "paused", "because a"),
    ]
    assert seen.held[0].since_us == a_schedule("c").since_us
    assert view(store, GetStatus(held=2)).held == seen.held[:2]
    assert view(store, GetStatus(held=0)).held == ()
    assert view(store, GetStatus(held=-1)).held == ()


def test_one_that_cannot_be_read_counts_as_quarantined_before_a_server_has_seen_it() -> None:
    seen = view(stored(a_schedule("a"), unreadable("b"), unreadable("c", state=S.PAUSED, reason="moving")))
    assert seen.schedules == {S.ACTIVE: 1, S.QUARANTINED: 1, S.PAUSED: 1}
    (odd, paused) = held(seen)
    assert odd[:2] == ("b", "quarantined")
    assert odd[2].startswith("this version cannot read it: ")
    assert paused == ("c", "paused", "moving")


def test_it_finds_them_behind_those_that_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "COUNT_PAGE", 2)
    monkeypatch.setattr(control, "COUNT_LIMIT", 2)
    store = stored(*map(a_schedule, "abcde"), a_schedule("z", state=S.QUARANTINED, reason="stuck", since_us=T0))
    seen = view(store)
    assert seen.partial
    assert held(seen) == [("z", "quarantined", "stuck")]


def test_the_list_is_bounded_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    store = stored(*(a_schedule(f"s{n:02}", state=S.PAUSED, since_us=0) for n in range(25)))
    seen = view(store)
    assert len(seen.held) == 20
    _print_store(seen)
    out = capsys.readouterr().out
    assert "schedules: 25 paused\n" in out
    assert "and 5 more that do not fire\n" in out
    assert _store_part(seen)["held"][0] == {"schedule_id": "s00", "state": "paused", "since": None, "reason": ""}


def test_it_says_who_executes_a_run_and_how_far_that_says_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    runs = (
        ExecutingRun("aa", "one", "h", "m", T0, 1, worker="h"),
        ExecutingRun("bb", "two", "h", "m", T0, 2, worker="other"),
        ExecutingRun("cc", "three", "h", "m", T0, 1),
    )
    notes = (RunNote("aa", 1, "h", "half of it", 50), RunNote("bb", 1, "other", "an older attempt"))
    told = with_progress(runs, notes)
    assert [(run.note, run.percent) for run in told] == [("half of it", 50), ("", None), ("", None)]
    seen = StoreView({}, False, (), told, ())
    _print_store(seen)
    out = capsys.readouterr().out
    assert "(h) 50% half of it" in out
    assert "(other)" in out
    first, second, third = _store_part(seen)["executing"]
    assert (first["worker"], first["progress"], first["percent"]) == ("h", "half of it", 50)
    assert (second["worker"], second["progress"]) == ("other", None)
    assert third["worker"] is None
