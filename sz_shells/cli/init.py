"""`schedulezero init`: a configuration and a handler module to begin with."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sz_shells.cli.common import OK, USAGE, fail

Mode = Literal["full", "minimal", "autonomous", "distributed"]

CONFIG = """\
# The configuration of one deployment of ScheduleZero. Check it:  schedulezero check
# Every key, its default and its meaning:                         schedulezero check --schema

deployment:
  name: {name}
  mode: {mode}  # {meaning}

components:
{above}  scheduler:
    datastore:
      type: sqlite  # the ledger: every due instant and what became of it
      path: schedulezero_jobs.db

  handlers:
    local:
      modules: [my_handlers]  # my_handlers.py, beside this file
{below}
schedules:
  # Every ten seconds. A fire time that comes while the run before is still under way is skipped, and recorded so.
  - id: hello
    handler_id: examples
    method: hello
    params: {{name: world}}
    trigger: {{type: interval, seconds: 10}}

  # Every night at 02:30 in Berlin, whatever the clocks do. Tried three times, each for at most ten minutes.
  - id: nightly-report
    handler_id: examples
    method: report
    trigger: {{type: cron, expression: "30 2 * * *", timezone: Europe/Berlin}}
    retry: {{attempts: 3, base: 10s, max: 5m}}
    timeout: 10m
"""

HANDLERS = '''\
"""Handlers: what schedules call. Each is known by its handler id and its name."""

from sz_runtime.handlers import register_local


@register_local("examples")
async def hello(run, name):
    """Async handlers share one event loop. A parameter named `run` receives the context of the run."""
    run.logger.info("hello", name=name, fire_time=run.fire_time.isoformat())
    return {"greeted": name}


@register_local("examples")
def report():
    """Plain functions run in threads of their own. What is returned stands in the ledger, as JSON."""
    return {"pages": 12}
'''

MEANINGS = {
    "full": "web server, scheduler, local and remote handlers",
    "minimal": "web server, scheduler, local handlers",
    "autonomous": "scheduler and local handlers, with or without a central server",
    "distributed": "several instances, of which one schedules",
}
_WEB = """\
  tornado:
    enabled: {enabled}  # the web server: HTTP API and portal{missing}

"""
_BROKER = """\
  # One instance. Several of them share a PostgreSQL store and talk to each other over type zmq.
  event_broker:
    type: local

"""
_CENTRAL = """\
  # To report to a central server, and to go on without it while it is away:
  # zmq_client:
  #   server_address: tcp://central-server:5556

"""
_REMOTE = """\
    remote:
      enabled: {enabled}  # handlers in other processes, over ZeroMQ{missing}
"""


def init(
    directory: Path = Path("."),
    /,
    *,
    mode: Annotated[Mode, Parameter(help="Which components to start from.")] = "full",
) -> int:
    """Write a small commented configuration and a handler module that run at once. Never overwrites a file.

    Parameters
    ----------
    directory
        Where to write them; made if it is not there.
    """
    files = {
        directory / "schedulezero.yaml": configuration(mode, _name(directory)),
        directory / "my_handlers.py": HANDLERS,
    }
    in_the_way = [str(path) for path in files if path.exists() or path.is_symlink()]
    if in_the_way:
        fail(f"{', '.join(in_the_way)}: is there already, and init overwrites nothing", USAGE)
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        fail(f"{error.filename or directory}: cannot be written: {error.strerror or error}")
    for path in files:
        sys.stdout.write(f"wrote {path}\n")
    go = "" if directory == Path(".") else f"cd {directory} && "
    sys.stdout.write(f"next: {go}schedulezero run\n")
    return OK


def configuration(mode: Mode, name: str) -> str:
    """The text of a configuration. Components that this version does not have are switched off, and said to be."""
    from sz_runtime.plugins import plugin_names

    components = plugin_names("components")
    above, below = "", ""
    if mode != "autonomous":
        above += _switched(_WEB, "tornado" in components)
    if mode in ("full", "distributed"):
        below += _switched(_REMOTE, "registration_server" in components)
    if mode == "distributed":
        above += _BROKER
    if mode == "autonomous":
        above += _CENTRAL
    return CONFIG.format(name=name, mode=mode, meaning=MEANINGS[mode], above=above, below=below)


def _switched(section: str, there: bool) -> str:
    missing = "" if there else "; not part of this version"
    return section.format(enabled="true" if there else "false", missing=missing)


def _name(directory: Path) -> str:
    """A name for the deployment, after its directory."""
    import re

    name = re.sub("[^A-Za-z0-9._-]", "-", directory.resolve().name).lstrip("._-")[:100]
    return name or "default"
