"""Fits the extreme-value tail of a score to normal operation; ``models.score_tail`` applies it."""

from __future__ import annotations

import numpy as np

from models.manifest import Tail
from models.messages import Float32, Float64

BODY_SHARES = (0.5, 0.2, 0.1, 0.05, 0.02)  # shares of higher scores; the tail begins at the last

_SCALE_MIN = 0.01  # in thresholds; constant scores do not show the possible spread
_SCORE_STEP = 1e-6  # least rise between the body's scores, even if all normal scores are equal
_SHAPE_MAX = 0.9  # from a shape of 1 on, the mean is infinite, and the moments do not apply


def fit(scores: Float32) -> Tail:
    """Return the tail of the scores of normal operation, (n,); NaN are left out.

    Shape and scale follow from probability-weighted moments (Hosking and Wallis, Technometrics
    1987), which also work for few excesses. A negative shape would mean an upper bound of all
    scores, but no finite recording can prove a bound. In this case the tail is exponential.
    """
    known = np.sort(scores[~np.isnan(scores)].astype(np.float64))
    levels = np.quantile(known, [1 - share for share in BODY_SHARES])
    levels = np.maximum.accumulate(levels) + _SCORE_STEP * np.arange(1, len(levels) + 1)
    excesses = known[known > levels[-1]] - levels[-1]
    shape, scale = _moments(excesses)
    return Tail(
        scores=levels.tolist(),
        shares=list(BODY_SHARES),
        shape=shape,
        scale=max(scale, _SCALE_MIN),
        samples=len(known),
    )


def _moments(excesses: Float64) -> tuple[float, float]:
    """Return shape and scale of sorted excesses."""
    count = len(excesses)
    if count < 2:
        return 0.0, 0.0
    mean = float(excesses.mean())
    weighted = float((excesses * (count - 1 - np.arange(count))).mean() / (count - 1))
    ratio = mean - 2 * weighted
    shape = 2 - mean / ratio if ratio > 0 else 0.0
    if shape <= 0:
        return 0.0, mean
    return min(shape, _SHAPE_MAX), 2 * mean * weighted / ratio
