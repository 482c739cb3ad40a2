"""Steps with the true time of each, and as a list with the time between them."""

from collections.abc import Iterable

from sz_runtime.simulation.steps import Advance, Step

Planned = list[tuple[int, Step]]
"""Steps with the true time of each."""


def as_steps(planned: Iterable[tuple[int, Step]], length_us: int) -> tuple[Step, ...]:
    """The steps in the order of their times (ties in the order given), with the time between them."""
    steps: list[Step] = []
    now_us = 0
    for at_us, step in sorted(planned, key=lambda item: item[0]):
        if at_us > now_us:
            steps.append(Advance(at_us - now_us))
            now_us = at_us
        steps.append(step)
    return (*steps, Advance(max(length_us - now_us, 1)))


def timed(steps: Iterable[Step]) -> tuple[Planned, int]:
    """The other way round: when each step is done, and how long all of them take."""
    planned: Planned = []
    now_us = 0
    for step in steps:
        if isinstance(step, Advance):
            now_us += step.us
        else:
            planned.append((now_us, step))
    return planned, now_us
