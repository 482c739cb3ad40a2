"""What is due next: names by due time, and of one instant in the order of the alphabet. Part of scheduling.

A heap of instants, not of schedules: when a hundred thousand are due at one instant, taking one of them off costs the
same as if it were alone.
"""

from heapq import heappop, heappush

from attrs import Factory, define


@define
class DueQueue:
    """A name may be there several times, under one instant or several: who takes it off knows which entry counts."""

    instants: list[int] = Factory(list)
    """A heap; each has its names below."""
    names: dict[int, list[str]] = Factory(dict)
    sorted_us: int | None = None
    """The instant whose names are in order, the last to be taken first."""

    def __bool__(self) -> bool:
        return bool(self.instants)

    def push(self, due_us: int, name: str) -> None:
        """Put a name under an instant."""
        names = self.names.get(due_us)
        if names is None:
            heappush(self.instants, due_us)
            self.names[due_us] = [name]
            return
        names.append(name)
        if due_us == self.sorted_us:
            self.sorted_us = None

    def first(self) -> tuple[int, str]:
        """The first of the names of the earliest instant. Raises IndexError where there is none."""
        due_us = self.instants[0]
        names = self.names[due_us]
        if due_us != self.sorted_us:
            names.sort(reverse=True)
            self.sorted_us = due_us
        return due_us, names[-1]

    def drop_first(self) -> None:
        """Take off what `first` has told."""
        due_us = self.instants[0]
        names = self.names[due_us]
        names.pop()
        if not names:
            heappop(self.instants)
            del self.names[due_us]
            self.sorted_us = None
