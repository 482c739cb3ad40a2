"""What a trace holds of remote handlers: their lives, what goes over the link between them and their servers, and what
their outboxes hold. Seen from outside, like all facts.

`node` is the name of a worker, unless it is said otherwise.
"""

from sz_runtime.simulation.fact import fact
from sz_runtime.simulation.facts import Noted

Refs = tuple[tuple[int, int, int, int], ...]
"""Runs as messages name them: (row, attempt, delivery, fence), 0 for what a message does not say."""
Keys = tuple[tuple[int, int], ...]
"""Runs as outboxes name them: (row, attempt)."""


@fact
class WorkerStarted(Noted):
    """A worker began a life. `kept` is what its outbox held."""

    incarnation: int
    kept: Keys
    utc_us: int


@fact
class WorkerCrashed(Noted):
    """The process vanished at `point` (any: between two events)."""

    incarnation: int
    point: str


@fact
class WorkerStopped(Noted):
    """The worker ended by its own will: it had drained."""

    incarnation: int


@fact
class LinkUp(Noted):
    """A connection to the server `to`, under this number."""

    to: str
    connection: int


@fact
class LinkDown(Noted):
    """The worker knows that its connection is gone."""

    to: str
    connection: int
    why: str


@fact
class Said(Noted):
    """`node`, a server or a worker, gave a message to the link. `number` is that of its MessageSent. `beat` is the
    number of a Beat, an Echo or the beat of a Dispatch, and the nonce of a Hello or an answer to it. `granted` is -1
    where the message grants nothing. `words` are codes: one for each run, or one for the message."""

    to: str
    number: int
    kind: str
    session: int
    beat: int
    granted: int
    runs: Refs
    words: tuple[str, ...]


@fact
class Unsaid(Noted):
    """A message that no frame can carry was dropped."""

    kind: str
    why: str


@fact
class Mischief(Noted):
    """Somebody else put a frame on the way to `node`, as if `sender` had sent it. `kind`: noise, replay, forged.
    `session`: whose message it is, where it comes from the connection of that session, so that nobody can tell it from
    one of `sender`; 0 where it does not. `granted` is -1 where it grants nothing."""

    sender: str
    number: int
    kind: str
    session: int
    granted: int


@fact
class KeysSet(Noted):
    """The server `node` was told that the keys of these handlers, and no others, may speak."""

    handlers: tuple[str, ...]


@fact
class HandlerSeen(Noted):
    """The server `node` says of a remote handler that it is registered, rejected (`code`), suspect, heard, lost,
    draining or left. `session` is that of a registration."""

    handler_id: str
    what: str
    session: int
    code: str


@fact
class ResultsKept(Noted):
    """These results are in the outbox, durably as far as it can."""

    runs: Keys


@fact
class KeepRefused(Noted):
    """The outbox could not keep these."""

    runs: Keys
    why: str


@fact
class ResultsForgotten(Noted):
    """These results need not be kept any more."""

    runs: Keys


@fact
class ResultsLost(Noted):
    """A crash took these results out of the outbox: they were not durable yet."""

    runs: Keys


@fact
class OutboxHeld(Noted):
    """What the outbox holds at the end of the run."""

    runs: Keys
