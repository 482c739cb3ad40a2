"""The `schedulezero` command. Parses, picks the command, ends with its exit code; commands load when they are used."""

import sys
from importlib.metadata import version

from cyclopts import App, CycloptsError

from sz_shells.cli.common import USAGE

COMMANDS = {
    "run": "sz_shells.cli.run:run",
    "check": "sz_shells.cli.check:check",
    "runs": "sz_shells.cli.runs:runs",
    "demo": "sz_shells.cli.demo:demo",
}


def build_app() -> App:
    """The application with all its commands."""
    app = App(
        name="schedulezero",
        help="A job scheduler that keeps account of every instant: one machine, edge devices, or a cluster.",
        version=lambda: version("schedulezero"),
        help_epilogue="Exit codes: 0 ok, 1 failed, 2 usage or configuration.",
    )
    for name, target in COMMANDS.items():
        app.command(target, name=name)
    return app


def main() -> None:
    """Run the command line and end the process."""
    try:
        result = build_app()(print_error=True, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        sys.exit(USAGE)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Keep the interpreter from complaining when it flushes.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
