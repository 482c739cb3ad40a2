"""The kernel: time as an argument, tables of moves, the write gate, wake-ups."""

from enum import Enum, auto

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from sz_protocol.kernel.effects import Effect, StartRun, Write
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import Event, RunResult, StopRequested, Woke, WriteDone
from sz_protocol.kernel.machine import earliest
from sz_protocol.kernel.moves import Moves, allows, as_markdown, move
from sz_protocol.kernel.now import Now, WakeReason, Wakeup
from sz_protocol.kernel.write_gate import WriteGate
from sz_protocol.ops import Ops
from sz_protocol.records import CLAIMS_PER_TERM, Run, RunKind, run_key


class Lamp(Enum):
    """Of this file's table."""

    DARK = auto()
    LIT = auto()


LAMP: Moves[Lamp] = {(Lamp.DARK, Woke): Lamp.LIT, (Lamp.LIT, StopRequested): Lamp.DARK}


def test_a_move_that_the_table_has_is_made_and_any_other_is_a_mistake() -> None:
    assert move(LAMP, Lamp.DARK, Woke()) is Lamp.LIT
    assert allows(LAMP, Lamp.LIT, StopRequested(0))
    assert not allows(LAMP, Lamp.LIT, Woke())
    with pytest.raises(LocalProtocolError, match="Woke is not possible in state LIT"):
        move(LAMP, Lamp.LIT, Woke())


def test_a_table_of_moves_prints_itself_in_the_order_of_the_code() -> None:
    assert as_markdown(LAMP).splitlines() == [
        "| state | event | next state |",
        "|---|---|---|",
        "| DARK | Woke | LIT |",
        "| LIT | StopRequested | DARK |",
    ]


def test_gate_1_what_waits_for_a_write_leaves_once() -> None:
    gate: WriteGate[str] = WriteGate()
    gate.hold(7, "start the run")
    assert gate.owns(7)
    assert len(gate) == 1
    assert gate.release(7) == "start the run"
    assert not gate.owns(7)
    with pytest.raises(LocalProtocolError, match="operation 7 is not under way"):
        gate.release(7)


def test_gate_1_an_operation_holds_one_thing() -> None:
    gate: WriteGate[str] = WriteGate()
    gate.hold(7, "a")
    with pytest.raises(LocalProtocolError, match="operation 7 is already under way"):
        gate.hold(7, "b")
    assert gate.release(7) == "a"


@frozen
class Sleeper:
    """A machine that only wants to be woken."""

    wakeup: Wakeup | None

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Nothing follows."""
        return []

    def next_wakeup(self, now: Now) -> Wakeup | None:
        """As given."""
        return self.wakeup


@given(st.lists(st.one_of(st.none(), st.builds(Wakeup, st.integers(0, 99), st.sampled_from(WakeReason)))))
def test_the_earliest_wakeup_wins_and_a_backlog_beats_them_all(wakeups: list[Wakeup | None]) -> None:
    found = earliest(map(Sleeper, wakeups), Now(0, 0))
    there = [wakeup for wakeup in wakeups if wakeup is not None]
    if not there:
        assert found is None
    elif any(wakeup.reason is WakeReason.BACKLOG for wakeup in there):
        assert found is not None
        assert found.reason is WakeReason.BACKLOG
    else:
        assert found is not None
        assert found.at_us == min(wakeup.at_us for wakeup in there)


def test_facts_and_orders_are_values_compared_by_equality() -> None:
    assert WriteDone(3) == WriteDone(3)
    assert Write(1, (), 2) == Write(1, (), 2, stream=0)
    assert hash(WriteDone(3)) == hash(WriteDone(3))
    assert not hasattr(WriteDone(3), "__dict__")


def fields_are_read_only(result: RunResult, start: StartRun, run: Run, now: Now) -> None:
    """KERNEL-2, checked by mypy: an ignore that it does not need is an error there."""
    result.row = 2  # type: ignore[misc]
    start.attempt = 2  # type: ignore[misc]
    run.attempt = 2  # type: ignore[misc]
    now.utc_us = 5  # type: ignore[misc]


def test_claims_grow_within_a_life_and_from_life_to_life() -> None:
    first, second = Ops(term=1), Ops(term=2)
    claims = [first.next_claim() for _ in range(3)] + [second.next_claim() for _ in range(3)]
    assert claims == sorted(set(claims))
    assert claims[0] == CLAIMS_PER_TERM + 1
    assert claims[3] == 2 * CLAIMS_PER_TERM + 1


@given(st.text(max_size=8), st.text(max_size=8), st.sampled_from(RunKind), st.sampled_from(RunKind))
def test_fire_1_each_kind_of_run_has_keys_of_its_own(uid: str, nominal: str, one: RunKind, other: RunKind) -> None:
    assert len(run_key(uid, nominal, one)) == 16
    assert (run_key(uid, nominal, one) == run_key(uid, nominal, other)) is (one is other)


def test_fire_1_the_run_key_is_the_same_everywhere() -> None:
    assert run_key("backup", "2026-03-29T02:30:00/0 Europe/Berlin").hex() == "019d376d40407a0ca2e064a85f6e3b88"


def test_fire_1_run_keys_begin_with_the_clock_of_the_nominal_so_that_an_index_grows_at_its_end() -> None:
    day_ms = 86_400_000
    walls = [f"2026-03-{day:02}T02:30:00/0 Europe/Berlin" for day in (27, 28, 29, 30)]
    ticks = [str(1_700_000_000_000_000 + n * 1_000) for n in range(300)]
    for names in (walls, ticks):
        keys = [run_key("backup", name) for name in names]
        assert keys == sorted(keys)
    # The wall time as it stands in the name: no zone data are asked, so none that change can change the key.
    assert int.from_bytes(run_key("backup", walls[2])[:6], "big") == 20_541 * day_ms + 9_000_000


@pytest.mark.parametrize(
    ("nominal", "clock_ms"),
    [
        ("1700000000000999", 1_700_000_000_000),
        ("2026-03-29T02:30:00.250000/1 Europe/Berlin", 1_774_751_400_250),
        ("-5", 0),
        ("0001-01-01T00:00:00/0 UTC", 0),
        ("9" * 30, (1 << 48) - 1),
        ("order 66", 0),
    ],
)
def test_fire_1_a_key_is_made_of_any_name_whatever_its_clock_says(nominal: str, clock_ms: int) -> None:
    key = run_key("backup", nominal)
    assert (len(key), int.from_bytes(key[:6], "big")) == (16, clock_ms)
    assert run_key("backup", nominal, RunKind.MANUAL)[:6] == bytes(6), "a client's own key tells no time"
