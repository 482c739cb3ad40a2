"""A node inside a program of anyio, on either event loop: python embed_anyio.py [asyncio | trio]."""

import sys

import anyio

from sz_protocol.commands import Done, RunNow
from sz_protocol.notices import Notice, RunsRecorded
from sz_runtime.components import ComponentManager
from sz_runtime.config import parse_config
from sz_runtime.handlers import register_local

CONFIG = """
deployment: {name: embedded, mode: autonomous}
components:
  scheduler: {datastore: {type: memory}}
  control: {enabled: false}  # only this program steers it
schedules:
  - {id: beat, handler_id: hearts, method: beat, trigger: {type: interval, seconds: 0.2}}
"""


@register_local("hearts")
async def beat() -> str:
    await anyio.sleep(0.01)
    return "thump"


def watch(notice: Notice) -> None:
    """Called in the program's own event loop, for everything that the node notices."""
    if isinstance(notice, RunsRecorded):
        for run in notice.runs:
            if run.outcome is not None:
                print(run.schedule_id or "by hand", run.outcome, run.result)


async def main() -> None:
    # Nothing outlives the block: however it is left, the node drains and closes its store.
    async with ComponentManager(parse_config(CONFIG), observers=[watch]) as manager:
        answer = await manager.scheduler.ask(RunNow("hearts", "beat", idempotency_key="once"))
        assert isinstance(answer, Done), answer
        await anyio.sleep(0.7)  # the rest of the program
    print("stopped:", ", ".join(standing.name for standing in manager.states))


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
