"""How simulated handlers behave: how long they take and how they go wrong."""

from enum import StrEnum
from random import Random

from attrs import evolve, frozen

from sz_protocol.kernel.now import HOUR_US, SECOND_US

POISON = "\ud800"
"""Text that no store takes: a lone surrogate."""


@frozen
class Behaviour:
    """Durations are drawn between `least_us` and `most_us`; the rest are chances, at each execution, that the handler

    `fails`: raises; `hangs`: never ends by itself; `stubborn`: goes on when it is asked to stop; `unstorable`: returns
    what is no JSON; `poison`: raises with a message that no store takes; `fatal`: takes its whole process down.
    `pool` and `concurrency` are what its registration says.
    """

    least_us: int = SECOND_US // 100
    most_us: int = SECOND_US // 10
    fails: float = 0.0
    hangs: float = 0.0
    stubborn: float = 0.0
    unstorable: float = 0.0
    poison: float = 0.0
    fatal: float = 0.0
    concurrency: int | None = None

    def slowed(self, factor: int) -> "Behaviour":
        """The same on a machine on which everything takes so many times as long."""
        return evolve(self, least_us=self.least_us * factor, most_us=self.most_us * factor)


class Ending(StrEnum):
    """How an execution ends when nobody stops it."""

    SUCCEEDS = "succeeds"
    FAILS = "fails"
    UNSTORABLE = "unstorable"
    POISON = "poison"
    HANGS = "hangs"
    FATAL = "fatal"


@frozen
class Performance:
    """What one execution will do: decided when it begins."""

    ending: Ending
    lasts_us: int
    stubborn: bool
    stops_after_us: int


def perform(behaviour: Behaviour, rng: Random) -> Performance:
    """Draw one execution. Long and short durations are equally likely in order of magnitude."""
    low, high = max(behaviour.least_us, 1), max(behaviour.most_us, behaviour.least_us, 1)
    lasts_us = int(low * (high / low) ** rng.random())
    ending = Ending.SUCCEEDS
    dice = rng.random()
    for chance, other in (
        (behaviour.fails, Ending.FAILS),
        (behaviour.unstorable, Ending.UNSTORABLE),
        (behaviour.poison, Ending.POISON),
        (behaviour.hangs, Ending.HANGS),
        (behaviour.fatal, Ending.FATAL),
    ):
        if dice < chance:
            ending = other
            break
        dice -= chance
    if ending is Ending.HANGS:
        lasts_us = rng.randint(1, 12) * HOUR_US
    return Performance(ending, lasts_us, rng.random() < behaviour.stubborn, rng.randint(1, SECOND_US // 2))
