"""Charts of forecasts: fan charts with actual values, coverage and error by lead time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from models.messages import Float32
from trainer.drawing import INK, MODEL, SECOND, style, svg
from trainer.forecast.evaluate import Told

Leads = Mapping[str, Mapping[str, Sequence[float]]]

BEFORE_SHARE = 0.5  # length of the drawn context, in horizons
_NOMINAL = (80, 95)
_COLORS = (MODEL, SECOND, INK, "#9ca3af")


def fans(told: Told, channels: Sequence[str]) -> bytes:
    """Return a fan chart of the forecast intervals with the actual values, for every channel."""
    horizon = len(told.came)
    before = told.before[-max(2, round(BEFORE_SHARE * horizon)) :]
    past, ahead = np.arange(1 - len(before), 1), np.arange(1, horizon + 1)
    with style():
        figure = Figure(figsize=(9, 1.35 * len(channels) + 0.6), layout="constrained")
        rows = figure.subplots(len(channels), 1, sharex=True, squeeze=False)[:, 0]
        for column, (axes, name) in enumerate(zip(rows, channels, strict=True)):
            actual = np.concatenate([before[:, column], told.came[:, column]])
            axes.plot(np.concatenate([past, ahead]), actual, color=INK, linewidth=0.9)
            _fan(axes, ahead, told.forecast.quantiles[column])
            axes.axvline(0.5, color="#9ca3af", linewidth=0.8)
            axes.set_ylabel(name)
        rows[-1].set_xlabel("steps after the last one known")
        return svg(figure)


def _fan(axes: Any, ahead: Any, quantiles: Float32) -> None:
    count = quantiles.shape[1]
    for low in range(count // 2):
        upper = quantiles[:, count - 1 - low]
        axes.fill_between(ahead, quantiles[:, low], upper, color=MODEL, alpha=0.15, linewidth=0)
    axes.plot(ahead, quantiles[:, count // 2], color=MODEL, linewidth=1.1)


def coverage_by_lead(leads: Leads) -> bytes:
    """Return a chart of the actual and nominal coverage of the quantized network's intervals."""
    with style():
        figure = Figure(figsize=(8, 2.8), layout="constrained")
        axes = figure.subplots()
        shown = {name: row for name, row in leads.items() if name.startswith("quantized")}
        for (name, row), color in zip(shown.items(), _COLORS, strict=False):
            for level in _NOMINAL:
                covered = 100 * np.array(row[f"coverage_{level}"])
                label = name if level == _NOMINAL[0] else "_"
                axes.plot(np.arange(1, len(covered) + 1), covered, color=color, label=label)
        for level in _NOMINAL:
            axes.axhline(level, color="#b91c1c", linewidth=0.8, linestyle=":")
        axes.set(xlabel="lead time, steps", ylabel="covered, %")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(figure)


def error_by_lead(leads: Leads) -> bytes:
    """Return a chart of the squared error of all forecasters by lead time."""
    with style():
        figure = Figure(figsize=(8, 2.8), layout="constrained")
        axes = figure.subplots()
        for name, row in leads.items():
            if not name.endswith("not adapted"):
                axes.plot(np.arange(1, len(row["mse"]) + 1), row["mse"], label=name)
        axes.set(xlabel="lead time, steps", ylabel="mean squared error, scaled")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(figure)
