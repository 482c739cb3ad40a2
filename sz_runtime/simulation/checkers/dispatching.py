"""What servers send to workers, and to whom not, and what they make of a lost one: SilentGetNothingNew,
DrainingGetNothingNew, GivenUpInTime, SupersededIsStopped."""

from attrs import Factory, define, evolve

from sz_protocol.kernel.now import SECOND_US
from sz_runtime.simulation.checkers.base import Checker
from sz_runtime.simulation.checkers.fleet import START_WITHIN_US, LifeName, Place
from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    ExecutionStarted,
    Failed,
    MessageDelivered,
    NodeCrashed,
    NodeStarted,
    NodeStopped,
    Noted,
    RunWritten,
    Stalled,
    TermTaken,
)
from sz_runtime.simulation.worker_facts import HandlerSeen, Said

GIVEN_UP_WITHIN_US = 20 * SECOND_US
"""From the loss of a worker until the ledger says what became of its runs, with a store that works."""

Claim = tuple[int, int, int]
"""(row, attempt, fence)."""


@define
class Dispatching(Checker):
    """Follows sessions from their Hello to what is sent in them. `fleet` has seen each record before."""

    sent: dict[int, dict[Claim, None]] = Factory(dict)
    """Session -> what was sent in it."""
    drains: dict[int, Said] = Factory(dict)
    """Drains on their way, by the numbers of their datagrams."""
    draining: dict[int, int] = Factory(dict)
    """Session -> since when its server knows that its worker drains,"""
    drained: dict[LifeName, int] = Factory(dict)
    """and life -> since when it does."""
    hellos: dict[tuple[str, int], tuple[Claim, ...]] = Factory(dict)
    """(worker, nonce) -> what it said that it executes."""
    listed: dict[int, tuple[Claim, ...]] = Factory(dict)
    """Session -> what its Hello said."""
    to_stop: dict[int, dict[tuple[int, int], None]] = Factory(dict)
    """Session -> what its worker has to be told to stop before anything else is said."""
    gone: dict[Place, tuple[int, str]] = Factory(dict)
    """Rows that were claimed for a worker when it was lost: since when, and who lost it."""

    def routes(self) -> Routes:
        """Messages, verdicts on handlers, rows; and whatever holds up a server."""
        if not self.oracle.plan.workers:
            return {}
        return {
            Said: self.on_said,
            MessageDelivered: self.on_delivered,
            HandlerSeen: self.on_seen,
            ExecutionStarted: self.on_started,
            RunWritten: self.on_run,
            Failed: self.on_failed,
            Stalled: self.on_stalled,
            TermTaken: self.on_term,
            NodeStarted: self.on_server,
            NodeCrashed: self.on_server,
            NodeStopped: self.on_server,
        }

    # --- what is sent -----------------------------------------------------------------------------------------

    def on_said(self, record: Said) -> None:
        """Of workers: Hellos, Drains. Of servers: what they send to whom."""
        match record.kind:
            case "hello":
                held = zip(record.runs, record.words, strict=True)
                claims = tuple((row, attempt, fence) for (row, attempt, _, fence), word in held if word == "executing")
                self.hellos[record.node, record.beat] = claims
            case "welcome":
                self.listed[record.session] = self.hellos.get((record.to, record.beat), ())
            case "drain":
                self.drains[record.number] = record
                life = record.node, self.oracle.fleet.lives.get(record.node, 0)
                self.drained.setdefault(life, record.at_us)
            case "dispatch":
                self._judge_dispatch(record)
            case "stop":
                self.to_stop.get(record.session, {}).pop(record.runs[0][:2], None)
            case "echo":
                self._judge_stops(record)

    def _judge_dispatch(self, record: Said) -> None:
        """SilentGetNothingNew, DrainingGetNothingNew: what goes there for the first time."""
        fleet, settings = self.oracle.fleet, self.oracle.plan.settings
        before = self.sent.setdefault(record.session, {})
        new = [(row, attempt, fence) for row, attempt, _, fence in record.runs if (row, attempt, fence) not in before]
        if len(new) < len(record.runs):
            self.report.count("run handed over again", len(record.runs) - len(new))
        before.update(dict.fromkeys(new))
        if not new:
            return
        handler_id = self.oracle.workers[record.to].handler_id
        silent_us = fleet.silent_us(record.node, handler_id, record.at_us, 0)
        if silent_us > min(settings.missed_beats * settings.heartbeat_us, settings.lease_us) + fleet.tolerance_us:
            what = f"{len(new)} runs were sent to {record.to}, which was not heard for {silent_us} us"
            self.report.add("SilentGetNothingNew", record, what)
        since_us = self.draining.get(record.session)
        if since_us is not None and record.at_us > since_us:
            what = f"{len(new)} runs were sent to {record.to}, which is draining since {since_us} us"
            self.report.add("DrainingGetNothingNew", record, what)

    def on_delivered(self, record: MessageDelivered) -> None:
        """A Drain arrives; a server that stands still reads it when it goes on."""
        drain = self.drains.pop(record.number, None)
        if drain is not None and record.node == drain.to:
            read_us = max(record.at_us, self.oracle.fleet.frozen.get(record.node, (0, 0))[1])
            self.draining.setdefault(drain.session, read_us)

    def on_started(self, record: ExecutionStarted) -> None:
        """DrainingGetNothingNew: nor does it begin anything, but for what it has just decided to."""
        since_us = self.drained.get((record.node, record.incarnation))
        if since_us is None:
            return
        go_on_us = self.oracle.fleet.frozen.get(record.node, (0, 0))[1]
        if record.at_us - max(since_us, go_on_us if go_on_us > since_us else 0) > START_WITHIN_US:
            what = f"row {record.row} of {record.schedule_id}, attempt {record.attempt}"
            self.report.add("DrainingGetNothingNew", record, f"{what} was begun by a worker that drains")

    # --- who comes and goes -----------------------------------------------------------------------------------

    def on_seen(self, record: HandlerSeen) -> None:
        """A worker registers, with what it executes; or it is lost, with all that it had."""
        fleet, store = self.oracle.fleet, self.oracle.stores[record.node]
        if fleet.node_term.get(record.node) != fleet.terms.get(store):
            return  # Somebody else decides, and it does not know that yet.
        if record.what == "registered":
            self._look_at_listed(record, store)
        elif record.what == "lost":
            rows = [(place, lease) for place, lease in fleet.leases.items() if place[0] == store]
            for place, lease in rows:
                if (lease.state, lease.handler_id) == ("leased", record.handler_id):
                    self.gone.setdefault(place, (record.at_us, record.node))
            session = fleet.lost_session
            if session is not None and fleet.is_alive(fleet.sessions[session].life):
                self.report.count("worker lost although it lives")

    def _look_at_listed(self, record: HandlerSeen, store: str) -> None:
        """SupersededIsStopped: what is not, or no longer, claimed for it has to be stopped."""
        stale: dict[tuple[int, int], None] = {}
        for row, attempt, fence in self.listed.pop(record.session, ()):
            lease = self.oracle.fleet.leases.get((store, row))
            if lease is not None and (lease.state, lease.attempt, lease.fence) == ("leased", attempt, fence):
                restarted = lease.moved_us < self.oracle.fleet.node_since.get(record.node, 0)
                self.report.count("run adopted after a restart" if restarted else "run adopted")
            else:
                stale[row, attempt] = None
        if stale:
            self.to_stop[record.session] = stale

    def _judge_stops(self, record: Said) -> None:
        """An Echo follows upon whatever a new session brings about."""
        stale = self.to_stop.pop(record.session, {})
        for row, attempt in stale:
            what = f"{record.to} came back with row {row}, attempt {attempt}, which is not its own any more"
            self.report.add("SupersededIsStopped", record, f"{what}, and is not told to stop it")

    # --- the ledger -------------------------------------------------------------------------------------------

    def on_run(self, record: RunWritten) -> None:
        """A row has moved on; what was to move on and has not?"""
        self.gone.pop((record.node, record.row), None)
        self._judge_gone(record)

    def _judge_gone(self, record: Noted) -> None:
        """GivenUpInTime."""
        late = [place for place, (at_us, _) in self.gone.items() if record.at_us - at_us > GIVEN_UP_WITHIN_US]
        for place in late:
            at_us, _ = self.gone.pop(place)
            what = f"row {place[1]} was claimed for a worker that was lost at {at_us} us, and still is"
            self.report.add("GivenUpInTime", evolve(record, node=place[0]), what)

    def on_failed(self, record: Failed) -> None:
        """A store that does not work holds everything up."""
        for place, (_, server) in self.gone.items():
            if place[0] == record.node:
                self.gone[place] = record.at_us, server

    def on_stalled(self, record: Stalled) -> None:
        """So does a server that stands still."""
        for place, (_, server) in self.gone.items():
            if server == record.node:
                self.gone[place] = record.until_us, server

    def on_term(self, record: TermTaken) -> None:
        """Another one decides."""
        self.gone = {place: since for place, since in self.gone.items() if place[0] != record.node}

    def on_server(self, record: NodeStarted | NodeCrashed | NodeStopped) -> None:
        """A server's life is over: the next one gives its workers a lease of their own."""
        self.gone = {place: since for place, since in self.gone.items() if since[1] != record.node}

    def finish(self, end: Noted) -> None:
        """The same, at the end."""
        self._judge_gone(end)
