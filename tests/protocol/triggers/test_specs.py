"""The guides say what the code does: their YAML is read, their Python is run, their tables are checked."""

import re
from pathlib import Path

import pytest
import yaml

from sz_protocol.triggers import Cron, TriggerError, fires_between, local_time, nominal_key, trigger_from_wire

from .oracles import us

SPECS = Path(__file__).parents[3] / "specs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (SPECS / page).read_text(), re.MULTILINE | re.DOTALL)


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first column, or columns, have this heading."""
    lines = (SPECS / page).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows: list[list[str]] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.mark.parametrize("text", [*blocks("triggers.md", "yaml"), *blocks("dst.md", "yaml")])
def test_every_example_in_the_guides_is_a_trigger(text: str) -> None:
    trigger = trigger_from_wire(yaml.safe_load(text))
    assert next(fires_between(trigger, us("2026-06-01"), us("2030-01-01"))) > 0


def test_the_guide_s_program_runs() -> None:
    (program,) = blocks("triggers.md", "python")
    exec(compile(program, "triggers.md", "exec"), {})


@pytest.mark.parametrize(("written", "answer"), table("triggers.md", "written | answer"))
def test_what_the_guide_says_is_refused_is_refused_so(written: str, answer: str) -> None:
    with pytest.raises(TriggerError) as refused:
        Cron(written.split("`")[1])
    message = str(refused.value).replace("'*/61': ", "").replace("'28-3' ", "").replace("`", "")
    assert answer.replace("`", "").split(": ")[-1].removeprefix("use ") in message


@pytest.mark.parametrize(("expression", "dst", "gap", "fold"), table("dst.md", "expression"))
def test_the_table_of_the_two_nights(expression: str, dst: str, gap: str, fold: str) -> None:
    trigger = Cron(expression.strip("`"), "Europe/Berlin", "literal" if dst == "literal" else "default")

    def night(begin: str, end: str) -> str:
        fires = list(fires_between(trigger, us(begin), us(end)))
        passes = [local_time(trigger, fire)[11:16] + "'" * ("/1 " in nominal_key(trigger, fire)) for fire in fires]
        return " ".join(passes)

    assert night("2026-03-28T23:00", "2026-03-29T03:00") == gap
    assert night("2026-10-24T22:00", "2026-10-25T04:00") == fold
