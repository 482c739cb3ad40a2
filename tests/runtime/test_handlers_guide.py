"""The guide for people who write handlers: its examples run, and its names exist."""

import re
from pathlib import Path

import pytest

from sz_protocol.kernel.effects import CancelReason
from sz_protocol.records import Reason
from sz_runtime.handlers import DEFAULT_REGISTRY
from sz_runtime.run_context import RunContext

GUIDE = (Path(__file__).parents[2] / "specs" / "handlers.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_runs(example: str) -> None:
    before = {entry.key for entry in DEFAULT_REGISTRY.entries()}
    try:
        exec(compile(example, "specs/handlers.md", "exec"), {"__name__": "guide"})
    finally:
        for entry in DEFAULT_REGISTRY.entries():
            if entry.key not in before:
                DEFAULT_REGISTRY.unregister(*entry.key)


def test_the_guide_names_every_part_of_the_context_and_only_those() -> None:
    table = GUIDE.split("| `run.` | |\n")[1].split("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()]
    named = {name for cell in cells for name in re.findall(r"`([a-z_]+)", cell)}
    public = {name for name in dir(RunContext) if not name.startswith("_")}
    assert named | {"fire_us", "started_us", "deadline_us"} == public


def test_the_guide_names_every_reason_for_a_cancellation() -> None:
    assert len(EXAMPLES) == 3
    for reason in CancelReason:
        assert f"`{reason.value}`" in GUIDE
    for own in (Reason.ERROR, Reason.UNSTORABLE, Reason.UNKNOWN_METHOD, Reason.INVALID_PARAMS):
        assert f"`{own.value}`" in GUIDE
