"""Brings the generated parts of specs/ up to date: `python -m sz_runtime.simulation.specs [--mutants]`, run at the top
of the repository. The table of mutants takes minutes; it is written only where it is asked for. A mutant that dies
at the seed that its row names keeps it; take the row out to have the first such seed looked for anew."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from sz_runtime.simulation.invariants import as_yaml
from sz_runtime.simulation.runner import mutant_table

SPECS = Path("specs")
ROW = re.compile(r"\| `(\w+)` \| .* \| (\d+) \|")
BEGIN, END = "<!-- mutants -->", "<!-- /mutants -->"


def mutants_as_markdown(known: Mapping[str, int]) -> str:
    """Each mutant with a seed that catches it, and the invariant that does."""
    lines = ["| mutant | what it does | caught by | seed |", "|---|---|---|---|"]
    for name, summary, report in mutant_table(known):
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
        known = {name: int(seed) for name, seed in ROW.findall(text)}
        table = f"{BEGIN}\n{mutants_as_markdown(known)}\n{END}"
        page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table, text, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
