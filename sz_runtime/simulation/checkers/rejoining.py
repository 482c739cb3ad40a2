"""Workers after healing, and in calm runs: HandlersRejoin, OutboxesEmpty, CalmOneRegistration, CalmNoRedelivery."""

from attrs import Factory, define, evolve

from sz_protocol.kernel.now import SECOND_US
from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import Noted
from sz_runtime.simulation.worker_facts import HandlerSeen, OutboxHeld, Said

FETCH_US = 10 * SECOND_US
"""So long a result may be on its way."""


@define
class Rejoining(Checker):
    """Who is there at the end, and what nobody has fetched."""

    held: list[OutboxHeld] = Factory(list)
    registered: dict[str, int] = Factory(dict)
    sent: dict[tuple[int, int, int], int] = Factory(dict)

    def routes(self) -> Routes:
        """Registrations, outboxes; in calm runs what must not be."""
        if not self.oracle.plan.workers:
            return {}
        routes: Routes = {HandlerSeen: self.on_seen, OutboxHeld: self.on_held}
        return {**routes, Said: self.on_said} if self.oracle.plan.calm else routes

    def on_held(self, record: OutboxHeld) -> None:
        """What an outbox holds at the end."""
        self.held.append(record)

    def on_seen(self, record: HandlerSeen) -> None:
        """Registrations are counted; in a calm run nothing else happens to anybody."""
        self.report.count(f"handler {record.what}{' ' + record.code if record.code else ''}")
        calm = self.oracle.plan.calm
        if record.what == "registered":
            self.registered[record.handler_id] = self.registered.get(record.handler_id, 0) + 1
            if calm and self.registered[record.handler_id] > 1:
                self.report.add("CalmOneRegistration", record, f"{record.handler_id} was registered again")
        elif calm:
            self.report.add("CalmOneRegistration", record, f"{record.handler_id} is {record.what}")

    def on_said(self, record: Said) -> None:
        """Of calm runs: each run is handed over once."""
        for row, attempt, _, fence in record.runs if record.kind == "dispatch" else ():
            self.sent[row, attempt, fence] = self.sent.get((row, attempt, fence), 0) + 1
            if self.sent[row, attempt, fence] > 1:
                self.report.add("CalmNoRedelivery", record, f"row {row}, attempt {attempt} was handed over again")

    def finish(self, end: Noted) -> None:
        """Everybody is back, and nothing waits."""
        fleet = self.oracle.fleet
        lives = [fleet.sessions[session].life for session in fleet.current.values()]
        here = {worker: None for worker, incarnation in lives if fleet.is_alive((worker, incarnation))}
        present = [self.oracle.workers[worker].handler_id for worker in here]
        rightful = [one.handler_id for one in self.oracle.plan.workers if one.its_key == one.handler_id]
        for handler_id in dict.fromkeys(rightful):
            if handler_id not in present:
                self.report.add("HandlersRejoin", evolve(end, node=handler_id), f"{handler_id} is not registered")
        for record in self.held:
            since_us = fleet.kept.get(record.node, {})
            old = [key for key in record.runs if since_us.get(key, end.at_us) < end.at_us - FETCH_US]
            # A twin that may not register can report nothing.
            if old and record.node in here:
                self.report.add("OutboxesEmpty", record, f"{len(old)} results were not fetched")
