"""The simulated network: datagrams that get lost, doubled, late and out of order, and cuts between places.

Payloads are bytes, so that whoever talks over it does so through the real codec. A place is the name of a node or of a
shared store. Cuts have a direction; a partition is a set of cuts in both.
"""

from collections.abc import Callable, Iterable
from math import log
from random import Random

from attrs import Factory, define, frozen

from sz_protocol.kernel.now import SECOND_US
from sz_runtime.simulation.agenda import Agenda
from sz_runtime.simulation.facts import MessageDelivered, MessageSent
from sz_runtime.simulation.trace import Trace

MILLISECOND_US = 1000

Receive = Callable[[str, bytes], None]


@frozen
class Weather:
    """How bad a network is. `loss` and `duplication` are probabilities; a message takes `base_us` plus an
    exponential delay of mean `mean_us`, and with probability `tail` up to `tail_us` more: delays differ, so messages
    overtake each other."""

    loss: float = 0.0
    duplication: float = 0.0
    base_us: int = MILLISECOND_US // 5
    mean_us: int = MILLISECOND_US // 2
    tail: float = 0.0
    tail_us: int = 0


CALM = Weather()


def draw_weather(rng: Random) -> Weather:
    """Bad weather as protocols §5 bounds it: loss 0-30 %, duplication 0-50 %, mean 30-100 ms, a tail of seconds."""
    return Weather(
        loss=rng.choice((0.0, round(rng.uniform(0, 0.3), 3))),
        duplication=rng.choice((0.0, round(rng.uniform(0, 0.5), 3))),
        base_us=MILLISECOND_US,
        mean_us=rng.randint(30, 100) * MILLISECOND_US,
        tail=rng.choice((0.0, 0.01, 0.05)),
        tail_us=rng.randint(1, 10) * SECOND_US,
    )


@define
class SimNetwork:
    """Carries messages between attached places, as the weather and the cuts allow."""

    agenda: Agenda
    trace: Trace
    rng: Random
    weather: Weather = CALM
    _receivers: dict[str, Receive] = Factory(dict)
    _cuts: dict[tuple[str, str], None] = Factory(dict)
    _sent: int = 0

    # --- datagrams --------------------------------------------------------------------------------------------

    def attach(self, place: str, receive: Receive) -> None:
        """Deliver to `receive` what is sent to `place` from now on; replaces an earlier life of the place."""
        self._receivers[place] = receive

    def detach(self, place: str) -> None:
        """The place is gone; what arrives there falls on the floor."""
        self._receivers.pop(place, None)

    def send(self, sender: str, to: str, payload: bytes, lost: bool = False) -> int:
        """One datagram, and its number. Never fails; whether and when it arrives is the network's secret, unless it is
        `lost` already."""
        self._sent = number = self._sent + 1
        random, weather, copies = self.rng.random, self.weather, 1
        if random() < weather.loss or lost:
            copies = 0
        elif random() < weather.duplication:
            copies = 2
        agenda = self.agenda
        self.trace.add(MessageSent(agenda.now_us, sender, to, number, len(payload), copies))
        for _ in range(copies):
            agenda.after(self.delay_us(), self._arrive, sender, to, number, payload)
        return number

    def _arrive(self, sender: str, to: str, number: int, payload: bytes) -> None:
        receive = self._receivers.get(to)
        if receive is None or (sender, to) in self._cuts:
            return
        self.trace.add(MessageDelivered(self.agenda.now_us, to, sender, number))
        receive(sender, payload)

    def delay_us(self) -> int:
        """A drawn time on the way; streams between a node and a shared store use it too."""
        weather = self.weather
        # An exponential delay, as `expovariate` draws it.
        delay_us = weather.base_us + int(-log(1.0 - self.rng.random()) * weather.mean_us)
        if weather.tail and self.rng.random() < weather.tail:
            delay_us += self.rng.randint(0, weather.tail_us)
        return delay_us

    # --- cuts -------------------------------------------------------------------------------------------------

    def is_cut(self, sender: str, to: str) -> bool:
        """Whether nothing gets from `sender` to `to` at this moment."""
        return (sender, to) in self._cuts

    def cut(self, sender: str, to: str) -> None:
        """A one-way partition: nothing from `sender` reaches `to`."""
        self._cuts[sender, to] = None

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Cut every pair of places that are in different groups, both ways."""
        sides = [tuple(group) for group in groups]
        for place, side in enumerate(sides):
            for other in sides[:place] + sides[place + 1 :]:
                for a in side:
                    for b in other:
                        self.cut(a, b)

    def mend(self, sender: str, to: str) -> None:
        """Heal one direction of one link."""
        self._cuts.pop((sender, to), None)

    def heal(self) -> None:
        """Mend every link at once and let the weather be calm."""
        self._cuts.clear()
        self.weather = CALM

    def heal_swizzled(self, within_us: int) -> None:
        """Mend the links one by one, in a random order, over `within_us` (FoundationDB's "swizzling": the order in
        which links come back finds bugs that a clean heal hides)."""
        links = list(self._cuts)
        self.rng.shuffle(links)
        for place, (sender, to) in enumerate(links):
            self.agenda.after(within_us * (place + 1) // len(links), self.mend, sender, to)

    @property
    def cuts(self) -> tuple[tuple[str, str], ...]:
        """The links that are cut, in the order of cutting."""
        return tuple(self._cuts)
