"""Settings of the whole Python process that a server wants. Called by the command line, never on import: a program
that embeds a node decides for itself.
"""

import gc
import linecache
import sys
from ctypes import CDLL
from functools import cache

from sz_runtime.executor import limit_thread_stalls

YOUNG, MIDDLE, OLD = 3_000, 1, 10_000
"""Thresholds of the garbage collector. The core's records have no cycles, so reference counting frees them; a full
collection over a hundred thousand schedules only stalls the loop for a fifth of a second, and one of the middle
generation over what ten young ones leave behind for 25 ms: it comes after every second one (4 ms)."""


M_ARENA_MAX = -8


def tune_interpreter() -> None:
    """Prefer short stalls and little memory: quick thread switches, rare collections, one heap for all threads. What
    exists now is taken to stay."""
    limit_thread_stalls()
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_ARENA_MAX, 1)
    keep_what_is()
    gc.set_threshold(YOUNG, MIDDLE, OLD)


def keep_what_is() -> None:
    """Drop what only the start needed, and let the collector never look at the rest again. Once more when a server
    has started: by then its components are imported."""
    linecache.clearcache()  # the text of generated methods: half a megabyte, for the lines of a traceback
    gc.collect()
    gc.freeze()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> CDLL | None:
    """The C library, where it is one that has these two calls: see mallopt(3), malloc_trim(3)."""
    libc = CDLL(None) if sys.platform == "linux" else None
    return libc if libc is not None and hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
