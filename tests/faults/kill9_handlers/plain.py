"""Plain functions, run in threads."""

import time

from sz_runtime.handlers import register_local
from sz_runtime.run_context import RunContext
from tests.faults.kill9_handlers import write_down


@register_local("plain")
def work(run: RunContext, seconds: float) -> int:
    """Blocks its thread."""
    write_down("start", run)
    time.sleep(seconds)
    write_down("end", run)
    return 1


@register_local("plain")
def compute(run: RunContext, upto: int) -> int:
    """Keeps the interpreter busy."""
    write_down("start", run)
    total = sum(n * n for n in range(upto))
    write_down("end", run)
    return total
