"""Tables of moves: the code, the documentation and the test oracle of a machine in one flat dict."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from sz_protocol.kernel.errors import LocalProtocolError

S = TypeVar("S", bound=Enum)

Moves = Mapping[tuple[S, type[Any]], S]
"""(state, type of event or verdict) -> next state."""


def move(moves: Moves[S], state: S, event: object) -> S:
    """The state after `event`; raises LocalProtocolError where the table has no such move."""
    try:
        return moves[state, type(event)]
    except KeyError:
        raise LocalProtocolError(f"{type(event).__name__} is not possible in state {state.name}") from None


def allows(moves: Moves[S], state: S, event: object) -> bool:
    """Whether the table has a move for `event` in `state`."""
    return (state, type(event)) in moves


def as_markdown(moves: Moves[S]) -> str:
    """The table as the specs print it, one row a move, in the order of the code."""
    lines = ["| state | event | next state |", "|---|---|---|"]
    lines += [f"| {state.name} | {event.__name__} | {after.name} |" for (state, event), after in moves.items()]
    return "\n".join(lines)
