"""The four modes of the design, as its table has them: which components a deployment of that mode starts from."""

from collections.abc import Mapping

from sz_runtime.config.kinds import Mode

PRESETS: Mapping[Mode, Mapping[str, bool | str]] = {
    Mode.FULL: {
        "tornado.enabled": True,
        "scheduler.enabled": True,
        "event_broker.enabled": False,
        "handlers.local.enabled": True,
        "handlers.remote.enabled": True,
        "zmq_client.enabled": False,
    },
    Mode.MINIMAL: {
        "tornado.enabled": True,
        "scheduler.enabled": True,
        "event_broker.enabled": False,
        "handlers.local.enabled": True,
        "handlers.remote.enabled": False,
        "zmq_client.enabled": False,
    },
    Mode.AUTONOMOUS: {
        "tornado.enabled": False,
        "scheduler.enabled": True,
        "event_broker.enabled": False,
        "handlers.local.enabled": True,
        "handlers.remote.enabled": False,
        "zmq_client.enabled": True,
    },
    Mode.DISTRIBUTED: {
        "tornado.enabled": True,
        "scheduler.enabled": True,
        "event_broker.enabled": True,
        "event_broker.type": "zmq",
        "handlers.local.enabled": True,
        "handlers.remote.enabled": True,
        "zmq_client.enabled": False,
    },
}
