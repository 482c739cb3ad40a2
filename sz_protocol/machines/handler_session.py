"""One session of a handler with its server, and the calling that precedes it. Part of attachment; no effects.

ATT-1 a handler says Hello again and again, with full jitter. ATT-4 old dispatches are known by the beat that they echo.
ATT-6 what was granted never shrinks within a session.
"""

from collections.abc import Callable
from random import Random
from typing import TypeVar

from attrs import Factory, define

from sz_protocol.attaching import AttachmentSettings, Key
from sz_protocol.definition import Retry
from sz_protocol.kernel.now import Now
from sz_protocol.messages import Beat, DispatchedRun, RefuseCode, Welcome
from sz_protocol.policy import backoff_us

Claim = tuple[int, int, int]
"""(row, attempt, fence): one assignment of one attempt; a run that was turned away may come again under another."""

K = TypeVar("K")
V = TypeVar("V")

MOST_BEATS = 10_000
SHORTEST_BEAT_US = 1000


@define
class Calling:
    """When the next Hello is due. `tries` counts those since a session last proved itself by an echo; `open` is the
    nonce of the one whose answer counts (0: none does)."""

    settings: AttachmentSettings
    rng: Random
    nonce: int = 0
    open: int = 0
    tries: int = 0
    said_us: int = 0
    due_us: int = 0

    def begin(self, now: Now, wait_us: int = 0) -> None:
        """Call from now on, not before `wait_us`. The very first Hello need not wait for anybody."""
        self.open = 0
        wait_us = min(max(wait_us, 0), self.settings.retry_max_us)
        self.due_us = now.mono_us + wait_us + (self._jitter_us() if self.nonce else 0)

    def say(self, now: Now) -> int:
        """A Hello goes out now: its nonce. Without an answer the next one follows."""
        self.nonce += 1
        self.open = self.nonce
        self.tries += 1
        self.said_us = now.mono_us
        self.due_us = now.mono_us + self.settings.answer_us + self._jitter_us()
        return self.nonce

    def _jitter_us(self) -> int:
        retry = Retry(base_us=self.settings.pause_us, max_us=self.settings.pause_max_us)
        return backoff_us(retry, self.tries + 1, self.rng)


def why_not(welcome: Welcome, proto: int) -> str:
    """What makes a Welcome worthless; empty for one to go by."""
    if welcome.proto != proto:
        return f"protocol {welcome.proto} was not offered"
    if not SHORTEST_BEAT_US <= welcome.heartbeat_us <= welcome.lease_us:
        return f"a heartbeat of {welcome.heartbeat_us} us and a lease of {welcome.lease_us} us"
    return ""


@define
class Session:
    """`beats` says when those of the last lease were sent, by their number; 0 is the Hello. `seen` are the claims that
    came in this session, and how those were turned away that were not taken; `stopped` those that were to be stopped
    before they came. Both remember a claim for a lease since it last came, the oldest first."""

    number: int
    heartbeat_us: int
    lease_us: int
    heard_us: int
    beats: dict[int, int]
    last_beat: int = 0
    granted: int = 0
    taken: int = 0
    seen: dict[Claim, tuple[int, RefuseCode | None]] = Factory(dict)
    stopped: dict[Key, int] = Factory(dict)

    @classmethod
    def begin(cls, welcome: Welcome, said_us: int, now: Now) -> "Session":
        """The server has registered the Hello that was said at `said_us`."""
        return cls(welcome.session, welcome.heartbeat_us, welcome.lease_us, now.mono_us, {0: said_us})

    # --- beats ------------------------------------------------------------------------------------------------

    def beat(self, room: int, now: Now) -> Beat:
        """The next beat."""
        self.last_beat += 1
        self.beats[self.last_beat] = now.mono_us
        if len(self.beats) > MOST_BEATS:
            del self.beats[next(iter(self.beats))]
        return Beat(self.number, self.last_beat, self.grant(room))

    @property
    def next_beat_us(self) -> int:
        """When it is due; the first one at once, for nothing is sent to us before it."""
        return self.beats[self.last_beat] + (self.heartbeat_us if self.last_beat else 0)

    @property
    def silent_us(self) -> int:
        """When the silence of the server is over: it is to be called again."""
        return self.heard_us + self.lease_us

    def when_sent(self, beat: int, now: Now) -> int | None:
        """When a beat that the server has heard was sent; None for one older than a lease, or never sent."""
        sent_us = self.beats.get(beat)
        return None if sent_us is None or sent_us + self.lease_us <= now.mono_us else sent_us

    # --- credit -----------------------------------------------------------------------------------------------

    def grant(self, room: int) -> int:
        """How many runs the server may have sent so far (ATT-6)."""
        granted = max(self.granted, self.taken + room)
        assert granted >= self.granted, "ATT-6: granted shrank"
        self.granted = granted
        return granted

    def note(self, run: DispatchedRun, now: Now) -> None:
        """A run has come. One that came long ago may be counted twice: that grants one too much, which does no harm,
        where one too little would cost a slot for as long as the session lasts."""
        claim = run.row, run.attempt, run.fence
        before = self.seen.pop(claim, None)
        if before is None:
            self.taken += 1
        self.seen[claim] = now.mono_us + self.lease_us, before[1] if before else None

    def turned_away(self, run: DispatchedRun) -> RefuseCode | None:
        """How this very claim was turned away before. It has to be again: the server may have heard it by now, and have
        the run executed elsewhere."""
        if (run.row, run.attempt) in self.stopped:
            return RefuseCode.STALE
        return self.seen[run.row, run.attempt, run.fence][1]

    def turn_away(self, run: DispatchedRun, code: RefuseCode) -> None:
        """It was noted, and is not taken."""
        claim = run.row, run.attempt, run.fence
        self.seen[claim] = self.seen[claim][0], code

    def stop_early(self, key: Key, now: Now) -> None:
        """It is not here, and must not begin if it comes yet."""
        self.stopped.pop(key, None)
        self.stopped[key] = now.mono_us + self.lease_us

    def forget(self, now: Now) -> None:
        """Let go of what cannot matter any more."""
        if self.seen:
            _drop_old(self.seen, lambda entry: entry[0], now)
        if self.stopped:
            _drop_old(self.stopped, lambda until_us: until_us, now)
        oldest = next(iter(self.beats))
        while oldest != self.last_beat and self.beats[oldest] + self.lease_us <= now.mono_us:
            del self.beats[oldest]
            oldest = next(iter(self.beats))


def _drop_old(entries: dict[K, V], until_us: Callable[[V], int], now: Now) -> None:
    """Entries are in the order of their ends."""
    while entries:
        key, entry = next(iter(entries.items()))
        if until_us(entry) > now.mono_us:
            return
        del entries[key]
