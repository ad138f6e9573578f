"""The nonparametric dynamic threshold of Telemanom, streaming.

After Hundman et al., "Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic
Thresholding", KDD 2018, section 3.3: of the thresholds ``mean + z * deviation`` over a history
of smoothed errors, take the one whose exceedances, once removed, lower mean and deviation most
per exceedance; then prune exceedances that do not stand out from the next lower error.

What differs from the published batch form, and why:

- **Causal.** A sample is compared with a threshold found before it; the selection over z runs
  every ``update_samples`` and can find, late by at most that much, what stayed below.
- **The history keeps normal errors only.** What is found anomalous is left out, and nothing
  enters while an anomaly is open: a fault's smaller errors would raise the threshold too, close
  its own event and hide the next. What has lasted for ``adapt_samples`` is the new normal: the
  rows that show it begin a new history.
- **A new stream settles first**: ``settle_samples`` enter the history unjudged, so that it is
  this machine's own errors that the first verdict rests on.
- **A floor per row**, from held-out normal data: tiny errors on a quiet channel never alarm.
- **Both directions**: an error unnaturally small, below ``mean - z_max * deviation`` and below
  what held-out normal data ever showed, is as telling as a large one: life has gone out of the
  signal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.bundle import Threshold
from models.history import History
from models.messages import Float32, Float64

Bool = npt.NDArray[np.bool_]

RATIO_MAX = np.float32(1e6)  # a score beyond says no more


class Found(NamedTuple):
    """A sequence of one row that only the update at the end of a block found anomalous."""

    row: int
    onset: int  # position in the block
    peak: int  # position in the block
    score: float  # error at the peak / the threshold that showed it
    ratio: float  # the same / the threshold in force then, above which it was not


class Exceedance(NamedTuple):
    """What samples did against the threshold."""

    threshold: Float32  # (n, R) the one each sample was compared with
    ratio: Float32  # (n, R) how far out: error / threshold, or calm limit / error; 1 is the limit
    outside: Bool  # (n, R) the ratio is above 1, and the stream has settled


@dataclass(slots=True)
class ThresholdState:
    """The bounded memory of one stream: ``R`` rows of errors."""

    history: History  # smoothed errors of normal samples
    block: Float32  # (U, R) smoothed errors since the last update
    block_outside: Bool  # (U, R)
    pending: int  # rows of the block in use
    settled: int  # scored samples so far, counted up to ``settle_samples``
    threshold: Float32  # (R,) in force
    calm: Float32  # (R,) in force: errors below it are unnaturally small


class DynamicThreshold:
    """Finds and applies the threshold of each error row; holds settings, no memory."""

    def __init__(self, settings: Threshold) -> None:
        self._settings = settings
        self._floor = np.asarray(settings.floor, np.float32)
        self._calm = np.asarray(settings.calm, np.float32)
        count = round((settings.z_max - settings.z_min) / settings.z_step) + 1
        self._z = np.linspace(settings.z_min, settings.z_max, max(count, 1))

    def start(self) -> ThresholdState:
        """Return the state before the first sample: the limits of the bundle alone decide."""
        rows, settings = len(self._floor), self._settings
        return ThresholdState(
            history=History.empty(rows, settings.history_samples),
            block=np.full((settings.update_samples, rows), np.nan, np.float32),
            block_outside=np.zeros((settings.update_samples, rows), np.bool_),
            pending=0,
            settled=0,
            threshold=self._floor.copy(),
            calm=self._calm.copy(),
        )

    @property
    def block_samples(self) -> int:
        """Samples between two updates."""
        return self._settings.update_samples

    def compare(self, state: ThresholdState, smoothed: Float32) -> Exceedance:
        """Compare ``smoothed`` (n, R) with the threshold in force.

        At most ``block_samples - state.pending`` rows a call: ``update`` is due when the block
        is full. NaN (nothing to score) is never outside and never enters the history.
        """
        begin, end = state.pending, state.pending + len(smoothed)
        threshold = np.broadcast_to(state.threshold.copy(), smoothed.shape)
        ratio = self._ratio(smoothed, state)
        outside = (ratio > 1) & self._settled(state, smoothed)[:, None]
        state.block[begin:end] = smoothed
        state.block_outside[begin:end] = outside
        state.pending = end
        return Exceedance(threshold, ratio, outside)

    def update(self, state: ThresholdState, open_samples: int | None) -> list[Found]:
        """Find each row's threshold anew and move the full block's normal errors to the history.

        Returns what only this showed to be anomalous. ``open_samples``: how long an anomaly has
        been open, None while there is none. While one is, the block is dropped, and thresholds
        and history stay as they are; from ``adapt_samples`` on, the block is the new normal.
        """
        state.pending = 0
        if open_samples is None:
            return [found for row in range(len(self._floor)) for found in self._learn(state, row)]
        if open_samples >= self._settings.adapt_samples:
            self._adapt(state)
        return []

    def _ratio(self, smoothed: Float32, state: ThresholdState) -> Float32:
        # infinity is limited; 0 / 0 is no limit, and no error
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            small, large = state.calm / smoothed, smoothed / state.threshold
        return np.asarray(np.minimum(np.fmax(large, small), RATIO_MAX))

    def _settled(self, state: ThresholdState, smoothed: Float32) -> Bool:
        """Which of the samples may be judged, (n,)."""
        if state.settled >= self._settings.settle_samples:
            return np.ones(len(smoothed), np.bool_)  # what is not scored is never outside
        scored = state.settled + np.cumsum(~np.isnan(smoothed).all(axis=1))
        state.settled = min(int(scored[-1]), self._settings.settle_samples)
        return np.asarray(scored > self._settings.settle_samples)

    def _learn(self, state: ThresholdState, row: int) -> Iterator[Found]:
        errors = state.block[:, row]
        normal = ~np.isnan(errors) & ~state.block_outside[:, row]
        recent = np.where(normal, errors, np.nan)
        before = float(state.threshold[row])
        found = self._select(state, row, recent)
        if found.any():
            peak = int(np.nanargmax(np.where(found, errors, np.nan)))
            error, onset = float(errors[peak]), int(np.argmax(found))
            yield Found(row, onset, peak, error / float(state.threshold[row]), error / before)
        state.history.remember(row, errors[normal & ~found])

    def _adapt(self, state: ThresholdState) -> None:
        """Let the rows that have been outside begin a new history with this block."""
        state.history.forget(np.asarray(state.block_outside.any(axis=0)))
        state.block_outside[:] = False
        for row in range(len(self._floor)):
            errors = state.block[:, row]
            known = errors[~np.isnan(errors)]
            self._limit(state, row, np.concatenate([state.history.kept(row), known]))
            state.history.remember(row, known)

    def _select(self, state: ThresholdState, row: int, recent: Float32) -> Bool:
        """Set the row's limits for the samples to come; return which of ``recent`` are anomalous.

        Only errors of the block can be found: the history has been judged.
        """
        floor, known = self._floor[row], ~np.isnan(recent)
        none = np.zeros(len(recent), np.bool_)
        errors = np.concatenate([state.history.kept(row), recent[known]])
        moments = self._limit(state, row, errors)
        if moments is None or state.settled < self._settings.settle_samples:
            return none
        mean, deviation = moments
        lowest = np.float32(max(floor, mean + self._z[0] * deviation))
        if not (recent[known] > lowest).any():
            return none
        chosen = np.float32(max(floor, _most_telling(errors, mean, deviation, self._z)))
        found = known & (recent > chosen)
        normal_max = float(errors[errors <= chosen].max(initial=0.0))
        found &= _stands_out(recent, found, normal_max, self._settings.prune_drop)
        if found.any():
            state.threshold[row] = chosen
        return found

    def _limit(
        self, state: ThresholdState, row: int, errors: Float32
    ) -> tuple[float, float] | None:
        """Set the row's limits to what these normal errors give; return mean and deviation.

        With too few of them the limits are the bundle's alone.
        """
        floor, calm = self._floor[row], self._calm[row]
        state.threshold[row], state.calm[row] = floor, calm
        if len(errors) < self._settings.update_samples:
            return None
        mean, deviation = float(errors.mean(dtype=np.float64)), float(errors.std(dtype=np.float64))
        far = self._z[-1] * deviation
        state.threshold[row] = max(floor, mean + far)
        state.calm[row] = max(0.0, min(calm, mean - far))
        return mean, deviation


def _most_telling(errors: Float32, mean: float, deviation: float, z: Float64) -> float:
    """The candidate with the best (Δmean/mean + Δdeviation/deviation) / (sequences² + errors)."""
    best, best_merit = mean + z[-1] * deviation, 0.0
    if mean <= 0 or deviation <= 0:  # a constant history: nothing to weigh
        return float(best)
    for factor in z:
        candidate = mean + factor * deviation
        above = errors > candidate
        count = int(above.sum())
        if count == 0:
            break  # no higher candidate has any either
        if count * 2 >= len(errors):
            continue
        normal = errors[~above].astype(np.float64)
        drop = (mean - normal.mean()) / mean + (deviation - normal.std()) / deviation
        sequences = int(above[0]) + int((above[1:] & ~above[:-1]).sum())
        merit = drop / (sequences**2 + count)
        if merit >= best_merit:
            best, best_merit = candidate, merit
    return float(best)


def _stands_out(recent: Float32, found: Bool, normal_max: float, prune_drop: float) -> Bool:
    """Prune the sequences of ``found`` that do not stand out from what is normal.

    The sequences' maxima and the largest normal error in descending order: going down, all
    that lie below the last drop of at least ``prune_drop`` (relative) are normal after all.
    """
    starts = np.flatnonzero(found & ~np.concatenate([[False], found[:-1]]))
    ends = np.flatnonzero(found & ~np.concatenate([found[1:], [False]])) + 1
    peaks = np.array([recent[a:b].max() for a, b in zip(starts, ends, strict=True)], np.float64)
    order = np.argsort(-peaks)
    ladder = np.append(peaks[order], normal_max)
    drops = (ladder[:-1] - ladder[1:]) / ladder[:-1]
    large = np.flatnonzero(drops >= prune_drop)
    kept = np.zeros_like(found)
    for sequence in order[: large[-1] + 1 if len(large) else 0]:
        kept[starts[sequence] : ends[sequence]] = True
    return kept
