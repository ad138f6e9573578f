"""Telemanom's errors, streaming: how far each sample is from what the network expected.

After Hundman et al., KDD 2018. The published form re-runs its LSTM over a window for every
sample; here the same network is exported as one step with its state as input and output, which
gives the same predictions at a constant cost per sample. Errors stay one row per smoothing span,
head and channel: a mean over channels would hide an anomaly in one of many, one span either a
spike or a slow drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.bundle import Manifest
from models.interpreter import StepNetwork
from models.messages import ALL, Bool, Float32, Float64, Index, Int64

SCALED_MAX = np.float32(1e6)  # a larger deviation says no more, and would overflow the mean


class Errors(NamedTuple):
    """What the network made of ``n`` samples; NaN where there was nothing to compare."""

    smoothed: Float32  # (n, B, R) smoothed absolute errors, scaled, span by span, head by head
    predicted: Float32  # (n, B, C) the expected sample, in units; NaN for channels not scored


@dataclass(slots=True)
class TelemanomState:
    """The memory of ``N`` streams; of constant size."""

    network: Float32  # (N, S) h and c of each layer
    prediction: Float32  # (N, H, P) of the next H samples, scaled, the nearest first
    last: Float32  # (N, H, C) last known values at the last H samples, scaled; NaN before the first
    smoothed_sum: Float64  # (N, spans, P) of the weighted mean
    smoothed_weight: Float64  # (N, spans, P)
    since_start: Int64  # (N,) samples since the network last started from nothing
    last_time: Float64  # (N,) of the last sample; NaN before the first


class Telemanom:
    """From samples to smoothed errors; holds the network and its scaling, no stream's memory."""

    def __init__(self, manifest: Manifest, network: StepNetwork) -> None:
        self._network = network
        self._heads = manifest.network.heads
        self._horizon = manifest.network.horizon_samples
        self._clip = manifest.network.input_clip
        self._center = np.array([c.center for c in manifest.channels], np.float32)
        self._scale = np.array([c.scale for c in manifest.channels], np.float32)
        self._warm_up = manifest.sampling.warm_up_samples
        self._period_s = manifest.sampling.period_s
        every = len(manifest.scored) == len(self._center)
        self._scored: list[int] | slice = ALL if every else manifest.scored
        self._predicted = len(self._heads) * len(manifest.scored)
        self._smoother = Smoother(manifest.smoothing.spans_samples)

    def start(self, streams: int = 1) -> TelemanomState:
        """Return the state before the first sample."""
        channels, ahead = len(self._center), (streams, self._horizon)
        smoothed_sum, smoothed_weight = self._smoother.start((streams,), self._predicted)
        return TelemanomState(
            network=np.zeros((streams, self._network.state_size), np.float32),
            prediction=np.full((*ahead, self._predicted), np.nan, np.float32),
            last=np.full((*ahead, channels), np.nan, np.float32),
            smoothed_sum=smoothed_sum,
            smoothed_weight=smoothed_weight,
            since_start=np.zeros(streams, np.int64),
            last_time=np.full(streams, np.nan),
        )

    def interruptions(self, state: TelemanomState, who: Index, times: Float64) -> Bool:
        """Tell before which of the samples at ``times`` (n, B) the stream was interrupted, (n, B).

        It was where time does not go on by one period.
        """
        before = np.concatenate([state.last_time[who][None], times[:-1]])
        return np.asarray(np.abs(times - before - self._period_s) > 0.5 * self._period_s)

    def restart(self, state: TelemanomState, streams: Int64) -> None:
        """Let the network and the smoothing of these streams start from nothing, and warm up."""
        fresh = self.start(len(streams))
        for name in ("network", "prediction", "last", "smoothed_sum", "smoothed_weight"):
            getattr(state, name)[streams] = getattr(fresh, name)
        state.since_start[streams] = 0

    def step(self, state: TelemanomState, who: Index, times: Float64, values: Float32) -> Errors:
        """Score samples that go on without interruption; ``state`` moves on.

        Args:
            state: of ``N`` streams.
            who: which ``B`` of them.
            times: (n, B) Unix seconds.
            values: (n, B, C) in units; ``np.errstate`` for what overflows is the caller's.

        """
        last = state.last[who]
        scaled = _limited((values - self._center) / self._scale, SCALED_MAX)
        filled = known_so_far = scaled
        if math.isnan(np.add.reduce(scaled, axis=None)):
            filled = fill_forward(scaled, last[:, -1])
            known_so_far = np.where(np.isnan(filled), np.float32(0), filled)
        outputs, network = self._network.run(_limited(known_so_far, self._clip), state.network[who])
        expected, state.prediction[who] = _delayed(state.prediction[who], outputs)
        before, state.last[who] = _delayed(last, filled)
        errors = np.abs(self._targets(scaled, before) - expected)
        self._withhold(state, who, errors)
        state.network[who] = network
        state.since_start[who] += len(values)
        state.last_time[who] = times[-1]
        total, weight = state.smoothed_sum[who], state.smoothed_weight[who]
        smoothed = self._smoother.smooth(errors, total, weight)
        state.smoothed_sum[who], state.smoothed_weight[who] = total, weight
        return Errors(smoothed, self._in_units(expected, before))

    def _withhold(self, state: TelemanomState, who: Index, errors: Float32) -> None:
        """Blank the errors of streams that still warm up."""
        since = state.since_start[who]
        if np.minimum.reduce(since) < self._warm_up:
            position = since + np.arange(len(errors))[:, None]
            errors[position < self._warm_up] = np.nan

    def _targets(self, scaled: Float32, before: Float32) -> Float32:
        """What each head should have predicted, (n, B, P)."""
        scaled, before = scaled[..., self._scored], before[..., self._scored]
        forms = {"value": scaled, "change": scaled - before}
        if len(self._heads) == 1:
            return forms[self._heads[0]]
        return np.concatenate([forms[head] for head in self._heads], axis=-1)

    def _in_units(self, expected: Float32, before: Float32) -> Float32:
        """Return the expected sample (n, B, C) in the channels' units, by the first head."""
        scaled = expected[..., : self._predicted // len(self._heads)]
        if self._scored is not ALL:
            some, scaled = scaled, np.full(before.shape, np.nan, np.float32)
            scaled[..., self._scored] = some
        if self._heads[0] == "change":
            scaled = scaled + before
        return scaled * self._scale + self._center


class Smoother:
    """Exponentially weighted means of errors, newest first in weight, one per span.

    A mean is normalised by the weights seen (pandas' ``ewm(span, adjust=True)``, which Telemanom
    uses): the plain recursion differs from it by up to 98 % at the start. Until half of the
    weight is there the mean of a few errors is too noisy to be judged, and NaN.
    """

    def __init__(self, spans: Sequence[float]) -> None:
        self._keep = 1.0 - 2.0 / (np.array(spans)[:, None] + 1.0)  # (spans, 1)
        self._weight_min = 0.5 / (1.0 - self._keep)  # half of what the weights add up to

    def start(self, streams: tuple[int, ...], columns: int) -> tuple[Float64, Float64]:
        """Return sum and weight before the first error, (…, spans, columns) each."""
        shape = (*streams, len(self._keep), columns)
        return np.zeros(shape), np.zeros(shape)

    def smooth(self, errors: Float32, total: Float64, weight: Float64) -> Float32:
        """Return the means after each of ``errors`` (n, …, columns), span by span (n, …, R).

        ``total`` and ``weight`` move on. A missing error leaves its row as it was, and its
        smoothed value is NaN.
        """
        smoothed = np.full((len(errors), *total.shape), np.nan, np.float32)
        known = ~np.isnan(errors)
        if known.all():
            for row, newest in zip(smoothed, errors[..., None, :], strict=True):
                np.multiply(total, self._keep, out=total)
                np.add(total, newest, out=total)
                np.multiply(weight, self._keep, out=weight)
                np.add(weight, 1.0, out=weight)
                enough = weight >= self._weight_min
                np.divide(total, weight, out=row, where=enough, casting="same_kind")
            return smoothed.reshape(*errors.shape[:-1], -1)
        for step in np.flatnonzero(known.reshape(len(errors), -1).any(axis=1)):
            seen, error = known[step][..., None, :], errors[step][..., None, :]
            np.copyto(total, total * self._keep + error, where=seen)
            np.copyto(weight, weight * self._keep + 1.0, where=seen)
            enough = seen & (weight >= self._weight_min)
            np.divide(total, weight, out=smoothed[step], where=enough, casting="same_kind")
        return smoothed.reshape(*errors.shape[:-1], -1)


def fill_forward(values: Float32, before: Float32) -> Float32:
    """Replace each NaN by the last known value of its channel; ``before`` precedes row 0.

    ``values`` is (n, …), ``before`` (…).
    """
    if len(values) == 1:
        return np.where(np.isnan(values), before, values)
    rows = np.concatenate([before[None], values])
    index = np.arange(len(rows)).reshape(-1, *[1] * before.ndim)
    known = np.where(np.isnan(rows), 0, index)
    return np.take_along_axis(rows, np.maximum.accumulate(known, axis=0), axis=0)[1:]


def _delayed(before: Float32, new: Float32) -> tuple[Float32, Float32]:
    """Put ``new`` (n, B, …) behind ``before`` (B, H, …); return the first n and the last H."""
    ahead = before.shape[1]
    if len(new) == ahead == 1:
        return before.swapaxes(0, 1).copy(), new.swapaxes(0, 1)
    both = np.concatenate([before.swapaxes(0, 1), new])
    return both[: len(new)], both[-ahead:].swapaxes(0, 1)


def _limited(values: Float32, limit: float | np.float32) -> Float32:
    """As ``np.clip``, which takes three times as long for small arrays."""
    return np.asarray(np.minimum(np.maximum(values, -limit), limit))
