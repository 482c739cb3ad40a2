"""What is due next: names by due time, and of one instant in the order of the alphabet. Part of scheduling.

A heap of instants, not of schedules: when a hundred thousand are due at one instant, taking one of them off costs the
same as if it were alone, also while pages of others come in for that very instant.
"""

from bisect import insort
from heapq import heappop, heappush

from attrs import Factory, define


@define(eq=False)
class Names:
    """The names of one instant: those of `ordered` from `at` on; then those of `later`, which all come after them."""

    ordered: list[str]
    at: int = 0
    later: list[str] = Factory(list)

    def add(self, name: str) -> None:
        """Put one where it belongs."""
        if name >= self.ordered[-1]:
            self.later.append(name)
        else:
            insort(self.ordered, name, lo=self.at)


@define
class DueQueue:
    """A name may be there several times, under one instant or several: who takes it off knows which entry counts."""

    instants: list[int] = Factory(list)
    """A heap; each has its names below."""
    names: dict[int, Names] = Factory(dict)

    def __bool__(self) -> bool:
        return bool(self.instants)

    def push(self, due_us: int, name: str) -> None:
        """Put a name under an instant."""
        names = self.names.get(due_us)
        if names is not None:
            names.add(name)
            return
        heappush(self.instants, due_us)
        self.names[due_us] = Names([name])

    def first(self) -> tuple[int, str]:
        """The first of the names of the earliest instant. Raises IndexError where there is none."""
        due_us = self.instants[0]
        names = self.names[due_us]
        return due_us, names.ordered[names.at]

    def pop(self) -> tuple[int, str]:
        """Take that off. Raises IndexError where there is none."""
        due_us = self.instants[0]
        names = self.names[due_us]
        name = names.ordered[names.at]
        names.at += 1
        if names.at < len(names.ordered):
            return due_us, name
        if names.later:
            names.later.sort()
            names.ordered, names.at, names.later = names.later, 0, []
        else:
            heappop(self.instants)
            del self.names[due_us]
        return due_us, name
