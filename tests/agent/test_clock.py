"""The clock's quality, as the kernel says it."""

from __future__ import annotations

from typing import get_args

from agent.clock import clock_quality
from models.messages import ClockQuality


def test_the_kernel_gives_an_answer_of_the_three() -> None:
    assert clock_quality() in get_args(ClockQuality)


def test_the_answer_agrees_with_the_kernels_own_report() -> None:
    # /proc has no such value; adjtimex(8) is not installed everywhere: the struct's layout is
    # checked by its status word, which has only known bits set
    import ctypes

    from agent.clock import _Timex

    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    assert -1 <= state <= 5
    if state >= 0:
        assert 0 <= timex.status < 0x10000
        assert timex.maxerror >= 0
