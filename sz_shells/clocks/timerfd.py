"""Linux's timer as a file descriptor: due to the microsecond, where epoll alone rounds to the millisecond.

Python offers it from 3.13 on; before that the C library is asked directly. See timerfd_create(2).
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress

CLOCK_BOOTTIME = 7
_NS = 1_000_000_000
_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    # The C library's plain symbols take a time_t as wide as a long.
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


def open_timer() -> int:
    """A new, disarmed, non-blocking timer on the clock that counts suspends. Raises OSError where there is none."""
    if sys.version_info >= (3, 13):
        return os.timerfd_create(CLOCK_BOOTTIME, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
    # The flags of timerfd_create are those of open(2).
    return _checked(_libc_function("timerfd_create")(CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC))


def set_timer(fd: int, at_ns: int) -> None:
    """Make `fd` readable from `at_ns` on (nanoseconds since boot); replaces what was set before."""
    at_ns = max(at_ns, 1)  # zero would disarm
    if sys.version_info >= (3, 13):
        os.timerfd_settime_ns(fd, flags=os.TFD_TIMER_ABSTIME, initial=at_ns)
        return
    spec = _Itimerspec(_Timespec(0, 0), _Timespec(at_ns // _NS, at_ns % _NS))
    _checked(_libc_function("timerfd_settime")(fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None))


def clear_timer(fd: int) -> None:
    """Forget that the timer expired, so that `fd` is readable again only at the next expiry."""
    with suppress(BlockingIOError):  # it was set anew between the wake and this read
        os.read(fd, 8)


def timer_works() -> bool:
    """Whether this system lets us have such a timer."""
    try:
        os.close(open_timer())
    except OSError:
        return False
    return True


_functions: dict[str, Callable[..., int]] = {}


def _libc_function(name: str) -> Callable[..., int]:
    found = _functions.get(name)
    if found is None:
        try:
            found = getattr(ctypes.CDLL(None, use_errno=True), name)
        except (AttributeError, OSError, TypeError) as problem:  # no such symbol, or no C library to ask
            raise OSError(errno.ENOSYS, f"no {name} on this system") from problem
        _functions[name] = found
    return found


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
