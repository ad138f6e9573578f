"""The recent accuracy of a stream's forecasts: error, bias, and coverage of the intervals.

Forecasts are kept until the actual values arrive, and are compared with them at some lead times.
Each new comparison lowers the weight of the older ones (see ``models.forecaster``). An error is
median - actual value. ``judged`` is the sum of the weights. The figures are None before the first
comparison.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.forecaster import Forecaster, Judged
from models.messages import Float64


def by_channel(forecaster: Forecaster, judged: Judged) -> dict[str, Any]:
    """Return the figures of each channel over all lead times, by channel name, in its unit."""
    ones = np.ones(len(forecaster.channels))
    return {
        channel.name: {"unit": channel.unit} | _figures(forecaster, judged, ones, column)
        for column, channel in enumerate(forecaster.channels)
    }


def by_lead(forecaster: Forecaster, judged: Judged) -> list[dict[str, Any]]:
    """Return the figures of each lead time over all channels, with errors in the channels' scales.

    ``lead_s`` is in seconds.
    """
    scales = np.array([channel.scale for channel in forecaster.channels])
    return [
        {"lead_s": float(lead * forecaster.step_s)}
        | _figures(forecaster, judged, scales, slice(None), row)
        for row, lead in enumerate(forecaster.intervals.leads.tolist())
    ]


def _figures(
    forecaster: Forecaster,
    judged: Judged,
    scales: Float64,
    channels: int | slice,
    leads: int | slice = slice(None),
) -> dict[str, float | None]:
    weight = float(judged.weight[leads, channels].sum())

    def mean(sums: Float64) -> float | None:
        return float(f"{sums[leads, channels].sum() / weight:.4g}") if weight else None

    covered = {
        f"coverage_{level}": mean(judged.inside[row]) for row, level in enumerate(forecaster.pairs)
    }
    return {
        "judged": round(weight, 1),
        "mae": mean(judged.absolute / scales),
        "bias": mean(judged.error / scales),
        **covered,
    }
