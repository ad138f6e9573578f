"""Forecasts that a network has to beat: the last value, the season repeated, a linear map.

The linear map has DLinear's form (Zeng et al., AAAI 2023: trend and remainder, a linear layer on
each, which together are one linear map of the context), fitted by ridge regression.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.forecaster import normalised
from models.messages import Float32
from trainer.config import ForecastTable
from trainer.forecast.evaluate import Accuracy
from trainer.forecast.windows import Cutter

Reference = Callable[[Float32], Float32]  # contexts (C, L) in units -> forecasts (C, H)

RIDGE = 1e-3  # of the mean square of the inputs
BATCH = 4096


def last_value(settings: ForecastTable) -> Reference:
    """Return the last value, repeated."""
    return lambda context: np.repeat(context[:, -1:], settings.horizon_steps, axis=1)


def seasonal(settings: ForecastTable, season: int) -> Reference:
    """Return the last season, repeated."""
    at = np.arange(settings.horizon_steps) % season - season
    return lambda context: context[:, at]


def linear(train: Cutter, settings: ForecastTable) -> Reference:
    """Return a linear map of the context, fitted to the training part."""
    size, horizon = settings.context_steps, settings.horizon_steps
    squares, products = np.zeros((size, size)), np.zeros((size, horizon))
    for begin in range(0, len(train.places), BATCH):
        windows = train.cut(train.places[begin : begin + BATCH])
        known = ~np.isnan(windows.future).any(axis=1)
        weighted = windows.context[known] * windows.scale[known, None]
        squares += weighted.T @ weighted
        products += weighted.T @ (windows.future[known] * windows.scale[known, None])
    penalty = RIDGE * np.trace(squares) / size
    weights = np.linalg.solve(squares + penalty * np.eye(size), products).astype(np.float32)

    def forecast(context: Float32) -> Float32:
        scaled, mean, scale = normalised(context, np.finfo(np.float32).tiny.item())
        return np.asarray((scaled @ weights) * scale[:, None] + mean[:, None], np.float32)

    return forecast


def evaluate(
    reference: Reference, values: Float32, scales: Float32, settings: ForecastTable
) -> Accuracy:
    """Return what a reference is worth on steps (n, C), at every stride; whole windows only."""
    accuracy = Accuracy(scales, settings.horizon_steps, settings.quantiles, settings.scale_floor)
    last = len(values) - settings.horizon_steps
    for now in range(settings.context_steps, last + 1, settings.stride_steps):
        context = values[now - settings.context_steps : now].T
        if not np.isnan(context).any():
            point = reference(context)
            accuracy.add(point[:, :, None], values[now : now + settings.horizon_steps].T)
    return accuracy
