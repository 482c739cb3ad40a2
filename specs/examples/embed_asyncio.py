"""A node inside a program of asyncio, which starts and stops it in two places, and changes its schedules.

A program whose configuration is a file reads it with `load_config("schedulezero.yaml")`.
"""

import asyncio

from sz_protocol.queries import RunsPage
from sz_runtime.components import ComponentManager
from sz_runtime.config import Config, parse_config
from sz_runtime.handlers import LocalHandlerRegistry

SCHEDULE = "schedules: [{id: tick, handler_id: clock, method: tick, trigger: {type: interval, seconds: %s}}]"
MEMORY = "components: {scheduler: {datastore: {type: memory}}, control: {enabled: false}}"


class Application:
    """Owns a node, as it owns its other parts."""

    def __init__(self) -> None:
        self.ticks = 0
        handlers = LocalHandlerRegistry()  # handlers of this object, and no others
        handlers.register("clock", self.tick)
        self.node = ComponentManager(self.config(seconds="0.2"), registry=handlers)

    def config(self, seconds: str) -> Config:
        return parse_config("\n".join(("deployment: {mode: autonomous}", MEMORY, SCHEDULE % seconds)))

    def tick(self) -> int:
        """A plain function: it runs in a thread, away from this program's event loop."""
        self.ticks += 1
        return self.ticks

    async def start(self) -> None:
        await self.node.start_all()

    async def stop(self) -> None:
        await self.node.stop_all()


async def main() -> None:
    application = Application()
    await application.start()
    try:
        await asyncio.sleep(0.5)
        print(await application.node.reload(application.config(seconds="0.1")))
        await asyncio.sleep(0.5)
        (newest,) = await application.node.scheduler.query(RunsPage(limit=1))
        print("newest run:", newest.schedule_id, newest.fire_us)
    finally:
        await application.stop()
    print("ticked", application.ticks, "times")


if __name__ == "__main__":
    asyncio.run(main())
