"""Holds what may only happen after a write is durable. No shell can get this order wrong (GATE-1)."""

from typing import Generic, TypeVar

from attrs import Factory, define

from sz_protocol.kernel.errors import LocalProtocolError

T = TypeVar("T")


@define
class WriteGate(Generic[T]):
    """Maps an operation that is under way to what waits for it. Each entry leaves exactly once."""

    waiting: dict[int, T] = Factory(dict)

    def hold(self, op: int, entry: T) -> None:
        """Keep `entry` until the store has answered `op`."""
        if op in self.waiting:
            raise LocalProtocolError(f"operation {op} is already under way")
        self.waiting[op] = entry

    def owns(self, op: int) -> bool:
        """Whether `op` is one of ours."""
        return op in self.waiting

    def release(self, op: int) -> T:
        """Take out what waited for `op`; the caller checks each part again, for time has passed."""
        try:
            return self.waiting.pop(op)
        except KeyError:
            raise LocalProtocolError(f"operation {op} is not under way") from None

    def __len__(self) -> int:
        return len(self.waiting)
