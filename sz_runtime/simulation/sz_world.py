"""Users' own handlers under simulated time and seeded faults: what the pytest fixture `sz_world` is.

def test_invoices_survive_crashes(sz_world):
    sent = []

    async def send(run):
        await anyio.sleep(2)
        sent.append(run.idempotency_key)

    sz_world.register("billing", send)
    sz_world.schedule(id="invoices", handler_id="billing", method="send",
                      trigger={"type": "interval", "seconds": 30})
    result = sz_world.run(seed=7, minutes=20)
    assert result.ok, result.violations
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import Factory, define, evolve

from sz_protocol.definition_wire import definition_from_wire
from sz_protocol.kernel.now import MINUTE_US
from sz_runtime.call_plan import ASYNC_POOL, THREAD_POOL
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.simulation.diary import Diary
from sz_runtime.simulation.drawing import (
    Fault,
    clock_faults,
    crashes,
    disk_faults,
    drains,
    draw_plan,
    stalls,
    store_faults,
)
from sz_runtime.simulation.host import Host
from sz_runtime.simulation.plan import Job, Plan
from sz_runtime.simulation.scenario import plan_steps
from sz_runtime.simulation.steps import Heal, Start
from sz_runtime.simulation.user_executor import SLOTS, UserExecutor
from sz_runtime.simulation.workload import jobs_of
from sz_runtime.simulation.world import Result, World

FAULTS: dict[str, Fault] = {
    "crash": crashes,
    "drain": drains,
    "stall": stalls,
    "clock": clock_faults,
    "disk": disk_faults,
    "store": store_faults,
}
"""Kinds of faults by the names that `run` takes."""


class HandlersFailed(AssertionError):
    """Something went wrong in a handler's event loop outside of any run: a stray task, a thread."""


@define
class SzWorld:
    """Handlers and schedules of a test, and the runs of it. Each `run` is a new world: no node, ledger or clock of an
    earlier one is left; what the handlers keep outside of it is the test's own."""

    registry: LocalHandlerRegistry = Factory(LocalHandlerRegistry)
    _jobs: list[Job] = Factory(list)
    _graveyard: list[asyncio.Task[Any]] = Factory(list)
    _executors: list[UserExecutor] = Factory(list)
    last: str = ""
    """The call that made the last world, as it replays it; what a failing test shows."""

    # --- who takes part -----------------------------------------------------------------------------------------

    def register(self, handler_id: str, func: Callable[..., Any], **options: Any) -> None:
        """Register a handler, as LocalHandlerRegistry.register does."""
        self.registry.register(handler_id, func, **options)

    def adopt(self, registry: LocalHandlerRegistry) -> None:
        """Take over all handlers of another registry, for example `sz_runtime.handlers.DEFAULT_REGISTRY`."""
        self.registry.adopt(registry.entries())

    def schedule(self, **definition: Any) -> None:
        """Add a schedule, written as under `schedules:` in a configuration. Raises DefinitionError."""
        self._jobs += jobs_of([definition_from_wire(definition)])

    def configuration(self, path: str | Path) -> None:
        """Add the schedules of a configuration file. Raises ConfigError."""
        from sz_runtime.config import load_config

        self._jobs += jobs_of(load_config(str(path)).schedules)

    # --- runs ---------------------------------------------------------------------------------------------------

    def run(
        self,
        seed: int = 1,
        *,
        minutes: float = 10,
        faults: tuple[str, ...] = ("crash",),
        longest_run_s: float = 600,
    ) -> Result:
        """Simulate `minutes` under faults of these kinds (see FAULTS), heal, let everything end, and check every
        invariant. A run that takes longer than `longest_run_s` after that counts as stuck. Raises HandlersFailed, and
        ValueError for a kind that is not there."""
        for name in faults:
            if name not in FAULTS:
                raise ValueError(f"there are no faults {name!r}; there are {', '.join(FAULTS)}")
        kinds = tuple(FAULTS[name] for name in faults)
        self.last = f"sz_world.run({seed}, minutes={minutes}, faults={faults}, longest_run_s={longest_run_s})"
        plan = draw_plan(seed, tuple(self._jobs), int(minutes * MINUTE_US), kinds)
        return self.simulate(self._with_pools(plan, longest_run_s))

    def runs(self, seeds: int = 20, **options: Any) -> Iterator[Result]:
        """`run` for the seeds 1 to `seeds`."""
        for seed in range(1, seeds + 1):
            yield self.run(seed, **options)

    def play(self, steps: str, *, seed: int = 1, longest_run_s: float = 600) -> Result:
        """Do the steps of a script, one a line (`advance 5s`, `crash a before write restart after 1s`, ...), with one
        node called a that is started first, at 2026-03-01T00:00:00Z. Raises ScenarioError."""
        self.last = f"sz_world.play({steps!r}, seed={seed}, longest_run_s={longest_run_s})"
        plan = Plan(seed, tuple(self._jobs), (Start("a"), *plan_steps(steps), Heal()))
        return self.simulate(self._with_pools(plan, longest_run_s))

    def simulate(self, plan: Plan) -> Result:
        """Run a plan with the handlers of this test."""
        world = World(plan.seed, plan, keep=True, make_executor=self._executor)
        result = world.run()
        for host in world.hosts.values():
            if host.life is not None:
                host.life.executor.close(0)
        problems = [problem for executor in self._executors for problem in executor.loop.problems]
        self._executors.clear()
        if problems:
            raise HandlersFailed("; ".join(problems[:5]))
        return result

    def _with_pools(self, plan: Plan, longest_run_s: float) -> Plan:
        pools = ((ASYNC_POOL, SLOTS), (THREAD_POOL, SLOTS), ("default", SLOTS))
        patience_us = int(longest_run_s * 1e6)
        return evolve(plan, pools=pools, patience_us=patience_us, settle_us=plan.settle_us + patience_us)

    def _executor(self, host: Host, diary: Diary) -> UserExecutor:
        executor = UserExecutor(host.around.agenda, diary, host.clock, self.registry, self._graveyard)
        self._executors.append(executor)
        return executor

    def bury(self) -> None:
        """After the test: let go of what kills left half done. Its `finally` blocks run only now."""
        while self._graveyard:
            task = self._graveyard.pop()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with suppress(BaseException):
                task.get_coro().close()
