"""Calibrates a trained network on held-out normal data: thresholds, lower limits and the tail.

The least threshold of each error row is a margin over the largest smoothed error in the calibration
part, computed by the deployed code with the network that ships. So nothing in these hours of normal
operation raises an alarm. The margin covers normal behaviour that these hours do not show.

Two more minima apply, however well the network predicts a channel. A deviation far below the
channel's normal spread is irrelevant for the machine. A deviation may also come from a few ordinary
changes that happen earlier or later than predicted. A network that has memorized its recordings
does not make these errors there, but makes them on all later data.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import numpy as np

from models import tail_fit
from models.bundle import Bundle
from models.detector import Result
from models.errors import DataError
from models.manifest import TelemanomManifest
from models.messages import Float32, Samples
from models.pipeline import Pipeline
from models.smoother import Smoother
from trainer.config import CalibrateTable
from trainer.detector.levels import with_levels
from trainer.seal import assemble


def calibrated(
    draft: TelemanomManifest,
    parts: Mapping[str, bytes],
    train: Samples,
    samples: Samples,
    settings: CalibrateTable,
) -> TelemanomManifest:
    """Return ``draft`` with floors, lower limits and the tail of the score.

    Args:
        draft: the manifest; its own limits are replaced.
        parts: the parts of the bundle, with the network.
        train: the training part; it shows the largest changes in normal operation.
        samples: the calibration part, on which the network was not trained.
        settings: the margins. An event is accepted at the latest after as many samples as both
            parts have together.

    Raises:
        DataError: a channel has no value in the calibration part.

    """
    draft, level_limits = with_levels(draft, train, samples, settings)
    replay = _Replay(draft, train, samples)
    smoothed = replay(assemble(draft, parts)).smoothed
    _check_known(draft, smoothed)
    errors = smoothed[:, : draft.error_rows - draft.level_rows]
    changes = np.fmax(
        smoothed_changes(draft, train, settings.changes_quantile),
        smoothed_changes(draft, samples, settings.changes_quantile),
    )
    count = len(train.times) + len(samples.times)
    limits: dict[str, object] = {
        "floor": floors(draft, errors, changes, settings, count) + level_limits,
        "calm": calm(draft, errors, settings) + [0.0] * draft.level_rows,
    }
    if draft.threshold.accepts:
        limits["adapt_samples"] = min(draft.threshold.adapt_samples, count)
    threshold = draft.threshold.model_copy(update=limits)
    limited = draft.model_copy(update={"threshold": threshold})
    scores = replay(assemble(limited, parts)).scores.score
    return limited.model_copy(update={"tail": tail_fit.fit(scores)})


class _Replay:
    """Scores the calibration part; the end of the training part warms up the network."""

    def __init__(self, draft: TelemanomManifest, train: Samples, samples: Samples) -> None:
        spans = [
            *draft.smoothing.spans_samples,
            1.0 if draft.level is None else draft.level.span_samples,
        ]
        before = draft.sampling.warm_up_samples + draft.threshold.settle_samples + ceil(max(spans))
        self._before = Samples(train.times[-before:], train.values[-before:])
        self._samples = samples

    def __call__(self, bundle: Bundle) -> Result:
        pipeline = Pipeline(bundle)
        state = pipeline.start()
        pipeline.step(state, self._before)
        return pipeline.step(state, self._samples)


def _check_known(manifest: TelemanomManifest, smoothed: Float32) -> None:
    unknown = np.flatnonzero(np.isnan(smoothed).all(axis=0))
    if len(unknown):
        scored = manifest.scored
        name = manifest.channel_names[scored[unknown[0] % len(scored)]]
        raise DataError(
            f"channel {name} has no value in the calibration part: its threshold cannot be set"
        )


def smoothed_changes(manifest: TelemanomManifest, samples: Samples, quantile: float) -> Float32:
    """Return a quantile of the smoothed changes from sample to sample, scaled, (R,) without levels.

    These changes are the smoothed errors of a prediction that repeats the last value. ``quantile``
    1 is the maximum.
    """
    scored = manifest.scored
    scale = np.array([manifest.channels[position].scale for position in scored], np.float32)
    changes = np.abs(np.diff(samples.values[:, scored], axis=0)) / scale
    errors = np.tile(changes, len(manifest.network.heads)).astype(np.float32)
    smoother = Smoother(manifest.smoothing.spans_samples)
    smoothed = smoother.smooth(errors, *smoother.start((), errors.shape[1]))
    if np.isnan(smoothed).all(axis=0).any():
        smoothed = np.nan_to_num(smoothed)
    return np.asarray(np.nanquantile(smoothed, quantile, axis=0), np.float32)


def floors(
    manifest: TelemanomManifest,
    smoothed: Float32,
    changes: Float32,
    settings: CalibrateTable,
    count: int,
) -> list[float]:
    """Return the least threshold of each error row, in scaled units: the largest of three minima.

    ``smoothed`` (n, R) are the errors of the calibration part, ``changes`` (R,) the smoothed
    changes in normal operation, both without the levels. ``count`` is the number of samples that
    were trained and calibrated on.
    """
    per_span = settings.floor_changes or [0.0] * len(manifest.smoothing.spans_samples)
    per_row = np.repeat(per_span, manifest.prediction_size)
    own = raised(np.nanmax(smoothed, axis=0), len(manifest.scored), settings, count)
    largest = settings.margin(count) * own
    found = np.maximum(np.maximum(per_row * changes, largest), settings.floor_min)
    return [float(floor) for floor in found]


def raised(largest: Float32, channels: int, settings: CalibrateTable, count: int) -> Float32:
    """Return the largest errors (R,) of few samples, raised towards those of the other channels.

    A channel that happened to be quiet in a short recording would get a limit that its ordinary
    errors exceed later. So each row counts with the weight n / (n + ``margin_samples``) of its n
    samples, and the mean of the same row over all channels with the rest (shrinkage). No row gets
    less than its own largest error, which was normal. Values are scaled.
    """
    weight = count / (count + settings.margin_samples)
    rows = largest.reshape(-1, channels)  # a head and a span each
    mean = rows.mean(axis=1, keepdims=True)
    shrunk = weight * rows + (1 - weight) * mean
    return np.asarray(np.maximum(rows, shrunk), np.float32).reshape(-1)


def calm(manifest: TelemanomManifest, smoothed: Float32, settings: CalibrateTable) -> list[float]:
    """Return the lower limit of each error row; it is 0 for all but the longest span."""
    spans = manifest.smoothing.spans_samples
    longest = np.repeat(np.array(spans) == max(spans), manifest.prediction_size)
    least = np.nanmin(smoothed, axis=0) / settings.calm_margin
    return [float(limit) for limit in np.where(longest, least, 0.0)]
