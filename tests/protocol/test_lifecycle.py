"""The lifecycle machine by examples: one rule each (specs/components.md)."""

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from sz_protocol.components import (
    CancelComponent,
    ComponentEnded,
    ComponentSpec,
    ComponentStarted,
    ComponentState,
    Restart,
    StartAsked,
    StartComponent,
    in_order,
)
from sz_protocol.kernel.effects import Publish
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import Woke
from sz_protocol.kernel.moves import as_markdown, move
from sz_protocol.kernel.now import SECOND_US, Now, WakeReason
from sz_protocol.machines import lifecycle
from sz_protocol.machines.lifecycle import MOVES, Lifecycle
from sz_protocol.notices import ComponentChanged, Ignored, NodeFailed
from tests.protocol.lifecycle_rig import Behaviour, Rig, nothing_half_alive

S = SECOND_US
BROKER = ComponentSpec("broker", required=False)
STORE = ComponentSpec("store")
SCHEDULER = ComponentSpec("scheduler", needs=("store",), after=("broker",))
WEB = ComponentSpec("web", needs=("scheduler",), required=False)
SPECS = (WEB, SCHEDULER, STORE, BROKER)
ALL = ("web", "scheduler", "store", "broker")
HANGS = Behaviour(start_us=None)
FAILS = Behaviour(fails=True)


def only(name: str, bad: Behaviour, lives: int = 1000) -> Callable[[str, int], Behaviour]:
    """That one component behaves badly, in its first lives."""
    return lambda owner, life: bad if owner == name and life <= lives else Behaviour()


def running_rig(behave: Callable[[str, int], Behaviour] = lambda name, life: Behaviour()) -> Rig:
    rig = Rig(SPECS, behave)
    request = rig.start(*ALL)
    rig.pass_time(S)
    assert rig.answers == {request: ""}
    rig.log.clear()
    return rig


def test_life_1_starts_in_order_of_dependency_and_life_2_stops_in_reverse() -> None:
    rig = Rig(SPECS)
    started = rig.start(*ALL)
    assert rig.log == ["start store", "start broker"], "what stands on others waits"
    rig.pass_time(S)
    assert rig.log == ["start store", "start broker", "start scheduler", "start web"]
    assert rig.answers == {started: ""}
    rig.log.clear()
    stopped = rig.stop(*ALL)
    assert rig.log == ["stop web"], "what carries others waits"
    rig.pass_time(S)
    assert rig.log == ["stop web", "stop scheduler", "stop broker", "stop store"]
    assert rig.answers[stopped] == ""
    assert rig.alive() == []


def test_starting_one_component_starts_what_it_needs_and_nothing_else() -> None:
    rig = Rig(SPECS)
    rig.start("scheduler")
    rig.pass_time(S)
    assert rig.states() == {"web": "stopped", "scheduler": "running", "store": "running", "broker": "stopped"}


def test_stopping_one_component_stops_what_needs_it_and_nothing_else() -> None:
    rig = running_rig()
    rig.stop("scheduler")
    rig.pass_time(S)
    assert rig.log == ["stop web", "stop scheduler"]
    assert rig.states() == {"web": "stopped", "scheduler": "stopped", "store": "running", "broker": "running"}


def test_a_component_that_others_only_come_after_may_stop_alone() -> None:
    rig = running_rig()
    rig.stop("broker")
    rig.pass_time(S)
    assert rig.log == ["stop broker"]
    assert rig.states()["scheduler"] == "running"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (FAILS, "scheduler: cannot start"),
        (HANGS, "scheduler: it did not start within 30s"),
        (Behaviour(start_us=None, leave_us=None), "scheduler: it did not start within 30s, and it did not leave"),
    ],
    ids=["fails", "hangs", "hangs and ignores its cancellation"],
)
def test_life_4_a_required_component_that_does_not_start_undoes_the_half_started_node(
    bad: Behaviour, said: str
) -> None:
    rig = Rig(SPECS, only("scheduler", bad))
    request = rig.start(*ALL)
    rig.pass_time(60 * S)
    assert rig.answers[request].startswith(said)
    assert nothing_half_alive(rig)
    assert rig.log[:3] == ["start store", "start broker", "start scheduler"]
    assert rig.log[-2:] == ["stop broker", "stop store"], "undone in reverse"
    assert "start web" not in rig.log


def test_life_4_undoing_a_later_start_leaves_what_ran_before() -> None:
    rig = Rig(SPECS, only("scheduler", FAILS))
    rig.start("store")
    rig.pass_time(S)
    later = rig.start(*ALL)
    rig.pass_time(60 * S)
    assert rig.answers[later] == "scheduler: cannot start"
    assert rig.states() == {"web": "stopped", "scheduler": "failed", "store": "running", "broker": "stopped"}


def test_an_optional_component_that_does_not_start_hinders_nobody() -> None:
    rig = Rig(SPECS, only("broker", FAILS, lives=2))
    request = rig.start(*ALL)
    rig.pass_time(100_000)
    assert rig.answers == {request: ""}
    assert rig.states()["scheduler"] == "running"
    rig.pass_time(60 * S)
    assert rig.states()["broker"] == "running", "LIFE-6: it was tried again"


def test_the_scheduler_waits_for_a_broker_that_is_slow_to_start() -> None:
    rig = Rig(SPECS, only("broker", Behaviour(start_us=5 * S)))
    rig.start(*ALL)
    rig.pass_time(4 * S)
    assert rig.states()["scheduler"] == "waiting"
    rig.pass_time(2 * S)
    assert rig.states()["scheduler"] == "running"


def test_life_3_a_component_that_hangs_in_its_stop_is_cancelled_and_the_rest_stops() -> None:
    rig = running_rig(only("scheduler", Behaviour(stop_us=None)))
    request = rig.stop(*ALL)
    rig.pass_time(29 * S)
    assert request not in rig.answers
    rig.pass_time(2 * S)
    assert rig.answers[request] == ""
    assert rig.log == ["stop web", "stop scheduler", "cancel scheduler", "stop broker", "stop store"]


def test_life_3_a_component_that_never_leaves_is_named_and_the_rest_stops() -> None:
    rig = running_rig(only("scheduler", Behaviour(stop_us=None, leave_us=None)))
    request = rig.stop(*ALL)
    rig.pass_time(36 * S)
    assert rig.answers[request] == (
        "scheduler: it did not stop within 30s, and it did not leave within 5s of being cancelled"
    )
    assert rig.alive() == ["scheduler"]
    assert rig.states() == {"web": "stopped", "scheduler": "stuck", "store": "stopped", "broker": "stopped"}


def test_life_5_what_would_not_leave_bars_its_next_life_until_it_has_left() -> None:
    rig = running_rig(only("scheduler", Behaviour(stop_us=None, leave_us=None), lives=1))
    rig.stop("scheduler")
    rig.pass_time(36 * S)
    again = rig.start("scheduler")
    assert rig.answers[again].startswith("scheduler: it did not stop within 30s")
    assert rig.states()["scheduler"] == "stuck"
    rig.take(ComponentEnded("scheduler", 1))
    del rig.lives["scheduler", 1]
    assert rig.states()["scheduler"] == "stopped"
    again = rig.start("scheduler")
    rig.pass_time(S)
    assert rig.answers[again] == ""


def test_life_6_a_component_that_dies_comes_back_with_those_that_need_it() -> None:
    rig = running_rig()
    rig.kill("scheduler")
    assert rig.states()["scheduler"] == "backing_off"
    assert rig.log == ["stop web"], "web stands on nothing now"
    rig.pass_time(2 * S)
    assert rig.log == ["stop web", "start scheduler", "start web"]
    assert set(rig.states().values()) == {"running"}


def test_life_6_the_back_off_doubles_has_full_jitter_and_a_ceiling() -> None:
    spec = ComponentSpec("a", restart=Restart(base_us=S, max_us=8 * S))
    waits: dict[int, list[int]] = {}
    for seed in range(60):
        machine = Lifecycle((spec,), Random(seed))
        machine.handle(StartAsked(1, ("a",)), Now(0, 0))
        machine.handle(ComponentStarted("a", 1), Now(1, 0))
        at_us = 1
        for death in range(1, 8):
            machine.handle(ComponentEnded("a", death, "died"), Now(at_us, 0))
            wakeup = machine.next_wakeup(Now(at_us, 0))
            assert wakeup is not None
            assert wakeup.reason is WakeReason.RETRY
            waits.setdefault(death, []).append(wakeup.at_us - at_us)
            at_us = wakeup.at_us
            effects = machine.handle(Woke(), Now(at_us, 0))
            assert StartComponent("a", death + 1) in effects
            machine.handle(ComponentStarted("a", death + 1), Now(at_us, 0))
    for death, drawn in waits.items():
        ceiling = min(8 * S, S << (death - 1))
        assert max(drawn) <= ceiling
        assert max(drawn) > 0.8 * ceiling
        assert min(drawn) < 0.2 * ceiling, "full jitter reaches down to nothing"


def test_life_6_a_stable_life_ends_a_row_of_deaths() -> None:
    spec = ComponentSpec("a", restart=Restart(limit=2, stable_us=60 * S))
    rig = Rig((spec,))
    rig.start("a")
    for _ in range(5):
        rig.pass_time(61 * S)
        rig.kill("a")
        assert rig.states() == {"a": "backing_off"}
        assert rig.machine.standings["a"].deaths == 1


def test_a_required_component_that_is_given_up_stops_the_node() -> None:
    spec = ComponentSpec("a", restart=Restart(base_us=1, limit=2))
    rig = Rig((spec, ComponentSpec("b")))
    rig.start("a", "b")
    for _ in range(3):
        rig.pass_time(S)
        assert rig.states()["b"] == "running"
        rig.kill("a")
    rig.pass_time(S)
    assert rig.states() == {"a": "failed", "b": "stopped"}
    assert NodeFailed("a", "killed") in rig.notices


def test_an_optional_component_that_is_given_up_stays_visible_and_hinders_nobody() -> None:
    rig = running_rig()
    rig.kill("broker", permanent=True)
    rig.pass_time(100 * S)
    assert rig.states() == {"web": "running", "scheduler": "running", "store": "running", "broker": "failed"}
    assert ComponentChanged("broker", "failed", "killed") in rig.notices
    again = rig.start("broker")
    rig.pass_time(S)
    assert rig.answers[again] == ""
    assert rig.states()["broker"] == "running"


def test_a_component_that_comes_back_waits_until_those_on_its_former_life_have_left() -> None:
    rig = running_rig(only("web", Behaviour(stop_us=20 * S)))
    rig.kill("scheduler")
    rig.pass_time(19 * S)
    assert rig.states()["scheduler"] == "waiting"
    rig.pass_time(2 * S)
    assert set(rig.states().values()) == {"running"}


def test_a_required_component_that_gets_stuck_while_it_is_wanted_stops_the_node() -> None:
    rig = running_rig(lambda name, life: Behaviour(start_us=None, leave_us=None) if life == 2 else Behaviour())
    rig.kill("scheduler")
    rig.pass_time(60 * S)
    assert rig.states() == {"web": "stopped", "scheduler": "stuck", "store": "stopped", "broker": "stopped"}
    assert [notice.component for notice in rig.notices if isinstance(notice, NodeFailed)] == ["scheduler"]


def test_a_start_that_hung_once_is_not_held_against_the_next_life() -> None:
    rig = Rig(SPECS, only("web", HANGS, lives=1))
    rig.start(*ALL)
    rig.pass_time(60 * S)
    assert rig.states()["web"] == "running"
    rig.kill("scheduler")
    assert rig.states()["web"] == "stopping"
    rig.pass_time(2000)
    assert rig.states()["web"] == "waiting", "it did nothing wrong this time"


def test_a_start_that_hung_is_forgiven_when_somebody_asks_anew() -> None:
    slow_to_leave = Behaviour(start_us=None, leave_us=2 * S)
    rig = Rig((STORE,), only("store", slow_to_leave, lives=1))
    first = rig.start("store")
    rig.pass_time(31 * S)
    assert rig.states() == {"store": "cancelling"}
    rig.stop("store")
    second = rig.start("store")
    rig.pass_time(10 * S)
    assert rig.answers[first] == "store: it was stopped before it ran"
    assert rig.answers[second] == ""


def test_a_late_start_does_not_win_over_its_time_out() -> None:
    machine = Lifecycle((ComponentSpec("a", start_timeout_us=10 * S),), Random(0))
    machine.handle(StartAsked(1, ("a",)), Now(0, 0))
    effects = machine.handle(ComponentStarted("a", 1), Now(10 * S, 0))
    assert CancelComponent("a", 1) in effects
    assert Publish(Ignored("ComponentStarted", "a: it is cancelling")) in effects


def test_news_of_an_earlier_life_is_ignored_and_said() -> None:
    rig = running_rig(lambda name, life: Behaviour(start_us=S) if life == 2 else Behaviour())
    rig.kill("scheduler")
    rig.pass_time(S)
    rig.take(ComponentStarted("scheduler", 1))
    assert rig.states()["scheduler"] == "starting"
    rig.pass_time(2 * S)
    rig.take(ComponentEnded("scheduler", 1, "again"))
    rig.take(ComponentStarted("nobody", 1))
    assert rig.states()["scheduler"] == "running"
    assert rig.notices[-2:] == [
        Ignored("ComponentEnded", "scheduler: life 1 is over, this is life 2"),
        Ignored("ComponentStarted", "nobody: there is no such component"),
    ]


def test_a_stop_during_a_start_wins_and_both_are_answered() -> None:
    rig = Rig(SPECS, only("scheduler", HANGS))
    started = rig.start(*ALL)
    rig.pass_time(S)
    stopped = rig.stop(*ALL)
    rig.pass_time(S)
    assert rig.answers == {started: "store: it was stopped before it ran", stopped: ""}
    assert nothing_half_alive(rig)


def test_a_start_during_a_stop_wins_and_both_are_answered() -> None:
    rig = running_rig()
    stopped = rig.stop(*ALL)
    started = rig.start(*ALL)
    rig.pass_time(S)
    assert "web: it was started again" in rig.answers[stopped]
    assert rig.answers[started] == ""
    assert set(rig.states().values()) == {"running"}


def test_asking_for_what_backs_off_tries_it_at_once() -> None:
    rig = running_rig(only("broker", Behaviour(fails=True), lives=4))
    for _ in range(3):
        rig.pass_time(60 * S)
        rig.kill("broker")
    assert rig.states()["broker"] == "backing_off"
    request = rig.start("broker")
    rig.pass_time(1000)
    assert rig.answers[request] == ""
    assert rig.states()["broker"] == "running"


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ((ComponentSpec("a"), ComponentSpec("a")), "two components have one name"),
        ((ComponentSpec("a", needs=("b",)),), "component 'a' needs 'b', which is not part of this node"),
        ((ComponentSpec("a", needs=("b",)), ComponentSpec("b", required=False)), "component 'a' is required, so 'b'"),
        ((ComponentSpec("a", needs=("b",)), ComponentSpec("b", after=("a",))), "components wait for each other: "),
    ],
)
def test_specs_that_contradict_each_other_are_refused(specs: tuple[ComponentSpec, ...], said: str) -> None:
    with pytest.raises(LocalProtocolError, match=re.escape(said)):
        in_order(list(specs))


def test_misuse_by_the_local_program_raises() -> None:
    machine = Lifecycle(SPECS, Random(0))
    with pytest.raises(LocalProtocolError, match="no component 'nobody'"):
        machine.handle(StartAsked(1, ("nobody",)), Now(0, 0))
    machine.handle(StartAsked(1, ("web",)), Now(0, 0))
    with pytest.raises(LocalProtocolError, match="request 1 is already open"):
        machine.handle(StartAsked(1, ("web",)), Now(0, 0))


def test_moves_that_the_table_lacks_raise() -> None:
    verdicts = {event for _, event in MOVES}
    missing = [(state, verdict) for state in ComponentState for verdict in verdicts if (state, verdict) not in MOVES]
    assert len(missing) + len(MOVES) == len(verdicts) * len(ComponentState)
    for state, verdict in missing:
        with pytest.raises(LocalProtocolError):
            move(MOVES, state, object.__new__(verdict))


def test_the_specs_hold_the_table_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "specs" / "components.md").read_text()
    assert as_markdown(MOVES) in text
    for rule in re.findall(r"^LIFE-\d", lifecycle.__doc__ or "", re.MULTILINE):
        assert rule in text


@pytest.mark.parametrize("behaviour", [Behaviour(stop_us=5000), Behaviour(start_us=5000, fails=True)])
def test_life_5_one_that_ends_at_the_very_time_out_is_not_told_to_leave(behaviour: Behaviour) -> None:
    spec = ComponentSpec("a", required=False, start_timeout_us=5000, stop_timeout_us=5000, restart=Restart(1, 1))
    rig = Rig((spec,), only("a", behaviour, lives=1))
    rig.start("a")
    rig.pass_time(1000)
    if behaviour.stop_us == 5000:
        rig.stop("a")
        rig.start("a")
    rig.pass_time(4000)
    assert "cancel a" not in rig.log
    rig.pass_time(3000)
    assert rig.states() == {"a": "running"}
    assert rig.machine.standings["a"].life == 2
    assert sorted(rig.answers) == [*range(1, len(rig.answers) + 1)]
