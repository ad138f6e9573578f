"""Exponentially weighted means of a stream, one per span, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.messages import Bool, Float32, Float64


class Smoother:
    """Means of errors or values, one per span; newer values have more weight.

    A mean is normalised by the sum of the weights so far, as in pandas' ``ewm(span, adjust=True)``,
    which Telemanom uses. The unnormalised recursion differs from it by up to 98 % at the start.
    The mean is NaN until half of the final weight is reached, because the mean of a few errors is
    too noisy.
    """

    def __init__(self, spans: Sequence[float]) -> None:
        self._keep = 1.0 - 2.0 / (np.array(spans)[:, None] + 1.0)  # (spans, 1)
        self._weight_min = 0.5 / (1.0 - self._keep)  # half of the final sum of the weights
        self._factor = self._keep if len(spans) > 1 else self._keep.reshape(())  # faster

    def start(self, streams: tuple[int, ...], columns: int) -> tuple[Float64, Float64]:
        """Return sum and weight before the first error, (*streams, spans, columns) each."""
        shape = (*streams, len(self._keep), columns)
        return np.zeros(shape), np.zeros(shape)

    def smooth(self, errors: Float32, total: Float64, weight: Float64) -> Float32:
        """Return the means after each of ``errors`` (n, …, columns), (n, …, R), ordered by span.

        ``total`` and ``weight`` (…, spans, columns) are updated in place. A missing error changes
        neither, and its smoothed value is NaN.
        """
        smoothed = np.full((len(errors), *total.shape), np.nan, np.float32)
        known = ~np.isnan(errors)
        for step in np.flatnonzero(known.reshape(len(errors), -1).any(axis=1)):
            seen, error = known[step][..., None, :], errors[step][..., None, :]
            np.copyto(total, total * self._keep + error, where=seen)
            np.copyto(weight, weight * self._keep + 1.0, where=seen)
            enough = seen & (weight >= self._weight_min)
            np.divide(total, weight, out=smoothed[step], where=enough, casting="same_kind")
        return smoothed.reshape(*errors.shape[:-1], -1)

    def smooth_on(self, errors: Float32, total: Float64, weight: Float64) -> Float32:
        """Smooth as ``smooth`` does, if no error is missing and every weight ``is_full``."""
        smoothed = np.empty((len(errors), *total.shape), np.float32)
        exact = errors[..., None, :].astype(np.float64)
        for row, newest in zip(smoothed, exact, strict=True):
            np.multiply(total, self._factor, total)
            np.add(total, newest, total)
            row[...] = total / weight
        return smoothed.reshape(*errors.shape[:-1], -1)

    def is_full(self, weight: Float64) -> Bool:
        """Return where ``weight`` (…, spans, columns) has reached its limit, (…)."""
        full: Bool = (weight * self._keep + 1.0 == weight).all(axis=(-2, -1))
        return full
