"""The curves of a channel's plot: the most significant error rows, with their signals."""

from __future__ import annotations

import numpy as np

from models.detector import Result
from models.manifest import TelemanomManifest
from models.messages import Float32, Samples
from trainer.benchmark.outcome import Curve

ROWS_MAX = 2


def telling(manifest: TelemanomManifest, samples: Samples, result: Result) -> list[Curve]:
    """Return the ``ROWS_MAX`` error rows that exceed their threshold most, worst first."""
    ratio = np.nan_to_num(result.smoothed / result.threshold)
    rows = np.argsort(-ratio.max(axis=0, initial=0.0), kind="stable")[:ROWS_MAX]
    return [_curve(manifest, samples, result, int(row)) for row in rows]


def _curve(manifest: TelemanomManifest, samples: Samples, result: Result, row: int) -> Curve:
    channel = manifest.scored[row % len(manifest.scored)]

    def column(values: Float32, position: int) -> Float32:
        return values[:, position].astype(np.float32)

    return Curve(
        channel=manifest.channel_names[channel],
        row=row_name(manifest, row),
        signal=column(samples.values, channel),
        predicted=column(result.scores.predicted, channel),
        smoothed=column(result.smoothed, row),
        threshold=column(result.threshold, row),
    )


def row_name(manifest: TelemanomManifest, row: int) -> str:
    """Return a readable name of an error row: the head, or the level, and the span."""
    if manifest.level is not None and row >= manifest.error_rows - manifest.level_rows:
        return f"level, span {manifest.level.span_samples:g}"
    head = manifest.network.heads[row % manifest.prediction_size // len(manifest.scored)]
    span = manifest.smoothing.spans_samples[row // manifest.prediction_size]
    return f"{head}, span {span:g}"
