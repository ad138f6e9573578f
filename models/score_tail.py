"""The probability of a score in normal operation: observed shares, and an extreme-value tail.

Peaks over threshold, after Siffer et al., "Anomaly Detection in Streams with Extreme Value
Theory", KDD 2017: above a high level the excesses follow a generalized Pareto distribution,

    P(score > s) = share * (1 + shape * (s - level) / scale) ** (-1 / shape),

fitted by the trainer to the scores of held-out normal operation. Below the level the observed
shares themselves are interpolated. The score is relative to a threshold that follows the
stream, so one tail holds while the stream drifts.
"""

from __future__ import annotations

import numpy as np

from models.manifest import Tail
from models.messages import Float32, Float64

FORESIGHT = 100.0  # the tail extrapolates to probabilities this many times below its data
_EXPONENTIAL = 1e-6  # a smaller shape is numerically zero, the exponential distribution


class ScoreTail:
    """Gives scores their probability in normal operation. It holds settings and no memory."""

    def __init__(self, settings: Tail) -> None:
        self._scores = np.array([0.0, *settings.scores])
        self._log_shares = np.log([1.0, *settings.shares])
        self._level, self._share = settings.scores[-1], settings.shares[-1]
        self._shape, self._scale = settings.shape, settings.scale
        self._least = 1.0 / (FORESIGHT * settings.samples)

    def probability(self, scores: Float32 | Float64) -> Float64:
        """Return the share of normal operation above each of ``scores``, 0 to 1; NaN for NaN.

        ``scores`` have any shape, and the result has the same. It is at least 1 / (``FORESIGHT`` ×
        the number of samples that the tail was fitted to).
        """
        known = np.where(np.isnan(scores), 0.0, scores).astype(np.float64)
        body = np.exp(np.interp(known, self._scores, self._log_shares))
        beyond = np.maximum(known - self._level, 0.0) / self._scale
        if self._shape < _EXPONENTIAL:
            tail = np.exp(-beyond)
        else:
            tail = (1.0 + self._shape * beyond) ** (-1.0 / self._shape)
        found = np.where(known > self._level, self._share * tail, body)
        return np.where(np.isnan(scores), np.nan, np.maximum(found, self._least))
