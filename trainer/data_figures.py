"""The figures of the data report, one SVG each: coverage, distributions, spectra, correlations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from models.messages import Float64, Samples
from trainer.drawing import INK, MODEL, style, svg

DRAWN_MAX: Final = 24  # channels; more are in the tables only
_ACROSS: Final = 4
_COLUMNS: Final = 200  # of the coverage
_BINS: Final = 40


def coverage(samples: Samples, names: Sequence[str]) -> bytes:
    """Draw over time which share of each channel's samples has a value."""
    times, known = samples.times, ~np.isnan(samples.values[:, : len(names)])
    edges = np.linspace(times[0], times[-1], _COLUMNS + 1)
    places = np.clip(np.searchsorted(edges, times, "right") - 1, 0, _COLUMNS - 1)
    counts = np.bincount(places, minlength=_COLUMNS)
    period_s = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    slots = np.maximum(counts, (edges[1] - edges[0]) / period_s)
    found = np.stack([np.bincount(places, column, _COLUMNS) for column in known.T])
    with style():
        figure = Figure(figsize=(9, 0.28 * len(names) + 0.9), layout="constrained")
        axes = figure.subplots()
        extent = (0, float(times[-1] - times[0]) / 3600, len(names) - 0.5, -0.5)
        drawn = axes.imshow(
            found / np.maximum(slots, 1), aspect="auto", vmin=0, vmax=1, cmap="Blues", extent=extent
        )
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("hours since the first sample")
        figure.colorbar(drawn, label="share with a value")
        return svg(figure)


def distributions(samples: Samples, names: Sequence[str]) -> bytes:
    """Draw a histogram of each channel."""

    def draw(axes: Any, column: int) -> None:
        values = samples.values[:, column]
        axes.hist(values[~np.isnan(values)].astype(np.float64), bins=_BINS, color=MODEL)
        axes.set_yticks([])

    return _each(names, draw)


def spectra(found: Mapping[str, tuple[Float64, Float64]]) -> bytes:
    """Draw the power density of each channel over the frequency in hertz."""
    names = list(found)[:DRAWN_MAX]

    def draw(axes: Any, column: int) -> None:
        frequency, density = found[names[column]]
        axes.loglog(frequency, np.maximum(density, density.max() * 1e-12), color=INK, linewidth=0.7)
        axes.tick_params(axis="y", which="both", left=False, labelleft=False)

    return _each(names, draw)


def correlations(found: Float64, names: Sequence[str]) -> bytes:
    """Draw the correlation of each pair of channels."""
    side = 0.3 * len(names) + 2.2
    with style():
        figure = Figure(figsize=(side + 0.8, side), layout="constrained")
        axes = figure.subplots()
        drawn = axes.imshow(found[: len(names), : len(names)], vmin=-1, vmax=1, cmap="RdBu")
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        figure.colorbar(drawn, label="correlation")
        return svg(figure)


def _each(names: Sequence[str], draw: Callable[[Any, int], None]) -> bytes:
    rows = -(-len(names) // _ACROSS)
    with style():
        figure = Figure(figsize=(9, 1.5 * rows), layout="constrained")
        grid = figure.subplots(rows, _ACROSS, squeeze=False).ravel()
        for column, axes in enumerate(grid):
            if column < len(names):
                draw(axes, column)
                axes.set_title(names[column], fontsize=8)
                axes.tick_params(labelsize=6)
            else:
                axes.set_axis_off()
        return svg(figure)
