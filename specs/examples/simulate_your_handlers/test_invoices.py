"""Your own handlers under crashes, in simulated time: `pytest specs/examples/simulate_your_handlers`.

The fixture `sz_world` comes with ScheduleZero. Twenty seeds of twenty minutes take a few seconds.
"""

from invoices import Billing, registry_of

EVERY_30_S = {"type": "interval", "seconds": 30}


def test_every_invoice_is_sent_once_whatever_crashes(sz_world) -> None:
    billing = Billing()
    sz_world.adopt(registry_of(billing))
    sz_world.schedule(id="invoices", handler_id="billing", method="send", trigger=EVERY_30_S, misfire="all")
    for result in sz_world.runs(seeds=20, minutes=20, faults=("crash", "stall")):
        assert result.ok, result.violations
        succeeded = [row.run_key for row in result.ledger if row.outcome == "succeeded"]
        assert len(succeeded) > 30
        assert sorted(billing.sent) == sorted(succeeded)
        billing.sent.clear()
        billing.highest_fence = 0


def test_a_crash_while_an_invoice_is_being_prepared_repeats_the_run(sz_world) -> None:
    billing = Billing()
    sz_world.adopt(registry_of(billing))
    sz_world.schedule(id="invoices", handler_id="billing", method="send", trigger=EVERY_30_S)
    result = sz_world.play(
        """
        advance 31s                       # the first invoice is being prepared
        crash a restart after 5s
        advance 20s
        """
    )
    assert result.ok, result.violations
    first = result.ledger[0]
    assert (first.outcome, first.reason, first.attempt) == ("succeeded", "retried", 2)
    assert billing.sent[0] == first.run_key
