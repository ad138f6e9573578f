"""Evaluates forecasts on data later than all data of training, validation and calibration.

Errors are in scales of the channels, so that channels can be averaged. MASE is the mean absolute
error divided by that of the repeated season in the training part (Hyndman & Koehler, 2006). A
scaled width is the width of intervals in the same unit.

sMAPE is |error| / mean of |actual| and |forecast|, in percent. MAPE is |error| / |actual|, in
percent. The least scale of a context is the least denominator of both, so they stay finite at zero.
R² is 1 - squared error / squared distance of the actual values from their mean, for each channel
over all leads, and then the mean over the channels. A channel with constant actual values has no
R². Pinball is the mean over all quantiles; twice that approximates the CRPS.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.bundle import Bundle
from models.errors import DataError
from models.families import detector_of
from models.forecaster import Forecaster
from models.intervals import pairs
from models.messages import Float32, Float64, Forecast, Samples
from trainer.forecast.windows import Steps, steps
from trainer.prepare import Parts

SEALED = "quantized"  # name of the forecaster that ships, in comparisons
TOLD = 4  # number of forecasts of a recording that its report shows


class Told(NamedTuple):
    """A forecast and the actual values, for the report."""

    before: Float32  # (L, C) in units
    forecast: Forecast
    came: Float32  # (H, C) in units


class Sealed(NamedTuple):
    """The accuracy of a sealed bundle's forecaster on the test part."""

    accuracy: Accuracy
    metrics: dict[str, Any]
    naive: Float64  # (C,) see ``season_error``
    told: list[Told]


class Accuracy:
    """Sums over forecasts, per channel and lead time. It does not store the forecasts."""

    def __init__(
        self, scales: Float32, horizon: int, levels: list[float], scale_floor: float
    ) -> None:
        channels = len(scales)
        self._scales = scales[:, None]
        self._least = scale_floor * scales[:, None]
        self._levels = np.array(levels)
        self.pairs = pairs(levels)
        self.count = np.zeros((channels, horizon))
        self._squared = np.zeros((channels, horizon))
        self._absolute = np.zeros((channels, horizon))
        self._symmetric = np.zeros((channels, horizon))
        self._relative = np.zeros((channels, horizon))
        self._spread = _Spread(channels)
        self._pinball = np.zeros((channels, horizon))
        self._inside = np.zeros((len(self.pairs), channels, horizon))
        self._width = np.zeros((len(self.pairs), channels, horizon))
        self._below = np.zeros((len(levels), channels, horizon))

    def add(self, quantiles: Float32, actual: Float32) -> None:
        """Add a forecast (C, H, Q), or a point forecast (C, H, 1), with its actual values (C, H).

        Both have the same unit. NaN in ``actual`` is a missing value.
        """
        known = ~np.isnan(actual)
        truth = np.where(known, actual, 0).astype(np.float64)
        point = quantiles[:, :, quantiles.shape[2] // 2]
        error = (truth - point) / self._scales
        self.count += known
        self._squared += known * np.square(error)
        self._absolute += known * np.abs(error)
        size = np.maximum((np.abs(truth) + np.abs(point)) / 2, self._least)
        self._symmetric += known * np.abs(truth - point) / size
        self._relative += known * np.abs(truth - point) / np.maximum(np.abs(truth), self._least)
        self._spread.add(truth / self._scales, known)
        if quantiles.shape[2] == len(self._levels):
            self._add_quantiles(quantiles, truth, known)

    def _add_quantiles(self, quantiles: Float32, truth: Float64, known: Any) -> None:
        error = (truth[:, :, None] - quantiles) / self._scales[:, :, None]
        pinball = np.maximum(self._levels * error, (self._levels - 1) * error)
        self._pinball += known * pinball.mean(axis=2)
        below = known[:, :, None] & (truth[:, :, None] <= quantiles)
        self._below += below.transpose(2, 0, 1)
        for row, (low, high) in enumerate(self.pairs.values()):
            inside = (quantiles[:, :, low] <= truth) & (truth <= quantiles[:, :, high])
            self._inside[row] += known & inside
            self._width[row] += (
                known * (quantiles[:, :, high] - quantiles[:, :, low]) / self._scales
            )

    def total(self, naive: Float64 | None = None) -> dict[str, float]:
        """Return the metrics over all leads and channels.

        ``naive`` (C,) is the mean absolute error of repeating the season, in the training part.
        """
        whole = self.count.sum()
        absolute = self._absolute.sum(axis=1) / np.maximum(self.count.sum(axis=1), 1)
        found = {
            "mse": float(self._squared.sum() / whole),
            "mae": float(self._absolute.sum() / whole),
            "rmse": float(np.sqrt(self._squared.sum() / whole)),
            "smape": 100 * float(self._symmetric.sum() / whole),
            "mape": 100 * float(self._relative.sum() / whole),
        }
        if (explained := self._explained()) is not None:
            found["r2"] = explained
        if naive is not None:
            found["mase"] = float((absolute / naive).mean())
        if self._width.any():
            found["pinball"] = float(self._pinball.sum() / whole)
            for row, level in enumerate(self.pairs):
                found[f"coverage_{level}"] = float(self._inside[row].sum() / whole)
                found[f"width_{level}"] = float(self._width[row].sum() / whole)
                if naive is not None:
                    width = self._width[row].sum(axis=1) / np.maximum(self.count.sum(axis=1), 1)
                    found[f"scaled_width_{level}"] = float((width / naive).mean())
        return {name: float(f"{value:.5g}") for name, value in found.items()}

    def _explained(self) -> float | None:
        """Return R²; None if the actual values of all channels are constant."""
        apart = self._spread.squared
        changes = apart > 0
        if not changes.any():
            return None
        return float((1 - self._squared.sum(axis=1)[changes] / apart[changes]).mean())

    def below(self) -> dict[str, float]:
        """Return the share of actual values at or below each quantile; the ideal is its level."""
        shares = self._below.sum(axis=(1, 2)) / self.count.sum()
        return {
            f"{level:g}": float(f"{share:.4g}")
            for level, share in zip(self._levels, shares, strict=True)
        }

    def by_lead(self) -> dict[str, list[float]]:
        """Return the figures over the channels, one value per lead."""
        whole = np.maximum(self.count.sum(axis=0), 1)
        found = {
            "mse": self._squared.sum(axis=0) / whole,
            "mae": self._absolute.sum(axis=0) / whole,
            "pinball": self._pinball.sum(axis=0) / whole,
        }
        for row, level in enumerate(self.pairs):
            found[f"coverage_{level}"] = self._inside[row].sum(axis=0) / whole
            found[f"width_{level}"] = self._width[row].sum(axis=0) / whole
        return {name: [float(f"{v:.4g}") for v in values] for name, values in found.items()}

    def by_channel(self, names: list[str]) -> dict[str, dict[str, float]]:
        """Return mean absolute error and coverage of each channel, over its leads."""
        count = np.maximum(self.count.sum(axis=1), 1)
        figures = {"mae": self._absolute.sum(axis=1) / count}
        for row, level in enumerate(self.pairs):
            figures[f"coverage_{level}"] = self._inside[row].sum(axis=1) / count
        return {
            name: {figure: float(f"{values[at]:.4g}") for figure, values in figures.items()}
            for at, name in enumerate(names)
        }


class _Spread:
    """The squared distances of values from their mean, per channel, without keeping the values.

    Pieces are merged after Chan, Golub & LeVeque (1979), so a mean far from 0 costs no precision.
    """

    def __init__(self, channels: int) -> None:
        self._count, self._mean = np.zeros(channels), np.zeros(channels)
        self.squared = np.zeros(channels)

    def add(self, values: Float64, known: Any) -> None:
        """Add values (C, n); ``known`` marks those that count."""
        count = known.sum(axis=1)
        mean = (known * values).sum(axis=1) / np.maximum(count, 1)
        within = (known * np.square(values - mean[:, None])).sum(axis=1)
        together = np.maximum(self._count + count, 1)
        apart = mean - self._mean
        self.squared += within + np.square(apart) * self._count * count / together
        self._mean += apart * count / together
        self._count += count


def evaluate(
    forecaster: Forecaster, samples: Samples, actual: Steps
) -> tuple[Accuracy, list[Told]]:
    """Run a forecaster over a recording, as on a gateway, and compare it with the actual values.

    Only forecasts whose whole horizon lies in the recording count. The result includes a few
    evenly spaced forecasts.

    Args:
        forecaster: the form that ships.
        samples: the recording, starting one context before the first step that counts.
        actual: the recording's steps.

    """
    part = forecaster.part
    scales = np.array([channel.scale for channel in forecaster.channels], np.float32)
    accuracy = Accuracy(scales, part.horizon_steps, part.quantiles, part.scale_floor)
    state, told = forecaster.start(), list[Told]()
    apart = max(1, (len(actual.values) - part.context_steps - part.horizon_steps) // TOLD)
    chunk = max(1, part.step_samples * part.stride_steps)
    for begin in range(0, len(samples.times), chunk):
        rows = slice(begin, begin + chunk)
        for made in forecaster.step(state, Samples(samples.times[rows], samples.values[rows])):
            first = round(made.time / forecaster.step_s) + 1 - actual.first
            came = actual.values[first : first + part.horizon_steps]
            if len(came) < part.horizon_steps:
                continue
            accuracy.add(made.quantiles, came.T)
            if first - part.context_steps >= len(told) * apart:
                told.append(Told(actual.values[first - part.context_steps : first], made, came))
    return accuracy, told


def judge(bundle: Bundle, parts: Parts) -> Sealed:
    """Evaluate a bundle's forecaster on the test part, opened as its detector family does.

    Args:
        bundle: sealed, with a forecaster.
        parts: the parts of the training.

    Raises:
        DataError: the forecaster makes no forecast there.

    """
    forecaster = detector_of(bundle).forecaster
    assert forecaster is not None
    manifest, part = bundle.manifest, forecaster.part
    period_s = manifest.sampling.period_s
    train, test = (
        steps(samples, manifest.scored, part.step_samples, period_s)
        for samples in (parts.train, parts.test)
    )
    scales = np.array([channel.scale for channel in forecaster.channels], np.float32)
    naive = season_error(train.values, scales, part.imputation.season_steps or 1)
    accuracy, told = evaluate(forecaster, parts.test, test)
    if not accuracy.count.any():
        raise DataError(
            "the forecaster makes no forecast in the test part whose steps all follow in it: make"
            " forecast.context_steps shorter, allow more missing steps in forecast.imputation, or"
            " give recordings with fewer gaps"
        )
    metrics = {
        "step_s": part.step_samples * period_s,
        "accuracy": {SEALED: accuracy.total(naive)},
        "channels": accuracy.by_channel([channel.name for channel in forecaster.channels]),
        "quantiles": accuracy.below(),
    }
    return Sealed(accuracy, metrics, naive, told)


def season_error(train: Float32, scales: Float32, season: int) -> Float64:
    """Return the mean absolute error (C,) of repeating the season, in the channels' scales."""
    apart = np.abs(train[season:] - train[:-season]) / scales
    found: Float64 = np.nanmean(apart, axis=0).astype(np.float64)
    return np.maximum(found, np.finfo(np.float64).tiny)
