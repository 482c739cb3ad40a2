"""CAT-5: an edit of which nobody knows whether it is durable is looked up; what stands then is told to who fires it."""

from sz_protocol.commands import Applied, Apply
from sz_protocol.kernel.effects import Read, Write
from sz_protocol.kernel.events import Event, FailReason, WriteFailed
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.records import Outcome
from tests.protocol.harness import T0_US, Bench, every


def durable_but_nobody_knows(bench: Bench) -> None:
    """The oldest operation under way is done, and its answer is lost."""

    def fate(operation: Write | Read) -> Event:
        assert isinstance(operation, Write)
        bench.store.write(operation)
        return WriteFailed(operation.op, FailReason.UNKNOWN)

    bench.answer(fate)


def test_cat_5_what_stands_is_fired_although_somebody_edited_its_neighbour_before_it_was_looked_up() -> None:
    bench = Bench().start()
    bench.advance(1)
    first = bench.command(Apply((every(10, "a"), every(10, "b"))))
    bench.answer()
    durable_but_nobody_knows(bench)
    changed = bench.ask(Apply((every(20, "a"),)))
    assert changed == Applied(changed=1)
    bench.advance(60, auto=Outcome.SUCCEEDED)
    assert isinstance(bench.replies[first], Applied)
    assert [run.fire_us for run in bench.store.ledger("b")] == [T0_US + n * 10 * SECOND_US for n in range(1, 7)]
