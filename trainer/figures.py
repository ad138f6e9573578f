"""The report's figures, one SVG each: training curve, forecasts, exceedances, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from models.manifest import Channel
from models.messages import Float32, Float64
from trainer.drawing import EVENT, FAULT, INK, LIMIT, MODEL, style, svg
from trainer.epochs import Epoch, kept
from trainer.evaluate import Judged

POINTS_MAX = 900  # per curve; nobody sees more, and files would grow
STRETCH_SAMPLES = 400  # per channel in the figure of the forecasts


def training_curve(epochs: Sequence[Epoch]) -> bytes:
    """Draw the loss of training and validation data over the epochs."""
    numbers = [epoch.number for epoch in epochs]
    best = kept(epochs)
    with style():
        figure, axes = _axes(6.4, 2.6)
        axes.plot(numbers, [epoch.loss for epoch in epochs], color=INK, label="training")
        validation = [epoch.validation_loss for epoch in epochs]
        axes.plot(numbers, validation, color=MODEL, label="validation")
        axes.plot(best.number, best.validation_loss, "o", color=MODEL, label="kept")
        axes.set(xlabel="epoch", ylabel="mean absolute error, scaled", yscale="log")
        axes.legend()
        return svg(figure)


def forecasts(judged: Judged, channels: Sequence[Channel]) -> bytes:
    """Draw each channel at the end of the recording, with the network's predictions."""
    times = judged.samples.times[-STRETCH_SAMPLES:]
    since = times - times[0]
    with style():
        figure = Figure(figsize=(9, 1.3 * len(channels) + 0.6), layout="constrained")
        rows = figure.subplots(len(channels), 1, sharex=True, squeeze=False)[:, 0]
        for column, (axes, channel) in enumerate(zip(rows, channels, strict=True)):
            observed = judged.samples.values[-STRETCH_SAMPLES:, column]
            expected = judged.result.scores.predicted[-STRETCH_SAMPLES:, column]
            axes.plot(since, observed, color=INK, linewidth=0.9, label="observed")
            axes.plot(since, expected, color=MODEL, linewidth=0.9, label="expected")
            axes.set_ylabel(_named(channel), rotation=0, ha="right", va="center")
        rows[0].legend(loc="upper right", ncols=2)
        rows[-1].set_xlabel("seconds")
        return svg(figure)


def exceedance(predicted: Sequence[float], observed: Sequence[float]) -> bytes:
    """Draw the observed shares of exceedances over the predicted ones."""
    with style():
        figure, axes = _axes(3.6, 3.2)
        axes.plot(predicted, predicted, color=LIMIT, linewidth=0.9, linestyle="--", label="ideal")
        seen = [(p, o) for p, o in zip(predicted, observed, strict=True) if o > 0]
        axes.plot(*zip(*seen, strict=True), "o-", color=MODEL, label="test part")
        axes.set(xlabel="predicted share", ylabel="observed share", xscale="log", yscale="log")
        axes.legend()
        return svg(figure)


def score(judged: Judged) -> bytes:
    """Draw a recording's score and the threshold, and mark its faults and events."""
    begin = judged.samples.times[0]
    times, highest = _envelope(judged.samples.times - begin, judged.result.scores.score)
    with style():
        figure, axes = _axes(9, 2.2)
        axes.plot(times, highest, color=INK, linewidth=0.8, label="score")
        axes.axhline(1, color=LIMIT, linewidth=0.9, linestyle="--", label="threshold")
        for start, end, kind, _ in (detection.label for detection in judged.detections):
            _mark_fault(axes, start - begin, end - begin, kind)
        for number, event in enumerate(judged.events):
            label = "_" if number else "event opened"
            axes.axvline(event.opened - begin, color=EVENT, linewidth=1, label=label)
        axes.set(xlabel="seconds", ylabel="score", yscale="log")
        figure.legend(loc="outside right upper")
        return svg(figure)


def _mark_fault(axes: Any, start: float, end: float, kind: str) -> None:
    axes.axvspan(start, end, color=FAULT, alpha=0.25, linewidth=0)
    axes.annotate(kind, (start, 1.02), xycoords=("data", "axes fraction"), rotation=15, fontsize=7)


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _named(channel: Channel) -> str:
    return f"{channel.name}\n{channel.unit}" if channel.unit else channel.name


def _envelope(times: Float64, values: Float32) -> tuple[Float64, npt.NDArray[Any]]:
    """Return at most ``POINTS_MAX`` points: the maximum of each stretch, so no peak is lost."""
    edges = np.linspace(0, len(times), min(POINTS_MAX, len(times)) + 1).astype(int)[:-1]
    highest = np.fmax.reduceat(values, edges)
    return times[edges], highest
