"""Brings the generated parts of specs/ up to date: `python -m sz_runtime.simulation.specs [--mutants]`, run at the top
of the repository. The table of mutants takes minutes; it is written only where it is asked for."""

import re
import sys
from pathlib import Path

from sz_runtime.simulation.invariants import as_yaml
from sz_runtime.simulation.runner import mutant_table

SPECS = Path("specs")
BEGIN, END = "<!-- mutants -->", "<!-- /mutants -->"


def mutants_as_markdown() -> str:
    """Each mutant with the first seed that catches it, and the invariant that does."""
    lines = ["| mutant | what it does | caught by | seed |", "|---|---|---|---|"]
    for name, summary, report in mutant_table():
        if report is None:
            lines.append(f"| `{name}` | {summary} | **survived** | |")
        else:
            lines.append(f"| `{name}` | {summary} | {report.violations[0].invariant} | {report.seed} |")
        sys.stdout.write(lines[-1] + "\n")
        sys.stdout.flush()
    return "\n".join(lines)


def main() -> None:
    """Write what is generated."""
    (SPECS / "invariants.yaml").write_text(as_yaml(), "utf-8")
    if "--mutants" in sys.argv[1:]:
        page = SPECS / "simulation.md"
        text = page.read_text("utf-8")
        table = f"{BEGIN}\n{mutants_as_markdown()}\n{END}"
        page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table, text, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
