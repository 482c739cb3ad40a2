"""Who may register: versions, names, keys, twins, and how often anybody may ask. Part of membership.

Rules: specs/remote.md. MEMB-10 a key speaks for its own handlers only. MEMB-11 whoever asks too often is not heard.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from random import Random
from typing import Any

from attrs import Factory, define, evolve

from sz_protocol.kernel.effects import Effect, Publish, Send
from sz_protocol.kernel.events import AllowedKey, KeysChanged, MethodInfo
from sz_protocol.kernel.now import SECOND_US, Now
from sz_protocol.machines.workers import Session, Workers, call_of
from sz_protocol.messages import HANDLER_PROTO, Hello, Reject, RejectCode, Welcome
from sz_protocol.notices import HandlerRejected, Ignored
from sz_protocol.ops import Ops
from sz_protocol.routing import ANY_HANDLER
from sz_protocol.settings import Settings

MOST_METHODS = 2000
MOST_TAGS = 50
MOST_SLOTS = 10_000
NAME_LENGTH = 200
REMEMBERED = 4096
"""Senders whose last Hellos are remembered, in each of two generations."""

HELLO_EVERY_US = SECOND_US
HELLO_BURST = 10
"""One sender or key says Hello once a second, and ten times in a row at most."""


@define
class Allowance:
    """So many at once, and one more each `every_us`: for everybody who has a name, apart. The instant at which all of
    it is there again says how much is left (the generic cell rate algorithm)."""

    every_us: int
    burst: int
    _whole_us: dict[str | bytes, int] = Factory(dict)
    _whole_before_us: dict[str | bytes, int] = Factory(dict)

    def take(self, name: str | bytes, now: Now, heads: int = 1) -> bool:
        """Take one, if one is left; a name that stands for several gets as much as several."""
        found = self._whole_us.get(name)
        if found is None:
            found = self._whole_before_us.get(name, 0)
        whole_us = max(found, now.mono_us) + self.every_us // heads
        if whole_us - now.mono_us > self.every_us * self.burst:
            return False
        self._whole_us[name] = whole_us
        if len(self._whole_us) >= REMEMBERED:
            self._whole_before_us, self._whole_us = self._whole_us, {}
        return True


@define
class Registration:
    """Answers Hellos with sessions or a reason. `allowed` holds the handlers of each key (None: the link verifies
    nobody); `local` the handlers of this process, whose names nobody else may take."""

    settings: Settings
    ops: Ops
    rng: Random
    workers: Workers
    allowed: Mapping[str, Mapping[str, AllowedKey]] | None = None
    local: Mapping[str, None] = Factory(dict)
    issued: int = 0
    each: Allowance = Factory(lambda: Allowance(HELLO_EVERY_US, HELLO_BURST))
    in_all: Allowance = Factory(
        # All that may be registered at once, and again within five seconds.
        lambda self: Allowance(
            min(5 * SECOND_US // self.settings.workers, SECOND_US // 10), self.settings.workers + HELLO_BURST
        ),
        takes_self=True,
    )
    complaints: Allowance = Factory(lambda: Allowance(SECOND_US // 10, 100))
    unsaid: int = 0
    """Complaints that were not made since the last one that was."""

    def learn_keys(self, changed: KeysChanged) -> None:
        """Replace who may speak."""
        if changed.allowed is None:
            self.allowed = None
            return
        keys: dict[str, dict[str, AllowedKey]] = {}
        for allowed in changed.allowed:
            keys.setdefault(allowed.key, {})[allowed.handler_id] = allowed
        self.allowed = keys

    def learn_local(self, methods: Iterable[MethodInfo]) -> None:
        """Replace what this process executes itself."""
        self.local = dict.fromkeys(info.handler_id for info in methods if not info.worker)

    # --- Hello ------------------------------------------------------------------------------------------------

    def on_hello(self, sender: bytes, hello: Hello, key: str, now: Now, closed: Reject | None) -> list[Effect]:
        """A session, or the reason why not; `closed` is a reason that holds for everybody now."""
        heads = len((self.allowed or {}).get(key, ())) or 1
        if not (self.each.take(key or sender, now, heads) and self.in_all.take("", now)):
            return self.complain("Hello", "its sender, or all of them together, say it too often", now)
        reject = closed or self.decide_hello(hello, key) or self.decide_place(hello, now)
        if reject is not None:
            reject = evolve(reject, nonce=hello.nonce)
            return [Send(sender, reject), *self.rejected(hello.handler_id, reject, now)]
        worker = self.workers.all.get(hello.handler_id)
        for known in (worker.session if worker is not None else None, self.workers.offered.get(call_of(hello))):
            if known is not None and (known.sender, known.key, known.call) == (sender, key, call_of(hello)):
                # The same Hello came twice.
                return [Send(sender, self._welcome(known))]
        return [Send(sender, self._welcome(self._offer(sender, hello, key, now)))]

    def decide_hello(self, hello: Hello, key: str) -> Reject | None:
        """Why this handler may not register, whoever is registered already; None: it may."""
        wrong = invalid(hello)
        if wrong:
            return self.reject(RejectCode.INVALID, wrong)
        if not hello.proto_min <= HANDLER_PROTO <= hello.proto_max:
            offered = f"{hello.proto_min} to {hello.proto_max}"
            return self.reject(RejectCode.VERSION, f"version {HANDLER_PROTO} is spoken here, not {offered}")
        why = self.decide_key(hello, key)
        return self.reject(RejectCode.NOT_ALLOWED, why) if why else None

    def decide_key(self, hello: Hello, key: str) -> str:
        """Why somebody with this key may not be this handler with these methods; empty: he may (MEMB-10)."""
        if hello.handler_id in self.local:
            return f"{hello.handler_id!r} is a handler of the server itself; choose another handler id"
        if self.allowed is None:
            return ""
        theirs = self.allowed.get(key)
        if not theirs:
            return "this key is not allowed: it was revoked or removed, or never was allowed"
        allowed = theirs.get(hello.handler_id)
        if allowed is None:
            owners = ", ".join(map(repr, sorted(theirs)))
            return f"this key is not that of handler {hello.handler_id!r}, but of {owners}"
        if allowed.methods is None:
            return ""
        more = [offer.method for offer in hello.methods if offer.method not in allowed.methods]
        return f"this key may not offer the method {more[0]!r}" if more else ""

    def decide_place(self, hello: Hello, now: Now) -> Reject | None:
        """Whether somebody else is there under its name (MEMB-2), or too many are there."""
        worker = self.workers.all.get(hello.handler_id)
        if worker is None or worker.session is None:
            if self.workers.registered() >= self.settings.workers:
                message = f"{self.settings.workers} handlers are registered, and no more may be"
                return self.reject(RejectCode.FULL, message)
        elif worker.session.hello.incarnation != hello.incarnation and self.workers.is_heard(worker, now):
            left_us = worker.heard_us + self.workers.silence_us() - now.mono_us
            message = f"another process is registered as {hello.handler_id!r}, and is heard"
            return self.reject(RejectCode.DUPLICATE, message, left_us)
        return None

    def reject(self, code: RejectCode, message: str, retry_us: int | None = None) -> Reject:
        """Turn somebody away. What a person has to mend is not tried again in a hurry."""
        return Reject(code, message, self.settings.lease_us if retry_us is None else retry_us)

    # --- sessions ---------------------------------------------------------------------------------------------

    def _offer(self, sender: bytes, hello: Hello, key: str, now: Now) -> Session:
        """A session for this life. It counts from its first message on: until then the Hello may be an old one that
        was late on its way, and must not take the place of the session that is (MEMB-6, MEMB-9)."""
        offered = self.workers.offered
        before = offered.get(call_of(hello))
        if before is not None:
            self.workers.forget_offer(before)
        elif len(offered) >= 2 * self.settings.workers:
            self.workers.forget_offer(next(iter(offered.values())))
        listed = {(held.row, held.attempt): held for held in (*hello.unacked, *hello.executing)}
        until_us = now.mono_us + self.settings.lease_us
        kept = evolve(hello, executing=(), unacked=())
        session = Session(self._session_id(), sender, key, kept, until_us, listed, hello.executing)
        offered[session.call] = session
        self.workers.sessions[session.id] = (None, session)
        return session

    def _session_id(self) -> int:
        """63 bits that no other session has, of this life or another."""
        while True:
            self.issued += 1
            seed = f"{self.ops.term}/{self.issued}/{self.rng.getrandbits(64)}"
            id_ = int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "big") >> 1
            if id_ and id_ not in self.workers.sessions:
                return id_

    def _welcome(self, session: Session) -> Welcome:
        settings = self.settings
        return Welcome(
            session.hello.nonce, session.id, HANDLER_PROTO, settings.heartbeat_us, settings.lease_us, self.ops.term
        )

    # --- strangers --------------------------------------------------------------------------------------------

    def on_stranger(self, sender: bytes, message: Any, now: Now) -> list[Effect]:
        """MEMB-1: a message of a session that is not."""
        reason = "its session is not, or no longer, one of this server and this address"
        reject = Reject(RejectCode.UNKNOWN_SESSION, reason, 0, session=message.session)
        return [Send(sender, reject), *self.complain(type(message).__name__, reason, now)]

    def on_garbled(self, sender: bytes, problem: str, now: Now) -> list[Effect]:
        """Bytes that are no message: told to whoever sent them, as long as they are few."""
        said = self.complain("bytes on the handler link", problem[:NAME_LENGTH], now)
        reject = Reject(RejectCode.INVALID, problem[:NAME_LENGTH], self.settings.heartbeat_us)
        return [Send(sender, reject), *said] if said else []

    def complain(self, what: str, reason: str, now: Now) -> list[Effect]:
        """Say what was ignored and why; of too many such the first are told, and how many there were."""
        more = self._told(now)
        return [] if more is None else [Publish(Ignored(what, reason + more))]

    def rejected(self, handler_id: str, reject: Reject, now: Now) -> list[Effect]:
        """Say who was turned away."""
        more = self._told(now)
        if more is None:
            return []
        return [Publish(HandlerRejected(handler_id[:NAME_LENGTH], reject.code, reject.message + more))]

    def _told(self, now: Now) -> str | None:
        if not self.complaints.take("", now):
            self.unsaid += 1
            return None
        unsaid, self.unsaid = self.unsaid, 0
        return f" (and {unsaid} more that were not told)" if unsaid else ""


def invalid(hello: Hello) -> str:
    """What is wrong with a Hello that every server would refuse; empty: nothing."""
    names = [hello.handler_id, *(offer.method for offer in hello.methods), *hello.tags]
    longest = max(map(len, (*names, *hello.tags.values(), hello.software)))
    limits = [offer.concurrency for offer in hello.methods if offer.concurrency is not None]
    if not all(names) or hello.handler_id == ANY_HANDLER:
        return "handlers, methods and tags need a name, and no handler is called *"
    if not all(text.isprintable() for text in (*names, *hello.tags.values(), hello.software)):
        return "a name holds control or other invisible characters"
    if longest > NAME_LENGTH:
        return f"a name has {longest} characters, but {NAME_LENGTH} are the limit"
    if len({offer.method for offer in hello.methods}) < len(hello.methods):
        return "a method is offered twice"
    if len(hello.methods) > MOST_METHODS or len(hello.tags) > MOST_TAGS:
        return f"more than {MOST_METHODS} methods or {MOST_TAGS} tags"
    if not 1 <= hello.slots <= MOST_SLOTS or any(limit < 1 for limit in limits):
        return f"slots lie between 1 and {MOST_SLOTS}, and a concurrency is at least 1"
    return ""
