"""`python -m tests.benchmarks [T1 T2 ...]`: one table; the limit, the peers and ScheduleZero in turn, in one run."""

import sys
from collections.abc import Callable

from tests.benchmarks import t1_t2_fires, t4_lateness, t5_bulk, t6_links, t6_remote, t7_cron, t8_idle, t10_simulation
from tests.benchmarks.table import Row, render


def cron() -> list[Row]:
    """T7, in the shape of the table."""
    return [
        Row("T7", work.removeprefix("T7 "), who.lower() if who == "ScheduleZero" else who, figure, unit, higher=False)
        for work, who, figure, unit in t7_cron.run()
    ]


SUITES: dict[str, Callable[[], list[Row]]] = {
    "T1": t1_t2_fires.memory,
    "T2": t1_t2_fires.sqlite,
    "T4": t4_lateness.run,
    "T5": t5_bulk.run,
    "T6": t6_remote.run,
    "T6-links": t6_links.run,
    "T7": cron,
    "T8": t8_idle.run,
    "T10": t10_simulation.run,
}


def main() -> int:
    """Run what was named, or all."""
    picked = sys.argv[1:] or list(SUITES)
    unknown = [name for name in picked if name not in SUITES]
    if unknown:
        sys.stderr.write(f"no benchmark {', '.join(unknown)}; there are {', '.join(SUITES)}\n")
        return 2
    rows: list[Row] = []
    for name in picked:
        rows += SUITES[name]()
    print(render(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
