"""What a stream's forecasts have been worth of late: error, bias, and what the intervals covered.

Forecasts are kept until their time has come and compared with what came, at some lead times; each
new comparison fades the older ones (see ``models.forecaster``). Errors are medians' against steps.
``judged`` counts comparisons, as far as they have not faded; the figures are None before the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.forecaster import Forecaster, Judged
from models.messages import Float64


def by_channel(forecaster: Forecaster, judged: Judged) -> dict[str, Any]:
    """Return the figures of each channel over all leads, in its unit; bias is forecast - actual."""
    ones = np.ones(len(forecaster.channels))
    return {
        channel.name: {"unit": channel.unit} | _figures(forecaster, judged, ones, column)
        for column, channel in enumerate(forecaster.channels)
    }


def by_lead(forecaster: Forecaster, judged: Judged) -> list[dict[str, Any]]:
    """Return the figures of each lead over all channels, errors in the channels' scales."""
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
