"""A node inside a program of trio, which listens to what it notices and is cancelled in the end."""

import trio

from sz_protocol.notices import RunsRecorded
from sz_runtime.components import ComponentManager
from sz_runtime.config import parse_config
from sz_runtime.handlers import register_local
from sz_shells.components.event_broker import LocalBroker

CONFIG = """
deployment: {name: embedded, mode: autonomous}
components:
  scheduler: {datastore: {type: memory}}
  event_broker: {enabled: true, type: local}  # its notices, as a stream
  control: {enabled: false}
schedules:
  - {id: beat, handler_id: pulses, method: beat, trigger: {type: interval, seconds: 0.2}}
"""


@register_local("pulses")
async def beat() -> str:
    await trio.sleep(0.01)  # handlers run on the event loop of the program that embeds the node
    return "thump"


async def listen(broker: LocalBroker) -> None:
    with broker.subscribe() as notices:
        async for notice in notices:
            if isinstance(notice, RunsRecorded):
                for run in notice.runs:
                    if run.outcome is not None:
                        print(run.schedule_id, run.outcome, run.result)


async def main() -> None:
    with trio.move_on_after(0.9):  # as if somebody had cancelled the whole program
        async with trio.open_nursery() as nursery, ComponentManager(parse_config(CONFIG)) as manager:
            nursery.start_soon(listen, manager.event_broker)
            await trio.sleep_forever()
    print("stopped:", {standing.name: str(standing.state) for standing in manager.states})


if __name__ == "__main__":
    trio.run(main)
