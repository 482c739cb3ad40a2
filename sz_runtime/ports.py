"""The ports: what the runtime needs of the world. Shells implement them; the simulation implements them too.

None of them blocks the protocol's task. A shell answers through the callable that it was given; that callable may be
called from any thread and takes a batch of events.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import anyio
from anyio.abc import TaskStatus
from attrs import frozen

from sz_protocol.attaching import Forget, Keep, KeepAnswer
from sz_protocol.kernel.effects import CancelRun, Read, Send, StartRuns, Write
from sz_protocol.kernel.events import Event, MethodInfo
from sz_protocol.kernel.now import Now
from sz_protocol.messages import RunReport
from sz_protocol.queries import Query

Complete = Callable[[Sequence[Event]], None]
"""Hands completions back to the driver. Thread-safe, never blocks, may be called at any time after `open`."""


@frozen
class Opened:
    """What a store says when it opens: the term of this life (greater than every earlier one, durable before it is
    returned) and the latest wall time that it has recorded."""

    term: int
    high_water_us: int


class StoreError(Exception):
    """A store cannot be opened or read; the message is for a person and names the file or address."""


class StoreInUse(StoreError):
    """Another server holds this store."""


class StoreTooNew(StoreError):
    """A newer version of ScheduleZero wrote this store."""


class Store(Protocol):
    """Where schedules and the ledger live.

    `submit` never blocks; each Write is answered by exactly one WriteDone or WriteFailed, each Read by exactly one
    ReadDone or ReadFailed. Writes are applied in the order of submission, each atomically; all that wait at one
    moment share one commit. A read sees every write submitted before it. After `close` returns, everything that was
    submitted has been answered. `query` answers one query directly, in the caller's thread, and raises StoreError.
    """

    def open(self, complete: Complete) -> Opened:
        """Take the store for this process (blocking: call it in a thread). Raises StoreError."""
        ...

    def submit(self, effect: Write | Read) -> None:
        """Queue one operation."""
        ...

    def query(self, query: Query) -> tuple[Any, ...]:
        """Rows for a person or a test, read beside the server; usable without `open`."""
        ...

    def close(self) -> None:
        """Finish what was submitted, then let go (blocking)."""
        ...


class Clock(Protocol):
    """The node's clocks and its one timer."""

    def now(self) -> Now:
        """Read both clocks."""
        ...

    def arm(self, at_us: int | None) -> None:
        """Call `wake` once, soon after the monotonic clock reaches `at_us`; replaces what was armed before."""
        ...

    async def run(self, wake: Callable[[], None]) -> None:
        """Serve the timer until cancelled. `wake` is called in the event loop of this task."""
        ...


class Executor(Protocol):
    """Where handlers run, away from the protocol's task."""

    def methods(self) -> tuple[tuple[MethodInfo, ...], tuple[tuple[str, int], ...]]:
        """What can be executed here and the size of each pool, as in HandlersChanged."""
        ...

    def open(self, complete: Complete) -> None:
        """Begin to accept work (may start threads)."""
        ...

    def submit(self, effect: StartRuns | CancelRun) -> None:
        """Queue it; never blocks. Each started run ends in exactly one RunResult inside some RunsFinished."""
        ...

    def close(self, timeout_s: float) -> bool:
        """Cancel what still runs and stop; blocking, at most `timeout_s`. False when some handler would not end."""
        ...


class LinkError(Exception):
    """A link cannot be made: its address is wrong, or taken, or its keys are. The message is for a person."""


class Link(Protocol):
    """Messages to and from other processes.

    What comes is handed to `complete` as Received, or Garbled where it is no message for this side; the side that
    connects also hands in LinkChanged. `submit` never blocks, and what it is given may be lost: the machines on both
    ends repeat what matters.
    """

    async def run(self, complete: Complete, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, in the event loop of the driver; started once the address is bound, or the first
        attempt to connect is under way. Raises LinkError."""
        ...

    def submit(self, effect: Send) -> None:
        """Take a message; it leaves at the next `flush`. Call it in the event loop of `run`."""
        ...

    def flush(self) -> None:
        """Send what was submitted; what goes to one peer at one moment may travel together."""
        ...


KeepComplete = Callable[[Sequence[KeepAnswer]], None]


class Outbox(Protocol):
    """Where a handler's process keeps results until its server has acknowledged them (ATT-5).

    `submit` never blocks; each Keep is answered by exactly one Kept or KeepFailed, in the order of submission. What was
    kept is there again after the next `open`, unless a later Forget named it. A Forget is not answered, and one that is
    lost with the process costs a report that the server knows already. After `close` everything has been answered.
    """

    @property
    def durable(self) -> bool:
        """Whether what is kept survives the process."""
        ...

    def open(self, complete: KeepComplete) -> tuple[RunReport, ...]:
        """Take it for this process (blocking), and say what earlier lives left, oldest first. Raises StoreError."""
        ...

    def submit(self, effect: Keep | Forget) -> None:
        """Queue one operation."""
        ...

    def close(self) -> None:
        """Finish what was submitted, then let go (blocking)."""
        ...
