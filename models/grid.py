"""Which interval of a grid a time belongs to, by one rule for slots, windows, steps and summaries.

Intervals are half-open, so that each time is in one of them: slots and summaries begin with their
border, windows and steps end with it. Times in a float64 are 2.4e-7 s apart today, and twice that
from 2038 on; a sum or quotient of a few of them is off by about 1e-6 s. What is nearer to a border
than ``BORDER_S``, on either side, is on it: else a reading's interval would be chance, and another
one for its neighbour.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from models.messages import Float64

BORDER_S: Final = 2e-6
_WINDOW_SHARE: Final = 1e-4  # of a period: devices' times of fast readings are coarse


def half(period_s: float) -> float:
    """Return what makes ``floor`` of a place on the grid, in periods, the number of its slot.

    Slot k is from k - 1/2 on, up to but not with k + 1/2.
    """
    return 0.5 + BORDER_S / period_s


def slot_of(time: float, phase_s: float, period_s: float) -> int:
    """Return the slot of one time, as ``slots_of`` does."""
    return math.floor((time - phase_s) / period_s + half(period_s))


def slots_of(times: Float64, phase_s: Float64 | float, period_s: float) -> Float64:
    """Return the slots, (n,) whole numbers, of times, (n,); slot k lies at phase + k × period."""
    places: Float64 = (times - phase_s) / period_s
    places += half(period_s)
    return np.floor(places, out=places)


def begun_by(times: Float64, interval_s: float) -> Float64:
    """Return the intervals, (n,): k is from k × interval on, up to but not with the next one."""
    return np.floor((times + BORDER_S) / interval_s)


def interval_of(time: float, interval_s: float) -> int:
    """Return the interval of one time, as ``begun_by`` does."""
    return math.floor((time + BORDER_S) / interval_s)


def ended_by(times: Float64, interval_s: float, border_s: float = BORDER_S) -> Float64:
    """Return the intervals, (n,): k is all that comes after the one before, up to k × interval.

    ``border_s``: so near to a border is on it; not less than ``BORDER_S``.
    """
    return np.ceil((times - max(border_s, BORDER_S)) / interval_s)


def windows_of(times: Float64, period_s: float) -> Float64:
    """Return the windows of features, (n,), that raw readings belong to; see ``ended_by``."""
    return ended_by(times, period_s, _WINDOW_SHARE * period_s)
