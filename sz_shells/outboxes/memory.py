"""An outbox in memory: what it keeps is gone with its process."""

from sz_protocol.attaching import Forget, Keep, Kept
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.messages import RunReport
from sz_runtime.ports import KeepComplete


class MemoryOutbox:
    """Implements the Outbox port. The machine has the reports itself, so there is nothing to hold."""

    def __init__(self) -> None:
        self._complete: KeepComplete | None = None

    @property
    def durable(self) -> bool:
        """Whether what is kept survives the process."""
        return False

    def open(self, complete: KeepComplete) -> tuple[RunReport, ...]:
        """Nothing is left of earlier lives."""
        self._complete = complete
        return ()

    def submit(self, effect: Keep | Forget) -> None:
        """Answer at once."""
        if self._complete is None:
            raise LocalProtocolError("a report was submitted to an outbox that is not open")
        if isinstance(effect, Keep):
            self._complete((Kept(effect.op),))

    def close(self) -> None:
        """Let go."""
        self._complete = None
