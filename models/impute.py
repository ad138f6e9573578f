"""Fills missing steps in a forecaster's context, with the method that the bundle specifies.

- ``linear``: linear interpolation between the known neighbours; at the ends, the nearest value.
- ``seasonal``: the value one season before, or else one season after, plus the difference in level
  between the two places. Steps without either are filled with ``linear``.

A mean is never used, because it would bias the forecast.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.manifest import Imputation
from models.messages import Float32


def longest_gap(values: Float32) -> int:
    """Return the longest run of missing steps of a channel of ``values`` (n, C), in steps."""
    missing = np.isnan(values)
    if not missing.any():
        return 0
    index = np.arange(1, len(values) + 1)[:, None]
    known_at = np.maximum.accumulate(np.where(missing, 0, index), axis=0)
    return int((index - known_at).max())


def fill(values: Float32, settings: Imputation) -> Float32:
    """Return ``values`` (n, C) with every NaN filled. Each channel must have a known value."""
    filled = values.copy()
    for column in np.flatnonzero(np.isnan(values).any(axis=0)):
        series = filled[:, column]
        if settings.season_steps is not None:
            _seasonal(series, settings.season_steps)
        _linear(series)
    return filled


def _linear(series: Float32) -> None:
    missing = np.isnan(series)
    known = np.flatnonzero(~missing)
    series[missing] = np.interp(np.flatnonzero(missing), known, series[known])


def _seasonal(series: Float32, season: int) -> None:
    """Fill gaps from the season before or after, in pieces of at most a season, oldest first."""
    pieces = [
        (at, min(at + season, end))
        for begin, end in _gaps(np.isnan(series))
        for at in range(begin, end, season)
    ]
    for begin, end in pieces:
        for apart in (-season, season):
            model = _shifted(series, begin, end, apart)
            if model is not None:
                series[begin:end] = model
                break


def _shifted(series: Float32, begin: int, end: int, apart: int) -> Float32 | None:
    """Return the values ``apart`` steps away, shifted to the level at the gap's edges."""
    edges = [at for at in (begin - 1, end) if 0 <= at < len(series)]
    if begin + apart < 0 or end + apart > len(series):
        return None
    model = series[begin + apart : end + apart]
    moves = [
        float(series[at] - series[at + apart])
        for at in edges
        if 0 <= at + apart < len(series) and not np.isnan(series[[at, at + apart]]).any()
    ]
    if np.isnan(model).any() or not moves:
        return None
    return (model + np.float32(np.mean(moves))).astype(np.float32)


def _gaps(missing: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
