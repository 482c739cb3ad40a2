"""Whose key may speak: OnlyAllowedTakePart, RevokedIsNotHeard."""

from attrs import Factory, define

from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import MessageDelivered, RunWritten
from sz_runtime.simulation.worker_facts import HandlerSeen, KeysSet, Said

MOST_ON_THE_WAY = 1000
"""Results that are remembered until they arrive."""

Report = tuple[str, int, int]
"""(store, row, attempt) of a result."""


@define
class Allowing(Checker):
    """Holds what servers do with workers against the keys that they were told. Follows `fleet`, which has seen each
    record before."""

    before: dict[str, tuple[str, ...]] = Factory(dict)
    """Server -> whose keys were allowed until the last change."""
    results: dict[int, Said] = Factory(dict)
    """On their way, by the numbers of their datagrams."""
    rightly: dict[Report, None] = Factory(dict)
    """Results that came from somebody whose key was allowed at that time,"""
    wrongly: dict[Report, None] = Factory(dict)
    """and those that did not."""

    def routes(self) -> Routes:
        """Keys, messages, registrations, rows; where links verify keys."""
        if not self.oracle.plan.verified:
            return {}
        return {
            KeysSet: self.on_keys,
            Said: self.on_said,
            MessageDelivered: self.on_delivered,
            HandlerSeen: self.on_seen,
            RunWritten: self.on_run,
        }

    def on_keys(self, record: KeysSet) -> None:
        """Rare states: keys that go, and come back, while their workers execute something."""
        fleet, before = self.oracle.fleet, self.before.get(record.node, record.handlers)
        self.before[record.node] = record.handlers
        for worker in self.oracle.plan.workers:
            at_work = any(not hand.how and fleet.is_alive(hand.life) for hand in fleet.hands_of(worker.name))
            if at_work and worker.handler_id in before and worker.handler_id not in record.handlers:
                self.report.count("key taken away under a run")
            elif at_work and worker.handler_id in record.handlers and worker.handler_id not in before:
                self.report.count("key given back under a run")

    def on_said(self, record: Said) -> None:
        """OnlyAllowedTakePart: no run, and no answer to a result, goes to whoever may not speak."""
        if record.kind == "results":
            self.results[record.number] = record
            if len(self.results) > MOST_ON_THE_WAY:
                del self.results[next(iter(self.results))]
        elif record.kind in ("dispatch", "result_ack") and self._is_foreign(record, record.to):
            what = f"{record.kind} was sent to {record.to}, whose key is not allowed"
            self.report.add("OnlyAllowedTakePart", record, what)

    def on_seen(self, record: HandlerSeen) -> None:
        """OnlyAllowedTakePart: nor does it register."""
        session = self.oracle.fleet.sessions.get(record.session) if record.what == "registered" else None
        if session is not None and self._is_foreign(record, session.life[0]):
            what = f"{session.life[0]} is registered as {record.handler_id}, and its key is not allowed"
            self.report.add("OnlyAllowedTakePart", record, what)

    def _is_foreign(self, record: Said | HandlerSeen, worker: str) -> bool:
        """A server that stood still may not have read yet what it was told."""
        fleet = self.oracle.fleet
        return not fleet.may_speak(record.node, worker) and not fleet.is_frozen(record.node, record.at_us)

    def on_delivered(self, record: MessageDelivered) -> None:
        """A result arrives. Servers read in the order of arrival, whatever holds them up."""
        said = self.results.pop(record.number, None)
        if said is None or record.node != said.to:
            return
        came = self.rightly if self.oracle.fleet.may_speak(said.to, said.node) else self.wrongly
        for row, attempt, _, _ in said.runs:
            came[self.oracle.stores[said.to], row, attempt] = None

    def on_run(self, record: RunWritten) -> None:
        """RevokedIsNotHeard."""
        report = record.node, record.row, record.attempt
        if record.outcome == "succeeded" and report in self.wrongly and report not in self.rightly:
            what = f"row {record.row} of {record.schedule_id} has the result of a worker whose key is not allowed"
            self.report.add("RevokedIsNotHeard", record, what)
