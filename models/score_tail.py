"""The probability of a score in normal operation: observed shares, and an extreme-value tail.

Peaks over threshold, after Siffer et al., "Anomaly Detection in Streams with Extreme Value
Theory", KDD 2017: above a high level the excesses follow a generalized Pareto distribution,

    P(score > s) = share * (1 + shape * (s - level) / scale) ** (-1 / shape),

which the trainer fits to the scores of held-out normal operation. Below the level, the probability
is interpolated between the observed shares. The score is relative to a threshold that follows the
stream, so one tail remains valid while the stream drifts.

The probability is never below the least value that the fitted scores can prove. After a short
calibration this least value may be too high for a severity, although a score far above all normal
scores is still severe. So below the least value, and only for the severity, the size of the score
counts. It is rated by the same distribution with the largest plausible shape for so few excesses.
This shape is the upper end of the shape's confidence interval, from the variance of its estimate
(Hosking and Wallis,
"Parameter and Quantile Estimation for the Generalized Pareto Distribution", Technometrics 1987,
section 3). With a shape of 1/2 or more, the scores would have an infinite variance. Such a shape is
only assumed if the fit finds one. With fewer fitted scores, a score must be larger to be severe.

A bundle's tail describes the recordings that it was calibrated on. A machine in another life, or
one that has moved on, exceeds its levels far more often. So a stream has two tails of its own: of
all normal scores that it remembers, and of the newest ones. The largest of the three probabilities
counts: a score is rare only if all call it rare. The severity follows from the bundle's tail alone.
A machine that wears out slowly makes its own scores common, and that must not make its alarm less
urgent.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from models.manifest import Tail
from models.messages import Float32, Float64

FORESIGHT = 100.0  # the tail extrapolates to probabilities this many times below its data
CONFIDENCE = 1.2816  # standard deviations; one in ten estimates lies farther below the true shape
_SHAPE_PLAUSIBLE = 0.5  # above it, scores and the shape's estimate have infinite variance
_EXPONENTIAL = 1e-6  # a smaller shape is numerically zero, the exponential distribution


class Rating(Protocol):
    """How rare a score is in normal operation."""

    def probability(self, scores: Float32 | Float64) -> Float64:
        """Return the share of normal operation above each of ``scores``, 0 to 1; NaN for NaN."""

    def cautious(self, score: float) -> float:
        """Return the probability that determines the severity of a score."""


class ScoreTail:
    """Computes the probability of scores in normal operation. It holds settings but no memory."""

    def __init__(self, settings: Tail) -> None:
        self._scores = np.array([0.0, *settings.scores])
        self._log_shares = np.log([1.0, *settings.shares])
        self._level, self._share = settings.scores[-1], settings.shares[-1]
        self._shape, self._scale = settings.shape, settings.scale
        self._least = 1.0 / (FORESIGHT * settings.samples)
        self._cautious = _largest_plausible(self._shape, self._share * settings.samples)

    @property
    def least(self) -> float:
        """The least probability that the fitted data can prove."""
        return self._least

    def probability(self, scores: Float32 | Float64) -> Float64:
        """Return the share of normal operation above each of ``scores``, 0 to 1; NaN for NaN.

        ``scores`` have any shape, and the result has the same. It is at least 1 / (``FORESIGHT`` ×
        the number of samples that the tail was fitted to).
        """
        known = np.where(np.isnan(scores), 0.0, scores).astype(np.float64)
        body = np.exp(np.interp(known, self._scores, self._log_shares))
        beyond = np.maximum(known - self._level, 0.0) / self._scale
        found = np.where(known > self._level, self._share * _survival(beyond, self._shape), body)
        return np.where(np.isnan(scores), np.nan, np.maximum(found, self._least))

    def cautious(self, score: float) -> float:
        """Return the probability that determines the severity of a score.

        Below ``least`` it is an upper limit of the probability; above, it is the probability.
        """
        found = float(self.probability(np.array([score]))[0])
        if found > self._least:
            return found
        beyond = max(score - self._level, 0.0) / self._scale
        return min(found, self._share * float(_survival(np.array(beyond), self._cautious)))

    def score_at(self, probability: float) -> float:
        """Return the score from which ``cautious`` is at most ``probability``, below ``least``."""
        shape, ratio = self._cautious, self._share / min(probability, self._share)
        beyond = np.log(ratio) if shape < _EXPONENTIAL else (ratio**shape - 1.0) / shape
        return self._level + self._scale * float(beyond)


class StreamTail:
    """The tail of a bundle beside tails of a stream's own normal scores."""

    def __init__(self, sealed: ScoreTail, *own: ScoreTail) -> None:
        self._sealed, self._all = sealed, (sealed, *own)

    def probability(self, scores: Float32 | Float64) -> Float64:
        """Return the largest share of normal operation above each of ``scores``; NaN for NaN."""
        found: Float64 = np.maximum.reduce([each.probability(scores) for each in self._all])
        return found

    def cautious(self, score: float) -> float:
        """Return the probability that determines the severity, by the bundle's tail alone."""
        return self._sealed.cautious(score)


def _survival(beyond: Float64, shape: float) -> Float64:
    """Return the share of excesses above ``beyond``, in units of the scale."""
    if shape < _EXPONENTIAL:
        return np.exp(-beyond)
    return np.asarray((1.0 + shape * beyond) ** (-1.0 / shape))


def _largest_plausible(shape: float, excesses: float) -> float:
    """Return the upper confidence limit of a shape that was fitted to this many excesses."""
    if shape >= _SHAPE_PLAUSIBLE:
        return shape
    spread = (1 - shape) * (2 - shape) ** 2 * (1 - shape + 2 * shape**2)
    variance = spread / ((1 - 2 * shape) * (3 - 2 * shape) * excesses)
    return min(shape + CONFIDENCE * math.sqrt(variance), _SHAPE_PLAUSIBLE)
