"""Finds the interval of a grid that contains a time: slots, windows, steps and summaries.

Intervals are half-open, so each time is in exactly one. Slots and summaries include their lower
border, windows and steps their upper one. Float64 times have a resolution of 2.4e-7 s today, and of
twice that from 2038 on. A sum or quotient of a few times has an error of about 1e-6 s. A time
within ``BORDER_S`` of a border counts as on it. Without this rule, rounding errors would decide.
Times are Unix seconds; phases, periods and intervals are seconds.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from models.messages import Float64

BORDER_S: Final = 2e-6
_WINDOW_SHARE: Final = 1e-4  # of a period, because devices round the times of fast readings


def half(period_s: float) -> float:
    """Return the number to add to a position, in periods, so that ``floor`` gives its slot.

    Slot k is the interval [k - 1/2, k + 1/2).
    """
    return 0.5 + BORDER_S / period_s


def slot_of(time: float, phase_s: float, period_s: float) -> int:
    """Return the slot of one time, as ``slots_of`` does."""
    return math.floor((time - phase_s) / period_s + half(period_s))


def slots_of(times: Float64, phase_s: Float64 | float, period_s: float) -> Float64:
    """Return the slots (n,), whole numbers, of times (n,); slot k lies at phase + k × period.

    NaN gives NaN, without an error.
    """
    places: Float64 = (times - phase_s) / period_s
    places += half(period_s)
    return np.floor(places, out=places)


def begun_by(times: Float64, interval_s: float) -> Float64:
    """Return the intervals (n,) of times (n,); interval k is [k, k + 1) × ``interval_s``."""
    return np.floor((times + BORDER_S) / interval_s)


def interval_of(time: float, interval_s: float) -> int:
    """Return the interval of one time, as ``begun_by`` does."""
    return math.floor((time + BORDER_S) / interval_s)


def ended_by(times: Float64, interval_s: float, border_s: float = BORDER_S) -> Float64:
    """Return the intervals (n,) of times (n,); interval k is (k - 1, k] × ``interval_s``.

    A time within ``border_s`` of a border counts as on it. A smaller ``border_s`` than ``BORDER_S``
    counts as ``BORDER_S``.
    """
    return np.ceil((times - max(border_s, BORDER_S)) / interval_s)


def windows_of(times: Float64, period_s: float) -> Float64:
    """Return the feature windows (n,) of raw readings at times (n,); see ``ended_by``."""
    return ended_by(times, period_s, _WINDOW_SHARE * period_s)
