"""The benchmark's plots: signals and predictions of a channel, errors and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from models.messages import Float32
from trainer.benchmark.counts import onset_spans
from trainer.benchmark.outcome import Curve, Outcome
from trainer.drawing import EVENT, FAULT, INK, MODEL, SECOND, style, svg

BUCKETS_MAX = 450  # per curve; each bucket is drawn from its minimum to its maximum
ERROR_MIN = 1e-4  # in scaled units; lower end of the log axis

_ROWS = (INK, SECOND)


def channel(outcome: Outcome, curves: Sequence[Curve]) -> bytes:
    """Return one SVG with signals and predictions above errors and thresholds."""
    signals = {curve.channel: curve for curve in reversed(curves)}
    with style():
        figure = Figure(figsize=(10, 1.5 * len(signals) + 1.9), layout="constrained")
        rows = figure.subplots(len(signals) + 1, 1, sharex=True)
        for axes, curve in zip(rows, signals.values(), strict=False):
            _draw(axes, curve.signal, color=INK, label="observed")
            _draw(axes, curve.predicted, color=MODEL, label="expected", alpha=0.8)
            axes.set_ylabel(curve.channel)
            _mark(axes, outcome)
            _legend(axes)
        _errors(rows[-1], curves)
        _legend(rows[-1])
        _mark(rows[-1], outcome)
        rows[-1].set(xlabel="sample", xlim=(0, outcome.steps))
        return svg(figure)


def _errors(axes: Any, curves: Sequence[Curve]) -> None:
    several = len({curve.channel for curve in curves}) > 1
    for curve, color in zip(curves, _ROWS, strict=False):
        name = f"{curve.channel}, {curve.row}" if several else curve.row
        _draw(axes, np.maximum(curve.smoothed, ERROR_MIN), color=color, label=f"error: {name}")
        _draw(axes, curve.threshold, color=color, linestyle=":", label="its threshold")
    axes.set(yscale="log", ylabel="smoothed error")


def _mark(axes: Any, outcome: Outcome) -> None:
    for number, (start, end) in enumerate(outcome.labels):
        label = "_" if number else "labelled"
        axes.axvspan(start, end + 1, color=FAULT, alpha=0.25, linewidth=0, label=label)
    for number, (start, end) in enumerate(onset_spans(outcome.detectors["quantized"].alarms)):
        label = "_" if number else "detected"
        axes.axvspan(start, end + 1, 0, 0.07, color=EVENT, linewidth=0, label=label)


def _legend(axes: Any) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _draw(axes: Any, values: Float32, **how: Any) -> None:
    axes.plot(*envelope(values), linewidth=0.8, **how)


def envelope(values: Float32) -> tuple[Float32, Float32]:
    """Return positions and values of a short curve with the same extremes as ``values``."""
    count = len(values)
    if count <= 2 * BUCKETS_MAX:
        return np.arange(count, dtype=np.float32), values
    edges = np.linspace(0, count, BUCKETS_MAX + 1).astype(int)[:-1]
    low, high = np.fmin.reduceat(values, edges), np.fmax.reduceat(values, edges)
    return np.repeat(edges, 2).astype(np.float32), np.stack([low, high], axis=1).ravel()
