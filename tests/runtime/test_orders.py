"""Orders of one turn reach the executor together, and in their order."""

from attrs import Factory, define

from sz_protocol.kernel.effects import CancelReason, CancelRun, StartRun, StartRuns
from sz_protocol.kernel.events import MethodInfo
from sz_protocol.records import RunKind
from sz_runtime.orders import Orders
from sz_runtime.ports import Complete


@define
class Heard:
    """An executor that only listens."""

    orders: list[StartRuns | CancelRun] = Factory(list)

    def methods(self) -> tuple[tuple[MethodInfo, ...], tuple[tuple[str, int], ...]]:
        return (), ()

    def open(self, complete: Complete) -> None:
        pass

    def submit(self, effect: StartRuns | CancelRun) -> None:
        self.orders.append(effect)

    def close(self, timeout_s: float) -> bool:
        return True


def a_start(row: int) -> StartRun:
    return StartRun(row, f"{row:032x}", "s", RunKind.SCHEDULED, "h", "m", {}, 0, 1, row, None, {})


FIRST, SECOND, THIRD = map(a_start, (1, 2, 3))
STOP = CancelRun(1, 1, CancelReason.REQUESTED)


def test_what_begins_in_one_turn_begins_together() -> None:
    heard = Heard()
    orders = Orders(heard)
    orders.submit(StartRuns((FIRST,)))
    orders.submit(StartRuns((SECOND, THIRD)))
    assert heard.orders == []
    orders.turn_over()
    orders.turn_over()
    assert heard.orders == [StartRuns((FIRST, SECOND, THIRD))]


def test_who_is_to_stop_has_been_told_to_begin() -> None:
    heard = Heard()
    orders = Orders(heard)
    orders.submit(StartRuns((FIRST,)))
    orders.submit(STOP)
    orders.submit(StartRuns((SECOND,)))
    orders.turn_over()
    assert heard.orders == [StartRuns((FIRST,)), STOP, StartRuns((SECOND,))]
