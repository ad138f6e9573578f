"""Sets the known levels of the channels, and the distance from them at which a level is abnormal.

A level is the smoothed value. Training knows its range, but the range of few samples is uncertain.
So the limit has a margin that shrinks with the number of samples. The range of a drifting channel
grows from a quarter of the recording to the whole. Such a range is expected to grow further in the
same way.
"""

from __future__ import annotations

import numpy as np

from models.errors import DataError
from models.manifest import LevelPart, TelemanomManifest
from models.messages import Float32, Float64, Samples, joined
from models.smoother import Smoother
from trainer.config import CalibrateTable

_QUARTERS = 4
_TAIL = 0.005  # share of the values at each end that the spread ignores
_TAILS_APART = 5.15  # standard deviations between these quantiles of a normal distribution
_TINY = 1e-6  # in scales; a channel with a smaller range is constant


def with_levels(
    draft: TelemanomManifest, train: Samples, samples: Samples, settings: CalibrateTable
) -> tuple[TelemanomManifest, list[float]]:
    """Return ``draft`` with the levels of both parts, and the limits of its level rows, scaled.

    A draft without level rows is returned unchanged, without limits.

    Raises:
        DataError: no stretch is long enough for the level of a channel.

    """
    if draft.level is None:
        return draft, []
    both = joined([train, samples])
    levels = _smoothed(draft, draft.level.span_samples, both)
    _check_known(draft, draft.level.span_samples, levels)
    low, high = np.nanmin(levels, axis=0), np.nanmax(levels, axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    part = LevelPart(
        span_samples=draft.level.span_samples, middle=middle.tolist(), half=half.tolist()
    )
    margin = settings.level_samples / len(both.times)
    wide = half + margin * (half + settings.level_spread * _spread(draft, train))
    grown = half * _growth(levels, half) ** settings.level_growth
    limits = np.maximum(np.maximum(wide, grown), half + settings.level_min)
    return draft.model_copy(update={"level": part}), limits.tolist()


def _check_known(manifest: TelemanomManifest, span: float, levels: Float64) -> None:
    unknown = np.flatnonzero(np.isnan(levels).all(axis=0))
    if len(unknown):
        name = manifest.channel_names[manifest.scored[unknown[0]]]
        raise DataError(
            f"channel {name} has no level: no stretch without a gap is long enough for"
            f" smoothing.level_span_samples = {span:g}; make it shorter, or leave it out"
        )


def _smoothed(manifest: TelemanomManifest, span: float, samples: Samples) -> Float64:
    """Return the levels (n, W), scaled; NaN while the smoothing of a stretch warms up."""
    period_s, warm_up = manifest.sampling.period_s, manifest.sampling.warm_up_samples
    breaks = np.flatnonzero(np.abs(np.diff(samples.times) - period_s) > 0.5 * period_s) + 1
    smoother, found = Smoother([span]), []
    for stretch in np.split(_scaled(manifest, samples), breaks):
        values = stretch.copy()
        values[:warm_up] = np.nan
        found.append(smoother.smooth(values, *smoother.start((), values.shape[1])))
    return np.concatenate(found).astype(np.float64)


def _scaled(manifest: TelemanomManifest, samples: Samples) -> Float32:
    scored = [manifest.channels[position] for position in manifest.scored]
    center = np.array([channel.center for channel in scored], np.float32)
    scale = np.array([channel.scale for channel in scored], np.float32)
    return np.asarray((samples.values[:, manifest.scored] - center) / scale)


def _spread(manifest: TelemanomManifest, train: Samples) -> Float64:
    """Return the standard deviation of each channel, scaled, by its outer quantiles, (W,).

    It is not always 1, because the publishers of a benchmark may have scaled its values.
    """
    low, high = np.nanquantile(_scaled(manifest, train), [_TAIL, 1 - _TAIL], axis=0)
    return np.asarray((high - low) / _TAILS_APART, np.float64)


def _growth(levels: Float64, half: Float64) -> Float64:
    """Return the range of all levels / the mean range of a quarter, at least 1, (W,)."""
    ranges = [
        np.nanmax(quarter, axis=0) - np.nanmin(quarter, axis=0)
        for quarter in np.array_split(levels, _QUARTERS)
        if not np.isnan(quarter).all(axis=0).any()
    ]
    if not ranges:
        return np.ones(levels.shape[1])
    return np.asarray((2 * half + _TINY) / (np.mean(ranges, axis=0) + _TINY))
