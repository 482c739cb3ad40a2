"""The specs say what the code does: tables are generated, rule ids are known, links lead somewhere, examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.protocol.spec_tables import MARKS, PAGES, SPECS, TABLES, with_tables

ROOT = SPECS.parent
RULE = re.compile(r"\b(?:SCHED|RUN|CAT|POLICY|PLACE|MEMB|ATT|ROUTE|TIME|MONO|LEDGER|FIRE|GATE|NODE|LIFE|STORE)-\d+\b")
LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_moves_are_those_of_the_code(page: str) -> None:
    text = (SPECS / page).read_text()
    assert text == with_tables(text), "run: python -m tests.protocol.spec_tables"


def test_every_table_of_moves_stands_in_a_spec() -> None:
    found = {name for page in PAGES for name in MARKS.findall((SPECS / page).read_text())}
    assert found == set(TABLES)


def test_every_rule_that_the_code_cites_stands_in_the_specs() -> None:
    cited = {rule for path in ROOT.glob("sz_*/**/*.py") for rule in RULE.findall(path.read_text())}
    written = {rule for path in SPECS.glob("*.md") for rule in RULE.findall(path.read_text())}
    assert cited <= written, sorted(cited - written)


@pytest.mark.parametrize("path", sorted([*SPECS.glob("*.md"), ROOT / "README.md"]), ids=lambda path: path.name)
def test_links_between_the_pages_lead_somewhere(path: Path) -> None:
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert not missing


def test_the_example_drives_one_machine() -> None:
    done = subprocess.run(
        [sys.executable, SPECS / "examples" / "drive_one_machine.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "0 0 []",
        "10 10 []",
        "20 20 ['ClockStepped']",
        "50 50 []",
        "90 86490 ['ClockStepped']",
    ]
