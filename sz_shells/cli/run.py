"""`schedulezero run`: a server in the foreground."""

from typing import Annotated

from cyclopts import Parameter

from sz_shells.cli.options import SetOption
from sz_shells.cli.serving import Backend, Serving, serve


def run(
    config: str | None = None,
    /,
    *,
    backend: Annotated[Backend, Parameter(help="The event loop to run on.")] = "asyncio",
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], help="Log routine events too.")] = False,
    settings: SetOption = None,
) -> int:
    """Run the schedules of a configuration until SIGTERM or Ctrl-C, which drain: nothing new starts, running handlers
    may end, outcomes are written. SIGHUP reads the configuration again.

    Parameters
    ----------
    config
        Configuration file, or the directory or name of a deployment.
    """
    return serve(Serving(config, backend, verbose, tuple(settings or ())))
