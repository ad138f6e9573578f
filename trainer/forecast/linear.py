"""The linear map of a context to what follows it, in closed form.

It has the form of DLinear (Zeng et al., AAAI 2023: a linear layer each on trend and remainder,
which together are one linear map of the context) and is fitted by ridge regression, its penalty
chosen on the validation windows. It is the forecaster's linear path, and a reference beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.forecaster import normalised
from models.messages import Float32
from trainer.forecast.windows import Cutter, Int64

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # in mean squares of the inputs
WINDOWS_MAX = 100_000
BATCH = 4096


def fit(train: Cutter, validate: Cutter, checked: Int64) -> Float32:
    """Return the map (L, H) of normalised contexts to normalised futures.

    ``checked`` are the places of the validation windows that choose the penalty.
    """
    squares, products = _sums(train, train.some(WINDOWS_MAX))
    held = validate.cut(checked)
    future = np.nan_to_num(held.future)
    weight = ~np.isnan(held.future) * held.scale[:, None]
    best, error = None, np.inf
    for penalty in PENALTIES:
        weights = _solved(squares, products, penalty)
        found = float(np.square((held.context @ weights - future) * weight).sum())
        if found < error:
            best, error = weights, found
    assert best is not None
    return best


def _sums(cutter: Cutter, places: Int64) -> tuple[Any, Any]:
    """Return the normal equations' two sides; a window counts by its scale."""
    squares: Any = 0.0
    products: Any = 0.0
    for begin in range(0, len(places), BATCH):
        windows = cutter.cut(places[begin : begin + BATCH])
        known = ~np.isnan(windows.future).any(axis=1)
        scale = windows.scale[known, None]
        context = (windows.context[known] * scale).astype(np.float64)
        squares = squares + context.T @ context
        products = products + context.T @ (windows.future[known] * scale)
    return squares, products


def _solved(squares: Any, products: Any, penalty: float) -> Float32:
    size = len(squares)
    shrink = penalty * float(np.trace(squares)) / size
    weights: Float32 = np.linalg.solve(squares + shrink * np.eye(size), products).astype(np.float32)
    return weights


def forecast(weights: Float32, context: Float32) -> Float32:
    """Return what follows contexts (C, L) in units, (C, H)."""
    scaled, mean, scale = normalised(context, float(np.finfo(np.float32).tiny))
    return np.asarray((scaled @ weights) * scale[:, None] + mean[:, None], np.float32)
