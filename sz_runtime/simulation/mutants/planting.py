"""How a mutant is planted and taken out again."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from attrs import frozen


@frozen
class Patch:
    """Replaces `owner.attribute` by what `build` makes of the original."""

    owner: Any
    attribute: str
    build: Callable[[Any], Any]


@frozen
class Mutant:
    """A bug with a name, said in one sentence. `remote`: it can show only where there are workers."""

    name: str
    summary: str
    patches: tuple[Patch, ...]
    remote: bool = False


class UnknownMutant(ValueError):
    """There is no mutant of this name; the message names the nearest one."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = list(known)
        close = get_close_matches(name, names, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"there are: {', '.join(names)}"
        super().__init__(f'no mutant is called "{name}"; {hint}')


@contextmanager
def plant(mutant: Mutant) -> Iterator[Mutant]:
    """Put the mutant in, and take it out again at the end."""
    originals: list[tuple[Patch, Any]] = []
    try:
        for patch in mutant.patches:
            original = getattr(patch.owner, patch.attribute)
            originals.append((patch, original))
            setattr(patch.owner, patch.attribute, patch.build(original))
        yield mutant
    finally:
        for patch, original in reversed(originals):
            setattr(patch.owner, patch.attribute, original)


def mutant(name: str, summary: str, *patches: tuple[Any, str, Callable[[Any], Any]]) -> Mutant:
    """Shorthand for the lists."""
    return Mutant(name, summary, tuple(Patch(*patch) for patch in patches))
