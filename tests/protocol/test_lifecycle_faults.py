"""The lifecycle machine under components that fail, hang and die as Hypothesis wants, in any order of requests.

The rig checks LIFE-1, LIFE-2, LIFE-5 and LIFE-7 at every order; the rules here check LIFE-3, LIFE-4 and that the node
recovers once its components behave.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sz_protocol.components import ComponentSpec, ComponentState, Restart
from sz_protocol.kernel.now import SECOND_US
from tests.protocol.lifecycle_rig import Behaviour, Rig, bound_us, nothing_half_alive

NAMES = ("a", "b", "c", "d", "e")
ROUND = (5000, 10_000, 15_000, SECOND_US, 10 * SECOND_US)
"""So that things often happen in one and the same microsecond."""
SOON = st.one_of(st.integers(0, 20_000_000), st.sampled_from((0, 1, *ROUND)))
OR_NEVER = st.one_of(SOON, st.none())
BEHAVIOURS = st.builds(
    Behaviour,
    start_us=st.one_of(SOON, SOON, st.none()),
    fails=st.booleans(),
    dies_us=st.one_of(st.none(), st.none(), SOON),
    stop_us=OR_NEVER,
    leave_us=st.one_of(SOON, SOON, SOON, st.none()),
    permanent=st.booleans(),
)
TIMES = st.one_of(st.integers(5000, 10_000_000), st.sampled_from(ROUND))
"""Longer than a component that behaves takes."""
RESTARTS = st.builds(
    Restart,
    base_us=st.one_of(st.just(1), st.integers(1, SECOND_US)),
    max_us=st.one_of(st.just(1), st.integers(1, 10_000_000)),
    stable_us=st.integers(1, 30_000_000),
    limit=st.one_of(st.none(), st.integers(1, 3)),
)


@st.composite
def spec_lists(draw: st.DrawFn) -> tuple[ComponentSpec, ...]:
    """Two to five components; each stands on earlier ones only."""
    specs: list[ComponentSpec] = []
    for name in NAMES[: draw(st.integers(2, len(NAMES)))]:
        required = draw(st.booleans())
        below = [spec.name for spec in specs if spec.required or not required]
        needs = tuple(draw(st.lists(st.sampled_from(below), unique=True, max_size=2))) if below else ()
        others = [spec.name for spec in specs if spec.name not in needs]
        after = tuple(draw(st.lists(st.sampled_from(others), unique=True, max_size=2))) if others else ()
        specs.append(ComponentSpec(name, needs, after, required, draw(TIMES), draw(TIMES), draw(TIMES), draw(RESTARTS)))
    return tuple(draw(st.permutations(specs)))


class LifecycleUnderFaults(RuleBasedStateMachine):
    """Any requests, in any order, at any time, on components that do what they like."""

    @initialize(specs=spec_lists(), seed=st.integers(0, 1 << 32), data=st.data())
    def begin(self, specs: tuple[ComponentSpec, ...], seed: int, data: st.DataObject) -> None:
        self.specs = specs
        self.names = tuple(spec.name for spec in specs)
        self.good = False
        self.asked: dict[int, int] = {}
        self.rig = Rig(specs, lambda name, life: Behaviour() if self.good else data.draw(BEHAVIOURS), seed)

    @rule(picks=st.lists(st.integers(0, 4), min_size=1, max_size=3))
    def start_some(self, picks: list[int]) -> None:
        self.asked[self.rig.start(*(self.names[pick % len(self.names)] for pick in picks))] = self.rig.now_us

    @rule(picks=st.lists(st.integers(0, 4), min_size=1, max_size=3))
    def stop_some(self, picks: list[int]) -> None:
        self.asked[self.rig.stop(*(self.names[pick % len(self.names)] for pick in picks))] = self.rig.now_us

    @rule()
    def start_all(self) -> None:
        from_nothing = all(s.state is ComponentState.STOPPED for s in self.rig.machine.standings.values())
        self.asked[request := self.rig.start(*self.names)] = self.rig.now_us
        if from_nothing:
            self.rig.pass_time(bound_us(self.specs))
            if self.rig.answers[request]:
                assert nothing_half_alive(self.rig), "LIFE-4"

    @rule(us=st.one_of(st.integers(0, 30_000_000), SOON))
    def wait(self, us: int) -> None:
        self.rig.pass_time(us)

    @rule(pick=st.integers(0, 4), permanent=st.booleans())
    def kill(self, pick: int, permanent: bool) -> None:
        self.rig.kill(self.names[pick % len(self.names)], permanent=permanent)

    @precondition(lambda self: hasattr(self, "rig"))
    @invariant()
    def life_3_no_request_waits_longer_than_the_time_outs_allow(self) -> None:
        for request, since_us in self.asked.items():
            if request not in self.rig.answers:
                assert self.rig.now_us - since_us <= bound_us(self.specs), "LIFE-3"

    @precondition(lambda self: hasattr(self, "rig"))
    @invariant()
    def the_machine_and_the_world_agree_on_who_lives(self) -> None:
        alive = (*(s for s in ComponentState if s in ("starting", "running", "stopping", "cancelling", "stuck")),)
        for name, standing in self.rig.machine.standings.items():
            assert (name in self.rig.alive()) == (standing.state in alive)

    def teardown(self) -> None:
        """Let everything stop; then, with components that behave, everything runs."""
        if not hasattr(self, "rig"):
            return
        self.asked[self.rig.stop(*self.names)] = self.rig.now_us
        self.rig.pass_time(bound_us(self.specs))
        assert nothing_half_alive(self.rig)
        assert sorted(self.rig.answers) == sorted(self.asked), "LIFE-7"
        for name, life in list(self.rig.lives):
            self.rig._end(name, life, "", permanent=False)
        self.good = True
        request = self.rig.start(*self.names)
        self.rig.pass_time(bound_us(self.specs))
        assert self.rig.answers[request] == ""
        assert set(self.rig.states().values()) == {"running"}


TestLifecycleUnderFaults = LifecycleUnderFaults.TestCase
TestLifecycleUnderFaults.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
