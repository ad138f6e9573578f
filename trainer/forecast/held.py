"""Finds the channels whose best forecast is their last value, such as set points.

One map forecasts all channels, so it may be worse than the last value for some of them. Those are
held: their forecast is their last value, with intervals of their own. Windows have added trends as
in training, so a channel that must be able to follow a drift is not held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.messages import Float32, Float64
from trainer.config import ForecastTable
from trainer.forecast import origins
from trainer.forecast.origins import Origin
from trainer.forecast.windows import Cutter, Windows


class Held(NamedTuple):
    """The comparison with the last value; squared errors per channel and origin, in scales."""

    forecast: Float64  # (C, K)
    last: Float64  # (C, K)

    @property
    def channels(self) -> list[int]:
        """Indices of the channels that are held; with equal errors the simpler forecast ships."""
        forecast, last = self.forecast.mean(axis=1), self.last.mean(axis=1)
        return [int(at) for at in np.flatnonzero(last <= forecast)]

    def as_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return it for the metrics, by the channels' names."""
        held = self.channels
        return {
            name: {
                "held": at in held,
                "forecast": np.round(self.forecast[at], 6).tolist(),
                "last": np.round(self.last[at], 6).tolist(),
            }
            for at, name in enumerate(names)
        }


def judge(
    rolled: Sequence[Origin],
    learn: Cutter,
    left: Sequence[Cutter],
    weights: Mapping[str, float],
    channels: int,
    settings: ForecastTable,
) -> Held:
    """Compare a closed form, with what is added to it, with the last value.

    Args:
        rolled: the origins.
        learn: cutter of the training and validation steps.
        left: for each origin, the same cutter without what is added to the closed form.
        weights: weights of the closed form's mix.
        channels: number of channels.
        settings: settings of the forecaster.

    """
    share, seed = settings.fit.trend_share, settings.fit.seed

    def windows(cutter: Cutter, origin: Origin) -> Windows:
        return cutter.cut_with_trends(origin.places, share, np.random.default_rng(seed))

    forecast, last = [], []
    for origin, cutter in zip(rolled, left, strict=True):
        closed = origins.mixed(origin.maps, weights)
        forecast.append(_errors(windows(cutter, origin), closed, (), channels))
        last.append(_errors(windows(learn, origin), closed, range(channels), channels))
    return Held(np.stack(forecast, axis=1), np.stack(last, axis=1))


def _errors(windows: Windows, closed: Float32, held: Sequence[int], channels: int) -> Float64:
    """Return the mean squared error of each channel, (C,), in its scale; 0: it has no window."""
    missed = origins.errors_of(windows, origins.forecasts(windows, closed, held))
    squares = np.square(missed, dtype=np.float64).mean(axis=1)
    count = np.bincount(windows.channel, minlength=channels)
    return np.asarray(
        np.bincount(windows.channel, squares, channels) / np.maximum(count, 1), np.float64
    )
