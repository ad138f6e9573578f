"""Predicts the remaining life in C-MAPSS FD001 from features that a gateway can compute.

A ridge regression maps the exponentially weighted means of the sensors, their squares and the
engine's age to the remaining cycles. It is fitted on the training engines. Cross-validation over
engines selects the penalty from ``RIDGES``. The model predicts at the last row of each test engine.
Predictions and actual values are capped, as usual for this data set, because a healthy engine does
not show its remaining life.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.messages import Float32, Float64
from trainer.datasets import cmapss

CAP_CYCLES: Final = 125
SPANS: Final = (20.0, 60.0)  # of the means, in cycles
RIDGES: Final = (0.1, 1.0, 10.0, 100.0, 1000.0)
_FOLDS: Final = 5  # folds over engines
_CONSTANT: Final = 1e-6  # relative to its magnitude; a feature with less spread is left out
_EARLY, _LATE = 13.0, 10.0  # cycles, of the score; overestimates cost more


class Accuracy(NamedTuple):
    """The accuracy of predictions over the test engines."""

    rmse: float  # cycles
    score: float  # score of Saxena et al. (PHM 2008), summed over the engines; 0 is perfect


def figures(directory: Path) -> dict[str, Accuracy]:
    """Return the accuracy of the regression, and of a constant: the median life left in training.

    Raises:
        DataError: a file is missing or has another layout.

    """
    train, test = (cmapss.read(directory, part).engines for part in ("train", "test"))
    left = np.minimum(cmapss.remaining(directory, len(test)), CAP_CYCLES).astype(np.float64)
    learnt = [_remaining(len(engine)) for engine in train]
    features = [_features(engine) for engine in train]
    last = np.stack([_features(engine)[-1] for engine in test])
    predicted = _fit(features, learnt, _ridge(features, learnt)).predict(last)
    median = np.full(len(test), np.median(np.concatenate(learnt)))
    return {"linear": accuracy(predicted, left), "constant": accuracy(median, left)}


def document(directory: Path) -> dict[str, dict[str, float]]:
    """Return the figures, ready for JSON.

    Raises:
        DataError: as ``figures``.

    """
    return {name: found._asdict() for name, found in figures(directory).items()}


def is_there(directory: Path) -> bool:
    """Return whether a folder has test engines."""
    return (directory / "test_FD001.txt").is_file()


def accuracy(predicted: Float64, actual: Float64) -> Accuracy:
    """Return root mean squared error and score of predictions (n,) in cycles."""
    error = predicted - actual
    score = np.where(error < 0, np.exp(-error / _EARLY), np.exp(error / _LATE)) - 1
    return Accuracy(float(np.sqrt(np.square(error).mean())), float(score.sum()))


class _Map(NamedTuple):
    """A fitted ridge regression."""

    mean: Float64  # (F,) of the features
    scale: Float64  # (F,) infinite where a feature is constant
    weights: Float64  # (2 F + 1,)

    def predict(self, features: Float64) -> Float64:
        """Return the remaining cycles (n,) for features (n, F)."""
        found: Float64 = _expanded(features, self.mean, self.scale) @ self.weights
        return np.clip(found, 0, CAP_CYCLES)


def _features(engine: Float32) -> Float64:
    """Return the features of every cycle, (cycles, F)."""
    sensors = engine[:, len(cmapss.SETTINGS) :].astype(np.float64)
    age = np.arange(1.0, len(sensors) + 1)[:, None]
    return np.concatenate([*(_smoothed(sensors, span) for span in SPANS), age], axis=1)


def _smoothed(values: Float64, span: float) -> Float64:
    """Return the exponentially weighted means (n, C), unbiased from the first row on."""
    share = 2 / (span + 1)
    total, weight = np.zeros(values.shape[1]), 0.0
    found = np.empty_like(values)
    for row, value in enumerate(values):
        total = (1 - share) * total + share * value
        weight = (1 - share) * weight + share
        found[row] = total / weight
    return found


def _remaining(cycles: int) -> Float64:
    return np.minimum(np.arange(cycles - 1, -1, -1, dtype=np.float64), CAP_CYCLES)


def _ridge(features: Sequence[Float64], left: Sequence[Float64]) -> float:
    """Return the penalty with the least squared error in cross-validation over engines."""
    fold = np.arange(len(features)) % min(_FOLDS, len(features))

    def error(ridge: float) -> float:
        return sum(_left_out(features, left, fold == out, ridge) for out in np.unique(fold))

    return min(RIDGES, key=error)


def _left_out(
    features: Sequence[Float64],
    left: Sequence[Float64],
    out: npt.NDArray[np.bool_],
    ridge: float,
) -> float:
    kept, others = np.flatnonzero(~out), np.flatnonzero(out)
    fitted = _fit([features[at] for at in kept], [left[at] for at in kept], ridge)
    return sum(float(np.square(fitted.predict(features[at]) - left[at]).sum()) for at in others)


def _fit(features: Sequence[Float64], left: Sequence[Float64], ridge: float) -> _Map:
    rows, target = np.concatenate(features), np.concatenate(left)
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale[scale <= _CONSTANT * np.abs(mean)] = np.inf
    expanded = _expanded(rows, mean, scale)
    penalty = ridge * np.eye(expanded.shape[1])
    penalty[-1, -1] = 0.0  # the constant term has no penalty
    both = expanded.T @ expanded + penalty
    weights = np.linalg.lstsq(both, expanded.T @ target, rcond=None)[0].astype(np.float64)
    return _Map(mean.astype(np.float64), scale.astype(np.float64), weights)


def _expanded(features: Float64, mean: Float64, scale: Float64) -> Float64:
    """Return the scaled features, their squares and a column of ones, (n, 2 F + 1)."""
    scaled = (features - mean) / scale
    return np.concatenate([scaled, np.square(scaled), np.ones((len(scaled), 1))], axis=1)
