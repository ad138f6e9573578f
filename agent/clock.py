"""Whether the gateway's clock can be trusted: central ops is told with every message."""

from __future__ import annotations

import ctypes

from models.messages import ClockQuality

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """The beginning of the kernel's ``struct timex``, and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),  # 0: only read
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def clock_quality() -> ClockQuality:
    """Ask the kernel (``adjtimex(2)``) whether a time server disciplines the clock."""
    timex = _Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "adjtimex"):
        return "unknown"
    return _quality(libc.adjtimex(ctypes.byref(timex)), timex.status)


def _quality(state: int, status: int) -> ClockQuality:
    if state == -1:  # a sandbox may forbid even asking
        return "unknown"
    return "unsynced" if state == _TIME_ERROR or status & _STA_UNSYNC else "synced"
