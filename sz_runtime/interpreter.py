"""Settings of the whole Python process that a server wants. Called by the command line, never on import: a program
that embeds a node decides for itself.
"""

import gc

from sz_runtime.executor import limit_thread_stalls

YOUNG, MIDDLE, OLD = 5_000, 1, 10_000
"""Thresholds of the garbage collector. The core's records have no cycles, so reference counting frees them; a full
collection over a hundred thousand schedules only stalls the loop for a fifth of a second, and one of the middle
generation over what ten young ones leave behind for 25 ms: it comes after every second one (3 ms)."""


def tune_interpreter() -> None:
    """Prefer short stalls: quick thread switches, rare collections. What exists now is taken to stay."""
    limit_thread_stalls()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
