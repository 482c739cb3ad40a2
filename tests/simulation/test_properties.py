"""Properties over plans that Hypothesis draws, and worlds that it steers: every invariant holds."""

from attrs import evolve
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sz_protocol.kernel.now import SECOND_US
from sz_runtime.simulation.plan import Job, NodePlan, Plan
from sz_runtime.simulation.scenario_text import plan_to_text, text_to_plan
from sz_runtime.simulation.steps import Advance, Start, Step, StepClock
from sz_runtime.simulation.strategies import LONGEST_US, NODE, STORE, durations, faults, plans, workloads
from sz_runtime.simulation.world import World

QUICK = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)


@QUICK
@given(plans())
def test_every_invariant_holds_for_every_plan(plan: Plan) -> None:
    result = World(plan.seed, plan).run()
    assert result.ok, (result.violations, plan_to_text(plan))


@settings(max_examples=60, deadline=None)
@given(plans())
def test_every_plan_has_a_text_that_means_the_same(plan: Plan) -> None:
    assert text_to_plan(plan_to_text(plan)) == evolve(plan, first_jobs=None)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans(most_faults=5))
def test_the_same_plan_has_the_same_trace(plan: Plan) -> None:
    assert World(plan.seed, plan).run().trace_hash == World(plan.seed, plan).run().trace_hash


class SteeredWorld(RuleBasedStateMachine):
    """Hypothesis decides, step by step, what happens to a node; at the end everything is healed and judged."""

    world: World
    error_us = 0
    furthest_us = 0

    @initialize(jobs=workloads(3), seed=st.integers(0, 1000))
    def begin(self, jobs: tuple[Job, ...], seed: int) -> None:
        plan = Plan(seed, jobs, (), nodes=(NodePlan(NODE, STORE),))
        self.world = World(seed, plan)
        self.world.begin()
        self.world.do(Start(NODE))

    @rule(us=durations(1000, LONGEST_US // 4))
    def time_passes(self, us: int) -> None:
        self.world.do(Advance(us))

    @rule(step=faults(("s0",)))
    def something_happens(self, step: Step) -> None:
        self.world.do(step)
        if isinstance(step, StepClock):
            self.error_us += step.us
            self.furthest_us = max(self.furthest_us, self.error_us)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            # A clock that was ahead has to be caught up with before the cursors go on.
            self.world.settle(420 * SECOND_US + self.furthest_us)
            assert not self.world.watch.violations


TestSteeredWorld = SteeredWorld.TestCase
TestSteeredWorld.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
