"""What lifecycle knows of a node's components, the facts that it is told, and the orders that it gives."""

from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from attrs import frozen

from sz_protocol.kernel.effects import Publish, Reply
from sz_protocol.kernel.errors import LocalProtocolError
from sz_protocol.kernel.events import Woke
from sz_protocol.kernel.now import SECOND_US


class ComponentState(StrEnum):
    """STOPPED is not wanted. WAITING is wanted and waits for others. CANCELLING was told to leave at once. BACKING_OFF
    died and will start again. FAILED was given up. STUCK would not leave: the others go on without it."""

    STOPPED = "stopped"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    CANCELLING = "cancelling"
    BACKING_OFF = "backing_off"
    FAILED = "failed"
    STUCK = "stuck"


@frozen
class Restart:
    """After the n-th death in a row the wait is drawn from [0, min(max_us, base_us * 2**(n-1))]; `stable_us` of running
    ends a row; after more than `limit` deaths in a row (None: never) the component is given up."""

    base_us: int = SECOND_US // 2
    max_us: int = 60 * SECOND_US
    stable_us: int = 60 * SECOND_US
    limit: int | None = None


@frozen
class ComponentSpec:
    """One component. It `needs` others to be running; it only comes `after` others where those are wanted too.

    The node cannot do without a `required` one: when that fails to start, what was started with it is undone; when it
    is given up later, the node stops. The time-outs bound its start, its orderly stop, and how long it may take to
    leave when it is cancelled.
    """

    name: str
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    required: bool = True
    start_timeout_us: int = 30 * SECOND_US
    stop_timeout_us: int = 30 * SECOND_US
    cancel_timeout_us: int = 5 * SECOND_US
    restart: Restart = Restart()


def in_order(specs: list[ComponentSpec]) -> list[ComponentSpec]:
    """Every spec after those that it stands on. Raises LocalProtocolError for what can never be started."""
    known = {spec.name: spec for spec in specs}
    if len(known) != len(specs):
        raise LocalProtocolError("two components have one name")
    for spec in specs:
        for need in spec.needs:
            if need not in known:
                raise LocalProtocolError(f"component {spec.name!r} needs {need!r}, which is not part of this node")
            if spec.required and not known[need].required:
                raise LocalProtocolError(f"component {spec.name!r} is required, so {need!r}, which it needs, has to be")
    graph = {spec.name: [n for n in (*spec.needs, *spec.after) if n in known] for spec in specs}
    try:
        return [known[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as cycle:
        raise LocalProtocolError(f"components wait for each other: {' -> '.join(cycle.args[1])}") from None


# --- facts -----------------------------------------------------------------------------------------------------


@frozen
class StartAsked:
    """Somebody wants these components, and what they need, to run. Exactly one Reply with a Settled follows."""

    request_id: int
    names: tuple[str, ...]


@frozen
class StopAsked:
    """Somebody wants these components, and what needs them, to stop. Exactly one Reply with a Settled follows."""

    request_id: int
    names: tuple[str, ...]


@frozen
class ComponentStarted:
    """This life of a component does its work from now on."""

    name: str
    life: int


@frozen
class ComponentEnded:
    """This life is over: nothing of it is left. `error` says why where that was not our wish; `permanent` says that
    another life would end the same way."""

    name: str
    life: int
    error: str = ""
    permanent: bool = False


Event = StartAsked | StopAsked | ComponentStarted | ComponentEnded | Woke


# --- orders ----------------------------------------------------------------------------------------------------


@frozen
class StartComponent:
    """Begin this life. At most one ComponentStarted and exactly one ComponentEnded follow."""

    name: str
    life: int


@frozen
class StopComponent:
    """Ask this life to end in good order."""

    name: str
    life: int


@frozen
class CancelComponent:
    """Make this life end at once. Like every order it is given only while the life's end has not been handed in."""

    name: str
    life: int


@frozen
class Settled:
    """The answer to StartAsked and StopAsked; `failure` is empty when everything is as it was asked."""

    failure: str = ""


Effect = StartComponent | StopComponent | CancelComponent | Publish | Reply
