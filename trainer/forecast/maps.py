"""Forecasters in closed form: linear maps from a context to the steps after it.

Each map is a matrix (L, H) whose columns sum to 1, so its forecast shifts and scales with the
series. Any convex mix of these maps is again such a map. So a stack of maps costs no more than one.

- **ridge**: an unrestricted linear map, to which DLinear (Zeng et al., AAAI 2023) is equivalent. It
  is fitted by ridge regression (Toner & Darlow, "An Analysis of Linear Time Series Forecasting
  Models", ICML 2024). There is one map per length of the context and penalty.
- **period**: the context folded by the season. The forecast at one phase is a linear combination of
  past values at that phase, the same for all phases (SparseTSF, Lin et al., ICML 2024).
- **season** and **last**: the last season or the last value, repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.forecaster import normalised
from models.messages import Float32, Float64
from trainer.config import ForecastTable
from trainer.forecast.windows import Cutter, Int64

WINDOWS_MAX = 60_000
CALM_SCALE = 0.1  # in channel scales; calmer windows count less, as any step is large there
PERIOD_PENALTY = 0.01  # in mean squares of a step; the map has few weights
BATCH = 2048


@dataclass(eq=False, slots=True)
class Moments:
    """Sums of products over windows: of the contexts, and of contexts and futures."""

    squares: Float64  # (L, L)
    products: Float64  # (L, H)

    @classmethod
    def empty(cls, settings: ForecastTable) -> Moments:
        """Return the sums over no window."""
        size, horizon = settings.longest_steps, settings.horizon_steps
        return cls(np.zeros((size, size)), np.zeros((size, horizon)))

    def add(
        self, cutter: Cutter, places: Int64, trend_share: float, random: np.random.Generator
    ) -> None:
        """Add the windows at ``places`` whose future is known, in scales of their contexts."""
        for begin in range(0, len(places), BATCH):
            cut = cutter.cut_with_trends(places[begin : begin + BATCH], trend_share, random)
            known = ~np.isnan(cut.future).any(axis=1)
            weight = np.minimum(1, cut.scale[known, None] / CALM_SCALE)
            context, future = cut.context[known] * weight, cut.future[known] * weight
            self.squares += context.T @ context
            self.products += context.T @ future


def fitted(moments: Moments, settings: ForecastTable) -> dict[str, Float32]:
    """Return every map by its name, (L, H) each; ``L`` is the longest context."""
    maps: dict[str, Float64] = {"last": _repeated(settings, 1)}
    season = settings.maps.season_steps
    if season is not None:
        maps["season"] = _repeated(settings, season)
        maps["period"] = _period(moments, settings.longest_steps // season * season, season)
    for context in settings.contexts_steps:
        for penalty in settings.maps.penalties:
            maps[f"ridge {context}, {penalty:g}"] = _ridge(moments, context, penalty)
    return {name: weights.astype(np.float32) for name, weights in maps.items()}


def support(weights: Float32) -> int:
    """Return the number of newest steps that a map (L, H) depends on."""
    return len(weights) - int(np.flatnonzero(weights.any(axis=1))[0])


def forecast(weights: Float32, context: Float32) -> Float32:
    """Return the forecasts (C, H) for contexts (C, L or more), both in units."""
    scaled, mean, scale = normalised(context[:, -len(weights) :], float(np.finfo(np.float32).tiny))
    return np.asarray((scaled @ weights) * scale[:, None] + mean[:, None], np.float32)


def _repeated(settings: ForecastTable, season: int) -> Float64:
    size, horizon = settings.longest_steps, settings.horizon_steps
    weights = np.zeros((size, horizon))
    steps = np.arange(horizon)
    weights[size - season + steps % season, steps] = 1
    return weights


def _ridge(moments: Moments, context: int, penalty: float) -> Float64:
    squares, products = _centred(moments, context)
    return _placed(_solved(squares, products, penalty), len(moments.squares))


def _period(moments: Moments, context: int, season: int) -> Float64:
    """Return the map that is the same for all phases of the season."""
    squares, products = _centred(moments, context)
    past, horizon = context // season, products.shape[1]
    ahead = -(-horizon // season)
    padded = np.zeros((context, ahead * season))
    padded[:, :horizon] = products
    folded = np.einsum("ipjp->ij", squares.reshape(past, season, past, season))
    toward = np.einsum("ipkp->ik", padded.reshape(past, season, ahead, season))
    weights = np.kron(_solved(folded, toward, PERIOD_PENALTY), np.eye(season))[:, :horizon]
    return _placed(np.asarray(weights, np.float64), len(moments.squares))


def _centred(moments: Moments, context: int) -> tuple[Float64, Float64]:
    """Return the sums over the newest steps; steps and futures are relative to the steps' mean."""
    rows = moments.squares[-context:, -context:]
    mean = rows.mean(axis=1, keepdims=True)
    squares = rows - mean - mean.T + mean.mean()
    products = moments.products[-context:] - mean
    return squares, products - products.mean(axis=0)


def _solved(squares: Float64, products: Float64, penalty: float) -> Float64:
    size = len(squares)
    shrink = penalty * float(np.trace(squares)) / size + float(np.finfo(np.float64).tiny)
    found: Any = np.linalg.solve(squares + shrink * np.eye(size), products)
    return np.asarray(found, np.float64)


def _placed(centred: Float64, size: int) -> Float64:
    """Return the map for a whole context, from one for distances from the newest steps' mean."""
    weights = np.zeros((size, centred.shape[1]))
    weights[-len(centred) :] = centred + (1 - centred.sum(axis=0)) / len(centred)
    return weights
