"""The `schedulezero` command. Parses, picks the command, ends with its exit code; commands load when they are used."""

import sys
from typing import TYPE_CHECKING

from sz_shells.cli.common import USAGE
from sz_shells.cli.serving import plain_run, serve

if TYPE_CHECKING:
    from cyclopts import App

COMMANDS = {
    "simulate": ("sz_shells.cli.simulate:simulate", "Throw seeded faults at schedules in simulated time."),
    "demo": ("sz_shells.cli.demo:demo", "Watch a server work, be killed, and lose nothing."),
    "init": ("sz_shells.cli.init:init", "Write a small configuration and handler module that run at once."),
    "check": ("sz_shells.cli.check:check", "Check a configuration: file, line and key of all that is wrong."),
    "run": ("sz_shells.cli.run:run", "Run the schedules of a configuration."),
    "worker": ("sz_shells.cli.worker:worker", "Run handlers in a process of their own, for a server elsewhere."),
    "status": ("sz_shells.cli.status:status", "Show a deployment: its server, its schedules, what is due next."),
    "runs": ("sz_shells.cli.runs:runs", "Show the ledger: what became of every due instant."),
    "why": ("sz_shells.cli.why:why", "Say why a schedule fired at a time, or why it did not."),
    "plan": ("sz_shells.cli.plan:plan", "Show what a configuration would fire, or what a changed one would change."),
    "pause": ("sz_shells.cli.control:pause", "Stop firing a schedule until it is resumed."),
    "resume": ("sz_shells.cli.control:resume", "Fire a paused schedule again."),
    "trigger": ("sz_shells.cli.control:trigger", "Run a schedule's method once, now."),
    "run-now": ("sz_shells.cli.control:run_now", "Run a method once, now, without a schedule."),
    "handlers": ("sz_shells.cli.handlers:handlers", "Show the remote handlers that are registered."),
    "cancel": ("sz_shells.cli.control:cancel", "Stop a run that waits or executes."),
    "reload": ("sz_shells.cli.control:reload", "Let a running server read its configuration again."),
}
KEYS = {
    "new": ("sz_shells.cli.keys:new", "Make a key for the server or for a remote handler."),
    "list": ("sz_shells.cli.keys:list_", "Show whose keys are let in."),
    "revoke": ("sz_shells.cli.keys:revoke", "Make a key void."),
}
"""Each command loads when it is used, so that `--help` stays quick; the words here are its line in that help."""


def _version() -> str:
    from importlib.metadata import version

    from sz_protocol.triggers import tzdata_version

    return f"{version('schedulezero')} (zone data {tzdata_version()})"


def build_app() -> "App":
    """The application with all its commands."""
    from cyclopts import App

    app = App(
        name="schedulezero",
        help="A job scheduler that keeps account of every instant: one machine, edge devices, or a cluster.",
        version=_version,
        help_format="plaintext",
        help_epilogue="Exit codes: 0 ok, 1 failed, 2 usage or configuration.",
    )
    for name, (target, summary) in COMMANDS.items():
        app.command(target, name=name, help=summary)
    keys = App(name="keys", help="The keys that servers and remote handlers know each other by.")
    for name, (target, summary) in KEYS.items():
        keys.command(target, name=name, help=summary)
    app.command(keys)
    return app


def main() -> None:
    """Run the command line and end the process."""
    try:
        result = _run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Keep the interpreter from complaining when it flushes.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(result if isinstance(result, int) else 0)


def _run(words: list[str]) -> object:
    serving = plain_run(words)
    if serving is not None:
        return serve(serving)
    from cyclopts import CycloptsError

    try:
        return build_app()(words, print_error=True, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        return USAGE


if __name__ == "__main__":
    main()
