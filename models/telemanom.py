"""Telemanom's errors, streaming: how far each sample is from what the network expected.

After Hundman et al., KDD 2018. The published form re-runs its LSTM over a window for every
sample; here the same network is exported as one step with its state as input and output, which
gives the same predictions at a constant cost per sample. Errors stay one row per smoothing span,
head and channel: a mean over channels would hide an anomaly in one of many, one span either a
spike or a slow drift.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.bundle import Manifest
from models.interpreter import StepNetwork
from models.messages import Float32, Float64, Samples

SCALED_MAX = np.float32(1e6)  # a larger deviation says no more, and would overflow the mean


class Errors(NamedTuple):
    """What the network made of ``n`` samples; NaN where there was nothing to compare."""

    smoothed: Float32  # (n, R) smoothed absolute errors, scaled units, span by span, head by head
    predicted: Float32  # (n, C) the expected sample, in units; NaN for channels not scored


@dataclass(slots=True)
class TelemanomState:
    """The memory of one stream; of constant size."""

    network: Float32  # (S,) h and c of each layer
    prediction: Float32  # (H, P) of the next H samples, scaled, the nearest first
    last: Float32  # (H, C) last known values at the last H samples, scaled; NaN before the first
    smoothed_sum: Float64  # (spans, P) of the weighted mean
    smoothed_weight: Float64  # (spans, P)
    since_start: int  # samples since the network last started from nothing
    last_time: float  # of the last sample; NaN before the first


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
        self._scored = manifest.scored
        self._smoother = Smoother(manifest.smoothing.spans_samples)

    def start(self) -> TelemanomState:
        """Return the state before the first sample."""
        predicted, channels = len(self._heads) * len(self._scored), len(self._center)
        smoothed_sum, smoothed_weight = self._smoother.start(predicted)
        return TelemanomState(
            network=np.zeros(self._network.state_size, np.float32),
            prediction=np.full((self._horizon, predicted), np.nan, np.float32),
            last=np.full((self._horizon, channels), np.nan, np.float32),
            smoothed_sum=smoothed_sum,
            smoothed_weight=smoothed_weight,
            since_start=0,
            last_time=float("nan"),
        )

    def step(self, state: TelemanomState, samples: Samples) -> Errors:
        """Score ``samples``, in order, after those before; ``state`` moves on.

        Where ``times`` does not go on by one period, the stream was interrupted: the network
        and the smoothing start from nothing again, and warm up.
        """
        parts = []
        for begin, end in self._unbroken(state.last_time, samples.times):
            if begin or self._interrupted(state.last_time, samples.times[0]):
                self._restart(state)
            parts.append(self._step(state, samples.values[begin:end]))
            state.last_time = float(samples.times[end - 1])
        rows, channels = state.smoothed_sum.size, len(self._center)
        if not parts:
            return Errors(np.empty((0, rows), np.float32), np.empty((0, channels), np.float32))
        return Errors(
            np.concatenate([part.smoothed for part in parts]),
            np.concatenate([part.predicted for part in parts]),
        )

    def _interrupted(self, before: float, after: float) -> bool:
        return abs(after - before - self._period_s) > 0.5 * self._period_s

    def _unbroken(self, last: float, times: Float64) -> list[tuple[int, int]]:
        if len(times) < 2:
            return [(0, 1)] * len(times)
        breaks = np.abs(np.diff(times) - self._period_s) > 0.5 * self._period_s
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(times)]
        return list(itertools.pairwise(edges))

    def _restart(self, state: TelemanomState) -> None:
        fresh = self.start()
        for name in ("network", "prediction", "last", "smoothed_sum", "smoothed_weight"):
            setattr(state, name, getattr(fresh, name))
        state.since_start = 0

    def _step(self, state: TelemanomState, values: Float32) -> Errors:
        with np.errstate(over="ignore"):  # infinity is limited like any other outlier
            scaled = np.clip((values - self._center) / self._scale, -SCALED_MAX, SCALED_MAX)
        filled = fill_forward(scaled, state.last[-1])
        known_so_far = np.where(np.isnan(filled), np.float32(0), filled)
        inputs = np.minimum(np.maximum(known_so_far, -self._clip), self._clip)
        outputs, network = self._network.run(inputs[:, None, :], state.network[None, :])
        made = np.concatenate([state.prediction, outputs[:, 0]])
        known = np.concatenate([state.last, filled])
        expected, before = made[: len(values)], known[: len(values)]
        errors = np.abs(self._targets(scaled, before) - expected)
        warming = max(0, self._warm_up - state.since_start)
        errors[:warming] = np.nan
        predicted = self._in_units(expected, before)
        state.network = network[0]
        state.prediction = made[-self._horizon :].copy()
        state.last = known[-self._horizon :].copy()
        state.since_start += len(values)
        smoothed = self._smoother.smooth(errors, state.smoothed_sum, state.smoothed_weight)
        return Errors(smoothed, predicted)

    def _targets(self, scaled: Float32, before: Float32) -> Float32:
        """What each head should have predicted, (n, P)."""
        scaled, before = scaled[:, self._scored], before[:, self._scored]
        forms = {"value": scaled, "change": scaled - before}
        return np.concatenate([forms[head] for head in self._heads], axis=1)

    def _in_units(self, expected: Float32, before: Float32) -> Float32:
        """Return the expected sample (n, C) in the channels' units, by the first head."""
        scaled = np.full(before.shape, np.nan, np.float32)
        scaled[:, self._scored] = expected[:, : len(self._scored)]
        if self._heads[0] == "change":
            scaled += before
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

    def start(self, columns: int) -> tuple[Float64, Float64]:
        """Return sum and weight before the first error, (spans, columns) each."""
        shape = (len(self._keep), columns)
        return np.zeros(shape), np.zeros(shape)

    def smooth(self, errors: Float32, total: Float64, weight: Float64) -> Float32:
        """Return the means after each of ``errors`` (n, columns), span by span (n, R).

        ``total`` and ``weight`` move on. A missing error leaves its row as it was, and its
        smoothed value is NaN.
        """
        smoothed = np.full((len(errors), *total.shape), np.nan, np.float32)
        known = ~np.isnan(errors)
        for step in np.flatnonzero(known.any(axis=1)):
            seen = known[step]
            np.copyto(total, total * self._keep + errors[step], where=seen)
            np.copyto(weight, weight * self._keep + 1.0, where=seen)
            enough = seen & (weight >= self._weight_min)
            np.divide(total, weight, out=smoothed[step], where=enough, casting="same_kind")
        return smoothed.reshape(len(errors), -1)


def fill_forward(values: Float32, before: Float32) -> Float32:
    """Replace each NaN by the last known value of its channel; ``before`` precedes row 0."""
    if len(values) == 1:
        return np.where(np.isnan(values), before, values)
    rows = np.concatenate([before[None, :], values])
    known = np.where(np.isnan(rows), 0, np.arange(len(rows))[:, None])
    return np.take_along_axis(rows, np.maximum.accumulate(known, axis=0), axis=0)[1:]
