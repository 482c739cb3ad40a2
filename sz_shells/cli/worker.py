"""`schedulezero worker`: handlers in a process of their own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from cyclopts import Parameter

from sz_shells.cli.common import OK, USAGE, fail, read_pairs
from sz_shells.cli.options import Seconds
from sz_shells.cli.serving import Backend, has_trio, import_structlog, set_up_logging

if TYPE_CHECKING:
    from sz_runtime.worker import Worker


def worker(
    *,
    server: Annotated[str, Parameter(help="The server's address, as in tcp://HOST:5556.")],
    handler_id: Annotated[str, Parameter(help="The name under which schedules find this worker.")],
    modules: Annotated[list[str], Parameter(consume_multiple=True, help="Modules to import; they register handlers.")],
    tag: Annotated[
        list[str] | None, Parameter(name="--tag", negative=(), help="KEY=VALUE for routing; may be repeated.")
    ] = None,
    concurrency: Annotated[int, Parameter(help="How many runs execute at once.")] = 16,
    threads: Annotated[int, Parameter(help="How many of them may be plain functions, in threads.")] = 40,
    outbox: Annotated[
        str | None,
        Parameter(
            help='File that keeps unreported results; "memory": none. [default: deployments/HANDLER_ID/outbox.db]'
        ),
    ] = None,
    backend: Annotated[Backend, Parameter(help="The event loop to run on.")] = "asyncio",
    server_key: Annotated[str | None, Parameter(help="The server's public key, or its .pub file.")] = None,
    secret_key: Annotated[Path | None, Parameter(help="The .secret file of this worker's key.")] = None,
    grace: Annotated[Seconds, Parameter(help="How long running handlers get to end, as in 250ms or 1m30s.")] = 10.0,
    reconnect: Annotated[Seconds, Parameter(help="The longest wait between two attempts to connect.")] = 30.0,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], help="Log routine events too.")] = False,
) -> int:
    """Execute what a server sends, until SIGTERM or Ctrl-C, which drain: nothing new is taken, running handlers may
    end, results are reported. A second signal hurries."""
    import_structlog()
    from sz_runtime.interpreter import tune_interpreter
    from sz_runtime.worker import Worker, WorkerError

    if backend == "trio" and not has_trio():
        fail("--backend trio needs the package trio: pip install 'schedulezero[trio]'", USAGE)
    set_up_logging(verbose, str)
    try:
        made = Worker(
            server,
            handler_id,
            modules=modules,
            tags=read_pairs(tag, "--tag", "zone=eu"),
            concurrency=concurrency,
            threads=threads,
            outbox=outbox_of(outbox, handler_id),
            server_key=server_key,
            secret_key=secret_key,
            reconnect_s=reconnect,
            grace_s=grace,
        )
    except WorkerError as wrong:
        fail(str(wrong), USAGE)
    tune_interpreter()
    return _run(made, backend)


def _run(worker: "Worker", backend: Backend) -> int:
    from sz_runtime.ports import LinkError, StoreError

    try:
        worker.run_forever(backend)
    except (StoreError, LinkError) as error:
        fail(str(error))
    return OK


def outbox_of(given: str | None, handler_id: str) -> str | None:
    """Where the outbox lies; None: in memory."""
    if given == "memory":
        return None
    if given is not None:
        return given
    folder = quote(handler_id, safe="")
    if not folder.strip("."):  # "." and ".." are names of other folders
        folder = folder.replace(".", "%2E")
    return f"deployments/{folder}/outbox.db"
