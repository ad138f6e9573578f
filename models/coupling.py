"""What the channels of a machine tell of each other's future.

The network forecasts each channel from its own past. A linear map from all channels' recent means
to the network's errors corrects the forecast. It also knows the levels that the machine returns to,
which a forecast from a channel's own scaled past does not. It is a vector autoregression with
exogenous inputs in the direct form, one map per lead (Lütkepohl, "New Introduction to Multiple Time
Series Analysis", 2005, ch. 2 and 10).

A **plan** is the future of a channel that people set, such as a flow or a speed. Where it differs
from the channel's own forecast, the forecasts of the other channels move with it, by **effects**
that were found in the same way: from how far both were off together.

Shapes: ``C`` scored channels, ``L`` steps of context, ``H`` steps of horizon, ``G`` leads, ``K``
spans, ``F`` = K C + 1 inputs, ``P`` plannable channels. Values are in scales of the channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.intervals import between
from models.manifest import Channel, CouplingPart, ForecastPart
from models.messages import Float32, Float64

INPUT_MAX = 10.0  # scales; an input farther from the middle is no longer like what was learnt


class Coupling:
    """Corrects forecasts by all channels' recent means, and by plans; without memory."""

    def __init__(self, part: ForecastPart, coupling: CouplingPart, channels: Sequence[Channel]):
        self.plannable = tuple(channels[at].name for at in coupling.plannable)
        self._columns = list(coupling.plannable)
        self._spans = coupling.spans_steps
        self._center = np.array([channel.center for channel in channels])
        self._scale = np.array([channel.scale for channel in channels])
        self._weights = np.array(coupling.weights)  # (G, C, F)
        self._effects = np.array(coupling.effects)  # (G, C, 2 P)
        self._leads = np.array(part.intervals.leads_steps)
        self._between = between(self._leads, part.horizon_steps)  # (H, G)

    def correction(self, context: Float32) -> Float32:
        """Return what a context (L, C) adds to the forecast, (C, H); both in units."""
        scaled = ((context - self._center) / self._scale).astype(np.float32)
        given = inputs(scaled, np.array([len(scaled) - 1]), self._spans)[0]
        added = self._between @ (self._weights @ given)  # (H, C)
        return np.asarray((added * self._scale).T, np.float32)

    def planned(self, quantiles: Float32, plans: Mapping[str, Float32]) -> Float32:
        """Return forecasts (C, H, Q) that follow plans, by channel, (H,); all in units.

        A planned channel has its plan as every quantile. The widths of the others do not change.
        """
        middle = quantiles.shape[2] // 2
        off = np.zeros((len(self._columns), quantiles.shape[1]))
        for row, (name, column) in enumerate(zip(self.plannable, self._columns, strict=True)):
            if name in plans:
                apart = plans[name] - quantiles[column, :, middle]
                off[row] = apart / self._scale[column]
        added = self._between @ np.einsum("gcp,gp->gc", self._effects, distances(off, self._leads))
        moved = quantiles + (added * self._scale).T[:, :, None]
        for name, column in zip(self.plannable, self._columns, strict=True):
            if name in plans:
                moved[column] = plans[name][:, None]
        return np.asarray(moved, np.float32)


def inputs(scaled: Float32, ends: npt.NDArray[np.int64], spans: Sequence[int]) -> Float64:
    """Return the inputs (n, F) at steps ``ends`` (n,) of the steps (N, C); a missing value is 0.

    An input is the mean of the newest steps of a span; there are fewer of them at the beginning.
    """
    known = ~np.isnan(scaled)
    clipped = np.clip(np.where(known, scaled, 0.0).astype(np.float64), -INPUT_MAX, INPUT_MAX)
    none = np.zeros((1, scaled.shape[1]))
    total = np.concatenate([none, clipped.cumsum(axis=0)])
    count = np.concatenate([none, known.cumsum(axis=0)])
    means = []
    for span in spans:
        first = np.maximum(ends + 1 - span, 0)
        number = np.maximum(count[ends + 1] - count[first], 1)
        means.append((total[ends + 1] - total[first]) / number)
    return np.concatenate([*means, np.ones((len(ends), 1))], axis=1)


def distances(off: Float64, leads: npt.NDArray[np.int64]) -> Float64:
    """Return how far plans are from forecasts, (G, 2 P), from each step's distance, (P, H).

    First the distances at each lead, then their means up to it.
    """
    mean = off.cumsum(axis=1)[:, leads - 1] / leads
    return np.concatenate([off[:, leads - 1], mean]).T
