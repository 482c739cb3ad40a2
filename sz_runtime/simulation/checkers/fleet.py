"""What the trace says of workers: their lives and sessions, what they execute, and what the ledger makes of it. Judges
nothing; checkers ask it."""

from collections import OrderedDict
from collections.abc import Iterator

from attrs import Factory, define

from sz_runtime.simulation.checkers.listening import Routes
from sz_runtime.simulation.facts import (
    CancelAsked,
    ExecutionEnded,
    ExecutionStarted,
    MessageDelivered,
    NodeCrashed,
    NodeStarted,
    NodeStopped,
    Rewound,
    RowsDropped,
    RunWritten,
    Stalled,
    TermTaken,
    Told,
)
from sz_runtime.simulation.plan import Plan, WorkerPlan
from sz_runtime.simulation.worker_facts import (
    HandlerSeen,
    KeysSet,
    Mischief,
    ResultsForgotten,
    ResultsKept,
    ResultsLost,
    Said,
    WorkerCrashed,
    WorkerStarted,
    WorkerStopped,
)

MOST_ON_THE_WAY = 4000
"""Messages that are remembered until they arrive; most of those that are forgotten were lost."""

START_WITHIN_US = 1000
"""From the order to begin to the beginning."""

LifeName = tuple[str, int]
"""A worker, and which of its lives."""
Place = tuple[str, int]
"""A store, and a row of it."""


@define
class Session:
    """What a server offered to one life of a worker. `runs` are the claims that it was sent in it (MEMB-5)."""

    server: str
    life: LifeName
    granted: int = 0
    runs: dict[tuple[int, int, int], None] = Factory(dict)


@define
class Lease:
    """A row as its store has it, since `moved_us`."""

    state: str
    attempt: int
    fence: int
    losses: int
    handler_id: str
    moved_us: int


@define
class Hand:
    """An execution by a worker. `how`: "" while it goes on; `asked`: it was asked to stop; `sent`: its
    result was; `lost`: that vanished before."""

    started: ExecutionStarted
    how: str = ""
    asked: bool = False
    sent: bool = False
    lost: bool = False

    @property
    def life(self) -> LifeName:
        """Whose it is."""
        return self.started.node, self.started.incarnation


@define
class Fleet:
    """Everything by name. `registered` says which life of a handler a server counts as present, since when, and when
    it heard of it last."""

    plan: Plan
    workers: dict[str, WorkerPlan]
    stores: dict[str, str]
    lives: dict[str, int] = Factory(dict)
    """The living ones, with their incarnation."""
    frozen: dict[str, tuple[int, int]] = Factory(dict)
    """Machine -> its last standstill: from when to when."""
    node_since: dict[str, int] = Factory(dict)
    node_term: dict[str, int] = Factory(dict)
    terms: dict[str, int] = Factory(dict)
    rewound: dict[str, int] = Factory(dict)
    sessions: dict[int, Session] = Factory(dict)
    current: dict[tuple[str, str], int] = Factory(dict)
    """(server, handler) -> session."""
    allowed: dict[str, tuple[str, ...]] = Factory(dict)
    """Server -> handlers whose keys may speak, where links verify keys."""
    revoked: dict[tuple[str, str], int] = Factory(dict)
    """(server, handler) -> the session that ended with its key."""
    heard_us: dict[tuple[str, str], int] = Factory(dict)
    replaced: tuple[LifeName, int] | None = None
    """Who was registered until then where somebody registered last, at that server, and when that was heard there."""
    lost_session: int | None = None
    """In which the last that was lost had been registered."""
    joined: dict[str, list[tuple[int, LifeName]]] = Factory(dict)
    """Handler -> when which life of it was registered."""
    given_up: dict[str, int] = Factory(dict)
    """Handler -> when a server last said that it is lost,"""
    left: dict[str, int] = Factory(dict)
    """and when that it has left."""
    leases: dict[Place, Lease] = Factory(dict)
    was: Lease | None = None
    """The row of the last RunWritten as it stood before."""
    hands: dict[Place, list[Hand]] = Factory(dict)
    asked_early: dict[tuple[str, int, int], None] = Factory(dict)
    """(worker, row, attempt) of executions that were asked to stop between the order to begin and their beginning."""
    dispatched: dict[tuple[str, int, int], tuple[int, str, int]] = Factory(dict)
    """(worker, row, attempt) -> when it was sent last, by which server of which term."""
    unresponsive: dict[tuple[str, int], None] = Factory(dict)
    """(row, attempt) as text and number: given up although it may go on."""
    on_the_way: OrderedDict[int, Said | Mischief] = Factory(OrderedDict)
    """A dict would look through all that was taken from its front to find the new front."""
    kept: dict[str, dict[tuple[int, int], int]] = Factory(dict)
    """Worker -> results that are durable in its outbox, with the time since when."""

    def routes(self) -> Routes:
        """Whatever concerns workers."""
        return {
            WorkerStarted: self.on_worker,
            WorkerCrashed: self.on_gone,
            WorkerStopped: self.on_gone,
            NodeStarted: self.on_node,
            NodeCrashed: self.on_node_gone,
            NodeStopped: self.on_node_gone,
            TermTaken: self.on_term,
            Rewound: self.on_rewound,
            Stalled: self.on_stalled,
            Said: self.on_said,
            Mischief: self.on_mischief,
            MessageDelivered: self.on_delivered,
            HandlerSeen: self.on_seen,
            KeysSet: self.on_keys,
            Told: self.on_told,
            RunWritten: self.on_run,
            RowsDropped: self.on_dropped,
            ExecutionStarted: self.on_started,
            ExecutionEnded: self.on_ended,
            CancelAsked: self.on_asked,
            ResultsKept: self.on_kept,
            ResultsForgotten: self.on_forgotten,
            ResultsLost: self.on_lost,
        }

    # --- lives ------------------------------------------------------------------------------------------------

    def on_worker(self, record: WorkerStarted) -> None:
        """A life; what held up the last one does not hold up this."""
        self.frozen.pop(record.node, None)
        self.lives[record.node] = record.incarnation
        self.kept[record.node] = dict.fromkeys(record.kept, record.at_us)
        for hand in self.hands_of(record.node):
            # The disk may have taken what nobody had synced.
            if hand.lost and (hand.started.row, hand.started.attempt) in self.kept[record.node]:
                hand.lost = False

    def on_gone(self, record: WorkerCrashed | WorkerStopped) -> None:
        """No life any more: what was executed to its end and is not in the outbox is lost with it."""
        gone = (record.node, self.lives.pop(record.node, 0))
        kept = self.kept.get(record.node, {})
        for hand in self.hands_of(record.node):
            key = hand.started.row, hand.started.attempt
            hand.lost = hand.lost or (hand.life == gone and key not in kept and not hand.sent)

    def on_node(self, record: NodeStarted) -> None:
        """A server begins a life: it has nobody registered, and stands still no more."""
        self.frozen.pop(record.node, None)
        self.node_since[record.node], self.node_term[record.node] = record.at_us, record.term
        self._end_sessions(record.node)

    def on_node_gone(self, record: NodeCrashed | NodeStopped) -> None:
        """A server's life is over, and with it its sessions."""
        self._end_sessions(record.node)

    def _end_sessions(self, server: str) -> None:
        for sessions in (self.current, self.revoked):
            for place in [place for place in sessions if place[0] == server]:
                del sessions[place]

    def on_term(self, record: TermTaken) -> None:
        """Another node life decides from here on."""
        self.terms[record.node] = record.term

    def on_rewound(self, record: Rewound) -> None:
        """What the ledger said is another history."""
        self.rewound[record.node] = record.at_us
        for place in [place for place in self.leases if place[0] == record.node]:
            del self.leases[place]

    def on_stalled(self, record: Stalled) -> None:
        """A standstill; one that begins in the midst of another prolongs it, or is a part of it."""
        from_us, until_us = self.frozen.get(record.node, (0, -1))
        begun_us = from_us if until_us >= record.at_us else record.at_us
        self.frozen[record.node] = begun_us, max(until_us, record.until_us)

    # --- sessions ---------------------------------------------------------------------------------------------

    def on_said(self, record: Said) -> None:
        """Offers of sessions, and what is sent in them."""
        self._send(record)
        if record.kind == "welcome":
            life = record.to, self.lives.get(record.to, 0)
            self.sessions.setdefault(record.session, Session(record.node, life))
        elif record.kind == "dispatch":
            term = self.node_term.get(record.node, 0)
            for row, attempt, _, _ in record.runs:
                self.dispatched[record.to, row, attempt] = record.at_us, record.node, term
        elif record.kind == "results":
            for row, attempt, _, fence in record.runs:
                for hand in self.hands.get((self.stores[record.node], row), ()):
                    started = hand.started
                    is_its = (started.node, started.attempt, started.fence) == (record.node, attempt, fence)
                    hand.sent = hand.sent or is_its

    def on_mischief(self, record: Mischief) -> None:
        """What nobody can tell from a message of a session is a sign of life as well."""
        if record.session:
            self._send(record)

    def _send(self, record: Said | Mischief) -> None:
        self.on_the_way[record.number] = record
        if len(self.on_the_way) > MOST_ON_THE_WAY:
            self.on_the_way.popitem(last=False)

    def on_delivered(self, record: MessageDelivered) -> None:
        """A message of a session that counts is a sign of life."""
        said = self.on_the_way.get(record.number)
        session = None if said is None else self.sessions.get(said.session)
        if said is None or session is None or record.node != session.server:
            return
        session.granted = max(session.granted, said.granted)
        place = record.node, self.workers[session.life[0]].handler_id
        if self.current.get(place) == said.session:
            self.heard_us[place] = record.at_us

    def on_seen(self, record: HandlerSeen) -> None:
        """Who is registered, and who is not any more."""
        place = record.node, record.handler_id
        match record.what:
            case "registered" if record.session in self.sessions:
                before = self.current.get(place)
                self.replaced = None if before is None else (self.sessions[before].life, self.heard_us[place])
                self.revoked.pop(place, None)
                self.current[place] = record.session
                self._end_revoked(record.node)
                self.heard_us[place] = record.at_us
                lives = self.joined.setdefault(record.handler_id, [])
                lives.append((record.at_us, self.sessions[record.session].life))
            case "lost":
                self.lost_session = self.current.pop(place, self.revoked.pop(place, None))
                self.given_up[record.handler_id] = record.at_us
            case "left":
                self.current.pop(place, None)
                self.left[record.handler_id] = record.at_us

    def on_keys(self, record: KeysSet) -> None:
        """Whoever may not speak any more is heard no more: what comes behind this does not count."""
        self.allowed[record.node] = record.handlers
        self._end_revoked(record.node)

    def _end_revoked(self, server: str) -> None:
        for place in [place for place in self.current if place[0] == server]:
            if not self.may_speak(server, self.sessions[self.current[place]].life[0]):
                self.revoked[place] = self.current.pop(place)

    def on_told(self, record: Told) -> None:
        """An execution that did not stop when it was asked to."""
        if record.notice == "RunUnresponsive":
            words = dict(part.split("=") for part in record.detail.split())
            self.unresponsive[words["row"], int(words["attempt"])] = None

    # --- the ledger and the executions ------------------------------------------------------------------------

    def on_run(self, record: RunWritten) -> None:
        """A row has moved on."""
        self.was = self.leases.get((record.node, record.row))
        self.leases[record.node, record.row] = Lease(
            record.state, record.attempt, record.fence, record.losses, record.worker, record.at_us
        )

    def on_dropped(self, record: RowsDropped) -> None:
        """Retention forgets them, so do we."""
        for row in record.rows:
            self.leases.pop((record.node, row), None)
            self.hands.pop((record.node, row), None)

    def on_started(self, record: ExecutionStarted) -> None:
        """Another hand."""
        if record.node in self.workers:
            asked = self.asked_early.pop((record.node, record.row, record.attempt), 0) is None
            self.hands.setdefault((self.stores[record.node], record.row), []).append(Hand(record, asked=asked))

    def on_ended(self, record: ExecutionEnded) -> None:
        """It came back, or vanished."""
        hand = self.hand(record.node, record.incarnation, record.row, record.attempt)
        if hand is not None:
            hand.how = record.how

    def on_asked(self, record: CancelAsked) -> None:
        """It was asked to stop."""
        hand = self.hand(record.node, self.lives.get(record.node, 0), record.row, record.attempt)
        if hand is not None:
            hand.asked = True
        elif record.node in self.workers:
            self.asked_early[record.node, record.row, record.attempt] = None

    def on_kept(self, record: ResultsKept) -> None:
        """Durable in the outbox."""
        self.kept.setdefault(record.node, {}).update(dict.fromkeys(record.runs, record.at_us))

    def on_forgotten(self, record: ResultsForgotten) -> None:
        """Acknowledged."""
        for key in record.runs:
            self.kept.get(record.node, {}).pop(key, None)

    def on_lost(self, record: ResultsLost) -> None:
        """Taken by a crash."""
        self.on_forgotten(ResultsForgotten(record.at_us, record.node, record.runs))
        lost = dict.fromkeys(record.runs)
        for hand in self.hands_of(record.node):
            hand.lost = hand.lost or ((hand.started.row, hand.started.attempt) in lost and not hand.sent)

    # --- questions --------------------------------------------------------------------------------------------

    def may_speak(self, server: str, worker: str) -> bool:
        """Whether a server was told that the key of a worker is that of its handler, as far as it verifies any."""
        plan, allowed = self.workers.get(worker), self.allowed.get(server)
        return allowed is None or (plan is not None and plan.its_key == plan.handler_id and plan.its_key in allowed)

    def hand(self, worker: str, incarnation: int, row: int, attempt: int) -> Hand | None:
        """The execution of an attempt by a life."""
        for hand in reversed(self.hands.get((self.stores.get(worker, ""), row), ())):
            if hand.life == (worker, incarnation) and hand.started.attempt == attempt:
                return hand
        return None

    def is_alive(self, life: LifeName) -> bool:
        """Whether a life of a worker goes on."""
        return self.lives.get(life[0]) == life[1]

    def is_frozen(self, machine: str, at_us: int) -> bool:
        """Whether a machine stands still."""
        return self.frozen.get(machine, (0, 0))[1] >= at_us

    def silent_us(self, server: str, handler_id: str, at_us: int, standstill_us: int) -> int:
        """For how long a server has not heard of a handler, while it could have: it lives, and does not count the time
        of its own standstills that were longer than `standstill_us`."""
        since_us = max(self.heard_us.get((server, handler_id), 0), self.node_since.get(server, 0))
        from_us, until_us = self.frozen.get(server, (0, 0))
        if until_us - from_us > standstill_us:
            since_us = max(since_us, min(until_us, at_us))
        return at_us - since_us

    def others_joined(self, life: LifeName, since_us: int, *, other_worker: bool = False) -> bool:
        """Whether another life (of another process) was registered under the same name since then."""
        handler_id = self.workers[life[0]].handler_id
        return any(
            at_us >= since_us and joined != life and not (other_worker and joined[0] == life[0])
            for at_us, joined in self.joined.get(handler_id, ())
        )

    def has_claim(self, record: ExecutionStarted) -> bool:
        """Whether a run that a worker begins is claimed in the ledger, as the attempt and fence that it was given."""
        lease = self.leases.get((self.stores[record.node], record.row))
        claim = "leased", record.attempt, record.fence
        return lease is not None and (lease.state, lease.attempt, lease.fence) == claim

    def excuse(self, record: ExecutionStarted) -> str:
        """Why a worker may begin what is not, or no longer, claimed for it, since nobody can stop it; "": it may not.
        Whoever is asked to act can tell by its fence."""
        store = self.stores[record.node]
        sent_us, server, term = self.dispatched.get((record.node, record.row, record.attempt), (0, "", 0))
        lease = self.leases.get((store, record.row))
        if sent_us <= self.rewound.get(store, -1):
            return "it was sent in another history"
        if self.node_term.get(server) == term < self.terms.get(store, 0):
            return "its server does not know yet that another one decides"
        if self.others_joined((record.node, record.incarnation), sent_us):
            return "its server took another process for this one"
        if lease is not None and lease.state == "done" and (str(record.row), record.attempt) in self.unresponsive:
            return "it was given up when it could not be stopped in time"
        if 0 <= record.at_us - self.frozen.get(record.node, (0, -START_WITHIN_US))[1] < START_WITHIN_US:
            return "it stood still between its decision and the start"
        if lease is not None and record.at_us - lease.moved_us <= self.tolerance_us:
            return "its clock runs slower than its server's"
        return ""

    @property
    def tolerance_us(self) -> int:
        """By how much a lease may seem longer, or shorter, on clocks that drift."""
        return self.plan.settings.lease_us // 1000 + 1000

    def hands_of(self, worker: str) -> Iterator[Hand]:
        """The executions by a worker, of all its lives."""
        for hands in self.hands.values():
            yield from (hand for hand in hands if hand.started.node == worker)
