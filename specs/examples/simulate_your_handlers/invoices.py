"""Handlers as a user writes them: they know nothing of the simulation."""

import anyio

from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.run_context import RunContext


class Billing:
    """Sends invoices through a gateway that refuses what is older than what it has seen: a fence."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.highest_fence = 0

    async def send(self, run: RunContext) -> dict[str, str]:
        """Prepare for two seconds, then send once: the idempotency key names the run, whichever attempt this is."""
        await anyio.sleep(2)
        if run.fence < self.highest_fence:
            raise RuntimeError("somebody newer is at work")
        self.highest_fence = run.fence
        if run.idempotency_key not in self.sent:
            self.sent.append(run.idempotency_key)
        return {"sent": run.idempotency_key}


def registry_of(billing: Billing) -> LocalHandlerRegistry:
    """The handlers under the names that schedules use."""
    registry = LocalHandlerRegistry()
    registry.register("billing", billing.send)
    return registry
