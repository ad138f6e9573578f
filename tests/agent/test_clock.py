"""The clock's quality, as the kernel says it."""

from __future__ import annotations

import ctypes
import sys

import pytest

from agent.clock import _quality, _Timex, clock_quality

OK, ERROR, REFUSED = 0, 5, -1
SYNCED, UNSYNCED = 0x2001, 0x40  # PLL and nanoseconds; STA_UNSYNC


@pytest.mark.parametrize(
    ("state", "status", "quality"),
    [
        (OK, SYNCED, "synced"),
        (ERROR, UNSYNCED, "unsynced"),
        (ERROR, SYNCED, "unsynced"),
        (OK, UNSYNCED, "unsynced"),
        (REFUSED, 0, "unknown"),
    ],
)
def test_what_the_kernels_answer_means(state: int, status: int, quality: str) -> None:
    assert _quality(state, status) == quality


def test_the_kernel_is_asked() -> None:
    # where asking is allowed, so that "unknown" is not all that this ever says
    timex = _Timex()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    assert clock_quality() == _quality(state, timex.status)


def test_the_structure_is_the_kernels() -> None:
    words = 8 if sys.maxsize > 2**32 else 4
    assert _Timex.maxerror.offset == 3 * words
    assert _Timex.status.offset == 5 * words
    timex = _Timex()
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) != REFUSED:
        assert timex.maxerror > 0  # microseconds; the kernel lets it grow until synchronized
        assert 0 <= timex.status < 0x10000
        # after status come constant, precision, tolerance: 1 and 32768000 on every Linux
        after = (ctypes.c_long * 3).from_buffer_copy(timex, 6 * words)
        assert list(after)[1:] == [1, 32768000]
