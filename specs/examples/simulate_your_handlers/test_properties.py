"""Your own property over plans that Hypothesis draws: schedules, handlers, faults. What fails shrinks."""

from hypothesis import HealthCheck, given, settings

from sz_runtime.simulation.plan import Plan
from sz_runtime.simulation.strategies import plans
from sz_runtime.simulation.world import World


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans(most_faults=3))
def test_every_invariant_holds(plan: Plan) -> None:
    result = World(plan.seed, plan).run()
    assert result.ok, result.violations
