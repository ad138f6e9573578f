"""What a stream's forecasts have been worth of late: error, bias, and what the intervals covered.

Forecasts are kept until their time has come and compared with what came, at some lead times; each
new comparison fades the older ones (see ``models.forecaster``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.forecaster import Forecaster, ForecastState
from models.messages import Float64


def rolling(forecaster: Forecaster, state: ForecastState) -> dict[str, Any]:
    """Return the figures per channel, over all leads, and per lead, over all channels.

    Errors are in the channels' units, and per lead in their scales; bias is forecast - actual;
    ``judged`` counts comparisons, as far as they have not faded. None before the first.
    """
    scales = np.array([channel.scale for channel in forecaster.channels])
    ones = np.ones(len(scales))
    return {
        "channels": {
            channel.name: {"unit": channel.unit} | _figures(forecaster, state, ones, column)
            for column, channel in enumerate(forecaster.channels)
        },
        "leads": [
            {"lead_s": float(lead * forecaster.step_s)}
            | _figures(forecaster, state, scales, slice(None), row)
            for row, lead in enumerate(forecaster.intervals.leads.tolist())
        ],
    }


def _figures(
    forecaster: Forecaster,
    state: ForecastState,
    scales: Float64,
    channels: int | slice,
    leads: int | slice = slice(None),
) -> dict[str, float | None]:
    judged = state.judged
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
