"""Does this device know what time it is?"""

import ctypes
import os
from enum import StrEnum

_STA_UNSYNC = 0x0040


class TrustPolicy(StrEnum):
    """RTC: the wall clock is believed from the start (servers, devices with a battery-backed clock). SYNCHRONISED: it
    is believed once the kernel says that something (NTP, PTP, GPS) disciplines it."""

    RTC = "rtc"
    SYNCHRONISED = "synchronised"


class _Timex(ctypes.Structure):
    # The head is the same on Linux, macOS and the BSDs; the tail is room for the rest of any of them.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("tail", ctypes.c_byte * 512),
    )


def why_not_synchronised() -> str:
    """Ask the kernel (adjtimex(2), reading only): an empty string when the wall clock is disciplined, else why not."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        ask = getattr(libc, "adjtimex", None) or libc.ntp_adjtime
    except (AttributeError, OSError, TypeError):
        return "this system cannot be asked whether its clock is synchronised"
    timex = _Timex()
    if ask(ctypes.byref(timex)) < 0:
        return f"the kernel does not say whether its clock is synchronised: {os.strerror(ctypes.get_errno())}"
    if timex.status & _STA_UNSYNC:
        return "the kernel says that nothing has synchronised its clock yet"
    return ""
