"""`python -m tests.benchmarks [T1 T2 ...]`: one table; the limit, the peers and ScheduleZero in turn, in one run."""

import sys

from tests.benchmarks import t1_t2_fires, t4_lateness, t5_bulk
from tests.benchmarks.table import Row, render

SUITES = {"T1": t1_t2_fires.run, "T4": t4_lateness.run, "T5": t5_bulk.run}


def main() -> None:
    """Run what was named, or all."""
    picked = sys.argv[1:] or list(SUITES)
    rows: list[Row] = []
    for name in picked:
        rows += SUITES[name]()
    print(render(rows))


if __name__ == "__main__":
    main()
