"""Remote handlers at a whole node: from a due instant to a handler elsewhere, and back into the ledger."""

from sz_protocol.commands import Apply
from sz_protocol.kernel.effects import Write
from sz_protocol.messages import Ack, AckCode
from sz_protocol.records import Outcome
from tests.protocol.harness import every
from tests.protocol.remote_rig import Remote, held, remote_bench


def test_a_run_goes_out_and_its_result_comes_back_and_is_acknowledged_once_it_is_durable() -> None:
    bench = remote_bench()
    handler = Remote(bench).join()
    bench.ask(Apply((every(10),)))
    handler.beat_for(10)
    handler.take()
    (run,) = handler.runs
    assert (run.method, run.schedule_id, run.attempt) == ("m", "s", 1)
    handler.accept(run)
    handler.report(run)
    assert isinstance(bench.waiting[0], Write)
    assert not handler.acks(), "MEMB-8: not before it is durable"
    bench.settle()
    assert handler.acks() == [Ack(run.row, 1, AckCode.OK)]
    assert bench.store.outcomes() == [(10, Outcome.SUCCEEDED, "on_time")]
    assert bench.store.ledger()[0].worker == "h"


def test_memb_6_a_run_that_is_still_executing_after_a_restart_is_adopted_and_not_repeated() -> None:
    bench = remote_bench()
    handler = Remote(bench).join()
    bench.ask(Apply((every(10),)))
    handler.beat_for(10)
    (run,) = handler.runs
    handler.accept(run)
    again = bench.crash().start()
    handler = Remote(again).join(executing=(held(run),))
    handler.beat_for(15)
    assert not handler.runs
    handler.report(run)
    again.settle()
    assert handler.acks() == [Ack(run.row, 1, AckCode.OK)]
    assert again.store.outcomes()[0] == (10, Outcome.SUCCEEDED, "late")
