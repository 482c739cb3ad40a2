"""What every checker has: it listens to records of the trace, and reports what must not be."""

from attrs import Factory, define, frozen

from sz_protocol.definition import Definition
from sz_protocol.definition_wire import definition_hash
from sz_protocol.policy import spread_offset
from sz_runtime.simulation.checkers.fleet import Fleet
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import Noted
from sz_runtime.simulation.plan import Job, Plan, WorkerPlan

MOST_PER_INVARIANT = 5
"""How many violations of one invariant are kept: the first ones tell the story."""


@frozen
class Violation:
    """An invariant that did not hold: its name (see specs/invariants.yaml), when, for whom, and what was seen."""

    invariant: str
    at_us: int
    node: str
    message: str

    def __str__(self) -> str:
        return f"{self.at_us / 1e6:.6f}s {self.node or '-'}: {self.invariant}: {self.message}"


class Enough(BaseException):
    """The first violation has been seen, and that was all that was asked."""


@define
class Report:
    """Where violations go, and counts of what was seen. `stop_at_first`: a violation ends the run, by `Enough`."""

    stop_at_first: bool = False
    violations: list[Violation] = Factory(list)
    counts: dict[str, int] = Factory(dict)

    def add(self, invariant: str, record: Noted, message: str) -> None:
        """An invariant was broken at this record."""
        if sum(violation.invariant == invariant for violation in self.violations) < MOST_PER_INVARIANT:
            self.violations.append(Violation(invariant, record.at_us, record.node, message))
        if self.stop_at_first:
            raise Enough

    def count(self, name: str, by: int = 1) -> None:
        """Something that should happen sometimes has happened."""
        self.counts[name] = self.counts.get(name, 0) + by


@define
class Oracle:
    """What a checker may know besides the trace: the plan that was run."""

    plan: Plan
    definitions: dict[str, Definition] = Factory(dict)
    """By the digest that the trace names them by."""
    jobs: dict[str, list[Job]] = Factory(dict)
    """Every job that a schedule has in this plan."""
    _by_schedule: dict[str, list[Definition]] = Factory(dict)
    stores: dict[str, str] = Factory(dict)
    """The store of each node, and that of each worker's servers."""
    workers: dict[str, WorkerPlan] = Factory(dict)
    fleet: Fleet = Factory(lambda self: Fleet(self.plan, self.workers, self.stores), takes_self=True)

    def __attrs_post_init__(self) -> None:
        for job in self.plan.jobs:
            self.definitions[definition_hash(job.definition).hex()] = job.definition
            self.jobs.setdefault(job.definition.id, []).append(job)
            self._by_schedule.setdefault(job.definition.id, []).append(job.definition)
        self.stores.update({node.name: node.store for node in self.plan.nodes})
        for worker in self.plan.workers:
            self.workers[worker.name] = worker
            self.stores[worker.name] = self.stores[self.plan.servers_of(worker)[0]]

    def of_schedule(self, schedule_id: str) -> list[Definition]:
        """Every definition that the schedule has in this plan."""
        return self._by_schedule.get(schedule_id, [])

    def utc_us(self, at_us: int) -> int:
        """True wall time."""
        return self.plan.origin_utc_us + at_us


def spread_of(definition: Definition) -> int:
    """The stable offset of a schedule (its uid is its id)."""
    return spread_offset(definition.id, definition.spread_us)


@define
class Checker:
    """Base of the families. `routes` says which records it wants; `finish` is called when the trace has ended."""

    report: Report
    oracle: Oracle

    def routes(self) -> Routes:
        """The records that this family reads."""
        return {}

    def finish(self, end: Noted) -> None:
        """The trace has ended with this record."""
