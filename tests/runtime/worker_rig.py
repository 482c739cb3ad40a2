"""A node that listens for handlers on a port of its own choice, and workers that find it: in one process, over TCP."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from sz_protocol.commands import Done, Refusal, RefusalCode, RunNow
from sz_protocol.notices import Notice
from sz_protocol.queries import RunsPage
from sz_protocol.records import Run, RunState
from sz_runtime.components import ComponentManager
from sz_runtime.config import parse_config
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.worker import Worker

CONFIG = """\
deployment: {{mode: full}}
components:
  tornado: {{enabled: false}}
  control: {{enabled: false}}
  scheduler: {{datastore: {{type: memory}}}}
  handlers:
    local: {{enabled: false}}
    remote: {{registration_server: {{address: "{address}", heartbeat: 100ms, lease: 2s, {more}}}}}
schedules: [{schedules}]
"""


class Site:
    """What the tests look at."""

    def __init__(self, manager: ComponentManager, notices: list[Notice]) -> None:
        self.manager = manager
        self.notices = notices
        self._asked = 0

    @property
    def address(self) -> str:
        """Where handlers register."""
        return str(self.manager.components["registration_server"].endpoint)

    async def run_now(self, handler_id: str, method: str, **params: Any) -> str:
        """Ask for one run, as soon as the node knows who can execute it; its id."""
        self._asked += 1
        with anyio.fail_after(20):
            while True:
                answer = await self.manager.scheduler.ask(RunNow(handler_id, method, f"ask-{self._asked}", params))
                if isinstance(answer, Done):
                    return answer.detail
                assert isinstance(answer, Refusal), answer
                assert answer.code is RefusalCode.UNKNOWN_METHOD, answer
                await anyio.sleep(0.01)

    async def run(self, run_id: str) -> Run | None:
        """One row of the ledger."""
        rows = await self.manager.scheduler.query(RunsPage(limit=1000))
        return next((run for run in rows if run.run_id == run_id), None)

    async def end_of(self, run_id: str) -> Run:
        """Wait for the outcome of a run."""
        with anyio.fail_after(20):
            while True:
                found = await self.run(run_id)
                if found is not None and found.state is RunState.DONE:
                    return found
                await anyio.sleep(0.01)

    async def do(self, handler_id: str, method: str, **params: Any) -> Run:
        """Ask for one run and wait for its outcome."""
        return await self.end_of(await self.run_now(handler_id, method, **params))

    def told(self, kind: type[Any]) -> list[Any]:
        """The node's notices of a kind."""
        return [notice for notice in self.notices if isinstance(notice, kind)]


@asynccontextmanager
async def site(
    more: str = "", schedules: str = "", address: str = "tcp://127.0.0.1:*", wait: bool = True
) -> AsyncIterator[Site]:
    """A running node that handlers can register with, at once unless nobody shall `wait` for that."""
    notices: list[Notice] = []
    config = parse_config(CONFIG.format(address=address, more=more, schedules=schedules))
    async with ComponentManager(config, registry=LocalHandlerRegistry(), observers=[notices.append]) as manager:
        made = Site(manager, notices)
        await until(lambda: not wait or manager.components.get("registration_server") is not None)
        yield made


async def until(met: Callable[[], object], timeout_s: float = 20) -> None:
    """Wait for it."""
    with anyio.fail_after(timeout_s):
        while not met():
            await anyio.sleep(0.005)


def registry(*handlers: Callable[..., Any], handler_id: str = "tasks") -> LocalHandlerRegistry:
    """A registry of these functions."""
    made = LocalHandlerRegistry()
    for handler in handlers:
        made.register(handler_id, handler)
    return made


def worker(site: Site, *handlers: Callable[..., Any], handler_id: str = "edge-1", **options: Any) -> Worker:
    """A worker with these handlers, which connects quickly and says nothing."""
    options = {"registry": registry(*handlers), "observers": (), "reconnect_s": 0.3, **options}
    return Worker(site.address, handler_id, **options)
