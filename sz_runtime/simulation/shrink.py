"""From a failing plan to a small one that fails in the same way.

Greedy, deterministic, and honest: a change is kept only when the run still breaks the same invariant. Steps go first
(halves, quarters ... single ones, as in delta debugging), then jobs, then what is odd about what is left.
"""

from collections.abc import Callable, Iterator
from typing import Any

from attrs import evolve, fields

from sz_protocol.definition import Definition
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.settings import Settings
from sz_runtime.simulation.behaviour import Behaviour
from sz_runtime.simulation.network import CALM
from sz_runtime.simulation.plan import ORIGIN_UTC_US, Job, NodePlan, Plan
from sz_runtime.simulation.steps import Advance, Configure, SetWeather, Start, Step

Fails = Callable[[Plan], bool]
SHORT_US = 60 * SECOND_US


def shrink(plan: Plan, fails: Fails, tries: int = 400) -> Plan:
    """The smallest plan that was found within `tries` runs for which `fails` still says True."""
    left = tries
    changed = True
    while changed and left > 0:
        changed = False
        for smaller in _smaller(plan):
            left -= 1
            if left < 0:
                break
            if fails(smaller):
                plan, changed = smaller, True
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Candidates, the boldest first."""
    yield from _shorter_end(plan)
    yield from _fewer_steps(plan)
    yield from _fewer_jobs(plan)
    yield from _fewer_nodes(plan)
    yield from _plainer_settings(plan)
    yield from _plainer_jobs(plan)
    yield from _rounder_times(plan)


def _shorter_end(plan: Plan) -> Iterator[Plan]:
    """Settling is most of a run: less of it makes all that follows quicker."""
    for settle_us in (SHORT_US, plan.settle_us // 4, plan.settle_us // 2):
        if SHORT_US <= settle_us < plan.settle_us:
            yield evolve(plan, settle_us=settle_us)


def _fewer_steps(plan: Plan) -> Iterator[Plan]:
    steps = plan.steps
    size = len(steps) // 2
    while size >= 1:
        for start in range(0, len(steps), size):
            cut = steps[start : start + size]
            rest = (*steps[:start], *steps[start + size :])
            # What is cut out takes no time with it: what came after it stays where it was.
            passed_us = sum(step.us for step in cut if isinstance(step, Advance))
            kept = (*steps[:start], *([Advance(passed_us)] if passed_us else []), *steps[start + size :])
            yield from (evolve(plan, steps=_joined(other)) for other in (rest, kept) if _joined(other) != steps)
        size //= 2


def _joined(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Neighbouring advances become one."""
    joined: list[Step] = []
    for step in steps:
        if isinstance(step, Advance) and joined and isinstance(joined[-1], Advance):
            joined[-1] = Advance(joined[-1].us + step.us)
        else:
            joined.append(step)
    return tuple(joined)


def _fewer_jobs(plan: Plan) -> Iterator[Plan]:
    for gone in range(len(plan.jobs)):
        if len(plan.jobs) > 1:
            yield _without_job(plan, gone)


def _without_job(plan: Plan, gone: int) -> Plan:
    """The plan without one job; what speaks of it by name is kept, what speaks of it by number is renumbered."""

    def renumber(jobs: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(index - (index > gone) for index in jobs if index != gone)

    steps = tuple(evolve(s, jobs=renumber(s.jobs)) if isinstance(s, Configure) else s for s in plan.steps)
    first = None if plan.first_jobs is None else renumber(plan.first_jobs)
    jobs = (*plan.jobs[:gone], *plan.jobs[gone + 1 :])
    names = [job.definition.id for job in jobs]
    steps = tuple(step for step in steps if getattr(step, "schedule_id", names[0] if names else "") in names)
    return evolve(plan, jobs=jobs, steps=steps, first_jobs=None if first == tuple(range(len(jobs))) else first)


def _fewer_nodes(plan: Plan) -> Iterator[Plan]:
    for gone in plan.nodes[1:]:
        nodes = tuple(node for node in plan.nodes if node is not gone)
        steps = tuple(step for step in plan.steps if getattr(step, "node", "") != gone.name)
        yield evolve(plan, nodes=nodes, steps=steps)
    if any(node.remote for node in plan.nodes):
        yield evolve(plan, nodes=tuple(NodePlan(node.name, node.store) for node in plan.nodes))


def _plainer_settings(plan: Plan) -> Iterator[Plan]:
    usual = Settings()
    used = {job.pool for job in plan.jobs}
    if any(name not in used and name != "default" for name, _ in plan.pools):
        yield evolve(plan, pools=tuple(pool for pool in plan.pools if pool[0] in used or pool[0] == "default"))
    if plan.origin_utc_us != ORIGIN_UTC_US:
        yield evolve(plan, origin_utc_us=ORIGIN_UTC_US)
    if plan.settings == usual:
        return
    yield evolve(plan, settings=usual)
    for field in fields(Settings):
        plain: dict[str, Any] = {field.name: getattr(usual, field.name)}
        if getattr(plan.settings, field.name) != plain[field.name]:
            yield evolve(plan, settings=evolve(plan.settings, **plain))


def _plainer_jobs(plan: Plan) -> Iterator[Plan]:
    for index, job in enumerate(plan.jobs):
        for plainer in _plainer_job(job):
            yield evolve(plan, jobs=(*plan.jobs[:index], plainer, *plan.jobs[index + 1 :]))


def _plainer_job(job: Job) -> Iterator[Job]:
    kept = ("id", "handler_id", "method", "trigger")
    bare = Definition(**{name: getattr(job.definition, name) for name in kept})
    if job != Job(bare):
        yield Job(bare)
    if job.pool != "default":
        yield evolve(job, pool="default")
    for field in fields(Behaviour):
        plain: dict[str, Any] = {field.name: getattr(Behaviour(), field.name)}
        if getattr(job.behaviour, field.name) != plain[field.name]:
            yield evolve(job, behaviour=evolve(job.behaviour, **plain))
    for field in fields(Definition):
        usual: dict[str, Any] = {field.name: getattr(bare, field.name)}
        if getattr(job.definition, field.name) != usual[field.name]:
            yield evolve(job, definition=evolve(job.definition, **usual))


def _rounder_times(plan: Plan) -> Iterator[Plan]:
    """Whole seconds are easier to read than microseconds, and calm weather than bad."""
    for index, step in enumerate(plan.steps):
        other: Step | None = None
        match step:
            case Advance(us) if us % SECOND_US:
                other = Advance(max(round(us / SECOND_US), 1) * SECOND_US)
            case SetWeather(weather) if weather != CALM:
                other = SetWeather(CALM)
            case Start(node, True):
                other = Start(node)
        if other is not None:
            yield evolve(plan, steps=(*plan.steps[:index], other, *plan.steps[index + 1 :]))
