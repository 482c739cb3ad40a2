"""The command line of a server is read without the parser of commands, and means what that parser makes of it."""

import subprocess
import sys

import pytest

from sz_shells.cli.main import build_app
from sz_shells.cli.serving import Serving, plain_run


def parsed(words: list[str]) -> Serving:
    """What cyclopts makes of it."""
    _, bound, _ = build_app().parse_args(words, print_error=False, exit_on_error=False)
    given = bound.arguments
    settings = tuple(given.get("settings") or ())
    return Serving(given.get("config"), given.get("backend", "asyncio"), given.get("verbose", False), settings)


@pytest.mark.parametrize(
    "line",
    [
        "run",
        "run office.yaml",
        "run office.yaml --backend trio",
        "run --backend asyncio office.yaml -v",
        "run --verbose --set a.b=1 deployments/office --set c=x=y",
        "run -v --set a=1 --set b=2",
    ],
)
def test_what_is_read_quickly_is_read_as_the_parser_reads_it(line: str) -> None:
    assert plain_run(line.split()) == parsed(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--help",
        "runs",
        "run --help",
        "run -h",
        "run one two",
        "run --backend",
        "run --backend curio",
        "run --backend=trio",
        "run --backend trio --backend asyncio",
        "run -v -v",
        "run --set",
        "run --set --verbose",
        "run --no-verbose",
        "run -- office.yaml",
        "run --bakcend trio",
    ],
)
def test_whatever_else_is_left_to_the_parser(line: str) -> None:
    assert plain_run(line.split()) is None


def test_a_server_carries_neither_the_parser_of_commands_nor_rich() -> None:
    script = (
        "import sys; from sz_shells.cli.main import _run\n"
        "try: _run(['run', 'nowhere.yaml'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'cyclopts', 'rich', 'difflib', 'sz_runtime.config'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['sz_runtime.config']\n"


LOGS = """\
import structlog
from sz_shells.cli.serving import set_up_logging
set_up_logging(False, lambda text: text)
structlog.get_logger().warning("told", said="\\x1b[2Jgone\\nlevel=info event=forged")
"""


def test_what_others_write_neither_steers_the_terminal_of_a_log_nor_forges_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)
    (line,) = (done.stdout + done.stderr).splitlines()
    assert r"x1b[2Jgone" in line
    assert "\x1b" not in line
