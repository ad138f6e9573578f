"""Sets offsets on held-out data that give the quantiles their nominal coverage.

Split-conformal quantile regression in its asymmetric form (Romano, Patterson & Candès, NeurIPS
2019), separately for each quantile, channel and lead. The differences are actual value - network's
quantile in the calibration part. The offset is their quantile of the same level.
"""

from __future__ import annotations

import numpy as np

from models.errors import DataError
from models.manifest import Aggregation, Intervals
from models.messages import Float32, Float64
from trainer.config import ForecastTable, IntervalsTable
from trainer.forecast.windows import Windows

WINDOWS_MAX = 6000


def leads(count: int, horizon: int) -> list[int]:
    """Return at most ``count`` lead times from 1 to the horizon, denser at short leads."""
    return sorted({round(lead) for lead in np.geomspace(1, horizon, count)} | {horizon})


def distances(weights: Float32, windows: Windows, settings: ForecastTable) -> Float32:
    """Return the quantiles' distances from the median of a map (L, H): (H, Q), rising along Q.

    They follow from the map's errors in ``windows``, whose contexts have at least L steps.
    """
    forecasts = windows.context[:, -len(weights) :] @ weights
    levels = np.array(settings.quantiles)
    found = np.nanquantile(windows.future - forecasts, levels, axis=0).T
    found -= np.nanquantile(windows.future - forecasts, 0.5, axis=0)[:, None]
    least = np.finfo(np.float32).eps * np.sign(levels - 0.5)
    return np.asarray(np.nan_to_num(found + least), np.float32)


def check(windows: Windows, channels: int, settings: ForecastTable) -> None:
    """Reject windows that are insufficient to set intervals.

    Raises:
        DataError: a channel has no window, or no known value at a lead.

    """
    at = np.array(leads(settings.intervals.leads, settings.horizon_steps)) - 1
    for channel in range(channels):
        if np.isnan(windows.future[windows.channel == channel][:, at]).all(axis=0).any():
            raise DataError(
                "the calibration part is too short, or has too many gaps, for the forecaster's"
                " intervals: lengthen it, or lower forecast.horizon_steps"
            )


def intervals(
    quantiles: Float32, windows: Windows, channels: int, settings: ForecastTable
) -> Intervals:
    """Return the offsets for the network's raw ``quantiles`` (n, H, Q) of ``windows``.

    Raises:
        DataError: a channel has no window, or no known value at a lead.

    """
    check(windows, channels, settings)
    at = np.array(leads(settings.intervals.leads, settings.horizon_steps))
    above = windows.future[:, at - 1, None] - quantiles[:, at - 1]  # (n, G, Q)
    offsets = np.zeros((len(settings.quantiles), channels, len(at)))
    for channel in range(channels):
        mine = above[windows.channel == channel]
        for position, level in enumerate(settings.quantiles):
            found = np.nanquantile(mine[..., position], _corrected(level, len(mine)), axis=0)
            offsets[position, channel] = found
    offsets[len(settings.quantiles) // 2] = 0  # the network's median does not change
    widths = offsets + _distances(quantiles[:, at - 1], windows, channels)
    return Intervals(
        leads_steps=at.tolist(),
        offsets=np.round(offsets, 6).tolist(),
        rate=settings.intervals.rate,
        aggregated=_aggregation(widths, settings.intervals),
    )


def _distances(quantiles: Float32, windows: Windows, channels: int) -> Float64:
    """Return the mean distances (Q, C, G) of quantiles (n, G, Q) from the median."""
    apart = quantiles - quantiles[..., quantiles.shape[2] // 2, None]
    means = [apart[windows.channel == channel].mean(axis=0) for channel in range(channels)]
    return np.stack(means).transpose(2, 0, 1).astype(np.float64)


def _aggregation(widths: Float64, settings: IntervalsTable) -> Aggregation | None:
    if settings.rate == 0:
        return None
    return Aggregation(
        widths=np.round(widths, 6).tolist(),
        rates=[settings.rate],
        delay_share=settings.delay_share,
        pooled_rate=settings.pooled_rate,
        pooled_delay_share=settings.pooled_delay_share,
        integral_rate=settings.integral_rate,
        sharpness=settings.sharpness,
        memory=settings.memory,
        lead_rate=settings.lead_rate,
        lead_delay_share=settings.lead_delay_share,
    )


def _corrected(level: float, count: int) -> float:
    """Return the level, moved outwards to correct for a finite number of windows."""
    side = (count + 1) / count
    return min(1.0, level * side) if level > 0.5 else max(0.0, 1 - (1 - level) * side)
