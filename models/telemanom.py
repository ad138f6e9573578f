"""Telemanom's errors, streaming: the difference between each sample and the network's prediction.

After Hundman et al., KDD 2018. The published form re-runs its LSTM over a window for every sample.
Here the same network is exported as a single step with its state as input and output. It makes the
same predictions at a constant cost per sample. There is one row of errors per smoothing span, head
and channel. A mean over channels would hide an anomaly in a single channel. A single span would
hide either a spike or a slow drift.

A network that predicts one step follows slow changes, even to unknown levels. So a bundle may have
one more row per channel, its level: the distance of the smoothed value from the middle of the
levels in the training recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.interpreter import StepNetwork
from models.manifest import LevelPart, TelemanomManifest
from models.messages import ALL, Bool, Float32, Float64, Index, Int64
from models.smoother import Smoother

SCALED_MAX = np.float32(1e6)  # limit of deviations; larger ones add no information and overflow


class Errors(NamedTuple):
    """The errors of ``n`` samples of ``B`` streams; NaN where a comparison is not possible."""

    # (n, B, R) smoothed absolute errors, scaled; by span, then head and channel; then the levels
    smoothed: Float32
    predicted: Float32  # (n, B, C) the expected samples, in the channels' units; NaN: not scored
    whole: bool  # whether no value was missing or clipped


@dataclass(eq=False, slots=True)
class TelemanomState:
    """The memory of ``N`` streams, of constant size. ``H`` is the horizon in samples."""

    network: Float32  # (N, S) h and c of each layer
    prediction: Float32  # (N, H, P) of the next H samples, scaled, the nearest first
    last: Float32  # (N, H, C) last known values at the last H samples, scaled; NaN before the first
    smoothed_sum: Float64  # (N, spans, P) of the weighted mean
    smoothed_weight: Float64  # (N, spans, P)
    level_sum: Float64  # (N, 1, W) of the W scored channels' mean; W is 0 without level rows
    level_weight: Float64  # (N, 1, W)
    since_start: Int64  # (N,) samples since the network started from nothing, up to the warm-up
    last_time: Float64  # (N,) of the last sample; NaN before the first
    steady: Bool  # (N,) all errors can be computed, and the means have full weight


class Telemanom:
    """Computes smoothed errors of samples. It holds the network and its scaling, but no memory."""

    def __init__(self, manifest: TelemanomManifest, network: StepNetwork) -> None:
        self._network = network
        self._heads = manifest.network.heads
        self._horizon = manifest.network.horizon_samples
        # (1, 1, C), like the samples of one stream: broadcasting would take three times as long
        self._center = np.array([[[c.center for c in manifest.channels]]], np.float32)
        self._scale = np.array([[[c.scale for c in manifest.channels]]], np.float32)
        self._clip = np.full(self._center.shape, manifest.network.input_clip, np.float32)
        self._clip_low = -self._clip
        self._warm_up = manifest.sampling.warm_up_samples
        period_s = manifest.sampling.period_s
        self._period_min_s, self._period_max_s = 0.5 * period_s, 1.5 * period_s
        every = len(manifest.scored) == len(manifest.channels)
        self._scored: list[int] | slice = ALL if every else manifest.scored
        self._width = len(manifest.scored)
        self._predicted = len(self._heads) * self._width
        self._smoother = Smoother(manifest.smoothing.spans_samples)
        self._level = None if manifest.level is None else _Level(manifest.level)

    def start(self, streams: int = 1) -> TelemanomState:
        """Return the state of ``streams`` streams before their first samples."""
        channels, ahead = self._center.size, (streams, self._horizon)
        smoothed_sum, smoothed_weight = self._smoother.start((streams,), self._predicted)
        levels = 0 if self._level is None else self._width
        level_sum, level_weight = np.zeros((2, streams, 1, levels))
        return TelemanomState(
            network=np.zeros((streams, self._network.state_size), np.float32),
            prediction=np.full((*ahead, self._predicted), np.nan, np.float32),
            last=np.full((*ahead, channels), np.nan, np.float32),
            smoothed_sum=smoothed_sum,
            smoothed_weight=smoothed_weight,
            level_sum=level_sum,
            level_weight=level_weight,
            since_start=np.zeros(streams, np.int64),
            last_time=np.full(streams, np.nan),
            steady=np.zeros(streams, np.bool_),
        )

    def interruptions(self, state: TelemanomState, who: Index, times: Float64) -> Bool | None:
        """Return the samples before which a stream was interrupted, (n, B); None: there are none.

        An interruption is a time step other than one period (± 50 %).

        Args:
            state: of ``N`` streams.
            who: the ``B`` streams.
            times: (n, B) Unix seconds, n ≥ 1.

        """
        before = state.last_time[who][None]
        if times.size == 1 and (
            self._period_min_s <= times.item() - before.item() <= self._period_max_s
        ):
            return None
        if len(times) > 1:
            before = np.concatenate([before, times[:-1]])
        apart = times - before
        if (
            np.minimum.reduce(apart, axis=None) >= self._period_min_s
            and np.maximum.reduce(apart, axis=None) <= self._period_max_s
        ):
            return None
        broken = (apart < self._period_min_s) | (apart > self._period_max_s)
        return broken if broken.any() else None

    def restart(self, state: TelemanomState, streams: Int64) -> None:
        """Reset the network and the smoothing of ``streams`` (indices); they warm up again."""
        fresh = self.start(len(streams))
        for name in _RESTARTED:
            getattr(state, name)[streams] = getattr(fresh, name)
        state.since_start[streams] = 0
        state.steady[streams] = False

    def step(self, state: TelemanomState, who: Index, times: Float64, values: Float32) -> Errors:
        """Compute the errors of samples that continue without interruption.

        Args:
            state: of ``N`` streams, changed in place.
            who: the ``B`` streams.
            times: (n, B) Unix seconds, n ≥ 1.
            values: (n, B, C) in the channels' units. Large values overflow, so the caller must set
                ``np.errstate``.

        """
        last = state.last[who]
        scaled = values - self._center
        scaled /= self._scale
        filled, sample = scaled, np.fmax(scaled, self._clip_low)
        np.fmin(sample, self._clip, out=sample)
        # comparing bytes is fastest for a few hundred values
        whole = sample.tobytes() == scaled.tobytes()
        if not whole:  # some values are missing or very large
            scaled = _limited(scaled, SCALED_MAX)
            filled = fill_forward(scaled, last[:, -1])
            known_so_far = np.where(np.isnan(filled), np.float32(0), filled)
            sample = _limited(known_so_far, self._clip)
        outputs = self._run(state, who, sample)
        expected, prediction = _delayed(state.prediction[who], outputs)
        before, last = _delayed(last, filled)
        self._add(expected, before)
        errors = self._apart(scaled, expected)
        steady = all(state.steady[who].tolist())
        if not steady:
            self._withhold(state, who, errors)
        smoothed = self._smooth(state, who, errors, whole and steady)
        if self._level is not None:
            levels = self._levels(state, who, scaled, self._level, whole and steady)
            smoothed = np.concatenate([smoothed, levels], axis=-1)
        predicted = self._in_units(expected)
        state.prediction[who], state.last[who] = prediction, last
        state.last_time[who] = times[-1]
        if not steady:
            since = state.since_start[who] + len(values)
            state.since_start[who] = np.minimum(since, self._warm_up)
            state.steady[who] = self._steady(state, who)
        return Errors(smoothed, predicted, whole)

    def _run(self, state: TelemanomState, who: Index, samples: Float32) -> Float32:
        network = state.network[who]
        outputs, _ = self._network.run(samples, network, after=network)
        if who is not ALL:
            state.network[who] = network
        return outputs

    def _add(self, expected: Float32, before: Float32) -> None:
        """Turn the heads' predictions (n, B, P) into expected samples, scaled, in place."""
        for head, form in enumerate(self._heads):
            if form == "change":
                own = expected[..., head * self._width : (head + 1) * self._width]
                own += before[..., self._scored]

    def _apart(self, scaled: Float32, expected: Float32) -> Float32:
        """Return the errors (n, B, P) of samples (n, B, C) against the prediction of each head."""
        by_head = expected.reshape(*expected.shape[:-1], len(self._heads), self._width)
        errors: Float32 = scaled[..., None, self._scored] - by_head
        np.abs(errors, out=errors)
        return errors.reshape(expected.shape)

    def _smooth(self, state: TelemanomState, who: Index, errors: Float32, steady: bool) -> Float32:
        total, weight = state.smoothed_sum[who], state.smoothed_weight[who]
        if steady:
            smoothed = self._smoother.smooth_on(errors, total, weight)
        else:
            smoothed = self._smoother.smooth(errors, total, weight)
        if who is not ALL:
            state.smoothed_sum[who], state.smoothed_weight[who] = total, weight
        return smoothed

    def _levels(
        self, state: TelemanomState, who: Index, scaled: Float32, level: _Level, steady: bool
    ) -> Float32:
        values = scaled[..., self._scored]
        if not steady:
            values = values.copy()
            self._withhold(state, who, values)
        total, weight = state.level_sum[who], state.level_weight[who]
        levels = level.errors(values, total, weight, steady)
        if who is not ALL:
            state.level_sum[who], state.level_weight[who] = total, weight
        return levels

    def _withhold(self, state: TelemanomState, who: Index, errors: Float32) -> None:
        """Set the errors of streams that still warm up to NaN."""
        since = state.since_start[who]
        if np.minimum.reduce(since) < self._warm_up:
            position = since + np.arange(len(errors))[:, None]
            errors[position < self._warm_up] = np.nan

    def _steady(self, state: TelemanomState, who: Index) -> Bool:
        """Return the streams whose errors are all known until a restart, (B,)."""
        known = np.isfinite(state.prediction[who]).all(axis=(1, 2))
        known &= np.isfinite(state.last[who]).all(axis=(1, 2))
        known &= state.since_start[who] >= self._warm_up
        if self._level is not None:
            known &= self._level.is_full(state.level_weight[who])
        return known & self._smoother.is_full(state.smoothed_weight[who])

    def _in_units(self, expected: Float32) -> Float32:
        """Return the expected sample (n, B, C) in the channels' units, by the first head."""
        scaled = expected[..., : self._width]
        if self._scored is not ALL:
            shape = (*expected.shape[:-1], self._center.size)
            some, scaled = scaled, np.full(shape, np.nan, np.float32)
            scaled[..., self._scored] = some
        units = scaled * self._scale
        units += self._center
        return units


_RESTARTED = (
    "network",
    "prediction",
    "last",
    "smoothed_sum",
    "smoothed_weight",
    "level_sum",
    "level_weight",
)


class _Level:
    """The distance of each scored channel's smoothed value from the middle of its known levels."""

    def __init__(self, part: LevelPart) -> None:
        self._middle = np.array(part.middle, np.float32)  # (W,), scaled
        self._smoother = Smoother([part.span_samples])

    def errors(self, values: Float32, total: Float64, weight: Float64, steady: bool) -> Float32:
        """Return the distances (n, B, W) after each of ``values`` (n, B, W), scaled.

        ``total`` and ``weight`` (B, 1, W) of the mean are updated in place. NaN is missing.
        ``steady``: no value is missing and every weight ``is_full``.
        """
        smooth = self._smoother.smooth_on if steady else self._smoother.smooth
        levels = smooth(values, total, weight)
        levels -= self._middle
        return np.abs(levels, out=levels)

    def is_full(self, weight: Float64) -> Bool:
        """Return where ``weight`` (B, 1, W) has reached its limit, (B,)."""
        return self._smoother.is_full(weight)


def fill_forward(values: Float32, before: Float32) -> Float32:
    """Return ``values`` (n, …) with each NaN replaced by the last known value of its channel.

    ``before`` (…) precedes row 0.
    """
    if len(values) == 1:
        return np.where(np.isnan(values), before, values)
    rows = np.concatenate([before[None], values])
    index = np.arange(len(rows)).reshape(-1, *[1] * before.ndim)
    known = np.where(np.isnan(rows), 0, index)
    return np.take_along_axis(rows, np.maximum.accumulate(known, axis=0), axis=0)[1:]


def _delayed(before: Float32, new: Float32) -> tuple[Float32, Float32]:
    """Put ``new`` (n, B, …) behind ``before`` (B, H, …); return the first n and the last H.

    They may be views of both.
    """
    ahead = before.shape[1]
    if len(new) == ahead == 1:
        return before.swapaxes(0, 1), new.swapaxes(0, 1)
    both = np.concatenate([before.swapaxes(0, 1), new])
    return both[: len(new)], both[-ahead:].swapaxes(0, 1)


def _limited(values: Float32, limit: Float32 | np.float32) -> Float32:
    """Clip as ``np.clip`` does, but three times as fast for small arrays."""
    return np.asarray(np.minimum(np.maximum(values, -limit), limit))
