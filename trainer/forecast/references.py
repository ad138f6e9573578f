"""Reference forecasts that a network must beat: last value, last season, and a linear map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.messages import Float32
from trainer.config import ForecastTable
from trainer.forecast import maps
from trainer.forecast.evaluate import Accuracy

Reference = Callable[[Float32], Float32]  # contexts (C, L) in units -> forecasts (C, H)


def last_value(settings: ForecastTable) -> Reference:
    """Return a reference that repeats the last value."""
    return lambda context: np.repeat(context[:, -1:], settings.horizon_steps, axis=1)


def seasonal(settings: ForecastTable, season: int) -> Reference:
    """Return a reference that repeats the last season."""
    at = np.arange(settings.horizon_steps) % season - season
    return lambda context: context[:, at]


def linear(weights: Float32) -> Reference:
    """Return a reference that maps the context linearly; see ``trainer.forecast.maps``."""
    return lambda context: maps.forecast(weights, context)


def evaluate(
    reference: Reference, values: Float32, scales: Float32, settings: ForecastTable
) -> Accuracy:
    """Return the accuracy of a reference on the whole windows of steps (n, C), at every stride."""
    accuracy = Accuracy(scales, settings.horizon_steps, settings.quantiles, settings.scale_floor)
    last = len(values) - settings.horizon_steps
    for now in range(settings.longest_steps, last + 1, settings.stride_steps):
        context = values[now - settings.longest_steps : now].T
        if not np.isnan(context).any():
            point = reference(context)
            accuracy.add(point[:, :, None], values[now : now + settings.horizon_steps].T)
    return accuracy
