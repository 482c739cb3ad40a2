"""The tables of moves in the specs, from the code: `python -m tests.protocol.spec_tables` rewrites them."""

import re
from pathlib import Path

from sz_protocol.kernel.moves import as_markdown
from sz_protocol.machines import attachment, execution, leases, membership, monotonic, recovery, scheduling, workers

SPECS = Path(__file__).parents[2] / "specs"
PAGES = ("scheduling.md", "execution.md", "remote.md")
TABLES = {
    "scheduling": as_markdown(scheduling.MOVES),
    "recovery": as_markdown(recovery.MOVES),
    "monotonic": as_markdown(monotonic.MOVES),
    "execution": as_markdown(execution.MOVES),
    "membership": as_markdown(membership.MOVES),
    "handlers": as_markdown(workers.MOVES),
    "leases": as_markdown(leases.MOVES),
    "attachment": as_markdown(attachment.MOVES),
}
MARKS = re.compile(r"<!-- moves: (\w+) -->\n.*?<!-- /moves -->", re.DOTALL)


def with_tables(text: str) -> str:
    """A page with its tables as the code has them now."""
    return MARKS.sub(lambda found: f"<!-- moves: {found[1]} -->\n{TABLES[found[1]]}\n<!-- /moves -->", text)


if __name__ == "__main__":
    for page in PAGES:
        path = SPECS / page
        path.write_text(with_tables(path.read_text()))
